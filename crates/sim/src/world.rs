//! A node in the real page-frame allocator, and allocations that come and go.

use std::{cmp::Reverse, collections::BinaryHeap};

use memtide_frames::{
    AtomicU64, Channel, Descriptors, FrameRange, Frames, Geometry, Layout, Movability, Order, Pfn,
    Request, Zone,
};
use memtide_units::{ByteSize, PAGE_BYTES, Random};

use crate::{
    SimError,
    comes_back::ComesBack,
    workload::{Policy, Workload},
};

/// Frames in a block that is added or removed: a pageblock, so that units of any size can leave.
const BLOCK_FRAMES: u64 = Order::PAGEBLOCK.frames();

/// The metadata of a node, and where plugged memory lies in it.
pub(crate) struct World {
    words: Vec<AtomicU64>,
    descriptors: Vec<AtomicU64>,
    geometry: Geometry,
    early: u64,
}

/// What the workload met.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Use {
    /// Allocations that cannot move: asked for, refused.
    pub unmovable_asked: u64,
    pub unmovable_refused: u64,
    /// Others refused.
    pub movable_refused: u64,
    /// Frames in use at the end.
    pub live: u64,
}

fn zeroed(words: usize) -> Vec<AtomicU64> {
    std::iter::repeat_with(|| AtomicU64::new(0)).take(words).collect()
}

impl World {
    /// A node with room for early and plugged memory, none of it in the pool.
    pub fn new(what: &ComesBack) -> Result<Self, SimError> {
        let frames = |size: ByteSize| size.0 / PAGE_BYTES;
        let early = frames(what.early);
        let geometry = Geometry {
            first: Pfn(0),
            frames: early + frames(what.plugged),
            block_frames: BLOCK_FRAMES,
            cores: 1,
        };
        let layout = Layout::new(geometry)?;
        let words = zeroed(layout.words() + Layout::WORDS_SPARE);
        let descriptors = zeroed(Descriptors::words(&layout));
        Ok(Self { words, descriptors, geometry, early })
    }

    /// Puts all of it into the pool. To be called once.
    pub fn plug(&self, policy: Policy) -> Result<Frames<'_>, SimError> {
        let frames = Frames::new(self.geometry, &self.words)?;
        let descriptors = Descriptors::new(frames.layout(), &self.descriptors)
            .and_then(|descriptors| frames.with_descriptors(descriptors));
        let frames = descriptors.expect("as many as it takes");
        frames.add(FrameRange::new(Pfn(0), self.early), Zone::Normal)?;
        for (range, zone) in zones(policy, self.plugged()) {
            frames.add(range, zone)?;
        }
        Ok(frames)
    }

    /// The memory that was plugged.
    pub fn plugged(&self) -> FrameRange {
        FrameRange::new(Pfn(self.early), self.geometry.frames - self.early)
    }
}

/// The zones of plugged memory, NORMAL below MOVABLE; no part is empty.
fn zones(policy: Policy, plugged: FrameRange) -> Vec<(FrameRange, Zone)> {
    let ratio = |movable: u64| {
        // NORMAL is rounded up to whole GiB, or there would be units of both kinds.
        let normal = plugged.frames.div_ceil(movable + 1);
        let normal = normal.next_multiple_of(Order::MAX.frames()).min(plugged.frames);
        vec![(normal, Zone::Normal), (plugged.frames - normal, Zone::Movable)]
    };
    let parts = match policy {
        Policy::AllNormal => vec![(plugged.frames, Zone::Normal)],
        Policy::AllMovable => vec![(plugged.frames, Zone::Movable)],
        Policy::OneToOne => ratio(1),
        Policy::OneToTwo => ratio(2),
        Policy::OneToThree => ratio(3),
        Policy::OneToFour => ratio(4),
        Policy::PreferMovable => vec![(plugged.frames, Zone::PreferMovable)],
        Policy::Exmem => {
            let each = plugged.frames / u64::from(Channel::COUNT) / BLOCK_FRAMES * BLOCK_FRAMES;
            let rest = plugged.frames - each * u64::from(Channel::COUNT - 1);
            let size = |number| if number + 1 == Channel::COUNT { rest } else { each };
            let channels = (0..Channel::COUNT).filter_map(Channel::new);
            channels.map(|channel| (size(channel.get()), Zone::Exmem(channel))).collect()
        }
    };
    let mut at = plugged.start.0;
    let mut placed = Vec::new();
    for (frames, zone) in parts.into_iter().filter(|&(frames, _)| frames != 0) {
        placed.push((FrameRange::new(Pfn(at), frames), zone));
        at += frames;
    }
    placed
}

