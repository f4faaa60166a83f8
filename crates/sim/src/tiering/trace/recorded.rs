//! A trace in memory, ready to be replayed.
//!
//! Its pages are numbered in the order in which they are touched first: that is the order in which
//! a program's pages are placed. It is replayed over and over.

use std::{
    collections::BTreeMap,
    io::{BufRead, Read},
};

use super::{Access, MAGIC, RECORDS_MAX, Reader, Record, TraceError, cache::Cache, lackey};
use crate::tiering::{config::PAGES_MAX, placement::WRITE};

/// A trace in memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recorded {
    visits: Vec<u32>,
    pages: u32,
}

impl Recorded {
    /// Reads a trace of either format, for pages of 2^`shift` bytes. What lackey writes has all
    /// accesses that a program makes: those that a cache of the usual kind ([`Cache::usual`])
    /// serves are left out.
    ///
    /// # Errors
    /// [`TraceError`]: what is wrong with it, or more than can be replayed.
    pub fn read(mut from: impl BufRead, shift: u8) -> Result<Self, TraceError> {
        let mut begin = [0; MAGIC.len()];
        let mut length = 0;
        while length < begin.len() {
            let more = from.read(&mut begin[length..]);
            match more.map_err(|error| TraceError::Io { offset: length as u64, error })? {
                0 => break,
                more => length += more,
            }
        }
        let all = begin[..length].chain(from);
        if begin[..length] == MAGIC {
            let reader = Reader::new(all)?;
            let found = reader.shift();
            let wider = shift.checked_sub(found);
            let wider = wider.ok_or(TraceError::Coarse { found, most: shift })?;
            let coarse = |record: Record| Record { page: record.page >> wider, ..record };
            Self::collect(reader.map(|record| record.map(coarse)))
        } else {
            let accesses = lackey::Reader::new(all, lackey::Instructions::Skip);
            Self::collect(Cache::usual().misses(accesses, shift))
        }
    }

    /// Collects records, and numbers their pages.
    ///
    /// # Errors
    /// The first of the records' errors; too many records or pages, or none.
    pub fn collect(
        records: impl Iterator<Item = Result<Record, TraceError>>,
    ) -> Result<Self, TraceError> {
        let mut numbers = BTreeMap::new();
        let mut visits = Vec::new();
        for record in records {
            let Record { page, access, .. } = record?;
            if visits.len() == RECORDS_MAX {
                return Err(TraceError::TooManyRecords);
            }
            let next = numbers.len() as u32;
            let number = *numbers.entry(page).or_insert(next);
            if number == PAGES_MAX {
                return Err(TraceError::TooManyPages);
            }
            visits.push(if access == Access::Write { number | WRITE } else { number });
        }
        if visits.is_empty() {
            return Err(TraceError::Empty);
        }
        Ok(Self { visits, pages: numbers.len() as u32 })
    }

    /// Its visits, in order.
    #[must_use]
    pub fn visits(&self) -> &[u32] {
        &self.visits
    }

    /// Its pages.
    #[must_use]
    pub const fn pages(&self) -> u32 {
        self.pages
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tiering::trace::Writer;

    fn trace(pages: &[(u64, Access)], shift: u8) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), shift).unwrap();
        for &(page, access) in pages {
            writer.write(Record { page, access, accessor: 0 }).unwrap();
        }
        writer.finish().unwrap()
    }

    #[test]
    fn pages_are_numbered_as_they_are_touched() {
        let (read, write) = (Access::Read, Access::Write);
        let bytes = trace(&[(900, read), (7, write), (900, write), (8, read), (7, read)], 12);
        let recorded = Recorded::read(&bytes[..], 12).unwrap();
        assert_eq!(recorded.visits(), [0, 1 | WRITE, WRITE, 2, 1]);
        assert_eq!(recorded.pages(), 3);
        // In pages of 8 KiB, 7 and 8 lie apart; in 2 MiB all but 900 are one.
        assert_eq!(Recorded::read(&bytes[..], 13).unwrap().pages(), 3);
        assert_eq!(Recorded::read(&bytes[..], 21).unwrap().pages(), 2);
    }

    #[test]
    fn what_cannot_be_replayed_is_refused() {
        let coarse = trace(&[(1, Access::Read)], 21);
        let error = Recorded::read(&coarse[..], 12).unwrap_err();
        assert!(matches!(error, TraceError::Coarse { found: 21, most: 12 }), "{error}");
        let empty = trace(&[], 12);
        assert!(matches!(Recorded::read(&empty[..], 12), Err(TraceError::Empty)));
        assert!(matches!(Recorded::read(&b""[..], 12), Err(TraceError::Empty)));
        let text = Recorded::read(&b"hello\n"[..], 12).unwrap_err();
        assert!(matches!(text, TraceError::Line { line: 1, .. }), "{text}");
    }
}
