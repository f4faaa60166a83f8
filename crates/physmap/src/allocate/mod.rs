//! One allocator of physical addresses.
//!
//! Linux had one, with which drivers of devices with private memory took what nobody seemed to use,
//! and was about to get a second one for CXL windows, which are not in firmware's map and therefore
//! seemed unused, too. "You should fix the normal allocator somehow to understand that the ranges
//! from FW have been reprogrammed by Linux", was the answer (Gunthorpe, 2022). This is that one:
//!
//! * **Regions** of CXL memory go upwards into what the decoder of their window decodes
//!   ([`region`], `alloc_hpa`). So do decoders that a program outside the kernel programs itself.
//! * **Device-private users** go downwards from the top of all addresses ([`private`]), and never
//!   into a window, nor into what looks like none and may be one.
//! * **Firmware** goes first: what it handed over, whenever we hear of it, is taken, and what was
//!   reprogrammed since is free again ([`learn`]).
//!
//! Invariants, asserted by [`Allocator::validate`]: no address has two owners; every owner's range
//! is in the tree; a region lies in what its window's decoder decodes; what is owned, otherwise
//! taken, and free in a window adds up to what its decoder decodes.
//!
//! Two differences from Linux, both on the safe side: a region is never placed where its decoder
//! does not decode (Linux takes all of a widened window), and never in a window that lies inside of
//! memory that firmware handed over (to Linux such a window is empty: 6.12 was seen to put a region
//! and its System RAM into one inside of a reserved range).
//!
//! A refused request changes nothing, and says who was in the way and what would have fitted
//! ([`error`]).

use alloc::{collections::BTreeMap, string::String};

use memtide_units::PhysRange;

use crate::{
    map::AddressMap,
    ranges,
    resource::{Kind, ResourceId},
};

pub mod error;
pub mod learn;
pub mod private;
pub mod region;
mod room;
#[cfg(test)]
mod tests;

pub use error::{Errno, LearnError, Missing, Obstacle, PrivateError, RegionError, ReleaseError};
pub use private::SECTION;
pub use region::{Holder, LinuxChoice, Media, RegionRequest};

/// Whether the decoders of a region are at work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Not yet, or not any more: the range may be given up.
    Configured,
    /// They are: accesses to the range go to devices.
    Active,
}

/// Who has a range.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owner {
    /// The range.
    pub range: PhysRange,
    /// [`Kind::CxlRegion`], [`Kind::UserDecoder`] or [`Kind::DevicePrivate`].
    pub kind: Kind,
    /// The window that it is in, by its place in the table; none for device-private users.
    pub window: Option<usize>,
    /// Whether accesses to it arrive.
    pub progress: Progress,
    resource: ResourceId,
}

/// What became of the addresses that a window's decoder decodes, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Account {
    /// All.
    pub decoded: u128,
    /// Given out from here.
    pub owned: u128,
    /// Taken by firmware, the kernel, or others.
    pub taken: u128,
    /// Free.
    pub free: u128,
}

/// The allocator, and the map that it keeps.
#[derive(Clone, Debug)]
pub struct Allocator {
    map: AddressMap,
    owners: BTreeMap<String, Owner>,
}

impl Allocator {
    /// Gives out what is free in a map.
    #[must_use]
    pub const fn new(map: AddressMap) -> Self {
        Self { map, owners: BTreeMap::new() }
    }

    /// The map as it is now.
    #[must_use]
    pub const fn map(&self) -> &AddressMap {
        &self.map
    }

    /// Who has what, by name.
    pub fn owners(&self) -> impl Iterator<Item = (&str, &Owner)> {
        self.owners.iter().map(|(name, owner)| (name.as_str(), owner))
    }

    /// What a name has.
    #[must_use]
    pub fn owner(&self, name: &str) -> Option<&Owner> {
        self.owners.get(name)
    }

    /// Says that the decoders of an owner are at work, or not any more.
    ///
    /// # Errors
    ///
    /// [`ReleaseError::NoSuchOwner`].
    pub fn set_progress(&mut self, name: &str, progress: Progress) -> Result<(), ReleaseError> {
        let owner = self.owners.get_mut(name);
        let owner = owner.ok_or_else(|| ReleaseError::NoSuchOwner { name: name.into() })?;
        owner.progress = progress;
        Ok(())
    }

    /// Takes a range back from its owner (`free_hpa`).
    ///
    /// # Errors
    ///
    /// [`ReleaseError`]; the owner keeps it then.
    pub fn release(&mut self, name: &str) -> Result<PhysRange, ReleaseError> {
        let owner = self.owners.get(name);
        let owner = owner.ok_or_else(|| ReleaseError::NoSuchOwner { name: name.into() })?;
        if owner.progress == Progress::Active {
            return Err(ReleaseError::Active { name: name.into() });
        }
        let (range, resource) = (owner.range, owner.resource);
        if let Some(inside) = self.map.tree.children(resource).first() {
            let by = self.map.tree.get(*inside).expect("a child is in the tree").clone();
            return Err(ReleaseError::InUse { name: name.into(), by });
        }
        self.map.tree.remove(resource).expect("an owner's range is in the tree");
        self.owners.remove(name);
        Ok(range)
    }

    /// What became of the addresses of a window; `None` if there is no such window.
    #[must_use]
    pub fn account(&self, window: usize) -> Option<Account> {
        let placed = self.map.windows.get(window)?;
        let mut account = Account::default();
        for part in &placed.territory {
            let owned = self.owners.values().filter(|owner| owner.window == Some(window));
            let owned = owned.filter_map(|owner| owner.range.intersection(part.range));
            account.decoded += part.range.bytes();
            account.owned += sum(owned);
            account.free += sum(self.map.free_in(part));
        }
        account.taken = account.decoded - account.owned - account.free;
        Some(account)
    }

    /// Asserts what must always hold.
    ///
    /// # Panics
    ///
    /// If it does not.
    pub fn validate(&self) {
        self.map.tree.validate();
        let owned = || self.owners.values().map(|owner| owner.range);
        let together = ranges::union(owned());
        assert_eq!(sum(together), sum(owned()), "no address has two owners");
        for (name, owner) in &self.owners {
            let resource = self.map.tree.get(owner.resource).expect("owners are in the tree");
            assert_eq!((&resource.name, resource.range), (name, owner.range));
            let around = self.map.owner_around(owner.resource);
            assert_eq!(around, None, "nobody else has what {name} has");
            if let Some(window) = owner.window {
                let territory = &self.map.windows[window].territory;
                assert!(territory.iter().any(|part| part.range.contains(owner.range)));
            }
        }
        for at in 0..self.map.windows.len() {
            let account = self.account(at).expect("there is such a window");
            assert_eq!(account.taken, self.taken_in(at), "what is not free is somebody's");
        }
    }

    /// What others have of a window, by looking at them: the other side of the account.
    fn taken_in(&self, window: usize) -> u128 {
        let mut taken = 0;
        for part in &self.map.windows[window].territory {
            let children = self.map.tree.children(part.resource);
            let owned = |id| {
                self.owners
                    .values()
                    .any(|owner| owner.resource == id && owner.window == Some(window))
            };
            let others = children.iter().filter(|&&id| !owned(id));
            let others = others.filter_map(|&id| self.map.tree.get(id));
            taken += match self.map.owner_around(part.resource) {
                Some(_) => part.range.bytes(),
                None => sum(others.filter_map(|it| it.range.intersection(part.range))),
            };
        }
        taken
    }
}

fn sum(ranges: impl IntoIterator<Item = PhysRange>) -> u128 {
    ranges.into_iter().map(PhysRange::bytes).sum()
}
