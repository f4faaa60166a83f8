//! Numbers that look random and are the same in every run.

/// A generator: splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators",
/// OOPSLA 2014). Its whole state is one number, so a seed is all that a run needs.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The numbers of a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next one.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// One below `end`, which is not zero.
    pub const fn below(&mut self, end: u64) -> u64 {
        ((self.next() as u128 * end as u128) >> 64) as u64
    }

    /// One of several things, each as often as its weight says. The weights are not all zero.
    pub fn pick<T: Copy>(&mut self, things: impl Iterator<Item = (T, u64)> + Clone) -> T {
        let sum = things.clone().map(|(_, weight)| weight).sum();
        let mut at = self.below(sum);
        for (thing, weight) in things {
            match at.checked_sub(weight) {
                Some(rest) => at = rest,
                None => return thing,
            }
        }
        unreachable!("a number below the sum of the weights lies in one of them")
    }

    /// Puts things into a random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, things: &mut [T]) {
        for last in (1..things.len()).rev() {
            let with = self.below(last as u64 + 1);
            things.swap(last, with as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first numbers of the seed 1234567, as the reference implementation has them.
    #[test]
    fn the_numbers_are_those_of_splitmix64() {
        let mut random = Random::new(1_234_567);
        let first = [random.next(), random.next(), random.next()];
        assert_eq!(
            first,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn things_come_as_often_as_they_weigh() {
        let mut random = Random::new(1);
        let mut seen = [0_u32; 3];
        for _ in 0..9000 {
            seen[random.pick([(0, 6), (1, 0), (2, 3)].into_iter())] += 1;
        }
        assert_eq!(seen[1], 0);
        assert!(seen[0].abs_diff(6000) < 300, "{seen:?}");
    }

    #[test]
    fn a_shuffle_keeps_all_and_moves_most() {
        let mut things: alloc::vec::Vec<usize> = (0..1000).collect();
        Random::new(42).shuffle(&mut things);
        let same = things.iter().enumerate().filter(|&(at, &thing)| at == thing).count();
        assert!(same < 20, "{same}");
        things.sort_unstable();
        assert!(things.iter().enumerate().all(|(at, &thing)| at == thing));
    }

    #[test]
    fn numbers_stay_below_and_reach_all() {
        let mut random = Random::new(1);
        let mut seen = [0; 7];
        (0..7000).for_each(|_| seen[random.below(7) as usize] += 1);
        assert!(seen.iter().all(|&count| count > 800), "{seen:?}");
    }
}
