//! What a script does to a node, and the log of what it was told to be done.

use std::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use super::*;
use crate::{Core, Frame, FrameRange, Geometry, Layout, Request, Watermarks};

pub(super) mod node {
    pub(in super::super) const BLOCK_FRAMES: u64 = 1024;
    pub(in super::super) const FRAMES: u64 = super::BLOCKS * BLOCK_FRAMES;
}

/// Blocks of hot-plug of the node; all but the last are in the pool at first.
pub(super) const BLOCKS: u64 = 6;

const NODE: Geometry =
    Geometry { first: Pfn(0), frames: node::FRAMES, block_frames: node::BLOCK_FRAMES, cores: 2 };

const MARKS: Watermarks = Watermarks { min: 0, low: 7, high: 9 };

/// The words of a node, where a line of cache starts.
pub(super) struct Memory {
    words: Vec<AtomicU64>,
    start: usize,
}

impl Memory {
    pub(super) fn of(image: &[u64]) -> Self {
        let room = image.len() + Layout::WORDS_SPARE;
        let mut words: Vec<AtomicU64> = Vec::with_capacity(room);
        let start = words.as_ptr().align_offset(64);
        words.extend((0..start).map(|_| AtomicU64::new(0)));
        words.extend(image.iter().map(|&word| AtomicU64::new(word)));
        Self { words, start }
    }

    pub(super) fn words(&self) -> &[AtomicU64] {
        &self.words[self.start..]
    }

    pub(super) fn image(&self) -> Vec<u64> {
        self.words().iter().map(|word| word.load(Relaxed)).collect()
    }
}

/// A node with all blocks but the last, one of them of another zone.
pub(super) fn new_node() -> Memory {
    let memory = Memory::of(&std::vec![0; Layout::new(NODE).unwrap().words()]);
    let frames = Frames::new(NODE, memory.words()).unwrap();
    for block in 0..BLOCKS - 1 {
        frames.add(block_range(block), zone_of(block)).unwrap();
    }
    frames.set_watermarks(Zone::Normal, MARKS).unwrap();
    memory
}

fn zone_of(block: u64) -> Zone {
    if block == BLOCKS - 2 { Zone::Movable } else { Zone::Normal }
}

fn block_range(block: u64) -> FrameRange {
    FrameRange::new(Pfn(block * node::BLOCK_FRAMES), node::BLOCK_FRAMES)
}

fn exponent(order: u8) -> Order {
    Order::new(order).unwrap()
}

/// An operation of a script. Numbers of what there is are taken modulo how many there are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    Take { cached: bool, order: u8, movability: Movability },
    TakeNumber { cached: bool, order: u8, movability: Movability },
    Give { cached: bool, nth: usize },
    GiveNumber { cached: bool, nth: usize },
    Hold(usize),
    Adopt(usize),
    Split(usize),
    Merge,
    TakeAt { at: u64, order: u8 },
    Retire { at: u64 },
    Exclude { at: u64, frames: u64 },
    Isolate(u64),
    Unisolate(u64),
    Remove(u64),
    Add { block: u64, movable: bool },
    Drain,
    Reserve { order: u8, count: u64, acquire: u64 },
}

/// The operation that has not returned yet, which may have happened or not.
#[derive(Clone, Copy, Debug)]
enum Doing {
    Nothing,
    /// Some block of this order, or the one that starts here, becomes held.
    Hold {
        at: Option<u64>,
        order: u8,
    },
    /// A block is not held any more.
    Release {
        at: u64,
    },
    Retire {
        at: u64,
    },
    Exclude {
        range: FrameRange,
    },
    /// A block comes or goes.
    Plug {
        block: u64,
        zone: Zone,
    },
}

/// What was done, kept in ordinary memory.
#[derive(Debug)]
pub(super) struct Log {
    held: BTreeMap<u64, u8>,
    retired: BTreeSet<u64>,
    holes: BTreeSet<u64>,
    blocks: BTreeMap<u64, Zone>,
    doing: Doing,
}

/// The program that runs the script. It is never dropped, but dies.
pub(super) struct World<'f> {
    frames: &'f Frames<'f>,
    core: Core<'f>,
    owned: Vec<Frame<'f>>,
    log: Log,
}

impl<'f> World<'f> {
    pub(super) fn new(frames: &'f Frames<'f>) -> Self {
        let log = Log {
            held: BTreeMap::new(),
            retired: BTreeSet::new(),
            holes: BTreeSet::new(),
            blocks: (0..BLOCKS - 1).map(|block| (block, zone_of(block))).collect(),
            doing: Doing::Nothing,
        };
        Self { frames, core: frames.core(1).unwrap(), owned: Vec::new(), log }
    }

    pub(super) fn die(self) -> Log {
        core::mem::forget((self.core, self.owned));
        self.log
    }

