//! What processes wait for: in two lines each, leases and promises ([`crate::queue`]).

use alloc::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use memtide_units::{Instant, Pageblock, TokenId};

use crate::{decision::Asked, place::Route};

/// What a process asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Wish {
    /// So many pageblocks, one of them to follow this one, along this route.
    Lease(u32, Option<Pageblock>, Arc<Route>),
    /// To be promised so many pageblocks more.
    Promise(u64),
}

/// The two lines of a process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Line {
    Leases,
    Promises,
}

/// One line of one process.
pub(crate) type Place = (TokenId, Line);

/// A wish that waits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Waiting {
    /// The order of arrival.
    pub(crate) number: u64,
    pub(crate) wish: Wish,
    /// Until when in any case.
    pub(crate) until: Instant,
    /// Until when if memory is on its way back.
    pub(crate) patient_until: Instant,
}

/// All that waits.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Queue {
    /// Line by line, in the order of asking; none is empty.
    pub(crate) of: BTreeMap<Place, VecDeque<Waiting>>,
    pub(crate) count: usize,
    next: u64,
}

impl Wish {
    pub(crate) const fn line(&self) -> Line {
        match self {
            Self::Lease(..) => Line::Leases,
            Self::Promise(_) => Line::Promises,
        }
    }

    pub(crate) const fn asked(&self) -> Asked {
        match *self {
            Self::Lease(count, ..) => Asked::Lease(count as u64),
            Self::Promise(by) => Asked::Promise(by),
        }
    }
}

impl Queue {
    /// The first wish of every line.
    pub(crate) fn heads(&self) -> impl Iterator<Item = (Place, &Waiting)> {
        self.of.iter().map(|(&place, all)| (place, &all[0]))
    }

    /// What a process waits for, line by line.
    fn lines_of(&self, token: TokenId) -> impl Iterator<Item = (Place, &VecDeque<Waiting>)> {
        let lines = self.of.range((token, Line::Leases)..=(token, Line::Promises));
        lines.map(|(&place, all)| (place, all))
    }

    /// The line of a process that has waited longest.
    pub(crate) fn oldest_of(&self, token: TokenId) -> Option<Place> {
        let lines = self.lines_of(token);
        lines.min_by_key(|(_, all)| all[0].number).map(|(place, _)| place)
    }

    pub(crate) fn push(
        &mut self,
        token: TokenId,
        wish: Wish,
        until: Instant,
        patient_until: Instant,
    ) {
        let place = (token, wish.line());
        let waiting = Waiting { number: self.next, wish, until, patient_until };
        self.next += 1;
        self.count += 1;
        self.of.entry(place).or_default().push_back(waiting);
    }

    pub(crate) fn pop(&mut self, place: Place) -> Waiting {
        let all = self.of.get_mut(&place).expect("the caller found it waiting");
        let head = all.pop_front().expect("whoever waits has a wish");
        if all.is_empty() {
            self.of.remove(&place);
        }
        self.count -= 1;
        head
    }

    /// A process wants nothing any more.
    pub(crate) fn forget(&mut self, token: TokenId) {
        for line in [Line::Leases, Line::Promises] {
            self.count -= self.of.remove(&(token, line)).map_or(0, |all| all.len());
        }
    }
}
