//! A plain description of a node: what each frame is, frame by frame.
//!
//! It does not predict which frame is handed out. It says whether what was handed out could be,
//! and whether a refusal is right: whether there is any block that should have been found. Cores
//! are unknown to it: what a core caches is free. So refusals are judged once all cores are
//! drained, and so are counts.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use memtide_frames::{
    FrameError, FrameRange, Geometry, Movability, Order, Pfn, Request, Urgency, Want, Watermarks,
    Zone,
};

use super::shape::PAGEBLOCK;

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cell {
    /// Its block is not in the pool.
    Absent,
    /// Nobody has it, or a core caches it.
    Free,
    /// Part of what is held under this name.
    Taken(u32),
    /// Out of service.
    Retired,
    /// Not there.
    Hole,
}

/// Something that is held: a block, or a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held {
    /// Its first frame.
    pub start: u64,
    /// How many.
    pub frames: u64,
    /// Whether it is held by its number.
    pub by_number: bool,
}

impl Held {
    /// Its order, if it is a block.
    pub fn order(&self) -> Order {
        assert!(self.frames.is_power_of_two());
        Order::new(self.frames.trailing_zeros() as u8).unwrap()
    }
}

/// A pageblock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pageblock {
    /// Its zone, if it is in the pool.
    pub zone: Option<Zone>,
    /// Whether nothing is to be handed out of it.
    pub isolated: bool,
    /// How many cells are free.
    pub free: u64,
    /// How many are retired.
    pub retired: u64,
    /// How many are holes.
    pub holes: u64,
}

/// The node.
pub struct Model {
    pub geometry: Geometry,
    cells: Vec<Cell>,
    pub pageblocks: Vec<Pageblock>,
    pub held: BTreeMap<u32, Held>,
    next: u32,
    /// Frames that will be out of service when they are given back (or flushed by a core).
    pub noted: BTreeSet<u64>,
    /// What the channels are dedicated to: whether to what can move.
    used: BTreeMap<Zone, bool>,
    pub marks: BTreeMap<Zone, Watermarks>,
}

/// The zone table: whether a search for such a request may end in a zone.
pub fn may_land(zone: Zone, want: Want, movability: Movability) -> bool {
    match zone {
        Zone::Normal | Zone::PreferMovable => want != Want::Exmem,
        Zone::Movable => want != Want::Exmem && movability == Movability::Movable,
        Zone::Device => false,
        Zone::Exmem(_) => want != Want::Normal,
    }
}

/// Whether a zone may hold such frames at all.
pub fn may_hold(zone: Zone, movability: Movability) -> bool {
    zone != Zone::Movable || movability == Movability::Movable
}

impl Model {
    /// A node without blocks.
    pub fn new(geometry: Geometry) -> Self {
        let none = Pageblock { zone: None, isolated: false, free: 0, retired: 0, holes: 0 };
        Self {
            geometry,
            cells: vec![Cell::Absent; geometry.frames as usize],
            pageblocks: vec![none; (geometry.frames / PAGEBLOCK) as usize],
            held: BTreeMap::new(),
            next: 0,
            noted: BTreeSet::new(),
            used: BTreeMap::new(),
            marks: BTreeMap::new(),
        }
    }

    pub fn span(&self) -> FrameRange {
        FrameRange::new(self.geometry.first, self.geometry.frames)
    }

    fn index(&self, pfn: u64) -> Option<usize> {
        let index = pfn.checked_sub(self.geometry.first.0)?;
        (index < self.geometry.frames).then_some(index as usize)
    }

    /// What a frame is, if it is one.
    pub fn cell(&self, pfn: u64) -> Option<Cell> {
        Some(self.cells[self.index(pfn)?])
    }

    pub fn pageblock(&self, pfn: u64) -> &Pageblock {
        &self.pageblocks[self.index(pfn).unwrap() / PAGEBLOCK as usize]
    }

    /// The frames of a pageblock.
    pub fn frames_of(&self, pb: usize) -> Range<u64> {
        let start = self.geometry.first.0 + pb as u64 * PAGEBLOCK;
        start..start + PAGEBLOCK
    }

