//! The books against the words, the measurement against a known process, and what moves.

use alloc::vec::Vec;

use memtide_units::Random;

use super::{
    super::tests::World,
    books::{Books, Scores},
    outlook::{Outlook, class},
    surprise::Surprise,
    word::{Clock, OLD, Past, SCORE_MAX, Word},
};
use crate::tiering::Page;

#[test]
fn a_word_keeps_its_past_for_14_turns_and_3_coolings() {
    for turn in 0..40 {
        let clock = Clock { turn: turn + 20, coolings: turn };
        for score in [0, 1, 77, SCORE_MAX] {
            let word = Word::placed(clock, true).with_past(clock, Past { age: 0, score });
            for later in 0..=14 {
                let coolings = later.min(3);
                let then = Clock { turn: clock.turn + later, coolings: clock.coolings + coolings };
                let age = (later as u8).min(OLD);
                assert_eq!(word.past(then), Past { age, score: score >> coolings });
            }
        }
    }
}

#[test]
fn a_word_that_is_old_stays_old() {
    let clock = Clock::default();
    let word = Word::placed(clock, false);
    for turn in 0..100 {
        assert_eq!(word.past(Clock { turn, coolings: 0 }).age, OLD);
    }
}

/// The census is the words added up, through samples, moves, turns, coolings and the sweep.
#[test]
fn the_census_is_what_the_words_add_up_to() {
    for seed in 0..8 {
        let mut random = Random::new(seed);
        let pages = 100 + random.below(9000) as u32;
        let mut books = Books::new(pages);
        let mut halved = 0;
        (0..pages).for_each(|page| books.locate(page, page % 3 == 0));
        for _ in 0..300 {
            for _ in 0..random.below(2000) {
                let page = random.below(u64::from(pages / 8)) as Page;
                let near = books.word(page).is_near() ^ (random.below(50) == 0);
                books.sample(page, near);
            }
            halved += u32::from(books.end_turn(pages / 8) == Scores::Halved);
            let swept = (0..pages / 8 + 1).filter_map(|_| books.sweep()).count();
            assert_eq!(swept as u32, pages / 8 + 1, "all pages were placed");
            assert!(books.is_sound(), "seed {seed}");
        }
        assert!(halved > 0 || pages > 4000, "seed {seed}: scores were never halved");
    }
}

/// Pages that are sampled at a known rate, some often and some seldom: rates are found, and
/// outlooks put those that are sampled often first.
#[test]
fn rates_are_those_that_were_seen() {
    let mut outlook = Outlook::new();
    let (often, seldom) = (Past { age: 1, score: 30 }, Past { age: OLD, score: 2 });
    for _ in 0..50 {
        outlook.turn([(often, [500, 500]), (seldom, [0, 9000])].into_iter(), 50.0, 0.01);
        (0..400).for_each(|_| outlook.hit(class(often)));
        (0..90).for_each(|_| outlook.hit(class(seldom)));
    }
    let rates = [often, seldom].map(|past| outlook.rate(class(past)));
    assert!((rates[0] - 0.4).abs() < 0.03, "{rates:?}");
    assert!((rates[1] - 0.01).abs() < 0.002, "{rates:?}");
    assert!(outlook.of(class(often)) > 2.0 * outlook.of(class(seldom)));
    assert!(outlook.broken() < 0.01, "{}", outlook.broken());
    // None come any more.
    outlook.turn([(often, [500, 500])].into_iter(), 50.0, 0.01);
    outlook.turn([(often, [500, 500])].into_iter(), 50.0, 0.01);
    assert!(outlook.broken() > 0.9, "{}", outlook.broken());
}

#[test]
fn the_usual_is_no_surprise() {
    let mut surprise = Surprise::default();
    assert!(!surprise.take(0.09));
    assert!(surprise.take(0.5));
    surprise.fade(0.1);
    assert!(!surprise.take(0.5));
    for _ in 0..40 {
        surprise.fade(0.1);
    }
    assert!(surprise.take(0.5), "it is forgotten after seconds");
}

const PAGES: u32 = 30_000;
const NEAR: u32 = 10_000;

/// Nine of ten samples go to 3000 pages from the first on.
fn hot(first: u32) -> impl Fn(u64) -> Page {
    move |number| {
        let within = if number.is_multiple_of(10) { PAGES } else { 3000 };
        (first + (number >> 8) as u32 % within) % PAGES
    }
}

fn run(world: &mut World, ticks: u32, page_of: &dyn Fn(u64) -> Page) -> Vec<usize> {
    let each = |_| {
        world.access(8000, page_of);
        world.tick(2000, 100).len()
    };
    (0..ticks).map(each).collect()
}

#[test]
fn a_hot_set_is_promoted_and_then_nothing_moves() {
    let mut world = World::new("memtide", &[NEAR, PAGES], PAGES, 7);
    let moves = run(&mut world, 30, &hot(20_000));
    assert!(world.near(20_000..23_000) > 2970, "{} of 3000", world.near(20_000..23_000));
    assert!(moves.iter().sum::<usize>() < 9000, "{moves:?}");
    let late = run(&mut world, 30, &hot(20_000));
    assert!(late.iter().sum::<usize>() < 600, "{late:?}");
}

#[test]
fn a_hot_set_that_moves_is_followed_within_20_ticks() {
    let mut world = World::new("memtide", &[NEAR, PAGES], PAGES, 7);
    run(&mut world, 100, &hot(20_000));
    run(&mut world, 20, &hot(12_000));
    assert!(world.near(12_000..15_000) > 2850, "{} of 3000", world.near(12_000..15_000));
}

#[test]
fn when_all_pages_are_alike_nothing_moves() {
    let mut world = World::new("memtide", &[NEAR, PAGES], PAGES, 7);
    let moves = run(&mut world, 100, &|number| (number >> 8) as u32 % PAGES);
    assert!(moves.iter().sum::<usize>() < 100, "{moves:?}");
}

#[test]
fn a_saturated_fast_tier_is_relieved_of_good_pages() {
    let mut world = World::new("memtide", &[NEAR, PAGES], PAGES, 7);
    run(&mut world, 30, &hot(20_000));
    let before = world.near(20_000..23_000);
    world.tiers[0].loaded_ns = 400.0;
    // The first step goes half-way to where the balance was thought to be.
    for _ in 0..4 {
        world.access(8000, &hot(20_000));
        let moves = world.tick(2000, 100);
        assert!(moves.iter().all(|wanted| wanted.to == 1), "nothing is promoted");
    }
    let left = before - world.near(20_000..23_000);
    assert!(left > 1000, "{left} good pages left");
}
