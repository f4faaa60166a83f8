//! Finding and naming blocks of frames in words of 64.
//!
//! A block of order `k` lies at a multiple of 2^k, so up to order 6 it is a field of one word, and
//! above that a run of whole words.

/// Frames in a word of a bitmap.
pub(crate) const WORD_FRAMES: u64 = 64;
/// Order of a word of a bitmap.
pub(crate) const WORD_ORDER: u8 = 6;

/// The multiples of 2^k below 64, for k = 0 to 6.
const ALIGNED: [u64; 7] = [
    !0,
    0x5555_5555_5555_5555,
    0x1111_1111_1111_1111,
    0x0101_0101_0101_0101,
    0x0001_0001_0001_0001,
    0x0000_0001_0000_0001,
    1,
];

/// The lowest place of an aligned run of 2^`order` zero bits, for orders up to 6.
pub(crate) const fn aligned_zeros(word: u64, order: u8) -> Option<u32> {
    let starts = run_starts(!word, order);
    if starts == 0 { None } else { Some(starts.trailing_zeros()) }
}

/// The places where an aligned run of 2^`order` one bits starts, for orders up to 6.
pub(crate) const fn run_starts(ones: u64, order: u8) -> u64 {
    let mut runs = ones;
    let mut k = 0;
    while k < order {
        runs &= runs >> (1u32 << k);
        k += 1;
    }
    runs & ALIGNED[order as usize]
}

/// The bits of a run of 2^`order` from `bit`, for orders up to 6.
pub(crate) const fn run(bit: u32, order: u8) -> u64 {
    (!0 >> (64 - (1u32 << order))) << bit
}

/// The lowest `count` one bits of a word.
pub(crate) const fn lowest(word: u64, count: u32) -> u64 {
    let mut rest = word;
    let mut n = 0;
    while n < count && rest != 0 {
        rest &= rest - 1;
        n += 1;
    }
    word & !rest
}

/// Ones in a word that most often has a single one.
#[inline(always)]
pub(crate) const fn ones(word: u64) -> u64 {
    // Without the machine's own instruction, which a portable build may not use, counting takes a
    // dozen steps.
    if word & word.wrapping_sub(1) == 0 { (word != 0) as u64 } else { word.count_ones() as u64 }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_at_their_alignment() {
        assert_eq!(aligned_zeros(0, 6), Some(0));
        assert_eq!(aligned_zeros(1, 6), None);
        assert_eq!(aligned_zeros(1, 5), Some(32));
        assert_eq!(aligned_zeros(!0b1100, 1), Some(2));
        assert_eq!(aligned_zeros(!0b0110, 1), None);
        assert_eq!(aligned_zeros(!0, 0), None);
        for order in 0..=6u8 {
            for at in (0..64).step_by(1 << order) {
                assert_eq!(aligned_zeros(!run(at, order), order), Some(at), "order {order}");
            }
        }
    }

    #[test]
    fn the_lowest_ones() {
        assert_eq!(lowest(0b1011_0100, 2), 0b0001_0100);
        assert_eq!(lowest(0b1011_0100, 9), 0b1011_0100);
        assert_eq!(lowest(0, 3), 0);
        assert_eq!([ones(0), ones(8), ones(9), ones(!0)], [0, 1, 2, 64]);
    }
}
