//! What a guest has instead of a disk.
//!
//! A newc archive (kernel `Documentation/driver-api/early-userspace/buffer-format.rst`) of
//! busybox, the kernel modules of emulated hardware, the agent, and what a test adds: programs of
//! this computer with the libraries they need, and files. It is not compressed: reading it is
//! quicker than unpacking it would be.
//!
//! A finished archive is kept under the hash of all that is in it, so that the next test with the
//! same contents has it at once. Tests that build the same one at the same time do not disturb each
//! other: a file is written under a name of its own and then takes its place. Archives that nobody
//! used for a day are removed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    hash::{DefaultHasher, Hasher},
    io::{self, Write},
    path::{Path, PathBuf},
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, SystemTime},
};

use cpio::newc;

use crate::{
    Error, Kernel,
    needs::REMEDY,
    places::{self, output_of, which},
    program,
};

/// Modules that every guest has at hand; which of them are loaded, its machine says.
pub const MODULES: [&str; 9] = [
    "cxl_acpi",
    "cxl_port",
    "cxl_pci",
    "cxl_mem",
    "device_dax",
    "kmem",
    "dax_hmem",
    "dax_cxl",
    "virtio_mem",
];

const DIRECTORIES: [&str; 7] = ["dev", "proc", "sys", "tmp", "run", "root", "mnt"];
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// What one path of the archive is.
#[derive(Clone, Debug, Hash)]
enum Entry {
    File {
        content: Vec<u8>,
        mode: u32,
    },
    /// As a file, without what only debuggers read.
    Program {
        path: PathBuf,
        content: Vec<u8>,
    },
    Link {
        target: String,
    },
    Console,
}

/// The contents of an archive.
#[derive(Clone, Debug)]
pub struct Initramfs {
    modules: Vec<String>,
    programs: Vec<(PathBuf, String)>,
    files: BTreeMap<String, Entry>,
}

impl Default for Initramfs {
    fn default() -> Self {
        Self::new()
    }
}

impl Initramfs {
    /// Busybox, the agent, and the modules of emulated hardware.
    #[must_use]
    pub fn new() -> Self {
        Self {
            modules: MODULES.map(str::to_owned).to_vec(),
            programs: Vec::new(),
            files: BTreeMap::new(),
        }
    }

    /// And this module, with what it needs. It is loaded by [`crate::Guest::load_modules`].
    #[must_use]
    pub fn module(mut self, name: &str) -> Self {
        self.modules.push(name.to_owned());
        self
    }

    /// And this program of this computer, at an absolute path in the guest, with its libraries.
    #[must_use]
    pub fn program(mut self, from: impl Into<PathBuf>, to: &str) -> Self {
        self.programs.push((from.into(), to.to_owned()));
        self
    }

    /// And a file, at an absolute path in the guest, with these permissions (`0o755`).
    #[must_use]
    pub fn file(mut self, to: &str, content: impl Into<Vec<u8>>, mode: u32) -> Self {
        let entry = Entry::File { content: content.into(), mode: mode & 0o7777 };
        self.files.insert(relative(to).to_owned(), entry);
        self
    }

    /// The archive for this kernel, as a file; it may be one that an earlier test left.
    ///
    /// # Errors
    /// If something that goes into it is missing, or it cannot be written.
    pub fn build(&self, kernel: &Kernel) -> Result<PathBuf, Error> {
        let mut entries = self.base()?;
        for (from, to) in &self.programs {
            entries.insert(relative(to).to_owned(), program_file(from)?);
            for (to, from) in program::libraries(from)? {
                entries.insert(relative(&to).to_owned(), program_file(&from)?);
            }
        }
        entries.extend(self.files.clone());
        let path = places::kept()?.join(format!("initramfs-{:016x}", self.hash(kernel, &entries)));
        if let Ok(file) = File::options().append(true).open(&path) {
            // Used today: not to be removed.
            let _ = file.set_modified(SystemTime::now());
            return Ok(path);
        }
        self.add_modules(kernel, &mut entries)?;
        write(&path, &entries)?;
        forget_old();
        Ok(path)
    }

