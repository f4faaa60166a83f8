//! GUPS: random updates, every page as likely as any other.

use memtide_units::Random;

use super::{Stream, Writes};

pub struct Uniform {
    pages: u64,
    writes: Writes,
    random: Random,
}

impl Uniform {
    pub const fn new(pages: u32, writes: Writes, seed: u64) -> Self {
        Self { pages: pages as u64, writes, random: Random::new(seed) }
    }
}

impl Stream for Uniform {
    fn fill(&mut self, _phase: u64, into: &mut [u32]) {
        for visit in into {
            let random = self.random.next();
            *visit = (((random >> 32) * self.pages) >> 32) as u32 | self.writes.bit(random);
        }
    }
}
