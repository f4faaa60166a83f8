//! Sequences from a seed, in a part of both regions that is small enough for collisions.
//!
//! Steps are chosen by what the model has and is offered, right ones and wrong ones. A wrong list
//! has one mistake: which of two is told first is nobody's rule. Where a row changes what the
//! devices have, both are brought to the same again at once.

use std::{collections::BTreeSet, env, time::SystemTime};

use memtide_cxl::{
    Opcode,
    command::{
        Sanitize,
        dynamic_capacity::{GetConfiguration, GetExtentList},
        fabric_manager::Force,
    },
};
use memtide_testbed::{Error, needs::loud, ready};
use memtide_units::{DpaRange, Random, Tag};

use crate::{
    deviations::Deviation,
    pair::{BLOCK, HOST, Pair, Wish, blocks},
    reconcile::{chained_answer, chained_release, end_part, refuse_alone},
};

/// Repeats a run.
const SEED_VARIABLE: &str = "MEMTIDE_DEVICE_SEED";
const SEQUENCES: u64 = 8;
const STEPS: u64 = 200;
/// Rows that sequences show so often that none of them showing one is a mistake in this file.
const OFTEN: &[Deviation] = &[
    Deviation::OutOfOrder,
    Deviation::NothingPending,
    Deviation::PartOfExtent,
    Deviation::AnswerMoreIgnored,
    Deviation::ReleaseMoreIgnored,
    Deviation::ReleaseReorders,
    Deviation::LogOverflows,
    Deviation::EmptyRange,
];
/// Blocks of each region that are used.
const WINDOW: u64 = 16;

#[test]
fn random_sequences_differ_only_as_the_table_says() -> Result<(), Error> {
    if !ready() {
        return Ok(());
    }
    let now = || SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as u64);
    let seed = env::var(SEED_VARIABLE).ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(now);
    loud(&format!("seed: {SEED_VARIABLE}={seed}"));
    let mut seen = BTreeSet::new();
    for number in 0..SEQUENCES {
        let random = Random::new(seed.wrapping_add(number));
        let mut day = Day { pair: Pair::start()?, random, tags: 0 };
        for step in 0..STEPS {
            println!("sequence {number}, step {step}");
            day.step()?;
            day.pair.same()?;
        }
        day.end()?;
        println!("sequence {number} saw {:?}", day.pair.seen);
        seen.append(&mut day.pair.seen);
    }
    for row in OFTEN {
        assert!(seen.contains(row), "{row:?} was never seen: these sequences are too tame");
    }
    Ok(())
}

struct Day {
    pair: Pair,
    random: Random,
    /// Tags that were used.
    tags: u8,
}

impl Day {
    fn step(&mut self) -> Result<(), Error> {
        match self.random.below(10) {
            0..3 => self.add(),
            3..6 => self.answer(),
            6..8 => self.release(),
            8 => self.ask(),
            _ => self.read(),
        }
    }

    fn chance(&mut self, of: u64) -> bool {
        self.random.below(of) == 0
    }

    fn range(&mut self, region: u8) -> DpaRange {
        let first = self.random.below(WINDOW);
        blocks(region, first, 1 + self.random.below(4.min(WINDOW - first)))
    }

    /// Ranges of one region that do not overlap.
    fn ranges(&mut self, region: u8) -> Vec<DpaRange> {
        let mut ranges: Vec<DpaRange> = Vec::new();
        for _ in 0..=self.random.below(3) {
            let range = self.range(region);
            if ranges.iter().all(|other| !other.overlaps(range)) {
                ranges.push(range);
            }
        }
        ranges
    }

    /// A list with one mistake.
    fn wrong(&mut self) -> Vec<DpaRange> {
        let region = self.random.below(2) as u8;
        let range = self.range(region);
        match self.random.below(4) {
            0 => vec![DpaRange::new(range.start + 4096, range.length)],
            1 => vec![DpaRange::new(range.start, range.length + 4096)],
            2 => vec![range, range],
            _ => vec![DpaRange::new(blocks(0, 0, 1).start - BLOCK, BLOCK)],
        }
    }

    fn held(&mut self) -> Result<Vec<DpaRange>, Error> {
        Ok(self.pair.extents_of_both()?.1)
    }

    /// Some of these, at least one, in any order.
    fn some(&mut self, of: &[DpaRange]) -> Vec<DpaRange> {
        let mut some = of.to_vec();
        self.random.shuffle(&mut some);
        some.truncate(1 + self.random.below(of.len() as u64) as usize);
        some
    }

