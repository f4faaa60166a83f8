//! Which device an address goes to, and where on the device.
//!
//! CXL memory is dealt out like cards: so many *ways*, so many bytes (the *granularity*) to each
//! in turn. Who is dealt to is a *position*, counted from 0. Decoders at three levels do it
//! (CXL 3.1, 8.2.4.20): the root's sends an address to a host bridge, those of host bridges and
//! switches to a port, and the device's takes the bits out again that chose it, so that its
//! own addresses have no holes.
//!
//! Ways are 1, 2, 4, 8, 16, where a position is some bits of the address, or 3, 6, 12, where it
//! is a remainder of three on top of some bits. Seen as numbers all are the same: the address in
//! units of granularity is the device's address in such units times the ways, plus the
//! position. That is what is computed here; that it is what the hardware's shifts and masks do is
//! tested.
//!
//! * [`modulo`]: that arithmetic, both ways.
//! * [`xor`]: the root's other arithmetic, where a bit of the position is the parity of many
//!   bits of the address.
//! * [`target`]: decoders one below the other, and the whole way from an address to a device.
//!
//! Every pair of address and position has exactly one device address: what would break that
//! (maps that are no bijection, levels whose bits overlap) is refused when it is put together,
//! so that translating can only fail for addresses outside.

pub mod modulo;
pub mod target;
pub mod xor;

pub use modulo::{Interleave, Place};
pub use target::{RootDecoder, Route};
pub use xor::XorMaps;

use memtide_units::{PhysAddr, PhysRange};

/// Why addresses cannot be dealt out so, or one cannot be translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InterleaveError {
    /// A number of ways that hardware does not have.
    #[error("ways: {found}: expected 1, 2, 3, 4, 6, 8, 12 or 16")]
    Ways {
        /// The number.
        found: u64,
    },
    /// An encoding of ways that stands for none.
    #[error("encoded ways: {found}: expected 0 to 4 or 8 to 10")]
    EncodedWays {
        /// The encoding.
        found: u8,
    },
    /// A granularity that hardware does not have.
    #[error("granularity: {found}: expected a power of two from 256 to 16384")]
    Granularity {
        /// The number of bytes.
        found: u64,
    },
    /// An encoding of granularity that stands for none.
    #[error("encoded granularity: {found}: expected 0 to 6")]
    EncodedGranularity {
        /// The encoding.
        found: u8,
    },
    /// A position beyond the ways.
    #[error("position: {found}: expected one below the {ways} ways")]
    Position {
        /// The position.
        found: u8,
        /// The ways.
        ways: u8,
    },
    /// A device address whose host address is beyond 64 bits.
    #[error("device address: {device}: its host address is beyond 64 bits")]
    Beyond {
        /// The device address, from the start of the device's part.
        device: u64,
    },
    /// An address that the decoder does not decode.
    #[error("address: {address}: expected one in {range}")]
    Outside {
        /// The address.
        address: PhysAddr,
        /// What is decoded.
        range: PhysRange,
    },
    /// Fewer XOR maps than bits of a position.
    #[error("XOR maps: {present}: expected {needed} for the ways of the window")]
    MapsMissing {
        /// How many there are.
        present: u8,
        /// How many are needed.
        needed: u8,
    },
    /// An XOR map by which two addresses would be one.
    #[error("XOR map {index}: {map:#x}: expected its lowest bit to be {lowest}")]
    Map {
        /// Which of them, from 0.
        index: u8,
        /// The map.
        map: u64,
        /// The bit of the position that it is for.
        lowest: u8,
    },
    /// Decoders whose choices do not add up to the device's.
    #[error(
        "level {level}: {ways} ways of {granularity} bytes: expected levels that share out the \
         device's {device_ways} ways of {device_granularity} bytes"
    )]
    Levels {
        /// Which level, from 0 at the root.
        level: u8,
        /// Its ways.
        ways: u8,
        /// Its granularity in bytes.
        granularity: u64,
        /// The device's ways.
        device_ways: u8,
        /// The device's granularity in bytes.
        device_granularity: u64,
    },
    /// A part of a window that starts where no decoder can.
    #[error("start: {start}: expected a multiple of {align} bytes")]
    Start {
        /// Where it starts.
        start: PhysAddr,
        /// What it should be a multiple of.
        align: u64,
    },
}

/// A number of ways that hardware can deal to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ways(u8);

impl Ways {
    /// One: nothing is dealt out.
    pub const ONE: Self = Self(1);
    /// All that there are.
    pub const ALL: [Self; 8] =
        [Self(1), Self(2), Self(3), Self(4), Self(6), Self(8), Self(12), Self(16)];

