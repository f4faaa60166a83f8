//! Ranks to pages: neighbouring ranks lie far apart.
//!
//! A page is `rank × step mod pages`, with a step near the golden section of the pages and prime
//! to them: a permutation that needs no table. The remainder is computed by multiplying with the
//! inverse (Barrett), as a division would cost as much as all the rest of an access.

/// A permutation of the pages.
#[derive(Clone, Copy, Debug)]
pub struct Scatter {
    pages: u64,
    step: u64,
    inverse: u64,
}

impl Scatter {
    /// For `pages` pages, at least one.
    #[must_use]
    pub fn new(pages: u32) -> Self {
        let pages = u64::from(pages);
        // 0.618… × 2^32.
        let golden = (pages * 2_654_435_769) >> 32;
        let step = (golden.max(1)..).find(|&step| gcd(step, pages) == 1);
        let step = step.expect("a number one above a multiple is prime to it");
        Self { pages, step, inverse: u64::MAX / pages }
    }

    /// The page of a rank, both below the number of pages.
    #[inline]
    #[must_use]
    pub const fn page(&self, rank: u32) -> u32 {
        let product = rank as u64 * self.step;
        let quotient = ((product as u128 * self.inverse as u128) >> 64) as u64;
        // The quotient is at most one too small: the product is below 2^56.
        let rest = product - quotient * self.pages;
        (if rest >= self.pages { rest - self.pages } else { rest }) as u32
    }
}

const fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_has_one_rank() {
        for pages in [1, 2, 3, 7, 64, 1000, 65_537] {
            let scatter = Scatter::new(pages);
            let mut seen = vec![false; pages as usize];
            for rank in 0..pages {
                let page = scatter.page(rank) as usize;
                assert!(!std::mem::replace(&mut seen[page], true), "{pages}: {page} twice");
            }
        }
    }

    #[test]
    fn the_remainder_is_exact_for_a_tebibyte() {
        for pages in [1 << 28, (1 << 28) - 1, 200_000_003] {
            let scatter = Scatter::new(pages);
            for rank in (0..pages).rev().step_by(99_991) {
                let exact = u64::from(rank) * scatter.step % u64::from(pages);
                assert_eq!(u64::from(scatter.page(rank)), exact);
            }
        }
    }

    #[test]
    fn the_first_ranks_lie_in_all_parts() {
        let scatter = Scatter::new(1 << 20);
        let mut parts = [0; 8];
        (0..8000).for_each(|rank| parts[(scatter.page(rank) >> 17) as usize] += 1);
        assert!(parts.iter().all(|&count| (900..1100).contains(&count)), "{parts:?}");
    }
}
