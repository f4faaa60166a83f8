//! Finding the library that goes into programs.

use std::{
    env,
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// Its file name.
const NAME: &str = "libmemtide_preload.so";
/// Names it outright.
const VARIABLE: &str = "MEMTIDE_PRELOAD";

/// Where the library is: where [`VARIABLE`] says; else beside the executable, as cargo builds
/// it; else in the `lib/memtide` beside its `bin`, as it is installed.
///
/// # Errors
/// All the places where it is not.
pub fn find() -> Result<PathBuf, String> {
    let executable = env::current_exe().unwrap_or_default();
    find_from(env::var_os(VARIABLE).as_deref(), &executable)
}

fn find_from(named: Option<&OsStr>, executable: &Path) -> Result<PathBuf, String> {
    let places: Vec<PathBuf> = match named {
        Some(path) => vec![PathBuf::from(path)],
        None => {
            let beside = executable.parent().unwrap_or(Path::new("/"));
            let prefix = beside.parent().unwrap_or(Path::new("/"));
            vec![beside.join(NAME), prefix.join("lib/memtide").join(NAME)]
        }
    };
    let Some(found) = places.iter().find(|path| path.is_file()) else {
        let looked: Vec<_> = places.iter().map(|path| path.display().to_string()).collect();
        return Err(format!(
            "the library {NAME} is not at {}; build it with `cargo build -p memtide-preload`, or \
             name it in {VARIABLE}",
            looked.join(" nor at ")
        ));
    };
    let found = found.canonicalize().unwrap_or_else(|_| found.clone());
    // The loader takes LD_PRELOAD apart at these, and has no way to quote them.
    if found.as_os_str().as_bytes().iter().any(|byte| b": \t\n".contains(byte)) {
        return Err(format!(
            "the path of the library has a blank or a colon, which LD_PRELOAD cannot carry: {}",
            found.display()
        ));
    }
    Ok(found)
}

/// The value of LD_PRELOAD with the library in front of what is there, once.
pub fn preload_with(library: &Path, before: Option<OsString>) -> OsString {
    let mut value = library.as_os_str().to_owned();
    for other in before.unwrap_or_default().as_bytes().split(|byte| b": ".contains(byte)) {
        if !other.is_empty() && other != library.as_os_str().as_bytes() {
            value.push(":");
            value.push(OsStr::from_bytes(other));
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_goes_in_front_and_only_once() {
        let library = Path::new("/lib/m.so");
        assert_eq!(preload_with(library, None), "/lib/m.so");
        assert_eq!(
            preload_with(library, Some("/a.so:/lib/m.so /b.so".into())),
            "/lib/m.so:/a.so:/b.so"
        );
    }

    #[test]
    fn it_is_found_as_built_and_as_installed_or_all_places_are_named() {
        let root = env::temp_dir().join(format!("memtide-library-{}", std::process::id()));
        let (bin, lib) = (root.join("bin"), root.join("lib/memtide"));
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::create_dir_all(&lib).unwrap();
        let executable = bin.join("memtide");
        let error = find_from(None, &executable).unwrap_err();
        assert!(error.contains("bin/libmemtide_preload.so nor at"), "{error}");
        assert!(error.contains("lib/memtide/libmemtide_preload.so"), "{error}");
        std::fs::write(lib.join(NAME), "").unwrap();
        assert_eq!(find_from(None, &executable).unwrap(), lib.join(NAME).canonicalize().unwrap());
        std::fs::write(bin.join(NAME), "").unwrap();
        assert_eq!(find_from(None, &executable).unwrap(), bin.join(NAME).canonicalize().unwrap());
        assert!(find_from(Some("/nowhere.so".as_ref()), &executable).is_err());
        std::fs::remove_dir_all(&root).unwrap();
    }
}
