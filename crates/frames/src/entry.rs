//! One word of state for each pageblock.
//!
//! ```text
//!            add                  claim                       last frame taken
//!  Absent ─────────► Free ◄──────────────────► Owned ◄────────────────────────► Full
//!     ▲               ▲  all free      put back  ▲ │                       a frame freed
//!     │ remove        │                          │ │ put back
//!     │               │ give           claim     │ ▼
//!  Isolated ◄──────── Head (+ Tails) ◄───────── Owned ─────────► Listed
//! ```
//!
//! *Reserved* is owned too, by a reservation, and is put back or becomes *Head* like *Owned*.
//!
//! A pageblock that is *Free* or *Listed* stands in an [`crate::index::Index`], and whoever takes
//! it out of there owns it: only the owner of a pageblock changes its entry. *Full*, *Isolated*
//! and *Head* pageblocks stand in no index; an exchange of the whole word decides who owns them
//! next.

use crate::{request::Movability, zone::Zone};

/// What a pageblock is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u64)]
pub(crate) enum State {
    /// Not part of the pool. All metadata of an absent pageblock is zero.
    Absent = 0,
    /// No frame of it is taken.
    Free = 1,
    /// Some frames are taken, some are not; listed by movability and grade.
    Listed = 2,
    /// Every frame is taken.
    Full = 3,
    /// Somebody has it to itself: a core (`link` is its number plus one), or an operation.
    Owned = 4,
    /// The first of a block of order 9 or more.
    Head = 5,
    /// Another of such a block.
    Tail = 6,
    /// Being emptied: nothing is handed out of it.
    Isolated = 7,
    /// Part of a reservation; `link` is the next of it, plus one.
    Reserved = 8,
}

/// The link of an *Owned* pageblock that is being removed from the pool.
pub(crate) const LEAVING: u64 = u32::MAX as u64;

/// How many grades of fullness a listed pageblock may have.
pub(crate) const GRADES: usize = 6;

/// Which grade a pageblock with this many free frames has: 0 is nearly full, 5 nearly empty.
pub(crate) const fn grade_of(free: u64) -> u64 {
    match free {
        0..16 => 0,
        16..64 => 1,
        64..128 => 2,
        128..256 => 3,
        256..384 => 4,
        _ => 5,
    }
}

/// The word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Entry(pub(crate) u64);

const ZONE: u32 = 4;
const MOVABILITY: u32 = 8;
const GRADE: u32 = 10;
const MIXED: u32 = 13;
const HELD: u32 = 14;
const ORDER: u32 = 15;
const DEDICATED: u32 = 20;
const LINK: u32 = 32;

impl Entry {
    pub(crate) const ABSENT: Self = Self(0);

    pub(crate) const fn new(state: State, zone: Zone, movability: Movability) -> Self {
        Self(state as u64 | zone.id() << ZONE | (movability as u64) << MOVABILITY)
    }

    const fn field(self, at: u32, bits: u32) -> u64 {
        self.0 >> at & ((1 << bits) - 1)
    }

    const fn with(self, at: u32, bits: u32, value: u64) -> Self {
        Self(self.0 & !(((1 << bits) - 1) << at) | value << at)
    }

    #[inline(always)]
    pub(crate) const fn state(self) -> State {
        match self.0 & 15 {
            0 => State::Absent,
            1 => State::Free,
            2 => State::Listed,
            3 => State::Full,
            4 => State::Owned,
            5 => State::Head,
            6 => State::Tail,
            7 => State::Isolated,
            _ => State::Reserved,
        }
    }

    /// The same pageblock in another state. What belongs to the former state alone is cleared.
    pub(crate) const fn into(self, state: State) -> Self {
        Self(self.0).with(0, 4, state as u64).with(GRADE, 3, 0).with(HELD, 6, 0).with(LINK, 32, 0)
    }

    #[inline(always)]
    pub(crate) const fn zone_id(self) -> u64 {
        self.field(ZONE, 4)
    }

    pub(crate) const fn zone(self) -> Zone {
        Zone::from_id(self.zone_id())
    }

    pub(crate) const fn movability(self) -> Movability {
        Movability::from_bits(self.field(MOVABILITY, 2))
    }

    pub(crate) const fn with_movability(self, movability: Movability) -> Self {
        self.with(MOVABILITY, 2, movability as u64)
    }

    pub(crate) const fn grade(self) -> u64 {
        self.field(GRADE, 3)
    }

    pub(crate) const fn with_grade(self, grade: u64) -> Self {
        self.with(GRADE, 3, grade)
    }

    /// Whether frames of another movability than its own may lie in it.
    pub(crate) const fn is_mixed(self) -> bool {
        self.field(MIXED, 1) != 0
    }

    pub(crate) const fn mixed(self) -> Self {
        self.with(MIXED, 1, 1)
    }

    pub(crate) const fn unmixed(self) -> Self {
        self.with(MIXED, 1, 0)
    }

    /// Whether it counts in the dedication of its channel.
    pub(crate) const fn is_dedicated(self) -> bool {
        self.field(DEDICATED, 1) != 0
    }

    pub(crate) const fn with_dedicated(self, dedicated: u64) -> Self {
        self.with(DEDICATED, 1, dedicated)
    }

    /// Whether the block that starts here is held by its number.
    pub(crate) const fn is_held(self) -> bool {
        self.field(HELD, 1) != 0
    }

    pub(crate) const fn with_held(self, held: u64) -> Self {
        self.with(HELD, 1, held)
    }

    #[inline(always)]
    pub(crate) const fn order(self) -> u8 {
        self.field(ORDER, 5) as u8
    }

    pub(crate) const fn with_order(self, order: u8) -> Self {
        self.with(ORDER, 5, order as u64)
    }

    pub(crate) const fn link(self) -> u64 {
        self.field(LINK, 32)
    }

    pub(crate) const fn with_link(self, link: u64) -> Self {
        self.with(LINK, 32, link)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::zone::Channel;

    #[test]
    fn fields_do_not_disturb_each_other() {
        let zone = Zone::Exmem(Channel::new(7).unwrap());
        let entry = Entry::new(State::Owned, zone, Movability::Movable)
            .with_grade(5)
            .mixed()
            .with_held(1)
            .with_order(18)
            .with_link(u64::from(u32::MAX));
        assert_eq!(entry.state(), State::Owned);
        assert_eq!((entry.zone(), entry.movability()), (zone, Movability::Movable));
        assert_eq!((entry.grade(), entry.is_mixed(), entry.is_held()), (5, true, true));
        assert_eq!((entry.order(), entry.link()), (18, u64::from(u32::MAX)));
        let full = entry.into(State::Full);
        assert_eq!(
            (full.state(), full.zone(), full.movability()),
            (State::Full, zone, Movability::Movable)
        );
        assert_eq!((full.grade(), full.is_held(), full.order(), full.link()), (0, false, 0, 0));
        assert!(full.is_mixed() && !full.unmixed().is_mixed());
    }

    #[test]
    fn grades_grow_with_what_is_free() {
        let grades: std::vec::Vec<u64> = (1..512).map(grade_of).collect();
        assert!(grades.is_sorted());
        assert_eq!((grades[0], grades[510]), (0, GRADES as u64 - 1));
    }
}
