//! Making a node whole again after everybody who used it died.
//!
//! # The problem
//! The metadata may outlive the processes that use it: in a mapped file, or on the persistent
//! device that the frames themselves lie on. A process can be killed between any two stores, and
//! what it leaves behind is then half done, and half of it is about things that died with it:
//! owned [`crate::Frame`]s, caches, reservations, locks.
//!
//! # The idea
//! A few words are the truth, and are stored in such an order that they say something definite at
//! any moment. All else is worked out from them anew, whatever it says.
//!
//! The truth is:
//! * of a pageblock's entry, whether it is present, and its zone; and if it is the head of a block
//!   that is held by its number, the order. (It is held when all entries of the block have been
//!   written, and not held any more before one of them changes.)
//! * of the bitmaps *Held*, *Tail* and *Retired*. (*Held* is set after *Tail*, and cleared before
//!   it.) What is *Taken* follows.
//! * the watermarks.
//!
//! | what | after recovery |
//! |---|---|
//! | a block held by its number ([`crate::Frame::into_number`]) | held, of the same order |
//! | any other block, a cached frame, a reservation | free |
//! | a retired frame; one that is noted and is nobody's | out of service |
//! | one that is noted, of a block that is held | still noted: retired when given back |
//! | a hole | a hole |
//! | a pageblock in the pool, in whatever state | in the pool, in the same zone, not isolated |
//! | a block (of hot-plug) that is partly absent | absent: it was being added or removed |
//! | watermarks | the same; if somebody was setting them, raised until they ascend |
//! | counters of what happened | as they were |
//!
//! So a call that returned has happened, and one that had not may have or not. Of a call for many
//! frames ([`Frames::exclude`]), pageblocks or blocks, some may have and others not.
//!
//! A frame that is on its way to be a hole looks for one store as if it were held by its number; a
//! word of the header says which it is ([`header::EXCLUDING`]).
//!
//! # What holds
//! * Recovery can be killed too: each of its stores leaves the truth as it is, or moves it to where
//!   the next recovery would. It stores only what differs, so a node that is at rest, with nobody's
//!   frames in it, is not written to at all.
//! * The work is in proportion to the words of the metadata, which is to pageblocks.
//! * Nonsense (a file that was damaged, or written by others) is never an index out of range, an
//!   endless loop or a panic. A header that makes no node is refused. An entry of a zone that does
//!   not exist counts as absent; the head of a block that leaves the node, or is misaligned, or of
//!   an impossible order, or not followed by its tails, counts as nobody's; an unknown state is
//!   looked at as any other. A block in the bitmaps that is of no order, or misaligned, is cut off
//!   to the largest that its first frame can be. In a channel that holds pageblocks of both uses
//!   the lowest of them decides.
//!
//! # What it refuses
//! To know whose the held blocks are: the owner has books of its own, and [`Frames::held`] to
//! compare them with. To notice others: nobody else may use the node meanwhile.

mod judge;
mod sums;
#[cfg(all(test, not(loom)))]
mod tests;

use memtide_units::{Order, Pfn};

use self::judge::{Bits, judge, places};
use crate::{
    dedication,
    entry::{Entry, GRADES, LEAVING, State, grade_of},
    error::LayoutError,
    frames::{Bitmap, Frames, header, pageblocks_in},
    layout::{FRAMES, PAGEBLOCK_ORDER, WORDS},
    primitive::{AtomicU64, Ordering::*, settle},
    request::Movability,
    zone::Zone,
};

/// What was found in a node that was recovered.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Recovered {
    /// Blocks that are held by their number.
    pub held_blocks: u64,
    /// Their frames.
    pub held_frames: u64,
    /// Frames that were taken, but nobody's any more. They are free now.
    pub freed_frames: u64,
    /// Pageblocks in the pool.
    pub pageblocks: u64,
}

impl<'m> Frames<'m> {
    /// The node that is in this memory, after all who used it died, or left it.
    ///
    /// # Errors
    /// [`LayoutError`] when there is none.
    pub fn recover(words: &'m [AtomicU64]) -> Result<(Self, Recovered), LayoutError> {
        let frames = Self::attach(words)?;
        let recovered = Recovery::of(&frames).run();
        Ok((frames, recovered))
    }

    /// The blocks that are held by their number, in ascending order. What is turned into a number
    /// or adopted meanwhile may be there or not.
    pub fn held(&self) -> impl Iterator<Item = (Pfn, Order)> {
        (0..self.layout.pageblocks).flat_map(|pb| self.held_in(pb))
    }

    fn held_in(&self, pb: u64) -> impl Iterator<Item = (Pfn, Order)> {
        let entry = self.entry(pb);
        let huge = (entry.state() == State::Head && entry.is_held())
            .then(|| Some((self.pfn(pb * FRAMES), Order::new(entry.order())?)));
        let heads = (pb * WORDS..(pb + 1) * WORDS).flat_map(|word| {
            places(self.word(Bitmap::Held, word).load(Acquire)).map(move |bit| word * 64 + bit)
        });
        let block = |index| Some((self.pfn(index), Order::new(self.order_at(index)?)?));
        huge.flatten().into_iter().chain(heads.filter_map(block))
    }
}

