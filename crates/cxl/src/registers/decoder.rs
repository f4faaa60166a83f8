//! The registers that decode addresses (CXL 3.1, 8.2.4.20).
//!
//! A decoder says which host addresses lead to which addresses of the device. Its base, size and
//! skip are written first, all in words of 32 bits, then its control with the bit that commits
//! them; the device answers in the same register. Decoders are committed in their order, lowest
//! addresses first, and undone in the opposite one.
//!
//! What is written is checked when it is made: [`Window::new`], [`Interleave::new`].

use crate::{DecodeError, payload::CAPACITY_UNIT};

/// Offset of what decoders can do, 32 bits: [`DecoderCapability`].
pub const CAPABILITY: u64 = 0x0;
/// Offset of the switch for all of them, 32 bits: [`GlobalControl`].
pub const GLOBAL_CONTROL: u64 = 0x4;

/// What decoders can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DecoderCapability(pub u32);

impl DecoderCapability {
    /// How many there are.
    ///
    /// # Errors
    /// A number that the specification gives no meaning.
    pub fn decoders(self) -> Result<u8, DecodeError> {
        match (self.0 & 0xf) as u8 {
            0 => Ok(1),
            number @ 1..=8 => Ok(2 * number),
            number @ 9..=12 => Ok(16 + 4 * (number - 8)),
            value => {
                let (field, expected) = ("decoder count", "0 to 12");
                Err(DecodeError::Field { field, value: value.into(), expected })
            }
        }
    }

    /// Whether they can spread addresses so.
    #[must_use]
    pub const fn can(self, interleave: Interleave) -> bool {
        let ways = match interleave.ways {
            3 | 6 | 12 => self.0 & 1 << 11 != 0,
            16 => self.0 & 1 << 12 != 0,
            _ => true,
        };
        let granularity = match interleave.ways {
            1 => true,
            _ if interleave.granularity < 4096 => self.0 & 1 << 8 != 0,
            _ => self.0 & 1 << 9 != 0,
        };
        ways && granularity
    }
}

/// The switch for all decoders.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GlobalControl(pub u32);

impl GlobalControl {
    /// Whether they decode.
    #[must_use]
    pub const fn is_enabled(self) -> bool {
        self.0 & 1 << 1 != 0
    }

    /// The value that makes them decode, and leaves the rest as it is.
    #[must_use]
    pub const fn enable(self) -> Self {
        Self(self.0 | 1 << 1)
    }
}

/// How addresses are spread over devices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interleave {
    ways: u8,
    granularity: u16,
}

impl Interleave {
    /// Over one device: not at all.
    pub const NONE: Self = Self { ways: 1, granularity: 256 };

    /// Over so many devices, with so many bytes in a row.
    ///
    /// # Errors
    /// Ways other than 1, 2, 3, 4, 6, 8, 12, 16; a granularity that is no power of two from 256 to
    /// 16384.
    pub fn new(ways: u8, granularity: u16) -> Result<Self, DecodeError> {
        if !matches!(ways, 1 | 2 | 3 | 4 | 6 | 8 | 12 | 16) {
            let (field, expected) = ("interleave ways", "1, 2, 3, 4, 6, 8, 12 or 16");
            return Err(DecodeError::Field { field, value: ways.into(), expected });
        }
        if !granularity.is_power_of_two() || !(256..=16384).contains(&granularity) {
            let (field, expected) = ("interleave granularity", "a power of two, 256 to 16384");
            return Err(DecodeError::Field { field, value: granularity.into(), expected });
        }
        Ok(Self { ways, granularity })
    }

    /// Over how many devices.
    #[must_use]
    pub const fn ways(self) -> u8 {
        self.ways
    }

    /// How many bytes in a row.
    #[must_use]
    pub const fn granularity(self) -> u16 {
        self.granularity
    }

    /// Bits 3:0 and 7:4 of a decoder's control.
    fn encode(self) -> u32 {
        let granularity = self.granularity.trailing_zeros() - 8;
        let ways = self.ways.trailing_zeros();
        let of_three = if self.ways.is_power_of_two() { 0 } else { 8 };
        granularity | (of_three + ways) << 4
    }

    fn decode(control: u32) -> Result<Self, DecodeError> {
        let ways = match control >> 4 & 0xf {
            number @ 0..=4 => 1 << number,
            number @ 8..=10 => 3 << (number - 8),
            value => {
                let (field, expected) = ("encoded interleave ways", "0 to 4 or 8 to 10");
                return Err(DecodeError::Field { field, value: value.into(), expected });
            }
        };
        match control & 0xf {
            number @ 0..=6 => Ok(Self { ways, granularity: 256 << number }),
            value => {
                let (field, expected) = ("encoded interleave granularity", "0 to 6");
                Err(DecodeError::Field { field, value: value.into(), expected })
            }
        }
    }
}

/// The addresses of a decoder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    base: u64,
    size: u64,
    skip: u64,
}

