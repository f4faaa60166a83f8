use std::{vec, vec::Vec};

use memtide_units::{FrameRange, Order, Pfn};

use super::*;
use crate::{
    cache::Core,
    frame::Frame,
    frames::Bitmap,
    layout::{Geometry, Layout},
    primitive::AtomicU64,
    request::{Request, Want},
    reserve::Reservation,
    zone::Channel,
};

/// Words for a node of so many pageblocks, in blocks of four, with two cores.
pub(crate) fn words(pageblocks: u64) -> (Geometry, Vec<AtomicU64>) {
    let first = Pfn(0);
    let geometry = Geometry { first, frames: pageblocks << 9, block_frames: 4 << 9, cores: 2 };
    let count = Layout::new(geometry).unwrap().words() + Layout::WORDS_SPARE;
    (geometry, (0..count).map(|_| AtomicU64::new(0)).collect())
}

/// Pageblocks of a node.
pub(crate) const fn pageblocks(first: u64, count: u64) -> FrameRange {
    FrameRange::new(Pfn(first << 9), count << 9)
}

/// A generator of numbers (xorshift64*), which a seed repeats.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end
    }
}

/// What a random caller has.
pub(crate) struct Caller<'f> {
    frames: &'f Frames<'f>,
    pub(crate) rng: Rng,
    cores: Vec<Core<'f>>,
    pub(crate) owned: Vec<Frame<'f>>,
    pub(crate) numbers: Vec<(Pfn, Order)>,
    isolated: Vec<FrameRange>,
    rooms: Vec<Reservation<'f>>,
}

impl<'f> Caller<'f> {
    pub(crate) fn new(frames: &'f Frames<'f>, seed: u64) -> Self {
        Self::with_cores(frames, seed, &[0, 1])
    }

    fn with_cores(frames: &'f Frames<'f>, seed: u64, cores: &[u16]) -> Self {
        Self {
            frames,
            rng: Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            cores: cores.iter().map(|&core| frames.core(core).unwrap()).collect(),
            owned: vec![],
            numbers: vec![],
            isolated: vec![],
            rooms: vec![],
        }
    }

    fn request(&mut self) -> Request {
        let order = match self.rng.below(20) {
            0 => self.rng.below(13),
            1..4 => self.rng.below(9),
            _ => 0,
        };
        let movability = Movability::ALL[self.rng.below(3) as usize];
        let wants = [Want::Any, Want::Any, Want::Normal, Want::Exmem];
        let want = wants[self.rng.below(4) as usize];
        Request::new(Order::new(order as u8).unwrap(), movability).from(want)
    }

    fn pageblock(&mut self) -> FrameRange {
        let count = self.frames.layout.geometry.frames / FRAMES;
        FrameRange::new(self.frames.pfn(self.rng.below(count) * FRAMES), FRAMES)
    }

    fn take(&mut self) {
        let request = self.request();
        let core = self.rng.below(3) as usize;
        let times = if request.order == Order::FRAME { 1 + self.rng.below(100) } else { 1 };
        for _ in 0..times {
            let frame = match self.cores.get_mut(core) {
                Some(core) => core.take(request),
                None => self.frames.take(request),
            };
            match frame {
                Ok(frame) if self.rng.below(4) == 0 => self.numbers.push(frame.into_number()),
                Ok(frame) => self.owned.push(frame),
                Err(_) => return,
            }
        }
    }

    fn give(&mut self, times: u64) {
        for _ in 0..times {
            let core = self.rng.below(3) as usize;
            if !self.numbers.is_empty() && self.rng.below(4) == 0 {
                let at = self.rng.below(self.numbers.len() as u64) as usize;
                let (pfn, order) = self.numbers.swap_remove(at);
                self.owned.push(self.frames.adopt(pfn, order).unwrap());
            } else if !self.owned.is_empty() {
                let at = self.rng.below(self.owned.len() as u64) as usize;
                let frame = self.owned.swap_remove(at);
                match self.cores.get_mut(core) {
                    Some(core) => core.give(frame).unwrap(),
                    None => drop(frame),
                }
            }
        }
    }

