//! A device's dynamic capacity as a node's memory.
//!
//! The device, or the fabric in its place, hands over one file for this host. It is as long as the
//! device's addresses, and what the host has accepted lies in it at its device address: pageblock
//! `p` of the node is the device's address `(p − first) × 2 MiB`. All images have this one file.
//! Files of the images' own would be the machine's memory, not the device's, so there is no way
//! here to have the kernel keep images apart: whoever has the file reads all of it. Who is given
//! it is the daemon's business.
//!
//! An image that is not given it, or not yet, has an empty file of its own in its place
//! ([`Store::create_file`]): every image has one file for each node, and pageblocks of this one are
//! leased to nobody who lacks the device's.

use std::os::fd::OwnedFd;

use crate::{
    error::StoreError,
    file::NodeFile,
    store::{Backing, Store},
};

impl Store {
    /// The device's memory.
    ///
    /// # Errors
    /// [`StoreError::Io`]; [`StoreError::ForeignFile`] on a node that is no device's.
    pub fn device_file(&self, fd: OwnedFd) -> Result<NodeFile, StoreError> {
        if self.backing() != Backing::Dcd {
            return Err(StoreError::ForeignFile { size: self.size() });
        }
        self.file(fd)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use memtide_sys::memfd::{self, Pages};
    use memtide_units::{ByteSize, Extent, PAGEBLOCK_BYTES, Pageblock};

    use super::*;

    #[test]
    fn a_devices_memory_is_shorter_than_its_window_and_is_emptied_all_the_same() {
        let store = Store::new("dcd0", Backing::Dcd, Pageblock(100), 8);
        let device = memfd::create("device", 4 * PAGEBLOCK_BYTES, Pages::Small).unwrap();
        let file = store.device_file(device.try_clone().unwrap()).unwrap();
        for block in 0..4 {
            rustix::io::pwrite(&device, b"x", block * PAGEBLOCK_BYTES).unwrap();
        }
        file.zero(Extent::new(Pageblock(102), 1)).unwrap();
        assert_eq!(file.allocated().unwrap(), ByteSize(3 * 4096));
        file.zero_all_but(&[Extent::new(Pageblock(101), 1)]).unwrap();
        assert_eq!(memfd::allocated_bytes(device.as_fd()).unwrap(), 4096);
        let own = store.create_file().unwrap();
        assert!(own.is_shared() && own.identity() != file.identity());
    }

    #[test]
    fn a_node_of_memory_takes_no_device() {
        let store = Store::new("near", Backing::Memfd, Pageblock(0), 4);
        let file = memfd::create("x", 4096, Pages::Small).unwrap();
        assert!(store.device_file(file).is_err());
    }
}
