//! Facts that arrive late.
//!
//! Firmware may have handed over more than was known when the map was made: decoders that it
//! programmed and locked, memory that it plugs in. And what it had set up may be void by now,
//! because the kernel reprogrammed it: a region that was destroyed, a Soft Reserved range that
//! nobody claimed. Both change what is free; neither may take from an owner what he has.

use alloc::vec::Vec;

use memtide_units::PhysRange;

use super::{Allocator, LearnError, Owner};
use crate::resource::{InsertError, Kind, Resource, ResourceId};

impl Allocator {
    /// Learns that a range is somebody's. What is wholly inside a region that the kernel has from
    /// here (its dax device, its memory) is the region's own business and goes inside.
    ///
    /// # Errors
    ///
    /// [`LearnError::Given`] if an owner has some of it, and [`LearnError::Insert`] if it overlaps
    /// something in part.
    pub fn hand_over(&mut self, resource: Resource) -> Result<(), LearnError> {
        let range = resource.range;
        let own = |owner: &Owner| owner.kind == Kind::CxlRegion && owner.range.contains(range);
        self.not_given(range, |owner| !own(owner))?;
        let region = self.owners.values().find(|owner| own(owner)).map(|owner| owner.resource);
        let tree = &mut self.map.tree;
        match region {
            None => tree.insert(tree.root(), resource)?,
            // A dax device has the range of its region, and its memory that of the dax device.
            Some(region) => match tree.nest(region, resource.clone()) {
                Err(InsertError::Conflict { .. }) => tree.insert(region, resource)?,
                nested => nested?,
            },
        };
        Ok(())
    }

    /// Learns that what firmware had set up in a range is void: Soft Reserved ranges, regions that
    /// are not from here, dax devices and persistent memory are taken out, and returned.
    ///
    /// # Errors
    ///
    /// If something else is in it, or only a part of something; nothing has changed then.
    pub fn reprogrammed(&mut self, range: PhysRange) -> Result<Vec<Resource>, LearnError> {
        self.not_given(range, |_| true)?;
        let mut void: Vec<ResourceId> = Vec::new();
        for (_, id) in self.map.tree.walk(self.map.tree.root()) {
            let it = self.map.tree.get(id).expect("what is walked over is in the tree");
            if !it.range.overlaps(range) || it.kind == Kind::CxlWindow {
                continue;
            }
            if !range.contains(it.range) {
                return Err(LearnError::Part { range, of: it.clone() });
            }
            match it.kind {
                Kind::SoftReserved | Kind::CxlRegion | Kind::Dax | Kind::Persistent => {
                    void.push(id)
                }
                _ => return Err(LearnError::InUse { range, by: it.clone() }),
            }
        }
        let take = |id| self.map.tree.remove(id).expect("it was in the tree just now");
        Ok(void.into_iter().map(take).collect())
    }

    fn not_given(
        &self,
        range: PhysRange,
        matters: impl Fn(&Owner) -> bool,
    ) -> Result<(), LearnError> {
        let mut owners = self.owners();
        match owners.find(|(_, owner)| owner.range.overlaps(range) && matters(owner)) {
            None => Ok(()),
            Some((name, owner)) => {
                Err(LearnError::Given { range, owner: name.into(), owned: owner.range })
            }
        }
    }
}
