//! A cache before the memory: what it serves is no access to a page.
//!
//! Set-associative with least recently used replacement, as valgrind's cachegrind models one.
//! A write allocates; writing back is left to the machine's model of traffic.

use super::{Record, TraceError, lackey::Touch};

/// Bytes of a line, as a power of two.
const LINE_SHIFT: u32 = 6;

/// A cache.
#[derive(Clone, Debug)]
pub struct Cache {
    /// Set by set, the lines that it holds, the one used last first.
    lines: Vec<u64>,
    ways: usize,
    set_mask: u64,
}

/// No line: their numbers are below 2^58.
const NO_LINE: u64 = u64::MAX;

impl Cache {
    /// Of 2^`sets_shift` sets of `ways` lines of 64 bytes.
    #[must_use]
    pub fn new(sets_shift: u32, ways: usize) -> Self {
        let lines = vec![NO_LINE; ways << sets_shift];
        Self { lines, ways, set_mask: (1 << sets_shift) - 1 }
    }

    /// 1 MiB, 16 ways: what a core has for itself these days.
    #[must_use]
    pub fn usual() -> Self {
        Self::new(10, 16)
    }

    /// Uses a line. Whether it was there.
    fn serves(&mut self, line: u64) -> bool {
        let set = (line & self.set_mask) as usize * self.ways;
        let set = &mut self.lines[set..set + self.ways];
        let at = set.iter().position(|&held| held == line);
        set[..=at.unwrap_or(self.ways - 1)].rotate_right(1);
        set[0] = line;
        at.is_some()
    }

    /// The accesses to memory that are left of those of a program, to pages of 2^`shift` bytes,
    /// at least a line.
    pub fn misses(
        mut self,
        touches: impl Iterator<Item = Result<Touch, TraceError>>,
        shift: u8,
    ) -> impl Iterator<Item = Result<Record, TraceError>> {
        let lines = |touch: Touch| {
            let last = touch.address.saturating_add(u64::from(touch.bytes.get() - 1));
            (touch.address >> LINE_SHIFT..=last >> LINE_SHIFT)
                .map(move |line| Ok((line, touch.access)))
        };
        let each = touches.flat_map(move |touch| {
            let (touched, wrong) = match touch {
                Ok(touch) => (Some(lines(touch)), None),
                Err(error) => (None, Some(Err(error))),
            };
            touched.into_iter().flatten().chain(wrong)
        });
        each.filter_map(move |line| match line {
            Ok((line, _)) if self.serves(line) => None,
            Ok((line, access)) => {
                let page = line >> (u32::from(shift) - LINE_SHIFT);
                Some(Ok(Record { page, access, accessor: 0 }))
            }
            Err(error) => Some(Err(error)),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use memtide_units::Random;

    use super::*;

    /// Against one queue a set.
    #[test]
    fn serves_what_a_naive_cache_serves() {
        for seed in 0..10 {
            let mut random = Random::new(seed);
            let (sets, ways) = (4, 1 + random.below(4) as usize);
            let mut cache = Cache::new(2, ways);
            let mut naive = vec![VecDeque::new(); sets];
            let mut served = 0;
            for step in 0..5000 {
                let line = random.below(40);
                let set = &mut naive[line as usize % sets];
                let held = set.iter().position(|&held| held == line);
                held.map(|at| set.remove(at));
                set.push_front(line);
                set.truncate(ways);
                served += u32::from(held.is_some());
                assert_eq!(cache.serves(line), held.is_some(), "seed {seed}, step {step}");
            }
            assert!(served > 300);
        }
    }
}
