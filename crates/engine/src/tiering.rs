//! Tiering: which page lies in which tier, by who accesses it how often.
//!
//! A *policy* is told what a sampler saw and what the tiers look like, and answers with moves. It
//! is the same trait for all: what Linux and the literature do, and memtide's own. A policy knows
//! pages by number and nothing of who owns them; what it costs to keep its books is its own
//! affair, and is asked of it ([`Policy::metadata_bytes`]).
//!
//! A page here is whatever unit is moved at once: 4 KiB or a pageblock.
//!
//! The policies, one file each; what is below the fastest tier is one thing to all of them: they
//! promote to tier 0, and demote to the first tier below it that has room.
//! * `static_placement` (`static`): pages stay where they were first touched.
//! * `tpp`: Linux's, by hint faults and the clock.
//! * `numa_balancing` (`numa-balancing`): Linux's, by how soon a page faults after it was armed.
//! * `hemem`: counters with thresholds, cooled by a clock.
//! * `memtis`: a histogram of counters, and a threshold that fills the fast tier.
//! * `colloid`: balances the latencies of the tiers under load.
//! * `memtide`: what pages with a given past turned out to do next.
//!
//! What they share: `plan`, the moves of one answer; `placed`, which pages there are, and a hand
//! that goes round them; `queue`, pages that wait; `frequency`, counters
//! that are halved when they are looked at; `balance`, how the load should be shared out.

mod balance;
mod colloid;
mod frequency;
mod hemem;
mod memtide;
mod memtis;
mod numa_balancing;
mod placed;
mod plan;
mod queue;
mod static_placement;
#[cfg(test)]
mod tests;
mod tpp;

use alloc::{boxed::Box, vec::Vec};
use core::time::Duration;

use memtide_units::Instant;

pub use static_placement::StaticPlacement;

/// A page, by number, from 0.
pub type Page = u32;

/// A tier: 0 is the fastest.
pub type Tier = u8;

/// One access that a sampler saw.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sample {
    /// Which page.
    pub page: Page,
    /// Where it lay.
    pub tier: Tier,
    /// Whether it was written.
    pub write: bool,
}

/// A tier as a policy sees it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct TierState {
    /// Pages that fit.
    pub pages: u32,
    /// Pages that are free.
    pub free: u32,
    /// Nanoseconds of an access when nobody else accesses it.
    pub unloaded_ns: f64,
    /// Nanoseconds of an access on average since the last tick: with the load there was.
    pub loaded_ns: f64,
    /// Accesses since the last tick, all of them (a hardware counter, not sampled).
    pub accesses: u64,
}

/// A move that a policy wants. Of those of one answer, what leaves a tier makes room for what
/// comes, in their order; a move to a tier that is full is dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Move {
    /// Which page.
    pub page: Page,
    /// Where to.
    pub to: Tier,
}

/// What a policy may spend.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// Moves until the next tick.
    pub moves: u32,
}

/// A tiering policy.
pub trait Policy {
    /// Its name, as it stands in scenarios.
    fn name(&self) -> &'static str;

    /// One access in how many it wants to be told.
    fn sample_period(&self) -> u32;

    /// How often it wants to be asked.
    fn tick_every(&self) -> Duration;

    /// Where a page goes that is touched for the first time: the best tier with room, unless it
    /// knows better. Called once for every page, before it is accessed.
    fn place(&mut self, page: Page, tiers: &[TierState]) -> Tier {
        let _ = page;
        first_touch(tiers)
    }

    /// What a sampler saw, in order.
    fn samples(&mut self, samples: &[Sample]);

    /// What is to be moved now. `tier_of` says where a page lies.
    fn tick(
        &mut self,
        now: Instant,
        tiers: &[TierState],
        tier_of: &dyn Fn(Page) -> Tier,
        budget: Budget,
    ) -> Vec<Move>;

    /// Bytes that it keeps in mind about all pages.
    fn metadata_bytes(&self) -> u64;
}

/// The best tier with room; the last where none has.
fn first_touch(tiers: &[TierState]) -> Tier {
    let room = tiers.iter().position(|tier| tier.free > 0);
    room.unwrap_or(tiers.len() - 1) as Tier
}

/// The names of all policies, as [`by_name`] knows them.
pub const NAMES: &[&str] =
    &["static", "tpp", "numa-balancing", "hemem", "memtis", "colloid", "memtide"];

/// The policy of that name for so many pages in so many tiers; none where no policy has the name,
/// or there are no tiers.
#[must_use]
pub fn by_name(name: &str, pages: u32, tiers: usize) -> Option<Box<dyn Policy>> {
    if tiers == 0 {
        return None;
    }
    Some(match name {
        "static" => Box::new(static_placement::StaticPlacement),
        "tpp" => Box::new(tpp::Tpp::new(pages)),
        "numa-balancing" => Box::new(numa_balancing::NumaBalancing::new(pages)),
        "hemem" => Box::new(hemem::HeMem::new(pages)),
        "memtis" => Box::new(memtis::Memtis::new(pages)),
        "colloid" => Box::new(colloid::Colloid::new(pages)),
        "memtide" => Box::new(memtide::Memtide::new(pages)),
        _ => return None,
    })
}
