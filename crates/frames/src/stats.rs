//! How much of a node is where: the cheap sums, and the thorough ones.
//!
//! [`Frames::counts`] reads counters only, and is what a monitor asks for every second.
//! [`Frames::statistics`] looks at every pageblock, and says how the node is used: what is listed
//! where, what is fragmented, what leaked into which zone. Neither stops anybody, so the sums of a
//! node at work are those of no single moment.

use memtide_units::{Order, Pfn};

use crate::{
    dedication::Dedication,
    entry::{self, Entry, State},
    frames::{Bitmap, Frames, header},
    layout::{FRAMES, WORDS},
    primitive::Ordering::*,
    record,
    request::Movability,
    watermark::{Pressure, Watermarks},
    zone::Zone,
};

#[cfg(all(test, not(loom)))]
mod tests;

/// The sums of a node, in frames. `free + cached + used + retired = present`, and
/// `present + offline = span`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Counts {
    /// Frames that the node may ever have.
    pub span: u64,
    /// Frames in the pool: added, not removed, and no holes.
    pub present: u64,
    /// Frames that are not taken. Those of isolated and of reserved pageblocks are among them.
    pub free: u64,
    /// Frames that cores keep at hand.
    pub cached: u64,
    /// Frames that somebody has.
    pub used: u64,
    /// Frames out of service. (What is noted but still in use counts as used.)
    pub retired: u64,
    /// Frames that are not in the pool: never added, removed, or holes.
    pub offline: u64,
}

/// Grades of fullness of a pageblock that is partly free: 0 is nearly full, 5 nearly empty. They
/// begin at 1, 16, 64, 128, 256 and 384 free frames.
pub const GRADES: usize = entry::GRADES;

/// Orders that a block may have.
pub const ORDERS: usize = Order::MAX.get() as usize + 1;

/// How a node is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Statistics {
    /// Each zone, present or not.
    pub zones: [ZoneStatistics; Zone::COUNT],
}

/// How a zone is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ZoneStatistics {
    /// Which.
    pub zone: Zone,
    /// Frames in the pool.
    pub present: u64,
    /// Frames that are not taken.
    pub free: u64,
    /// Pageblocks in the pool.
    pub pageblocks: u64,
    /// Pageblocks of which nothing is taken, and which nobody has.
    pub free_pageblocks: u64,
    /// Pageblocks that are partly free, by movability (as in [`Movability::ALL`]) and grade. A
    /// grade is only brought up to date now and then.
    pub listed: [[u64; GRADES]; Movability::ALL.len()],
    /// Pageblocks of which everything is taken.
    pub full: u64,
    /// Pageblocks that cores take from.
    pub owned: u64,
    /// Frames in blocks of order 9 and more.
    pub huge: u64,
    /// Pageblocks that are isolated.
    pub isolated: u64,
    /// Pageblocks that are reserved.
    pub reserved: u64,
    /// Pageblocks in which frames of another movability than their own may lie.
    pub mixed: u64,
    /// How often a pageblock changed its movability because its own kind had run out.
    pub converted: u64,
    /// How often frames were taken of a pageblock of another movability, which stayed what it is.
    pub borrowed: u64,
    /// Pageblocks with what cannot move.
    pub leakage: Leakage,
    /// How little may be free.
    pub watermarks: Watermarks,
    /// How it stands by them.
    pub pressure: Pressure,
    /// What it is dedicated to.
    pub dedication: Dedication,
    /// Free blocks of each order: as large as can be, so that each free frame is in one of them.
    pub blocks: [u64; ORDERS],
}

/// Where in a zone that is meant for what can move the rest is. It is confined to the lowest
/// pageblocks if `pageblocks` is about `beneath`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Leakage {
    /// Pageblocks in which there may be something that cannot move.
    pub pageblocks: u64,
    /// The first frame of the highest of them.
    pub highest: Option<Pfn>,
    /// Pageblocks of the zone up to that one.
    pub beneath: u64,
}

impl ZoneStatistics {
    fn new(zone: Zone) -> Self {
        Self {
            zone,
            present: 0,
            free: 0,
            pageblocks: 0,
            free_pageblocks: 0,
            listed: [[0; GRADES]; Movability::ALL.len()],
            full: 0,
            owned: 0,
            huge: 0,
            isolated: 0,
            reserved: 0,
            mixed: 0,
            converted: 0,
            borrowed: 0,
            leakage: Leakage::default(),
            watermarks: Watermarks::default(),
            pressure: Pressure::None,
            dedication: Dedication::None,
            blocks: [0; ORDERS],
        }
    }

    /// See [`unusable_index`].
    #[must_use]
    pub fn unusable_index(&self, order: Order) -> u64 {
        unusable_index(&self.blocks, order)
    }
}

impl Statistics {
    /// Free blocks of each order in all zones.
    #[must_use]
    pub fn blocks(&self) -> [u64; ORDERS] {
        core::array::from_fn(|order| self.zones.iter().map(|zone| zone.blocks[order]).sum())
    }

    /// Those of a zone.
    #[must_use]
    pub const fn zone(&self, zone: Zone) -> &ZoneStatistics {
        &self.zones[zone.id() as usize]
    }

    /// See [`unusable_index`].
    #[must_use]
    pub fn unusable_index(&self, order: Order) -> u64 {
        unusable_index(&self.blocks(), order)
    }
}

/// Which part of the free memory is of no use to a request of this order, for it lies in smaller
/// blocks: from 0, none, to 1000, all. With nothing free it is 1000. The kernel's
/// `unusable_free_index` (`mm/vmstat.c`; debugfs `extfrag/unusable_index`).
#[must_use]
pub fn unusable_index(blocks: &[u64; ORDERS], order: Order) -> u64 {
    let frames = |from: usize| -> u64 {
        blocks.iter().enumerate().skip(from).map(|(order, count)| count << order).sum()
    };
    let (free, suitable) = (frames(0), frames(usize::from(order.get())));
    ((free - suitable) * 1000).checked_div(free).unwrap_or(1000)
}

