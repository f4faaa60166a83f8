//! What a device remembers of one host.

use alloc::{
    collections::{BTreeSet, VecDeque},
    vec::Vec,
};

use memtide_units::{DcExtent, DpaRange, Tag};

use super::{held::Held, log::Log, ranges::Ranges};

/// A host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Host {
    /// What it was offered and has not answered, the oldest first.
    pub(super) offers: VecDeque<Offer>,
    /// What it has accepted.
    pub(super) held: Held,
    /// Another number whenever `held` changed.
    pub(super) generation: u32,
    /// Its event log.
    pub(super) log: Log,
    /// The answer that it is giving.
    pub(super) answer: Chain,
    /// The release that it is telling of.
    pub(super) release: Chain,
    /// What of `held` is to be overwritten when it is released, whatever its region says.
    pub(super) sanitize: Ranges,
}

/// What a host was offered at once; it answers it at once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Offer {
    /// What.
    pub(super) extents: Vec<DcExtent>,
    /// Whether it can still be accepted.
    pub(super) state: OfferState,
}

/// Whether an offer can be accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum OfferState {
    /// Yes.
    Open,
    /// No: it was taken back, and its capacity is not the host's any more. It waits for the host's
    /// answer, which is a refusal.
    Dead,
}

/// Commands that are one, told in parts.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) enum Chain {
    /// Nothing was told.
    #[default]
    Idle,
    /// This was.
    Open(Vec<DpaRange>),
    /// Something was wrong: the rest, up to its end, is refused, too.
    Broken,
}

impl Chain {
    /// Another chained command came in between.
    pub(super) fn interrupt(&mut self) {
        if matches!(self, Self::Open(_)) {
            *self = Self::Broken;
        }
    }
}

impl Host {
    pub(super) fn new(event_records: u16) -> Self {
        Self {
            offers: VecDeque::new(),
            held: Held::default(),
            generation: 0,
            log: Log::new(event_records),
            answer: Chain::Idle,
            release: Chain::Idle,
            sanitize: Ranges::default(),
        }
    }

    /// Everything that is remembered of it: dead offers, too (CXL 3.1, 9.13.3.3).
    pub(super) fn tracked(&self) -> impl Iterator<Item = &DcExtent> {
        let offered = self.offers.iter().flat_map(|offer| &offer.extents);
        offered.chain(self.held.iter())
    }

    /// What it can still accept.
    pub(super) fn offered(&self) -> impl Iterator<Item = &DcExtent> {
        let open = self.offers.iter().filter(|offer| offer.state == OfferState::Open);
        open.flat_map(|offer| &offer.extents)
    }

    /// The tags of all that is remembered of it.
    pub(super) fn tags(&self) -> BTreeSet<Tag> {
        self.tracked().map(|extent| extent.tag).filter(|tag| !tag.is_null()).collect()
    }

    /// Whether it has, or can accept, something under a tag.
    pub(super) fn uses(&self, tag: Tag) -> bool {
        self.held.iter().chain(self.offered()).any(|extent| extent.tag == tag)
    }

    pub(super) fn list_changed(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }
}
