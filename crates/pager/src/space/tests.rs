//! The space against a model of one entry per page.

use memtide_sys::{AddrRange, Prot};
use proptest::prelude::*;

use super::*;

const BASE: usize = 7 * BLOCK;
const BLOCKS: usize = 3;
const PAGES: usize = BLOCKS * BLOCK / PAGE;

fn pages(first: usize, count: usize) -> AddrRange {
    AddrRange::new(BASE + first * PAGE, count * PAGE)
}

fn space() -> Space {
    Space::new(BASE, BLOCKS * BLOCK)
}

fn charged(range: AddrRange) -> Run {
    Run::private(range, Prot::READ_WRITE, Charge::Charged)
}

#[test]
fn successive_mappings_lie_side_by_side_and_are_one_run() {
    let mut space = space();
    for i in 0..10 {
        let at = space.find(3 * PAGE, PAGE).unwrap();
        assert_eq!(at, BASE + 3 * i * PAGE);
        space.carve(charged(AddrRange::new(at, 3 * PAGE)));
        space.validate();
    }
    assert_eq!(space.iter().count(), 1);
}

#[test]
fn freed_pages_are_found_again_before_fresh_ones() {
    let mut space = space();
    space.carve(charged(pages(0, 100)));
    space.free(pages(10, 5));
    space.free(pages(50, 8));
    space.validate();
    assert_eq!(space.find(5 * PAGE, PAGE), Some(BASE + 10 * PAGE));
    assert_eq!(space.find(6 * PAGE, PAGE), Some(BASE + 50 * PAGE));
    assert_eq!(space.find(9 * PAGE, PAGE), Some(BASE + 100 * PAGE));
    assert_eq!(space.find(PAGES * PAGE, PAGE), None);
    assert_eq!(space.find(usize::MAX - PAGE + 1, BLOCK), None);
}

#[test]
fn aligned_places_are_aligned_even_among_many_gaps_that_do_not_fit() {
    let mut space = space();
    space.carve(charged(pages(0, 200)));
    for i in 0..40 {
        space.free(pages(5 * i + 1, 1));
    }
    let at = space.find(PAGE, BLOCK).unwrap();
    assert_eq!(at, BASE + BLOCK);
}

#[test]
fn a_block_shared_by_two_mappings_is_promised_once() {
    let mut space = space();
    space.carve(charged(pages(0, 100)));
    space.carve(Run::private(pages(100, 100), Prot::NONE, Charge::Uncharged));
    space.carve(charged(pages(200, 400)));
    assert_eq!(space.charged_blocks(pages(0, 1)), 1);
    assert_eq!(space.charged_blocks(pages(0, PAGES)), 2);
    assert_eq!(space.block_count(pages(511, 2)), 2);
    assert_eq!(space.charged_pages(BlockIndex(0)), 412);
    assert_eq!(space.pages_carved(BlockIndex(0)), 512);
    space.free(pages(200, 400));
    assert_eq!(space.charged_blocks(pages(0, PAGES)), 1);
}

/// As a block is lost: whatever the program has in it.
fn lose(space: &mut Space, block: BlockIndex) {
    space.change(space.block_range(block), |run| run.kind = Kind::Lost);
    space.validate();
}

#[test]
fn what_is_lost_is_so_page_by_page_and_gaps_between_are_not() {
    let mut space = space();
    space.carve(charged(pages(10, 90)));
    space.carve(Run::private(pages(200, 400), Prot::NONE, Charge::Uncharged));
    lose(&mut space, BlockIndex(0));
    let lost: Vec<_> = space.iter().filter(|run| run.kind == Kind::Lost).collect();
    assert_eq!(
        lost.iter().map(|run| run.range).collect::<Vec<_>>(),
        [pages(10, 90), pages(200, 312)]
    );
    // Protection and promise are as they were.
    assert_eq!((lost[0].prot, lost[0].charge), (Prot::READ_WRITE, Charge::Charged));
    assert_eq!((lost[1].prot, lost[1].charge), (Prot::NONE, Charge::Uncharged));
    assert_eq!((space.charged_pages(BlockIndex(0)), space.pages_carved(BlockIndex(0))), (90, 402));
    // It stays where it is, and what the other block has may move.
    assert!(lost.iter().all(Run::is_foreign) && space.has_foreign(BlockIndex(0)));
    assert!(!space.has_foreign(BlockIndex(1)));
    // What is mapped in a gap is no part of what is lost, side by side as they are.
    assert!(
        space.is_free(pages(100, 100)) && space.find(100 * PAGE, PAGE) == Some(BASE + 100 * PAGE)
    );
    space.carve(charged(pages(100, 100)));
    space.validate();
    assert_eq!(space.run_at(BASE + 100 * PAGE).unwrap(), charged(pages(100, 100)));
}

