//! Extents of device addresses, as devices speak of them.

use core::fmt;

/// A device with dynamic capacity: a `memdev` of this host.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DeviceId(pub u16);

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mem{}", self.0)
    }
}

/// A tag group: one allocation on this host. Never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct GroupId(pub u64);

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "group{}", self.0)
    }
}

/// A chain of Add records that was answered. Never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ChainId(pub u64);

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "chain{}", self.0)
    }
}

/// The name of an allocation: a UUID, bytes in printed order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Tag(pub [u8; 16]);

impl Tag {
    /// No tag.
    pub const NULL: Self = Self([0; 16]);

    /// Whether it is none.
    #[must_use]
    pub fn is_null(self) -> bool {
        self == Self::NULL
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, byte) in self.0.iter().enumerate() {
            if matches!(number, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// A run of device physical addresses (DPA), in bytes. A device may say anything: it may be empty,
/// and may run past the last address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DpaRange {
    /// Its first address.
    pub start: u64,
    /// How many bytes.
    pub length: u64,
}

impl DpaRange {
    /// The run of `length` bytes from `start`.
    #[must_use]
    pub const fn new(start: u64, length: u64) -> Self {
        Self { start, length }
    }

    /// One past its last address, wherever that is.
    #[must_use]
    pub const fn end(self) -> u128 {
        self.start as u128 + self.length as u128
    }

    /// Whether all its addresses exist, and there are some.
    #[must_use]
    pub const fn exists(self) -> bool {
        self.length != 0 && self.end() <= 1 << 64
    }

    /// Whether `other` lies in it in full.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.start <= other.start && other.end() <= self.end()
    }

    /// Whether they have an address in common.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        (self.start as u128) < other.end() && (other.start as u128) < self.end()
    }

    /// Whether it starts and ends at multiples of `align`, which is not zero.
    #[must_use]
    pub const fn is_aligned(self, align: u64) -> bool {
        self.start.is_multiple_of(align) && self.length.is_multiple_of(align)
    }
}

impl fmt::Debug for DpaRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DPA {:#x}+{:#x}", self.start, self.length)
    }
}

impl fmt::Display for DpaRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// An extent as a record has it (CXL 3.1, table 8-51).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct DcExtent {
    /// Where.
    pub range: DpaRange,
    /// Of which allocation.
    pub tag: Tag,
    /// Its place in an allocation that several hosts can share; 0 in others.
    pub sequence: u16,
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_range_past_the_last_address_does_not_exist() {
        assert!(DpaRange::new(u64::MAX - 1, 2).exists());
        assert!(!DpaRange::new(u64::MAX - 1, 3).exists());
        assert!(!DpaRange::new(7, 0).exists());
        let all = DpaRange::new(1, u64::MAX);
        assert!(all.contains(DpaRange::new(u64::MAX, 1)));
        assert!(!all.overlaps(DpaRange::new(0, 1)));
    }

    #[test]
    fn a_tag_is_written_as_a_uuid() {
        let tag = Tag(core::array::from_fn(|n| n as u8));
        assert_eq!(tag.to_string(), "00010203-0405-0607-0809-0a0b0c0d0e0f");
    }
}
