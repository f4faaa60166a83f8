//! The 36 bytes that every ACPI table starts with (ACPI 6.5, 5.2.6).
//!
//! | at | bytes | |
//! |---|---|---|
//! | 0 | 4 | signature |
//! | 4 | 4 | length of the table, this header in it |
//! | 8 | 1 | revision |
//! | 9 | 1 | makes all bytes add up to zero |
//! | 10 | 6 | OEM's name |
//! | 16 | 8 | OEM's name of the table |
//! | 24 | 4 | OEM's revision |
//! | 28 | 4 | who made the table |
//! | 32 | 4 | its maker's revision |

use super::{
    cursor::View,
    error::{Expected, TableError},
};

/// Bytes of the header.
pub const HEADER_BYTES: usize = 36;

/// A table with a header, cut to the length that it states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table<'a> {
    view: View<'a>,
    name: &'static str,
    revision: u8,
}

impl<'a> Table<'a> {
    /// The table at the start of `bytes`. What lies behind its end is left alone.
    ///
    /// # Errors
    /// [`TableError::Signature`] if it is another table than `signature`, called `name`;
    /// [`TableError::Truncated`] if it says to be longer than `bytes`, or they end within its
    /// first `least` bytes; [`TableError::Length`] if it says to be shorter than those.
    pub(crate) fn parse(
        bytes: &'a [u8],
        name: &'static str,
        signature: [u8; 4],
        least: usize,
    ) -> Result<Self, TableError> {
        let all = View::new(bytes, 0, name);
        let found = all.array(0)?;
        if found != signature {
            return Err(TableError::Signature { found, expected: signature });
        }
        let length = all.u32(4)?.into();
        let view = cut(all, name, length, least)?;
        Ok(Self { view, name, revision: view.u8(8)? })
    }

    pub(crate) const fn view(self) -> View<'a> {
        self.view
    }

    /// The revision of its layout.
    #[must_use]
    pub const fn revision(self) -> u8 {
        self.revision
    }

    /// All its bytes.
    #[must_use]
    pub const fn bytes(self) -> &'a [u8] {
        self.view.bytes()
    }

    /// Who made the machine, as the table says it: six letters, blanks or zeros at the end.
    ///
    /// # Errors
    /// None in a table that was read: its header is there.
    pub fn oem(self) -> Result<[u8; 6], TableError> {
        self.view.array(10)
    }

    /// Whether its bytes add up to zero. Linux warns if they do not, and uses the table
    /// (ACPICA's `acpi_ut_verify_checksum`); so a table can be read without this.
    ///
    /// # Errors
    /// [`TableError::Checksum`].
    pub fn checksum(self) -> Result<(), TableError> {
        checksum(self.name, self.view.bytes())
    }
}

/// `all` up to its stated `length`, if that is there and at least `least`.
pub(crate) fn cut<'a>(
    all: View<'a>,
    name: &'static str,
    length: u64,
    least: usize,
) -> Result<View<'a>, TableError> {
    if length < least as u64 {
        let expected = Expected::AtLeast(least as u64);
        return Err(TableError::Length { record: name, offset: 0, length, expected });
    }
    let bytes = usize::try_from(length).ok().and_then(|length| all.bytes().get(..length));
    let present = all.len();
    let short = TableError::Truncated { record: name, offset: 0, needed: length, present };
    Ok(View::new(bytes.ok_or(short)?, 0, name))
}

pub(crate) fn checksum(table: &'static str, bytes: &[u8]) -> Result<(), TableError> {
    match bytes.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte)) {
        0 => Ok(()),
        sum => Err(TableError::Checksum { table, sum }),
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    fn table(length: u32) -> Vec<u8> {
        let mut bytes = alloc::vec![0; HEADER_BYTES];
        bytes[..4].copy_from_slice(b"TEST");
        bytes[4..8].copy_from_slice(&length.to_le_bytes());
        bytes[8] = 3;
        bytes[9] = bytes.iter().fold(0, |sum: u8, byte| sum.wrapping_sub(*byte));
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Table<'_>, TableError> {
        Table::parse(bytes, "TEST", *b"TEST", HEADER_BYTES)
    }

    #[test]
    fn what_lies_behind_the_table_is_left_alone() {
        let mut bytes = table(36);
        bytes.push(7);
        let read = read(&bytes).unwrap();
        assert_eq!((read.revision(), read.bytes().len()), (3, 36));
        assert_eq!(read.checksum(), Ok(()));
        bytes[20] ^= 1;
        let sum = TableError::Checksum { table: "TEST", sum: 1 };
        assert_eq!(super::tests::read(&bytes).unwrap().checksum(), Err(sum));
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        let length = |length: u32| read(&table(length)).unwrap_err();
        let short = |length| TableError::Length {
            record: "TEST",
            offset: 0,
            length,
            expected: Expected::AtLeast(36),
        };
        let long =
            |needed| TableError::Truncated { record: "TEST", offset: 0, needed, present: 36 };
        assert_eq!(length(0), short(0));
        assert_eq!(length(35), short(35));
        assert_eq!(length(37), long(37));
        assert_eq!(length(u32::MAX), long(u64::from(u32::MAX)));
    }

    #[test]
    fn every_beginning_of_a_table_is_refused() {
        let bytes = table(36);
        for end in 0..36 {
            assert!(matches!(read(&bytes[..end]), Err(TableError::Truncated { .. })), "{end}");
        }
        assert_eq!(
            Table::parse(&bytes, "CEDT", *b"CEDT", 36),
            Err(TableError::Signature { found: *b"TEST", expected: *b"CEDT" })
        );
    }
}