    fn take(&mut self, cached: bool, order: u8, movability: Movability) -> Option<Frame<'f>> {
        let request = Request::new(exponent(order), movability);
        if cached { self.core.take(request).ok() } else { self.frames.take(request).ok() }
    }

    fn some_owned(&mut self, nth: usize) -> Option<Frame<'f>> {
        let count = self.owned.len();
        (count != 0).then(|| self.owned.swap_remove(nth % count))
    }

    fn some_held(&self, nth: usize) -> Option<(u64, u8)> {
        let nth = nth % self.log.held.len().max(1);
        self.log.held.iter().nth(nth).map(|(&at, &order)| (at, order))
    }

    fn hold(&mut self, frame: Frame<'f>) {
        let order = frame.order().get();
        self.log.doing = Doing::Hold { at: Some(frame.pfn().0), order };
        let (pfn, _) = frame.into_number();
        self.log.held.insert(pfn.0, order);
    }

    fn give(&mut self, cached: bool, frame: Frame<'f>) {
        if cached { self.core.give(frame).unwrap() } else { drop(frame) }
    }

    fn merge(&mut self) -> Option<()> {
        let owned = &self.owned;
        let half = |nth: usize| (owned[nth].pfn().0, owned[nth].order().get());
        let buddy = |nth: usize| {
            let (at, order) = half(nth);
            (0..owned.len()).find(|&other| half(other) == (at ^ 1 << order, order))
        };
        let (one, other) = (0..owned.len()).find_map(|nth| Some((nth, buddy(nth)?)))?;
        let first = self.owned.swap_remove(one.max(other));
        let second = self.owned.swap_remove(one.min(other));
        match first.merge(second) {
            Ok(frame) => self.owned.push(frame),
            Err((first, second)) => self.owned.extend([first, second]),
        }
        Some(())
    }

    /// Does something, and logs it.
    pub(super) fn step(&mut self, op: Op) {
        self.try_step(op);
        self.log.doing = Doing::Nothing;
    }

    /// `None` when there is nothing to do it with.
    fn try_step(&mut self, op: Op) -> Option<()> {
        match op {
            Op::Take { cached, order, movability } => {
                let frame = self.take(cached, order, movability)?;
                self.owned.push(frame);
            }
            Op::TakeNumber { cached, order, movability } => {
                self.log.doing = Doing::Hold { at: None, order };
                let (pfn, _) = self.take(cached, order, movability)?.into_number();
                self.log.held.insert(pfn.0, order);
            }
            Op::Give { cached, nth } => {
                let frame = self.some_owned(nth)?;
                self.give(cached, frame);
            }
            Op::GiveNumber { cached, nth } => {
                let (at, order) = self.some_held(nth)?;
                self.log.doing = Doing::Release { at };
                let frame = self.frames.adopt(Pfn(at), exponent(order)).unwrap();
                self.give(cached, frame);
                self.log.held.remove(&at);
            }
            Op::Hold(nth) => {
                let frame = self.some_owned(nth)?;
                self.hold(frame);
            }
            Op::Adopt(nth) => {
                let (at, order) = self.some_held(nth)?;
                self.log.doing = Doing::Release { at };
                self.owned.push(self.frames.adopt(Pfn(at), exponent(order)).unwrap());
                self.log.held.remove(&at);
            }
            Op::Split(nth) => match self.some_owned(nth)?.split() {
                Ok((low, high)) => self.owned.extend([low, high]),
                Err(frame) => self.owned.push(frame),
            },
            Op::Merge => self.merge()?,
            Op::TakeAt { at, order } => {
                let pfn = Pfn(at & !(exponent(order).frames() - 1));
                let taken = self.frames.take_at(pfn, exponent(order), Movability::Movable);
                self.owned.push(taken.ok()?);
            }
            Op::Reserve { order, count, acquire } => {
                let request = Request::new(exponent(order), Movability::Movable);
                let mut room = self.frames.reserve(request, count).ok()?;
                (0..acquire).for_each(|_| self.owned.extend(room.acquire()));
            }
            Op::Drain => self.core.drain(),
            op => self.administer(op)?,
        }
        Some(())
    }

    fn administer(&mut self, op: Op) -> Option<()> {
        match op {
            Op::Retire { at } => {
                self.log.doing = Doing::Retire { at };
                self.frames.retire(Pfn(at)).ok()?;
                self.log.retired.insert(at);
            }
            Op::Exclude { at, frames } => {
                let range = FrameRange::new(Pfn(at), frames);
                self.log.doing = Doing::Exclude { range };
                self.frames.exclude(range).ok()?;
                self.log.holes.extend(at..at + frames);
            }
            Op::Isolate(block) => self.frames.isolate(block_range(block)).ok()?,
            Op::Unisolate(block) => self.frames.unisolate(block_range(block)).ok()?,
            Op::Remove(block) => {
                let zone = *self.log.blocks.get(&block)?;
                self.log.doing = Doing::Plug { block, zone };
                self.frames.remove(block_range(block)).ok()?;
                self.log.blocks.remove(&block);
                self.log.retired.retain(|at| at / node::BLOCK_FRAMES != block);
                self.log.holes.retain(|at| at / node::BLOCK_FRAMES != block);
            }
            Op::Add { block, movable } => {
                let zone = if movable { Zone::Movable } else { Zone::Normal };
                self.log.doing = Doing::Plug { block, zone };
                self.frames.add(block_range(block), zone).ok()?;
                self.log.blocks.insert(block, zone);
            }
            _ => unreachable!("{op:?} is for users"),
        }
        Some(())
    }
}

