//! Processes and images.
//!
//! A process is named by its life token: also a forked child that has not joined has one. One
//! that joined has a member name too.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    sync::Arc,
};

use memtide_units::{ImageId, Instant, MemberId, Pageblock, TenantId};

use crate::{mempolicy::Turn, place::Route};

use crate::{loss::Loss, sums::Parts};

/// One process, alive or not known to be dead.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Process {
    pub(crate) image: ImageId,
    pub(crate) link: Link,
    pub(crate) pid: u32,
    pub(crate) name: String,
    /// Where what it leases goes.
    pub(crate) route: Arc<Route>,
    /// The parts of nodes that it may be given anything of, ascending.
    pub(crate) reach: Parts,
    /// Where its interleaving goes on.
    pub(crate) turn: Turn,
    /// When it disconnected, if it has since this engine was made.
    pub(crate) left_at: Option<Instant>,
    /// Pageblocks it promised itself.
    pub(crate) committed: u64,
    /// What it says to be promised beyond that, and is not ([`crate::recovery`]).
    pub(crate) unkept: u64,
    /// Pageblocks it has a stake in.
    pub(crate) held: BTreeSet<Pageblock>,
    /// How many of them it owns.
    pub(crate) owned: u64,
    /// How many of them it has been told to thaw.
    pub(crate) thawing: u64,
    /// Pairs it has been ordered to move and not answered.
    pub(crate) in_flight: u32,
    pub(crate) waiting: Waiting,
    /// What it lost and has not let go of.
    pub(crate) lost: BTreeMap<Pageblock, Loss>,
}

/// Whether one can speak with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Link {
    /// A forked child that has not joined.
    Unborn,
    /// It joined, and its connection is there.
    Connected(MemberId),
    /// Its connection is gone, but something still maps its token.
    Disconnected(MemberId),
}

/// Whether it owes an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Waiting {
    /// No.
    No,
    /// Since it was last heard of; it stalls at this time.
    Until(Instant),
    /// For too long.
    Stalled,
}

impl Process {
    pub(crate) fn new(
        image: ImageId,
        link: Link,
        pid: u32,
        name: String,
        route: Arc<Route>,
    ) -> Self {
        Self {
            image,
            link,
            pid,
            name,
            route,
            reach: Arc::new([]),
            turn: Turn::default(),
            left_at: None,
            committed: 0,
            unkept: 0,
            held: BTreeSet::new(),
            owned: 0,
            thawing: 0,
            in_flight: 0,
            waiting: Waiting::No,
            lost: BTreeMap::new(),
        }
    }

    /// Whether an order reaches it and will be answered, as far as one can know.
    pub(crate) fn answers(&self) -> bool {
        matches!(self.link, Link::Connected(_)) && self.waiting != Waiting::Stalled
    }

    /// Its member name, if it joined.
    pub(crate) const fn member(&self) -> Option<MemberId> {
        match self.link {
            Link::Unborn => None,
            Link::Connected(member) | Link::Disconnected(member) => Some(member),
        }
    }

    /// Pageblocks that it must be able to have: what it promised itself, or has.
    pub(crate) const fn promised(&self) -> u64 {
        if self.committed > self.owned { self.committed } else { self.owned }
    }
}

/// One image.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Image {
    /// Who is charged for what it has.
    pub(crate) tenant: TenantId,
    /// Its processes, unborn ones included.
    pub(crate) processes: u64,
    /// Pageblocks that are leased to them, or not yet zeroed after them.
    pub(crate) pageblocks: u64,
    /// The process number of the first, for people.
    pub(crate) pid: u32,
    /// The name of the first, for people.
    pub(crate) name: String,
}