impl Frames<'_> {
    /// The sums of the node. Reads a line for each zone and each core, and so is exact only while
    /// nobody changes them; what is in use is what is left over.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let span = self.layout.geometry.frames;
        let cores = 0..self.layout.geometry.cores;
        let present = Zone::all().map(|zone| self.present(zone)).sum();
        let free = Zone::all().map(|zone| self.free_frames(zone.id())).sum();
        let cached = cores.map(|core| self.record(core)[record::CACHED].load(Acquire)).sum();
        let retired = self.retired();
        let used = [free, cached, retired].into_iter().fold(present, u64::saturating_sub);
        let offline = span.saturating_sub(present);
        Counts { span, present, free, cached, used, retired, offline }
    }

    /// Frames of a zone that are in the pool.
    #[must_use]
    pub fn present(&self, zone: Zone) -> u64 {
        self.zone_word(zone.id(), header::PRESENT).load(Acquire)
    }

    /// How the node is used. Looks at every pageblock, and at the bitmap of those that are partly
    /// free.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let mut sums = Statistics {
            zones: core::array::from_fn(|id| ZoneStatistics::new(Zone::from_id(id as u64))),
        };
        for sum in &mut sums.zones {
            let counter = |word| self.zone_word(sum.zone.id(), word).load(Acquire);
            (sum.present, sum.free) = (self.present(sum.zone), self.free_frames(sum.zone.id()));
            sum.converted = counter(header::CONVERTED);
            sum.borrowed = counter(header::BORROWED);
            sum.watermarks = self.watermarks(sum.zone);
            sum.pressure = self.pressure(sum.zone);
            sum.dedication = self.dedication(sum.zone);
        }
        // The run of free pageblocks of one zone that ends here, and the zone.
        let (mut run, mut of) = (0..0, 0);
        for pb in 0..self.layout.pageblocks {
            let entry = self.entry(pb);
            let zone = entry.zone_id() as usize;
            let whole = self.is_untaken(pb, entry);
            if !run.is_empty() && (!whole || zone != of) {
                count_run(&mut sums.zones[of].blocks, run.start * FRAMES, run.end * FRAMES);
                run = pb..pb;
            }
            if whole {
                run = if run.is_empty() { pb..pb + 1 } else { run.start..pb + 1 };
                of = zone;
            }
            self.add_pageblock(pb, entry, &mut sums.zones[zone]);
            if !whole {
                self.add_blocks(pb, entry, &mut sums.zones[zone].blocks);
            }
        }
        count_run(&mut sums.zones[of].blocks, run.start * FRAMES, run.end * FRAMES);
        sums
    }

    /// Whether nothing of a pageblock is taken, wherever it stands.
    fn is_untaken(&self, pb: u64, entry: Entry) -> bool {
        match entry.state() {
            State::Free => true,
            State::Absent | State::Head | State::Tail | State::Full => false,
            _ => self.is_whole(pb),
        }
    }

    fn add_pageblock(&self, pb: u64, entry: Entry, sum: &mut ZoneStatistics) {
        match entry.state() {
            State::Absent => return,
            State::Free => sum.free_pageblocks += 1,
            State::Listed => {
                sum.listed[entry.movability() as usize][entry.grade() as usize % GRADES] += 1;
            }
            State::Full => sum.full += 1,
            State::Owned => sum.owned += 1,
            State::Head | State::Tail => sum.huge += FRAMES,
            State::Reserved => sum.reserved += 1,
            State::Isolated => {}
        }
        sum.pageblocks += 1;
        sum.mixed += u64::from(entry.is_mixed());
        sum.isolated += u64::from(self.is_isolated(pb));
        // The movability of a larger block's tails is left over from what they were before.
        let first = self.head_of(pb).filter(|_| entry.state() == State::Tail).unwrap_or(pb);
        let stays = Self::movability_in(self.entry(first)) != Movability::Movable;
        if stays && !self.is_untaken(pb, entry) {
            sum.leakage.pageblocks += 1;
            sum.leakage.highest = Some(self.pfn(pb * FRAMES));
            sum.leakage.beneath = sum.pageblocks;
        }
    }

    /// Counts the free blocks of a pageblock that is partly taken.
    fn add_blocks(&self, pb: u64, entry: Entry, blocks: &mut [u64; ORDERS]) {
        if matches!(entry.state(), State::Absent | State::Head | State::Tail | State::Full) {
            return;
        }
        let mut start = 0;
        let mut last_taken = true;
        for n in 0..WORDS {
            let taken = self.words_of(Bitmap::Taken, pb)[n as usize].load(Acquire);
            // A one where a frame is taken and the one before it is not, or the reverse.
            let mut edges = taken ^ (taken << 1 | u64::from(last_taken));
            last_taken = taken >> 63 != 0;
            while edges != 0 {
                let at = n * 64 + u64::from(edges.trailing_zeros());
                if taken >> (at % 64) & 1 != 0 {
                    count_run(blocks, start, at);
                } else {
                    start = at;
                }
                edges &= edges - 1;
            }
        }
        if !last_taken {
            count_run(blocks, start, FRAMES);
        }
    }
}

/// Counts the largest aligned blocks that a free run is made of.
fn count_run(counts: &mut [u64; ORDERS], start: u64, end: u64) {
    let mut at = start;
    while let Some(fits) = (end - at).checked_ilog2() {
        let order = fits.min(at.trailing_zeros()).min(ORDERS as u32 - 1);
        counts[order as usize] += 1;
        at += 1 << order;
    }
}
