//! The HDM decoders of the device: which physical addresses are which addresses of the device
//! (CXL 3.1, 8.2.4.20).
//!
//! Decoders are committed in order, from 0, and lie on the device's addresses in that order: each
//! begins where the one before ended, plus what it skips. So where decoder N is says nothing
//! without those before it. The static memory of the device, which is not ours, is skipped.
//!
//! One decoder for each region of dynamic capacity, as the specification wants it; nothing is
//! interleaved. A decoder that is committed already (by this program before it was restarted) is
//! adopted; one over something else of the device is firmware's, and left alone.

use std::{
    fmt, thread,
    time::{Duration, Instant},
};

use memtide_sys::{DeviceRegisters, device_registers::OutOfBounds};
use memtide_units::{DpaRange, PhysAddr, PhysRange};

use super::error::DcdError;

/// Registers of the block, and of decoder N, from `FIRST + N * EACH`.
const CAPABILITY: usize = 0;
const GLOBAL_CONTROL: usize = 4;
const FIRST: usize = 0x10;
const EACH: usize = 0x20;
const BASE: usize = 0;
const SIZE: usize = 8;
const CONTROL: usize = 0x10;
const SKIP: usize = 0x14;
/// Bits of a decoder's control register.
const WAYS_SHIFT: u32 = 4;
const COMMIT: u32 = 1 << 9;
const COMMITTED: u32 = 1 << 10;
const ERROR: u32 = 1 << 11;
const HOST_ONLY: u32 = 1 << 12;
/// Of the global control register.
const ENABLE: u32 = 1 << 1;
/// How long committing may take (CXL 3.1, 8.2.4.20.7: 10 ms unless the device says more).
const COMMIT_LIMIT: Duration = Duration::from_secs(1);
/// What decoders are multiples of.
pub const UNIT: u64 = 256 << 20;

/// A decoder that is committed: so much of the device is at these physical addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// Addresses of the device.
    pub dpa: DpaRange,
    /// The first physical address.
    pub base: PhysAddr,
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.dpa, self.physical())
    }
}

impl Span {
    /// The physical addresses.
    ///
    /// # Panics
    /// Never: [`Decoders::read`] and [`Decoders::commit`] make none of nothing, or beyond 64 bits.
    #[must_use]
    pub fn physical(&self) -> PhysRange {
        PhysRange::from_size(self.base, self.dpa.length).expect("a span is checked when it is made")
    }

    /// Where a range of the device is; `None` if it is not all in this span.
    #[must_use]
    pub fn to_physical(&self, range: DpaRange) -> Option<PhysRange> {
        if !range.exists() || !self.dpa.contains(range) {
            return None;
        }
        PhysRange::from_size(PhysAddr(self.base.0 + (range.start - self.dpa.start)), range.length)
    }

    /// Which addresses of the device are at physical ones; `None` if they are not all of this span.
    #[must_use]
    pub fn to_device(&self, range: PhysRange) -> Option<DpaRange> {
        let start = self.dpa.start + range.start().0.checked_sub(self.base.0)?;
        let range = DpaRange::new(start, u64::try_from(range.bytes()).ok()?);
        self.dpa.contains(range).then_some(range)
    }
}

/// The decoders of one device.
#[derive(Debug)]
pub struct Decoders {
    registers: DeviceRegisters,
    at: usize,
    count: usize,
    committed: Vec<Span>,
    /// Where on the device the next one begins, if it skips nothing.
    next: u64,
}

