//! The folder that a machine is read under: `/`, or a captured tree.
//!
//! Attributes of sysfs are short texts with a newline at their end; a number is decimal, or
//! hexadecimal with `0x`. What is not there is not an error but `None`: kernels differ. What is
//! there and cannot be read or makes no sense is an error that names the file.
//!
//! A captured tree comes from a stranger: only plain files are read (a pipe or a device could keep
//! us for ever), of [`BYTES_MAX`] at most, and an error repeats a little of a value only. Its links
//! cannot lead out of it: they are followed as if the folder were `/` (`RESOLVE_IN_ROOT` of
//! openat2(2), Linux 5.6).

use std::{
    ffi::OsString,
    fs::File,
    io,
    io::Read,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use rustix::{
    fd::OwnedFd,
    fs::{Dir, Mode, OFlags, ResolveFlags},
    io::Errno,
};

/// The largest file that is read. The largest that Linux has is /proc/zoneinfo of a machine with
/// hundreds of processors: some MiB.
pub const BYTES_MAX: u64 = 64 << 20;

/// How often a file is looked for while others rename theirs: the kernel cannot follow `..` then.
const TRIES: usize = 64;

/// So much of a value is repeated in an error, in characters.
const VALUE_SHOWN: usize = 80;

/// Why an attribute could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The kernel, or the file system, refused.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file holds something else than it should.
    #[error("{} holds {value:?}: expected {expected}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// What it holds, or the beginning of it.
        value: String,
        /// What it should hold.
        expected: &'static str,
    },
}

/// A machine's file system.
#[derive(Debug, Clone)]
pub struct Root(PathBuf);

