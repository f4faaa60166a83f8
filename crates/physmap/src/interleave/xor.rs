//! Dealing by parity: the root's arithmetic that spreads strides.
//!
//! Instead of a bit of the address, a bit of the position is the parity of many bits, named by a
//! map (CXL 3.1, 9.18.1.4). Devices know nothing of it: their decoders take out the same
//! low bits as ever. So the address is first changed, the lowest bit of each map being
//! replaced by the parity of the map, and the changed address is dealt by remainder. Where there
//! is a factor of three, its remainder is of the bits above and needs no map.
//!
//! It can be undone if each map's lowest bit is the very bit of the position that it decides, as
//! here is asked: then bit *n* becomes itself plus bits above it. Taken from the lowest map up,
//! each step reads bits that are still the original's; taken back from the highest down, each
//! reads bits that are the original's again. Linux takes the same order both ways
//! (`cxl_do_xormap_calc`), which agrees unless a map has the lowest bit of another that
//! has more bits than that one.

use super::{Interleave, InterleaveError};

const MAPS_MAX: usize = 4;

/// The maps of a window; none if it has 1 or 3 ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct XorMaps {
    maps: [u64; MAPS_MAX],
    count: u8,
}

impl XorMaps {
    /// No map, for windows that need none.
    #[must_use]
    pub const fn none() -> Self {
        Self { maps: [0; MAPS_MAX], count: 0 }
    }

    /// As many of `maps` as `window` needs; there may be more.
    ///
    /// # Errors
    /// [`InterleaveError::MapsMissing`] if there are fewer; [`InterleaveError::Map`] if the lowest
    /// bit of one is not that of its bit of the position.
    pub fn new(
        window: Interleave,
        maps: impl IntoIterator<Item = u64>,
    ) -> Result<Self, InterleaveError> {
        let needed = window.ways().xor_maps();
        let mut taken = Self::none();
        for (place, map) in taken.maps.iter_mut().zip(maps).take(needed.into()) {
            let lowest = window.granularity().shift() + taken.count;
            if map.trailing_zeros() != u32::from(lowest) {
                return Err(InterleaveError::Map { index: taken.count, map, lowest });
            }
            *place = map;
            taken.count += 1;
        }
        if taken.count < needed {
            return Err(InterleaveError::MapsMissing { present: taken.count, needed });
        }
        Ok(taken)
    }

    /// The maps, that of the lowest bit first.
    #[must_use]
    pub fn maps(&self) -> &[u64] {
        &self.maps[..usize::from(self.count)]
    }

    /// The address that is dealt by remainder in place of `address`.
    #[must_use]
    pub fn apply(&self, address: u64) -> u64 {
        self.maps().iter().fold(address, |address, map| parity_into_lowest(address, *map))
    }

    /// The address that [`XorMaps::apply`] makes `changed` of.
    #[must_use]
    pub fn undo(&self, changed: u64) -> u64 {
        self.maps().iter().rev().fold(changed, |address, map| parity_into_lowest(address, *map))
    }
}

/// `address` with the lowest bit of `map` replaced by the parity of all its bits.
const fn parity_into_lowest(address: u64, map: u64) -> u64 {
    let lowest = map & map.wrapping_neg();
    let odd = (address & map).count_ones() % 2 == 1;
    if odd { address | lowest } else { address & !lowest }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::interleave::{Granularity, Ways};

    fn window(ways: u64, granularity: u64) -> Interleave {
        Interleave::new(Ways::new(ways).unwrap(), Granularity::new(granularity).unwrap())
    }

    #[test]
    fn one_and_three_ways_need_no_map() {
        for ways in [1, 3] {
            let maps = XorMaps::new(window(ways, 256), [0xdead, 0]).unwrap();
            assert_eq!(maps, XorMaps::none());
            assert_eq!(maps.apply(0x1234_5678), 0x1234_5678);
        }
    }

    #[test]
    fn maps_that_are_no_bijection_are_refused() {
        let refused =
            |ways, maps: &[u64]| XorMaps::new(window(ways, 512), maps.iter().copied()).unwrap_err();
        assert_eq!(refused(2, &[]), InterleaveError::MapsMissing { present: 0, needed: 1 });
        assert_eq!(refused(12, &[0x200]), InterleaveError::MapsMissing { present: 1, needed: 2 });
        assert_eq!(refused(2, &[0]), InterleaveError::Map { index: 0, map: 0, lowest: 9 });
        assert_eq!(refused(2, &[0x100]), InterleaveError::Map { index: 0, map: 0x100, lowest: 9 });
        let swapped = InterleaveError::Map { index: 0, map: 0x400, lowest: 9 };
        assert_eq!(refused(4, &[0x400, 0x200]), swapped);
        let twice = InterleaveError::Map { index: 1, map: 0x600, lowest: 10 };
        assert_eq!(refused(4, &[0x200, 0x600]), twice);
    }

    proptest! {
        /// Random maps, also such as have the lowest bits of others.
        #[test]
        fn random_maps_go_there_and_back(
            ways in prop::sample::select([2, 4, 6, 8, 12, 16].as_slice()),
            code in 0_u8..=6,
            random: [u64; 4],
            addresses in prop::collection::vec(any::<u64>(), 1..50),
        ) {
            let granularity = Granularity::decode(code).unwrap();
            let window = Interleave::new(Ways::new(ways).unwrap(), granularity);
            let maps: Vec<u64> = (0..4)
                .map(|n| {
                    let lowest = 1 << (granularity.shift() + n as u8);
                    random[n] & !(lowest - 1) | lowest
                })
                .collect();
            let xor = XorMaps::new(window, maps.iter().copied()).unwrap();
            for address in addresses {
                let changed = xor.apply(address);
                prop_assert_eq!(xor.undo(changed), address);
                prop_assert_eq!(xor.apply(xor.undo(address)), address);
                // The specification's words: bit n of the position is the parity of map n.
                let position = window.position(changed);
                for (n, map) in xor.maps().iter().enumerate() {
                    let parity = (address & map).count_ones() & 1;
                    prop_assert_eq!(u32::from(position) >> n & 1, parity);
                }
            }
        }
    }
}
