//! One leased pageblock: who holds it, how it is mapped, what keeps it in place.
//!
//! A pageblock is leased by a process, its *owner*, alone, until the owner forks. From then on
//! the child, and its children, hold it too: each holder has a *stake*. A holder's stake goes
//! when it releases the pageblock or dies; when the owner's goes, the eldest of the others
//! becomes the owner. How the owner maps it:
//!
//! ```text
//!          ForkBegin                 alone again            Thawed
//!   Own ─────────────► Shared ─────────────────► Thawing ─────────► Own
//!                        ▲    (Effect::Thaw)        │
//!                        └──────────────────────────┘
//!                          ForkBegin, connection lost
//! ```
//!
//! Only in `Own`, with no pins and no order under way, can it be moved.

use alloc::{sync::Arc, vec::Vec};

use memtide_units::{HoldReason, ImageId, Instant, MoveId, TokenId};

use crate::{heat::Heat, place::Route};

/// One leased pageblock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Lease {
    pub(crate) image: ImageId,
    pub(crate) share: Share,
    pub(crate) flight: Option<Flight>,
    pub(crate) owner: Stake,
    /// By seniority.
    pub(crate) others: Vec<Stake>,
    pub(crate) heat: Heat,
    /// Where the policy leads that it was asked for with; without one, its owner's counts.
    pub(crate) route: Option<Arc<Route>>,
}

/// How the owner maps it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Share {
    /// Shared: it is the owner's alone.
    Own,
    /// Private: the content is frozen, others may see it.
    Shared,
    /// Private, and told to map it shared again.
    Thawing,
}

/// What one process has of a pageblock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Stake {
    pub(crate) token: TokenId,
    pub(crate) pins: Pins,
}

/// The end of a pair in an order that is not answered yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Flight {
    pub(crate) order: MoveId,
    pub(crate) end: End,
}

/// Which end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Source,
    Destination,
}

/// A pageblock that nobody holds any more, before it is free.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Residue {
    pub(crate) image: ImageId,
    /// Whether the store has zeroed it.
    pub(crate) zeroed: bool,
    /// The order that was to move it away, while that is not answered: if it were leased to the
    /// same process again, the process could take the old order to mean the new lease.
    pub(crate) order: Option<MoveId>,
}

/// What a pageblock lets one do with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    /// It can be ordered to move.
    Movable,
    /// It is ordered to move.
    Leaving,
    /// It will be movable, or gone, by itself: something was ordered and not answered yet.
    Unsettled,
    /// It stays until the process does something of its own accord.
    Held(TokenId, HoldReason),
}

impl Lease {
    pub(crate) fn new(image: ImageId, token: TokenId, share: Share, now: Instant) -> Self {
        let owner = Stake { token, pins: Pins::NONE };
        let (others, heat) = (Vec::new(), Heat::new(now));
        Self { image, share, flight: None, owner, others, heat, route: None }
    }

    pub(crate) fn stakes(&self) -> impl Iterator<Item = &Stake> {
        core::iter::once(&self.owner).chain(&self.others)
    }

    pub(crate) fn stake_mut(&mut self, token: TokenId) -> Option<&mut Stake> {
        core::iter::once(&mut self.owner).chain(&mut self.others).find(|stake| stake.token == token)
    }

    /// The first pin there is, and whose.
    pub(crate) fn pinned(&self) -> Option<(TokenId, HoldReason)> {
        self.stakes().find_map(|stake| Some((stake.token, stake.pins.first()?)))
    }
}

/// A set of reasons.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pins(u32);

impl Pins {
    pub(crate) const NONE: Self = Self(0);

    const fn bit(reason: HoldReason) -> u32 {
        1 << reason as u32
    }

    pub(crate) const fn insert(&mut self, reason: HoldReason) {
        self.0 |= Self::bit(reason);
    }

    pub(crate) const fn remove(&mut self, reason: HoldReason) {
        self.0 &= !Self::bit(reason);
    }

    pub(crate) const fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }

    pub(crate) const fn has(self, reason: HoldReason) -> bool {
        self.0 & Self::bit(reason) != 0
    }

    /// The first reason in the order of [`HoldReason::ALL`].
    pub(crate) fn first(self) -> Option<HoldReason> {
        HoldReason::ALL.into_iter().find(|&reason| self.has(reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_a_set() {
        let mut pins = Pins::NONE;
        assert_eq!(pins.first(), None);
        for reason in HoldReason::ALL {
            pins.insert(reason);
            assert_eq!(pins.first(), Some(reason));
            pins.insert(reason);
            pins.remove(reason);
            assert_eq!(pins, Pins::NONE);
        }
    }
}
