//! Sparse memory files: the memory behind a (image, node).
//!
//! A file made here can neither shrink nor grow nor be sealed further. The last matters: whoever
//! holds it could otherwise seal it against writing, and its owner could no longer empty it.
//!
//! References: memfd_create(2), fallocate(2), fcntl(2) (file sealing).

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{FallocateFlags, MemfdFlags, SealFlags},
    io::Errno,
};

/// What pages a file is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pages {
    /// 4 KiB (or transparent huge ones, where advised).
    Small,
    /// 2 MiB, of the kernel's huge-page pool.
    Huge2M,
}

impl Pages {
    const fn flags(self) -> MemfdFlags {
        match self {
            Self::Small => MemfdFlags::empty(),
            Self::Huge2M => MemfdFlags::HUGETLB.union(MemfdFlags::HUGE_2MB),
        }
    }

    const fn bytes(self) -> u64 {
        match self {
            Self::Small => 4096,
            Self::Huge2M => 2 << 20,
        }
    }
}

/// Which file it is: equal for descriptors of the same file, different for others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FileIdentity {
    device: u64,
    inode: u64,
}

impl FileIdentity {
    /// The numbers of its file system and of it there, to be kept elsewhere.
    #[must_use]
    pub const fn numbers(self) -> (u64, u64) {
        (self.device, self.inode)
    }
}

const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// A memory file that is not executable, where the kernel knows the difference (Linux 6.3): a
/// system may be set to allow no other.
fn create_any(name: &str, flags: MemfdFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match rustix::fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => rustix::fs::memfd_create(name, flags),
        result => result,
    }
}

/// An empty, unsealed file of `bytes` bytes of small pages.
pub(crate) fn create_unsealed(name: &str, bytes: u64) -> Result<OwnedFd, Errno> {
    let fd = create_any(name, MemfdFlags::empty())?;
    rustix::fs::ftruncate(&fd, bytes)?;
    Ok(fd)
}

/// A sparse file of `bytes` bytes, fixed in size. It uses no memory until written to.
///
/// # Errors
/// Those of memfd_create(2) and ftruncate(2).
pub fn create(name: &str, bytes: u64, pages: Pages) -> io::Result<OwnedFd> {
    let fd = create_any(name, pages.flags())?;
    rustix::fs::ftruncate(&fd, bytes)?;
    rustix::fs::fcntl_add_seals(&fd, SEALS)?;
    Ok(fd)
}

/// Frees what backs `length` bytes at `offset`; they read as zero afterwards.
///
/// # Errors
/// Those of fallocate(2).
pub fn punch_hole(file: BorrowedFd<'_>, offset: u64, length: u64) -> Result<(), Errno> {
    let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::io::retry_on_intr(|| rustix::fs::fallocate(file, mode, offset, length))
}

/// Bytes of memory that the file uses.
///
/// # Errors
/// Those of fstat(2).
pub fn allocated_bytes(file: BorrowedFd<'_>) -> Result<u64, Errno> {
    let stat = rustix::fs::fstat(file)?;
    Ok(u64::try_from(stat.st_blocks).unwrap_or(0) * 512)
}

/// Which file it is.
///
/// # Errors
/// Those of fstat(2).
pub fn identity(file: BorrowedFd<'_>) -> Result<FileIdentity, Errno> {
    let stat = rustix::fs::fstat(file)?;
    Ok(FileIdentity { device: stat.st_dev, inode: stat.st_ino })
}

/// Whether this is a file as [`create`] makes them, of this size and these pages: what came from
/// a stranger can be anything.
#[must_use]
pub fn is_ours(file: BorrowedFd<'_>, bytes: u64, pages: Pages) -> bool {
    // Sealing is a property of memory files: asking others for their seals is an error.
    let sealed = rustix::fs::fcntl_get_seals(file).is_ok_and(|seals| {
        seals.contains(SEALS) && !seals.intersects(SealFlags::WRITE | SealFlags::FUTURE_WRITE)
    });
    let sized = rustix::fs::fstat(file).is_ok_and(|stat| {
        u64::try_from(stat.st_size) == Ok(bytes)
            && u64::try_from(stat.st_blksize) == Ok(pages.bytes())
    });
    sealed && sized
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_file_is_sparse_and_a_hole_frees_its_memory() {
        let file = create("test", 1 << 40, Pages::Small).unwrap();
        assert_eq!(allocated_bytes(file.as_fd()).unwrap(), 0);
        rustix::io::pwrite(&file, b"data", 5 << 21).unwrap();
        assert!(allocated_bytes(file.as_fd()).unwrap() >= 4096);
        punch_hole(file.as_fd(), 5 << 21, 2 << 20).unwrap();
        assert_eq!(allocated_bytes(file.as_fd()).unwrap(), 0);
        let mut bytes = [9; 4];
        rustix::io::pread(&file, &mut bytes, 5 << 21).unwrap();
        assert_eq!(bytes, [0; 4]);
    }

    #[test]
    fn a_file_cannot_be_cut_or_sealed_by_whoever_holds_it() {
        let file = create("test", 4 << 20, Pages::Small).unwrap();
        assert_eq!(rustix::fs::ftruncate(&file, 0), Err(Errno::PERM));
        assert_eq!(rustix::fs::fcntl_add_seals(&file, SealFlags::WRITE), Err(Errno::PERM));
    }

    #[test]
    fn only_files_made_here_are_ours() {
        let file = create("test", 4 << 20, Pages::Small).unwrap();
        assert!(is_ours(file.as_fd(), 4 << 20, Pages::Small));
        assert!(!is_ours(file.as_fd(), 2 << 20, Pages::Small));
        assert!(!is_ours(file.as_fd(), 4 << 20, Pages::Huge2M));
        let unsealed = create_unsealed("test", 4 << 20).unwrap();
        assert!(!is_ours(unsealed.as_fd(), 4 << 20, Pages::Small));
        let null = std::fs::File::open("/dev/null").unwrap();
        assert!(!is_ours(null.as_fd(), 0, Pages::Small));
    }

    #[test]
    fn identity_follows_the_file() {
        let one = create("test", 4096, Pages::Small).unwrap();
        let two = create("test", 4096, Pages::Small).unwrap();
        let again = one.try_clone().unwrap();
        assert_eq!(identity(one.as_fd()).unwrap(), identity(again.as_fd()).unwrap());
        assert_ne!(identity(one.as_fd()).unwrap(), identity(two.as_fd()).unwrap());
    }
}