impl Window {
    /// Host addresses from `base`, `size` bytes, leading to the device addresses after those of the
    /// decoder before it and `skip` bytes more.
    ///
    /// # Errors
    /// One of them is no multiple of 256 MiB, or the window runs past the last address.
    pub fn new(base: u64, size: u64, skip: u64) -> Result<Self, DecodeError> {
        let fields = [("decoder base", base), ("decoder size", size), ("decoder skip", skip)];
        for (field, value) in fields {
            if !value.is_multiple_of(CAPACITY_UNIT) {
                let expected = "a multiple of 256 MiB";
                return Err(DecodeError::Field { field, value, expected });
            }
        }
        if u128::from(base) + u128::from(size) > 1 << 64 {
            let (field, expected) = ("decoder size", "a window below 2^64");
            return Err(DecodeError::Field { field, value: size, expected });
        }
        Ok(Self { base, size, skip })
    }

    /// Its first host address.
    #[must_use]
    pub const fn base(self) -> u64 {
        self.base
    }

    /// How many bytes it has.
    #[must_use]
    pub const fn size(self) -> u64 {
        self.size
    }

    /// How many bytes of the device are passed over before it.
    #[must_use]
    pub const fn skip(self) -> u64 {
        self.skip
    }

    /// Offset of the base of the decoder of this number, from 0.
    const fn first(decoder: u8) -> u64 {
        0x10 + 0x20 * decoder as u64
    }

    /// The six words to write, and at which offset, before the control of the decoder of this
    /// number.
    #[must_use]
    pub fn writes(self, decoder: u8) -> [(u64, u32); 6] {
        let first = Self::first(decoder);
        let low = |value: u64| value as u32;
        let high = |value: u64| (value >> 32) as u32;
        [
            (first, low(self.base)),
            (first + 0x4, high(self.base)),
            (first + 0x8, low(self.size)),
            (first + 0xc, high(self.size)),
            (first + 0x14, low(self.skip)),
            (first + 0x18, high(self.skip)),
        ]
    }

    /// Offsets of the six words of the decoder of this number, to read in this order.
    #[must_use]
    pub fn offsets(decoder: u8) -> [u64; 6] {
        Self { base: 0, size: 0, skip: 0 }.writes(decoder).map(|(offset, _)| offset)
    }

    /// From the six words. Bits 27:0 of the low ones are reserved.
    ///
    /// # Errors
    /// The window runs past the last address.
    pub fn decode(words: [u32; 6]) -> Result<Self, DecodeError> {
        let wide = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low & 0xf000_0000);
        let [base_low, base_high, size_low, size_high, skip_low, skip_high] = words;
        Self::new(wide(base_low, base_high), wide(size_low, size_high), wide(skip_low, skip_high))
    }
}

/// A decoder's control, and what the device says of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DecoderControl(pub u32);

/// How far a decoder is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DecoderState {
    /// It decodes nothing.
    Off,
    /// The device was told to decode, and has not answered.
    Committing,
    /// It decodes.
    Committed,
    /// The device refuses.
    Refused,
}

/// Who keeps caches of a window coherent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Coherence {
    /// The device too.
    Device,
    /// The host alone.
    HostOnly,
}

const LOCK: u32 = 1 << 8;
const COMMIT: u32 = 1 << 9;
const COMMITTED: u32 = 1 << 10;
const COMMIT_ERROR: u32 = 1 << 11;
const HOST_ONLY: u32 = 1 << 12;

impl DecoderControl {
    /// Decodes nothing.
    pub const OFF: Self = Self(0);

    /// Offset of the control of the decoder of this number, from 0.
    #[must_use]
    pub const fn offset(decoder: u8) -> u64 {
        Window::first(decoder) + 0x10
    }

    /// The value that commits what was written.
    #[must_use]
    pub fn commit(interleave: Interleave, coherence: Coherence) -> Self {
        let host_only = match coherence {
            Coherence::Device => 0,
            Coherence::HostOnly => HOST_ONLY,
        };
        Self(interleave.encode() | COMMIT | host_only)
    }

    /// How far it is.
    #[must_use]
    pub const fn state(self) -> DecoderState {
        match self.0 {
            control if control & COMMITTED != 0 => DecoderState::Committed,
            control if control & COMMIT_ERROR != 0 => DecoderState::Refused,
            control if control & COMMIT != 0 => DecoderState::Committing,
            _ => DecoderState::Off,
        }
    }

    /// Whether nobody can change it before the next reset.
    #[must_use]
    pub const fn is_locked(self) -> bool {
        self.0 & LOCK != 0
    }

    /// Who keeps caches coherent.
    #[must_use]
    pub const fn coherence(self) -> Coherence {
        if self.0 & HOST_ONLY == 0 { Coherence::Device } else { Coherence::HostOnly }
    }

    /// How addresses are spread.
    ///
    /// # Errors
    /// Numbers that the specification gives no meaning.
    pub fn interleave(self) -> Result<Interleave, DecodeError> {
        Interleave::decode(self.0)
    }
}
