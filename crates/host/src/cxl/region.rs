//! Regions: ranges of a window that memory devices back together.
//!
//! A region is made step by step (interleave, size, targets, commit), by firmware or from user
//! space, and may be left half made: what is not set yet is `None`. Only when it is committed *and*
//! its driver is bound does its memory appear, as a dax region.

use memtide_units::{ByteSize, PhysAddr, PhysRange};
use serde::Serialize;

use super::{DEVICES, decoder};
use crate::{
    Notes, Root,
    access::{self, AccessClass},
    attributes::{Folder, device_path, number_after, numbered},
};

/// Devices of a region (interleave ways of the HDM decoder, CXL 3.1, 8.2.4.20.7).
const WAYS_MAX: usize = 16;

/// A region.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Region {
    /// `regionN`.
    pub name: String,
    /// The window that it lies in.
    pub decoder: Option<String>,
    /// Where it starts, once it has a size.
    pub start: Option<PhysAddr>,
    /// Its size; 0 until it is given one.
    pub size: Option<ByteSize>,
    /// How many devices take part.
    pub interleave_ways: Option<u32>,
    /// Bytes at one device before the next one's turn.
    pub interleave_granularity: Option<u32>,
    /// `ram` or `pmem`.
    pub mode: Option<String>,
    /// Of persistent memory; captures leave it out.
    pub uuid: Option<String>,
    /// Endpoint decoders by position; `None` is a position that is not filled yet.
    pub targets: Vec<Option<String>>,
    /// Whether the hardware decodes it.
    pub committed: Option<bool>,
    /// The driver that is bound; none means disabled.
    pub driver: Option<String>,
    /// What reaching it costs, if known.
    pub access: Vec<AccessClass>,
}

/// Whether a device of this name is a region.
pub(super) fn is_name(name: &str) -> bool {
    number_after(name, "region").is_some()
}

impl Region {
    /// The region of that name (`region0`).
    #[must_use]
    pub fn read(root: &Root, name: &str, notes: &mut Notes) -> Self {
        let path = format!("{DEVICES}/{name}");
        let mut parts = device_path(root, &path);
        parts.pop();
        let decoder = parts.pop().filter(|name| decoder::port_number(name).is_some());
        let access = access::of_region(root, &path, notes);
        let positions = notes.keep_list(numbered(root, &path, "target"));
        let ends = positions.iter().map(|(_, position)| *position as usize + 1);
        let ways = ends.max().unwrap_or(0).min(WAYS_MAX);
        let mut folder = Folder::new(root, path, notes);
        Self {
            name: name.to_owned(),
            decoder,
            start: folder.address("resource"),
            size: folder.size("size"),
            interleave_ways: folder.small("interleave_ways").filter(|&ways| ways > 0),
            interleave_granularity: folder.small("interleave_granularity").filter(|&g| g > 0),
            mode: folder.word("mode"),
            uuid: folder.word("uuid"),
            targets: (0..ways).map(|position| folder.word(&format!("target{position}"))).collect(),
            committed: folder.flag("commit"),
            driver: folder.link("driver"),
            access,
        }
    }

    /// Its range, once it has one and if that may be known.
    #[must_use]
    pub fn range(&self) -> Option<PhysRange> {
        PhysRange::from_size(self.start?, self.size?.0)
    }
}
