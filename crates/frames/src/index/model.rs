//! The index under the model checker: every interleaving, and every value that a load may return.
//!
//! Three leaves, two guides above them and one above those. Whatever the threads do, a member that
//! one of them has inserted is found, and at the end the guides are exact.

use std::{sync::Arc, vec::Vec};

use ::loom::thread::{self, JoinHandle};

use super::*;
use crate::primitive::Ordering::{Acquire, Release};

const SHAPE: Shape = Shape::new(LEN);
const LEN: u64 = 3 * LEAF;

struct Set {
    words: Vec<AtomicU64>,
    /// What is said of each number by its owner.
    notes: Vec<AtomicU64>,
}

impl Set {
    fn of(members: &[u64]) -> Arc<Self> {
        let shape = Shape::new(LEN);
        assert_eq!((shape.levels(), shape.words()), (3, 3 + 2 + 1));
        let zeros = |count| (0..count).map(|_| AtomicU64::new(0)).collect();
        let set = Self { words: zeros(shape.words()), notes: zeros(2) };
        members.iter().for_each(|&at| assert!(set.index().insert(at)));
        Arc::new(set)
    }

    fn index(&self) -> Index<'_> {
        Index::new(&self.words, &SHAPE)
    }

    fn is(&self, members: &[u64]) {
        let index = self.index();
        index.validate();
        for &at in members {
            assert_eq!(index.first_from(at), Some(at));
            assert_eq!(index.last_to(at), Some(at));
        }
        assert_eq!(index.count(), members.len() as u64);
    }
}

fn spawn<T: 'static>(
    set: &Arc<Set>,
    run: impl FnOnce(&Index<'_>, &Set) -> T + 'static,
) -> JoinHandle<T> {
    let set = set.clone();
    thread::spawn(move || run(&set.index(), &set))
}

/// Inserts a number, and finds it or one that lies nearer, from everywhere.
fn insert_and_find(index: &Index<'_>, at: u64) {
    assert!(index.insert(at));
    assert!(index.first().is_some_and(|first| first <= at), "{at} missed from below");
    assert!(index.last().is_some_and(|last| last >= at), "{at} missed from above");
}

#[test]
fn a_leaf_is_emptied_while_another_fills_it() {
    loom::model(|| {
        let set = Set::of(&[3]);
        let remover = spawn(&set, |index, _| assert!(index.remove(3)));
        insert_and_find(&set.index(), 5);
        remover.join().unwrap();
        set.is(&[5]);
    });
}

#[test]
fn a_leaf_is_emptied_while_two_fill_it() {
    loom::model(|| {
        let set = Set::of(&[3]);
        let remover = spawn(&set, |index, _| assert!(index.remove(3)));
        let inserter = spawn(&set, |index, _| insert_and_find(index, 4));
        insert_and_find(&set.index(), 5);
        remover.join().unwrap();
        inserter.join().unwrap();
        set.is(&[4, 5]);
    });
}

#[test]
fn two_empty_a_leaf_one_after_the_other() {
    loom::model(|| {
        let set = Set::of(&[3]);
        let remover = spawn(&set, |index, _| assert!(index.remove(3)));
        let visitor = spawn(&set, |index, _| {
            insert_and_find(index, 4);
            assert!(index.remove(4));
        });
        insert_and_find(&set.index(), 5);
        remover.join().unwrap();
        visitor.join().unwrap();
        set.is(&[5]);
    });
}

#[test]
fn all_leave() {
    loom::model(|| {
        let set = Set::of(&[3]);
        let remover = spawn(&set, |index, _| assert!(index.remove(3)));
        let visitor = spawn(&set, |index, _| {
            insert_and_find(index, 4);
            assert!(index.remove(4));
        });
        insert_and_find(&set.index(), 5);
        assert!(set.index().remove(5));
        remover.join().unwrap();
        visitor.join().unwrap();
        set.is(&[]);
    });
}

#[test]
fn somebody_removes_what_is_just_being_inserted() {
    loom::model(|| {
        let set = Set::of(&[]);
        let remover = spawn(&set, |index, _| index.remove(3));
        let inserter = spawn(&set, |index, _| assert!(index.insert(3)));
        insert_and_find(&set.index(), 130);
        inserter.join().unwrap();
        set.is(if remover.join().unwrap() { &[130] } else { &[3, 130] });
    });
}

#[test]
fn leaves_of_one_guide_come_and_go() {
    loom::model(|| {
        let set = Set::of(&[3, 70]);
        let removers = [3, 70].map(|at| spawn(&set, move |index, _| assert!(index.remove(at))));
        insert_and_find(&set.index(), 71);
        removers.into_iter().for_each(|remover| remover.join().unwrap());
        set.is(&[71]);
    });
}