    /// `count` ways: 1, 2, 3, 4, 6, 8, 12 or 16.
    ///
    /// # Errors
    /// [`InterleaveError::Ways`] for any other number.
    pub fn new(count: u64) -> Result<Self, InterleaveError> {
        let found = Self::ALL.into_iter().find(|ways| u64::from(ways.0) == count);
        found.ok_or(InterleaveError::Ways { found: count })
    }

    /// The ways that tables and decoders write as `code`: 0 to 4 for powers of two, 8 to 10 for
    /// three times 1, 2, 4 (Linux's `eiw_to_ways`).
    ///
    /// # Errors
    /// [`InterleaveError::EncodedWays`] for any other code.
    pub const fn decode(code: u8) -> Result<Self, InterleaveError> {
        match code {
            0..=4 => Ok(Self(1 << code)),
            8..=10 => Ok(Self(3 << (code - 8))),
            found => Err(InterleaveError::EncodedWays { found }),
        }
    }

    /// How tables and decoders write it.
    #[must_use]
    pub const fn encoded(self) -> u8 {
        let low_bits = self.0.trailing_zeros() as u8;
        if self.has_three() { 8 + low_bits } else { low_bits }
    }

    /// The number.
    #[must_use]
    pub const fn count(self) -> u8 {
        self.0
    }

    /// Whether it is 3, 6 or 12.
    #[must_use]
    pub const fn has_three(self) -> bool {
        self.0.is_multiple_of(3)
    }

    /// How many XOR maps its positions take: one for each bit but those of the three. None for 1
    /// and 3.
    #[must_use]
    pub const fn xor_maps(self) -> u8 {
        self.0.trailing_zeros() as u8
    }
}

/// How many bytes each position gets in its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Granularity(u8);

impl Granularity {
    /// 256 bytes.
    pub const SMALLEST: Self = Self(0);

    /// All that there are, the smallest first.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..=6).map(Self)
    }

    /// `bytes`: a power of two from 256 to 16384.
    ///
    /// # Errors
    /// [`InterleaveError::Granularity`] for any other number.
    pub fn new(bytes: u64) -> Result<Self, InterleaveError> {
        Self::all()
            .find(|each| each.bytes() == bytes)
            .ok_or(InterleaveError::Granularity { found: bytes })
    }

    /// The granularity that tables and decoders write as `code`: 256 bytes shifted left by it, 0
    /// to 6 (Linux's `eig_to_granularity`).
    ///
    /// # Errors
    /// [`InterleaveError::EncodedGranularity`] for any other code.
    pub const fn decode(code: u8) -> Result<Self, InterleaveError> {
        match code {
            0..=6 => Ok(Self(code)),
            found => Err(InterleaveError::EncodedGranularity { found }),
        }
    }

    /// How tables and decoders write it.
    #[must_use]
    pub const fn encoded(self) -> u8 {
        self.0
    }

    /// The number of bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        1 << self.shift()
    }

    /// The number of address bits below it.
    #[must_use]
    pub const fn shift(self) -> u8 {
        8 + self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_those_of_eiw_to_ways_and_eig_to_granularity() {
        for (code, count) in [(0, 1), (1, 2), (2, 4), (3, 8), (4, 16), (8, 3), (9, 6), (10, 12)] {
            let ways = Ways::decode(code).unwrap();
            assert_eq!((ways.count(), ways.encoded()), (count, code));
            assert_eq!(Ways::new(count.into()), Ok(ways));
        }
        for found in (5..8).chain(11..=255) {
            assert_eq!(Ways::decode(found), Err(InterleaveError::EncodedWays { found }));
        }
        for code in 0..=6 {
            let granularity = Granularity::decode(code).unwrap();
            assert_eq!((granularity.bytes(), granularity.encoded()), (256 << code, code));
            assert_eq!(Granularity::new(256 << code), Ok(granularity));
        }
        for found in 7..=255 {
            let error = InterleaveError::EncodedGranularity { found };
            assert_eq!(Granularity::decode(found), Err(error));
        }
        for found in [0, 1, 128, 255, 257, 768, 32768, u64::MAX] {
            assert_eq!(Granularity::new(found), Err(InterleaveError::Granularity { found }));
        }
        for found in [0, 5, 7, 9, 10, 11, 13, 15, 17, 24, 32, 256 + 1] {
            assert_eq!(Ways::new(found), Err(InterleaveError::Ways { found }));
        }
    }
}
