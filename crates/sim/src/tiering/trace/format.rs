//! The format of traces, written and read: see the module above.

use std::io::{self, BufRead, Write};

use super::{Access, MAGIC, PAGE_END, Record, SHIFT_MAX, SHIFT_MIN, TraceError, VERSION};

const KIND_BITS: u32 = 2;
const READ: u64 = 0b00;
const WROTE: u64 = 0b01;
const ACCESSOR: u64 = 0b10;
const END: u64 = 0b11;

/// Writes a trace.
#[derive(Debug)]
pub struct Writer<W> {
    into: W,
    offset: u64,
    page: u64,
    accessor: u32,
    records: u64,
}

impl<W: Write> Writer<W> {
    /// Begins a trace with pages of 2^`shift` bytes.
    ///
    /// # Errors
    /// [`TraceError::PageSize`], [`TraceError::Io`].
    pub fn new(into: W, shift: u8) -> Result<Self, TraceError> {
        if !(SHIFT_MIN..=SHIFT_MAX).contains(&shift) {
            return Err(TraceError::PageSize { found: shift });
        }
        let mut writer = Self { into, offset: 0, page: 0, accessor: 0, records: 0 };
        writer.put(&MAGIC)?;
        writer.put(&VERSION.to_le_bytes())?;
        writer.put(&[shift, 0])?;
        Ok(writer)
    }

    /// Writes the next record.
    ///
    /// # Errors
    /// [`TraceError::Page`]: then nothing is written; [`TraceError::Io`].
    pub fn write(&mut self, record: Record) -> Result<(), TraceError> {
        let Record { page, access, accessor } = record;
        if page >= PAGE_END {
            return Err(TraceError::Page { offset: self.offset, page: page.into() });
        }
        if accessor != self.accessor {
            self.put_varint(u64::from(accessor) << KIND_BITS | ACCESSOR)?;
            self.accessor = accessor;
        }
        let kind = match access {
            Access::Read => READ,
            Access::Write => WROTE,
        };
        // Both are below 2^58, so neither the difference nor its zigzag overflows.
        let difference = page as i64 - self.page as i64;
        let zigzag = (difference << 1 ^ difference >> 63) as u64;
        self.put_varint(zigzag << KIND_BITS | kind)?;
        self.page = page;
        self.records += 1;
        Ok(())
    }

    /// Writes the end, and gives back what was written to.
    ///
    /// # Errors
    /// [`TraceError::Io`].
    pub fn finish(mut self) -> Result<W, TraceError> {
        self.put_varint(END)?;
        self.put_varint(self.records)?;
        self.into.flush().map_err(|error| TraceError::Io { offset: self.offset, error })?;
        Ok(self.into)
    }

    fn put_varint(&mut self, mut value: u64) -> Result<(), TraceError> {
        let mut bytes = [0; 10];
        let mut length = 0;
        loop {
            let more = value >> 7 != 0;
            bytes[length] = value as u8 & 0x7f | if more { 0x80 } else { 0 };
            length += 1;
            value >>= 7;
            if !more {
                return self.put(&bytes[..length]);
            }
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), TraceError> {
        let done = self.into.write_all(bytes);
        done.map_err(|error| TraceError::Io { offset: self.offset, error })?;
        self.offset += bytes.len() as u64;
        Ok(())
    }
}

/// Reads a trace, record by record. After a mistake it gives nothing more.
#[derive(Debug)]
pub struct Reader<R> {
    from: R,
    shift: u8,
    offset: u64,
    page: u64,
    accessor: u32,
    records: u64,
    over: bool,
}

impl<R: BufRead> Reader<R> {
    /// Reads the beginning.
    ///
    /// # Errors
    /// [`TraceError`]: what is wrong with it.
    pub fn new(from: R) -> Result<Self, TraceError> {
        let mut reader =
            Self { from, shift: 0, offset: 0, page: 0, accessor: 0, records: 0, over: false };
        let found: [u8; 8] = reader.exact()?;
        if found != MAGIC {
            return Err(TraceError::Magic { found });
        }
        let found = u16::from_le_bytes(reader.exact()?);
        if found != VERSION {
            return Err(TraceError::Version { found });
        }
        let [shift] = reader.exact()?;
        if !(SHIFT_MIN..=SHIFT_MAX).contains(&shift) {
            return Err(TraceError::PageSize { found: shift });
        }
        let [found] = reader.exact()?;
        if found != 0 {
            return Err(TraceError::Reserved { found });
        }
        Ok(Self { shift, ..reader })
    }