impl Decoders {
    /// Reads those that are committed.
    ///
    /// # Errors
    /// [`DcdError`]; above all for one that is interleaved, which this program does not undo.
    pub fn read(registers: DeviceRegisters, at: usize) -> Result<Self, DcdError> {
        let count = match registers.read32(at + CAPABILITY)? & 0xf {
            0 => 1,
            few @ 1..=8 => 2 * few as usize,
            many @ 9..=12 => 20 + 4 * (many as usize - 9),
            code => return Err(DcdError::DecoderCount { code }),
        };
        let mut decoders = Self { registers, at, count, committed: Vec::new(), next: 0 };
        while decoders.committed.len() < count {
            let number = decoders.committed.len();
            let control = decoders.get(number, CONTROL)?;
            if control == u32::MAX {
                return Err(super::CommandError::Gone.into());
            }
            if control & COMMITTED == 0 {
                break;
            }
            if control >> WAYS_SHIFT & 0xf != 0 {
                return Err(DcdError::Interleaved { number });
            }
            let (base, size) = (decoders.get64(number, BASE)?, decoders.get64(number, SIZE)?);
            let skip = decoders.get64(number, SKIP)?;
            decoders.push(number, base, size, skip)?;
        }
        Ok(decoders)
    }

    /// Those that are committed, in order.
    #[must_use]
    pub fn committed(&self) -> &[Span] {
        &self.committed
    }

    /// Whether there is a decoder left, and this begins after all that are committed.
    ///
    /// # Errors
    /// [`DcdError::NoDecoder`].
    pub fn check(&self, dpa: DpaRange) -> Result<(), DcdError> {
        let used = self.committed.len();
        if used < self.count && dpa.start >= self.next {
            return Ok(());
        }
        Err(DcdError::NoDecoder { dpa, count: self.count, used, next: self.next })
    }

    /// Commits the next decoder: this of the device, at these physical addresses.
    ///
    /// # Errors
    /// [`DcdError`]; above all where the device refuses it.
    pub fn commit(&mut self, dpa: DpaRange, base: PhysAddr) -> Result<Span, DcdError> {
        self.check(dpa)?;
        let number = self.committed.len();
        let skip = dpa.start - self.next;
        self.set64(number, BASE, base.0)?;
        self.set64(number, SIZE, dpa.length)?;
        self.set64(number, SKIP, skip)?;
        self.set(number, CONTROL, HOST_ONLY | COMMIT)?;
        let end = Instant::now() + COMMIT_LIMIT;
        loop {
            let control = self.get(number, CONTROL)?;
            if control == u32::MAX {
                return Err(super::CommandError::Gone.into());
            }
            if control & COMMITTED != 0 {
                break;
            }
            if control & ERROR != 0 || Instant::now() > end {
                self.set(number, CONTROL, HOST_ONLY)?;
                return Err(DcdError::NotCommitted { number, dpa, base, control });
            }
            thread::sleep(Duration::from_millis(1));
        }
        self.push(number, base.0, dpa.length, skip)
    }

    /// Lets the decoders decode.
    ///
    /// # Errors
    /// [`OutOfBounds`].
    pub fn enable(&mut self) -> Result<(), OutOfBounds> {
        let control = self.registers.read32(self.at + GLOBAL_CONTROL)?;
        self.registers.write32(self.at + GLOBAL_CONTROL, control | ENABLE)
    }

    fn push(&mut self, number: usize, base: u64, size: u64, skip: u64) -> Result<Span, DcdError> {
        let start = self.next.checked_add(skip);
        let dpa = start.map(|start| DpaRange::new(start, size)).filter(|dpa| dpa.exists());
        let span = dpa
            .filter(|_| PhysRange::from_size(PhysAddr(base), size).is_some())
            .map(|dpa| Span { dpa, base: PhysAddr(base) })
            .ok_or(DcdError::Decoder { number, base, size, skip })?;
        self.next = u64::try_from(span.dpa.end()).unwrap_or(u64::MAX);
        self.committed.push(span);
        Ok(span)
    }

    const fn register(&self, number: usize, register: usize) -> usize {
        self.at + FIRST + EACH * number + register
    }

    fn get(&self, number: usize, register: usize) -> Result<u32, OutOfBounds> {
        self.registers.read32(self.register(number, register))
    }

    fn set(&mut self, number: usize, register: usize, value: u32) -> Result<(), OutOfBounds> {
        let at = self.register(number, register);
        self.registers.write32(at, value)
    }

    /// Two registers of 32 bits: 64-bit ones here are not aligned to 8 bytes on every device.
    fn get64(&self, number: usize, register: usize) -> Result<u64, OutOfBounds> {
        let (low, high) = (self.get(number, register)?, self.get(number, register + 4)?);
        Ok(u64::from(high) << 32 | u64::from(low))
    }

