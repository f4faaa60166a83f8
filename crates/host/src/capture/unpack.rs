//! Reading a capture back: into a folder that nobody else can see, and which ends with its use.
//!
//! The file comes from a stranger. So:
//! * **Nothing is written outside the folder.** Names are relative and without `..`; folders and
//!   files come first, links last, so that no entry is ever written through a link.
//! * **Nothing is read outside it.** A link's target is relative, with all its `..` at the front,
//!   no more of them than folders above the link. Where each link has this form, following any
//!   number of them cannot leave: the `..` start from a real folder, and names only lead down, or
//!   to another such link.
//! * **It ends.** Entries, folders, bytes of files, and bytes that come out of the compression are
//!   limited.
//! * Only folders, plain files and symbolic links; anything else refuses the whole.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufReader, Read, Seek},
    os::unix::fs::symlink,
    path::{Component, Path, PathBuf},
};

use flate2::read::GzDecoder;
use tar::EntryType;

use super::{BYTES_MAX, ENTRIES_MAX};
use crate::Root;

/// What a gzip file begins with (RFC 1952).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Bytes of the tar file: its contents, and at most three blocks of 512 bytes around each.
const TAR_MAX: u64 = BYTES_MAX + ENTRIES_MAX as u64 * 1536;

/// Why a capture cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// There is no such file or folder, or it cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no tar file, or a broken one.
    #[error("{} is no tar file, gzipped or not, as memtide capture makes it", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Where it breaks.
        source: io::Error,
    },
    /// An entry's name leaves the tree, or is there twice.
    #[error("entry {name:?}: expected a relative name without .. that is there once")]
    Name {
        /// As the archive has it.
        name: String,
    },
    /// A link leaves the tree, or could.
    #[error("entry {name:?} is a link to {target:?}: expected a target in the tree, .. in front")]
    Link {
        /// The entry.
        name: String,
        /// Where it points to.
        target: String,
    },
    /// An entry is neither folder, file nor symbolic link.
    #[error("entry {name:?} is of type {kind:?}: expected a folder, a file or a symbolic link")]
    Kind {
        /// The entry.
        name: String,
        /// The letter of the tar format.
        kind: char,
    },
    /// It is larger than a capture may be.
    #[error("{} has more than {limit} {what}", path.display())]
    TooMuch {
        /// The file.
        path: PathBuf,
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// It cannot be unpacked here.
    #[error("cannot unpack to {}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A machine to read, and the folder that it was unpacked to, if it was.
#[derive(Debug)]
pub struct Opened {
    root: Root,
    _unpacked: Option<tempfile::TempDir>,
}

impl Opened {
    /// This machine.
    #[must_use]
    pub fn live() -> Self {
        Self { root: Root::live(), _unpacked: None }
    }

    /// The machine.
    #[must_use]
    pub fn root(&self) -> &Root {
        &self.root
    }
}

/// Opens a folder, or a capture.
///
/// # Errors
/// [`UnpackError`].
pub fn open(path: &Path) -> Result<Opened, UnpackError> {
    let read = |source| UnpackError::Read { path: path.to_owned(), source };
    if fs::metadata(path).map_err(read)?.is_dir() {
        return Ok(Opened { root: Root::new(path), _unpacked: None });
    }
    let mut file = File::open(path).map_err(read)?;
    let mut magic = [0; 2];
    let gzip = file.read_exact(&mut magic).is_ok() && magic == GZIP;
    file.rewind().map_err(read)?;
    let file = BufReader::new(file);
    let folder = tempfile::Builder::new()
        .prefix("memtide-root-")
        .tempdir()
        .map_err(|source| UnpackError::Write { path: std::env::temp_dir(), source })?;
    let mut unpacker = Unpacker {
        archive: path,
        folder: folder.path(),
        links: BTreeMap::new(),
        folders_left: ENTRIES_MAX,
    };
    match gzip {
        true => unpacker.unpack(GzDecoder::new(file))?,
        false => unpacker.unpack(file)?,
    }
    Ok(Opened { root: Root::new(folder.path()), _unpacked: Some(folder) })
}

struct Unpacker<'a> {
    archive: &'a Path,
    folder: &'a Path,
    links: BTreeMap<PathBuf, String>,
    /// So many folders may still be made: one name may ask for thousands.
    folders_left: usize,
}

