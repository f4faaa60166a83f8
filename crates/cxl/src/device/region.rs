//! A region: what of it is free, and what of that an offer is made of.

use alloc::vec::Vec;

use memtide_units::DpaRange;

use super::{
    config::{RegionConfig, Sharing},
    ranges::Ranges,
    refusal::Refusal,
};
use crate::command::{Sanitize, dynamic_capacity};

/// A region.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Region {
    /// As it is configured now.
    pub(super) config: RegionConfig,
    /// What nobody has.
    pub(super) free: Ranges,
    /// What nobody has and nobody gets, as it is being overwritten.
    pub(super) sanitizing: Ranges,
}

/// How the extents of an offer lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Layout {
    /// As they come.
    Any,
    /// In one.
    Contiguous,
}

impl Region {
    pub(super) fn new(config: RegionConfig) -> Self {
        let free = Ranges::from_iter([config.usable()]);
        Self { config, free, sanitizing: Ranges::default() }
    }

    pub(super) fn is_sharable(&self) -> bool {
        self.config.sharing == Sharing::Sharable
    }

    /// Bytes that somebody has, or that are being overwritten.
    pub(super) fn taken(&self) -> u64 {
        self.config.length - self.free.bytes()
    }

    /// What the end of somebody's having `range` makes of it. Says whether it is overwritten.
    pub(super) fn put_back(&mut self, range: DpaRange, sanitize: Sanitize) {
        match sanitize {
            Sanitize::OnRelease => self.sanitizing.insert(range),
            Sanitize::Never => self.free.insert(range),
        }
    }

    /// What an offer of `length` bytes, whole blocks, is made of: as few extents as possible, and
    /// of the runs that are large enough the smallest, so that large ones stay.
    ///
    /// # Errors
    /// There is not enough, or there will be once something is overwritten.
    pub(super) fn select(&self, length: u64, layout: Layout) -> Result<Vec<DpaRange>, Refusal> {
        if let Some(chosen) = choose(&self.free, length, layout) {
            return Ok(chosen);
        }
        let mut later = self.free.clone();
        self.sanitizing.iter().for_each(|range| later.insert(range));
        if choose(&later, length, layout).is_some() {
            return Err(Refusal::Sanitizing { length });
        }
        let free = match layout {
            Layout::Any => self.free.bytes(),
            Layout::Contiguous => self.free.iter().map(|run| run.length).max().unwrap_or(0),
        };
        Err(Refusal::Capacity { length, free })
    }

    /// What a host is told of it.
    pub(super) const fn told(&self) -> dynamic_capacity::Region {
        let RegionConfig {
            base, decode_length, length, block_size, dsmad_handle, sanitize, ..
        } = self.config;
        dynamic_capacity::Region { base, decode_length, length, block_size, dsmad_handle, sanitize }
    }

    /// The flags of its entry in CDAT: dynamic capacity (5), sharable (3).
    pub(super) const fn dsmas_flags(&self) -> u8 {
        match self.config.sharing {
            Sharing::Exclusive => 1 << 5,
            Sharing::Sharable => 1 << 5 | 1 << 3,
        }
    }
}

fn choose(free: &Ranges, length: u64, layout: Layout) -> Option<Vec<DpaRange>> {
    let mut runs: Vec<DpaRange> = free.iter().collect();
    runs.sort_by_key(|run| (run.length, run.start));
    let (mut chosen, mut missing) = (Vec::new(), length);
    loop {
        let fits = runs.partition_point(|run| run.length < missing);
        if let Some(run) = runs.get(fits) {
            chosen.push(DpaRange::new(run.start, missing));
            chosen.sort();
            return Some(chosen);
        }
        let largest = runs.pop().filter(|_| layout == Layout::Any)?;
        missing -= largest.length;
        chosen.push(largest);
    }
}
