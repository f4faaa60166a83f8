//! What is kept of a pageblock, by its bitmaps alone.
//!
//! *Held* without *Tail* is the first frame of a block that is held by its number; the ones of
//! *Tail* without *Held* that follow continue it. Both together are a hole. Those and what is
//! *Retired* are kept; *Taken* is not looked at, except to count what is freed.

use crate::{
    bits::{WORD_ORDER, run},
    layout::{FRAMES, PAGEBLOCK_ORDER, WORDS},
};

/// A bit for each frame of a pageblock.
type Row = [u64; WORDS as usize];

/// The bitmaps of a pageblock.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Bits {
    pub(super) taken: Row,
    pub(super) tail: Row,
    pub(super) held: Row,
    pub(super) retired: Row,
}

/// What they should be, and what that adds up to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Verdict {
    pub(super) bits: Bits,
    /// Blocks that are held, and their frames.
    pub(super) blocks: u64,
    pub(super) frames: u64,
    /// Frames that are not there, out of service, and will be once they are given back.
    pub(super) holes: u64,
    pub(super) retired: u64,
    pub(super) retiring: u64,
    /// Frames that were taken and are not any more.
    pub(super) freed: u64,
}

/// What is kept of a pageblock. Judging the result again changes nothing, and neither does judging
/// a mixture of what was found and the result.
pub(super) fn judge(found: &Bits) -> Verdict {
    let heads = each(|n| found.held[n] & !found.tail[n]);
    let holes = each(|n| found.held[n] & found.tail[n]);
    let tails = each(|n| found.tail[n] & !found.held[n]);
    let mut verdict = Verdict::default();
    let mut kept = Row::default();
    for head in ones(&heads) {
        let order = order_of(&tails, head);
        mark(&mut kept, head, order);
        verdict.blocks += 1;
        verdict.frames += 1 << order;
    }
    let retired = each(|n| found.retired[n] | holes[n]);
    let taken = each(|n| kept[n] | retired[n]);
    let tail = each(|n| kept[n] & tails[n] | holes[n]);
    verdict.bits = Bits { taken, tail, held: found.held, retired };
    verdict.holes = count(|n| holes[n]);
    verdict.retired = count(|n| retired[n] & !kept[n] & !holes[n]);
    verdict.retiring = count(|n| retired[n] & kept[n]);
    verdict.freed = count(|n| found.taken[n] & !taken[n]);
    verdict
}

fn each(word: impl Fn(usize) -> u64) -> Row {
    core::array::from_fn(word)
}

fn count(word: impl Fn(usize) -> u64) -> u64 {
    (0..WORDS as usize).map(|n| u64::from(word(n).count_ones())).sum()
}

/// The places of the ones of a word.
pub(super) fn places(word: u64) -> impl Iterator<Item = u64> {
    let mut left = word;
    core::iter::from_fn(move || {
        let place = u64::from(left.trailing_zeros());
        left &= left.checked_sub(1)?;
        Some(place)
    })
}

/// The places of the ones of a row.
fn ones(row: &Row) -> impl Iterator<Item = u64> {
    row.iter().zip(0u64..).flat_map(|(&word, n)| places(word).map(move |place| n * 64 + place))
}

/// The largest order of which a block can start here, with these tails.
fn order_of(tails: &Row, head: u64) -> u8 {
    let mut end = head + 1;
    while end < FRAMES {
        let rest = 64 - end % 64;
        let more = u64::from((tails[(end / 64) as usize] >> (end % 64)).trailing_ones());
        end += more;
        if more < rest {
            break;
        }
    }
    let fits = (end - head).ilog2();
    fits.min(head.trailing_zeros()).min(u32::from(PAGEBLOCK_ORDER) - 1) as u8
}

/// Marks the frames of a block.
fn mark(row: &mut Row, head: u64, order: u8) {
    let word = (head / 64) as usize;
    if order <= WORD_ORDER {
        row[word] |= run((head % 64) as u32, order);
    } else {
        row[word..word + (1 << (order - WORD_ORDER))].fill(!0);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(frames: impl IntoIterator<Item = u64>) -> Row {
        let mut row = Row::default();
        frames.into_iter().for_each(|at| row[(at / 64) as usize] |= 1 << (at % 64));
        row
    }

    fn found(held: &[u64], tail: impl IntoIterator<Item = u64>, retired: &[u64]) -> Bits {
        let retired = row(retired.iter().copied());
        Bits { taken: [!0; 8], tail: row(tail), held: row(held.iter().copied()), retired }
    }

    #[test]
    fn blocks_of_every_order_are_kept() {
        for order in 0..9 {
            let head = if order == 8 { 256 } else { 3 << order };
            let verdict = judge(&found(&[head], head + 1..head + (1 << order), &[]));
            assert_eq!((verdict.blocks, verdict.frames), (1, 1 << order));
            assert_eq!(verdict.bits.taken, row(head..head + (1 << order)));
            assert_eq!(verdict.freed, 512 - (1 << order));
        }
    }

    #[test]
    fn what_is_nobodys_goes() {
        // Tails before a head was written, and after it was given back; neighbours.
        let verdict = judge(&found(&[4, 8], [1, 2, 3, 5, 9, 13, 14], &[]));
        assert_eq!((verdict.blocks, verdict.frames), (2, 4));
        assert_eq!(verdict.bits.taken, row([4, 5, 8, 9]));
        assert_eq!(verdict.bits.tail, row([5, 9]));
    }

    #[test]
    fn retired_frames_and_holes_stay() {
        // 2 is a hole after the single frame 1; 6 is noted in the block of 4 to 7; 9 is bad, and
        // 10 is bad, held, and to be given back.
        let verdict = judge(&found(&[1, 2, 4, 10], [2, 5, 6, 7], &[6, 9, 10]));
        assert_eq!((verdict.blocks, verdict.frames), (3, 6));
        assert_eq!((verdict.holes, verdict.retired, verdict.retiring), (1, 1, 2));
        assert_eq!(verdict.bits.retired, row([2, 6, 9, 10]));
        assert_eq!(verdict.bits.taken, row([1, 2, 4, 5, 6, 7, 9, 10]));
    }

    #[test]
    fn nonsense_is_cut_off() {
        let orders = [(&[2][..], 3..9, 1), (&[1], 2..9, 0), (&[0], 1..512, 8), (&[0], 1..7, 2)];
        for (held, tails, order) in orders {
            let verdict = judge(&found(held, tails, &[]));
            assert_eq!((verdict.blocks, verdict.frames), (1, 1 << order), "{held:?}");
        }
    }

    proptest! {
        #[test]
        fn judging_half_of_it_again_changes_nothing(
            rows in prop::array::uniform4(prop::array::uniform8(any::<u64>())),
            dense in any::<bool>(),
            done in prop::array::uniform4(any::<u8>()),
        ) {
            let [taken, tail, mut held, retired] = rows;
            if !dense {
                (0..8).for_each(|n| held[n] &= held[n] >> 3 & held[n] << 5);
            }
            let found = Bits { taken, tail, held, retired };
            let verdict = judge(&found);
            let mix = |at: usize, a: Row, b: Row| {
                each(|n| if done[at] >> n & 1 != 0 { b[n] } else { a[n] })
            };
            let bits = verdict.bits;
            let mixed = Bits {
                taken: mix(0, found.taken, bits.taken),
                tail: mix(1, found.tail, bits.tail),
                held: mix(2, found.held, bits.held),
                retired: mix(3, found.retired, bits.retired),
            };
            prop_assert_eq!(Verdict { freed: verdict.freed, ..judge(&mixed) }, verdict);
        }
    }
}
