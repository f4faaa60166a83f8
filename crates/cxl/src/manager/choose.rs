//! What can be given to whom, and which bytes it is.
//!
//! ```text
//!   free   = regions - held by anybody - offered - promised - kept for a tag - avoided
//!   clean  = free - what others had and was not overwritten; own and common:
//!   own    = what of that the receiver had itself: nobody else gets it
//!   room   = maximum - held - offered - promised, of the receiver
//!   budget = least of: room, free - what others lack of their minimum,
//!                      own + spare
//!   spare  = common - what others lack of their minimum beyond what is their own
//! ```

use alloc::vec::Vec;
use core::cmp::Reverse;

use memtide_units::{DpaRange, RequestId, Tag};

use super::{
    check::MAX_EXTENTS,
    device::{is_sharable, range_of},
    entry::Entry,
    ranges::{Below, Ranges, bytes_of},
    state::Manager,
};
use crate::command::{HostId, fabric_manager::HostRegion};

/// How bytes are to lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shape {
    /// As many as there are, up to the number, anywhere.
    Some,
    /// All, anywhere.
    All,
    /// All, in one piece.
    OnePiece,
}

/// What of what is free a host may be offered, so that all others can get their minimum.
pub(super) struct Share {
    /// How many bytes.
    pub(super) budget: u64,
    /// Where: the rest others had, and it was not overwritten.
    clean: Ranges,
    /// What of that anybody may get, and how much of it this host may.
    common: Ranges,
    spare: u64,
}

impl Share {
    /// Whole blocks of a region, as far as the rest is enough for all others.
    fn pick(&self, region: &HostRegion, bytes: u64, shape: Shape) -> Vec<DpaRange> {
        let chosen = pick(&self.clean, region, bytes, shape);
        if self.is_enough_without(&chosen) {
            return chosen;
        }
        if shape == Shape::OnePiece {
            return self.piece(region, bytes).into_iter().collect();
        }
        // First of all what is no use to others.
        let mut fewer = self.clean.clone();
        self.common.iter().for_each(|range| fewer.remove(range));
        let spared = pick(&self.common, region, self.spare, Shape::Some);
        spared.into_iter().for_each(|range| fewer.insert(range));
        pick(&fewer, region, bytes, shape)
    }

    /// One piece that leaves enough for all others, of the smallest run that has one.
    ///
    /// As a piece slides along a run, what it has of `common` grows or shrinks evenly between the
    /// places where one of its ends passes an end of something common. So the least of all is at
    /// such a place, or a block's edge beside it.
    fn piece(&self, region: &HostRegion, bytes: u64) -> Option<DpaRange> {
        let block = region.block_size;
        let bytes = bytes / block * block;
        let mut runs = runs_of(&self.clean, region);
        runs.retain(|run| bytes != 0 && run.length >= bytes);
        runs.sort_by_key(|run| (run.length, run.start));
        runs.into_iter().find_map(|run| {
            let last = run.start + run.length - bytes;
            let common = Below::of(self.common.common(run));
            let passing = |end: u64| [end, end.saturating_sub(bytes)];
            let beside = |at: u64| [at / block * block, at.next_multiple_of(block)];
            let starts = common.ends().flat_map(passing).flat_map(beside);
            let mut starts = [run.start, last].into_iter().chain(starts);
            let is_one = |start: &u64| {
                let is_there = (run.start..=last).contains(start);
                is_there && common.below(start + bytes) - common.below(*start) <= self.spare
            };
            starts.find(is_one).map(|start| DpaRange::new(start, bytes))
        })
    }

    fn is_enough_without(&self, chosen: &[DpaRange]) -> bool {
        let common = chosen.iter().map(|&range| bytes_of(&self.common.common(range)));
        common.sum::<u64>() <= self.spare
    }
}

impl Manager {
    fn open_on(&self, on: usize) -> impl Iterator<Item = (&RequestId, &Entry)> {
        self.requests.iter().filter(move |(_, entry)| entry.is_open() && entry.on == on)
    }

