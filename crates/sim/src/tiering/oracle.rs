//! Bounds that look into the future.
//!
//! Pages are ranked by how often they will be visited. The hottest go to the fastest tier, unless
//! that is not best: when the fastest tier saturates, leaving some of the hottest to the others
//! is better. So the fastest tier gets a window of ranks, and the window moves down the ranks; of
//! 512 windows, evenly spaced in the share of accesses that they hold, the one of the highest
//! throughput is taken. The other tiers get the rest, hottest first.
//!
//! They know the visits themselves, not only how likely they were: chance that evens out for
//! nobody else is theirs as well. They do not know that a link will change: the machine is taken
//! as it is when the placement is made.

use std::ops::Range;

use super::{
    Job,
    machine::{Demand, Machine, TIERS_MAX},
    placement::{Placement, WRITE},
    workload::Stream,
};

/// Shares that are tried.
const SHARES: u64 = 512;
/// Counts below this are looked up, not searched.
const SMALL: usize = 1 << 16;

/// How often pages are visited.
pub struct Counts {
    of: Vec<u32>,
    visits: u64,
    writes: u64,
}

impl Counts {
    /// Counts the next visits of a stream, those of these numbers; a phase has `phase_visits`.
    pub fn take(
        pages: u32,
        stream: &mut dyn Stream,
        numbers: Range<u64>,
        phase_visits: u64,
        run: &mut [u32],
    ) -> Self {
        let mut of = vec![0_u32; pages as usize];
        let mut writes = 0;
        let mut at = numbers.start;
        while at < numbers.end {
            let to_phase = phase_visits - at % phase_visits;
            let length = (run.len() as u64).min(to_phase).min(numbers.end - at);
            let run = &mut run[..length as usize];
            stream.fill(at / phase_visits, run);
            for &visit in &*run {
                let count = &mut of[(visit & !WRITE) as usize];
                *count = count.saturating_add(1);
                writes += u64::from(visit >> 31);
            }
            at += length;
        }
        Self { of, visits: numbers.end - numbers.start, writes }
    }

    /// The best placement for these visits.
    pub fn place(&self, job: &Job, machine: &Machine, capacity: [u32; TIERS_MAX]) -> Placement {
        let ranking = Ranking::new(&self.of);
        let near = u64::from(capacity[0]);
        let pages = self.of.len() as u64;
        let elsewhere: u64 = capacity[1..].iter().map(|&pages| u64::from(pages)).sum();
        // As far down as the window can go and the rest still fits elsewhere.
        let last = if elsewhere >= pages { pages } else { pages.saturating_sub(near) };
        let [most, least] = [0, last].map(|first| ranking.window(first, near));
        let mut best = (0.0, 0);
        for step in 0..=SHARES {
            let share = most - (most - least) * step / SHARES;
            let first = partition(last, |first| ranking.window(first, near) > share);
            let per_ns = self.throughput(job, machine, &ranking, first, capacity);
            if per_ns > best.0 {
                best = (per_ns, first);
            }
        }
        let window = best.1..(best.1 + near).min(pages);
        let mut ranks = ranking.ranks();
        Placement::new(self.of.len() as u32, capacity, |page, _| {
            let rank = ranks.next(self.of[page as usize]);
            if window.contains(&rank) {
                return 0;
            }
            let outside =
                if rank < window.start { rank } else { rank - (window.end - window.start) };
            tier_outside(outside, &capacity)
        })
    }

    /// The throughput when the window of ranks from `first` lies in the fastest tier.
    fn throughput(
        &self,
        job: &Job,
        machine: &Machine,
        ranking: &Ranking,
        first: u64,
        capacity: [u32; TIERS_MAX],
    ) -> f64 {
        let near = u64::from(capacity[0]);
        let all = self.visits as f64;
        let inside = ranking.window(first, near);
        let mut demand = Demand::of(job);
        demand.share[0] = inside as f64 / all;
        demand.writes = [self.writes as f64 / all; TIERS_MAX];
        // Of the ranks outside of the window, those up to a rank.
        let upto = |outside: u64| {
            let below = ranking.upto(outside.min(first));
            let end = first + near;
            below + ranking.window(end, outside.saturating_sub(first))
        };
        let mut from = 0;
        for (share, pages) in demand.share.iter_mut().zip(capacity).skip(1) {
            let to = from + u64::from(pages);
            *share = (upto(to) - upto(from)) as f64 / all;
            from = to;
        }
        machine.solve(&demand).per_ns
    }
}

