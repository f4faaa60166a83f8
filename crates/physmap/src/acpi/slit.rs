//! SLIT, the System Locality Information Table (ACPI 6.5, 5.2.17): distances between proximity
//! domains, ten being that of a domain to itself.
//!
//! A square matrix of bytes whose side is a number of eight bytes: it is the number that has to
//! be compared with what is there.

use super::{
    cursor::List,
    error::TableError,
    header::{HEADER_BYTES, Table},
};

/// The distance of a domain to itself.
pub const LOCAL_DISTANCE: u8 = 10;

const MATRIX_AT: usize = HEADER_BYTES + 8;

/// The table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slit<'a> {
    table: Table<'a>,
    localities: usize,
    matrix: List<'a, u8>,
}

impl<'a> Slit<'a> {
    /// The table at the start of `bytes`.
    ///
    /// # Errors
    /// [`TableError`] if it is another table, its length is not true, or the matrix is not all
    /// there.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, TableError> {
        let table = Table::parse(bytes, "SLIT", *b"SLIT", MATRIX_AT)?;
        let side = table.view().u64(HEADER_BYTES)?;
        let matrix = table.view().list(MATRIX_AT, side.saturating_mul(side))?;
        // The matrix is there, so its side is a number of bytes in memory.
        let localities = usize::try_from(side).unwrap_or_default();
        Ok(Self { table, localities, matrix })
    }

    /// Its header, with revision and checksum.
    #[must_use]
    pub const fn table(self) -> Table<'a> {
        self.table
    }

    /// How many proximity domains it has, numbered from 0.
    #[must_use]
    pub const fn localities(self) -> usize {
        self.localities
    }

    /// The distance from domain `from` to domain `to`; 255 where there is no way. `None` if it
    /// has no such domain.
    #[must_use]
    pub fn distance(self, from: usize, to: usize) -> Option<u8> {
        if from >= self.localities || to >= self.localities {
            return None;
        }
        self.matrix.get(from * self.localities + to)
    }

    /// Whether Linux uses it (`slit_valid`): every domain is ten from itself, and further from
    /// all others.
    ///
    /// # Errors
    /// [`TableError::Value`] with the first distance that is not so.
    pub fn check(self) -> Result<(), TableError> {
        for from in 0..self.localities {
            for to in 0..self.localities {
                let distance = self.distance(from, to).unwrap_or_default();
                let expected = match from == to {
                    true if distance != LOCAL_DISTANCE => "10 from a domain to itself",
                    false if distance <= LOCAL_DISTANCE => "more than 10 between two domains",
                    _ => continue,
                };
                return Err(self.table.view().wrong("distance", distance.into(), expected));
            }
        }
        Ok(())
    }
}
