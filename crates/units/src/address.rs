//! Physical addresses, and ranges of them with inclusive ends.
//!
//! The last address of a range is in it, as in the kernel's `struct resource` and in
//! `/proc/iomem`: so a range can reach the top of the address space, and no sum of an address and
//! a size is ever needed that could overflow. There is no empty range and no `+` on addresses:
//! whoever computes says what happens at the edge.

use core::fmt;

/// A physical address, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct PhysAddr(pub u64);

impl PhysAddr {
    /// The address `bytes` above, unless that is beyond 64 bits.
    #[must_use]
    pub const fn checked_add(self, bytes: u64) -> Option<Self> {
        match self.0.checked_add(bytes) {
            Some(address) => Some(Self(address)),
            None => None,
        }
    }

    /// The address `bytes` below, unless that is below zero.
    #[must_use]
    pub const fn checked_sub(self, bytes: u64) -> Option<Self> {
        match self.0.checked_sub(bytes) {
            Some(address) => Some(Self(address)),
            None => None,
        }
    }

    /// Whether it is a multiple of `align`, a power of two.
    #[must_use]
    pub const fn is_aligned(self, align: u64) -> bool {
        self.0 & (align - 1) == 0
    }

    /// The next multiple of `align` (a power of two) at or above, unless that is beyond 64 bits.
    #[must_use]
    pub const fn align_up(self, align: u64) -> Option<Self> {
        match self.0.checked_add(align - 1) {
            Some(sum) => Some(Self(sum & !(align - 1))),
            None => None,
        }
    }

    /// The next multiple of `align` (a power of two) at or below.
    #[must_use]
    pub const fn align_down(self, align: u64) -> Self {
        Self(self.0 & !(align - 1))
    }
}

impl fmt::Display for PhysAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Debug for PhysAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Physical addresses from `start` to `last`, both in it; never empty.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhysRange {
    start: PhysAddr,
    last: PhysAddr,
}

impl PhysRange {
    /// From `start` to `last`, both in it; `None` if `last` is below `start`.
    #[must_use]
    pub const fn new(start: PhysAddr, last: PhysAddr) -> Option<Self> {
        if last.0 < start.0 { None } else { Some(Self { start, last }) }
    }

    /// `bytes` from `start` on; `None` if that is nothing, or reaches beyond 64 bits.
    #[must_use]
    pub const fn from_size(start: PhysAddr, bytes: u64) -> Option<Self> {
        match bytes.checked_sub(1) {
            Some(more) => match start.checked_add(more) {
                Some(last) => Some(Self { start, last }),
                None => None,
            },
            None => None,
        }
    }

    /// The first address.
    #[must_use]
    pub const fn start(self) -> PhysAddr {
        self.start
    }

    /// The last address, which is in the range.
    #[must_use]
    pub const fn last(self) -> PhysAddr {
        self.last
    }

    /// Its size in bytes. All 2^64 addresses do not fit into 64 bits, hence the wider number.
    #[must_use]
    pub const fn bytes(self) -> u128 {
        (self.last.0 - self.start.0) as u128 + 1
    }

    /// Whether `address` is in it.
    #[must_use]
    pub const fn has(self, address: PhysAddr) -> bool {
        self.start.0 <= address.0 && address.0 <= self.last.0
    }

    /// Whether all of `other` is in it.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.start.0 <= other.start.0 && other.last.0 <= self.last.0
    }

    /// Whether they share an address.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        self.start.0 <= other.last.0 && other.start.0 <= self.last.0
    }

    /// What they share.
    #[must_use]
    pub fn intersection(self, other: Self) -> Option<Self> {
        Self::new(self.start.max(other.start), self.last.min(other.last))
    }

    /// The smallest range with both in it, and with what lies between them.
    #[must_use]
    pub fn hull(self, other: Self) -> Self {
        Self { start: self.start.min(other.start), last: self.last.max(other.last) }
    }
}

impl fmt::Display for PhysRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.start, self.last)
    }
}

impl fmt::Debug for PhysRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, last: u64) -> PhysRange {
        PhysRange::new(PhysAddr(start), PhysAddr(last)).unwrap()
    }

    #[test]
    fn the_whole_address_space_is_a_range() {
        let all = range(0, u64::MAX);
        assert_eq!(all.bytes(), 1 << 64);
        assert!(all.contains(range(u64::MAX, u64::MAX)));
        assert_eq!(PhysRange::from_size(PhysAddr(u64::MAX), 1), Some(range(u64::MAX, u64::MAX)));
        assert_eq!(PhysRange::from_size(PhysAddr(u64::MAX), 2), None);
        assert_eq!(PhysRange::from_size(PhysAddr(0), 0), None);
        assert_eq!(PhysRange::new(PhysAddr(1), PhysAddr(0)), None);
    }

    #[test]
    fn neighbours_share_nothing() {
        let (low, high) = (range(0, 0xfff), range(0x1000, 0x1fff));
        assert!(!low.overlaps(high));
        assert_eq!(low.intersection(high), None);
        assert_eq!(low.hull(high), range(0, 0x1fff));
        assert_eq!(range(0, 0x1000).intersection(high), Some(range(0x1000, 0x1000)));
    }

    #[test]
    fn aligning_stops_at_the_edge() {
        assert_eq!(PhysAddr(1).align_up(0x1000), Some(PhysAddr(0x1000)));
        assert_eq!(PhysAddr(u64::MAX).align_up(0x1000), None);
        assert_eq!(PhysAddr(u64::MAX).align_down(0x1000), PhysAddr(!0xfff));
        assert!(PhysAddr(0x3000).is_aligned(0x1000) && !PhysAddr(0x3001).is_aligned(2));
    }
}