/// The tier of the n-th page that is not in the fastest.
fn tier_outside(mut nth: u64, capacity: &[u32; TIERS_MAX]) -> u8 {
    for tier in 1..TIERS_MAX as u8 {
        match nth.checked_sub(u64::from(capacity[usize::from(tier)])) {
            Some(rest) => nth = rest,
            None => return tier,
        }
    }
    0
}

/// The first number up to `end` for which it is no longer so.
fn partition(end: u64, so: impl Fn(u64) -> bool) -> u64 {
    let (mut low, mut high) = (0, end);
    while low < high {
        let middle = low + (high - low) / 2;
        if so(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

/// Pages that are visited as often as each other.
#[derive(Clone, Copy, Debug)]
struct Level {
    count: u32,
    /// Pages that are visited more often.
    pages_before: u64,
    /// Their visits.
    visits_before: u64,
}

/// Pages by how often they are visited; those visited as often, by their number.
struct Ranking {
    levels: Vec<Level>,
    /// The level of each small count.
    small: Vec<u32>,
    pages: u64,
    visits: u64,
}

impl Ranking {
    fn new(counts: &[u32]) -> Self {
        let mut small = vec![0_u32; SMALL];
        let mut large = Vec::new();
        for &count in counts {
            match small.get_mut(count as usize) {
                Some(pages) => *pages += 1,
                None => large.push(count),
            }
        }
        large.sort_unstable_by(|a, b| b.cmp(a));
        let large = large.chunk_by(|a, b| a == b).map(|same| (same[0], same.len() as u64));
        let few = small.iter().enumerate().rev().filter(|&(_, &pages)| pages > 0);
        let few = few.map(|(count, &pages)| (count as u32, u64::from(pages)));
        let (mut pages_before, mut visits_before) = (0, 0);
        let mut levels = Vec::new();
        for (count, pages) in large.chain(few) {
            levels.push(Level { count, pages_before, visits_before });
            pages_before += pages;
            visits_before += pages * u64::from(count);
        }
        for (number, level) in levels.iter().enumerate() {
            if let Some(small) = small.get_mut(level.count as usize) {
                *small = number as u32;
            }
        }
        Self { levels, small, pages: pages_before, visits: visits_before }
    }

    /// Visits of the first so many ranks.
    fn upto(&self, ranks: u64) -> u64 {
        if ranks >= self.pages {
            return self.visits;
        }
        let level = self.levels.partition_point(|level| level.pages_before <= ranks) - 1;
        let Level { count, pages_before, visits_before } = self.levels[level];
        visits_before + (ranks - pages_before) * u64::from(count)
    }

    /// Visits of so many ranks from `first` on.
    fn window(&self, first: u64, ranks: u64) -> u64 {
        self.upto(first + ranks) - self.upto(first)
    }

    fn ranks(&self) -> Ranks<'_> {
        Ranks { ranking: self, next: self.levels.iter().map(|level| level.pages_before).collect() }
    }
}

/// Gives pages their ranks, in the order of pages.
struct Ranks<'a> {
    ranking: &'a Ranking,
    next: Vec<u64>,
}

impl Ranks<'_> {
    /// The rank of the next page, which is visited `count` times.
    fn next(&mut self, count: u32) -> u64 {
        let Ranking { levels, small, .. } = self.ranking;
        let level = match small.get(count as usize) {
            Some(&level) => level as usize,
            None => levels.partition_point(|level| level.count > count),
        };
        let rank = self.next[level];
        self.next[level] += 1;
        rank
    }
}

#[cfg(test)]
mod tests {
    use memtide_units::Random;

    use super::*;

    /// Against sorting.
    #[test]
    fn ranks_and_windows_are_those_of_a_sort() {
        for seed in 0..50 {
            let mut random = Random::new(seed);
            let pages = 1 + random.below(300);
            let spread = [3, 100, 1 << 20][random.below(3) as usize];
            let counts: Vec<u32> = (0..pages).map(|_| random.below(spread) as u32).collect();
            let mut order: Vec<usize> = (0..counts.len()).collect();
            order.sort_by_key(|&page| (std::cmp::Reverse(counts[page]), page));
            let ranking = Ranking::new(&counts);
            let mut ranks = ranking.ranks();
            for (page, &count) in counts.iter().enumerate() {
                let rank = ranks.next(count) as usize;
                assert_eq!(order[rank], page, "seed {seed}");
            }
            for _ in 0..50 {
                let [first, ranks] = [random.below(pages + 5), random.below(pages + 5)];
                let inside = order.iter().skip(first as usize).take(ranks as usize);
                let sum: u64 = inside.map(|&page| u64::from(counts[page])).sum();
                assert_eq!(ranking.window(first, ranks), sum, "seed {seed}: {first} {ranks}");
            }
        }
    }
}
