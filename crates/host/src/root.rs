//! The folder that a machine is read under: `/`, or a captured tree.
//!
//! Attributes of sysfs are short texts with a newline at their end; a number is decimal, or
//! hexadecimal with `0x`. What is not there is not an error but `None`: kernels differ. What is
//! there and cannot be read or makes no sense is an error that names the file.
//!
//! A captured tree comes from a stranger: only plain files are read (a pipe or a device could keep
//! us for ever), of [`BYTES_MAX`] at most, and an error repeats a little of a value only.

use std::{
    fs,
    fs::File,
    io,
    io::Read,
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags};

/// The largest file that is read. The largest that Linux has is /proc/zoneinfo of a machine with
/// hundreds of processors: some MiB.
pub const BYTES_MAX: u64 = 64 << 20;

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

    /// Whether there is anything at `path`.
    #[must_use]
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.at(path).exists()
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
        let path = self.at(path);
        match read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(source) => Err(ReadError::Io { path, source }),
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
        let path = self.at(path);
        let failed = |source| ReadError::Io { path: path.clone(), source };
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            Err(source) => return Err(failed(source)),
        };
        let mut names = Vec::new();
        for entry in entries {
            names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
        }
        names.sort_by_cached_key(|name| natural(name));
        Ok(names)
    }

    /// The last part of what the link at `path` points to (a device's driver or bus), or `None`
    /// if there is no link.
    #[must_use]
    pub fn link(&self, path: impl AsRef<Path>) -> Option<String> {
        let target = fs::read_link(self.at(path)).ok()?;
        Some(target.file_name()?.to_string_lossy().into_owned())
    }
}

/// The bytes of a plain file. Opening does not wait, as that of a pipe would.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a plain file"));
    }
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
    use rustix::io::Errno;
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
    use super::*;

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
        let zero = folder.path().join("zero");
        std::os::unix::fs::symlink("/dev/zero", &zero).unwrap();
        assert!(matches!(root.bytes("zero"), Err(ReadError::Io { path, .. }) if path == zero));
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
        assert!(matches!(root.bytes("pipe"), Err(ReadError::Io { path, .. }) if path == pipe));
        std::os::unix::fs::symlink("itself", folder.path().join("itself")).unwrap();
        assert!(root.bytes("itself").is_err());
        fs::write(folder.path().join("long"), "x".repeat(1 << 20)).unwrap();
        assert!(root.number("long").unwrap_err().to_string().len() < 300);
    }
}
