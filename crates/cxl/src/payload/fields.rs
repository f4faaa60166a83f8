//! Fields in their order, to bytes and from bytes.
//!
//! [`Fields`] checks a length once, for all fields of known size at once; taking them cannot fail
//! after that. A list names its count first: [`Fields::list`] compares it with what is left, and
//! only then makes room.

use alloc::vec::Vec;

use super::{CAPACITY_UNIT, DecodeError};

/// Something of one size, alone or in a list.
pub(crate) trait Record: Sized {
    /// How many bytes.
    const SIZE: usize;

    /// Appends exactly so many.
    fn write(&self, out: &mut Writer<'_>);

    /// Takes exactly so many, which are there.
    fn read(fields: &mut Fields<'_>) -> Result<Self, DecodeError>;
}

/// Makes records messages of their own: `fixed_size!(GetTags = "the request", …)`.
macro_rules! fixed_size {
    ($($type:ty = $what:literal),+ $(,)?) => {$(
        impl $crate::payload::Payload for $type {
            fn encode(&self, out: &mut alloc::vec::Vec<u8>) {
                let mut out = $crate::payload::Writer(out);
                $crate::payload::Record::write(self, &mut out);
            }

            fn decode(bytes: &[u8]) -> Result<Self, $crate::payload::DecodeError> {
                let size = <Self as $crate::payload::Record>::SIZE;
                let mut fields = $crate::payload::Fields::exactly($what, bytes, size)?;
                $crate::payload::Record::read(&mut fields)
            }
        }
    )+};
}
pub(crate) use fixed_size;

/// Appends fields.
pub(crate) struct Writer<'a>(pub &'a mut Vec<u8>);

impl Writer<'_> {
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes(&[value])
    }

    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    /// So many reserved bytes.
    pub fn reserved(&mut self, bytes: usize) -> &mut Self {
        self.0.resize(self.0.len() + bytes, 0);
        self
    }

    /// Bytes, sent in units of 256 MiB.
    pub fn capacity(&mut self, bytes: u64) -> &mut Self {
        assert!(bytes.is_multiple_of(CAPACITY_UNIT), "{bytes:#x} bytes: no multiple of 256 MiB");
        self.u64(bytes / CAPACITY_UNIT)
    }

    /// How many `list` has, in one byte.
    pub fn count8<T>(&mut self, list: &[T]) -> &mut Self {
        self.u8(u8::try_from(list.len()).expect("a list of at most 255"))
    }

    /// How many `list` has, in two bytes.
    pub fn count16<T>(&mut self, list: &[T]) -> &mut Self {
        self.u16(u16::try_from(list.len()).expect("a list of at most 65535"))
    }

    /// How many `list` has, in four bytes.
    pub fn count32<T>(&mut self, list: &[T]) -> &mut Self {
        self.u32(u32::try_from(list.len()).expect("a list of at most 4294967295"))
    }

    pub fn record(&mut self, record: &impl Record) -> &mut Self {
        record.write(self);
        self
    }

    pub fn list(&mut self, list: &[impl Record]) -> &mut Self {
        self.0.reserve(list.iter().map(size).sum());
        list.iter().for_each(|record| record.write(self));
        self
    }
}

fn size<T: Record>(_: &T) -> usize {
    T::SIZE
}

/// Takes fields off the front of a message.
pub(crate) struct Fields<'a> {
    what: &'static str,
    /// How long the message is.
    bytes: usize,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Of a message that has this many bytes, and no others.
    pub fn exactly(
        what: &'static str,
        bytes: &'a [u8],
        expected: usize,
    ) -> Result<Self, DecodeError> {
        if bytes.len() != expected {
            return Err(DecodeError::Length { what, bytes: bytes.len(), expected });
        }
        Ok(Self { what, bytes: bytes.len(), rest: bytes })
    }

    /// Of a message that starts with this many bytes. The rest of it goes by a count in them.
    pub fn at_least(
        what: &'static str,
        bytes: &'a [u8],
        expected: usize,
    ) -> Result<Self, DecodeError> {
        if bytes.len() < expected {
            return Err(DecodeError::Length { what, bytes: bytes.len(), expected });
        }
        Ok(Self { what, bytes: bytes.len(), rest: bytes })
    }

    /// Takes `count` records, after which `tail` bytes are left and no others.
    pub fn list<T: Record>(&mut self, count: u32, tail: usize) -> Result<Vec<T>, DecodeError> {
        self.must_follow((count as usize).saturating_mul(T::SIZE).saturating_add(tail))?;
        (0..count).map(|_| T::read(self)).collect()
    }

    /// Takes all that is left, which is this many bytes.
    pub fn payload(&mut self, bytes: usize) -> Result<&'a [u8], DecodeError> {
        self.must_follow(bytes)?;
        Ok(core::mem::take(&mut self.rest))
    }

    /// Checks that this many bytes are left.
    fn must_follow(&self, bytes: usize) -> Result<(), DecodeError> {
        if self.rest.len() == bytes {
            return Ok(());
        }
        let before = self.bytes - self.rest.len();
        Err(DecodeError::Length {
            what: self.what,
            bytes: self.bytes,
            expected: before.saturating_add(bytes),
        })
    }

    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self.rest.split_first_chunk().expect("the length was checked");
        self.rest = rest;
        *field
    }

    pub fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.bytes())
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.bytes())
    }

    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.bytes())
    }

    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes())
    }

    /// Passes so many reserved bytes.
    pub fn reserved(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).expect("the length was checked");
    }

    /// Bytes, sent in units of 256 MiB.
    pub fn capacity(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        let value = self.u64();
        let expected = "a number of 256 MiB below 2^64 bytes";
        value.checked_mul(CAPACITY_UNIT).ok_or(DecodeError::Field { field, value, expected })
    }
}