    fn set64(&mut self, number: usize, register: usize, value: u64) -> Result<(), OutOfBounds> {
        let [low, high] = [value & 0xffff_ffff, value >> 32];
        let half = |half: u64| u32::try_from(half).expect("32 bits");
        self.set(number, register, half(low))?;
        self.set(number, register + 4, half(high))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dcd::registers::tests::registers;

    const GIB: u64 = 1 << 30;
    const AT: usize = 0x1128;

    /// A decoder as a device shows it: base and size in whole 256 MiB, skip.
    fn committed(number: usize, base: u64, size: u64, skip: u64) -> Vec<(usize, u32)> {
        let at = AT + FIRST + EACH * number;
        let low = |value: u64| (value & 0xffff_ffff) as u32;
        let high = |value: u64| (value >> 32) as u32;
        vec![
            (at, low(base)),
            (at + 4, high(base)),
            (at + 8, low(size)),
            (at + 12, high(size)),
            (at + 0x10, COMMITTED | COMMIT | HOST_ONLY),
            (at + 0x14, low(skip)),
            (at + 0x18, high(skip)),
        ]
    }

    fn decoders(words: &[(usize, u32)]) -> Result<Decoders, DcdError> {
        let count = [(AT, 0x1b12)];
        Decoders::read(registers(&[&count, words].concat()), AT)
    }

    #[test]
    fn decoders_follow_each_other_on_the_device() {
        let words = [committed(0, 0x1_1000_0000, GIB, GIB), committed(1, 0x1_5000_0000, GIB, 0)];
        let decoders = decoders(&words.concat()).unwrap();
        let spans = [
            Span { dpa: DpaRange::new(GIB, GIB), base: PhysAddr(0x1_1000_0000) },
            Span { dpa: DpaRange::new(2 * GIB, GIB), base: PhysAddr(0x1_5000_0000) },
        ];
        assert_eq!(decoders.committed(), spans);
        let block = DpaRange::new(GIB + (128 << 20), 128 << 20);
        let at = spans[0].to_physical(block).unwrap();
        assert_eq!(at.start(), PhysAddr(0x1_1800_0000));
        assert_eq!(spans[0].to_device(at), Some(block));
        assert_eq!((spans[1].to_physical(block), spans[1].to_device(at)), (None, None));
        assert!(decoders.check(DpaRange::new(3 * GIB, GIB)).is_ok());
        assert!(decoders.check(DpaRange::new(2 * GIB, GIB)).is_err());
    }

    #[test]
    fn a_device_that_does_not_commit_is_refused_and_let_alone() {
        let mut decoders = decoders(&[]).unwrap();
        let error = decoders.commit(DpaRange::new(GIB, GIB), PhysAddr(0x1_1000_0000)).unwrap_err();
        assert!(matches!(error, DcdError::NotCommitted { number: 0, .. }), "{error}");
        assert_eq!(decoders.get(0, CONTROL), Ok(HOST_ONLY));
        assert_eq!(decoders.get64(0, BASE), Ok(0x1_1000_0000));
        assert_eq!(decoders.get64(0, SKIP), Ok(GIB));
        assert!(decoders.committed().is_empty());
    }

    #[test]
    fn a_decoder_that_makes_no_sense_is_refused() {
        for words in [
            committed(0, u64::MAX - 1, GIB, 0),
            committed(0, 0x1_1000_0000, 0, 0),
            committed(0, 0x1_1000_0000, GIB, u64::MAX),
        ] {
            let error = decoders(&words).unwrap_err();
            assert!(matches!(error, DcdError::Decoder { number: 0, .. }), "{error}");
        }
        let mut interleaved = committed(0, 0x1_1000_0000, GIB, 0);
        interleaved[4].1 |= 1 << WAYS_SHIFT;
        assert!(matches!(decoders(&interleaved), Err(DcdError::Interleaved { number: 0 })));
    }
}
