//! What is still in a range: whoever empties one must know whom to ask.
//!
//! The bitmaps and entries name every block that is taken, so no list of them is kept, and looking
//! costs no memory. What cannot be told from them is told cautiously:
//!
//! * *Movability* is noted for each block if the node has descriptors (in that of its first frame,
//!   as are its pins). Without, a block is what its pageblock is; and in a pageblock of mixed use
//!   everything counts as unmovable, for something in it may be.
//! * A single frame that is noted as bad is out of service, unless somebody has it still. While
//!   any such frame of the node is in use ([`Frames::retiring`]), all count as in use.
//!
//! Nothing stops while the range is looked through: what others take and give back meanwhile may
//! be told or not. Isolate the range first, then what was told only gets less.

use memtide_units::{FrameRange, Order, Pfn};

use crate::{
    entry::{Entry, State},
    error::PlugError,
    frames::{Bitmap, Frames, pageblocks_in},
    layout::{FRAMES, PAGEBLOCK_ORDER, WORDS},
    primitive::Ordering::*,
    record::{self, slot, slots},
    request::Movability,
};

#[cfg(all(test, not(loom)))]
mod tests;

/// What somebody has, or what is not to be had.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Occupant {
    /// Its first frame.
    pub pfn: Pfn,
    /// Its size.
    pub order: Order,
    /// Whether it may move, as far as is known.
    pub movability: Movability,
    /// What it is.
    pub kind: Kind,
    /// How many hold it in place: the pins of its first frame. 0 without descriptors.
    pub pins: u16,
    /// Whether it is held by its number; if not, somebody owns it as a [`crate::Frame`].
    pub held: bool,
}

/// What an occupant is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// A block that was taken.
    Block,
    /// A frame that a core keeps at hand. It gives it back when it is drained, or dropped; or,
    /// if its pageblock was isolated, in its next call.
    Cached {
        /// The number of the core.
        core: u16,
    },
    /// A pageblock, part of a reservation. It is told once as a whole, before what is taken of it.
    Reserved,
    /// A frame out of service.
    Retired,
    /// A frame that is not there.
    Hole,
}

impl Occupant {
    /// Its frames.
    #[must_use]
    pub const fn range(&self) -> FrameRange {
        FrameRange::new(self.pfn, self.order.frames())
    }

    /// Whether it can be copied elsewhere now.
    #[must_use]
    pub fn can_move(&self) -> bool {
        self.kind == Kind::Block && self.movability == Movability::Movable && self.pins == 0
    }
}

/// What is in a range, summed up, in frames. Of a block that lies in it in part only that part.
///
/// `absent + free + cached + movable + reclaimable + unmovable + retired + holes = frames`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Occupancy {
    /// All of them.
    pub frames: u64,
    /// Not in the pool.
    pub absent: u64,
    /// Not taken.
    pub free: u64,
    /// Not taken, but kept for a reservation; these are among the free ones.
    pub reserved: u64,
    /// Kept at hand by cores.
    pub cached: u64,
    /// Taken by what can move and is not pinned.
    pub movable: u64,
    /// Taken by what its owner can be asked to drop.
    pub reclaimable: u64,
    /// Taken by what cannot move, or is pinned.
    pub unmovable: u64,
    /// Out of service.
    pub retired: u64,
    /// Not there.
    pub holes: u64,
    /// How many blocks that were taken lie in it, in whole or in part.
    pub blocks: u64,
}

impl Occupancy {
    /// Whether the range can be emptied by moving what is in it. (Retired frames and holes do
    /// not keep a range from being removed.)
    #[must_use]
    pub const fn can_leave(&self) -> bool {
        self.reclaimable == 0 && self.unmovable == 0 && self.reserved == 0
    }

    /// Whether nothing is in it that would have to go.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.blocks == 0 && self.cached == 0 && self.reserved == 0
    }
}

/// The occupants of a range, in ascending order; see [`Frames::occupants`].
#[derive(Clone)]
pub struct Occupants<'f> {
    frames: &'f Frames<'f>,
    /// The next frame to look at, and one past the last.
    at: u64,
    end: u64,
    /// Whether the pageblock of `at` was looked at as a whole.
    entered: bool,
    /// What cores have cached of it.
    cached: [u64; WORDS as usize],
}

