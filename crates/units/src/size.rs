//! Sizes of memory, and how people write them.
//!
//! All suffixes are binary and case does not matter: `k`, `K`, `KiB`, `kb` all mean 1024. A bare
//! number is bytes. Fractions are refused: a size that cannot be said exactly is a mistake.

use core::{fmt, str::FromStr};

use crate::PAGEBLOCK_BYTES;

/// A number of bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// The size of `count` pageblocks; saturates.
    #[must_use]
    pub const fn from_pageblocks(count: u64) -> Self {
        Self(count.saturating_mul(PAGEBLOCK_BYTES))
    }

    /// Pageblocks needed to hold this many bytes.
    #[must_use]
    pub const fn pageblocks_ceil(self) -> u64 {
        self.0.div_ceil(PAGEBLOCK_BYTES)
    }
}

/// Why a text is not a size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ParseSizeError {
    /// Nothing there.
    Empty,
    /// No digits in front.
    NoNumber,
    /// The suffix is none of K, M, G, T, P (with B or iB if you like).
    Suffix,
    /// More than 2^64 − 1 bytes.
    TooLarge,
}

impl fmt::Display for ParseSizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "is empty; expected a size such as 256M or 4GiB",
            Self::NoNumber => {
                "does not start with a whole number; expected a size such as 256M or 4GiB"
            }
            Self::Suffix => {
                "has an unknown unit; expected bytes or one of K, M, G, T, P (binary), as in 256M"
            }
            Self::TooLarge => "is larger than 2^64 bytes",
        })
    }
}

impl core::error::Error for ParseSizeError {}

impl FromStr for ByteSize {
    type Err = ParseSizeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.is_empty() {
            return Err(ParseSizeError::Empty);
        }
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, suffix) = text.split_at(digits);
        if number.is_empty() {
            return Err(ParseSizeError::NoNumber);
        }
        let number: u64 = number.parse().map_err(|_| ParseSizeError::TooLarge)?;
        let shift = match suffix.trim_start().to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            "p" | "pb" | "pib" => 50,
            _ => return Err(ParseSizeError::Suffix),
        };
        number.checked_mul(1 << shift).map(Self).ok_or(ParseSizeError::TooLarge)
    }
}

impl fmt::Display for ByteSize {
    /// At most one decimal, the largest unit that keeps the number at 1 or more: `1.5GiB`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u32); 5] =
            [("PiB", 50), ("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
        for (name, shift) in UNITS {
            let unit = 1u64 << shift;
            if self.0 >= unit {
                let tenths = u128::from(self.0) * 10 / u128::from(unit);
                let text = if tenths.is_multiple_of(10) {
                    alloc::format!("{}{name}", tenths / 10)
                } else {
                    alloc::format!("{}.{}{name}", tenths / 10, tenths % 10)
                };
                return f.pad(&text);
            }
        }
        f.pad(&alloc::format!("{}B", self.0))
    }
}

impl fmt::Debug for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn sizes_are_binary_and_case_does_not_matter() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("256M", 256 << 20),
            ("256m", 256 << 20),
            ("4GiB", 4 << 30),
            ("4 gb", 4 << 30),
            ("1T", 1 << 40),
            ("7kib", 7 << 10),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        use ParseSizeError::{Empty, NoNumber, Suffix, TooLarge};
        for (text, error) in [
            ("", Empty),
            ("G", NoNumber),
            ("-4G", NoNumber),
            ("4X", Suffix),
            ("1.5G", Suffix),
            ("99999999P", TooLarge),
            ("99999999999999999999999", TooLarge),
        ] {
            assert_eq!(text.parse::<ByteSize>(), Err(error), "{text}");
        }
    }

    #[test]
    fn sizes_print_short() {
        assert_eq!(ByteSize(0).to_string(), "0B");
        assert_eq!(ByteSize(1536 << 20).to_string(), "1.5GiB");
        assert_eq!(ByteSize(97 << 30).to_string(), "97GiB");
        assert_eq!(ByteSize(u64::MAX).to_string(), "16383.9PiB");
    }
}