    fn base(&self) -> Result<BTreeMap<String, Entry>, Error> {
        let missing = || Error::Missing { what: "busybox".to_owned(), remedy: REMEDY.to_owned() };
        let busybox = which("busybox").ok_or_else(missing)?;
        let mut entries = BTreeMap::new();
        let applets = output_of(Command::new(&busybox).arg("--list"))?;
        for applet in String::from_utf8_lossy(&applets).lines() {
            let link = Entry::Link { target: "/bin/busybox".to_owned() };
            entries.insert(format!("bin/{applet}"), link);
        }
        entries.insert("bin/busybox".to_owned(), program_file(&busybox)?);
        for (to, from) in program::libraries(&busybox)? {
            entries.insert(relative(&to).to_owned(), program_file(&from)?);
        }
        let mut text = |path: &str, content: &str, mode| {
            let content = content.as_bytes().to_vec();
            entries.insert(path.to_owned(), Entry::File { content, mode });
        };
        text("init", include_str!("init.sh"), 0o755);
        text("bin/load-modules", include_str!("load-modules.sh"), 0o755);
        text("etc/motd", include_str!("motd"), 0o644);
        text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n", 0o644);
        text("etc/group", "root:x:0:\n", 0o644);
        entries.insert("dev/console".to_owned(), Entry::Console);
        Ok(entries)
    }

    fn add_modules(
        &self,
        kernel: &Kernel,
        entries: &mut BTreeMap<String, Entry>,
    ) -> Result<(), Error> {
        let built_in: String = self
            .modules
            .iter()
            .filter(|name| kernel.has_built_in(name))
            .map(|name| format!("{name}\n"))
            .collect();
        let built_in = Entry::File { content: built_in.into_bytes(), mode: 0o644 };
        entries.insert("modules/built-in".to_owned(), built_in);
        for module in kernel.modules(self.modules.iter().map(String::as_str))? {
            let needs = Entry::File { content: module.needs.join(" ").into_bytes(), mode: 0o644 };
            entries.insert(format!("modules/{}.needs", module.name), needs);
            let object = Entry::File { content: module.content, mode: 0o644 };
            entries.insert(format!("modules/{}.ko", module.name), object);
        }
        Ok(())
    }

    /// A release of a kernel package has one content, so its modules are hashed by their names.
    fn hash(&self, kernel: &Kernel, entries: &BTreeMap<String, Entry>) -> u64 {
        let mut hasher = DefaultHasher::new();
        std::hash::Hash::hash(&(kernel.image(), kernel.release(), &self.modules), &mut hasher);
        std::hash::Hash::hash(entries, &mut hasher);
        hasher.finish()
    }
}

fn relative(path: &str) -> &str {
    path.trim_start_matches('/')
}

fn program_file(path: &Path) -> Result<Entry, Error> {
    let content = fs::read(path).map_err(Error::file(path))?;
    Ok(Entry::Program { path: path.to_path_buf(), content })
}

/// A program without its debugging information, which may be nine tenths of it and would have to be
/// unpacked at every boot; as it is where `strip` does not have it otherwise.
fn stripped(program: &Path, content: &[u8], scratch: &Path) -> Vec<u8> {
    let mut strip = Command::new("strip");
    strip.arg("--strip-debug").arg("-o").arg(scratch).arg(program);
    let shorter = output_of(&mut strip).ok().and_then(|_| fs::read(scratch).ok());
    let _ = fs::remove_file(scratch);
    shorter.unwrap_or_else(|| content.to_vec())
}

fn write(path: &Path, entries: &BTreeMap<String, Entry>) -> Result<(), Error> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let part = path.with_extension(format!("{}-{number}.part", process::id()));
    let mut archive = Vec::new();
    // Writing to memory cannot fail, but a file of 4 GiB has no place in the format.
    append_all(&mut archive, entries, &part).map_err(Error::file(path))?;
    fs::write(&part, archive).map_err(Error::file(&part))?;
    fs::rename(&part, path).map_err(Error::file(path))
}