    /// What nobody has, is offered or is promised.
    pub(super) fn free(&self, on: usize) -> Ranges {
        let device = &self.devices[on];
        let mut free: Ranges = device.regions.iter().map(range_of).collect();
        let held = device.held.values().flatten().map(|extent| extent.range);
        let offers = device.ports.values().filter_map(|port| port.offer.as_ref());
        let offered = offers.flat_map(|offer| offer.record.extents.iter().copied());
        let promised = self.open_on(on).flat_map(|(_, entry)| entry.record.promised.clone());
        let kept = device.references.values().flatten().copied();
        let avoided = device.avoid.iter().map(|&(range, _)| range);
        for range in held.chain(offered).chain(promised).chain(kept).chain(avoided) {
            free.remove(range);
        }
        free
    }

    /// What of what is free this host may get: the rest others had, and it was not overwritten.
    fn clean_for(&self, on: usize, to: HostId, mut free: Ranges) -> Ranges {
        let own = self.devices[on].former(to);
        let others = self.devices[on].unsanitized.iter().filter(|&(former, _)| *former != own);
        for range in others.flat_map(|(_, ranges)| ranges.to_vec()) {
            free.remove(range);
        }
        free
    }

    /// What of a host's is asked back.
    pub(super) fn asked_of(&self, on: usize, from: HostId) -> Ranges {
        let entries = self.open_on(on).filter(|(_, entry)| entry.from == Some(from));
        entries.flat_map(|(_, entry)| entry.record.asked_back.clone()).collect()
    }

    /// Bytes that a host has, is offered, or is promised by requests other than this one.
    pub(super) fn coming_to(&self, on: usize, to: HostId, but: Option<RequestId>) -> u64 {
        let device = &self.devices[on];
        let others =
            self.open_on(on).filter(|&(&id, entry)| Some(id) != but && entry.to == Some(to));
        let promised = others.map(|(_, entry)| entry.promised_bytes());
        let pending = device.ports.get(&to).map_or(0, super::device::Port::pending);
        promised.fold(device.held_bytes(to).saturating_add(pending), u64::saturating_add)
    }

    /// Bytes that a host has, is offered, or is promised of what came back already and is clean.
    /// What is still another's may never come.
    fn sure_of(&self, on: usize, host: HostId) -> u64 {
        let device = &self.devices[on];
        let its = self.open_on(on).filter(|(_, entry)| entry.to == Some(host));
        let came = its.map(|(_, entry)| bytes_of(&self.clean_of(on, host, &entry.record.promised)));
        let came: u64 = came.sum();
        device.held_bytes(host).saturating_add(device.ports[&host].pending()).saturating_add(came)
    }

    /// Bytes of a host's that are promised to another one. What is asked back without a promise is
    /// free when it comes; these never are.
    fn moving_from(&self, on: usize, from: HostId) -> u64 {
        let moves = self.open_on(on).filter(|(_, entry)| entry.from == Some(from));
        let moves = moves.filter(|(_, entry)| entry.to.is_some());
        moves.fold(0, |sum, (_, entry)| sum + bytes_of(&entry.record.asked_back))
    }

    /// Bytes that a host may still be promised.
    pub(super) fn room(&self, on: usize, to: HostId, but: Option<RequestId>) -> u64 {
        let maximum = self.devices[on].ports[&to].limits().maximum;
        maximum.saturating_sub(self.coming_to(on, to, but))
    }