    /// Makes something of frames.
    pub fn set(&mut self, frames: Range<u64>, to: Cell) {
        for pfn in frames {
            let index = self.index(pfn).unwrap();
            let pageblock = &mut self.pageblocks[index / PAGEBLOCK as usize];
            for (cell, count) in [
                (Cell::Free, &mut pageblock.free),
                (Cell::Retired, &mut pageblock.retired),
                (Cell::Hole, &mut pageblock.holes),
            ] {
                *count -= u64::from(self.cells[index] == cell);
                *count += u64::from(to == cell);
            }
            self.cells[index] = to;
        }
    }

    /// Whether it may be handed out to somebody who names it.
    pub fn is_free(&self, frames: Range<u64>) -> bool {
        frames.clone().all(|pfn| self.cell(pfn) == Some(Cell::Free))
            && self.noted.range(frames).next().is_none()
    }

    /// Whether all of a pageblock is free.
    pub fn is_whole(&self, pb: usize) -> bool {
        self.pageblocks[pb].free == PAGEBLOCK
            && self.noted.range(self.frames_of(pb)).next().is_none()
    }

    /// Frames of a zone that nobody has.
    pub fn free(&self, zone: Zone) -> u64 {
        self.pageblocks.iter().filter(|pb| pb.zone == Some(zone)).map(|pb| pb.free).sum()
    }

    /// Frames of a zone that are there.
    pub fn present(&self, zone: Zone) -> u64 {
        let pageblocks = self.pageblocks.iter().filter(|pb| pb.zone == Some(zone));
        pageblocks.map(|pb| PAGEBLOCK - pb.holes).sum()
    }

    /// Frames out of service.
    pub fn retired(&self) -> u64 {
        self.pageblocks.iter().map(|pb| pb.retired).sum()
    }

    // ---- Dedication ----

    /// Whether a zone is dedicated to the other use.
    pub fn is_closed_to(&self, zone: Zone, movability: Movability) -> bool {
        self.used.get(&zone).is_some_and(|&use_| use_ != (movability == Movability::Movable))
    }

    pub fn dedication(&self, zone: Zone) -> Option<bool> {
        self.used.get(&zone).copied()
    }

    /// Notes that a channel is in use.
    pub fn dedicate(&mut self, frames: Range<u64>, movability: Movability) {
        let pageblock = |pfn| self.index(pfn).unwrap() / PAGEBLOCK as usize;
        for pb in pageblock(frames.start)..=pageblock(frames.end - 1) {
            let zone = self.pageblocks[pb].zone.unwrap();
            if matches!(zone, Zone::Exmem(_)) {
                self.used.entry(zone).or_insert(movability == Movability::Movable);
            }
        }
    }

    /// Channels of which all is free again are dedicated to nothing.
    fn undedicate(&mut self) {
        let used: Vec<Zone> = self.used.keys().copied().collect();
        for zone in used {
            let pageblocks = 0..self.pageblocks.len();
            let mut own = pageblocks.filter(|&pb| self.pageblocks[pb].zone == Some(zone));
            if own.all(|pb| self.is_whole(pb)) {
                self.used.remove(&zone);
            }
        }
    }

    // ---- Taking and giving back ----

    /// Notes that a free block or run is taken. Returns its name.
    pub fn take(&mut self, start: u64, frames: u64, movability: Movability) -> u32 {
        let range = start..start + frames;
        assert!(self.is_free(range.clone()), "{start:#x}+{frames:#x} handed out, not free");
        self.dedicate(range, movability);
        self.hold(Held { start, frames, by_number: false })
    }

    fn hold(&mut self, held: Held) -> u32 {
        let name = self.next;
        self.next += 1;
        self.set(held.start..held.start + held.frames, Cell::Taken(name));
        self.held.insert(name, held);
        name
    }

    /// Notes that something is given back.
    pub fn give(&mut self, name: u32) {
        let held = self.held.remove(&name).unwrap();
        let range = held.start..held.start + held.frames;
        let bad: Vec<u64> = self.noted.range(range.clone()).copied().collect();
        self.set(range, Cell::Free);
        for pfn in bad {
            self.noted.remove(&pfn);
            self.set(pfn..pfn + 1, Cell::Retired);
        }
        self.undedicate();
    }

