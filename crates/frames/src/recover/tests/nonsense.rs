//! Metadata that nobody wrote: damaged, or made up.

use super::*;
use crate::{Dedication, FrameRange, LayoutError, Request, Want, Watermarks};

/// Recovers whatever is in these words, twice, and uses it.
fn copes(image: &[u64]) -> Result<(), LayoutError> {
    let memory = Memory::of(image);
    let (frames, _) = Frames::recover(memory.words())?;
    frames.validate();
    let again = || assert!(Frames::recover(memory.words()).is_ok());
    assert!(
        !killed_before(0, again),
        "a node that was recovered is written to by another recovery"
    );
    let mut core = frames.core(0).unwrap();
    for (pfn, order) in frames.held().collect::<Vec<_>>() {
        core.give_number(pfn, order).unwrap();
    }
    drop(core);
    frames.validate();
    assert_eq!(frames.counts().used, 0);
    Ok(())
}

#[test]
fn headers_that_make_no_node_are_refused() {
    let image = new_node().image();
    let with = |at: usize, value: u64| {
        let mut image = image.clone();
        image[at] = value;
        copes(&image).unwrap_err()
    };
    assert!(matches!(with(header::MAGIC, 0), LayoutError::NoNode { .. }));
    assert!(matches!(with(header::FIRST, 1), LayoutError::First { .. }));
    assert!(matches!(with(header::FIRST, !511), LayoutError::Span { .. }));
    assert!(matches!(with(header::FRAMES, 1 << 20), LayoutError::Memory { .. }));
    assert!(matches!(with(header::FRAMES, !1023), LayoutError::Span { .. }));
    assert!(matches!(with(header::BLOCK_FRAMES, 0), LayoutError::BlockSize { .. }));
    assert!(matches!(with(header::CORES, 1 << 16), LayoutError::Cores { .. }));
    assert!(matches!(with(header::CORES, 65535), LayoutError::Memory { .. }));
    assert!(matches!(copes(&image[..header::ZONES]), Err(LayoutError::Memory { .. })));
}

#[test]
fn entries_that_cannot_be_are_nobodys() {
    let memory = new_node();
    let (frames, _) = Frames::recover(memory.words()).unwrap();
    let head = |order: u8| {
        Entry::new(State::Head, Zone::Normal, Movability::Movable).with_order(order).with_held(1)
    };
    // Leaves the node, is misaligned, is of no order, has no tails.
    for (pb, order) in [(8, 12), (1, 10), (0, 31), (0, 19), (0, 8), (2, 10), (0, 18)] {
        frames.set_entry(pb, head(order));
        let (frames, recovered) = Frames::recover(memory.words()).unwrap();
        assert_eq!((recovered.held_blocks, recovered.pageblocks), (0, 10), "{pb}, {order}");
        assert_eq!(recovered.freed_frames, FRAMES);
        frames.validate();
    }
    // Of a zone that does not exist: its block is absent.
    frames.set_entry(3, Entry(frames.entry(3).0 | 15 << 4));
    let (frames, recovered) = Frames::recover(memory.words()).unwrap();
    assert_eq!(recovered.pageblocks, 8);
    frames.validate();
}

#[test]
fn torn_watermarks_ascend() {
    let memory = new_node();
    let frames = Frames::attach(memory.words()).unwrap();
    frames.zone_word(0, header::WATERMARKS).store(40, Relaxed);
    let (frames, _) = Frames::recover(memory.words()).unwrap();
    assert_eq!(frames.watermarks(Zone::Normal), Watermarks { min: 40, low: 40, high: 40 });
}