impl Root {
    /// The machine whose `/` is `folder`.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self(folder.into())
    }

    /// This machine.
    #[must_use]
    pub fn live() -> Self {
        Self::new("/")
    }

    /// Whether it is this machine: what is written changes it.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.0 == Path::new("/")
    }

    /// Where `path` (without a slash at its start: `sys/devices/system/node`) lies.
    #[must_use]
    pub fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.0.join(path)
    }

    /// Opens what is at `path`.
    fn find(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        if self.is_live() {
            return Ok(rustix::fs::open(self.at(path), flags, Mode::empty())?);
        }
        let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(&self.0, folder, Mode::empty())?;
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let open = || rustix::fs::openat2(&root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT);
        let tries = (0..TRIES).map(|_| open());
        let found = tries.into_iter().find(|found| !matches!(found, Err(Errno::AGAIN)));
        Ok(found.unwrap_or(Err(Errno::AGAIN))?)
    }

    /// Opens the file at `path` for reading. Opening does not wait, as that of a pipe would.
    ///
    /// # Errors
    /// The kernel's; [`io::ErrorKind::InvalidInput`] if it is no plain file.
    pub fn open(&self, path: impl AsRef<Path>) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::from(self.find(path.as_ref(), flags)?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a plain file"));
        }
        Ok(file)
    }

    /// Whether there is anything at `path`.
    #[must_use]
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.find(path.as_ref(), OFlags::PATH).is_ok()
    }

    /// Whether there is a plain file at `path`.
    #[must_use]
    pub fn is_file(&self, path: impl AsRef<Path>) -> bool {
        let found = self.find(path.as_ref(), OFlags::PATH).map(File::from);
        found.and_then(|file| file.metadata()).is_ok_and(|metadata| metadata.is_file())
    }

    /// What the link at `path` points to, as it is written there.
    ///
    /// # Errors
    /// The kernel's; `EINVAL` or [`io::ErrorKind::NotFound`] if it is no link.
    pub fn target(&self, path: impl AsRef<Path>) -> io::Result<PathBuf> {
        let link = self.find(path.as_ref(), OFlags::PATH | OFlags::NOFOLLOW)?;
        let target = rustix::fs::readlinkat(&link, "", Vec::new())?;
        Ok(OsString::from_vec(target.into_bytes()).into())
    }

    /// Whether whoever asks may write to `path`, as far as that is known before: not on a file
    /// system that is read-only, nor without the right to.
    #[must_use]
    pub fn may_write(&self, path: impl AsRef<Path>) -> bool {
        use rustix::fs;
        let asked =
            fs::accessat(fs::CWD, self.at(path), fs::Access::WRITE_OK, fs::AtFlags::EACCESS);
        !matches!(asked, Err(Errno::ROFS | Errno::ACCESS | Errno::PERM))
    }

    /// The text at `path` without the newline at its end, or `None` if there is nothing.
    ///
    /// # Errors
    /// [`ReadError::Io`] if it is there and cannot be read.
    pub fn text(&self, path: impl AsRef<Path>) -> Result<Option<String>, ReadError> {
        Ok(self
            .bytes(path)?
            .map(|bytes| String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\0']).to_owned()))
    }

    /// The bytes at `path`, or `None` if there is nothing.
    ///
    /// # Errors
    /// [`ReadError::Io`] if it is there and cannot be read.
    pub fn bytes(&self, path: impl AsRef<Path>) -> Result<Option<Vec<u8>>, ReadError> {
        let path = path.as_ref();
        match self.open(path).and_then(read) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(source) => Err(ReadError::Io { path: self.at(path), source }),
        }
    }

    /// The number at `path`, decimal or hexadecimal with `0x`, or `None` if there is nothing.
    ///
    /// # Errors
    /// [`ReadError::Io`] as [`Root::text`]; [`ReadError::Value`] if it is no number.
    pub fn number(&self, path: impl AsRef<Path>) -> Result<Option<u64>, ReadError> {
        self.number_as(path, |text| match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => text.parse().ok(),
        })
    }

    /// The hexadecimal number without prefix at `path` (as `block_size_bytes` has it), or `None`
    /// if there is nothing.
    ///
    /// # Errors
    /// As [`Root::number`].
    pub fn hexadecimal(&self, path: impl AsRef<Path>) -> Result<Option<u64>, ReadError> {
        self.number_as(path, |text| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok())
    }

    fn number_as(
        &self,
        path: impl AsRef<Path>,
        parse: impl Fn(&str) -> Option<u64>,
    ) -> Result<Option<u64>, ReadError> {
        let path = path.as_ref();
        let Some(text) = self.text(path)? else { return Ok(None) };
        match parse(text.trim()) {
            Some(number) => Ok(Some(number)),
            None => Err(self.unexpected(path, &text, "a number")),
        }
    }

    /// That the file at `path` holds `value`, which is not what was `expected`.
    #[must_use]
    pub fn unexpected(
        &self,
        path: impl AsRef<Path>,
        value: &str,
        expected: &'static str,
    ) -> ReadError {
        let value = value.chars().take(VALUE_SHOWN).collect();
        ReadError::Value { path: self.at(path), value, expected }
    }

    /// The names in the folder `path`, those with numbers in the order of their numbers; none if
    /// there is no such folder.
    ///
    /// # Errors
    /// [`ReadError::Io`] if it is there and cannot be read.
    pub fn names(&self, path: impl AsRef<Path>) -> Result<Vec<String>, ReadError> {
        let path = path.as_ref();
        let failed = |source| ReadError::Io { path: self.at(path), source };
        let folder = match self.find(path, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(folder) => folder,
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            Err(source) => return Err(failed(source)),
        };
        let mut names = Vec::new();
        for entry in Dir::new(folder).map_err(|error| failed(error.into()))? {
            let entry = entry.map_err(|error| failed(error.into()))?;
            let name = entry.file_name().to_string_lossy();
            if !matches!(&*name, "." | "..") {
                names.push(name.into_owned());
            }
        }
        names.sort_by_cached_key(|name| natural(name));
        Ok(names)
    }

    /// The last part of what the link at `path` points to (a device's driver or bus), or `None`
    /// if there is no link.
    #[must_use]
    pub fn link(&self, path: impl AsRef<Path>) -> Option<String> {
        let target = self.target(path).ok()?;
        Some(target.file_name()?.to_string_lossy().into_owned())
    }
}