    /// What of what is free a host may be offered, all others' guarantees kept.
    pub(super) fn share(&self, on: usize, to: HostId, free: &Ranges) -> Share {
        let device = &self.devices[on];
        let mut common = free.clone();
        for range in device.unsanitized.values().flat_map(Ranges::to_vec) {
            common.remove(range);
        }
        // What all others lack, and what of that is nowhere but in what anybody may get.
        let (mut kept, mut kept_common) = (0_u64, 0_u64);
        for (&host, port) in device.ports.iter().filter(|&(&host, _)| host != to) {
            let stays = self.sure_of(on, host).saturating_sub(self.moving_from(on, host));
            let lacks = port.limits().minimum.saturating_sub(stays);
            if lacks != 0 {
                // Who has nothing of its own can have what is common, and that was counted already.
                let own = match device.unsanitized.contains_key(&device.former(host)) {
                    true => self.clean_for(on, host, free.clone()).bytes() - common.bytes(),
                    false => 0,
                };
                kept = kept.saturating_add(lacks);
                kept_common = kept_common.saturating_add(lacks.saturating_sub(own));
            }
        }
        // There may be less behind the addresses than there are addresses.
        let addresses = device.regions.iter().fold(0, |sum: u64, region| sum + region.length);
        let taken = addresses - free.bytes();
        let left = free.bytes().min(device.capacity().saturating_sub(taken));
        let clean = self.clean_for(on, to, free.clone());
        let spare = common.bytes().saturating_sub(kept_common);
        let own = clean.bytes() - common.bytes();
        let budget = left.saturating_sub(kept).min(own + spare).min(self.room(on, to, None));
        Share { budget, clean, common, spare }
    }

    /// Bytes to offer a host: where, and how many of them.
    pub(super) fn choose(
        &self,
        on: usize,
        to: HostId,
        region: Option<u8>,
        bytes: u64,
        tag: Tag,
        shape: Shape,
    ) -> Option<(u8, Vec<DpaRange>)> {
        let free = self.free(on);
        let share = self.share(on, to, &free);
        let budget = share.budget.min(bytes);
        if budget < bytes && shape != Shape::Some {
            return None;
        }
        let regions = (0..).zip(&self.devices[on].regions);
        // What hosts can share always has a name.
        let mut regions = regions.filter(|&(number, known)| {
            region.is_none_or(|one| one == number) && !(tag.is_null() && is_sharable(known))
        });
        regions.find_map(|(number, region)| {
            let chosen = share.pick(region, budget, shape);
            (!chosen.is_empty()).then_some((number, chosen))
        })
    }

    /// Whether a host may be offered just this.
    pub(super) fn may_offer(&self, on: usize, to: HostId, extents: &[DpaRange]) -> bool {
        let free = self.free(on);
        let share = self.share(on, to, &free);
        share.budget >= bytes_of(extents)
            && share.is_enough_without(extents)
            && extents.iter().all(|&extent| share.clean.contains(extent))
    }

    /// Of bytes that are promised to a host, those that were overwritten.
    pub(super) fn clean_of(&self, on: usize, to: HostId, promised: &[DpaRange]) -> Vec<DpaRange> {
        self.clean_for(on, to, promised.iter().copied().collect()).to_vec()
    }
}

/// Whole blocks of a region: of the smallest run that has all, or of the largest runs.
fn pick(free: &Ranges, region: &HostRegion, bytes: u64, shape: Shape) -> Vec<DpaRange> {
    let bytes = bytes / region.block_size * region.block_size;
    let mut runs = runs_of(free, region);
    if bytes == 0 {
        return Vec::new();
    }
    let fits = runs.iter().filter(|run| run.length >= bytes).min_by_key(|run| run.length);
    if let Some(run) = fits {
        return alloc::vec![DpaRange::new(run.start, bytes)];
    }
    if shape == Shape::OnePiece {
        return Vec::new();
    }
    runs.sort_by_key(|run| (Reverse(run.length), run.start));
    runs.truncate(MAX_EXTENTS);
    let mut left = bytes;
    for run in &mut runs {
        run.length = run.length.min(left);
        left -= run.length;
    }
    if left != 0 && shape == Shape::All {
        return Vec::new();
    }
    runs.retain(|run| run.length != 0);
    runs.sort_unstable();
    runs
}