impl Log {
    /// Checks a node that was recovered: what was done is done, what was being done may be.
    pub(super) fn check(&self, frames: &Frames<'_>, recovered: &Recovered) {
        frames.validate();
        assert_eq!(frames.watermarks(Zone::Normal), MARKS);
        let held = frames.held().map(|(pfn, order)| (pfn.0, order.get())).collect();
        self.check_held(&held);
        let blocks = self.check_blocks(frames);

        let marked = |bitmap| (0..node::FRAMES).filter(move |&at| frames.bit(bitmap, at));
        let retired: BTreeSet<u64> = marked(Bitmap::Retired).collect();
        let hole = |&at: &u64| frames.bit(Bitmap::Held, at) && frames.bit(Bitmap::Tail, at);
        let holes: BTreeSet<u64> = retired.iter().copied().filter(hole).collect();
        let there = |set: &BTreeSet<u64>| -> BTreeSet<u64> {
            let there = |at: &&u64| blocks.contains_key(&(**at / node::BLOCK_FRAMES));
            set.iter().filter(there).copied().collect()
        };
        let more: Vec<u64> = holes.difference(&there(&self.holes)).copied().collect();
        let doing =
            |at: &u64| matches!(self.doing, Doing::Exclude { range } if range.contains(Pfn(*at)));
        assert!(there(&self.holes).is_subset(&holes), "holes were filled");
        assert!(more.iter().all(doing), "holes came into being: {more:?}");
        let should = &there(&self.retired) | &holes;
        let more: Vec<u64> = retired.difference(&should).copied().collect();
        let doing = |at| matches!(self.doing, Doing::Retire { at: doing } if doing == at);
        assert!(should.is_subset(&retired), "retired frames came back");
        assert!(more.iter().all(|&at| doing(at)), "frames were retired: {more:?}");

        // Nothing else is missing.
        let mut taken = retired;
        held.iter().for_each(|(at, order)| taken.extend(*at..at + (1 << order)));
        let present = blocks.len() as u64 * node::BLOCK_FRAMES;
        let free: u64 = Zone::all().map(|zone| frames.free_frames(zone.id())).sum();
        assert_eq!(free + taken.len() as u64, present);
        assert_eq!(recovered.held_blocks, held.len() as u64);
        assert_eq!(recovered.held_frames, held.values().map(|order| 1 << order).sum::<u64>());
        assert_eq!(recovered.pageblocks, present / FRAMES);
    }

    fn check_held(&self, held: &BTreeMap<u64, u8>) {
        let mut should = self.held.clone();
        match self.doing {
            Doing::Hold { at, order } => {
                let new = held.iter().find(|(at, _)| !should.contains_key(at));
                if let Some((&new, &found)) = new {
                    assert_eq!((at.unwrap_or(new), order), (new, found));
                    should.insert(new, order);
                }
            }
            Doing::Release { at } if !held.contains_key(&at) => drop(should.remove(&at)),
            _ => {}
        }
        assert_eq!(held, &should, "held, with {:?}", self.doing);
    }

    /// Which blocks are there.
    fn check_blocks(&self, frames: &Frames<'_>) -> BTreeMap<u64, Zone> {
        let per_block = node::BLOCK_FRAMES / FRAMES;
        let entry = |block: &u64| frames.entry(block * per_block);
        let there = (0..BLOCKS).filter(|block| entry(block).state() != State::Absent);
        let there: BTreeMap<u64, Zone> = there.map(|block| (block, entry(&block).zone())).collect();
        let mut should = self.blocks.clone();
        if let Doing::Plug { block, zone } = self.doing {
            if there.contains_key(&block) {
                should.entry(block).or_insert(zone);
            } else {
                should.remove(&block);
            }
        }
        assert_eq!(there, should, "blocks, with {:?}", self.doing);
        there
    }

    /// Takes all that is free, and gives everything back.
    pub(super) fn use_up(&self, frames: &Frames<'_>) {
        let held: Vec<(Pfn, Order)> = frames.held().collect();
        let free = frames.free_frames(0) + frames.free_frames(1);
        let mut core = frames.core(1).unwrap();
        let request = Request::new(Order::FRAME, Movability::Movable);
        let mut taken = Vec::new();
        while let Ok(frame) = core.take(request) {
            let at = frame.pfn().0;
            let kept = held
                .iter()
                .any(|&(pfn, order)| FrameRange::new(pfn, order.frames()).contains(Pfn(at)));
            assert!(!kept && !self.retired.contains(&at) && !self.holes.contains(&at), "{at}");
            taken.push(frame);
        }
        assert_eq!(taken.len() as u64, free);
        for (pfn, order) in held {
            core.give_number(pfn, order).unwrap();
        }
        taken.into_iter().for_each(|frame| core.give(frame).unwrap());
        drop(core);
        frames.validate();
        let counts = frames.counts();
        assert_eq!((counts.used, counts.cached, frames.retiring()), (0, 0, 0));
    }
}
