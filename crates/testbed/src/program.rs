//! Programs of this computer, to be run in a guest: which files they need.
//!
//! The guest has no libraries of its own, so it gets this computer's, at the same paths: the
//! program's interpreter and its shared objects, as the dynamic loader itself lists them (`ldd`).

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use crate::Error;

/// The files that a program or shared object needs to run, without itself; each by the path at
/// which it is looked for. A static program needs none.
///
/// # Errors
/// If `ldd` cannot be run, or the loader does not find a library.
pub fn libraries(program: &Path) -> Result<BTreeMap<String, PathBuf>, Error> {
    let mut ldd = Command::new("ldd");
    let output = ldd.arg(program).env("LC_ALL", "C").output().map_err(Error::file("ldd"))?;
    let listing = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    let is_static = |text: &str| {
        text.contains("not a dynamic executable") || text.contains("statically linked")
    };
    if is_static(&listing) || is_static(&complaint) {
        return Ok(BTreeMap::new());
    }
    if !output.status.success() {
        return Err(Error::Tool {
            program: format!("ldd {}", program.display()),
            status: output.status,
            stderr: complaint.trim().to_owned(),
        });
    }
    listed(&listing).map_err(|library| Error::Missing {
        what: format!("library {library}"),
        remedy: format!("{} needs it", program.display()),
    })
}

/// The paths in what `ldd` prints, or the name of a library that it did not find. A line is
/// `NAME => PATH (ADDRESS)`, `PATH (ADDRESS)`, `NAME => not found`, or the vDSO, which has no path.
fn listed(listing: &str) -> Result<BTreeMap<String, PathBuf>, String> {
    let mut paths = BTreeMap::new();
    for line in listing.lines() {
        let line = line.trim();
        if let Some((name, _)) = line.split_once(" => not found") {
            return Err(name.to_owned());
        }
        let found = line.split_once(" => ").map_or(line, |(_, found)| found);
        let path = found.split(" (").next().unwrap_or(found).trim();
        if path.starts_with('/') {
            paths.insert(path.to_owned(), PathBuf::from(path));
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ldd_lists() {
        let listing = "\tlinux-vdso.so.1 (0x00007ffd)\n\
            \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f3)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007f4)\n";
        let paths: Vec<_> = listed(listing).expect("all are there").into_keys().collect();
        assert_eq!(paths, ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"]);
        assert_eq!(listed("\tlibodd.so.1 => not found\n"), Err("libodd.so.1".to_owned()));
    }

    #[test]
    fn this_test_needs_the_c_library() {
        let libraries = libraries(&std::env::current_exe().expect("a path")).expect("ldd works");
        assert!(libraries.keys().any(|path| path.contains("libc.so")), "{libraries:?}");
    }
}