impl Frames<'_> {
    /// What is in these pageblocks, in ascending order. A block that lies in the range only in
    /// part comes whole.
    ///
    /// # Errors
    /// [`PlugError::Range`] when they are not whole pageblocks of the node.
    pub fn occupants(&self, range: FrameRange) -> Result<Occupants<'_>, PlugError> {
        let unit = FRAMES;
        let pageblocks = self.pageblocks_of(range);
        let pageblocks = pageblocks.ok_or(PlugError::Range { range, unit, node: self.span() })?;
        Ok(self.occupants_of(pageblocks))
    }

    pub(crate) fn occupants_of(&self, pageblocks: core::ops::Range<u64>) -> Occupants<'_> {
        Occupants {
            frames: self,
            at: pageblocks.start * FRAMES,
            end: pageblocks.end * FRAMES,
            entered: false,
            cached: [0; WORDS as usize],
        }
    }

    /// What is in these pageblocks, summed up.
    ///
    /// # Errors
    /// As [`Frames::occupants`].
    pub fn occupancy(&self, range: FrameRange) -> Result<Occupancy, PlugError> {
        let mut sum = Occupancy { frames: range.frames, ..Occupancy::default() };
        let first = range.start.0;
        for occupant in self.occupants(range)? {
            let start = occupant.pfn.0.max(first);
            let end = (occupant.pfn.0 + occupant.order.frames()).min(first + range.frames);
            let frames = end - start;
            match (occupant.kind, occupant.movability) {
                (Kind::Block, movability) => {
                    sum.blocks += 1;
                    *match movability {
                        _ if occupant.pins > 0 => &mut sum.unmovable,
                        Movability::Movable => &mut sum.movable,
                        Movability::Reclaimable => &mut sum.reclaimable,
                        Movability::Unmovable => &mut sum.unmovable,
                    } += frames;
                }
                (Kind::Cached { .. }, _) => sum.cached += frames,
                (Kind::Reserved, _) => sum.reserved += self.free_in(self.pageblock_of(start)),
                (Kind::Retired, _) => sum.retired += frames,
                (Kind::Hole, _) => sum.holes += frames,
            }
        }
        let pageblocks = self.pageblocks_of(range).into_iter().flatten();
        let absent = pageblocks.filter(|&pb| self.entry(pb).state() == State::Absent);
        sum.absent = absent.count() as u64 * FRAMES;
        let taken = [sum.cached, sum.movable, sum.reclaimable, sum.unmovable, sum.retired];
        let rest = taken.into_iter().fold(sum.frames, u64::saturating_sub);
        sum.free = rest.saturating_sub(sum.absent + sum.holes);
        Ok(sum)
    }

    /// The pageblock of a frame of the node.
    fn pageblock_of(&self, pfn: u64) -> u64 {
        (pfn - self.layout.origin) / FRAMES
    }

    /// The first pageblock of the block of order 9 or more that a pageblock is part of. `None` if
    /// the block is gone.
    pub(crate) fn head_of(&self, pb: u64) -> Option<u64> {
        let orders = PAGEBLOCK_ORDER..=Order::MAX.get();
        orders.map(|order| pb & !(pageblocks_in(order) - 1)).find(|&first| {
            let head = self.entry(first);
            head.state() == State::Head && pb - first < pageblocks_in(head.order())
        })
    }

    /// The words of frames that a core caches (those of one pageblock are neighbours), and which
    /// of them.
    pub(crate) fn masks(&self, core: u16) -> impl Iterator<Item = (u64, u64)> {
        let record = self.record(core);
        let places = slots().map(|at| (at + slot::WORD, at + slot::MASK));
        places.chain([(record::RETURN, record::RETURN + 1)]).filter_map(move |(word, mask)| {
            let mask = record[mask].load(Acquire);
            let word = record[word].load(Acquire).wrapping_sub(1);
            (mask != 0).then_some((word, mask))
        })
    }

    /// The frames of a pageblock that cores have cached.
    pub(crate) fn cached_of(&self, pb: u64) -> [u64; WORDS as usize] {
        let mut cached = [0; WORDS as usize];
        for core in 0..self.layout.geometry.cores {
            if self.record(core)[record::CACHED].load(Acquire) != 0 {
                let masks = self.masks(core).filter(|(word, _)| word / WORDS == pb);
                masks.for_each(|(word, mask)| cached[(word % WORDS) as usize] |= mask);
            }
        }
        cached
    }

    /// The core that caches a frame.
    fn cached_by(&self, index: u64) -> Option<u16> {
        let has = |(word, mask): (u64, u64)| word == index / 64 && mask >> (index % 64) & 1 != 0;
        (0..self.layout.geometry.cores).find(|&core| self.masks(core).any(has))
    }

    /// Whether what lies in a pageblock may move, where nothing is known of it in particular.
    pub(crate) const fn movability_in(entry: Entry) -> Movability {
        if entry.is_mixed() { Movability::Unmovable } else { entry.movability() }
    }

    fn occupant(&self, index: u64, order: u8, kind: Kind, held: bool) -> Occupant {
        let known = self.descriptors.map(|descriptors| descriptors.get(index));
        let (movability, pins) = match known {
            Some(known) if kind == Kind::Block => (known.movability, known.pins),
            _ => (Self::movability_in(self.entry(index / FRAMES)), 0),
        };
        Occupant { pfn: self.pfn(index), order: Self::order(order), movability, kind, pins, held }
    }
}