    /// Splits a block, or joins two.
    fn reshape(&mut self) {
        let count = self.owned.len() as u64;
        if count < 2 {
            return;
        }
        let at = self.rng.below(count) as usize;
        match self.owned.swap_remove(at).split() {
            Ok((low, high)) if self.rng.below(2) == 0 => {
                self.owned.push(low.merge(high).unwrap_or_else(|(low, high)| {
                    drop(high);
                    low
                }));
            }
            Ok((low, high)) => self.owned.extend([low, high]),
            Err(frame) => {
                let at = self.rng.below(count - 1) as usize;
                match frame.merge(self.owned.swap_remove(at)) {
                    Ok(frame) => self.owned.push(frame),
                    Err((one, other)) => self.owned.extend([one, other]),
                }
            }
        }
    }

    fn name(&mut self) {
        let movability = Movability::ALL[self.rng.below(3) as usize];
        let start = self.rng.below(self.frames.layout.geometry.frames);
        let length = 1 << self.rng.below(11);
        let range = FrameRange::new(self.frames.pfn(start), length);
        if let Ok(run) = self.frames.take_range(range, movability) {
            self.owned.extend(run.into_frames());
        }
    }

    fn plug(&mut self) {
        let block = self.frames.layout.geometry.block_frames;
        match self.rng.below(4) {
            0 if self.isolated.len() < 2 => {
                let range = self.pageblock();
                if self.frames.isolate(range).is_ok() {
                    self.isolated.push(range);
                }
            }
            1 | 2 if !self.isolated.is_empty() => {
                let at = self.rng.below(self.isolated.len() as u64) as usize;
                self.frames.unisolate(self.isolated.swap_remove(at)).unwrap();
            }
            3 => {
                let blocks = self.frames.layout.geometry.frames / block;
                let range = FrameRange::new(Pfn(self.rng.below(blocks) * block), block);
                let zone = self.frames.entry(range.start.0 / FRAMES).zone();
                if self.frames.isolate(range).is_ok() {
                    if self.frames.remove(range).is_ok() {
                        self.frames.add(range, zone).unwrap();
                    } else {
                        self.frames.unisolate(range).unwrap();
                    }
                }
            }
            _ => {}
        }
    }

    fn spoil(&mut self) {
        let pfn = self.frames.pfn(self.rng.below(self.frames.layout.geometry.frames));
        if self.rng.below(3) == 0 {
            let _ = self.frames.exclude(FrameRange::new(pfn, 1 + self.rng.below(5)));
        } else {
            let _ = self.frames.retire(pfn);
        }
    }

    fn reserve(&mut self) {
        let (request, count) = (self.request(), self.rng.below(100));
        match self.rng.below(3) {
            0 if self.rooms.len() < 3 => self.rooms.extend(self.frames.reserve(request, count)),
            1 => drop(self.rooms.pop()),
            _ => {
                if let Some(room) = self.rooms.first_mut() {
                    self.owned.extend((0..count / 10).map_while(|_| room.acquire()));
                }
            }
        }
    }

    /// One random call.
    pub(crate) fn step(&mut self) {
        match self.rng.below(100) {
            0..45 => self.take(),
            45..80 => {
                let times = self.rng.below(70);
                self.give(times);
            }
            80..86 => self.reshape(),
            86..88 => self.reserve(),
            88..91 => self.name(),
            91..96 => self.plug(),
            96 => self.spoil(),
            97 => {
                self.cores.iter_mut().for_each(Core::drain);
            }
            98 => {
                let times = self.owned.len() as u64;
                self.give(times);
            }
            _ => self.reserve(),
        }
    }

    /// Gives all back.
    pub(crate) fn finish(mut self) {
        for (pfn, order) in self.numbers.drain(..) {
            self.frames.give(self.frames.adopt(pfn, order).unwrap()).unwrap();
        }
        self.owned.clear();
        self.rooms.clear();
        for range in self.isolated.drain(..) {
            self.frames.unisolate(range).unwrap();
        }
    }
}

/// A node of 20 pageblocks with all kinds of zones.
pub(crate) fn mixed_zones(frames: &Frames<'_>) {
    let channel = Zone::Exmem(Channel::new(1).unwrap());
    let zones = [Zone::Normal, Zone::PreferMovable, Zone::Movable, channel, Zone::Device];
    for (n, zone) in zones.into_iter().enumerate() {
        frames.add(pageblocks(n as u64 * 4, 4), zone).unwrap();
    }
}