/// What a zone adds up to.
#[derive(Clone, Copy, Default)]
struct Sums {
    present: u64,
    free: u64,
    /// What the lowest pageblock in use is used for, and how many are in use; of a channel.
    movability: Option<Movability>,
    dedicated: u64,
}

/// 64 pageblocks in the indexes of all zones.
#[derive(Default)]
struct Leaves {
    free: [u64; Zone::COUNT],
    listed: [[[u64; GRADES]; Movability::COUNT]; Zone::COUNT],
}

/// A recovery. All loads and stores are relaxed: nobody else is there.
struct Recovery<'f, 'm> {
    frames: &'f Frames<'m>,
    recovered: Recovered,
    zones: [Sums; Zone::COUNT],
    /// Frames out of service, and frames that will be.
    retired: u64,
    retiring: u64,
    /// The end of the block of order 9 or more that was found last, and its movability.
    huge: (u64, Movability),
}

impl<'f, 'm> Recovery<'f, 'm> {
    fn of(frames: &'f Frames<'m>) -> Self {
        Self {
            frames,
            recovered: Recovered::default(),
            zones: [Sums::default(); Zone::COUNT],
            retired: 0,
            retiring: 0,
            huge: (0, Movability::Movable),
        }
    }

    fn run(mut self) -> Recovered {
        self.settle_blocks();
        self.settle_pageblocks();
        self.settle_runs();
        self.settle_zones();
        self.settle_cores();
        self.settle_header();
        self.recovered
    }

    // ---- Which pageblocks are there ----

    fn settle_blocks(&self) {
        let geometry = self.frames.layout.geometry;
        let mut block = (geometry.first.0 - self.frames.layout.origin) / FRAMES;
        (0..block).for_each(|pb| self.erase(pb));
        while block < self.frames.layout.pageblocks {
            let end = block + geometry.block_frames / FRAMES;
            if !(block..end).all(|pb| is_present(self.frames.entry(pb))) {
                (block..end).for_each(|pb| self.erase(pb));
            }
            block = end;
        }
    }

    /// Makes a pageblock absent. Its entry comes last: it may be why the block is.
    fn erase(&self, pb: u64) {
        self.settle_bits(pb, &Bits::default());
        self.settle_entry(pb, Entry::ABSENT);
    }

    // ---- What is taken of them ----

    fn settle_pageblocks(&mut self) {
        let frames = self.frames;
        let pageblocks = frames.layout.pageblocks;
        for word in 0..pageblocks.div_ceil(64) {
            let mut leaves = Leaves::default();
            for pb in word * 64..pageblocks.min((word + 1) * 64) {
                if frames.entry(pb).state() != State::Absent {
                    self.settle_pageblock(pb, &mut leaves);
                }
            }
            for zone in 0..Zone::COUNT {
                frames.free(zone as u64).restore(word, leaves.free[zone]);
                for movability in Movability::ALL {
                    for grade in 0..GRADES {
                        let members = leaves.listed[zone][movability as usize][grade];
                        let list = frames.listed(zone as u64, movability, grade as u64);
                        list.restore(word, members);
                    }
                }
            }
        }
    }

    fn settle_pageblock(&mut self, pb: u64, leaves: &mut Leaves) {
        let entry = self.frames.entry(pb);
        self.recovered.pageblocks += 1;
        if pb < self.huge.0 {
            return self.settle_huge(pb, State::Tail, self.huge.1);
        }
        match self.held_huge(pb) {
            Some(order) => {
                self.huge = (pb + pageblocks_in(order), movability_of(entry));
                self.recovered.held_blocks += 1;
                self.recovered.held_frames += 1 << order;
                self.settle_huge(pb, State::Head, self.huge.1);
            }
            None => self.settle_small(pb, leaves),
        }
    }

    /// The order of the block of order 9 or more that starts here, if it is held and whole.
    fn held_huge(&self, pb: u64) -> Option<u8> {
        let (frames, entry) = (self.frames, self.frames.entry(pb));
        let order = entry.order();
        let possible = PAGEBLOCK_ORDER..=Order::MAX.get();
        if entry.state() != State::Head || !entry.is_held() || !possible.contains(&order) {
            return None;
        }
        let end = pb + pageblocks_in(order);
        let continues = |pb: u64| {
            let tail = frames.entry(pb);
            tail.state() == State::Tail && tail.zone_id() == entry.zone_id()
        };
        let whole = pb.is_multiple_of(pageblocks_in(order))
            && end <= frames.layout.pageblocks
            && (pb + 1..end).all(continues);
        whole.then_some(order)
    }

