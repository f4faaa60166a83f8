//! Getting QEMU and a kernel onto this computer.
//!
//! QEMU must be 10 or newer (dynamic capacity with several regions, CXL windows with virtio-mem),
//! the kernel 6.12 or newer. Both come from the distribution's archive; where what it has is older,
//! from its backports, which are added as a source derived from the one that is there
//! ([`super::packages`]). The kernel's package is unpacked, not installed: nothing of this computer
//! boots it. Its unsigned flavour has everything in one package.

use std::{fs, path::Path, process::Command};

use memtide_testbed::{Kernel, needs, places};

use super::packages::{self, APT_SOURCES};
use crate::shell::{self, Failure, is_installed, output, run};

/// The oldest QEMU that has what the machines need.
const QEMU_LEAST: &[u64] = &[10];
/// The oldest kernel that does.
const KERNEL_LEAST: &[u64] = &[6, 12];
/// Commands, and the Debian packages that have them.
const NEEDED: [(&str, &str); 3] =
    [("qemu-system-x86_64", "qemu-system-x86"), ("busybox", "busybox-static"), ("xz", "xz-utils")];
/// Where the derived source goes.
const BACKPORTS: &str = "/etc/apt/sources.list.d/memtide-backports.sources";

/// Makes sure that machines can be booted here; quick when they can.
pub fn setup() -> Result<(), Failure> {
    let (programs, kernel) = (has_programs(), has_kernel());
    if programs && kernel {
        println!("the test bed is ready: {}", describe()?);
        return Ok(());
    }
    // A kernel can be fetched and unpacked by anybody, but apt's lists belong to root.
    let is_root = output(Command::new("id").arg("-u"))?.starts_with(b"0\n");
    if !is_root || !is_installed("apt-get") {
        return Err(Failure::wrong(
            "the test bed needs QEMU 10, busybox, xz and a kernel package, which setup gets with \
             apt-get, as root, on Debian; elsewhere install the programs, unpack a kernel package \
             and name its folder in MEMTIDE_TESTBED_KERNEL",
        ));
    }
    run(apt_get().args(["update", "-q"]))?;
    add_backports_if_needed(programs, kernel)?;
    if !programs {
        install_programs()?;
    }
    if !kernel {
        unpack_kernel()?;
    }
    match needs::missing() {
        None => println!("the test bed is ready: {}", describe()?),
        Some(error) => return Err(Failure::wrong(error.to_string())),
    }
    Ok(())
}

fn describe() -> Result<String, Failure> {
    let kernel = Kernel::find().map_err(|error| Failure::wrong(error.to_string()))?;
    let qemu = qemu_version().unwrap_or_default();
    let qemu: Vec<_> = qemu.iter().map(u64::to_string).collect();
    Ok(format!("QEMU {}, kernel {}", qemu.join("."), kernel.release()))
}

fn has_programs() -> bool {
    NEEDED.iter().all(|(command, _)| is_installed(command))
        && qemu_version().is_some_and(|version| version.as_slice() >= QEMU_LEAST)
}

fn has_kernel() -> bool {
    Kernel::find().is_ok_and(|kernel| kernel.version().as_slice() >= KERNEL_LEAST)
}