/// The bytes of a file.
fn read(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if file.take(BYTES_MAX + 1).read_to_end(&mut bytes)? as u64 > BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 64 MiB"));
    }
    Ok(bytes)
}

/// Not there, or gone in between: sysfs answers ENODEV for an attribute of a device that left,
/// ENXIO and ENODATA for one that says nothing at the moment, ENOTDIR where another kernel has a
/// folder.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        || [Errno::NODEV, Errno::NXIO, Errno::NODATA]
            .iter()
            .any(|absent| error.raw_os_error() == Some(absent.raw_os_error()))
}

/// Orders `memory2` before `memory10`: letters as they are, runs of digits by their number.
fn natural(name: &str) -> Vec<(String, u64)> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (word, tail) = rest.split_at(letters);
        let digits = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
        let (number, tail) = tail.split_at(digits);
        parts.push((word.to_owned(), number.parse().unwrap_or(u64::MAX)));
        rest = tail;
    }
    parts
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn links_do_not_lead_out_of_the_folder() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "1\n").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("machine");
        fs::create_dir_all(inside.join("sys/devices")).unwrap();
        fs::write(inside.join("sys/own"), "2\n").unwrap();
        fs::write(folder.path().join("beside"), "1\n").unwrap();
        let link = |target: &Path, name: &str| symlink(target, inside.join(name)).unwrap();
        link(&outside.path().join("secret"), "file");
        link(outside.path(), "folder");
        link(Path::new("../beside"), "up");
        link(Path::new("../../../../../../../sys/own"), "sys/devices/climbs");
        link(Path::new("/sys/own"), "absolute");
        link(Path::new("/"), "top");
        let root = Root::new(&inside);
        for path in ["file", "folder/secret", "up", "../beside", "top/../../beside"] {
            assert_eq!(root.text(path).unwrap(), None, "{path}");
            assert!(!root.exists(path) && !root.is_file(path), "{path}");
        }
        assert!(root.names("folder").unwrap().is_empty());
        // As on the machine itself, whose folder this was.
        for path in ["absolute", "sys/devices/climbs", "top/sys/own"] {
            assert_eq!(root.number(path).unwrap(), Some(2), "{path}");
            assert!(root.is_file(path), "{path}");
        }
        assert_eq!(root.names("top").unwrap(), root.names("").unwrap());
        assert_eq!(root.link("up").as_deref(), Some("beside"));
        assert_eq!(root.target("file").unwrap(), outside.path().join("secret"));
        assert_eq!(root.link("sys"), None);
    }

    #[test]
    fn names_come_in_the_order_of_their_numbers() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["memory10", "memory2", "power", "memory1"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let root = Root::new(folder.path());
        assert_eq!(root.names("").unwrap(), ["memory1", "memory2", "memory10", "power"]);
        assert!(root.names("nothing").unwrap().is_empty());
    }

    #[test]
    fn what_is_no_number_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("size"), "0x1000\n").unwrap();
        fs::write(folder.path().join("state"), "online\n").unwrap();
        let root = Root::new(folder.path());
        assert_eq!(root.number("size").unwrap(), Some(0x1000));
        assert_eq!(root.number("nothing").unwrap(), None);
        let error = root.number("state").unwrap_err().to_string();
        assert!(error.ends_with(r#"state holds "online": expected a number"#), "{error}");
    }

    #[test]
    fn only_plain_files_are_read_and_an_error_repeats_little() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        assert!(matches!(Root::live().bytes("dev/zero"), Err(ReadError::Io { .. })));
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
        assert!(matches!(root.bytes("pipe"), Err(ReadError::Io { path, .. }) if path == pipe));
        std::os::unix::fs::symlink("itself", folder.path().join("itself")).unwrap();
        assert!(root.bytes("itself").is_err());
        fs::write(folder.path().join("long"), "x".repeat(1 << 20)).unwrap();
        assert!(root.number("long").unwrap_err().to_string().len() < 300);
    }
}
