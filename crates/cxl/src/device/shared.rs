//! Sharable capacity: under one tag, for many hosts (CXL 3.1, 9.13.3.2), and the manager's
//! references to it (5606h, 5607h: 7.6.7.6.7 and 7.6.7.6.8).

use alloc::{collections::BTreeSet, vec::Vec};

use memtide_units::{DcExtent, Tag};

use super::{Device, Refusal};
use crate::command::{
    Sanitize,
    fabric_manager::{AddReference, RemoveReference},
};

/// Sharable capacity.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Shared {
    /// In which region.
    pub(super) region: u8,
    /// All of it, by sequence number.
    pub(super) extents: Vec<DcExtent>,
    /// Who has accepted it.
    pub(super) holders: BTreeSet<usize>,
    /// Who can accept it.
    pub(super) pending: BTreeSet<usize>,
    /// Whether the manager keeps it.
    pub(super) referenced: bool,
    /// What happens to it when nobody keeps it any more.
    pub(super) end: End,
}

/// What happens at the end of sharable capacity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// Nothing: nobody ever had it.
    Untouched,
    /// What the region says.
    AsRegion,
    /// It is overwritten: somebody asked for that.
    Sanitize,
}

impl Shared {
    /// Whether a host has it, or can accept it.
    pub(super) fn is_with(&self, host: usize) -> bool {
        self.holders.contains(&host) || self.pending.contains(&host)
    }
}

impl Device {
    /// Keeps what is under a sharable tag, also when no host has it any more. Once or often is
    /// the same.
    ///
    /// # Errors
    /// There is no such tag.
    pub fn add_reference(&mut self, request: &AddReference) -> Result<(), Refusal> {
        let tag = request.0;
        let shared = self.shared.get_mut(&tag).ok_or(Refusal::NoSharedTag { tag })?;
        shared.referenced = true;
        self.tags_changed();
        Ok(())
    }

    /// No longer keeps it; if no host has it, and none is offered it, it is free, or overwritten
    /// first.
    ///
    /// # Errors
    /// There is no such tag.
    pub fn remove_reference(&mut self, request: &RemoveReference) -> Result<(), Refusal> {
        let tag = request.0;
        let shared = self.shared.get_mut(&tag).ok_or(Refusal::NoSharedTag { tag })?;
        shared.referenced = false;
        self.settle(tag);
        self.tags_changed();
        Ok(())
    }

    /// A host has accepted what is under a tag.
    pub(super) fn now_held(&mut self, tag: Tag, host: usize) {
        let shared = self.shared.get_mut(&tag).expect("sharable capacity is remembered");
        shared.pending.remove(&host);
        shared.holders.insert(host);
        if shared.end == End::Untouched {
            shared.end = End::AsRegion;
        }
    }

    /// A host neither has what is under a tag, nor can accept it.
    pub(super) fn no_longer(&mut self, tag: Tag, host: usize) {
        let shared = self.shared.get_mut(&tag).expect("sharable capacity is remembered");
        shared.pending.remove(&host);
        shared.holders.remove(&host);
        self.settle(tag);
    }

    /// Somebody wants it overwritten at its end.
    pub(super) fn sanitize_shared(&mut self, tag: Tag) {
        self.shared.get_mut(&tag).expect("sharable capacity is remembered").end = End::Sanitize;
    }

    /// Frees what nobody keeps.
    fn settle(&mut self, tag: Tag) {
        let kept = |shared: &Shared| {
            shared.referenced || !shared.holders.is_empty() || !shared.pending.is_empty()
        };
        if self.shared.get(&tag).is_none_or(kept) {
            return;
        }
        let shared = self.shared.remove(&tag).expect("it was just looked at");
        let sanitize = match shared.end {
            End::Untouched => Sanitize::Never,
            End::AsRegion => self.regions[usize::from(shared.region)].config.sanitize,
            End::Sanitize => Sanitize::OnRelease,
        };
        for extent in shared.extents {
            self.free(extent.range, sanitize);
        }
    }
}