impl Unpacker<'_> {
    fn unpack(&mut self, tar: impl Read) -> Result<(), UnpackError> {
        let mut archive = tar::Archive::new(tar.take(TAR_MAX));
        let (mut entries, mut bytes) = (0, 0);
        for entry in archive.entries().map_err(|source| self.format(source))? {
            let mut entry = entry.map_err(|source| self.format(source))?;
            entries += 1;
            bytes += entry.size().min(BYTES_MAX + 1);
            self.within(entries, ENTRIES_MAX as u64, "entries")?;
            self.within(bytes, BYTES_MAX, "bytes")?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let path = relative(&name)?;
            match entry.header().entry_type() {
                EntryType::Directory => self.make_folder(&path)?,
                EntryType::Regular | EntryType::Continuous => {
                    self.write_file(&path, &name, &mut entry)?;
                }
                EntryType::Symlink => {
                    let target = entry.link_name_bytes().unwrap_or_default();
                    let target = String::from_utf8_lossy(&target).into_owned();
                    self.take_link(path, name, target)?;
                }
                EntryType::XGlobalHeader => {}
                kind => {
                    return Err(UnpackError::Kind { name, kind: char::from(kind.as_byte()) });
                }
            }
        }
        self.make_links()
    }

    fn format(&self, source: io::Error) -> UnpackError {
        UnpackError::Format { path: self.archive.to_owned(), source }
    }

    fn within(&self, number: u64, limit: u64, what: &'static str) -> Result<(), UnpackError> {
        if number <= limit {
            return Ok(());
        }
        Err(UnpackError::TooMuch { path: self.archive.to_owned(), what, limit })
    }

    /// A folder, and those it lies in.
    fn make_folder(&mut self, path: &Path) -> Result<(), UnpackError> {
        let mut at = self.folder.to_owned();
        for part in path.components() {
            at.push(part);
            match fs::create_dir(&at) {
                Ok(()) if self.folders_left == 0 => {
                    let limit = ENTRIES_MAX as u64;
                    return self.within(limit + 1, limit, "folders");
                }
                Ok(()) => self.folders_left -= 1,
                Err(_) if at.is_dir() => {}
                Err(source) => return Err(UnpackError::Write { path: at, source }),
            }
        }
        Ok(())
    }

    fn write_file(
        &mut self,
        path: &Path,
        name: &str,
        contents: &mut impl Read,
    ) -> Result<(), UnpackError> {
        if let Some(parent) = path.parent() {
            self.make_folder(parent)?;
        }
        let path = self.folder.join(path);
        let failed = |path: PathBuf, source| UnpackError::Write { path, source };
        let mut file = match File::create_new(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(UnpackError::Name { name: name.to_owned() });
            }
            Err(source) => return Err(failed(path, source)),
        };
        // Sizes are limited; a file that ends early is a broken archive.
        let mut bytes = Vec::new();
        contents.read_to_end(&mut bytes).map_err(|source| self.format(source))?;
        io::Write::write_all(&mut file, &bytes).map_err(|source| failed(path, source))
    }

    fn take_link(
        &mut self,
        path: PathBuf,
        name: String,
        target: String,
    ) -> Result<(), UnpackError> {
        let folders = path.components().count().saturating_sub(1);
        if !stays(&target, folders) {
            return Err(UnpackError::Link { name, target });
        }
        match self.links.insert(path, target) {
            None => Ok(()),
            Some(_) => Err(UnpackError::Name { name }),
        }
    }

    fn make_links(&mut self) -> Result<(), UnpackError> {
        let links = std::mem::take(&mut self.links);
        // All parents first: from then on folders are folders, and links are links.
        for path in links.keys() {
            self.make_folder(path.parent().unwrap_or(Path::new("")))?;
        }
        for (path, target) in &links {
            let place = self.folder.join(path);
            symlink(target, &place).map_err(|source| match source.kind() {
                io::ErrorKind::AlreadyExists => {
                    UnpackError::Name { name: path.display().to_string() }
                }
                _ => UnpackError::Write { path: place.clone(), source },
            })?;
        }
        Ok(())
    }
}

/// The path of an entry: names only, at least one unless it is the tree itself (`./`).
fn relative(name: &str) -> Result<PathBuf, UnpackError> {
    let mut path = PathBuf::new();
    for part in Path::new(name).components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            _ => return Err(UnpackError::Name { name: name.to_owned() }),
        }
    }
    if name.is_empty() || name.contains('\0') {
        return Err(UnpackError::Name { name: name.to_owned() });
    }
    Ok(path)
}

/// Whether a link `folders` deep with this target stays in the tree, whatever it leads through.
fn stays(target: &str, folders: usize) -> bool {
    let mut up = 0;
    let mut down = false;
    for part in Path::new(target).components() {
        match part {
            Component::ParentDir if down => return false,
            Component::ParentDir => up += 1,
            Component::Normal(_) => down = true,
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    !target.is_empty() && !target.contains('\0') && up <= folders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_on_the_way_to_a_file_count() {
        let folder = tempfile::tempdir().unwrap();
        let (archive, links) = (Path::new("x.tar"), BTreeMap::new());
        let mut unpacker = Unpacker { archive, folder: folder.path(), links, folders_left: 3 };
        unpacker.make_folder(Path::new("a/b")).unwrap();
        unpacker.make_folder(Path::new("a/b")).unwrap();
        unpacker.make_folder(Path::new("a/c")).unwrap();
        let error = unpacker.make_folder(Path::new("a/c/d")).unwrap_err().to_string();
        assert_eq!(error, "x.tar has more than 300000 folders");
    }
}