/// Allocations, first those that end first; among those, first those that came first.
type Live = BinaryHeap<Reverse<(u64, u64, Pfn, Order)>>;

/// A workload that runs.
struct Running<'f> {
    frames: &'f Frames<'f>,
    workload: &'f Workload,
    random: Random,
    live: Live,
    /// Frames asked for, and those of them that cannot move.
    asked: [u64; 2],
    count: u64,
    seen: Use,
}

/// Runs the workload to its end, and on without arrivals until use is down to `rest_percent`.
/// What is in use then stays, held by its number.
pub(crate) fn run<'f>(
    frames: &'f Frames<'f>,
    workload: &'f Workload,
    unmovable_percent: u32,
    seed: u64,
) -> Result<Use, SimError> {
    let total = frames.span().frames;
    let of = |percent: u32| total * u64::from(percent) / 100;
    let (peak, rest) = (of(workload.peak_percent), of(workload.rest_percent));
    let mut running = Running {
        frames,
        workload,
        random: Random::new(seed),
        live: Live::new(),
        asked: [0; 2],
        count: 0,
        seen: Use::default(),
    };
    let period = workload.period.get();
    for step in 0..workload.steps {
        running.end_until(u64::from(step))?;
        let target = if step % period < period.div_ceil(2) { peak } else { rest };
        running.fill(u64::from(step), target, unmovable_percent);
    }
    while running.seen.live > rest
        && let Some(&Reverse((end, ..))) = running.live.peek()
    {
        running.end_until(end)?;
    }
    Ok(running.seen)
}

impl Running<'_> {
    /// Ends what ends at this step or before.
    fn end_until(&mut self, step: u64) -> Result<(), SimError> {
        while let Some(&Reverse((end, _, pfn, order))) = self.live.peek()
            && end <= step
        {
            self.live.pop();
            drop(self.frames.adopt(pfn, order)?);
            self.seen.live -= order.frames();
        }
        Ok(())
    }

    /// Takes until so many frames are in use, or were refused in this step.
    fn fill(&mut self, step: u64, target: u64, unmovable_percent: u32) {
        let mut refused = 0;
        while self.seen.live + refused < target {
            let request = self.next_request(unmovable_percent);
            let lifetimes = self.workload.lifetimes.iter();
            let lifetimes = lifetimes.map(|life| (life.steps.get(), u64::from(life.weight)));
            let steps = self.random.pick(lifetimes);
            let end = step + 1 + self.random.below(2 * u64::from(steps) - 1);
            match self.frames.take(request) {
                Ok(frame) => {
                    let (pfn, order) = frame.into_number();
                    self.live.push(Reverse((end, self.count, pfn, order)));
                    self.count += 1;
                    self.seen.live += order.frames();
                }
                Err(_) => {
                    refused += request.order.frames();
                    *match request.movability {
                        Movability::Movable => &mut self.seen.movable_refused,
                        _ => &mut self.seen.unmovable_refused,
                    } += 1;
                }
            }
        }
    }

    /// What is asked for next: what cannot move while it is less than its share of all frames.
    fn next_request(&mut self, unmovable_percent: u32) -> Request {
        let [asked, unmovable] = self.asked;
        let is_less = unmovable * 100 < asked * u64::from(unmovable_percent);
        let movability = if is_less { Movability::Unmovable } else { Movability::Movable };
        let sizes = self.workload.sizes.iter().map(|size| {
            let weight = if is_less { size.unmovable } else { size.movable };
            (size.order, u64::from(weight))
        });
        let order = self.random.pick(sizes);
        self.asked[0] += order.frames();
        if is_less {
            self.asked[1] += order.frames();
            self.seen.unmovable_asked += 1;
        }
        Request::new(order, movability)
    }
}
