//! Threads that take, give, pass on, split, isolate, remove, and retire at once.
//!
//! The memory behind each frame is played by one word: whoever takes a block writes his stamp into
//! the words of all its frames, and finds it there when he gives the block back. Two owners of one
//! frame cannot both find theirs. In the end everything goes back, the node is validated, and the
//! largest block can be taken again.
//!
//! `MEMTIDE_SEED` repeats a round, as far as the machine lets it; `MEMTIDE_SOAK_SECONDS` makes
//! the test as long as wanted.

use std::{
    sync::{
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::*},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use memtide_frames::{
    Channel, Core, Frame, FrameRange, Frames, Geometry, Layout, Movability, Order, Pfn, Request,
    Want, Zone,
};

const WORKERS: u16 = 4;
const PAGEBLOCK: u64 = 512;
const PAGEBLOCKS: u64 = 64;
const BLOCK: u64 = 4 * PAGEBLOCK;
/// Neither zero nor a multiple of 1 GiB, but one of 128 MiB.
const FIRST: u64 = 5 * PAGEBLOCKS * PAGEBLOCK;
/// Frames are retired from here on, so that a large block below stays possible.
const RETIRED_FROM: u64 = FIRST + 32 * PAGEBLOCK;

/// A sequence that depends on its seed alone.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }
}

/// What the threads have in common.
struct Stage<'f> {
    frames: &'f Frames<'f>,
    /// The memory of the frames.
    memory: Vec<AtomicU32>,
    /// Pageblocks whose isolation is in force; and how often one has ended.
    isolated: AtomicU64,
    ended: AtomicU64,
    next_stamp: AtomicU32,
    over: AtomicBool,
}

/// A block that somebody has, and what he wrote into it.
struct Held<'f> {
    frame: Frame<'f>,
    stamp: u32,
}

impl<'f> Stage<'f> {
    fn words(&self, range: FrameRange) -> &[AtomicU32] {
        let at = (range.start.0 - FIRST) as usize;
        &self.memory[at..at + range.frames as usize]
    }

    fn write(&self, range: FrameRange) -> u32 {
        let stamp = self.next_stamp.fetch_add(1, Relaxed);
        for (n, word) in self.words(range).iter().enumerate() {
            let before = word.swap(stamp, Relaxed);
            assert_eq!(before, 0, "frame {n} of {range} has two owners");
        }
        stamp
    }

    fn wipe(&self, range: FrameRange, stamp: u32) {
        for (n, word) in self.words(range).iter().enumerate() {
            let before = word.swap(0, Relaxed);
            assert_eq!(before, stamp, "frame {n} of {range} was somebody else's");
        }
    }

