//! A CXL fixed memory window, as firmware states it, and what makes one unusable.
//!
//! A window (CFMWS, CXL 3.1 section 9.18.1.3) says: accesses to these host addresses go to these
//! host bridges, in turns of so many bytes. Linux looks at each window alone and leaves out those
//! that cannot be (`cxl_acpi_cfmws_verify`, `__cxl_parse_cfmws`); so do we, and say why.
//!
//! Every window should also be a multiple of 256 MiB for each of its ways. Linux does not check
//! that of the window, only of the regions inside, and there is one honest exception: a platform
//! with a hole for devices below 4 GiB has a window at address 0 that ends at the hole, though the
//! decoders go on behind it (Linux, Documentation/driver-api/cxl/conventions.rst, "low memory
//! hole"). So that is a matter for [`crate::reconcile`], not a reason to refuse.

use alloc::vec::Vec;
use core::num::NonZeroU32;

use memtide_units::{ByteSize, PhysAddr, PhysRange};

/// The unit of windows and regions, and the alignment of both: 256 MiB (`SZ_256M`).
pub const WINDOW_UNIT: u64 = 256 << 20;

/// How host bridges take turns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Arithmetic {
    /// By the bits above the granularity.
    Modulo,
    /// By the parity of bits that a CXIMS record names.
    Xor,
    /// What the table says is neither.
    Unknown(u8),
}

/// What a window may be used for (CFMWS, window restrictions), as bits.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Restrictions(pub u16);

impl Restrictions {
    /// Memory of devices that processors and the device share (HDM-D).
    pub const DEVICE: Self = Self(1);
    /// Memory that only hosts reach (HDM-H).
    pub const HOST_ONLY: Self = Self(1 << 1);
    /// Volatile memory.
    pub const VOLATILE: Self = Self(1 << 2);
    /// Persistent memory.
    pub const PERSISTENT: Self = Self(1 << 3);
    /// What firmware programmed must not be changed.
    pub const FIXED: Self = Self(1 << 4);

    /// Whether all bits of `use_` are set.
    #[must_use]
    pub const fn allow(self, use_: Self) -> bool {
        self.0 & use_.0 == use_.0
    }
}

/// A window, before anybody has looked whether it can be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Window {
    /// The first host address.
    pub base: u64,
    /// Bytes.
    pub size: u64,
    /// How many host bridges take turns; `None` if the table's code for it means nothing.
    pub ways: Option<NonZeroU32>,
    /// After how many bytes it is the next one's turn; `None` if the table's code means nothing.
    pub granularity: Option<NonZeroU32>,
    /// How they take turns.
    pub arithmetic: Arithmetic,
    /// What it may be used for.
    pub restrictions: Restrictions,
    /// The `_UID`s of the host bridges, one for each way.
    pub targets: Vec<u32>,
}

/// What makes a window unusable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WindowError {
    /// Neither modulo nor XOR.
    #[error("its interleave arithmetic is {0}; expected 0 (modulo) or 1 (XOR)")]
    Arithmetic(u8),
    /// The base is no multiple of 256 MiB.
    #[error("its base {0} is not a multiple of 256MiB")]
    Base(PhysAddr),
    /// The size is no multiple of 256 MiB.
    #[error("its size {size:#x} ({}) is not a multiple of 256MiB", ByteSize(*size))]
    Size {
        /// Bytes.
        size: u64,
    },
    /// No legal number of ways.
    #[error("its number of ways is not one of 1, 2, 3, 4, 6, 8, 12 and 16")]
    Ways,
    /// Fewer host bridges than ways.
    #[error("it names {targets} host bridges for {ways} ways")]
    Targets {
        /// Host bridges named.
        targets: usize,
        /// Ways.
        ways: u32,
    },
    /// No legal granularity.
    #[error("its granularity is not a power of two from 256 to 16384")]
    Granularity,
    /// A size of zero.
    #[error("its size is 0")]
    Empty,
    /// It would end beyond 64 bits.
    #[error("its base {base} and size {size:#x} reach beyond 64 bits")]
    Beyond {
        /// The first address.
        base: PhysAddr,
        /// Bytes.
        size: u64,
    },
}

