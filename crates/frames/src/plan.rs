//! What must move to get a contiguous range, and which range is cheapest to get.
//!
//! Who needs a range (1 GiB for a guest, a block to give back) finds it in use. A [`Plan`] says
//! how much of it would have to be copied elsewhere, and what in it stays. Nothing is moved here:
//! whoever carries a plan out isolates the range, so that it does not fill again, copies each of
//! [`Plan::moves`] to a frame elsewhere, has the cores give back what they cache, and takes the
//! range with [`Frames::take_range`].
//!
//! Compaction is the same with single pageblocks: [`Frames::next_to_evacuate`] names the one whose
//! contents are fewest; what they move to is found as any frame is, in the fuller ones first.
//!
//! A plan is a look at a node that goes on working, and may be out of date when it is read. It is
//! never wrong to try.

use memtide_units::{FrameRange, Order};

use crate::{
    entry::{GRADES, State},
    error::PlugError,
    frames::{Bitmap, Frames, pageblocks_in},
    layout::{FRAMES, PAGEBLOCK_ORDER},
    occupants::{Kind, Occupant},
    primitive::Ordering::*,
    request::Movability,
    zone::Zone,
};

/// What must happen before a range is free.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Plan {
    /// The range, in whole pageblocks.
    pub range: FrameRange,
    /// Frames that must move. A block that lies in the range only in part moves as a whole.
    pub frames_to_move: u64,
    /// Blocks that must move.
    pub blocks_to_move: u64,
    /// Frames of the range that are not taken.
    pub free: u64,
    /// Frames of the range that cores must give back.
    pub cached: u64,
    /// The first that cannot move: the range will not be free as long as it is there.
    pub blocked_by: Option<Occupant>,
}

impl Plan {
    /// Whether moving is enough.
    #[must_use]
    pub const fn is_feasible(&self) -> bool {
        self.blocked_by.is_none()
    }

    /// The blocks that must move, in ascending order.
    pub fn moves<'f>(&self, frames: &'f Frames<'f>) -> impl Iterator<Item = Occupant> + use<'f> {
        let occupants = frames.occupants(self.range).into_iter().flatten();
        occupants.filter(Occupant::can_move)
    }
}

/// What a pageblock, or a window of them, costs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Cost {
    /// Frames that must move.
    frames: u64,
    /// Pageblocks with something that cannot.
    blocked: u64,
}

impl Cost {
    const BLOCKED: Self = Self { frames: 0, blocked: 1 };

    fn of(frames: u64) -> Self {
        Self { frames, blocked: 0 }
    }

    fn add(self, other: Self) -> Self {
        Self { frames: self.frames + other.frames, blocked: self.blocked + other.blocked }
    }

    /// Less what leaves the window. Others may have changed it since it came.
    fn sub(self, other: Self) -> Self {
        let frames = self.frames.saturating_sub(other.frames);
        Self { frames, blocked: self.blocked.saturating_sub(other.blocked) }
    }
}

