//! Programs that a preload library cannot enter.
//!
//! References: ld.so(8) (secure-execution mode), elf(5).

use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    io::Read,
    os::unix::{ffi::OsStrExt, fs::FileExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

/// Whether memtide gets into a program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// As far as one can see.
    Fine,
    /// It has no dynamic loader.
    Static,
    /// It runs with other rights than its caller, and its loader takes nothing from him.
    Privileged,
}

impl Reach {
    /// Says so on standard error if memtide does not get in.
    pub fn warn(self) {
        let why = match self {
            Self::Fine => return,
            Self::Static => "it is statically linked",
            Self::Privileged => "it is setuid or setgid",
        };
        eprintln!(
            "memtide: the program itself runs on ordinary memory: {why}, and nothing can be \
             preloaded into it (programs that it starts may differ)"
        );
    }
}

/// Looks at what would be executed under this name.
pub fn look(name: &OsStr) -> Reach {
    find(name).map_or(Reach::Fine, |path| look_at(&path, 0))
}

fn find(name: &OsStr) -> Option<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return Some(PathBuf::from(name));
    }
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|directory| directory.join(name)).find(|path| path.is_file())
}

fn look_at(path: &Path, depth: u32) -> Reach {
    let Ok(mut file) = File::open(path) else { return Reach::Fine };
    let mut head = Vec::new();
    if file.by_ref().take(256).read_to_end(&mut head).is_err() {
        return Reach::Fine;
    }
    if let Some(line) = head.strip_prefix(b"#!") {
        // A script is what its interpreter is.
        let line = line.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let mut words = line.split(|byte| b" \t".contains(byte)).filter(|word| !word.is_empty());
        return match words.next() {
            Some(word) if depth < 4 => look_at(Path::new(OsStr::from_bytes(word)), depth + 1),
            _ => Reach::Fine,
        };
    }
    if is_privileged(path) {
        return Reach::Privileged;
    }
    if is_static_elf(&file, &head) { Reach::Static } else { Reach::Fine }
}

fn is_privileged(path: &Path) -> bool {
    const SETUID: u32 = 0o4000;
    const SETGID: u32 = 0o2010;
    let Ok(found) = fs::metadata(path) else { return false };
    let mode = found.mode();
    (mode & SETUID != 0 && found.uid() != rustix::process::getuid().as_raw())
        || (mode & SETGID == SETGID && found.gid() != rustix::process::getgid().as_raw())
}

/// Whether this is a 64-bit ELF executable that names no interpreter.
fn is_static_elf(file: &File, head: &[u8]) -> bool {
    const PT_INTERP: u32 = 3;
    let number = |at: usize, bytes: usize| {
        let field = head.get(at..at + bytes)?;
        let mut whole = [0; 8];
        whole[..bytes].copy_from_slice(field);
        Some(u64::from_le_bytes(whole))
    };
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return false;
    }
    let (Some(offset), Some(size), Some(count)) = (number(32, 8), number(54, 2), number(56, 2))
    else {
        return false;
    };
    (0..count).all(|index| {
        let mut kind = [0; 4];
        let at = offset.saturating_add(index * size);
        // What cannot be read is not judged.
        file.read_exact_at(&mut kind, at).is_ok() && u32::from_le_bytes(kind) != PT_INTERP
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_programs_can_be_entered() {
        assert_eq!(look("sh".as_ref()), Reach::Fine);
        assert_eq!(look("/bin/sh".as_ref()), Reach::Fine);
        assert_eq!(look("no-such-program".as_ref()), Reach::Fine);
    }

    #[test]
    fn an_executable_without_an_interpreter_is_static() {
        // The dynamic loader is one itself.
        let loader = fs::read_to_string("/proc/self/maps").unwrap();
        let loader = loader
            .lines()
            .filter_map(|line| line.split_whitespace().nth(5))
            .find(|path| path.contains("/ld-"));
        if let Some(loader) = loader {
            assert_eq!(look(loader.as_ref()), Reach::Static);
        }
    }
}
