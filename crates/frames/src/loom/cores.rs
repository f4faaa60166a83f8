//! Cores: their pageblocks are taken away, their last frames fetched by others.

use super::*;

/// A core whose cache is one frame, so that every take looks at its pageblock.
fn core<'f>(frames: &'f Frames<'f>, number: u16) -> Core<'f> {
    frames.core_with_cache(number, 1).unwrap()
}

#[test]
fn a_core_fills_its_pageblock_while_another_frees_in_it() {
    check(2, || {
        let node = Node::new(1, 1);
        let frames = node.frames();
        let mut mine = core(&frames, 0);
        let mut blocks = Vec::new();
        for order in [5, 4, 3, 2, 1, 0, 0] {
            blocks.push(hand_over(mine.take(request(order)).unwrap()));
        }
        // Now the pageblock is the core's, and all of it taken.
        let a = blocks.pop().unwrap();
        let other = spawn(&node, move |frames| a.give(frames));
        let got = mine.take(request(0)).ok().map(hand_over);
        other.join().unwrap();
        assert!(blocks.iter().all(|block| got.is_none_or(|got| got.0 != block.0)));
        blocks.extend(got);
        drop(mine);
        blocks.into_iter().for_each(|block| block.give(&frames));
        assert_eq!(node.is_at_rest(0).entry(0).state(), State::Free);
    });
}

#[test]
fn two_cores_take_the_last_free_pageblock() {
    check(2, || {
        let node = Node::new(1, 2);
        let other = spawn(&node, |frames| {
            core(frames, 1).take(request(PAGEBLOCK_ORDER)).ok().map(hand_over)
        });
        let frames = node.frames();
        let mine = core(&frames, 0).take(request(PAGEBLOCK_ORDER)).ok().map(hand_over);
        let theirs = other.join().unwrap();
        assert!(mine.is_some() != theirs.is_some());
        mine.or(theirs).unwrap().give(&frames);
        node.is_at_rest(0);
    });
}

#[test]
fn a_pageblock_is_taken_away_while_its_core_refills() {
    check(2, || {
        let node = Node::new(1, 1);
        let frames = node.frames();
        let mut mine = core(&frames, 0);
        let first = mine.take(request(0)).unwrap();
        let other = spawn(&node, |frames| frames.drain_pageblocks(None));
        let second = mine.take(request(0)).unwrap();
        assert_ne!(first.pfn(), second.pfn());
        other.join().unwrap();
        drop(mine);
        drop((first, second));
        assert_eq!(node.is_at_rest(0).entry(0).state(), State::Free);
    });
}

/// The last free pageblock is a core's; another that needs a frame gets one of it.
#[test]
fn a_frame_is_fetched_from_another_core() {
    check(2, || {
        let node = Node::new(1, 1);
        let frames = node.frames();
        let mut mine = core(&frames, 0);
        let first = mine.take(request(0)).unwrap();
        let other = spawn(&node, |frames| frames.take(request(0)).ok().map(hand_over));
        let second = mine.take(request(0)).ok();
        let theirs = other.join().unwrap();
        assert!(second.is_some() | theirs.is_some());
        if let Some(theirs) = theirs {
            assert_ne!(theirs.0, first.index());
            assert_ne!(Some(theirs.0), second.as_ref().map(Frame::index));
            theirs.give(&frames);
        }
        drop((first, second, mine));
        node.is_at_rest(0);
    });
}

#[test]
fn a_cores_pageblock_is_isolated_while_it_refills() {
    check(2, || {
        let node = Node::new(1, 1);
        let frames = node.frames();
        let mut mine = core(&frames, 0);
        let first = mine.take(request(0)).unwrap();
        let other = spawn(&node, |frames| frames.isolate(frames.span()).unwrap());
        let second = mine.take(request(0)).ok();
        other.join().unwrap();
        assert!(mine.take(request(0)).is_err(), "handed out of an isolated pageblock");
        drop((first, second, mine));
        assert_eq!(node.is_at_rest(0).entry(0).state(), State::Isolated);
    });
}

/// The record changes hands, and what is cached with it.
#[test]
fn a_core_changes_hands() {
    check(2, || {
        let node = Node::new(1, 1);
        let frames = node.frames();
        let mut mine = frames.core(0).unwrap();
        let first = hand_over(mine.take(request(0)).unwrap());
        leave(mine);
        let other = spawn(&node, move |frames| {
            if let Ok(mut core) = frames.core(0) {
                core.give(first.receive(frames)).unwrap();
                true
            } else {
                false
            }
        });
        let mine = frames.core(0).ok().map(|mut core| core.take(request(0)).map(drop).unwrap());
        let theirs = other.join().unwrap();
        assert!(mine.is_some() | theirs);
        if !theirs {
            first.give(&frames);
        }
        node.is_at_rest(0);
    });
}

/// Cached, on its way out, or on its way back: in the end it is out of service.
#[test]
fn a_frame_is_retired_while_a_core_has_it() {
    for at in [0, 1] {
        check(2, move || {
            let node = Node::new(1, 1);
            let frames = node.frames();
            let mut mine = frames.core(0).unwrap();
            let first = mine.take(request(0)).unwrap();
            assert_eq!(first.pfn(), Pfn(0));
            let other = spawn(&node, move |frames| frames.retire(Pfn(at)).unwrap());
            let second = mine.take(request(0)).unwrap();
            mine.give(first).unwrap();
            other.join().unwrap();
            mine.give(second).unwrap();
            drop(mine);
            let frames = node.is_at_rest(0);
            assert_eq!((frames.retired(), frames.retiring()), (1, 0));
        });
    }
}
