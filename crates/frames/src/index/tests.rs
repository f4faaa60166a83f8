use std::{collections::BTreeSet, thread, vec::Vec};

use proptest::{prelude::*, test_runner::TestCaseResult};

use super::*;
use crate::crash::killed_before;

const EMPTY: Shape = Shape::new(0);
const ONE_LEAF: Shape = Shape::new(64);

fn words(shape: Shape) -> Vec<AtomicU64> {
    (0..shape.words()).map(|_| AtomicU64::new(0)).collect()
}

#[test]
fn shapes() {
    let shape = |len| {
        let shape = Shape::new(len);
        (shape.levels(), shape.words())
    };
    assert_eq!(shape(0), (1, 1));
    assert_eq!(shape(1), (1, 1));
    assert_eq!(shape(64), (1, 1));
    assert_eq!(shape(65), (2, 2 + 1));
    assert_eq!(shape(2048), (2, 32 + 1));
    assert_eq!(shape(2049), (3, 33 + 2 + 1));
    assert_eq!(shape(1 << 26), (5, (1 << 20) + (1 << 15) + (1 << 10) + 32 + 1));
    assert_eq!(shape((1 << 26) + 1).0, 6);
    assert_eq!(shape(1 << 31).0, 6);
}

#[test]
fn an_empty_range_has_no_members() {
    let words = words(Shape::new(0));
    let index = Index::new(&words, &EMPTY);
    assert_eq!((index.first(), index.last()), (None, None));
    assert_eq!((index.take_first_from(0), index.take_last_to(9)), (None, None));
    index.validate();
}

#[test]
fn the_ends_of_words_are_found_from_both_sides() {
    let shape = Shape::new(70_000);
    let words = words(shape);
    let index = Index::new(&words, &shape);
    for at in [0, 63, 64, 2047, 2048, 65_535, 65_536, 69_999] {
        assert!(index.insert(at) && !index.insert(at));
        index.validate();
        assert_eq!((index.first(), index.last()), (Some(at), Some(at)));
        assert_eq!((index.first_from(at), index.last_to(at)), (Some(at), Some(at)));
        assert_eq!(index.first_from(at + 1), None);
        assert_eq!(at.checked_sub(1).and_then(|at| index.last_to(at)), None);
        assert!(index.remove(at) && !index.remove(at) && index.is_empty());
        index.validate();
    }
}

#[test]
fn doubt_is_worth_a_look_and_may_be_in_vain() {
    let shape = Shape::new(128 * 64);
    let words = words(shape);
    let index = Index::new(&words, &shape);
    index.insert(5);
    index.insert(6400);
    // As if somebody had stopped while looking again at leaves 0 and 1, of which 0 has a member.
    let (guide, full, doubt) = index.guide(1, 0);
    guide.store(doubt | doubt << 1, Relaxed);
    assert_eq!((index.first(), index.first_from(6)), (Some(5), Some(6400)));
    assert_eq!((index.last_to(6399), index.last_to(4)), (Some(5), None));
    assert_eq!(index.take_last_to(6399), Some(5));
    assert_eq!(index.first(), Some(6400));
    index.insert(7);
    assert_eq!(guide.load(Relaxed), full | doubt | doubt << 1);
    index.repair();
    index.validate();
    assert_eq!((index.first(), index.count()), (Some(7), 2));
}

#[test]
#[should_panic(expected = "guide 0 of level 1: 0x0, not 0x2")]
fn a_hidden_member_is_noticed() {
    let shape = Shape::new(100);
    let words = words(shape);
    words[1].store(1, Relaxed);
    Index::new(&words, &shape).validate();
}

#[test]
#[should_panic(expected = "members beyond 100")]
fn a_member_beyond_the_length_is_noticed() {
    let shape = Shape::new(100);
    let words = words(shape);
    words[1].store(1 << 36, Relaxed);
    Index::new(&words, &shape).validate();
}

#[test]
#[should_panic(expected = "inserted that were there")]
fn a_mask_is_not_inserted_twice() {
    let words = words(Shape::new(64));
    let index = Index::new(&words, &ONE_LEAF);
    index.insert_mask(0, 6);
    index.insert_mask(0, 4);
}

#[derive(Clone, Debug)]
enum Op {
    Insert(u64),
    Remove(u64),
    FirstFrom(u64),
    LastTo(u64),
    TakeFirstFrom(u64),
    TakeLastTo(u64),
    TakeInLeaf(u64),
    InsertMask(u64, u64),
    RemoveMask(u64, u64),
    Repair,
}

