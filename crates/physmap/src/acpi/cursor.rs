//! Fields and records in bytes that nobody vouches for.
//!
//! [`View`] is a piece of a table that knows where in the table it lies and what it is called, so
//! that an error can say both. Every read is checked against its end. [`Frames`] cuts a
//! table into records by the lengths they state: it always goes forward by at least a record's
//! header, so it ends after at most as many steps as there are bytes.
//!
//! All numbers are little-endian, and none is aligned: hence bytes and no references to
//! structures.

use core::marker::PhantomData;

use super::error::{Expected, TableError};

/// A record of a type that this crate does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unknown {
    /// Its type.
    pub kind: u16,
    /// Where in the table it starts, in bytes.
    pub offset: usize,
    /// Its length in bytes, header and all.
    pub length: usize,
}

/// A piece of a table: a record, or the table itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct View<'a> {
    bytes: &'a [u8],
    offset: usize,
    record: &'static str,
}

impl<'a> View<'a> {
    /// `bytes`, which start at `offset` of their table.
    pub(crate) const fn new(bytes: &'a [u8], offset: usize, record: &'static str) -> Self {
        Self { bytes, offset, record }
    }

    /// The same bytes under the name of the record that they turned out to be.
    pub(crate) const fn named(self, record: &'static str) -> Self {
        Self { record, ..self }
    }

    pub(crate) const fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    pub(crate) const fn offset(self) -> usize {
        self.offset
    }

    pub(crate) const fn len(self) -> usize {
        self.bytes.len()
    }

    /// `N` bytes from `at` on.
    pub(crate) fn array<const N: usize>(self, at: usize) -> Result<[u8; N], TableError> {
        self.bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().ok_or(
            TableError::Truncated {
                record: self.record,
                offset: self.offset,
                needed: (at as u64).saturating_add(N as u64),
                present: self.bytes.len(),
            },
        )
    }

    pub(crate) fn u8(self, at: usize) -> Result<u8, TableError> {
        self.array(at).map(u8::from_le_bytes)
    }

    pub(crate) fn u16(self, at: usize) -> Result<u16, TableError> {
        self.array(at).map(u16::from_le_bytes)
    }

    pub(crate) fn u32(self, at: usize) -> Result<u32, TableError> {
        self.array(at).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(self, at: usize) -> Result<u64, TableError> {
        self.array(at).map(u64::from_le_bytes)
    }

    /// `count` numbers from `at` on.
    pub(crate) fn list<T: Number>(self, at: usize, count: u64) -> Result<List<'a, T>, TableError> {
        let bytes = count.checked_mul(T::BYTES as u64);
        let end = bytes.and_then(|bytes| bytes.checked_add(at as u64));
        let slice =
            end.and_then(|end| usize::try_from(end).ok()).and_then(|end| self.bytes.get(at..end));
        slice.map(List::new).ok_or(TableError::Truncated {
            record: self.record,
            offset: self.offset,
            needed: end.unwrap_or(u64::MAX),
            present: self.bytes.len(),
        })
    }

    /// As many numbers as there is room for from `at` on.
    pub(crate) fn rest<T: Number>(self, at: usize) -> Result<List<'a, T>, TableError> {
        let room = self.bytes.len().saturating_sub(at) / T::BYTES;
        self.list(at, room as u64)
    }

    /// Refuses another length than `bytes`.
    pub(crate) fn exactly(self, bytes: usize) -> Result<(), TableError> {
        self.sized(self.bytes.len() == bytes, Expected::Exactly(bytes as u64))
    }

    /// Refuses a length below `bytes`.
    pub(crate) fn at_least(self, bytes: u64) -> Result<(), TableError> {
        self.sized(self.bytes.len() as u64 >= bytes, Expected::AtLeast(bytes))
    }

    /// Refuses what is no `head` with a list of `element`s behind it.
    pub(crate) fn list_of(self, head: usize, element: usize) -> Result<(), TableError> {
        let tail = self.bytes.len().checked_sub(head);
        let fits = tail.is_some_and(|tail| tail > 0 && tail % element == 0);
        self.sized(fits, Expected::ListOf { head: head as u64, element: element as u64 })
    }

    fn sized(self, fits: bool, expected: Expected) -> Result<(), TableError> {
        if fits {
            return Ok(());
        }
        let length = self.bytes.len() as u64;
        Err(TableError::Length { record: self.record, offset: self.offset, length, expected })
    }

    /// The error that `field` should hold something else.
    pub(crate) const fn wrong(
        self,
        field: &'static str,
        value: u64,
        expected: &'static str,
    ) -> TableError {
        TableError::Value { record: self.record, offset: self.offset, field, value, expected }
    }
}

/// A little-endian number in a table.
pub trait Number: Copy + sealed::Sealed {
    /// Its size in the table.
    const BYTES: usize;

    /// The number in `bytes`, or `None` if they are fewer than [`Number::BYTES`].
    fn read(bytes: &[u8]) -> Option<Self>;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! number {
    ($($type:ty),*) => {$(
        impl sealed::Sealed for $type {}

        impl Number for $type {
            const BYTES: usize = size_of::<$type>();

            fn read(bytes: &[u8]) -> Option<Self> {
                bytes.first_chunk().copied().map(Self::from_le_bytes)
            }
        }
    )*};
}

number!(u8, u16, u32, u64);

/// Numbers one behind the other in a table, borrowed from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct List<'a, T> {
    bytes: &'a [u8],
    number: PhantomData<T>,
}

