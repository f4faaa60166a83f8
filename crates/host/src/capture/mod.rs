//! A machine as a file, for a bug report; and back.
//!
//! `memtide capture` packs what memtide reads, and nothing else: the files of a
//! [white list](white_list) of patterns. Whoever gets the file sees the machine as memtide sees
//! it, with the same commands, by `--root FILE`.
//!
//! **What is in it**: the tree as it is in sysfs, folders where they are and links as links, since
//! who lies in whom is seen from where links point to. A tar file, gzipped; entries sorted, without
//! times, owners or rights: the same machine gives the same bytes. A file `capture.txt` says in
//! words what it is, what was left out, and what could not be read.
//!
//! **What is not**: serial numbers of devices and UUIDs of regions, unless asked for; where the
//! kernel lies in memory (the lines `Kernel code` and so on of /proc/iomem, which undo its address
//! randomisation); of the kernel's command line all that is not about memory; processes, contents
//! of memory, network or disks. Addresses of devices, sizes and firmware versions are in it: they
//! are what it is for. See [`masks`] for files of which a part is taken.
//!
//! Whoever is not root sees zeros for the addresses in /proc/iomem, and no addresses of CXL at all:
//! the capture is made all the same, and says so.
//!
//! **Reading back** ([`unpack`]) trusts nothing: see there.

pub mod masks;
pub mod unpack;
pub mod white_list;

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use memtide_physmap::iomem;

use self::white_list::{PATTERNS, Secret};
use crate::{Notes, Root};

pub use unpack::{Opened, UnpackError, open};

/// The file in a capture that says what it is.
pub const MANIFEST: &str = "capture.txt";

/// Files and links of a capture at most; some thousands are usual.
pub const ENTRIES_MAX: usize = 300_000;
/// Bytes of all its files together at most.
pub const BYTES_MAX: u64 = 256 << 20;

/// Whether serial numbers and UUIDs go in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Serials {
    /// They stay out.
    LeftOut,
    /// They go in.
    Included,
}

/// Why a capture could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// The machine has more than a capture may hold.
    #[error("the machine has more than {limit} {what} to capture")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// There is a file already.
    #[error("{} exists: captures do not overwrite", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The file could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What went into a capture.
#[derive(Debug)]
pub struct Captured {
    /// Files.
    pub files: usize,
    /// Links.
    pub links: usize,
    /// Bytes of the files.
    pub bytes: u64,
    /// Files that were left out because they identify a device.
    pub left_out: usize,
    /// What could not be read, or is of less use than it could be.
    pub notes: Vec<String>,
}

#[derive(Debug)]
enum Entry {
    File(Vec<u8>),
    Link(String),
    Folder,
}

struct Collector<'a> {
    root: &'a Root,
    serials: Serials,
    entries: BTreeMap<String, Entry>,
    bytes: u64,
    left_out: usize,
    notes: Notes,
}

/// Captures the machine at `root` into `file`, which must not exist yet.
///
/// # Errors
/// [`CaptureError`]; then there is no file.
pub fn capture(root: &Root, file: &Path, serials: Serials) -> Result<Captured, CaptureError> {
    if fs::symlink_metadata(file).is_ok() {
        return Err(CaptureError::Exists { path: file.to_owned() });
    }
    let mut collector = Collector {
        root,
        serials,
        entries: BTreeMap::new(),
        bytes: 0,
        left_out: 0,
        notes: Notes::new(),
    };
    for pattern in PATTERNS {
        let parts: Vec<&str> = pattern.path.split('/').collect();
        collector.expand(String::new(), &parts, pattern.secret)?;
    }
    let mut notes = collector.notes.lines();
    collector.mask();
    if collector.has_no_addresses() {
        notes.push("only root sees the addresses in /proc/iomem: here they are zero".to_owned());
    }
    let files = collector.entries.values().filter_map(|entry| match entry {
        Entry::File(bytes) => Some(bytes.len() as u64),
        Entry::Link(_) | Entry::Folder => None,
    });
    let links = collector.entries.values().filter(|entry| matches!(entry, Entry::Link(_))).count();
    let sizes: Vec<u64> = files.collect();
    let captured = Captured {
        files: sizes.len(),
        links,
        bytes: sizes.iter().sum(),
        left_out: collector.left_out,
        notes,
    };
    let manifest = Entry::File(manifest(&captured).into_bytes());
    collector.entries.insert(MANIFEST.to_owned(), manifest);
    write(file, &collector.entries).map_err(|source| failed(file, source)).map(|()| captured)
}

fn failed(file: &Path, source: io::Error) -> CaptureError {
    match source.kind() {
        io::ErrorKind::AlreadyExists => CaptureError::Exists { path: file.to_owned() },
        _ => CaptureError::Write { path: file.to_owned(), source },
    }
}

