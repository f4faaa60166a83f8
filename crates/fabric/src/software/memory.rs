//! The memory behind a device's addresses: a sparse file for each host.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use memtide_cxl::command::HostId;
use memtide_sys::memfd::{self, Pages};
use memtide_units::DpaRange;

/// Why a host's memory cannot be had, or emptied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// No file.
    #[error("cannot make the memory file of {host}, of {capacity} bytes")]
    Create {
        /// Whose.
        host: HostId,
        /// How long it should be.
        capacity: u64,
        /// Why not.
        source: io::Error,
    },
    /// What is to be handed on cannot be emptied.
    #[error("cannot empty {range} of {host}")]
    Empty {
        /// Whose.
        host: HostId,
        /// What.
        range: DpaRange,
        /// Why not.
        source: io::Error,
    },
    /// No descriptor for it.
    #[error("cannot hand out the memory file of {host}")]
    Share {
        /// Whose.
        host: HostId,
        /// Why not.
        source: io::Error,
    },
}

/// All hosts' files.
#[derive(Debug)]
pub struct Memory {
    files: Vec<OwnedFd>,
}

impl Memory {
    /// Files of `capacity` bytes that use no memory yet.
    pub fn new(name: &str, hosts: u16, capacity: u64) -> Result<Self, MemoryError> {
        let file = |host: u16| {
            memfd::create(&format!("{name}-host{host}"), capacity, Pages::Small)
                .map_err(|source| MemoryError::Create { host: HostId(host), capacity, source })
        };
        Ok(Self { files: (0..hosts).map(file).collect::<Result<_, _>>()? })
    }

    /// A host's file, to be handed to it.
    pub fn share(&self, host: HostId) -> Result<OwnedFd, MemoryError> {
        let file = &self.files[usize::from(host.0)];
        file.try_clone().map_err(|source| MemoryError::Share { host, source })
    }

    /// Makes it read as zeroes, and frees what was behind it.
    pub fn empty(&self, host: HostId, range: DpaRange) -> Result<(), MemoryError> {
        let file = &self.files[usize::from(host.0)];
        memfd::punch_hole(file.as_fd(), range.start, range.length)
            .map_err(|errno| MemoryError::Empty { host, range, source: errno.into() })
    }
}