impl Occupants<'_> {
    /// Looks at a pageblock as a whole: skips it, or tells it, or finds that its bitmaps must be
    /// looked at.
    fn enter(&mut self) -> Option<Occupant> {
        let (frames, pb) = (self.frames, self.at / FRAMES);
        let entry = frames.entry(pb);
        self.entered = true;
        match entry.state() {
            State::Absent | State::Free => self.advance((pb + 1) * FRAMES),
            State::Head | State::Tail => {
                let Some(first) = frames.head_of(pb) else {
                    self.advance((pb + 1) * FRAMES);
                    return None;
                };
                let head = frames.entry(first);
                let order = head.order().clamp(PAGEBLOCK_ORDER, Order::MAX.get());
                self.advance((first + pageblocks_in(order)).max(pb + 1) * FRAMES);
                return Some(frames.occupant(first * FRAMES, order, Kind::Block, head.is_held()));
            }
            State::Reserved => {
                self.cached = frames.cached_of(pb);
                let (index, order) = (pb * FRAMES, PAGEBLOCK_ORDER);
                return Some(frames.occupant(index, order, Kind::Reserved, false));
            }
            State::Listed | State::Full | State::Owned | State::Isolated => {
                self.cached = frames.cached_of(pb);
            }
        }
        None
    }

    fn advance(&mut self, to: u64) {
        self.entered &= self.at / FRAMES == to / FRAMES;
        self.at = to;
    }

    /// The occupant that starts at a frame that is taken.
    fn tell(&mut self) -> Option<Occupant> {
        let (frames, index) = (self.frames, self.at);
        let (tail, held) = (frames.bit(Bitmap::Tail, index), frames.bit(Bitmap::Held, index));
        if tail {
            self.advance(index + 1);
            return held.then(|| frames.occupant(index, 0, Kind::Hole, false));
        }
        let order = frames.order_at(index).unwrap_or(0);
        self.advance(index + (1 << order));
        let cached = self.cached[(index / 64 % WORDS) as usize] >> (index % 64) & 1 != 0;
        let kind = if order > 0 {
            Kind::Block
        } else if let Some(core) = cached.then(|| frames.cached_by(index)).flatten() {
            Kind::Cached { core }
        } else if frames.bit(Bitmap::Retired, index) && frames.retiring() == 0 {
            Kind::Retired
        } else {
            Kind::Block
        };
        Some(frames.occupant(index, order, kind, held))
    }
}

impl Iterator for Occupants<'_> {
    type Item = Occupant;

    fn next(&mut self) -> Option<Occupant> {
        while self.at < self.end {
            if !self.entered {
                if let Some(occupant) = self.enter() {
                    return Some(occupant);
                }
                continue;
            }
            let taken = self.frames.word(Bitmap::Taken, self.at / 64).load(Acquire);
            let ahead = taken >> (self.at % 64);
            if ahead == 0 {
                self.advance((self.at / 64 + 1) * 64);
                continue;
            }
            self.advance(self.at + u64::from(ahead.trailing_zeros()));
            if let Some(occupant) = self.tell() {
                return Some(occupant);
            }
        }
        None
    }
}

impl core::fmt::Debug for Occupants<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "occupants from {} to {}", self.frames.pfn(self.at), self.frames.pfn(self.end))
    }
}
