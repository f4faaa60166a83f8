//! Zones: which request may land where, and in which order they are tried.
//!
//! A zone is a part of a node by what may be placed there. Blocks are put into one when they are
//! added. The rules:
//!
//! | zone | holds | tried |
//! |---|---|---|
//! | NORMAL | everything | last for what can move, first for what cannot |
//! | MOVABLE | only what can move | first |
//! | PREFER_MOVABLE | what can move, from its top; in need also what cannot, from its bottom | after MOVABLE; after NORMAL |
//! | EXMEM | what asks for it, or asks for nothing special once the rest is exhausted | last |
//! | DEVICE | nothing but explicit ranges | never |
//!
//! * NORMAL and MOVABLE are the kernel's (`include/linux/mmzone.h`).
//! * PREFER_MOVABLE is the zone proposed on linux-mm in 2021 and 2023: the primary place of
//!   movable requests, a fallback for unmovable ones, whose leakage is confined to the lowest
//!   pageblocks. Movable requests take its pageblocks from the top, the others from the bottom;
//!   so the lowest part grows only when it is full.
//! * EXMEM is SMDK's extended memory zone. The caller decides movability, and a device is not
//!   meant to serve both kinds at once: a *channel* is dedicated to what can move or to what
//!   cannot by the first that takes of it, until it is empty again.
//! * DEVICE memory is never handed out by a search, only by [`crate::Frames::take_at`] and
//!   [`crate::Frames::take_range`].

use core::fmt;

use crate::request::{Movability, Want};

/// A zone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Zone {
    /// Everything may be placed here.
    Normal,
    /// Only what can move.
    Movable,
    /// What can move, and as little else as possible.
    PreferMovable,
    /// Only what names its place.
    Device,
    /// Extended memory, of this channel.
    Exmem(Channel),
}

/// A channel of extended memory: what is dedicated to one kind of use as a whole.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Channel(u8);

impl Channel {
    /// How many a node may have. (Each costs the model checker dozens of words.)
    pub const COUNT: u8 = if cfg!(loom) { 1 } else { 8 };

    /// The channel of this number, if there is one.
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        if number < Self::COUNT { Some(Self(number)) } else { None }
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl Zone {
    pub(crate) const COUNT: usize = 4 + Channel::COUNT as usize;

    /// All zones that a node may have.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT as u64).map(Self::from_id)
    }

    pub(crate) const fn id(self) -> u64 {
        match self {
            Self::Normal => 0,
            Self::Movable => 1,
            Self::PreferMovable => 2,
            Self::Device => 3,
            Self::Exmem(channel) => 4 + channel.0 as u64,
        }
    }

    pub(crate) const fn from_id(id: u64) -> Self {
        match id {
            0 => Self::Normal,
            1 => Self::Movable,
            2 => Self::PreferMovable,
            3 => Self::Device,
            _ => Self::Exmem(Channel((id - 4) as u8)),
        }
    }

    pub(crate) const fn is_exmem(self) -> bool {
        matches!(self, Self::Exmem(_))
    }

    /// Whether frames of this movability may lie here, found by a search or named.
    #[must_use]
    pub const fn holds(self, movability: Movability) -> bool {
        !matches!(self, Self::Movable) || matches!(movability, Movability::Movable)
    }

    /// From which end pageblocks of this kind are taken.
    pub(crate) const fn end(self, movability: Movability) -> End {
        match (self, movability) {
            (Self::PreferMovable, Movability::Movable) => End::Top,
            _ => End::Bottom,
        }
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Normal => f.write_str("NORMAL"),
            Self::Movable => f.write_str("MOVABLE"),
            Self::PreferMovable => f.write_str("PREFER_MOVABLE"),
            Self::Device => f.write_str("DEVICE"),
            Self::Exmem(channel) => write!(f, "EXMEM{}", channel.0),
        }
    }
}

/// The end of a zone that a search starts from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Bottom,
    Top,
}

/// A set of zones.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Zones(u16);

const EXMEM: u16 = ((1 << Channel::COUNT) - 1) << 4;

impl Zones {
    /// The zones that a request may land in.
    #[inline(always)]
    #[must_use]
    pub const fn allowed(want: Want, movability: Movability) -> Self {
        const MOVABLE: u16 = 0b0111;
        const OTHER: u16 = 0b0101;
        const ALLOWED: [[u16; Movability::COUNT]; 3] = [
            [OTHER | EXMEM, OTHER | EXMEM, MOVABLE | EXMEM],
            [OTHER, OTHER, MOVABLE],
            [EXMEM; Movability::COUNT],
        ];
        Self(ALLOWED[want as usize][movability as usize])
    }

    /// Whether a zone is one of them.
    #[must_use]
    pub const fn contains(self, zone: Zone) -> bool {
        self.has(zone.id())
    }

    #[inline(always)]
    pub(crate) const fn has(self, id: u64) -> bool {
        self.0 >> id & 1 != 0
    }

    #[inline(always)]
    pub(crate) const fn bits(self) -> u64 {
        self.0 as u64
    }

    /// The zones in the order in which this movability tries them. Those of one group are
    /// searched without mixing movabilities, then with, before the next group is looked at.
    pub(crate) const fn groups(movability: Movability) -> [&'static [Zone]; 3] {
        const fn channel(n: u8) -> Zone {
            Zone::Exmem(Channel(n))
        }
        const EIGHT: [Zone; 8] = [
            channel(0),
            channel(1),
            channel(2),
            channel(3),
            channel(4),
            channel(5),
            channel(6),
            channel(7),
        ];
        const CHANNELS: &[Zone] = EIGHT.split_at(Channel::COUNT as usize).0;
        match movability {
            Movability::Movable => {
                [&[Zone::Movable, Zone::PreferMovable, Zone::Normal], CHANNELS, &[]]
            }
            // NORMAL is mixed before anything that cannot move leaks into PREFER_MOVABLE.
            _ => [&[Zone::Normal], &[Zone::PreferMovable], CHANNELS],
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_zone_has_its_own_number() {
        for (id, zone) in Zone::all().enumerate() {
            assert_eq!(zone.id(), id as u64);
            assert_eq!(Zone::from_id(zone.id()), zone);
        }
    }

    /// The table of SMDK's zone rules.
    #[test]
    fn a_request_lands_where_it_may() {
        let channel = Zone::Exmem(Channel(0));
        let allowed = |want, movability| Zones::allowed(want, movability);
        let any = allowed(Want::Any, Movability::Movable);
        assert!(any.contains(Zone::Normal) && any.contains(Zone::Movable));
        assert!(any.contains(channel) && !any.contains(Zone::Device));
        let normal = allowed(Want::Normal, Movability::Movable);
        assert!(normal.contains(Zone::Normal) && normal.contains(Zone::Movable));
        assert!(!normal.contains(channel));
        let exmem = allowed(Want::Exmem, Movability::Unmovable);
        assert!(exmem.contains(channel) && !exmem.contains(Zone::Normal));
        for want in [Want::Any, Want::Normal, Want::Exmem] {
            assert!(!allowed(want, Movability::Unmovable).contains(Zone::Movable));
            assert!(!allowed(want, Movability::Reclaimable).contains(Zone::Movable));
            for movability in Movability::ALL {
                let zones = allowed(want, movability);
                assert!(!zones.contains(Zone::Device));
                for zone in Zone::all().filter(|&zone| zones.contains(zone)) {
                    assert!(zone.holds(movability));
                    let order = Zones::groups(movability);
                    assert!(order.iter().any(|group| group.contains(&zone)));
                }
            }
        }
    }
}