#[test]
fn what_is_lost_ends_where_its_content_is_given_up() {
    let mut space = space();
    space.carve(charged(pages(0, 600)));
    lose(&mut space, BlockIndex(0));
    let kinds = |space: &Space| space.iter().map(|run| (run.range, run.kind)).collect::<Vec<_>>();
    let (lost, private) = (Kind::Lost, Kind::Private);
    assert_eq!(kinds(&space), [(pages(0, 512), lost), (pages(512, 88), private)]);
    // As advice does it, in the middle.
    space.change(pages(100, 12), |run| run.kind = Kind::Private);
    space.free(pages(0, 50));
    space.validate();
    let rest = [
        (pages(50, 50), lost),
        (pages(100, 12), private),
        (pages(112, 400), lost),
        (pages(512, 88), private),
    ];
    assert_eq!(kinds(&space), rest);
    space.change(pages(50, 462), |run| run.kind = Kind::Private);
    space.validate();
    assert_eq!(kinds(&space), [(pages(50, 550), private)]);
    assert!(!space.has_foreign(BlockIndex(0)));
}

#[test]
#[should_panic(expected = "is not free")]
fn a_page_is_carved_once() {
    let mut space = space();
    space.carve(charged(pages(0, 2)));
    space.carve(charged(pages(1, 2)));
}

#[derive(Clone, Debug)]
enum Op {
    Map { pages: usize, align: usize, prot: u32, charge: u8 },
    Free { first: usize, pages: usize },
    Protect { first: usize, pages: usize, prot: u32 },
    Lock { first: usize, pages: usize },
    Foreign { first: usize, pages: usize },
    Lose { block: usize },
    Renew { first: usize, pages: usize },
}

fn op() -> impl Strategy<Value = Op> {
    let small = prop_oneof![1..20usize, 1..PAGES];
    let first = 0..PAGES;
    prop_oneof![
        (small.clone(), prop_oneof![Just(1usize), Just(4), Just(512)], 0..4u32, 0..3u8)
            .prop_map(|(pages, align, prot, charge)| Op::Map { pages, align, prot, charge }),
        (first.clone(), small.clone()).prop_map(|(first, pages)| Op::Free { first, pages }),
        (first.clone(), small.clone(), 0..4u32).prop_map(|(first, pages, prot)| Op::Protect {
            first,
            pages,
            prot
        }),
        (first.clone(), small.clone()).prop_map(|(first, pages)| Op::Lock { first, pages }),
        (first.clone(), small.clone()).prop_map(|(first, pages)| Op::Foreign { first, pages }),
        (0..BLOCKS).prop_map(|block| Op::Lose { block }),
        (first, small).prop_map(|(first, pages)| Op::Renew { first, pages }),
    ]
}

/// One entry per page: its attributes, as a run of that page alone.
struct Model(Vec<Option<Run>>);

impl Model {
    fn clip(first: usize, count: usize) -> AddrRange {
        pages(first, count.min(PAGES - first))
    }

    fn each(&mut self, range: AddrRange, mut change: impl FnMut(AddrRange, &mut Option<Run>)) {
        for at in (range.start..range.end()).step_by(PAGE) {
            change(AddrRange::new(at, PAGE), &mut self.0[(at - BASE) / PAGE]);
        }
    }