    fn add(&mut self) -> Result<(), Error> {
        let region = self.random.below(2) as u8;
        let mut wish = Wish::of(region, &self.ranges(region));
        if self.chance(8) {
            let range = wish.ranges[0];
            let wrong = [
                DpaRange::new(range.start, 0),
                DpaRange::new(range.start + 4096, range.length),
                blocks(region, 511, 2),
                range,
            ];
            wish.ranges.push(wrong[self.random.below(4) as usize]);
        } else if self.chance(4) {
            // The model has 16 at a time.
            self.tags += 1;
            wish.tag = Tag([self.tags; 16]);
            if self.tags == 12 {
                self.end()?;
            }
        }
        println!("add {wish:?}");
        if self.pair.add(&wish)? == Some(Deviation::LogOverflows) {
            self.pair.drain()?;
            self.accept_all()?;
            refuse_alone(&mut self.pair)?;
        }
        Ok(())
    }

    fn offers(&self) -> Vec<Vec<DpaRange>> {
        let ranges = |offer: &[memtide_units::DcExtent]| offer.iter().map(|e| e.range).collect();
        self.pair.model.offers(HOST).map(ranges).collect()
    }

    fn accept_all(&mut self) -> Result<(), Error> {
        for offer in self.offers() {
            assert_eq!(self.pair.answer(&offer)?, None);
        }
        Ok(())
    }

    fn answer(&mut self) -> Result<(), Error> {
        let offers = self.offers();
        let region = self.random.below(2) as u8;
        let kind = self.random.below(10);
        let list = match (offers.as_slice(), kind) {
            ([], 5..) | (_, 9) => self.ranges(region),
            ([], _) | (_, 0) => self.wrong(),
            ([oldest, ..], 1) => vec![DpaRange::new(oldest[0].start, BLOCK)],
            ([_, .., last], 2) => last.clone(),
            ([oldest, ..], 3) if oldest.len() > 1 => {
                println!("chained answer {oldest:?}");
                let (first, second) = oldest.split_at(1);
                return chained_answer(&mut self.pair, first, second);
            }
            (_, 4) => Vec::new(),
            ([oldest, ..], 5..7) => oldest.clone(),
            ([oldest, ..], _) => self.some(oldest),
        };
        println!("answer {list:?} to {offers:?}");
        if self.pair.answer(&list)? == Some(Deviation::PartOfExtent) {
            end_part(&mut self.pair, &list)?;
        }
        Ok(())
    }

    fn release(&mut self) -> Result<(), Error> {
        let held = self.held()?;
        let region = self.random.below(2) as u8;
        let kind = self.random.below(8);
        let list = match (held.as_slice(), kind) {
            (_, 0) => self.wrong(),
            ([], _) | (_, 1..4) => self.ranges(region),
            (_, 4) => vec![blocks(region, 0, 0)],
            ([_, _, ..], 5) => {
                let list = self.some(&held);
                if let [first, second @ ..] = &list[..]
                    && !second.is_empty()
                {
                    println!("chained release {list:?}");
                    return chained_release(&mut self.pair, &[*first], second);
                }
                list
            }
            _ => self.some(&held),
        };
        println!("release {list:?} of {held:?}");
        self.pair.release(&list)?;
        Ok(())
    }

    /// Not of more than one extent at once, of which QEMU makes one record.
    fn ask(&mut self) -> Result<(), Error> {
        let held = self.held()?;
        let region = self.random.below(2) as u8;
        let overlaps = |range: &DpaRange| held.iter().filter(|held| held.overlaps(*range)).count();
        let mut list = self.ranges(region);
        list.retain(|range| overlaps(range) < 2);
        if list.is_empty() {
            return Ok(());
        }
        println!("ask for {list:?} of {held:?}");
        let row = self.pair.ask(&Wish::of(region, &list), Force::Ask, Sanitize::Never)?;
        if row == Some(Deviation::LogOverflows) {
            self.pair.drain()?;
        }
        Ok(())
    }

    fn read(&mut self) -> Result<(), Error> {
        match self.random.below(4) {
            0 => self.pair.drain(),
            1 => {
                let count = 1 + self.random.below(8) as usize;
                self.pair.clear_first(count)
            }
            2 => {
                let (count, start) = (self.random.below(6) as u32, self.random.below(12) as u32);
                self.pair.host(&GetExtentList { count, start }).map(|_| ())
            }
            _ => {
                let (count, start) = (self.random.below(4) as u8, self.random.below(4) as u8);
                self.pair.host(&GetConfiguration { count, start }).map(|_| ())
            }
        }
    }

    /// Everything is accepted and given back.
    fn end(&mut self) -> Result<(), Error> {
        self.accept_all()?;
        let held = self.held()?;
        if !held.is_empty() {
            assert_eq!(self.pair.release(&held)?, None);
        }
        self.pair.drain()?;
        self.tags = 0;
        assert_eq!(self.pair.bytes(Opcode::RELEASE_DC, &[0; 8])?, None);
        self.pair.same()
    }
}
