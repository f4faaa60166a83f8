//! The one map: the tree, the windows in it, and what has to stay free.
//!
//! It comes from firmware's tables ([`crate::reconcile`]), or from a running kernel's
//! ([`crate::kernel_map`]); from then on [`crate::allocate`] keeps it.

use alloc::vec::Vec;

use memtide_units::PhysRange;

use crate::{
    resource::{Kind, Resource, ResourceId, Tree},
    windows::PlacedWindow,
};

/// Who has which physical addresses.
#[derive(Clone, Debug)]
pub struct AddressMap {
    /// All that is known to be somewhere.
    pub tree: Tree,
    /// The CXL windows, in the order of the table.
    pub windows: Vec<PlacedWindow>,
    /// Addresses that seem free and are not for device-private users: windows that were left out,
    /// which the hardware may decode all the same, and ranges where firmware announces memory that
    /// may be plugged in. Sorted and apart.
    pub set_aside: Vec<PhysRange>,
}

impl AddressMap {
    /// Who has all of a resource because his memory is around it: nothing inside is free then,
    /// though the resource itself may look empty.
    ///
    /// What is merely reserved around a window keeps it free: many a firmware reserves its windows,
    /// so that nobody takes their addresses for devices.
    #[must_use]
    pub fn owner_around(&self, resource: ResourceId) -> Option<&Resource> {
        let mut inner = resource;
        loop {
            inner = self.tree.parent(inner).filter(|&outer| outer != self.tree.root())?;
            let around = self.tree.get(inner)?;
            if !matches!(around.kind, Kind::CxlWindow | Kind::Reserved | Kind::Device) {
                return Some(around);
            }
        }
    }
}