/// What of a set lies in a region, in whole blocks.
fn runs_of(free: &Ranges, region: &HostRegion) -> Vec<DpaRange> {
    let block = region.block_size;
    let aligned = |run: DpaRange| {
        let start = run.start.next_multiple_of(block);
        let end = (run.start + run.length) / block * block;
        (start < end).then(|| DpaRange::new(start, end - start))
    };
    free.common(range_of(region)).into_iter().filter_map(aligned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use memtide_units::Random;

    use crate::command::Sanitize;

    const REGION: HostRegion = HostRegion {
        base: 0,
        decode_length: 256 << 20,
        length: 1600,
        block_size: 100,
        dsmas_flags: 0,
        sanitize: Sanitize::OnRelease,
    };

    fn free(runs: &[(u64, u64)]) -> Ranges {
        runs.iter().map(|&(start, length)| DpaRange::new(start, length)).collect()
    }

    #[test]
    fn the_smallest_run_that_has_all_is_taken_from() {
        let free = free(&[(0, 500), (600, 300), (1000, 200)]);
        for shape in [Shape::Some, Shape::All, Shape::OnePiece] {
            assert_eq!(pick(&free, &REGION, 300, shape), [DpaRange::new(600, 300)]);
        }
    }

    #[test]
    fn else_the_largest_runs_are_and_never_half_a_block() {
        let free = free(&[(0, 500), (650, 250), (1000, 200)]);
        let both = [DpaRange::new(0, 500), DpaRange::new(700, 200)];
        assert_eq!(pick(&free, &REGION, 750, Shape::All), both);
        assert_eq!(pick(&free, &REGION, 750, Shape::OnePiece), []);
        assert_eq!(pick(&free, &REGION, 1000, Shape::All), []);
        let all = pick(&free, &REGION, 1000, Shape::Some);
        assert_eq!(all, [both[0], both[1], DpaRange::new(1000, 200)]);
        assert_eq!(pick(&free, &REGION, 99, Shape::Some), []);
    }

    #[test]
    fn a_piece_that_leaves_enough_is_found_wherever_it_is() {
        // 8 blocks; the last is its own, and 3 of the others may be had.
        let share =
            Share { budget: 400, clean: free(&[(0, 800)]), common: free(&[(0, 700)]), spare: 300 };
        assert_eq!(share.pick(&REGION, 400, Shape::OnePiece), [DpaRange::new(400, 400)]);
        assert_eq!(share.pick(&REGION, 300, Shape::OnePiece), [DpaRange::new(0, 300)]);
        assert_eq!(share.pick(&REGION, 500, Shape::OnePiece), []);
    }

    /// Against all pieces that there are.
    #[test]
    fn a_piece_is_found_if_there_is_one() {
        let (mut found, mut none) = (0, 0);
        for seed in 0..3000 {
            let mut random = Random::new(seed);
            let (mut clean, mut common) = (Ranges::default(), Ranges::default());
            // Data of another block size lies there, too.
            let step = [50, 100][random.below(2) as usize];
            for at in (0..1600).step_by(step) {
                let piece = DpaRange::new(at, step as u64);
                match random.below(6) {
                    0 => {}
                    1 | 2 => clean.insert(piece),
                    _ => {
                        clean.insert(piece);
                        common.insert(piece);
                    }
                }
            }
            let spare = 50 * random.below(12);
            let bytes = 100 * (1 + random.below(8));
            let share = Share { budget: bytes, clean, common, spare };
            let is_one = |start: u64| {
                let piece = DpaRange::new(start, bytes);
                share.clean.contains(piece) && share.is_enough_without(&[piece])
            };
            let there_is = (0..1600).step_by(100).any(is_one);
            match share.pick(&REGION, bytes, Shape::OnePiece)[..] {
                [] => {
                    assert!(!there_is, "seed {seed}");
                    none += 1;
                }
                [piece] => {
                    assert!(is_one(piece.start) && piece.is_aligned(100), "seed {seed}: {piece}");
                    assert_eq!(piece.length, bytes, "seed {seed}");
                    found += 1;
                }
                ref more => panic!("seed {seed}: {more:?}"),
            }
        }
        assert!(found > 500 && none > 500, "{found}, {none}");
    }
}