impl WindowError {
    /// Whether Linux had counted the window by then, so that the next one's name
    /// (`CXL Window N`) has a higher number.
    #[must_use]
    pub const fn is_counted(self) -> bool {
        matches!(self, Self::Empty | Self::Beyond { .. })
    }
}

impl Window {
    /// The addresses that it decodes, if it can be.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with it, in the order in which Linux looks.
    pub fn verify(&self) -> Result<PhysRange, WindowError> {
        let Self { base, size, .. } = *self;
        if let Arithmetic::Unknown(code) = self.arithmetic {
            return Err(WindowError::Arithmetic(code));
        }
        let base = PhysAddr(base);
        if !base.is_aligned(WINDOW_UNIT) {
            return Err(WindowError::Base(base));
        }
        if !size.is_multiple_of(WINDOW_UNIT) {
            return Err(WindowError::Size { size });
        }
        let ways = self.ways.map_or(0, NonZeroU32::get);
        if !matches!(ways, 1 | 2 | 3 | 4 | 6 | 8 | 12 | 16) {
            return Err(WindowError::Ways);
        }
        if self.targets.len() < ways as usize {
            return Err(WindowError::Targets { targets: self.targets.len(), ways });
        }
        let granularity = self.granularity.map_or(0, NonZeroU32::get);
        if !granularity.is_power_of_two() || !(256..=16_384).contains(&granularity) {
            return Err(WindowError::Granularity);
        }
        if size == 0 {
            return Err(WindowError::Empty);
        }
        PhysRange::from_size(base, size).ok_or(WindowError::Beyond { base, size })
    }

    /// Of what its size should be a multiple: 256 MiB for each way. `None` without legal ways.
    #[must_use]
    pub fn unit(&self) -> Option<u64> {
        self.ways.map(|ways| u64::from(ways.get()) * WINDOW_UNIT)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use alloc::vec;

    /// A window that can be.
    pub(crate) fn window(base: u64, size: u64, ways: u32) -> Window {
        Window {
            base,
            size,
            ways: NonZeroU32::new(ways),
            granularity: NonZeroU32::new(256),
            arithmetic: Arithmetic::Modulo,
            restrictions: Restrictions(0xe),
            targets: vec![7; ways as usize],
        }
    }

    #[test]
    fn what_cannot_be_is_refused_in_the_order_of_linux() {
        let good = window(0x1_0000_0000, 0x4000_0000, 2);
        assert_eq!(good.verify().unwrap().bytes(), 0x4000_0000);
        let base = PhysAddr(0x1000);
        for (bad, error) in [
            (
                Window { arithmetic: Arithmetic::Unknown(7), base: 1, ..good.clone() },
                WindowError::Arithmetic(7),
            ),
            (Window { base: base.0, size: 1, ..good.clone() }, WindowError::Base(base)),
            (Window { size: 1, ways: None, ..good.clone() }, WindowError::Size { size: 1 }),
            (Window { ways: None, size: 0, ..good.clone() }, WindowError::Ways),
            (window(0, 0, 5), WindowError::Ways),
            (
                Window { targets: vec![1], granularity: None, ..good.clone() },
                WindowError::Targets { targets: 1, ways: 2 },
            ),
            (
                Window { granularity: NonZeroU32::new(512 + 256), size: 0, ..good.clone() },
                WindowError::Granularity,
            ),
            (
                Window { granularity: NonZeroU32::new(32_768), ..good.clone() },
                WindowError::Granularity,
            ),
            (Window { size: 0, ..good.clone() }, WindowError::Empty),
        ] {
            assert_eq!(bad.verify(), Err(error));
        }
        let top = window(u64::MAX - WINDOW_UNIT + 1, WINDOW_UNIT, 1);
        assert_eq!(top.verify().unwrap().last(), PhysAddr(u64::MAX));
        let beyond = Window { size: 2 * WINDOW_UNIT, ..top };
        assert!(matches!(beyond.verify(), Err(WindowError::Beyond { .. })));
    }

    #[test]
    fn every_bit_of_a_restriction_has_to_be_there() {
        let volatile = Restrictions(Restrictions::HOST_ONLY.0 | Restrictions::VOLATILE.0);
        assert!(volatile.allow(Restrictions::VOLATILE));
        assert!(!volatile.allow(Restrictions(Restrictions::PERSISTENT.0 | 2)));
    }
}