impl Collector<'_> {
    /// Takes what lies in `folder` and matches the `parts` of a pattern that are left.
    fn expand(
        &mut self,
        folder: String,
        parts: &[&str],
        secret: Secret,
    ) -> Result<(), CaptureError> {
        let [part, rest @ ..] = parts else { return Ok(()) };
        if part.is_empty() {
            let is_folder = self.root.exists(&folder) && !self.root.is_file(&folder);
            return if is_folder { self.add(folder, Entry::Folder) } else { Ok(()) };
        }
        let names = match part.split_once('*') {
            None => vec![(*part).to_owned()],
            Some((start, end)) => {
                let names = self.notes.keep_list(self.root.names(&folder));
                let fits = |name: &String| {
                    name.len() >= start.len() + end.len()
                        && name.starts_with(start)
                        && name.ends_with(end)
                };
                names.into_iter().filter(fits).collect()
            }
        };
        for name in names {
            let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            match self.root.target(&path) {
                Ok(target) => {
                    let Some(target) = target.to_str() else { continue };
                    let Some(real) = resolve(&path, target) else { continue };
                    self.add(path, Entry::Link(target.to_owned()))?;
                    self.expand(real, rest, secret)?;
                }
                Err(_) if rest.is_empty() => self.take(path, secret)?,
                Err(_) => self.expand(path, rest, secret)?,
            }
        }
        Ok(())
    }

    fn take(&mut self, path: String, secret: Secret) -> Result<(), CaptureError> {
        if !self.root.is_file(&path) {
            return Ok(());
        }
        if secret == Secret::Identifies && self.serials == Serials::LeftOut {
            self.left_out += 1;
            return Ok(());
        }
        match self.notes.keep(self.root.bytes(&path)) {
            Some(bytes) => self.add(path, Entry::File(bytes)),
            None => Ok(()),
        }
    }

    fn add(&mut self, path: String, entry: Entry) -> Result<(), CaptureError> {
        let new = match &entry {
            Entry::File(bytes) => bytes.len() as u64,
            Entry::Link(_) | Entry::Folder => 0,
        };
        if self.entries.contains_key(&path) {
            return Ok(());
        }
        if self.entries.len() == ENTRIES_MAX {
            return Err(CaptureError::TooMuch { what: "files", limit: ENTRIES_MAX as u64 });
        }
        self.bytes = self.bytes.saturating_add(new);
        if self.bytes > BYTES_MAX {
            return Err(CaptureError::TooMuch { what: "bytes", limit: BYTES_MAX });
        }
        self.entries.insert(path, entry);
        Ok(())
    }

    /// Takes out of the files what does not go to strangers.
    fn mask(&mut self) {
        for (path, mask) in masks::ALL {
            if let Some(Entry::File(bytes)) = self.entries.get_mut(path) {
                *bytes = mask(bytes);
            }
        }
    }

    /// Whether /proc/iomem is there without addresses.
    fn has_no_addresses(&self) -> bool {
        let Some(Entry::File(bytes)) = self.entries.get(white_list::IOMEM) else { return false };
        iomem::visibility(&String::from_utf8_lossy(bytes)) == iomem::Visibility::Hidden
    }
}

/// Where the link at `path` points to, below the same root; nothing if that is outside.
fn resolve(path: &str, target: &str) -> Option<String> {
    if target.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

fn manifest(captured: &Captured) -> String {
    let mut text = format!(
        "What memtide {} reads of a machine: {} files, {} links. Look at it with\n\
         memtide topology --root FILE.\n\n\
         Left out: where the kernel lies in /proc/iomem; {} serial numbers and UUIDs.\n",
        env!("CARGO_PKG_VERSION"),
        captured.files,
        captured.links,
        captured.left_out
    );
    for note in &captured.notes {
        text += &format!("Note: {note}\n");
    }
    text
}

/// Writes next to `file`, then gives it its name: a capture is whole or not there.
fn write(file: &Path, entries: &BTreeMap<String, Entry>) -> io::Result<()> {
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut temporary = tempfile::Builder::new().prefix(".memtide-capture-").tempfile_in(folder)?;
    let encoder = GzEncoder::new(io::BufWriter::new(temporary.as_file_mut()), Compression::best());
    let mut archive = tar::Builder::new(encoder);
    for (path, entry) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mtime(0);
        match entry {
            Entry::File(bytes) => {
                header.set_entry_type(tar::EntryType::Regular);
                header.set_mode(0o644);
                header.set_size(bytes.len() as u64);
                archive.append_data(&mut header, path, bytes.as_slice())?;
            }
            Entry::Link(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_mode(0o777);
                header.set_size(0);
                archive.append_link(&mut header, path, target)?;
            }
            Entry::Folder => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(0o755);
                header.set_size(0);
                archive.append_data(&mut header, path, io::empty())?;
            }
        }
    }
    archive.into_inner()?.finish()?.flush()?;
    temporary.persist_noclobber(file).map(drop).map_err(|error| error.error)
}
