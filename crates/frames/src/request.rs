//! What is asked for: how large, whether it may be moved later, and from which memory.

use memtide_units::Order;

use crate::zone::Zones;

/// Whether what is placed in frames can leave them again. The caller decides, once, when it takes
/// them; pageblocks are grouped by it, so that what cannot move spoils as few as possible (the
/// kernel's migrate types, `enum migratetype` in `include/linux/mmzone.h`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Movability {
    /// Stays where it is until it is given back.
    Unmovable,
    /// Stays, but its owner can be asked to drop it.
    Reclaimable,
    /// Can be copied elsewhere at any time.
    Movable,
}

impl Movability {
    pub(crate) const COUNT: usize = 3;

    /// All of them.
    pub const ALL: [Self; Self::COUNT] = [Self::Unmovable, Self::Reclaimable, Self::Movable];

    pub(crate) const fn from_bits(bits: u64) -> Self {
        match bits {
            0 => Self::Unmovable,
            1 => Self::Reclaimable,
            _ => Self::Movable,
        }
    }

    /// Whose pageblocks to take from when there are none of the own kind, best first (`fallbacks`
    /// in the kernel's `mm/page_alloc.c`).
    pub(crate) const fn fallbacks(self) -> [Self; 2] {
        match self {
            Self::Unmovable => [Self::Reclaimable, Self::Movable],
            Self::Reclaimable => [Self::Unmovable, Self::Movable],
            Self::Movable => [Self::Reclaimable, Self::Unmovable],
        }
    }
}

/// Which memory is wanted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Want {
    /// Whatever there is: ordinary zones first, then extended memory.
    #[default]
    Any,
    /// Ordinary zones, never extended memory.
    Normal,
    /// Extended memory or nothing.
    Exmem,
}

/// How far down the reserves a request may reach.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Urgency {
    /// Leaves what is below a zone's `min` watermark alone.
    #[default]
    Ordinary,
    /// May take the last frame: whoever frees memory by taking a little of it.
    Emergency,
}

/// A request for one block of frames.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Request {
    /// Its size.
    pub order: Order,
    /// Whether it may move.
    pub movability: Movability,
    /// From where.
    pub want: Want,
    /// How urgently.
    pub urgency: Urgency,
}

impl Request {
    /// A block of this order and movability, from any memory.
    #[must_use]
    pub const fn new(order: Order, movability: Movability) -> Self {
        Self { order, movability, want: Want::Any, urgency: Urgency::Ordinary }
    }

    /// The same from other memory.
    #[must_use]
    pub const fn from(self, want: Want) -> Self {
        Self { want, ..self }
    }

    /// The same, reaching below the `min` watermark.
    #[must_use]
    pub const fn emergency(self) -> Self {
        Self { urgency: Urgency::Emergency, ..self }
    }

    /// The zones that it may land in.
    #[must_use]
    pub const fn zones(self) -> Zones {
        Zones::allowed(self.want, self.movability)
    }
}
