//! A range for who has memory that processors cannot reach, and needs page numbers for it
//! (`request_free_mem_region`).
//!
//! Nothing is decoded there, so any addresses will do that nobody uses, and the highest ones are
//! the least likely to be wanted. The kernel takes "nobody uses" from its tree alone; here it is
//! also what was set aside: windows that were left out of the map and that the hardware decodes
//! all the same, and ranges where memory may be plugged in.

use alloc::string::String;

use memtide_units::PhysRange;

use super::{Allocator, Owner, PrivateError, Progress, room};
use crate::resource::{Direction, Kind, Resource, Search};

/// The alignment: a section of the memory map (x86-64: 2^27 bytes).
pub const SECTION: u64 = 1 << 27;

impl Allocator {
    /// Gives a device-private user the highest free range, of whole sections, and marks it busy.
    ///
    /// # Errors
    ///
    /// [`PrivateError`]; nothing has changed then.
    pub fn allocate_private(&mut self, name: &str, bytes: u64) -> Result<PhysRange, PrivateError> {
        let named = || String::from(name);
        if bytes == 0 {
            return Err(PrivateError::NoBytes { name: named() });
        }
        if let Some(owner) = self.owner(name) {
            return Err(PrivateError::Name { name: named(), range: owner.range });
        }
        let root = self.map.tree.root();
        let Ok(range) = self.map.tree.find_free(root, bytes, &self.downwards()) else {
            return Err(self.no_room_for(named(), bytes));
        };
        let resource = Resource::busy(range, Kind::DevicePrivate, name);
        let resource = self.map.tree.request_region(root, resource)?;
        let (kind, progress) = (Kind::DevicePrivate, Progress::Configured);
        let owner = Owner { range, kind, window: None, progress, resource };
        self.owners.insert(named(), owner);
        Ok(range)
    }

    /// The largest size that would find a range now, in bytes; 0 if none would.
    #[must_use]
    pub fn largest_private(&self) -> u64 {
        let root = self.map.tree.root();
        let largest = self.map.tree.largest_free(root, SECTION, &self.downwards());
        largest.expect("the root is there, and a section is aligned to itself")
    }

    fn downwards(&self) -> Search<'_> {
        let direction = Direction::Descending;
        Search { within: self.all(), align: SECTION, direction, avoid: &self.map.set_aside }
    }

    /// All addresses up to the last one that ends a section.
    fn all(&self) -> PhysRange {
        let root = self.map.tree.get(self.map.tree.root()).expect("the root stays").range;
        let end = root.last().checked_add(1).map(|end| end.align_down(SECTION));
        let last = end.map_or(Some(root.last()), |end| end.checked_sub(1));
        last.and_then(|last| PhysRange::new(root.start(), last)).unwrap_or(root)
    }

    fn no_room_for(&self, name: String, size: u64) -> PrivateError {
        let (tree, root, all) = (&self.map.tree, self.map.tree.root(), self.all());
        let gaps = tree.gaps(root, all, &self.map.set_aside).expect("the root stays");
        let around = tree.children(root).iter().filter_map(|&id| tree.get(id));
        let obstacle = room::obstacle(size, SECTION, gaps, around);
        let largest = self.largest_private();
        PrivateError::NoRoom { name, size, top: all.last(), obstacle, largest }
    }
}