    /// What is held in place of something else: its parts, or the whole.
    pub fn replace(&mut self, names: &[u32], by: &[(u64, u64)]) -> Vec<u32> {
        for name in names {
            self.held.remove(name).unwrap();
        }
        let held = by.iter().map(|&(start, frames)| Held { start, frames, by_number: false });
        held.map(|held| self.hold(held)).collect()
    }

    /// All cores were drained: what they cached of frames that are bad is out of service.
    pub fn settle(&mut self) {
        let cached = self.noted.iter().copied().filter(|&pfn| self.cell(pfn) == Some(Cell::Free));
        for pfn in cached.collect::<Vec<_>>() {
            self.noted.remove(&pfn);
            self.set(pfn..pfn + 1, Cell::Retired);
        }
        self.undedicate();
    }

    /// What a number names: something that is held by its number, or nothing.
    pub fn by_number(&self, pfn: Pfn, order: Order) -> Result<u32, FrameError> {
        let node = self.span();
        let last = pfn.0.checked_add(order.frames() - 1);
        if self.index(pfn.0).is_none() || last.and_then(|last| self.index(last)).is_none() {
            return Err(FrameError::Foreign { pfn, order, node });
        }
        if !pfn.0.is_multiple_of(order.frames()) {
            return Err(FrameError::Unaligned { pfn, order });
        }
        let Some(Cell::Taken(name)) = self.cell(pfn.0) else {
            return Err(FrameError::NotHeld { pfn, order });
        };
        let held = &self.held[&name];
        if held.start != pfn.0 || !held.by_number {
            return Err(FrameError::NotHeld { pfn, order });
        }
        if held.frames != order.frames() {
            return Err(FrameError::WrongOrder { pfn, order, held: held.order() });
        }
        Ok(name)
    }

    // ---- What a search should find ----

    /// Whether there is a block as requested in one of those zones, when no core caches anything.
    pub fn could_take(&self, request: &Request, zones: impl Fn(Zone) -> bool) -> bool {
        let Request { order, movability, want, urgency } = *request;
        let serves = |zone: Zone| {
            let min = self.marks.get(&zone).map_or(0, |marks| marks.min);
            may_land(zone, want, movability)
                && !self.is_closed_to(zone, movability)
                && zones(zone)
                && (min == 0
                    || urgency == Urgency::Emergency
                    || self.free(zone) >= min + order.frames())
        };
        let serving: BTreeSet<Zone> = Zone::all().filter(|&zone| serves(zone)).collect();
        let open = |pb: &Pageblock| pb.zone.is_some_and(|z| serving.contains(&z)) && !pb.isolated;
        let pageblocks = self.pageblocks.iter().enumerate();
        let mut open = pageblocks.filter(|(_, pb)| pb.free > 0 && open(pb)).map(|(n, _)| n);
        if order < Order::PAGEBLOCK {
            return open.any(|pb| {
                let mut starts = self.frames_of(pb).step_by(order.frames() as usize);
                starts.any(|start| self.is_free(start..start + order.frames()))
            });
        }
        let (count, first) = (order.frames() / PAGEBLOCK, self.geometry.first.0 / PAGEBLOCK);
        let open: Vec<usize> = open.collect();
        let is_open = |pb: u64| open.binary_search(&(pb as usize)).is_ok();
        let starts = open.iter().map(|&pb| pb as u64);
        let mut starts = starts.filter(|pb| (first + pb).is_multiple_of(count));
        starts.any(|start| {
            let zone = self.pageblocks[start as usize].zone;
            (start..start + count).all(|pb| {
                is_open(pb)
                    && self.pageblocks[pb as usize].zone == zone
                    && self.is_whole(pb as usize)
            })
        })
    }

    /// Frames that nobody has in all zones where a request may land.
    pub fn free_for(&self, request: &Request) -> u64 {
        let zones = Zone::all().filter(|&z| may_land(z, request.want, request.movability));
        zones.map(|zone| self.free(zone)).sum()
    }
}
