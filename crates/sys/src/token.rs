//! Tokens: proof that a process, and all that it forked, are gone.
//!
//! A token is a one-page memory file that the process maps shared and writable. The kernel
//! refuses to seal a file against writing as long as any process has such a mapping of it
//! (`EBUSY`). A fork inherits the mapping; exit and exec drop it. So sealing succeeds exactly when
//! the last of them is gone, whatever they did with their descriptors.
//!
//! References: fcntl(2) (`F_ADD_SEALS`), `mm/memfd.c`.

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
    ptr,
};

use rustix::{
    fs::SealFlags,
    io::Errno,
    mm::{MapFlags, ProtFlags},
};

use crate::memfd;

const BYTES: usize = 4096;

/// A mapping of a token. Dropping the value keeps the mapping: it is to last as long as the
/// process.
#[derive(Debug)]
pub struct TokenMap {
    address: usize,
}

impl TokenMap {
    /// Where the mapping lies.
    #[must_use]
    pub const fn address(&self) -> usize {
        self.address
    }

    /// The mapping at an address that [`TokenMap::address`] gave, in this process or in the one
    /// that forked it.
    ///
    /// # Safety
    /// The address comes from [`TokenMap::address`], the mapping is still there, and no other
    /// value unmaps it.
    #[must_use]
    pub const unsafe fn from_address(address: usize) -> Self {
        Self { address }
    }

    /// Drops this process's mapping.
    ///
    /// # Errors
    /// Those of munmap(2).
    pub fn unmap(self) -> Result<(), Errno> {
        // SAFETY: the value owns the mapping of BYTES at this address (`map`, `from_address`), and
        // no reference into it was ever made.
        unsafe { rustix::mm::munmap(ptr::without_provenance_mut(self.address), BYTES) }
    }
}

/// A token that nobody maps yet.
///
/// # Errors
/// Those of memfd_create(2).
pub fn create() -> Result<OwnedFd, Errno> {
    memfd::create_unsealed("memtide-token", BYTES as u64)
}

/// Maps a token into this process.
///
/// # Errors
/// Those of mmap(2); [`Errno::PERM`] when it has been found gone before.
pub fn map(token: BorrowedFd<'_>) -> Result<TokenMap, Errno> {
    let prot = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a mapping at an address that the kernel chooses touches no existing memory.
    let address =
        unsafe { rustix::mm::mmap(ptr::null_mut(), BYTES, prot, MapFlags::SHARED, token, 0)? };
    Ok(TokenMap { address: address.addr() })
}

/// Whether no process maps the token. Once true it stays true.
///
/// # Errors
/// When the descriptor is no token, or somebody has sealed it in another way; then it never tells.
pub fn is_gone(token: BorrowedFd<'_>) -> io::Result<bool> {
    match rustix::fs::fcntl_add_seals(token, SealFlags::WRITE) {
        Ok(()) => Ok(true),
        Err(Errno::BUSY) => Ok(false),
        Err(Errno::PERM)
            if rustix::fs::fcntl_get_seals(token)
                .is_ok_and(|seals| seals.contains(SealFlags::WRITE)) =>
        {
            Ok(true)
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_mapped_token_is_not_gone() {
        let token = create().unwrap();
        let map = map(token.as_fd()).unwrap();
        assert!(!is_gone(token.as_fd()).unwrap());
        map.unmap().unwrap();
        assert!(is_gone(token.as_fd()).unwrap());
        assert!(is_gone(token.as_fd()).unwrap(), "it stays so");
        assert_eq!(super::map(token.as_fd()).unwrap_err(), Errno::PERM);
    }

    #[test]
    fn what_is_no_token_is_an_error() {
        let null = std::fs::File::open("/dev/null").unwrap();
        assert!(is_gone(null.as_fd()).is_err());
        let file = memfd::create("test", 4096, memfd::Pages::Small).unwrap();
        assert!(is_gone(file.as_fd()).is_err(), "sealed against sealing");
    }
}