impl<'a, T: Number> List<'a, T> {
    const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, number: PhantomData }
    }

    /// How many there are.
    #[must_use]
    pub const fn len(self) -> usize {
        self.bytes.len() / T::BYTES
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The number at `index`, or `None` behind the end.
    #[must_use]
    pub fn get(self, index: usize) -> Option<T> {
        T::read(self.bytes.get(index.checked_mul(T::BYTES)?..)?)
    }

    /// All of them.
    pub fn iter(self) -> impl ExactSizeIterator<Item = T> + Clone + use<'a, T> {
        (0..self.len()).map(move |index| self.get(index).expect("the index is below the length"))
    }

    /// Its first `count`, or all if there are fewer.
    #[must_use]
    pub fn first(self, count: usize) -> Self {
        let end = count.saturating_mul(T::BYTES).min(self.bytes.len());
        Self::new(&self.bytes[..end])
    }
}

/// How the records of a table state their type and length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Type in one byte, length in the next (SRAT).
    Bytes,
    /// Type in one byte, one reserved, length in two (CEDT, CDAT).
    Words,
    /// Type in two bytes, two reserved, length in four (HMAT).
    Doubles,
}

impl Framing {
    const fn header_bytes(self) -> usize {
        match self {
            Self::Bytes => 2,
            Self::Words => 4,
            Self::Doubles => 8,
        }
    }

    fn read(self, view: View<'_>) -> Result<(u16, u64), TableError> {
        Ok(match self {
            Self::Bytes => (view.u8(0)?.into(), view.u8(1)?.into()),
            Self::Words => (view.u8(0)?.into(), view.u16(2)?.into()),
            Self::Doubles => (view.u16(0)?, view.u32(4)?.into()),
        })
    }
}

/// The records of a table, cut apart and not yet read.
#[derive(Debug, Clone)]
pub(crate) struct Frames<'a> {
    table: View<'a>,
    at: usize,
    framing: Framing,
}

impl<'a> Frames<'a> {
    /// The records of `table` from `at` on.
    pub(crate) const fn new(table: View<'a>, at: usize, framing: Framing) -> Self {
        Self { table, at, framing }
    }

    fn cut(&self) -> Result<(u16, View<'a>), TableError> {
        let rest = self.table.bytes.get(self.at..).unwrap_or_default();
        let offset = self.table.offset.saturating_add(self.at);
        let view = View::new(rest, offset, "record");
        let (kind, length) = self.framing.read(view)?;
        let least = self.framing.header_bytes() as u64;
        if length < least {
            let expected = Expected::AtLeast(least);
            return Err(TableError::Length { record: "record", offset, length, expected });
        }
        let bytes = usize::try_from(length).ok().and_then(|length| rest.get(..length));
        let present = rest.len();
        let cut = TableError::Truncated { record: "record", offset, needed: length, present };
        Ok((kind, View::new(bytes.ok_or(cut)?, offset, "record")))
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<(u16, View<'a>), TableError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.table.len() {
            return None;
        }
        let frame = self.cut();
        // Behind a record without a sensible length nothing can be found.
        self.at = match &frame {
            Ok((_, view)) => self.at + view.len(),
            Err(_) => self.table.len(),
        };
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn records_are_cut_by_their_lengths() {
        let bytes = [1, 4, 9, 9, 2, 2, 3, 5, 0, 0, 0];
        let table = View::new(&bytes, 48, "SRAT");
        let cut: Vec<_> = Frames::new(table, 0, Framing::Bytes)
            .map(|frame| frame.map(|(kind, view)| (kind, view.offset(), view.len())))
            .collect();
        assert_eq!(cut, [Ok((1, 48, 4)), Ok((2, 52, 2)), Ok((3, 54, 5))]);
    }

    #[test]
    fn a_length_beyond_the_table_ends_it() {
        let bytes = [0, 0, 8, 0, 1, 1, 1, 1, 0, 0, 9, 0, 1, 1];
        let mut frames = Frames::new(View::new(&bytes, 36, "CEDT"), 0, Framing::Words);
        assert!(frames.next().unwrap().is_ok());
        assert_eq!(
            frames.next(),
            Some(Err(TableError::Truncated {
                record: "record",
                offset: 44,
                needed: 9,
                present: 6
            }))
        );
        assert_eq!(frames.next(), None);
    }

    #[test]
    fn a_length_below_its_own_header_ends_it() {
        for (framing, least) in [(Framing::Bytes, 2), (Framing::Words, 4), (Framing::Doubles, 8)] {
            for length in 0..least {
                let mut bytes = [0; 64];
                bytes[least as usize / 2] = length as u8;
                let mut frames = Frames::new(View::new(&bytes, 0, "table"), 0, framing);
                let expected = Expected::AtLeast(least);
                let error = TableError::Length { record: "record", offset: 0, length, expected };
                assert_eq!(frames.next(), Some(Err(error)));
                assert_eq!(frames.next(), None);
            }
        }
    }

    #[test]
    fn a_list_longer_than_the_record_is_refused() {
        let view = View::new(&[0; 20], 0x30, "CFMWS");
        assert_eq!(view.list::<u32>(4, 4).unwrap().len(), 4);
        assert_eq!(
            view.list::<u32>(4, 5),
            Err(TableError::Truncated { record: "CFMWS", offset: 0x30, needed: 24, present: 20 })
        );
        assert_eq!(
            view.list::<u64>(4, u64::MAX),
            Err(TableError::Truncated {
                record: "CFMWS",
                offset: 0x30,
                needed: u64::MAX,
                present: 20
            })
        );
    }
}
