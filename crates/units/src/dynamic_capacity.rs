//! Extents of device addresses, as devices with dynamic capacity speak of them.

use alloc::string::String;
use core::fmt;

/// The name of an allocation: a UUID, bytes in printed order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
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

/// A text that is no UUID.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParseTagError {
    /// What was given.
    pub text: String,
}

impl fmt::Display for ParseTagError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = &self.text;
        write!(f, "tag {text:?}; expected a UUID, as 6ba7b810-9dad-11d1-80b4-00c04fd430c8")
    }
}

impl core::error::Error for ParseTagError {}

impl core::str::FromStr for Tag {
    type Err = ParseTagError;

    /// A UUID in its usual form: 8, 4, 4, 4 and 12 hexadecimal digits of either case.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || ParseTagError { text: text.into() };
        let dashes = [8, 13, 18, 23];
        let is_right = |(at, byte): (usize, u8)| {
            if dashes.contains(&at) { byte == b'-' } else { byte.is_ascii_hexdigit() }
        };
        if text.len() != 36 || !text.bytes().enumerate().all(is_right) {
            return Err(refuse());
        }
        let digits = text.replace('-', "");
        let number = u128::from_str_radix(&digits, 16).map_err(|_| refuse())?;
        Ok(Self(number.to_be_bytes()))
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
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
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
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
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
        let text = "00010203-0405-0607-0809-0a0b0c0d0e0f";
        assert_eq!(tag.to_string(), text);
        assert_eq!(text.to_uppercase().parse(), Ok(tag));
        for wrong in ["", "00010203-0405-0607-0809-0a0b0c0d0e0", &text.replace('-', "+"), "g"] {
            assert!(wrong.parse::<Tag>().is_err(), "{wrong}");
        }
    }
}
