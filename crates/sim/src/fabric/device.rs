//! The device: who has which of its blocks, and what it makes of commands.
//!
//! Every host sees the whole medium at the same addresses, and may touch what it has accepted:
//!
//! ```text
//!         offered            accepted
//!  Free ──────────▶ Offered ──────────▶ Held ──┐
//!   ▲                  │ left out             │ released, or taken by force
//!   └──────────────────┴──────────────────────┘
//! ```

use std::collections::{BTreeMap, VecDeque};

use memtide_engine::dynamic_capacity::{DcExtent, DpaRange, More, Outcome, Splitting, Tag};
use memtide_units::PAGEBLOCK_BYTES;

/// A pageblock of the medium.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Media {
    Free,
    Offered(usize),
    Held(usize),
}

/// An event record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Record {
    Add(DcExtent, More),
    Release(DpaRange, Tag, More),
    Forced(DpaRange, Tag),
}

impl Record {
    /// The same record, if another follows.
    pub(super) const fn followed(self) -> Self {
        match self {
            Self::Add(extent, _) => Self::Add(extent, More::Follows),
            Self::Release(range, tag, _) => Self::Release(range, tag, More::Follows),
            Self::Forced(..) => self,
        }
    }
}

/// What the device knows of one host.
#[derive(Clone, Default)]
struct View {
    /// Groups that are offered, in order: one answer is owed for each.
    offers: VecDeque<Vec<DcExtent>>,
    /// What it accepted: its length and tag, by its first address.
    held: BTreeMap<u64, (u64, Tag)>,
}

/// The device.
pub(super) struct Device {
    media: Vec<Media>,
    hosts: Vec<View>,
    splitting: Splitting,
}

fn blocks(range: DpaRange) -> std::ops::Range<usize> {
    let first = (range.start / PAGEBLOCK_BYTES) as usize;
    first..first + (range.length / PAGEBLOCK_BYTES) as usize
}

impl Device {
    pub(super) fn new(capacity: u64, hosts: usize, splitting: Splitting) -> Self {
        let media = vec![Media::Free; (capacity / PAGEBLOCK_BYTES) as usize];
        Self { media, hosts: vec![View::default(); hosts], splitting }
    }

    /// The lowest free extents of a size, as many as are needed and there.
    pub(super) fn free(&self, extent: u64, count: u64) -> Vec<DpaRange> {
        let whole = self.media.len() as u64 * PAGEBLOCK_BYTES / extent;
        let all = (0..whole).map(|number| DpaRange::new(number * extent, extent));
        let is_free =
            |range: &DpaRange| self.media[blocks(*range)].iter().all(|&media| media == Media::Free);
        all.filter(is_free).take(count as usize).collect()
    }

    /// Offers a group, in one chain of records. What is not free stays as it is: a manager may
    /// be wrong.
    pub(super) fn offer(&mut self, host: usize, extents: &[DcExtent]) -> Vec<Record> {
        for extent in extents {
            for media in self.media.get_mut(blocks(extent.range)).into_iter().flatten() {
                if *media == Media::Free {
                    *media = Media::Offered(host);
                }
            }
        }
        self.hosts[host].offers.push_back(extents.to_vec());
        let last = extents.len() - 1;
        let more = |at| if at == last { More::Last } else { More::Follows };
        extents.iter().enumerate().map(|(at, &extent)| Record::Add(extent, more(at))).collect()
    }

    /// Add Dynamic Capacity Response (4802h): for the oldest group; it accepts whole extents.
    pub(super) fn add_response(&mut self, host: usize, accepted: &[DpaRange]) -> Outcome {
        let offered = self.hosts[host].offers.front();
        let known = |range: &DpaRange| {
            offered.is_some_and(|group| group.iter().any(|extent| extent.range == *range))
        };
        if offered.is_none() || !accepted.iter().all(known) {
            return Outcome::Rejected;
        }
        let group = self.hosts[host].offers.pop_front().expect("just seen");
        for DcExtent { range, tag, .. } in group {
            let taken = accepted.contains(&range);
            let now = if taken { Media::Held(host) } else { Media::Free };
            for media in self.media.get_mut(blocks(range)).into_iter().flatten() {
                if *media == Media::Offered(host) {
                    *media = now;
                }
            }
            if taken {
                self.hosts[host].held.insert(range.start, (range.length, tag));
            }
        }
        Outcome::Taken
    }

    /// Release Dynamic Capacity (4803h). Says what is free now.
    pub(super) fn release(&mut self, host: usize, released: &[DpaRange]) -> u64 {
        released.iter().map(|&range| self.take_back(host, range)).sum()
    }

    /// Takes what a host holds of a range, which lies in one extent.
    fn take_back(&mut self, host: usize, range: DpaRange) -> u64 {
        let held = &mut self.hosts[host].held;
        let Some((&start, &(length, tag))) = held.range(..=range.start).next_back() else {
            return 0;
        };
        let extent = DpaRange::new(start, length);
        let whole = extent == range || self.splitting == Splitting::Block;
        if !extent.contains(range) || !whole {
            return 0;
        }
        held.remove(&start);
        if start < range.start {
            held.insert(start, (range.start - start, tag));
        }
        let (end, rest) = (range.start + range.length, start + length);
        if end < rest {
            held.insert(end, (rest - end, tag));
        }
        self.media[blocks(range)].fill(Media::Free);
        range.length
    }

    /// Takes an extent by force.
    pub(super) fn force(&mut self, host: usize, range: DpaRange, tag: Tag) -> Record {
        self.take_back(host, range);
        Record::Forced(range, tag)
    }

    /// What a host holds, ascending.
    pub(super) fn held(&self, host: usize) -> Vec<(DpaRange, Tag)> {
        let held = self.hosts[host].held.iter();
        held.map(|(&start, &(length, tag))| (DpaRange::new(start, length), tag)).collect()
    }

    pub(super) fn held_bytes(&self, host: usize) -> u64 {
        self.hosts[host].held.values().map(|&(length, _)| length).sum()
    }

    /// The books agree: every block is one host's at most, and the one's that accepted it.
    pub(super) fn validate(&self) {
        for host in 0..self.hosts.len() {
            let held = self.media.iter().filter(|&&media| media == Media::Held(host)).count();
            let extents = self.held(host);
            for &(range, _) in &extents {
                let media = &self.media[blocks(range)];
                assert!(media.iter().all(|&media| media == Media::Held(host)), "{range}");
            }
            assert_eq!(held as u64 * PAGEBLOCK_BYTES, self.held_bytes(host));
        }
    }
}