#[test]
fn whatever_is_done_all_agrees() {
    for seed in 1..60 {
        let (geometry, words) = words(20);
        let frames = Frames::new(geometry, &words).unwrap();
        frames.validate();
        mixed_zones(&frames);
        let mut caller = Caller::new(&frames, seed);
        for _ in 0..300 {
            caller.step();
            frames.validate();
        }
        caller.finish();
        frames.validate();
        assert_eq!((frames.counts().used, frames.counts().cached), (0, 0), "seed {seed}");
    }
}

/// Three callers at once, who give back what the others took.
#[test]
fn whatever_several_do_all_agrees() {
    for seed in 1..20 {
        let (geometry, words) = words(20);
        let frames = Frames::new(geometry, &words).unwrap();
        mixed_zones(&frames);
        let shared = std::sync::Mutex::new(vec![]);
        std::thread::scope(|scope| {
            for (n, cores) in [&[0][..], &[1], &[]].into_iter().enumerate() {
                let (frames, shared) = (&frames, &shared);
                scope.spawn(move || {
                    let seed = seed * 3 + n as u64;
                    let mut caller = Caller::with_cores(frames, seed, cores);
                    for _ in 0..200 {
                        caller.step();
                        let half = caller.owned.len() / 2;
                        let mut shared = shared.lock().unwrap();
                        shared.extend(caller.owned.drain(half..));
                        caller.owned.extend(shared.pop());
                    }
                    caller.finish();
                });
            }
        });
        frames.validate();
        shared.into_inner().unwrap().clear();
        frames.validate();
        assert_eq!((frames.counts().used, frames.counts().cached), (0, 0), "seed {seed}");
    }
}

#[test]
fn notes_of_runs_survive_small_blocks() {
    let (geometry, words) = words(64);
    let frames = Frames::new(geometry, &words).unwrap();
    frames.add(pageblocks(0, 64), Zone::Normal).unwrap();
    for seed in 1..20 {
        let mut rng = Rng(seed);
        let mut owned = vec![];
        for _ in 0..400 {
            let order = Order::new(9 + rng.below(5) as u8).unwrap();
            match frames.take(Request::new(order, Movability::Unmovable)) {
                Ok(frame) => owned.push(frame),
                Err(_) => {
                    for _ in 0..owned.len() - 1 {
                        let at = rng.below(owned.len() as u64) as usize;
                        drop(owned.swap_remove(at));
                    }
                }
            }
            frames.validate();
        }
    }
}

/// What is broken by hand is found. Each breaks one thing of a node with some of all in it.
#[test]
fn what_does_not_agree_is_found() {
    type Break = fn(&Frames<'_>);
    let breaks: [(&str, Break); 9] = [
        ("index", |frames| assert!(frames.free(0).remove(3))),
        ("index", |frames| assert!(frames.listed(0, Movability::Movable, 2).insert(0))),
        ("free", |frames| frames.account(0, 1)),
        ("tail", |frames| {
            frames.word(Bitmap::Tail, 0).fetch_or(1, AcqRel);
        }),
        ("held", |frames| {
            frames.word(Bitmap::Held, 7).fetch_or(1 << 63, AcqRel);
        }),
        ("retired", |frames| {
            frames.header[header::RETIRED].fetch_add(1, AcqRel);
        }),
        ("present", |frames| {
            frames.zone_word(0, header::PRESENT).fetch_add(1, AcqRel);
        }),
        ("isolated", |frames| {
            frames.isolated[0].fetch_or(8, AcqRel);
        }),
        ("cached", |frames| {
            frames.record(1)[record::CACHED].store(1, Release);
        }),
    ];
    for (word, spoil) in breaks {
        let (geometry, words) = words(8);
        let frames = Frames::new(geometry, &words).unwrap();
        frames.add(pageblocks(0, 8), Zone::Normal).unwrap();
        let order = Order::new(2).unwrap();
        let frame = frames.take(Request::new(order, Movability::Movable)).unwrap();
        frames.validate();
        spoil(&frames);
        let check = std::panic::AssertUnwindSafe(|| frames.validate());
        let why = std::panic::catch_unwind(check).expect_err(word);
        let why = why.downcast_ref::<std::string::String>().expect("a message");
        assert!(why.contains(word), "{why}");
        core::mem::forget(frame);
    }
}
