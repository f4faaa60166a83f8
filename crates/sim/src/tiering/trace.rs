//! Traces: what a real program accessed, to be replayed.
//!
//! The format is compact and read as a stream. All numbers are little-endian; a *varint* is
//! LEB128: seven bits a byte, the lowest first, the top bit set on all bytes but the last, ten
//! bytes at most and no more than 64 bits.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `MTTRACE` and a zero byte |
//! | 2 | version: 1 |
//! | 1 | page size, as a power of two: 6 (a line) to 30 |
//! | 1 | zero |
//! | … | records |
//! | 1 | the end: `03` |
//! | varint | the number of records |
//!
//! A record is a varint whose two lowest bits say what it is: `00` a read, `01` a write, of the
//! page that the bits above say, as the difference from the page before (of 0 for the first),
//! zigzag (0, −1, 1, −2, … as 0, 1, 2, 3, …). `10`: the bits above are the number of the
//! accessor that makes the accesses from here on; it is 0 before the first. `11`: the end.
//!
//! A trace is hostile input. A reader looks at one record at a time, gives the first mistake with
//! its offset, and stops. [`lackey`] reads what valgrind writes; [`cache`] leaves out what never
//! reaches memory.

pub mod cache;
mod format;
pub mod lackey;
mod recorded;

use std::io;

pub use self::{
    format::{Reader, Writer},
    recorded::Recorded,
};
use super::config::PAGES_MAX;

const MAGIC: [u8; 8] = *b"MTTRACE\0";
const VERSION: u16 = 1;
/// The smallest page, as a power of two: a line.
pub const SHIFT_MIN: u8 = 6;
/// The largest page, as a power of two.
pub const SHIFT_MAX: u8 = 30;
/// Pages have smaller numbers than this: 64-bit addresses of lines.
pub const PAGE_END: u64 = 1 << (64 - SHIFT_MIN as u32);
/// Bytes of a trace that is replayed at most: what lackey writes has some 15 for a record, and
/// most of it is left out.
pub const BYTES_MAX: u64 = 1 << 34;
/// Records of a trace that is replayed at most.
pub const RECORDS_MAX: usize = 1 << 28;

/// An access of a trace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    /// The page's number: an address divided by the trace's page size.
    pub page: u64,
    /// What was done.
    pub access: Access,
    /// Who did it: a thread, or a device.
    pub accessor: u32,
}

/// What an access does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Access {
    /// Reads.
    Read,
    /// Writes, or reads and writes.
    Write,
}

/// Why something is no trace, or none that can be replayed. Offsets are in bytes from the start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// Reading or writing failed.
    #[error("offset {offset}: {error}")]
    Io {
        /// Where.
        offset: u64,
        /// Why.
        error: io::Error,
    },
    /// It ends before its end.
    #[error("offset {offset}: ends in the middle; expected more")]
    Truncated {
        /// Where.
        offset: u64,
    },
    /// It begins otherwise.
    #[error("begins with {found:02x?}; expected {MAGIC:02x?}")]
    Magic {
        /// How.
        found: [u8; 8],
    },
    /// Of a version that is not known.
    #[error("version {found}; expected {VERSION}")]
    Version {
        /// Which.
        found: u16,
    },
    /// A page size out of range.
    #[error("pages of 2^{found} bytes; expected an exponent from {SHIFT_MIN} to {SHIFT_MAX}")]
    PageSize {
        /// The exponent.
        found: u8,
    },
    /// A byte that is to be zero.
    #[error("offset 11: byte {found:#04x}; expected 0x00")]
    Reserved {
        /// What it is.
        found: u8,
    },
    /// A varint that is too long.
    #[error("offset {offset}: a varint of more than 64 bits")]
    Varint {
        /// Where it begins.
        offset: u64,
    },
    /// A page whose number is out of range.
    #[error("offset {offset}: page {page}; expected 0 to {}", PAGE_END - 1)]
    Page {
        /// Where.
        offset: u64,
        /// The page.
        page: i128,
    },
    /// An accessor whose number is out of range.
    #[error("offset {offset}: accessor {accessor}; expected {} at most", u32::MAX)]
    Accessor {
        /// Where.
        offset: u64,
        /// The number.
        accessor: u64,
    },
    /// Bits of the end that are to be zero.
    #[error("offset {offset}: the end is marked {found:#x}; expected 0x3")]
    End {
        /// Where.
        offset: u64,
        /// What stands there.
        found: u64,
    },
    /// The number of records is not what the end says.
    #[error("{found} records; expected {said}, as the end says")]
    Count {
        /// Records that were read.
        found: u64,
        /// What the end says.
        said: u64,
    },
    /// Something comes after the end.
    #[error("offset {offset}: bytes after the end")]
    Trailing {
        /// Where.
        offset: u64,
    },
    /// A line of lackey's that is none of its.
    #[error("line {line}: {problem}")]
    Line {
        /// Which, from 1.
        line: u64,
        /// What is wrong with it.
        problem: lackey::Wrong,
    },
    /// More than can be replayed.
    #[error("more than {RECORDS_MAX} records")]
    TooManyRecords,
    /// More pages than can be simulated.
    #[error("more than {PAGES_MAX} pages")]
    TooManyPages,
    /// Nothing to replay.
    #[error("no records; expected some")]
    Empty,
    /// Pages that are larger than those of the simulation.
    #[error("pages of 2^{found} bytes; expected 2^{most} at most, as the scenario has")]
    Coarse {
        /// The trace's exponent.
        found: u8,
        /// The scenario's.
        most: u8,
    },
}