    /// A pageblock of a block that is held.
    fn settle_huge(&mut self, pb: u64, state: State, movability: Movability) {
        let found = self.frames.entry(pb);
        let bits = Bits { retired: self.bits(pb).retired, ..Bits::default() };
        self.retiring += bits.retired.iter().map(|word| u64::from(word.count_ones())).sum::<u64>();
        self.settle_bits(pb, &bits);
        let entry = self.dedicate(Entry::new(state, found.zone(), movability), found.is_mixed());
        let head = state == State::Head;
        let entry = if head { entry.with_order(found.order()).with_held(1) } else { entry };
        self.settle_entry(pb, entry);
        self.zones[found.zone_id() as usize].present += FRAMES;
    }

    /// A pageblock of which frames may be held.
    fn settle_small(&mut self, pb: u64, leaves: &mut Leaves) {
        let (entry, found) = (self.frames.entry(pb), self.bits(pb));
        let verdict = judge(&found);
        self.settle_bits(pb, &verdict.bits);
        self.retired += verdict.retired;
        self.retiring += verdict.retiring;
        self.recovered.held_blocks += verdict.blocks;
        self.recovered.held_frames += verdict.frames;
        let taken = verdict.bits.taken.iter().map(|word| u64::from(word.count_ones())).sum::<u64>();
        self.recovered.freed_frames += match entry.state() {
            // All of it was one block, or part of one.
            State::Head | State::Tail => FRAMES - taken,
            _ => verdict.freed,
        };

        let (free, zone) = (FRAMES - taken, entry.zone_id() as usize);
        self.zones[zone].present += FRAMES - verdict.holes;
        self.zones[zone].free += free;
        let state = match free {
            0 => State::Full,
            FRAMES => State::Free,
            _ => State::Listed,
        };
        let mut settled = Entry::new(state, entry.zone(), movability_of(entry));
        if state != State::Free {
            settled = self.dedicate(settled, entry.is_mixed());
        }
        if state == State::Listed {
            settled = settled.with_grade(grade_of(free));
        }
        self.settle_entry(pb, settled);
        let (movability, grade) = (settled.movability() as usize, settled.grade() as usize);
        match state {
            State::Free => leaves.free[zone] |= 1 << (pb % 64),
            State::Listed => leaves.listed[zone][movability][grade] |= 1 << (pb % 64),
            _ => {}
        }
    }

    /// The entry of a pageblock in use: of a channel it counts in its dedication.
    fn dedicate(&mut self, entry: Entry, mixed: bool) -> Entry {
        let entry = if mixed { entry.mixed() } else { entry };
        if !entry.zone().is_exmem() {
            return entry;
        }
        let sums = &mut self.zones[entry.zone_id() as usize];
        let movability = *sums.movability.get_or_insert(entry.movability());
        sums.dedicated += 1;
        let entry = entry.with_dedicated(1);
        let same = dedication::word(movability, 1) == dedication::word(entry.movability(), 1);
        if same { entry } else { entry.with_movability(movability).mixed() }
    }

    fn bits(&self, pb: u64) -> Bits {
        let load = |bitmap| {
            let words = self.frames.words_of(bitmap, pb);
            core::array::from_fn(|n| words[n].load(Relaxed))
        };
        let mut bits = Bits {
            taken: load(Bitmap::Taken),
            tail: load(Bitmap::Tail),
            held: load(Bitmap::Held),
            retired: load(Bitmap::Retired),
        };
        let excluding = self.frames.header[header::EXCLUDING].load(Relaxed).checked_sub(1);
        if let Some(index) = excluding.filter(|index| index / FRAMES == pb) {
            let (word, bit) = ((index % FRAMES / 64) as usize, 1 << (index % 64));
            bits.tail[word] |= bits.held[word] & bit;
        }
        bits
    }

    fn settle_bits(&self, pb: u64, bits: &Bits) {
        let rows = [
            (Bitmap::Retired, &bits.retired),
            (Bitmap::Held, &bits.held),
            (Bitmap::Tail, &bits.tail),
            (Bitmap::Taken, &bits.taken),
        ];
        for (bitmap, row) in rows {
            let words = self.frames.words_of(bitmap, pb);
            words.iter().zip(row).for_each(|(word, &value)| settle(word, value));
        }
    }

    fn settle_entry(&self, pb: u64, entry: Entry) {
        if self.frames.entry(pb) != entry {
            self.frames.set_entry(pb, entry);
        }
    }
}

/// Whether an entry is that of a pageblock in the pool.
fn is_present(entry: Entry) -> bool {
    let leaving = entry.state() == State::Owned && entry.link() == LEAVING;
    entry.state() != State::Absent && !leaving && entry.zone_id() < Zone::COUNT as u64
}

/// The movability of a pageblock, if its zone may hold it.
fn movability_of(entry: Entry) -> Movability {
    let movability = entry.movability();
    if entry.zone().holds(movability) { movability } else { Movability::Movable }
}