    fn apply(&mut self, space: &mut Space, op: &Op) {
        match *op {
            Op::Map { pages, align, prot, charge } => {
                let Some(at) = space.find(pages * PAGE, align * PAGE) else {
                    self.assert_full(pages, align);
                    return;
                };
                assert!(at.is_multiple_of(align * PAGE));
                let range = AddrRange::new(at, pages * PAGE);
                let charge = [Charge::Charged, Charge::Uncharged, Charge::Exempt][charge as usize];
                let run = Run::private(range, Prot::from_bits(prot).unwrap(), charge);
                space.carve(run);
                self.each(range, |range, page| {
                    assert_eq!(*page, None);
                    *page = Some(Run { range, ..run });
                });
            }
            Op::Free { first, pages } => {
                let range = Self::clip(first, pages);
                space.free(range);
                self.each(range, |_, page| *page = None);
            }
            Op::Protect { first, pages, prot } => {
                let prot = Prot::from_bits(prot).unwrap();
                self.change(space, Self::clip(first, pages), |run| run.prot = prot);
            }
            Op::Lock { first, pages } => {
                self.change(space, Self::clip(first, pages), |run| run.lock = Lock::Locked);
            }
            Op::Foreign { first, pages } => {
                let range = Self::clip(first, pages);
                space.free(range);
                space.carve(Run::foreign(range, Prot::READ));
                self.each(range, |range, page| *page = Some(Run::foreign(range, Prot::READ)));
            }
            Op::Lose { block } => {
                let range = space.block_range(BlockIndex(block));
                self.change(space, range, |run| run.kind = Kind::Lost);
            }
            Op::Renew { first, pages } => {
                self.change(space, Self::clip(first, pages), |run| {
                    if run.kind == Kind::Lost {
                        run.kind = Kind::Private;
                    }
                });
            }
        }
    }

    fn change(&mut self, space: &mut Space, range: AddrRange, change: impl Fn(&mut Run)) {
        space.change(range, &change);
        self.each(range, |_, page| page.iter_mut().for_each(&change));
    }

    /// Best fit may pass over gaps that fit only after alignment, but never over page alignment.
    fn assert_full(&self, pages: usize, align: usize) {
        let needed = pages + align - 1;
        let mut free = 0;
        for page in &self.0 {
            free = if page.is_none() { free + 1 } else { 0 };
            assert!(free < needed, "{pages} pages were free");
        }
    }

    fn agrees(&self, space: &Space) {
        let mut seen = vec![None; PAGES];
        for run in space.iter() {
            for at in (run.range.start..run.range.end()).step_by(PAGE) {
                let range = AddrRange::new(at, PAGE);
                seen[(at - BASE) / PAGE] = Some(Run { range, ..run });
                assert_eq!(space.run_at(at + 7), Some(run));
            }
        }
        assert_eq!(seen, self.0);
        for block in 0..BLOCKS {
            let mine = &self.0[block * 512..][..512];
            let count = |test: fn(&Run) -> bool| mine.iter().flatten().filter(|r| test(r)).count();
            let index = BlockIndex(block);
            assert_eq!(space.pages_carved(index), count(|_| true));
            assert_eq!(space.charged_pages(index), count(Run::is_charged));
            assert_eq!(space.is_locked(index), count(Run::is_locked) > 0);
            assert_eq!(space.has_foreign(index), count(|run| run.kind != Kind::Private) > 0);
        }
    }

    fn check_range(&self, space: &Space, first: usize, count: usize) {
        let range = Self::clip(first, count);
        let mine = &self.0[first..first + range.len / PAGE];
        assert_eq!(space.is_free(range), mine.iter().all(Option::is_none));
        assert_eq!(space.is_carved(range), mine.iter().all(Option::is_some));
        let blocks: Vec<_> = space.blocks_of(range).collect();
        assert_eq!(space.block_count(range), blocks.len());
        let promised = blocks.iter().filter(|block| space.charged_pages(**block) > 0).count();
        assert_eq!(space.charged_blocks(range), promised);
        let would_be = blocks.iter().filter(|block| {
            let uncharged = |run: Run| run.charge == Charge::Uncharged;
            space.charged_pages(**block) == 0
                && space.runs_within(space.block_range(**block).intersection(range)).any(uncharged)
        });
        assert_eq!(space.blocks_to_charge(range), would_be.count());
    }
}

proptest! {
    #[test]
    fn a_space_is_what_its_pages_are(
        ops in prop::collection::vec(op(), 1..40),
        first in 0..PAGES,
        count in 1..PAGES,
    ) {
        let mut space = space();
        let mut model = Model(vec![None; PAGES]);
        for op in &ops {
            model.apply(&mut space, op);
            space.validate();
        }
        model.agrees(&space);
        model.check_range(&space, first, count);
    }
}
