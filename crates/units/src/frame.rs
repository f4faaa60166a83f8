//! Frames, orders, and runs of frames.
//!
//! A frame is a 4 KiB physical page, named by its *page frame number*: its physical address
//! divided by 4 KiB. An order is a power of two of frames; a block of order `k` starts at a
//! multiple of 2^k frames, as in the kernel's buddy allocator.

use core::fmt;

use crate::block::{PAGE_BYTES, PAGES_PER_PAGEBLOCK, Pageblock};

/// A page frame number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct Pfn(pub u64);

impl Pfn {
    /// The frame `count` further on, if that number exists.
    #[must_use]
    pub const fn checked_add(self, count: u64) -> Option<Self> {
        match self.0.checked_add(count) {
            Some(n) => Some(Self(n)),
            None => None,
        }
    }

    /// The pageblock that the frame lies in.
    #[must_use]
    pub const fn pageblock(self) -> Pageblock {
        Pageblock(self.0 / PAGES_PER_PAGEBLOCK)
    }

    /// Whether a block of this order may start here.
    #[must_use]
    pub const fn is_aligned(self, order: Order) -> bool {
        self.0.is_multiple_of(order.frames())
    }
}

impl fmt::Debug for Pfn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pfn {:#x}", self.0)
    }
}

impl fmt::Display for Pfn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A power of two of frames, from 0 (4 KiB) to 18 (1 GiB).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "u8", into = "u8"))]
pub struct Order(u8);

impl Order {
    /// 4 KiB.
    pub const FRAME: Self = Self(0);
    /// 2 MiB.
    pub const PAGEBLOCK: Self = Self(9);
    /// 1 GiB, the largest.
    pub const MAX: Self = Self(18);

    /// The order of this exponent, if there is one.
    #[must_use]
    pub const fn new(exponent: u8) -> Option<Self> {
        if exponent <= Self::MAX.0 { Some(Self(exponent)) } else { None }
    }

    /// The exponent.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Frames in a block of this order.
    #[must_use]
    pub const fn frames(self) -> u64 {
        1 << self.0
    }

    /// Bytes in a block of this order.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.frames() * PAGE_BYTES
    }
}

impl TryFrom<u8> for Order {
    type Error = OrderError;

    fn try_from(exponent: u8) -> Result<Self, OrderError> {
        Self::new(exponent).ok_or(OrderError { exponent })
    }
}

impl From<Order> for u8 {
    fn from(order: Order) -> Self {
        order.0
    }
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "order {}", self.0)
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// An exponent that is no order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OrderError {
    /// The exponent.
    pub exponent: u8,
}

impl fmt::Display for OrderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "order {}; expected 0 to {}", self.exponent, Order::MAX.0)
    }
}

impl core::error::Error for OrderError {}

/// A contiguous run of frames.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrameRange {
    /// Its first frame.
    pub start: Pfn,
    /// How many.
    pub frames: u64,
}

impl FrameRange {
    /// The run of `frames` from `start`.
    #[must_use]
    pub const fn new(start: Pfn, frames: u64) -> Self {
        Self { start, frames }
    }

    /// One past its last frame, if that number exists.
    #[must_use]
    pub const fn end(self) -> Option<Pfn> {
        self.start.checked_add(self.frames)
    }

    /// Whether a frame is one of them.
    #[must_use]
    pub const fn contains(self, pfn: Pfn) -> bool {
        pfn.0 >= self.start.0 && pfn.0 - self.start.0 < self.frames
    }
}

impl fmt::Debug for FrameRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pfn {:#x}+{:#x}", self.start.0, self.frames)
    }
}

impl fmt::Display for FrameRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