    /// The page size, as a power of two.
    #[must_use]
    pub const fn shift(&self) -> u8 {
        self.shift
    }

    fn record(&mut self) -> Result<Option<Record>, TraceError> {
        loop {
            let offset = self.offset;
            let value = self.varint()?;
            let above = value >> KIND_BITS;
            match value & END {
                ACCESSOR => {
                    let number = u32::try_from(above);
                    let wrong = |_| TraceError::Accessor { offset, accessor: above };
                    self.accessor = number.map_err(wrong)?;
                }
                END if above != 0 => return Err(TraceError::End { offset, found: value }),
                END => return self.end(),
                kind => return self.access(offset, above, kind).map(Some),
            }
        }
    }

    fn access(&mut self, offset: u64, zigzag: u64, kind: u64) -> Result<Record, TraceError> {
        let difference = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
        let page = i128::from(self.page) + i128::from(difference);
        let known = u64::try_from(page).ok().filter(|&page| page < PAGE_END);
        self.page = known.ok_or(TraceError::Page { offset, page })?;
        self.records += 1;
        let access = if kind == WROTE { Access::Write } else { Access::Read };
        Ok(Record { page: self.page, access, accessor: self.accessor })
    }

    fn end(&mut self) -> Result<Option<Record>, TraceError> {
        let (said, found) = (self.varint()?, self.records);
        if said != found {
            return Err(TraceError::Count { found, said });
        }
        if self.byte()?.is_some() {
            return Err(TraceError::Trailing { offset: self.offset - 1 });
        }
        Ok(None)
    }

    fn varint(&mut self) -> Result<u64, TraceError> {
        let begin = self.offset;
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.exact()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && byte > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(TraceError::Varint { offset: begin })
    }

    fn exact<const N: usize>(&mut self) -> Result<[u8; N], TraceError> {
        let mut bytes = [0; N];
        for byte in &mut bytes {
            *byte = self.byte()?.ok_or(TraceError::Truncated { offset: self.offset })?;
        }
        Ok(bytes)
    }

    /// The next byte; none at the end of the input.
    fn byte(&mut self) -> Result<Option<u8>, TraceError> {
        let byte = loop {
            match self.from.fill_buf() {
                Ok(bytes) => break bytes.first().copied(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(TraceError::Io { offset: self.offset, error }),
            }
        };
        if byte.is_some() {
            self.from.consume(1);
            self.offset += 1;
        }
        Ok(byte)
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Record, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let record = self.record();
        self.over = !matches!(record, Ok(Some(_)));
        record.transpose()
    }
}

#[cfg(test)]
mod tests {
    use memtide_units::Random;

    use super::*;

    fn random_records(random: &mut Random) -> Vec<Record> {
        let spread = 1 << random.below(58);
        let accessors = 1 + random.below(3);
        let record = |_| Record {
            page: random.below(spread),
            access: [Access::Read, Access::Write][random.below(2) as usize],
            accessor: random.below(accessors) as u32 * 0x5555_5555,
        };
        (0..60).map(record).collect()
    }

    fn written(records: &[Record]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), 12).unwrap();
        records.iter().for_each(|&record| writer.write(record).unwrap());
        writer.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> Result<Vec<Record>, TraceError> {
        Reader::new(bytes)?.collect()
    }

    #[test]
    fn what_is_written_is_read() {
        for seed in 0..200 {
            let records = random_records(&mut Random::new(seed));
            assert_eq!(read(&written(&records)).unwrap(), records, "seed {seed}");
        }
        let ends = [0, PAGE_END - 1, 0, PAGE_END - 1];
        let record = |page| Record { page, access: Access::Write, accessor: u32::MAX };
        let ends = ends.map(record);
        assert_eq!(read(&written(&ends)).unwrap(), ends);
    }