/// Places that are often the same, so that what is removed was there.
fn place(len: u64) -> impl Strategy<Value = u64> {
    prop_oneof![
        0..len,
        (0..len.min(70)),
        (len.saturating_sub(70)..len),
        (0..8u64).prop_map(move |n| n * len / 8)
    ]
}

fn op(len: u64) -> impl Strategy<Value = Op> {
    let mask =
        prop_oneof![any::<u64>(), Just(!0), (0..64u32).prop_map(|bit| 1 << bit), Just(0xff00)];
    let leaf_mask = (place(len), mask).boxed();
    prop_oneof![
        4 => place(len).prop_map(Op::Insert),
        3 => place(len).prop_map(Op::Remove),
        1 => place(len).prop_map(Op::FirstFrom),
        1 => place(len).prop_map(Op::LastTo),
        1 => place(len).prop_map(Op::TakeFirstFrom),
        1 => place(len).prop_map(Op::TakeLastTo),
        1 => place(len).prop_map(Op::TakeInLeaf),
        2 => leaf_mask.clone().prop_map(|(at, mask)| Op::InsertMask(at / 64, mask)),
        2 => leaf_mask.prop_map(|(at, mask)| Op::RemoveMask(at / 64, mask)),
        1 => Just(Op::Repair),
    ]
}

fn numbers(word: u64, mask: u64) -> impl Iterator<Item = u64> {
    (0..64).filter(move |bit| mask >> bit & 1 != 0).map(move |bit| word * 64 + bit)
}

fn apply(index: &Index<'_>, model: &mut BTreeSet<u64>, op: &Op, len: u64) -> TestCaseResult {
    match *op {
        Op::Insert(at) => prop_assert_eq!(index.insert(at), model.insert(at)),
        Op::Remove(at) => prop_assert_eq!(index.remove(at), model.remove(&at)),
        Op::FirstFrom(at) => {
            prop_assert_eq!(index.first_from(at), model.range(at..).next().copied());
            prop_assert_eq!(index.contains(at), model.contains(&at));
        }
        Op::LastTo(at) => {
            prop_assert_eq!(index.last_to(at), model.range(..=at).next_back().copied());
        }
        Op::TakeFirstFrom(at) => {
            let expected = model.range(at..).next().copied();
            prop_assert_eq!(index.take_first_from(at), expected);
            expected.map(|at| model.remove(&at));
        }
        Op::TakeLastTo(at) => {
            let expected = model.range(..=at).next_back().copied();
            prop_assert_eq!(index.take_last_to(at), expected);
            expected.map(|at| model.remove(&at));
        }
        Op::TakeInLeaf(at) => {
            let word = at / 64;
            let expected = model.range(word * 64..word * 64 + 64).next().copied();
            prop_assert_eq!(index.take_in_leaf(word), expected);
            expected.map(|at| model.remove(&at));
        }
        Op::InsertMask(word, mask) => {
            let inside = numbers(word, mask).filter(|&at| at < len);
            let new: Vec<u64> = inside.filter(|at| !model.contains(at)).collect();
            index.insert_mask(word, new.iter().fold(0, |mask, at| mask | 1 << (at % 64)));
            model.extend(new);
        }
        Op::RemoveMask(word, mask) => {
            let all = numbers(word, mask).all(|at| model.contains(&at));
            prop_assert_eq!(index.remove_mask(word, mask), all);
            if all {
                model.retain(|&at| at / 64 != word || mask >> (at % 64) & 1 == 0);
            }
            let leaf = numbers(word, index.leaf(word)).collect::<Vec<_>>();
            prop_assert!(leaf.iter().eq(model.range(word * 64..word * 64 + 64)));
        }
        Op::Repair => index.repair(),
    }
    Ok(())
}

fn agree(len: u64, ops: &[Op]) -> TestCaseResult {
    let shape = Shape::new(len);
    let words = words(shape);
    let index = Index::new(&words, &shape);
    let mut model = BTreeSet::new();
    for op in ops {
        apply(&index, &mut model, op, len)?;
        prop_assert_eq!(index.first(), model.first().copied());
        prop_assert_eq!(index.last(), model.last().copied());
        prop_assert_eq!(index.is_empty(), model.is_empty());
        if len < 5000 {
            index.validate();
        }
    }
    index.validate();
    prop_assert_eq!(index.count(), model.len() as u64);
    Ok(())
}