/// What died with its owners dedicates no channel, what is held does; and of both uses in one
/// channel, which cannot be, the lowest pageblock's is right.
#[test]
fn channels_are_dedicated_to_what_is_held() {
    let channel = Zone::Exmem(crate::Channel::new(2).unwrap());
    let memory = new_node();
    let frames = Frames::attach(memory.words()).unwrap();
    frames.add(FrameRange::new(Pfn(5 * 1024), 1024), channel).unwrap();
    let unmovable = Request::new(Order::new(3).unwrap(), Movability::Unmovable);
    core::mem::forget(frames.take(unmovable.from(Want::Exmem)).unwrap());
    let (frames, _) = Frames::recover(memory.words()).unwrap();
    assert_eq!(frames.dedication(channel), Dedication::None);

    let (pfn, order) = frames.take(unmovable.from(Want::Exmem)).unwrap().into_number();
    let (frames, _) = Frames::recover(memory.words()).unwrap();
    frames.validate();
    assert_eq!(frames.dedication(channel), Dedication::Unmovable);
    let (last, movable) = (Pfn(6 * 1024 - 1), Movability::Movable);
    frames.take_at(last, Order::FRAME, movable).unwrap_err();

    let entry = frames.entry(11).into(State::Owned).with_movability(movable);
    frames.set_entry(11, entry);
    frames.word(Bitmap::Held, 12 * WORDS - 1).store(1 << 63, Relaxed);
    let (frames, recovered) = Frames::recover(memory.words()).unwrap();
    frames.validate();
    assert_eq!((recovered.held_blocks, frames.dedicated(channel.id())), (2, 2));
    assert_eq!(frames.dedication(channel), Dedication::Unmovable);
    drop(frames.adopt(last, Order::FRAME).unwrap());
    drop(frames.adopt(pfn, order).unwrap());
    assert_eq!(frames.dedication(channel), Dedication::None);
}

/// A node of several words of pageblocks, so that the indexes have guides.
#[test]
fn a_large_node_is_recovered() {
    let node = crate::Geometry {
        first: Pfn(1 << 18 | 512),
        frames: 3000 * FRAMES,
        block_frames: FRAMES,
        cores: 1,
    };
    let memory = Memory::of(&vec![0; crate::Layout::new(node).unwrap().words()]);
    let frames = Frames::new(node, memory.words()).unwrap();
    frames.add(frames.span(), Zone::PreferMovable).unwrap();
    let mut held = Vec::new();
    for at in 0..900u16 {
        let order = Order::new((at % 13) as u8).unwrap();
        let request = Request::new(order, Movability::ALL[usize::from(at % 3)]);
        held.push(frames.take(request).unwrap().into_number());
        core::mem::forget(frames.take(request).unwrap());
    }
    let (frames, recovered) = Frames::recover(memory.words()).unwrap();
    frames.validate();
    held.sort();
    assert_eq!(frames.held().collect::<Vec<_>>(), held);
    assert_eq!(recovered.freed_frames, recovered.held_frames);
    held.into_iter().for_each(|(pfn, order)| drop(frames.adopt(pfn, order).unwrap()));
    frames.validate();
    assert_eq!(frames.counts().free, node.frames);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Words of a node in use, some of which are overwritten.
    #[test]
    fn any_words_are_recovered(
        script in prop::collection::vec(op(), 1..20),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u64>()), 1..100),
        flip in any::<bool>(),
    ) {
        let (memory, _, _) = crash(&script, 300);
        let mut image = memory.image();
        let words = image.len() - header::ISOLATED;
        for (at, value) in damage {
            let word = &mut image[header::ISOLATED + at.index(words)];
            *word = if flip { *word ^ 1 << (value % 64) } else { value };
        }
        copes(&image).unwrap();
    }

    /// Entries and bitmaps of noise.
    #[test]
    fn noise_is_recovered(
        seed in prop::collection::vec(any::<u64>(), 64),
        mask in any::<u64>(),
        states in any::<bool>(),
    ) {
        let memory = new_node();
        let frames = Frames::attach(memory.words()).unwrap();
        let (entries, end) = (frames.layout.entries, frames.layout.isolated);
        let mut image = memory.image();
        for (n, word) in image[entries..end].iter_mut().enumerate() {
            let noise = seed[n % 64].rotate_left(n as u32 / 64 * 7) & mask;
            *word = if states { *word | noise } else { noise };
        }
        copes(&image).unwrap();
    }
}