    /// Byte by byte: what others write must be this.
    #[test]
    fn the_format_is_as_documented() {
        let record = |page, access, accessor| Record { page, access, accessor };
        let records =
            [record(5, Access::Read, 0), record(3, Access::Write, 7), record(40, Access::Read, 7)];
        let expected = [
            &b"MTTRACE\0"[..],
            &[1, 0, 12, 0],
            // +5 is 10; accessor 7; -2 is 3; +37 is 74.
            &[10 << 2],
            &[7 << 2 | 2],
            &[3 << 2 | 1],
            &[(74 << 2 & 0x7f) as u8 | 0x80, 2],
            &[3, 3],
        ];
        assert_eq!(written(&records), expected.concat());
    }

    #[test]
    fn every_cut_is_found() {
        let bytes = written(&random_records(&mut Random::new(3)));
        for length in 0..bytes.len() {
            let error = read(&bytes[..length]).unwrap_err();
            let at = length as u64;
            let cut = matches!(error, TraceError::Truncated { offset } if offset == at);
            assert!(cut, "{length}: {error}");
        }
    }

    /// Any bytes: an error or records, no panic, no more records than bytes, and what was read
    /// can be written and read again.
    #[test]
    fn hostile_bytes_do_no_harm() {
        let mut random = Random::new(99);
        let mut accepted = 0;
        for round in 0..20_000 {
            let mut bytes = written(&random_records(&mut random));
            for _ in 0..=random.below(3) {
                let at = random.below(bytes.len() as u64) as usize;
                match random.below(3) {
                    0 => bytes[at] = random.next() as u8,
                    1 => bytes[at] ^= 1 << random.below(8),
                    _ => drop(bytes.remove(at)),
                }
            }
            if round % 2 == 0 {
                let tail = 12 + random.below(40) as usize;
                bytes.truncate(tail);
                bytes.extend((0..random.below(30)).map(|_| random.next() as u8));
            }
            if let Ok(records) = read(&bytes) {
                accepted += 1;
                assert!(records.len() <= bytes.len(), "round {round}");
                assert_eq!(read(&written(&records)).unwrap(), records, "round {round}");
            }
        }
        assert!(accepted > 100, "only {accepted} of the mutants were traces");
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let good = written(&[Record { page: 1, access: Access::Read, accessor: 0 }]);
        let with = |at: usize, bytes: &[u8]| [&good[..at], bytes].concat();
        let cases: [(Vec<u8>, &str); 10] = [
            (b"MTTRACE1....".to_vec(), "begins with"),
            (with(8, &[2, 0]), "version 2; expected 1"),
            (with(10, &[5]), "pages of 2^5 bytes; expected an exponent from 6 to 30"),
            (with(11, &[9]), "offset 11: byte 0x09"),
            (with(12, &[0xff; 11]), "offset 12: a varint of more than 64 bits"),
            (with(12, &[1 << 2]), "offset 12: page -1; expected 0 to 288230376151711743"),
            (
                with(12, &[0xfe, 0xff, 0xff, 0xff, 0xff, 0x0f]),
                "offset 12: accessor 137438953471; expected 4294967295 at most",
            ),
            (with(12, &[7, 0]), "offset 12: the end is marked 0x7; expected 0x3"),
            (with(13, &[3, 2]), "1 records; expected 2, as the end says"),
            (with(13, &[3, 1, 0]), "offset 15: bytes after the end"),
        ];
        for (bytes, expected) in cases {
            // Too few bytes are found first, otherwise.
            let padded =
                if bytes.len() < 12 { [&bytes, &good[bytes.len()..]].concat() } else { bytes };
            let error = read(&padded).unwrap_err().to_string();
            assert!(error.contains(expected), "{error:?} lacks {expected:?}");
        }
    }

    #[test]
    fn nothing_comes_after_a_mistake() {
        let mut bytes = written(&random_records(&mut Random::new(1)));
        bytes.truncate(40);
        let mut reader = Reader::new(&bytes[..]).unwrap();
        assert!(reader.find(Result::is_err).is_some());
        assert!(reader.next().is_none());
    }

    #[test]
    fn a_page_out_of_range_is_not_written() {
        let mut writer = Writer::new(Vec::new(), 12).unwrap();
        let record = Record { page: PAGE_END, access: Access::Read, accessor: 1 };
        assert!(matches!(writer.write(record), Err(TraceError::Page { offset: 12, .. })));
        assert_eq!(read(&writer.finish().unwrap()).unwrap(), []);
        assert!(matches!(Writer::new(Vec::new(), 31), Err(TraceError::PageSize { found: 31 })));
    }
}
