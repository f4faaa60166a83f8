//! Pageblocks on their way between full, listed, free and taken.

use super::*;

#[test]
fn two_free_the_last_two_blocks_of_a_full_pageblock() {
    check(3, || {
        let node = Node::new(1, 0);
        let frames = node.frames();
        let (a, b) = (take(&frames, 5), take(&frames, 5));
        assert_eq!(frames.entry(0).state(), State::Full);
        let other = spawn(&node, move |frames| a.give(frames));
        b.give(&frames);
        other.join().unwrap();
        assert_eq!(node.is_at_rest(0).entry(0).state(), State::Free);
    });
}

#[test]
fn three_free_a_full_pageblock() {
    check(2, || {
        let node = Node::new(1, 0);
        let frames = node.frames();
        let (a, b, c) = (take(&frames, 5), take(&frames, 4), take(&frames, 4));
        let first = spawn(&node, move |frames| a.give(frames));
        let second = spawn(&node, move |frames| b.give(frames));
        c.give(&frames);
        first.join().unwrap();
        second.join().unwrap();
        assert_eq!(node.is_at_rest(0).entry(0).state(), State::Free);
    });
}

#[test]
fn a_pageblock_is_filled_while_another_frees_in_it() {
    check(3, || {
        let node = Node::new(1, 0);
        let frames = node.frames();
        let a = take(&frames, 5);
        let other = spawn(&node, move |frames| a.give(frames));
        // Makes it full, unless the other was quicker.
        let b = frames.take(request(5)).ok().map(hand_over);
        other.join().unwrap();
        let (used, state) = b.map_or((0, State::Free), |_| (32, State::Listed));
        assert_eq!(node.is_at_rest(used).entry(0).state(), state);
        b.into_iter().for_each(|b| b.give(&frames));
        assert_eq!(node.is_at_rest(0).entry(0).state(), State::Free);
    });
}

#[test]
fn a_pageblock_is_listed_while_its_last_block_is_freed() {
    check(3, || {
        let node = Node::new(1, 0);
        let frames = node.frames();
        let a = take(&frames, 5);
        let other = spawn(&node, move |frames| a.give(frames));
        drop(frames.take(request(3)));
        other.join().unwrap();
        assert_eq!(node.is_at_rest(0).entry(0).state(), State::Free);
    });
}

#[test]
fn two_take_the_last_free_pageblock() {
    check(3, || {
        let node = Node::new(1, 0);
        let other =
            spawn(&node, |frames| frames.take(request(PAGEBLOCK_ORDER)).ok().map(hand_over));
        let frames = node.frames();
        let mine = frames.take(request(PAGEBLOCK_ORDER)).ok().map(hand_over);
        let theirs = other.join().unwrap();
        assert!(mine.is_some() != theirs.is_some());
        node.is_at_rest(FRAMES);
        mine.or(theirs).unwrap().give(&frames);
        node.is_at_rest(0);
    });
}

#[test]
fn two_take_blocks_of_one_pageblock() {
    check(2, || {
        let node = Node::new(2, 0);
        let other = spawn(&node, |frames| take(frames, 2));
        let frames = node.frames();
        let mine = take(&frames, 1);
        let theirs = other.join().unwrap();
        assert_ne!(mine.0, theirs.0);
        node.is_at_rest(6);
        mine.give(&frames);
        theirs.give(&frames);
        node.is_at_rest(0);
    });
}

#[test]
fn a_run_is_completed_by_two() {
    check(3, || {
        let node = Node::new(2, 0);
        let frames = node.frames();
        let (a, b) = (take(&frames, PAGEBLOCK_ORDER), take(&frames, PAGEBLOCK_ORDER));
        // Whoever looks for a run now takes the note of it away.
        assert!(frames.take(request(PAGEBLOCK_ORDER + 1)).is_err());
        let other = spawn(&node, move |frames| a.give(frames));
        b.give(&frames);
        other.join().unwrap();
        node.is_at_rest(0);
        let both = take(&frames, PAGEBLOCK_ORDER + 1);
        both.give(&frames);
    });
}

#[test]
fn a_run_is_completed_while_another_looks_for_it() {
    check(3, || {
        let node = Node::new(2, 0);
        let frames = node.frames();
        let a = take(&frames, PAGEBLOCK_ORDER);
        let other = spawn(&node, move |frames| a.give(frames));
        let found = frames.take(request(PAGEBLOCK_ORDER + 1)).ok().map(hand_over);
        other.join().unwrap();
        node.is_at_rest(found.map_or(0, |_| 2 * FRAMES));
        found.unwrap_or_else(|| take(&frames, PAGEBLOCK_ORDER + 1)).give(&frames);
        node.is_at_rest(0);
    });
}

#[test]
fn a_number_is_adopted_once() {
    for order in [0, 3, PAGEBLOCK_ORDER] {
        check(3, move || {
            let node = Node::new(1, 0);
            let frames = node.frames();
            let (pfn, order) = frames.take(request(order)).unwrap().into_number();
            let other = spawn(&node, move |frames| frames.adopt(pfn, order).ok().map(hand_over));
            let mine = frames.adopt(pfn, order).ok().map(hand_over);
            let theirs = other.join().unwrap();
            assert!(mine.is_some() != theirs.is_some());
            mine.or(theirs).unwrap().give(&frames);
            node.is_at_rest(0);
        });
    }
}

/// Three parties: one adopts and gives back a number that it holds, one takes another block there,
/// one adopts a number that is not its own.
#[test]
fn a_number_that_is_out_of_date_gets_no_block_of_another_order() {
    check(3, || {
        let node = Node::new(1, 0);
        let frames = node.frames();
        let (pfn, order) = frames.take(request(3)).unwrap().into_number();
        let stray = spawn(&node, move |frames| frames.adopt(pfn, order).ok().map(hand_over));
        let mine = frames.adopt(pfn, order).ok();
        let had = mine.is_some();
        drop(mine);
        let next = had.then(|| frames.take(request(0)).unwrap().into_number());
        let theirs = stray.join().unwrap();
        frames.validate();
        theirs.into_iter().for_each(|handed| handed.give(&frames));
        next.into_iter().for_each(|(pfn, order)| drop(frames.adopt(pfn, order).unwrap()));
        node.is_at_rest(0);
    });
}