fn qemu_version() -> Option<Vec<u64>> {
    let output = Command::new("qemu-system-x86_64").arg("--version").output().ok()?;
    // "QEMU emulator version 10.0.2 (Debian …)"
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Some(packages::version(text.split("version ").nth(1)?))
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// Adds the distribution's backports where its own archive has too old a QEMU or kernel.
fn add_backports_if_needed(programs: bool, kernel: bool) -> Result<(), Failure> {
    let qemu_will_do = programs || qemu_candidate()?.as_slice() >= QEMU_LEAST;
    let kernel_will_do = kernel || newest_kernel()?.is_some();
    if qemu_will_do && kernel_will_do {
        return Ok(());
    }
    let os_release = shell::read(Path::new("/etc/os-release"))?;
    let os_release = String::from_utf8_lossy(&os_release);
    let codename = os_release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .ok_or_else(|| Failure::wrong("/etc/os-release has no VERSION_CODENAME"))?
        .trim_matches('"')
        .to_owned();
    let source = packages::backports(&sources()?, &codename).ok_or_else(|| {
        Failure::wrong(format!(
            "no source of apt has the suite {codename} to derive backports from"
        ))
    })?;
    eprintln!("xtask: adding {codename}-backports as {BACKPORTS}");
    shell::write(Path::new(BACKPORTS), source.as_bytes(), 0o644)?;
    run(apt_get().args(["update", "-q"]))
}

/// Everything that apt reads its sources from.
fn sources() -> Result<Vec<String>, Failure> {
    let mut texts = Vec::new();
    for path in APT_SOURCES {
        let path = Path::new(path);
        let files = match fs::read_dir(path) {
            Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
            Err(_) if path.is_file() => vec![path.to_path_buf()],
            Err(_) => Vec::new(),
        };
        let is_read = |file: &&std::path::PathBuf| {
            file.extension().is_some_and(|suffix| suffix == "list" || suffix == "sources")
        };
        for file in files.iter().filter(is_read) {
            texts.push(String::from_utf8_lossy(&shell::read(file)?).into_owned());
        }
    }
    Ok(texts)
}

/// The newest QEMU in any source, backports or not.
fn qemu_candidate() -> Result<Vec<u64>, Failure> {
    let listed = output(Command::new("apt-cache").args(["madison", "qemu-system-x86"]))?;
    Ok(packages::newest_version(&String::from_utf8_lossy(&listed)))
}

/// The newest kernel package that will do, of all that apt knows.
fn newest_kernel() -> Result<Option<String>, Failure> {
    let mut search = Command::new("apt-cache");
    let found = output(search.args(["search", "--names-only", "^linux-image-.*-unsigned$"]))?;
    Ok(packages::newest_kernel(&String::from_utf8_lossy(&found), KERNEL_LEAST))
}

fn install_programs() -> Result<(), Failure> {
    let listed = output(Command::new("apt-cache").args(["madison", "qemu-system-x86"]))?;
    let mut install = apt_get();
    install.args(["install", "-q", "-y", "--no-install-recommends"]);
    // Backports are taken only when asked for: with them QEMU's own data packages come, too.
    if let Some(suite) = packages::suite_of_newest(&String::from_utf8_lossy(&listed)) {
        install.args(["-t", &suite]);
    }
    run(install.args(NEEDED.map(|(_, package)| package)))
}

/// Downloads the kernel package and unpacks it where [`Kernel::find`] looks.
fn unpack_kernel() -> Result<(), Failure> {
    let package = newest_kernel()?.ok_or_else(|| {
        Failure::wrong("apt knows no linux-image-…-amd64-unsigned of 6.12 or newer")
    })?;
    let kept = places::kept().map_err(|error| Failure::wrong(error.to_string()))?;
    let (download, unpacked) = (kept.join("download"), kept.join("kernel.part"));
    for directory in [&download, &unpacked] {
        let _ = fs::remove_dir_all(directory);
        shell::create_directory(directory)?;
    }
    run(apt_get().args(["download", "-q", &package]).current_dir(&download))?;
    let files = fs::read_dir(&download)
        .map_err(|source| Failure::File { path: download.clone(), source })?;
    let file = files.flatten().map(|entry| entry.path()).next().ok_or_else(|| {
        Failure::wrong(format!("apt-get download {package} left nothing in {}", download.display()))
    })?;
    run(Command::new("dpkg").arg("-x").arg(&file).arg(&unpacked))?;
    let kernel = kept.join("kernel");
    let _ = fs::remove_dir_all(&kernel);
    fs::rename(&unpacked, &kernel)
        .map_err(|source| Failure::File { path: kernel.clone(), source })?;
    let _ = fs::remove_dir_all(&download);
    Ok(())
}
