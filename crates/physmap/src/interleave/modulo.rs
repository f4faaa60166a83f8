//! Dealing by remainder: an address in units of granularity is `device · ways + position`.
//!
//! All numbers here count from the start of what is dealt out; [`super::target`] knows where that
//! is. Linux's `cxl_calculate_position`, `cxl_calculate_dpa_offset` and `cxl_calculate_hpa_offset`
//! say the same in shifts and masks, as the hardware does it; they stand in the tests.

use super::{Granularity, InterleaveError, Ways};

/// So many ways of so many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interleave {
    ways: Ways,
    granularity: Granularity,
}

/// Where something is dealt to: who, and where in that one's part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Who, below the ways.
    pub position: u8,
    /// How many bytes from the start of its part.
    pub offset: u64,
}

impl Interleave {
    /// `ways` of `granularity`.
    #[must_use]
    pub const fn new(ways: Ways, granularity: Granularity) -> Self {
        Self { ways, granularity }
    }

    /// How many.
    #[must_use]
    pub const fn ways(self) -> Ways {
        self.ways
    }

    /// How many bytes in each turn.
    #[must_use]
    pub const fn granularity(self) -> Granularity {
        self.granularity
    }

    /// How many bytes a whole round takes.
    #[must_use]
    pub const fn round_bytes(self) -> u64 {
        self.granularity.bytes() * self.ways.count() as u64
    }

    /// Who gets what lies `offset` bytes from the start.
    #[must_use]
    pub const fn position(self, offset: u64) -> u8 {
        ((offset >> self.granularity.shift()) % self.ways.count() as u64) as u8
    }

    /// Who gets what lies `offset` bytes from the start, and where that one has it.
    #[must_use]
    pub const fn place(self, offset: u64) -> Place {
        let turn = (offset >> self.granularity.shift()) / self.ways.count() as u64;
        let within = offset & (self.granularity.bytes() - 1);
        // Smaller than `offset`: it fits.
        let offset_there = turn << self.granularity.shift() | within;
        Place { position: self.position(offset), offset: offset_there }
    }

    /// How many bytes from the start `place` lies.
    ///
    /// # Errors
    /// [`InterleaveError::Position`] if there is no such position; [`InterleaveError::Beyond`] if
    /// the answer has more than 64 bits.
    pub fn offset(self, place: Place) -> Result<u64, InterleaveError> {
        let ways = self.ways.count();
        if place.position >= ways {
            return Err(InterleaveError::Position { found: place.position, ways });
        }
        let turn = place.offset >> self.granularity.shift();
        let within = place.offset & (self.granularity.bytes() - 1);
        // The shift took eight bits or more, the ways bring back five at most.
        let units = turn * u64::from(ways) + u64::from(place.position);
        let start = units.checked_mul(self.granularity.bytes());
        let offset = start.map(|start| start | within);
        offset.ok_or(InterleaveError::Beyond { device: place.offset })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all() -> impl Iterator<Item = Interleave> {
        Ways::ALL.into_iter().flat_map(|ways| {
            Granularity::all().map(move |granularity| Interleave::new(ways, granularity))
        })
    }

    /// The shifts and masks of CXL 3.1, 8.2.4.20.13 (implementation note on device decode).
    fn by_shifts(interleave: Interleave, offset: u64) -> Place {
        let eiw = u32::from(interleave.ways().encoded());
        let eig = u32::from(interleave.granularity().encoded());
        let low = offset & ((1 << (eig + 8)) - 1);
        let (position, high) = if eiw < 8 {
            let position = offset >> (eig + 8) & ((1 << eiw) - 1);
            let cleared = offset & !((1 << (eig + eiw + 8)) - 1);
            (position, cleared >> eiw)
        } else {
            let position = (offset >> (eig + 8)) % u64::from(interleave.ways().count());
            (position, ((offset >> (eig + eiw)) / 3) << (eig + 8))
        };
        Place { position: position as u8, offset: high | low }
    }

    /// Offsets at which something could go wrong: around every unit of four rounds, at the top.
    fn edges(interleave: Interleave) -> impl Iterator<Item = u64> {
        let unit = interleave.granularity().bytes();
        let rounds = u64::from(interleave.ways().count()) * 4;
        let units = (0..rounds).flat_map(move |n| [n * unit, n * unit + 1, (n + 1) * unit - 1]);
        units.chain((0..64).map(|bit| 1 << bit)).chain((0..64).map(|bit| u64::MAX >> bit))
    }

    #[test]
    fn every_ways_and_granularity_goes_there_and_back() {
        let mut tried = 0;
        for interleave in all() {
            for offset in edges(interleave) {
                let place = interleave.place(offset);
                assert!(place.position < interleave.ways().count());
                assert_eq!(interleave.offset(place), Ok(offset), "{interleave:?}");
                assert_eq!(place, by_shifts(interleave, offset), "{interleave:?} {offset:#x}");
                tried += 1;
            }
        }
        assert_eq!(tried, 7 * (12 * (1 + 2 + 3 + 4 + 6 + 8 + 12 + 16) + 8 * 128));
    }

    #[test]
    fn two_rounds_byte_by_byte_fill_every_part_without_holes() {
        for interleave in all() {
            let unit = interleave.granularity().bytes();
            let mut next = [0_u64; 16];
            for offset in 0..2 * interleave.round_bytes() {
                let place = interleave.place(offset);
                let expected = &mut next[usize::from(place.position)];
                assert_eq!(place.offset, *expected, "{interleave:?} {offset:#x}");
                *expected += 1;
            }
            let ways = usize::from(interleave.ways().count());
            assert!(next[..ways].iter().all(|bytes| *bytes == 2 * unit));
        }
    }

    #[test]
    fn positions_beyond_the_ways_are_refused() {
        for interleave in all() {
            let ways = interleave.ways().count();
            for found in ways..=255 {
                let place = Place { position: found, offset: 0 };
                let error = InterleaveError::Position { found, ways };
                assert_eq!(interleave.offset(place), Err(error));
            }
        }
    }

    #[test]
    fn device_addresses_without_a_host_address_are_refused() {
        let two = Interleave::new(Ways::new(2).unwrap(), Granularity::SMALLEST);
        let top = Place { position: 1, offset: u64::MAX / 2 };
        assert_eq!(two.offset(top), Ok(u64::MAX));
        let device = u64::MAX / 2 + 1;
        let above = Place { position: 0, offset: device };
        assert_eq!(two.offset(above), Err(InterleaveError::Beyond { device }));
    }

    proptest! {
        #[test]
        fn any_offset_goes_there_and_back(
            ways in prop::sample::select(Ways::ALL.as_slice()),
            code in 0_u8..=6,
            offset: u64,
        ) {
            let interleave = Interleave::new(ways, Granularity::decode(code).unwrap());
            let place = interleave.place(offset);
            prop_assert_eq!(place, by_shifts(interleave, offset));
            prop_assert_eq!(interleave.offset(place), Ok(offset));
        }

        #[test]
        fn any_place_comes_back_or_is_refused(
            ways in prop::sample::select(Ways::ALL.as_slice()),
            code in 0_u8..=6,
            position: u8,
            offset: u64,
        ) {
            let interleave = Interleave::new(ways, Granularity::decode(code).unwrap());
            let place = Place { position, offset };
            match interleave.offset(place) {
                Ok(there) => prop_assert_eq!(interleave.place(there), place),
                Err(InterleaveError::Position { .. }) => prop_assert!(position >= ways.count()),
                Err(_) => prop_assert!(offset > u64::MAX / u64::from(ways.count())),
            }
        }
    }
}