    fn hold(&self, frame: Frame<'f>) -> Held<'f> {
        let stamp = self.write(range_of(&frame));
        Held { frame, stamp }
    }

    fn release(&self, held: Held<'f>) -> Frame<'f> {
        self.wipe(range_of(&held.frame), held.stamp);
        held.frame
    }

    /// Searches for a block; it must not be one whose isolation was in force all the time.
    fn search(&self, take: impl FnOnce() -> Option<Frame<'f>>) -> Option<Held<'f>> {
        let (ended, isolated) = (self.ended.load(SeqCst), self.isolated.load(SeqCst));
        let frame = take()?;
        if ended == self.ended.load(SeqCst) {
            let first = (frame.pfn().0 - FIRST) / PAGEBLOCK;
            let count = frame.order().frames().div_ceil(PAGEBLOCK);
            for pb in first..first + count {
                assert!(isolated >> pb & 1 == 0, "{frame:?} was handed out, though isolated");
            }
        }
        Some(self.hold(frame))
    }

    /// Takes a range for a moment, whole or in parts.
    fn visit_range(&self, range: FrameRange, movability: Movability, in_parts: bool) {
        let Ok(run) = self.frames.take_range(range, movability) else { return };
        let stamp = self.write(range);
        thread::yield_now();
        if in_parts {
            run.into_frames().for_each(|frame| self.wipe(range_of(&frame), stamp));
        } else {
            self.wipe(range, stamp);
            drop(run);
        }
    }
}

fn range_of(frame: &Frame<'_>) -> FrameRange {
    FrameRange::new(frame.pfn(), frame.order().frames())
}

fn zone_of(block: u64) -> Zone {
    match block {
        0..10 => Zone::Normal,
        10..12 => Zone::Movable,
        12..14 => Zone::PreferMovable,
        _ => Zone::Exmem(Channel::new(0).unwrap()),
    }
}

fn block(n: u64) -> FrameRange {
    FrameRange::new(Pfn(FIRST + n * BLOCK), BLOCK)
}

/// Takes and gives by a core of its own.
struct Worker<'s, 'f> {
    stage: &'s Stage<'f>,
    dice: Dice,
    core: Core<'f>,
    held: Vec<Held<'f>>,
    others: Vec<Sender<Held<'f>>>,
    inbox: Receiver<Held<'f>>,
    /// How much it holds at most: changes all the time.
    most: usize,
}

impl<'f> Worker<'_, 'f> {
    fn run(mut self) {
        while !self.stage.over.load(Relaxed) {
            self.step();
            while let Ok(held) = self.inbox.try_recv() {
                self.held.push(held);
            }
            while self.held.len() > self.most {
                self.give();
            }
        }
        let Self { stage, core, held, others, inbox, .. } = self;
        drop(others);
        // What others sent at last comes until they, too, have dropped their ends.
        held.into_iter().chain(inbox).for_each(|held| drop(stage.release(held)));
        drop(core);
    }

    fn step(&mut self) {
        match self.dice.roll(100) {
            0..44 => self.take(),
            44..78 => self.give(),
            78..86 => self.pass_on(),
            86..90 => self.number(),
            90..95 => self.split(),
            95 => self.core.drain(),
            96 => drop(self.core.crossing()),
            97 => self.reopen(),
            _ => self.most = [0, 10, 100, 1000, 10_000][self.dice.roll(5) as usize],
        }
    }

    fn request(&mut self) -> Request {
        const ORDERS: [u8; 16] = [0, 0, 0, 0, 0, 0, 1, 2, 3, 5, 6, 7, 9, 9, 10, 12];
        let order = Order::new(ORDERS[self.dice.roll(16) as usize]).unwrap();
        let movability = Movability::ALL[self.dice.roll(3) as usize];
        let want = [Want::Any, Want::Any, Want::Normal, Want::Exmem][self.dice.roll(4) as usize];
        Request::new(order, movability).from(want)
    }

    fn take(&mut self) {
        let request = self.request();
        let core = &mut self.core;
        let held = match self.dice.roll(8) {
            0 => self.stage.search(|| self.stage.frames.take(request).ok()),
            _ => self.stage.search(|| core.take(request).ok()),
        };
        self.held.extend(held);
    }

    fn some(&mut self) -> Option<Held<'f>> {
        let len = self.held.len() as u64;
        (len > 0).then(|| self.held.swap_remove(self.dice.roll(len) as usize))
    }

    fn give(&mut self) {
        let Some(held) = self.some() else { return };
        let frame = self.stage.release(held);
        match self.dice.roll(8) {
            0 => drop(frame),
            1 => self.stage.frames.give(frame).unwrap(),
            _ => self.core.give(frame).unwrap(),
        }
    }

    fn pass_on(&mut self) {
        let to = self.dice.roll(self.others.len() as u64) as usize;
        if let Some(held) = self.some() {
            // One that has left already sends it back with the error.
            if let Err(error) = self.others[to].send(held) {
                self.held.push(error.0);
            }
        }
    }

    /// Holds a block by its number, and gives that back: once only.
    fn number(&mut self) {
        let Some(held) = self.some() else { return };
        let (pfn, order) = self.stage.release(held).into_number();
        self.core.give_number(pfn, order).unwrap();
    }

    /// Splits a block, and puts it together again or not.
    fn split(&mut self) {
        let Some(held) = self.some() else { return };
        match self.stage.release(held).split() {
            Ok((low, high)) if self.dice.roll(2) == 0 => {
                let parts = match low.merge(high) {
                    Ok(whole) => vec![whole],
                    Err((low, high)) => vec![low, high],
                };
                self.held.extend(parts.into_iter().map(|frame| self.stage.hold(frame)));
            }
            Ok((low, high)) => {
                self.held.extend([low, high].map(|frame| self.stage.hold(frame)));
            }
            Err(single) => self.held.push(self.stage.hold(single)),
        }
    }

    /// Gives up the core and takes it again, with another cache.
    fn reopen(&mut self) {
        let (frames, number) = (self.stage.frames, self.core.number());
        let spare = frames.core(WORKERS + number).unwrap();
        drop(std::mem::replace(&mut self.core, spare));
        let limit = [0, 1, 7, 64][self.dice.roll(4) as usize];
        self.core = frames.core_with_cache(number, limit).unwrap();
    }
}

/// Isolates, removes and adds blocks; retires a few frames.
fn operate(stage: &Stage<'_>, mut dice: Dice) {
    let mut removed = 0;
    while !stage.over.load(Relaxed) {
        let n = dice.roll(PAGEBLOCKS * PAGEBLOCK / BLOCK);
        let whole = block(n);
        let part = dice.roll(4);
        let range = match dice.roll(3) {
            0 => FrameRange::new(Pfn(whole.start.0 + part * PAGEBLOCK), PAGEBLOCK),
            _ => whole,
        };
        stage.frames.isolate(range).unwrap();
        let pageblocks = (1 << (range.frames / PAGEBLOCK)) - 1;
        let mask = pageblocks << ((range.start.0 - FIRST) / PAGEBLOCK);
        stage.isolated.fetch_or(mask, SeqCst);
        let patience = Instant::now() + Duration::from_micros(dice.roll(4000));
        let mut gone = false;
        while !gone && Instant::now() < patience {
            thread::yield_now();
            gone = range == whole && stage.frames.remove(whole).is_ok();
        }
        stage.isolated.fetch_and(!mask, SeqCst);
        stage.ended.fetch_add(1, SeqCst);
        if gone {
            removed += 1;
            stage.frames.add(whole, zone_of(n)).unwrap();
        } else {
            stage.frames.unisolate(range).unwrap();
        }
        if stage.frames.retired() + stage.frames.retiring() < 6 && dice.roll(50) == 0 {
            let frames = FIRST + PAGEBLOCKS * PAGEBLOCK - RETIRED_FROM;
            let _ = stage.frames.retire(Pfn(RETIRED_FROM + dice.roll(frames))).unwrap();
        }
    }
    println!("{removed} blocks removed and added");
}

/// Takes what it names.
fn visit(stage: &Stage<'_>, mut dice: Dice) {
    while !stage.over.load(Relaxed) {
        let start = dice.roll(PAGEBLOCKS * PAGEBLOCK);
        let most = if dice.roll(2) == 0 { 40 } else { 3000 };
        let frames = (1 + dice.roll(most)).min(PAGEBLOCKS * PAGEBLOCK - start);
        let movability = Movability::ALL[dice.roll(3) as usize];
        let range = FrameRange::new(Pfn(FIRST + start), frames);
        stage.visit_range(range, movability, dice.roll(2) == 0);
        let order = Order::new(dice.roll(11) as u8).unwrap();
        let pfn = Pfn(range.start.0 & !(order.frames() - 1));
        if let Ok(frame) = stage.frames.take_at(pfn, order, movability) {
            drop(stage.release(stage.hold(frame)));
        }
        thread::yield_now();
    }
}

fn round(seed: u64, length: Duration) {
    println!("MEMTIDE_SEED={seed}");
    let geometry = Geometry {
        first: Pfn(FIRST),
        frames: PAGEBLOCKS * PAGEBLOCK,
        block_frames: BLOCK,
        cores: 2 * WORKERS,
    };
    let words = Layout::new(geometry).unwrap().words() + Layout::WORDS_SPARE;
    let words: Vec<_> = (0..words).map(|_| AtomicU64::new(0)).collect();
    let frames = Frames::new(geometry, &words).unwrap();
    for n in 0..geometry.frames / BLOCK {
        frames.add(block(n), zone_of(n)).unwrap();
    }
    let stage = Stage {
        frames: &frames,
        memory: (0..geometry.frames).map(|_| AtomicU32::new(0)).collect(),
        isolated: AtomicU64::new(0),
        ended: AtomicU64::new(0),
        next_stamp: AtomicU32::new(1),
        over: AtomicBool::new(false),
    };
    perform(&stage, seed, length);
    frames.validate();
    let counts = frames.counts();
    assert_eq!((counts.used, counts.cached), (0, 0), "{counts:?}");
    assert_eq!(counts.present, geometry.frames);
    assert_eq!(counts.free + counts.retired, geometry.frames, "{counts:?}");
    assert_eq!(frames.retiring(), 0);
    let largest = Request::new(Order::new(14).unwrap(), Movability::Unmovable);
    assert_eq!(frames.take(largest).unwrap().pfn(), Pfn(FIRST));
}

/// Lets all threads loose on a node for a while.
fn perform<'f>(stage: &Stage<'f>, seed: u64, length: Duration) {
    let dice = |n: u64| Dice((seed << 8 | n).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let (senders, inboxes): (Vec<_>, Vec<_>) = (0..WORKERS).map(|_| channel()).unzip();
    thread::scope(|scope| {
        for (n, inbox) in (0..WORKERS).zip(inboxes) {
            let core = stage.frames.core(n).unwrap();
            let mut others: Vec<Sender<Held<'f>>> = senders.clone();
            // Not to itself: it could not see the end of that.
            others.swap_remove(n.into());
            let dice = dice(n.into());
            let worker = Worker { stage, dice, core, held: Vec::new(), others, inbox, most: 100 };
            scope.spawn(|| End(&stage.over).after(|| worker.run()));
        }
        drop(senders);
        scope.spawn(|| End(&stage.over).after(|| operate(stage, dice(100))));
        scope.spawn(|| End(&stage.over).after(|| visit(stage, dice(101))));
        let end = Instant::now() + length;
        while Instant::now() < end && !stage.over.load(Relaxed) {
            thread::sleep(Duration::from_millis(20));
        }
        stage.over.store(true, Relaxed);
    });
}

/// If one thread fails, all leave.
struct End<'s>(&'s AtomicBool);

impl End<'_> {
    fn after(self, run: impl FnOnce()) {
        run();
    }
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn no_frame_has_two_owners() {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    if let Some(seed) = number("MEMTIDE_SEED") {
        return round(seed, Duration::from_secs(10));
    }
    let soak = number("MEMTIDE_SOAK_SECONDS").unwrap_or(8);
    for seed in 1..=(soak / 2).max(1) {
        round(seed, Duration::from_secs(2));
    }
}