fn history() -> impl Strategy<Value = (u64, Vec<Op>)> {
    let lens: &[u64] =
        if cfg!(miri) { &[1, 64, 65, 2049] } else { &[1, 63, 64, 65, 4096, 4097, 300_000] };
    let len = prop::sample::select(lens);
    let ops_max = if cfg!(miri) { 20 } else { 200 };
    len.prop_flat_map(move |len| (Just(len), prop::collection::vec(op(len), 1..ops_max)))
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 8 } else { 512 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn it_is_a_set((len, ops) in history()) {
        agree(len, &ops)?;
    }
}

/// Threads take and give back the same few numbers. Each number has a word in which who has it
/// writes its name: nobody else's may stand there.
#[test]
fn each_number_is_had_by_one() {
    const THREADS: u64 = 4;
    let turns = if cfg!(miri) { 20 } else { 50_000 };
    let shape = Shape::new(5000);
    let words = words(shape);
    let index = Index::new(&words, &shape);
    let numbers = [0, 1, 63, 64, 700, 2047, 2048, 4999];
    numbers.iter().for_each(|&at| assert!(index.insert(at)));
    let owners: Vec<AtomicU64> = (0..5000).map(|_| AtomicU64::new(0)).collect();
    thread::scope(|scope| {
        for me in 1..=THREADS {
            let owners = &owners;
            scope.spawn(move || {
                for turn in 0..turns {
                    let at = match turn % 4 {
                        0 => index.take_first_from(0),
                        1 => index.take_last_to(4999),
                        2 => index.take_in_leaf(0).or_else(|| index.take_in_leaf(32)),
                        _ => index.first().filter(|&at| index.remove(at)),
                    };
                    let Some(at) = at else { continue };
                    assert!(numbers.contains(&at));
                    let owner = &owners[at as usize];
                    assert_eq!(owner.load(Relaxed), 0);
                    owner.store(me, Relaxed);
                    if turn % 64 == 0 {
                        thread::yield_now();
                    }
                    assert_eq!(owner.load(Relaxed), me);
                    owner.store(0, Relaxed);
                    assert!(index.insert(at));
                }
            });
        }
    });
    index.validate();
    assert_eq!(index.count(), numbers.len() as u64);
}

/// One number per thread comes and goes in leaves that have no other: each thread always finds its
/// own, while the guides above are turned on and off by all.
#[test]
fn nobody_misses_what_it_has_just_inserted() {
    let turns = if cfg!(miri) { 30 } else { 100_000 };
    let shape = Shape::new(70_000);
    let words = words(shape);
    let index = Index::new(&words, &shape);
    thread::scope(|scope| {
        for at in [3, 5, 64 * 31, 65_536] {
            scope.spawn(move || {
                for _ in 0..turns {
                    assert!(index.insert(at));
                    assert!(index.first().is_some_and(|first| first <= at));
                    assert!(index.last().is_some_and(|last| last >= at));
                    assert_eq!(index.first_from(at), Some(at));
                    assert_eq!(index.last_to(at), Some(at));
                    assert!(index.remove(at));
                }
            });
        }
    });
    assert!(index.is_empty());
    index.validate();
}

/// A party dies before each of its stores in turn. The others miss nothing of their own, and
/// repairing makes the guides exact.
#[test]
fn who_dies_hides_nothing_of_others() {
    let shape = Shape::new(70_000);
    let deeds: [fn(&Index<'_>) -> bool; 4] = [
        |index| index.remove(3),
        |index| index.take_last_to(69_999).is_some(),
        |index| index.insert(66_000),
        |index| index.insert(5) && index.remove(3) && index.remove(5),
    ];
    for deed in deeds {
        let mut stores = 0;
        loop {
            let words = words(shape);
            let index = Index::new(&words, &shape);
            index.insert(3);
            let killed = killed_before(stores, || assert!(deed(&index)));
            for at in [4, 2000, 68_000] {
                assert!(index.insert(at));
                assert_eq!((index.first_from(at), index.last_to(at)), (Some(at), Some(at)));
                assert!(index.remove(at) && index.insert(at));
            }
            assert_eq!((index.first_from(4), index.last_to(2000)), (Some(4), Some(2000)));
            if killed {
                index.repair();
            }
            index.validate();
            if !killed {
                break;
            }
            stores += 1;
        }
        assert!(stores > 1);
    }
}
