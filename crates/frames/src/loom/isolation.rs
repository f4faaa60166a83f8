//! Pageblocks that are isolated, and frames that are retired, while others use them.

use super::*;

/// Isolated, in no index, and nothing to be had of it.
fn is_isolated(node: &Node) {
    let frames = node.is_at_rest(0);
    assert_eq!(frames.entry(0).state(), State::Isolated);
    assert!(frames.is_isolated(0));
    assert!(frames.take(request(0)).is_err());
    assert!(frames.take(request(PAGEBLOCK_ORDER)).is_err());
}

fn is_in_circulation(node: &Node) {
    let frames = node.is_at_rest(0);
    assert_eq!(frames.entry(0).state(), State::Free);
    drop(frames.take(request(PAGEBLOCK_ORDER)).unwrap());
}

fn first(frames: &Frames<'_>) -> FrameRange {
    FrameRange::new(frames.span().start, FRAMES)
}

#[test]
fn a_pageblock_is_given_back_while_another_isolates_it() {
    for order in [PAGEBLOCK_ORDER, 5] {
        check(3, move || {
            let node = Node::new(1, 0);
            let frames = node.frames();
            let a = take(&frames, order);
            let other = spawn(&node, |frames| frames.isolate(first(frames)).unwrap());
            a.give(&frames);
            other.join().unwrap();
            is_isolated(&node);
        });
    }
}

#[test]
fn a_full_pageblock_is_isolated_while_a_block_of_it_is_freed() {
    check(3, || {
        let node = Node::new(1, 0);
        let frames = node.frames();
        let (a, b) = (take(&frames, 5), take(&frames, 5));
        let other = spawn(&node, |frames| frames.isolate(first(frames)).unwrap());
        a.give(&frames);
        other.join().unwrap();
        b.give(&frames);
        is_isolated(&node);
    });
}

#[test]
fn a_pageblock_is_isolated_while_another_takes_of_it() {
    for order in [5, PAGEBLOCK_ORDER] {
        check(3, move || {
            let node = Node::new(1, 0);
            let frames = node.frames();
            let other = spawn(&node, |frames| frames.isolate(first(frames)).unwrap());
            let taken = frames.take(request(order)).ok().map(hand_over);
            other.join().unwrap();
            taken.into_iter().for_each(|handed| handed.give(&frames));
            is_isolated(&node);
        });
    }
}

#[test]
fn an_isolation_ends_while_the_pageblock_is_given_back() {
    for order in [PAGEBLOCK_ORDER, 5] {
        check(3, move || {
            let node = Node::new(1, 0);
            let frames = node.frames();
            let a = take(&frames, order);
            frames.isolate(first(&frames)).unwrap();
            let other = spawn(&node, |frames| frames.unisolate(first(frames)).unwrap());
            a.give(&frames);
            other.join().unwrap();
            is_in_circulation(&node);
        });
    }
}

/// Whichever comes first, an isolation that has ended leaves nothing set aside.
#[test]
fn an_isolation_ends_before_it_has_begun_everywhere() {
    check(3, || {
        let node = Node::new(1, 0);
        let frames = node.frames();
        let (a, b) = (take(&frames, 5), take(&frames, 5));
        let other = spawn(&node, |frames| frames.isolate(first(frames)).unwrap());
        let ended = frames.unisolate(first(&frames)).is_ok();
        other.join().unwrap();
        if !ended {
            frames.unisolate(first(&frames)).unwrap();
        }
        a.give(&frames);
        b.give(&frames);
        is_in_circulation(&node);
    });
}

#[test]
fn two_end_one_isolation() {
    check(3, || {
        let node = Node::new(2, 0);
        let frames = node.frames();
        frames.isolate(first(&frames)).unwrap();
        let other = spawn(&node, |frames| frames.unisolate(first(frames)).is_ok());
        let mine = frames.unisolate(first(&frames)).is_ok();
        assert!(other.join().unwrap() | mine);
        is_in_circulation(&node);
    });
}

#[test]
fn an_isolation_ends_while_the_block_is_removed() {
    check(2, || {
        let node = Node::new(1, 0);
        let frames = node.frames();
        frames.isolate(first(&frames)).unwrap();
        let other = spawn(&node, |frames| frames.remove(first(frames)).is_ok());
        let ended = frames.unisolate(first(&frames)).is_ok();
        let removed = other.join().unwrap();
        let frames = node.is_at_rest(0);
        assert!(ended | removed);
        let state = if removed { State::Absent } else { State::Free };
        assert_eq!((frames.entry(0).state(), frames.is_isolated(0)), (state, false));
    });
}

/// The frame is out of service in the end, whoever saw whom.
#[test]
fn a_frame_is_retired_while_it_is_given_back() {
    for order in [0, 3, PAGEBLOCK_ORDER] {
        check(3, move || {
            let node = Node::new(1, 0);
            let frames = node.frames();
            let a = take(&frames, order);
            let other = spawn(&node, |frames| frames.retire(Pfn(0)).unwrap());
            a.give(&frames);
            other.join().unwrap();
            let frames = node.is_at_rest(0);
            assert_eq!((frames.retired(), frames.retiring()), (1, 0));
            assert_eq!(frames.counts().free, FRAMES - 1);
        });
    }
}

#[test]
fn two_retire_one_frame() {
    check(3, || {
        let node = Node::new(1, 0);
        let other = spawn(&node, |frames| frames.retire(Pfn(0)).unwrap());
        node.frames().retire(Pfn(0)).unwrap();
        other.join().unwrap();
        let frames = node.is_at_rest(0);
        assert_eq!((frames.retired(), frames.retiring()), (1, 0));
    });
}

/// A frame is named while the pageblock is on its way.
#[test]
fn a_frame_is_named_while_the_rest_is_given_back() {
    check(2, || {
        let node = Node::new(1, 0);
        let frames = node.frames();
        let a = take(&frames, 5);
        let other = spawn(&node, move |frames| a.give(frames));
        let named = frames.take_at(Pfn(40), Order::FRAME, Movability::Movable);
        let named = named.ok().map(hand_over);
        other.join().unwrap();
        node.is_at_rest(named.map_or(0, |_| 1));
        named.into_iter().for_each(|named| named.give(&frames));
        assert_eq!(node.is_at_rest(0).entry(0).state(), State::Free);
    });
}

#[test]
fn a_hole_is_made_while_its_neighbour_is_adopted() {
    check(2, || {
        let node = Node::new(1, 0);
        let frames = node.frames();
        let (pfn, order) = frames.take(request(1)).unwrap().into_number();
        let other = spawn(&node, |frames| frames.exclude(FrameRange::new(Pfn(2), 3)).is_ok());
        drop(frames.adopt(pfn, order).unwrap());
        let holes = if other.join().unwrap() { 3 } else { 0 };
        let frames = node.is_at_rest(0);
        assert_eq!(frames.counts().free, FRAMES - holes);
    });
}

#[test]
fn what_is_reserved_is_isolated() {
    check(2, || {
        let node = Node::new(2, 0);
        let other = spawn(&node, |frames| frames.isolate(first(frames)).unwrap());
        let frames = node.frames();
        let room = frames.reserve(request(PAGEBLOCK_ORDER), 1).ok();
        other.join().unwrap();
        drop(room);
        let frames = node.is_at_rest(0);
        let states = (frames.entry(0).state(), frames.entry(1).state());
        assert_eq!(states, (State::Isolated, State::Free));
    });
}