impl Frames<'_> {
    /// What must move for these pageblocks to be one free range. Unlike for a range that is to be
    /// removed (see [`crate::Occupancy::can_leave`]), retired frames and holes are in the way.
    ///
    /// # Errors
    /// [`PlugError`] when they are not whole pageblocks of the node, or one is not in the pool.
    pub fn plan(&self, range: FrameRange) -> Result<Plan, PlugError> {
        let mut plan = Plan {
            range,
            frames_to_move: 0,
            blocks_to_move: 0,
            free: 0,
            cached: 0,
            blocked_by: None,
        };
        let occupants = self.occupants(range)?;
        for pb in self.pageblocks_of(range).into_iter().flatten() {
            match self.entry(pb).state() {
                State::Absent => {
                    let (at, found, expected) = (self.pfn(pb * FRAMES), "absent", "in the pool");
                    return Err(PlugError::State { range, at, found, expected });
                }
                State::Head | State::Tail => {}
                _ => plan.free += self.free_in(pb),
            }
        }
        for occupant in occupants {
            if matches!(occupant.kind, Kind::Cached { .. }) && !self.is_noted(&occupant) {
                plan.cached += 1;
            } else if occupant.can_move() && !self.is_noted(&occupant) {
                plan.blocks_to_move += 1;
                plan.frames_to_move += occupant.order.frames();
            } else if plan.blocked_by.is_none() {
                plan.blocked_by = Some(occupant);
            }
        }
        Ok(plan)
    }

    /// Whether a frame of a block is to be retired, and so will not be free when the block is.
    fn is_noted(&self, occupant: &Occupant) -> bool {
        let noted = |range: FrameRange| {
            let first = self.index(range.start).expect("an occupant is of this node");
            (first..first + range.frames).any(|at| self.bit(Bitmap::Retired, at))
        };
        self.retiring() != 0 && noted(occupant.range())
    }

    /// The range of `frames` frames (rounded up to whole pageblocks), at a multiple of `align`
    /// and inside `within`, for which the fewest frames must move; the lowest of several. `None`
    /// when there is none that moving would free.
    ///
    /// Looks at each pageblock of `within` twice at most: name no more than there is time for.
    #[must_use]
    pub fn cheapest(&self, frames: u64, align: Order, within: FrameRange) -> Option<Plan> {
        let all = self.pageblocks_of(within)?;
        let count = frames.div_ceil(FRAMES).max(1);
        let step = pageblocks_in(align.get().max(PAGEBLOCK_ORDER));
        let mut best: Option<(u64, u64)> = None;
        let mut first = all.start.next_multiple_of(step);
        // What is summed up in `inside`.
        let (mut inside, mut window) = (Cost::default(), first..first);
        while first.checked_add(count)? <= all.end {
            let next = first..first + count;
            if window.end <= next.start {
                (inside, window) = (Cost::default(), next.start..next.start);
            }
            inside = (window.start..next.start).fold(inside, |sum, pb| sum.sub(self.cost(pb)));
            inside = (window.end..next.end).fold(inside, |sum, pb| sum.add(self.cost(pb)));
            window = next.clone();
            if inside.blocked == 0 {
                let frames = inside.frames + self.cut(&next);
                if best.is_none_or(|(least, _)| frames < least) {
                    best = Some((frames, first));
                }
                if frames == 0 {
                    break;
                }
            }
            first += step;
        }
        let (_, first) = best?;
        let range = FrameRange::new(self.pfn(first * FRAMES), count * FRAMES);
        self.plan(range).ok().filter(Plan::is_feasible)
    }

    /// Frames outside of a window that must move with those inside, for their block is cut by it.
    fn cut(&self, window: &core::ops::Range<u64>) -> u64 {
        let block = |pb: u64| {
            let first = self.head_of(pb)?;
            Some((first, first + pageblocks_in(self.entry(first).order().max(PAGEBLOCK_ORDER))))
        };
        let below = match self.entry(window.start).state() {
            State::Tail => block(window.start).map_or(0, |(first, _)| window.start - first),
            _ => 0,
        };
        let above = match self.entry(window.end - 1).state() {
            State::Head | State::Tail => {
                block(window.end - 1).map_or(0, |(_, end)| end.saturating_sub(window.end))
            }
            _ => 0,
        };
        (below + above) * FRAMES
    }

    /// What a pageblock costs.
    fn cost(&self, pb: u64) -> Cost {
        let entry = self.entry(pb);
        match entry.state() {
            State::Free => Cost::default(),
            State::Absent | State::Reserved => Cost::BLOCKED,
            State::Head | State::Tail => self.cost_of_part(pb),
            _ if self.has_notes(pb) => Cost::BLOCKED,
            _ if self.descriptors.is_some() => {
                let mut occupants = self.occupants_of(pb..pb + 1);
                let sum = occupants.try_fold(0, |sum, occupant| match occupant.kind {
                    Kind::Cached { .. } => Some(sum),
                    _ => occupant.can_move().then(|| sum + occupant.order.frames()),
                });
                sum.map_or(Cost::BLOCKED, Cost::of)
            }
            _ => {
                let cached = self.cached_of(pb).iter().map(|word| word.count_ones()).sum::<u32>();
                let frames = (FRAMES - self.free_in(pb)).saturating_sub(u64::from(cached));
                let moves = Self::movability_in(entry) == Movability::Movable;
                if frames == 0 || moves { Cost::of(frames) } else { Cost::BLOCKED }
            }
        }
    }

    /// What a pageblock costs that is part of a larger block.
    fn cost_of_part(&self, pb: u64) -> Cost {
        let block = self.occupants_of(pb..pb + 1).next();
        let moves = block.is_none_or(|block| block.can_move()) && !self.has_notes(pb);
        if moves { Cost::of(if block.is_some() { FRAMES } else { 0 }) } else { Cost::BLOCKED }
    }

    /// Whether a frame of a pageblock is out of service, or will be.
    fn has_notes(&self, pb: u64) -> bool {
        self.words_of(Bitmap::Retired, pb).iter().any(|word| word.load(Acquire) != 0)
    }

    /// The pageblocks of a zone that are partly free and listed as movable, about the emptiest
    /// first: by grade, and within a grade from the lowest on. Something in them may be in the way
    /// nevertheless: [`Frames::plan`] tells.
    pub fn emptiest_first(&self, zone: Zone) -> impl Iterator<Item = FrameRange> {
        (0..GRADES as u64)
            .rev()
            .flat_map(move |grade| self.of_grade(zone, grade))
            .map(|pb| self.frames_of(pb))
    }

    fn of_grade(&self, zone: Zone, grade: u64) -> impl Iterator<Item = u64> {
        let list = self.listed(zone.id(), Movability::Movable, grade);
        let mut at = 0;
        core::iter::from_fn(move || {
            let pb = list.first_from(at)?;
            at = pb + 1;
            Some(pb)
        })
    }

    /// The pageblock to empty next so that it becomes free: of those of the emptiest grade in
    /// which everything can move, the one with the fewest frames to move. Looks at the pageblocks
    /// of one grade, and at those of the next only if none will do.
    #[must_use]
    pub fn next_to_evacuate(&self, zone: Zone) -> Option<Plan> {
        (0..GRADES as u64).rev().find_map(|grade| {
            let costs = self.of_grade(zone, grade).map(|pb| (self.cost(pb), pb));
            let feasible = costs.filter(|(cost, _)| cost.blocked == 0);
            let (_, pb) = feasible.min_by_key(|&(cost, pb)| (cost.frames, pb))?;
            self.plan(self.frames_of(pb)).ok().filter(Plan::is_feasible)
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::{vec, vec::Vec};

    use super::*;
    use crate::{
        descriptor::Descriptors,
        primitive::AtomicU64,
        request::Request,
        validate::tests::{Caller, mixed_zones, pageblocks, words},
    };

    fn order(exponent: u8) -> Order {
        Order::new(exponent).unwrap()
    }

    #[test]
    fn a_plan_says_what_must_move() {
        let (geometry, words) = words(8);
        let frames = Frames::new(geometry, &words).unwrap();
        frames.add(pageblocks(0, 8), Zone::Normal).unwrap();
        let take =
            |exponent, movability| frames.take(Request::new(order(exponent), movability)).unwrap();
        let small = take(3, Movability::Movable);
        let huge = take(10, Movability::Movable);
        let stays = take(0, Movability::Unmovable);
        assert_eq!((huge.pfn().0, stays.pfn().0), (2 << 9, 1 << 9));
        let plan = frames.plan(pageblocks(2, 1)).unwrap();
        assert_eq!((plan.frames_to_move, plan.blocks_to_move, plan.free), (1024, 1, 0));
        assert_eq!(plan.moves(&frames).map(|o| o.pfn).collect::<Vec<_>>(), [huge.pfn()]);
        let plan = frames.plan(pageblocks(0, 2)).unwrap();
        assert_eq!(plan.blocked_by.map(|o| (o.pfn, o.order)), Some((stays.pfn(), Order::FRAME)));
        assert_eq!((plan.frames_to_move, plan.free), (8, 1024 - 9));
        // Free ones first, then the fewest frames: a cut block counts as a whole.
        let cheapest = |count, within| frames.cheapest(count, Order::PAGEBLOCK, within);
        assert_eq!(cheapest(513, pageblocks(0, 8)).unwrap().range, pageblocks(4, 2));
        let plan = cheapest(1, pageblocks(0, 4)).unwrap();
        assert_eq!((plan.range, plan.frames_to_move), (pageblocks(0, 1), 8));
        let plan = cheapest(512, pageblocks(3, 1)).unwrap();
        assert_eq!((plan.range, plan.frames_to_move), (pageblocks(3, 1), 1024));
        assert_eq!(cheapest(1024, pageblocks(0, 2)), None);
        let next = frames.next_to_evacuate(Zone::Normal).unwrap();
        assert_eq!((next.range, next.frames_to_move), (pageblocks(0, 1), 8));
        let _keep = frames.take_at(small.pfn(), Order::FRAME, Movability::Movable).unwrap_err();
        frames.validate();
    }

    #[test]
    fn a_pinned_block_and_a_retired_frame_are_in_the_way() {
        let (geometry, words) = words(4);
        let frames = Frames::new(geometry, &words).unwrap();
        let count = Descriptors::words(frames.layout());
        let room: Vec<AtomicU64> = (0..count).map(|_| AtomicU64::new(0)).collect();
        let frames =
            frames.with_descriptors(Descriptors::new(frames.layout(), &room).unwrap()).unwrap();
        frames.add(pageblocks(0, 4), Zone::Normal).unwrap();
        let frame = frames.take(Request::new(order(2), Movability::Movable)).unwrap();
        let plan = || frames.plan(pageblocks(0, 1)).unwrap();
        assert!(plan().is_feasible());
        frames.pin(frame.pfn()).unwrap();
        assert_eq!(plan().blocked_by.map(|o| (o.pfn, o.pins)), Some((frame.pfn(), 1)));
        assert_eq!(frames.next_to_evacuate(Zone::Normal), None);
        frames.unpin(frame.pfn()).unwrap();
        assert!(plan().is_feasible());
        frames.retire(memtide_units::Pfn(100)).unwrap();
        assert_eq!(plan().blocked_by.map(|o| o.kind), Some(Kind::Retired));
        frames.retire(frame.pfn()).unwrap();
        assert_eq!(plan().blocked_by.map(|o| o.pfn), Some(frame.pfn()));
        assert!(frames.cheapest(512, Order::FRAME, pageblocks(0, 1)).is_none());
    }

    /// The window that is found is the first of those with the fewest frames to move.
    #[test]
    fn nothing_is_cheaper_than_the_cheapest() {
        for seed in 1..40 {
            let (geometry, words) = words(20);
            let mut frames = Frames::new(geometry, &words).unwrap();
            let count = Descriptors::words(frames.layout());
            let room: Vec<AtomicU64> = (0..count).map(|_| AtomicU64::new(0)).collect();
            if seed % 2 == 0 {
                let descriptors = Descriptors::new(frames.layout(), &room).unwrap();
                frames = frames.with_descriptors(descriptors).unwrap();
            }
            mixed_zones(&frames);
            let mut caller = Caller::new(&frames, seed);
            for _ in 0..25 {
                (0..10).for_each(|_| caller.step());
                let count = 1 + caller.rng.below(5);
                let align = order(9 + caller.rng.below(3) as u8);
                let start = caller.rng.below(20);
                let within = pageblocks(start, 1 + caller.rng.below(20 - start));
                let found = frames.cheapest(count * FRAMES - 3, align, within);
                let mut plans = vec![];
                for first in start..(start + within.frames / FRAMES + 1).saturating_sub(count) {
                    let range = pageblocks(first, count);
                    plans.extend(range.start.is_aligned(align).then(|| frames.plan(range).ok()));
                }
                let feasible = plans.into_iter().flatten().filter(Plan::is_feasible);
                let least = feasible.min_by_key(|plan| (plan.frames_to_move, plan.range.start));
                assert_eq!(found, least, "seed {seed}: {count} pageblocks, {align}, in {within}");
                let moved: u64 = found.map_or(0, |plan| {
                    plan.moves(&frames).map(|occupant| occupant.order.frames()).sum()
                });
                assert_eq!(moved, found.map_or(0, |plan| plan.frames_to_move));
                for zone in Zone::all() {
                    if let Some(plan) = frames.next_to_evacuate(zone) {
                        assert!(plan.is_feasible() && plan.free > 0);
                    }
                }
            }
            caller.finish();
        }
    }
}
