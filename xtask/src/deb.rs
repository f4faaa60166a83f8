//! A Debian package made of the installed tree under `/usr`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    Options,
    install::{documents, install},
    shell::{self, Failure, workspace},
};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// `cargo xtask deb [--output DIR]`.
pub fn deb(options: &Options) -> Result<(), Failure> {
    if !shell::is_installed("dpkg-deb") {
        return Err(Failure::wrong("needs dpkg-deb (apt-get install dpkg)"));
    }
    let here = env::current_dir().map_err(|source| Failure::File { path: ".".into(), source })?;
    let output =
        options.get("--output").map_or_else(|| shell::target().join("debian"), |o| here.join(o));
    let root = shell::target().join("debian/root");
    if root.exists() {
        fs::remove_dir_all(&root).map_err(|source| Failure::File { path: root.clone(), source })?;
    }
    let prefix = root.join("usr");
    install(&prefix)?;
    debian_places(&prefix)?;

    let architecture = shell::output(Command::new("dpkg").arg("--print-architecture"))?;
    let architecture = String::from_utf8_lossy(&architecture).trim().to_owned();
    let control = control(&architecture, &depends(&prefix)?, installed_kib(&root)?);
    shell::write(&root.join("DEBIAN/control"), control.as_bytes(), 0o644)?;

    shell::create_directory(&output)?;
    let package = output.join(format!("memtide_{VERSION}_{architecture}.deb"));
    let mut build = Command::new("dpkg-deb");
    build.args(["--root-owner-group", "--build"]).arg(&root).arg(&package);
    shell::run(&mut build)?;
    println!("package: {}", package.display());
    println!("install: apt-get install {}", package.display());
    Ok(())
}

/// What Debian wants elsewhere or compressed (Debian Policy 12.1, 12.5, 12.7).
fn debian_places(prefix: &Path) -> Result<(), Failure> {
    let share = prefix.join("share");
    rename(
        &share.join("zsh/site-functions/_memtide"),
        &share.join("zsh/vendor-completions/_memtide"),
    )?;
    let _ = fs::remove_dir(share.join("zsh/site-functions"));
    let packaging = workspace().join("packaging");
    let documents = documents(prefix);
    shell::copy(&packaging.join("copyright"), &documents.join("copyright"), 0o644)?;
    shell::copy(&packaging.join("memtide.toml"), &documents.join("examples/memtide.toml"), 0o644)?;
    shell::copy(
        &packaging.join("memtide.service"),
        &prefix.join("lib/systemd/system/memtide.service"),
        0o644,
    )?;
    rename(&documents.join("CHANGELOG.md"), &documents.join("changelog"))?;
    compress(&documents.join("changelog"))?;
    let manuals = share.join("man/man1");
    let failed = |source| Failure::File { path: manuals.clone(), source };
    for entry in fs::read_dir(&manuals).map_err(failed)? {
        compress(&entry.map_err(failed)?.path())?;
    }
    Ok(())
}

fn rename(from: &Path, to: &Path) -> Result<(), Failure> {
    shell::create_directory(to.parent().unwrap_or(to))?;
    fs::rename(from, to).map_err(|source| Failure::File { path: from.to_owned(), source })
}

fn compress(path: &Path) -> Result<(), Failure> {
    shell::run(Command::new("gzip").args(["-9", "--no-name"]).arg(path))
}

/// The C library that the binaries need, read from the version names in them: the largest
/// `GLIBC_2.n` is the oldest library that has all of their symbols.
fn depends(prefix: &Path) -> Result<String, Failure> {
    let mut newest = 17; // the first with what the Rust standard library needs
    for name in ["bin/memtide", "lib/memtide/libmemtide_preload.so"] {
        let content = shell::read(&prefix.join(name))?;
        for at in find_all(&content, b"GLIBC_2.") {
            let digits = content[at..].iter().take_while(|b| b.is_ascii_digit());
            let number = digits.fold(0_u32, |n, b| n.saturating_mul(10) + u32::from(b - b'0'));
            newest = newest.max(number);
        }
    }
    Ok(format!("libc6 (>= 2.{newest}), libgcc-s1"))
}

/// Where each occurrence of `needle` ends.
fn find_all<'a>(content: &'a [u8], needle: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let windows = content.windows(needle.len()).enumerate();
    windows.filter(move |(_, window)| *window == needle).map(move |(at, _)| at + needle.len())
}

fn installed_kib(directory: &Path) -> Result<u64, Failure> {
    let failed = |source| Failure::File { path: directory.to_owned(), source };
    let mut sum = 0;
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path: PathBuf = entry.map_err(failed)?.path();
        sum += if path.is_dir() {
            installed_kib(&path)?
        } else {
            fs::metadata(&path).map_err(failed)?.len().div_ceil(1024)
        };
    }
    Ok(sum)
}

fn control(architecture: &str, depends: &str, installed_kib: u64) -> String {
    format!(
        "Package: memtide
Version: {VERSION}
Architecture: {architecture}
Maintainer: The memtide developers <memtide@localhost>
Installed-Size: {installed_kib}
Depends: {depends}
Section: admin
Priority: optional
Description: run unmodified programs on near and far memory
 memtide spreads the memory of an unmodified program over a near and a far
 node, moves it live between them, and takes capacity back from either while
 the program runs. It answers how much came back, who holds the rest, and why.
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_has_one_field_a_line_and_an_indented_description() {
        let text = control("amd64", "libc6 (>= 2.34), libgcc-s1", 5120);
        assert!(text.contains("\nDepends: libc6 (>= 2.34), libgcc-s1\n"));
        let (_, description) = text.split_once("Description: ").expect("a description");
        assert!(description.lines().skip(1).all(|line| line.starts_with(' ')));
        assert!(text.ends_with(".\n"));
    }

    #[test]
    fn versions_are_found_where_they_end() {
        let found: Vec<_> = find_all(b"GLIBC_2.4 GLIBC_2.34", b"GLIBC_2.").collect();
        assert_eq!(found, [8, 18]);
    }
}