/// Every directory before what is in it, as the kernel wants it. `scratch` names a file that may be
/// written meanwhile.
fn append_all(
    archive: &mut Vec<u8>,
    entries: &BTreeMap<String, Entry>,
    scratch: &Path,
) -> io::Result<()> {
    let mut directories: BTreeSet<&str> = DIRECTORIES.into();
    for path in entries.keys() {
        directories.extend(path.match_indices('/').map(|(at, _)| &path[..at]));
    }
    for (number, directory) in (1..).zip(&directories) {
        append(archive, newc::Builder::new(directory).ino(number).mode(0o040_755), &[])?;
    }
    for (number, (path, entry)) in (1_000_000..).zip(entries) {
        let builder = newc::Builder::new(path).ino(number);
        match entry {
            Entry::File { content, mode } => {
                append(archive, builder.mode(0o100_000 | mode), content)?;
            }
            Entry::Program { path, content } => {
                append(archive, builder.mode(0o100_755), &stripped(path, content, scratch))?;
            }
            Entry::Link { target } => {
                append(archive, builder.mode(0o120_777), target.as_bytes())?;
            }
            // Needed before /dev is mounted: the kernel opens it for /init.
            Entry::Console => {
                append(archive, builder.mode(0o020_600).rdev_major(5).rdev_minor(1), &[])?;
            }
        }
    }
    newc::trailer(archive)?;
    Ok(())
}

fn append(archive: &mut Vec<u8>, builder: newc::Builder, content: &[u8]) -> io::Result<()> {
    let size = u32::try_from(content.len())
        .map_err(|_| io::Error::new(io::ErrorKind::FileTooLarge, "a file of 4 GiB or more"))?;
    let mut writer = builder.write(archive, size);
    writer.write_all(content)?;
    writer.finish()?;
    Ok(())
}

fn forget_old() {
    let Ok(directory) = places::kept() else { return };
    let Ok(files) = fs::read_dir(directory) else { return };
    for file in files.flatten() {
        let is_ours = file.file_name().to_string_lossy().starts_with("initramfs-");
        let modified = file.metadata().and_then(|metadata| metadata.modified());
        let age = modified.ok().and_then(|modified| modified.elapsed().ok());
        if is_ours && age.is_some_and(|age| age > KEPT) {
            let _ = fs::remove_file(file.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(content: &str) -> Entry {
        Entry::File { content: content.as_bytes().to_vec(), mode: 0o644 }
    }

    /// Reads it back with the same crate's reader, which the writer does not share code with.
    #[test]
    fn directories_come_before_what_is_in_them() {
        let entries = BTreeMap::from([
            ("usr/lib/x/y.so".to_owned(), text("library")),
            ("bin/sh".to_owned(), Entry::Link { target: "/bin/busybox".to_owned() }),
        ]);
        let mut archive = Vec::new();
        append_all(&mut archive, &entries, Path::new("/nothing/here")).expect("written");
        let mut names = Vec::new();
        let mut rest = archive.as_slice();
        loop {
            let reader = newc::Reader::new(rest).expect("an archive");
            if reader.entry().is_trailer() {
                break;
            }
            names.push(reader.entry().name().to_owned());
            rest = reader.finish().expect("whole");
        }
        let at = |name: &str| names.iter().position(|n| n == name).expect(name);
        assert!(at("usr") < at("usr/lib") && at("usr/lib") < at("usr/lib/x"));
        assert!(at("usr/lib/x") < at("usr/lib/x/y.so"));
        assert!(at("bin") < at("bin/sh"));
        assert!(DIRECTORIES.iter().all(|name| names.iter().any(|n| n == name)));
    }

    #[test]
    fn a_program_loses_only_what_debuggers_read() {
        let this = std::env::current_exe().expect("the path of this test");
        let content = fs::read(&this).expect("readable");
        let scratch = this.with_extension("stripped");
        let shorter = stripped(&this, &content, &scratch);
        assert!(shorter.starts_with(b"\x7fELF") && shorter.len() <= content.len());
        assert!(!scratch.exists());
        // No program at all, or no `strip`: as it is.
        assert_eq!(stripped(Path::new("/nothing"), b"#!/bin/sh", &scratch), b"#!/bin/sh");
    }

    #[test]
    fn another_content_is_another_archive() {
        let hash = |image: Initramfs| {
            let mut hasher = DefaultHasher::new();
            std::hash::Hash::hash(&image.files, &mut hasher);
            hasher.finish()
        };
        let one = hash(Initramfs::new().file("/a", "1", 0o644));
        assert_eq!(one, hash(Initramfs::new().file("/a", "1", 0o644)));
        assert_ne!(one, hash(Initramfs::new().file("/a", "2", 0o644)));
        assert_ne!(one, hash(Initramfs::new().file("/a", "1", 0o755)));
        assert_ne!(one, hash(Initramfs::new().file("/b", "1", 0o644)));
    }
}
