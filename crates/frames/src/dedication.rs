//! Channels of extended memory: dedicated as a whole to what can move, or to what cannot.
//!
//! A channel is dedicated by the first pageblock that is taken of it, and free for either use when
//! the last is wholly free again. One word a zone: the use, and how many pageblocks have it.

use crate::{
    frames::{Frames, header},
    primitive::Ordering::*,
    request::Movability,
    zone::Zone,
};

const USE: u32 = 62;
const MOVABLE: u64 = 1 << USE;
const UNMOVABLE: u64 = 2 << USE;
const COUNT: u64 = (1 << USE) - 1;

/// What a channel is dedicated to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dedication {
    /// Nothing of it is in use.
    None,
    /// What can move.
    Movable,
    /// What cannot.
    Unmovable,
}

const fn use_of(movability: Movability) -> u64 {
    match movability {
        Movability::Movable => MOVABLE,
        Movability::Unmovable | Movability::Reclaimable => UNMOVABLE,
    }
}

/// Whether two movabilities are one use of a channel.
pub(crate) fn is_same_use(one: Movability, other: Movability) -> bool {
    use_of(one) == use_of(other)
}

/// The word of a channel of which so many pageblocks are used for what is of this movability.
pub(crate) const fn word(movability: Movability, count: u64) -> u64 {
    use_of(movability) | count & COUNT
}

impl Frames<'_> {
    /// What a zone is dedicated to: nothing, unless it is a channel.
    #[must_use]
    pub fn dedication(&self, zone: Zone) -> Dedication {
        match self.zone_word(zone.id(), header::DEDICATION).load(Acquire) & !COUNT {
            MOVABLE => Dedication::Movable,
            UNMOVABLE => Dedication::Unmovable,
            _ => Dedication::None,
        }
    }

    /// How many pageblocks of a zone are dedicated.
    pub(crate) fn dedicated(&self, zone: u64) -> u64 {
        self.zone_word(zone, header::DEDICATION).load(Acquire) & COUNT
    }

    /// Whether a zone holds this movability, and is not dedicated to the other use.
    pub(crate) fn serves(&self, zone: Zone, movability: Movability) -> bool {
        let now = self.zone_word(zone.id(), header::DEDICATION).load(Acquire);
        zone.holds(movability) && (now & COUNT == 0 || now & !COUNT == use_of(movability))
    }

    /// Counts a pageblock of a channel in for a use, unless the channel has another.
    pub(crate) fn dedicate(&self, zone: u64, movability: Movability) -> bool {
        let word = self.zone_word(zone, header::DEDICATION);
        let wanted = use_of(movability);
        let change = |now: u64| {
            let (r#use, count) = (now & !COUNT, now & COUNT);
            (count == 0 || r#use == wanted).then_some(wanted | (count + 1))
        };
        word.fetch_update(AcqRel, Acquire, change).is_ok()
    }

    /// Counts a pageblock out again.
    pub(crate) fn undedicate(&self, zone: u64) {
        let word = self.zone_word(zone, header::DEDICATION);
        let change = |now: u64| {
            assert!(now & COUNT != 0, "more pageblocks of zone {zone} returned than were in use");
            Some(if now & COUNT == 1 { 0 } else { now - 1 })
        };
        word.fetch_update(AcqRel, Acquire, change).expect("always changes");
    }
}
