//! The installed tree, from which the Debian package is made too.
//!
//! ```text
//! bin/memtide
//! lib/memtide/libmemtide_preload.so       found by bin/memtide as ../lib/memtide/…
//! share/man/man1/memtide*.1
//! share/bash-completion/completions/memtide
//! share/zsh/site-functions/_memtide
//! share/fish/vendor_completions.d/memtide.fish
//! share/doc/memtide/…
//! ```

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    Options,
    shell::{self, Failure, workspace},
};

const DOCUMENTS: [&str; 5] =
    ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "LICENSE-MIT", "LICENSE-APACHE"];

/// `cargo xtask install --prefix DIR`.
pub fn command(options: &Options) -> Result<(), Failure> {
    let Some(prefix) = options.get("--prefix") else {
        return Err(Failure::usage("install needs --prefix DIR, for example --prefix /usr/local"));
    };
    // Cargo runs this where the user stands, so a relative prefix means what it says.
    let here = env::current_dir().map_err(|source| Failure::File { path: ".".into(), source })?;
    let prefix = here.join(prefix);
    install(&prefix)?;
    println!("installed: {}", prefix.join("bin/memtide").display());
    Ok(())
}

/// Builds everything and puts it under `prefix`.
pub fn install(prefix: &Path) -> Result<(), Failure> {
    let built = shell::build_release()?;
    let memtide = prefix.join("bin/memtide");
    shell::copy(&built.join("memtide"), &memtide, 0o755)?;
    let library = prefix.join("lib/memtide/libmemtide_preload.so");
    shell::copy(&built.join("libmemtide_preload.so"), &library, 0o644)?;
    generated(&memtide, prefix)?;
    for name in DOCUMENTS {
        shell::copy(&workspace().join(name), &documents(prefix).join(name), 0o644)?;
    }
    for path in texts_and_pictures(&workspace().join("docs"))? {
        let name = path.file_name().expect("a file has a name");
        shell::copy(&path, &documents(prefix).join("docs").join(name), 0o644)?;
    }
    Ok(())
}

/// Where the documents go.
pub fn documents(prefix: &Path) -> PathBuf {
    prefix.join("share/doc/memtide")
}

/// Man pages and completions come from the same definitions as the command line itself.
fn generated(memtide: &Path, prefix: &Path) -> Result<(), Failure> {
    let manuals = prefix.join("share/man/man1");
    shell::create_directory(&manuals)?;
    shell::run(Command::new(memtide).arg("man").arg("--output").arg(&manuals))?;
    for (name, path) in [
        ("bash", "share/bash-completion/completions/memtide"),
        ("zsh", "share/zsh/site-functions/_memtide"),
        ("fish", "share/fish/vendor_completions.d/memtide.fish"),
    ] {
        let text = shell::output(Command::new(memtide).args(["completions", name]))?;
        shell::write(&prefix.join(path), &text, 0o644)?;
    }
    Ok(())
}

fn texts_and_pictures(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |source| Failure::File { path: directory.to_owned(), source };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|e| e == "md" || e == "svg") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_documents_link_to_in_their_folder_is_installed() {
        let installed = texts_and_pictures(&workspace().join("docs")).unwrap();
        let mut links = 0;
        for path in installed.iter().filter(|path| path.extension().is_some_and(|e| e == "md")) {
            let text = std::fs::read_to_string(path).unwrap();
            for link in text.split("](").skip(1) {
                let end = link.find([')', '#']).unwrap();
                let name = &link[..end];
                if !name.is_empty() && !name.contains('/') {
                    links += 1;
                    assert!(installed.contains(&path.with_file_name(name)), "{path:?}: {name}");
                }
            }
        }
        assert!(links > 20, "{links} links");
    }
}