#[test]
fn a_guide_is_emptied_while_its_other_leaf_is_filled() {
    loom::model(|| {
        let set = Set::of(&[3]);
        let remover = spawn(&set, |index, _| assert!(index.remove(3)));
        let inserter = spawn(&set, |index, _| insert_and_find(index, 6));
        insert_and_find(&set.index(), 70);
        remover.join().unwrap();
        inserter.join().unwrap();
        set.is(&[6, 70]);
    });
}

#[test]
fn guides_of_one_guide_come_and_go() {
    loom::model(|| {
        let set = Set::of(&[3, 130]);
        let removers = [3, 130].map(|at| spawn(&set, move |index, _| assert!(index.remove(at))));
        insert_and_find(&set.index(), 131);
        removers.into_iter().for_each(|remover| remover.join().unwrap());
        set.is(&[131]);
    });
}

#[test]
fn what_stays_is_found_by_whoever_looks() {
    loom::model(|| {
        let set = Set::of(&[5, 70]);
        let visitor = spawn(&set, |index, _| {
            assert!(index.insert(3) && index.insert(69));
            assert!(index.remove(3) && index.remove(69));
        });
        let index = set.index();
        assert!(index.first().is_some_and(|first| [3, 5].contains(&first)));
        assert!(index.first_from(6).is_some_and(|first| [69, 70].contains(&first)));
        assert!(index.last_to(68).is_some_and(|last| last == 5));
        visitor.join().unwrap();
        set.is(&[5, 70]);
    });
}

/// A member outlives the leaf's other members, the last of which was inserted and removed around
/// it; a third party, told of it, finds it.
#[test]
fn a_third_party_finds_what_another_inserted() {
    loom::model(|| {
        let set = Set::of(&[3]);
        let remover = spawn(&set, |index, _| assert!(index.remove(3)));
        let inserter = spawn(&set, |index, set| {
            assert!(index.insert(4));
            set.notes[0].store(1, Release);
        });
        if set.notes[0].load(Acquire) == 1 {
            assert!(set.index().first().is_some_and(|first| first <= 4));
            assert_eq!(set.index().last(), Some(4));
        }
        remover.join().unwrap();
        inserter.join().unwrap();
        set.is(&[4]);
    });
}

#[test]
fn each_number_is_taken_once() {
    loom::model(|| {
        let set = Set::of(&[3, 4]);
        let takers = [
            spawn(&set, |index, _| index.take_first_from(0)),
            spawn(&set, |index, _| index.take_last_to(LEN - 1)),
        ];
        let mine = set.index().take_in_leaf(0);
        let [first, second] = takers.map(|taker| taker.join().unwrap());
        let mut taken: Vec<u64> = [mine, first, second].into_iter().flatten().collect();
        taken.sort_unstable();
        assert_eq!(taken, [3, 4]);
        set.is(&[]);
    });
}

/// There is always a member for each of two who take and give back.
#[test]
fn who_takes_finds_what_is_left() {
    loom::model(|| {
        let set = Set::of(&[3, 130]);
        let other = spawn(&set, |index, _| {
            let at = index.take_first_from(0).expect("one of two");
            assert!(index.insert(at));
        });
        let index = set.index();
        let at = index.take_last_to(LEN - 1).expect("one of two");
        assert!(index.insert(at));
        other.join().unwrap();
        set.is(&[3, 130]);
    });
}

#[test]
fn masks_are_taken_whole() {
    loom::model(|| {
        let set = Set::of(&[0, 1, 2]);
        let other = spawn(&set, |index, _| index.remove_mask(0, 0b110));
        let mine = set.index().remove_mask(0, 0b011);
        let other = other.join().unwrap();
        assert!(mine ^ other, "one of two");
        set.is(if mine { &[2] } else { &[0] });
        set.index().insert_mask(0, if mine { 0b011 } else { 0b110 });
        set.is(&[0, 1, 2]);
    });
}

#[test]
fn owning_a_number_shows_what_its_last_owner_wrote() {
    loom::model(|| {
        let set = Set::of(&[]);
        let other = spawn(&set, |index, set| {
            set.notes[0].store(7, Relaxed);
            index.insert(3);
        });
        if set.index().take_first_from(0).is_some() || set.index().remove(3) {
            assert_eq!(set.notes[0].load(Relaxed), 7);
            set.notes[0].store(8, Relaxed);
            set.index().insert(3);
        }
        other.join().unwrap();
        set.is(&[3]);
    });
}

/// Both write, then come here, then look at what the other wrote: one of them sees it. So may who
/// isolates a pageblock rely on being seen by who puts it back.
#[test]
fn a_remover_in_vain_is_seen_by_the_inserter() {
    loom::model(|| {
        let set = Set::of(&[]);
        let remover = spawn(&set, |index, set| {
            set.notes[0].store(1, Relaxed);
            index.remove(3)
        });
        set.index().insert(3);
        let seen = set.notes[0].load(Relaxed) == 1;
        assert!(remover.join().unwrap() || seen);
    });
}
