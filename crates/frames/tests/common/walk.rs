//! A walk: operations applied to a node and to its model, compared after each.

use memtide_frames::{
    AtomicU64, Core, Dedication, Descriptors, Frame, FrameRange, Frames, Geometry, Movability,
    Order, Pfn, Pressure, Request, Run, TakeError, Urgency, Want, Watermarks, Zone,
};

use super::{
    model::{Model, may_land},
    op::{By, Op, Place},
    shape::{CORES, PAGEBLOCK, Shape, memory},
};

/// Something that the walk holds.
pub enum Token<'f> {
    /// A block.
    Frame(Frame<'f>),
    /// A run.
    Run(Run<'f>),
    /// A block that is held by its number.
    Number(Pfn, Order),
}

/// A node, its model, and all that is held of it.
pub struct Walk<'f> {
    pub frames: &'f Frames<'f>,
    /// Another node.
    pub other: &'f Frames<'f>,
    words: &'f [AtomicU64],
    pub model: Model,
    pub cores: Vec<Option<Core<'f>>>,
    pub tokens: Vec<(u32, Token<'f>)>,
    /// Whether no core caches anything.
    pub settled: bool,
}

/// Prints the operations when a walk fails, if it was asked to (`MEMTIDE_TRACE=1`).
struct Trace(Vec<Op>);

impl Drop for Trace {
    fn drop(&mut self) {
        if std::thread::panicking() && std::env::var_os("MEMTIDE_TRACE").is_some() {
            for (n, op) in self.0.iter().enumerate() {
                eprintln!("{n}: {op:?}");
            }
        }
    }
}

/// Walks through a node of this shape.
pub fn walk(shape: Shape, ops: impl Iterator<Item = Op>) {
    let words = shape.memory();
    let mut frames = Frames::new(shape.geometry, &words).unwrap();
    let descriptors = memory(shape.descriptors.unwrap_or(0));
    if shape.descriptors.is_some() {
        frames = frames
            .with_descriptors(Descriptors::new(frames.layout(), &descriptors).unwrap())
            .unwrap();
    }
    let small = Geometry { frames: PAGEBLOCK, block_frames: PAGEBLOCK, ..shape.geometry };
    let other = Shape { geometry: small, ..shape.clone() }.memory();
    let other = Frames::new(small, &other).unwrap();
    other.add(other.span(), Zone::Normal).unwrap();
    let cores = (0..CORES).map(|core| frames.core(core).ok()).collect();
    let mut walk = Walk {
        frames: &frames,
        other: &other,
        words: &words,
        model: Model::new(shape.geometry),
        cores,
        tokens: Vec::new(),
        settled: true,
    };
    for (block, zone) in shape.zones.iter().enumerate() {
        if let Some(zone) = *zone {
            let range = shape.block(block as u64);
            walk.model.add(range, zone).unwrap();
            frames.add(range, zone).unwrap();
        }
    }
    let mut trace = Trace(Vec::new());
    walk.check();
    for op in ops {
        trace.0.push(op);
        walk.apply(op);
        walk.check();
    }
    walk.finish();
}

impl<'f> Walk<'f> {
    /// Does it, whatever it is.
    fn apply(&mut self, op: Op) {
        match op {
            Op::Take { by, request, times } => {
                let _ = (0..times).all(|_| self.take(by, request));
            }
            Op::Give { by, pick, step, times } => {
                for n in 0..usize::from(times).min(self.tokens.len()) {
                    let at = usize::from(pick) + n * usize::from(step);
                    self.give(by, at % self.tokens.len());
                }
            }
            Op::Reserve { request, count, others } => self.reserve(request, count.into(), others),
            Op::Settle => self.settle(),
            Op::Drain { core } => {
                if let Some(core) = self.core(Some(core)) {
                    core.drain();
                }
            }
            Op::Close { core } => drop(self.cores[usize::from(core) % 3].take()),
            _ => self.apply_named(op),
        }
    }

    /// A core, if it is in use.
    pub fn core(&mut self, by: By) -> Option<&mut Core<'f>> {
        let core = self.cores[usize::from(by?) % usize::from(CORES)].as_mut();
        self.settled &= core.is_none();
        core
    }

    /// The index of something that is held.
    pub fn pick(&self, pick: u16) -> Option<usize> {
        usize::from(pick).checked_rem(self.tokens.len())
    }

    /// A frame, or something like it.
    pub fn pfn(&self, place: Place) -> Pfn {
        let FrameRange { start, frames } = self.model.span();
        Pfn(match place {
            Place::Near(pick, offset) => match self.pick(pick) {
                Some(at) => {
                    let held = self.model.held[&self.tokens[at].0];
                    held.start.wrapping_add_signed(offset.into())
                }
                None => start.0 + ((u64::from(pick) * frames) >> 16),
            },
            Place::At(n) => start.0 + ((u64::from(n) * frames) >> 16),
            Place::Outside(n) => match n % 4 {
                0 => start.0.wrapping_sub(1 + u64::from(n / 4)),
                1 => start.0 + frames + u64::from(n / 4),
                2 => u64::MAX - u64::from(n / 4),
                _ => start.0 | 1 << (n / 8 + 32),
            },
        })
    }

    /// All words of the metadata.
    pub fn words(&self) -> Vec<u64> {
        self.words.iter().map(|word| word.load(std::sync::atomic::Ordering::Relaxed)).collect()
    }

    /// Drains all cores, so that the model knows all.
    pub fn settle(&mut self) {
        self.cores.iter_mut().flatten().for_each(Core::drain);
        self.model.settle();
        self.settled = true;
    }

    // ---- Taking and giving back ----

    fn try_take(&mut self, by: By, request: Request) -> Result<Frame<'f>, TakeError> {
        let frames = self.frames;
        match self.core(by) {
            Some(core) => core.take(request),
            None => frames.take(request),
        }
    }

    /// Takes a block. A refusal must be right once the cores are drained.
    fn take(&mut self, by: By, request: Request) -> bool {
        let settled = self.settled;
        if let Ok(frame) = self.try_take(by, request) {
            if settled {
                self.check_group(&frame, request);
            }
            self.took(frame, request);
            return true;
        }
        self.settle();
        let could = self.model.could_take(&request, |_| true);
        match self.try_take(by, request) {
            Ok(frame) => {
                assert!(could, "{request:?} got {frame:?}");
                self.check_group(&frame, request);
                self.took(frame, request);
                true
            }
            Err(error) => {
                assert!(!could, "{request:?} refused: {error}");
                let (order, free) = (request.order, self.model.free_for(&request));
                let expected = if free < order.frames() {
                    TakeError::Exhausted { order, free }
                } else {
                    TakeError::NoBlock { order, free }
                };
                assert_eq!(error, expected, "{request:?}");
                false
            }
        }
    }

    /// Extended memory is for those who ask for it, until the rest is exhausted.
    fn check_group(&self, frame: &Frame<'f>, request: Request) {
        let zone = self.model.pageblock(frame.pfn().0).zone;
        assert!(self.model.could_take(&request, |_| true), "{request:?} got {frame:?}");
        if matches!(zone, Some(Zone::Exmem(_))) && request.want == Want::Any {
            let ordinary = |zone| !matches!(zone, Zone::Exmem(_));
            assert!(!self.model.could_take(&request, ordinary), "{request:?} got {frame:?}");
        }
    }

    /// Checks a block that was found by a search, and holds it.
    fn took(&mut self, frame: Frame<'f>, request: Request) {
        let (pfn, order) = (frame.pfn(), frame.order());
        assert_eq!(order, request.order);
        assert!(pfn.is_aligned(order), "{frame:?}");
        let zone = self.model.pageblock(pfn.0).zone.expect("a block of the pool");
        assert!(may_land(zone, request.want, request.movability), "{request:?} in {zone}");
        assert!(!self.model.is_closed_to(zone, request.movability), "{request:?} in {zone}");
        for part in (pfn.0..pfn.0 + order.frames()).step_by(PAGEBLOCK as usize) {
            let pageblock = self.model.pageblock(part);
            assert!(!pageblock.isolated, "{request:?} got {frame:?}, which is isolated");
            assert_eq!(pageblock.zone, Some(zone), "{request:?} got {frame:?}, of two zones");
        }
        self.check_descriptor(pfn, request.movability);
        let name = self.model.take(pfn.0, order.frames(), request.movability);
        self.tokens.push((name, Token::Frame(frame)));
    }

    /// Reserves room; what it is for comes from it, whatever others take meanwhile.
    fn reserve(&mut self, request: Request, count: u64, others: u16) {
        self.settle();
        let frames = self.frames;
        let Ok(mut room) = frames.reserve(request, count) else {
            let found = request.order >= Order::PAGEBLOCK && count == 1;
            assert!(!found || !self.model.could_take(&request, |_| true), "{request:?}");
            return;
        };
        frames.validate();
        let other = Request { order: Order::FRAME, ..request };
        for _ in 0..others {
            let Ok(frame) = frames.take(other) else { break };
            self.took(frame, other);
        }
        let acquired = u64::from(others) % (count + 1);
        for left in (count - acquired..count).rev() {
            let frame = room.acquire().expect("it was reserved");
            assert_eq!(room.left(), left);
            self.took(frame, request);
        }
        assert!(acquired < count || room.acquire().is_none());
        frames.validate();
        room.forfeit();
    }

    pub fn check_descriptor(&self, pfn: Pfn, movability: Movability) {
        if let Some(descriptor) = self.frames.descriptor(pfn) {
            assert_eq!(descriptor.movability, movability, "{pfn}");
        }
    }

    fn give(&mut self, by: By, at: usize) {
        let (name, token) = self.tokens.swap_remove(at);
        let frames = self.frames;
        match (token, self.core(by)) {
            (Token::Frame(frame), Some(core)) => core.give(frame).unwrap(),
            (Token::Frame(frame), None) => frames.give(frame).unwrap(),
            (Token::Run(run), _) => drop(run),
            (Token::Number(pfn, order), Some(core)) => core.give_number(pfn, order).unwrap(),
            (Token::Number(pfn, order), None) => drop(frames.adopt(pfn, order).unwrap()),
        }
        self.model.give(name);
    }

    // ---- Checks ----

    /// Compares what can be compared at any time, and all once the cores are drained.
    fn check(&self) {
        self.frames.validate();
        let noted = self.model.noted.len() as u64;
        let retired = self.model.retired();
        assert_eq!(self.frames.retired() + self.frames.retiring(), retired + noted);
        for zone in Zone::all() {
            let marks = self.model.marks.get(&zone).copied().unwrap_or_default();
            assert_eq!(self.frames.watermarks(zone), marks);
        }
        let counts = self.frames.counts();
        let used: u64 = self.model.held.values().map(|held| held.frames).sum();
        assert_eq!(counts.used, used, "frames in use");
        let free = Zone::all().map(|zone| self.model.free(zone)).sum::<u64>();
        let retiring = retired + noted - counts.retired;
        assert!(retiring <= noted, "{counts:?}, {retired} retired, {noted} noted");
        // What is noted in a cache goes out of service any time.
        let gone = counts.retired - retired;
        assert_eq!(counts.free + counts.cached + gone, free, "{counts:?}, {gone}");
        if self.settled {
            assert_eq!(counts.cached, 0, "frames cached");
            self.check_settled(retired);
        }
    }

    fn check_settled(&self, retired: u64) {
        assert_eq!(self.frames.retired(), retired, "frames out of service");
        for zone in Zone::all() {
            let dedication = match self.model.dedication(zone) {
                None => Dedication::None,
                Some(true) => Dedication::Movable,
                Some(false) => Dedication::Unmovable,
            };
            assert_eq!(self.frames.dedication(zone), dedication, "of {zone}");
            assert_eq!(self.frames.present(zone), self.model.present(zone), "{zone}");
            let free = self.model.free(zone);
            let Watermarks { min, low, high } = self.frames.watermarks(zone);
            let expected = match free {
                _ if free < min => Pressure::BelowMin,
                _ if free < low => Pressure::BelowLow,
                _ if free < high => Pressure::BelowHigh,
                _ => Pressure::None,
            };
            assert_eq!(self.frames.pressure(zone), expected, "{zone}: {free} free");
        }
    }

    /// Gives everything back; then all that the model calls free can be taken.
    fn finish(mut self) {
        while let Some(at) = self.tokens.len().checked_sub(1) {
            self.give(Some(at as u8 % 4), at);
        }
        self.cores.iter_mut().for_each(|core| drop(core.take()));
        self.settle();
        self.check();
        for pb in 0..self.model.pageblocks.len() {
            if self.model.pageblocks[pb].isolated {
                let frames = self.model.frames_of(pb);
                let range = FrameRange::new(Pfn(frames.start), PAGEBLOCK);
                self.model.unisolate(range).unwrap();
                self.frames.unisolate(range).unwrap();
            }
        }
        for zone in Zone::all() {
            self.model.marks.remove(&zone);
            self.frames.set_watermarks(zone, Watermarks::default()).unwrap();
        }
        for order in (0..=Order::MAX.get()).rev().filter_map(Order::new) {
            for want in [Want::Normal, Want::Exmem] {
                for movability in Movability::ALL {
                    let request = Request { order, movability, want, urgency: Urgency::Ordinary };
                    if self.take(None, request) {
                        self.give(None, 0);
                    }
                }
            }
        }
        self.check();
    }
}
