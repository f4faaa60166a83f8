//! What can be wrong with a table: [`TableError`].

/// Why a table, or a record of it, cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// The bytes do not start with the table's name.
    #[error("the signature is {found:02x?}: expected {expected:02x?}")]
    Signature {
        /// What is there.
        found: [u8; 4],
        /// The name of the table asked for.
        expected: [u8; 4],
    },
    /// All bytes of the table do not add up to zero.
    #[error("{table}: the bytes add up to {sum:#04x}: expected 0 (modulo 256)")]
    Checksum {
        /// The table.
        table: &'static str,
        /// The sum.
        sum: u8,
    },
    /// Something ends before its last field, or states a length beyond the end of what holds it.
    #[error("{record} at {offset:#x} needs {needed} bytes: {present} are there")]
    Truncated {
        /// The table or record.
        record: &'static str,
        /// Where in the table it starts.
        offset: usize,
        /// How many bytes it needs, or says it has.
        needed: u64,
        /// How many are left.
        present: usize,
    },
    /// A record states a length that no record of its type has.
    #[error("{record} at {offset:#x} has length {length}: expected {expected}")]
    Length {
        /// The table or record.
        record: &'static str,
        /// Where in the table it starts.
        offset: usize,
        /// The length that it states.
        length: u64,
        /// What it should be.
        expected: Expected,
    },
    /// A field holds what it must not.
    #[error("{record} at {offset:#x}: {field} is {value:#x}: expected {expected}")]
    Value {
        /// The table or record.
        record: &'static str,
        /// Where in the table it starts.
        offset: usize,
        /// The field.
        field: &'static str,
        /// What it holds.
        value: u64,
        /// What it should hold.
        expected: &'static str,
    },
}

/// What a length should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expected {
    /// So many bytes.
    Exactly(u64),
    /// So many bytes or more.
    AtLeast(u64),
    /// So many bytes, and one or more times so many for the list behind them.
    ListOf {
        /// Bytes before the list.
        head: u64,
        /// Bytes of each element.
        element: u64,
    },
}

impl core::fmt::Display for Expected {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Exactly(bytes) => write!(f, "{bytes}"),
            Self::AtLeast(bytes) => write!(f, "{bytes} or more"),
            Self::ListOf { head, element } => {
                write!(f, "{head} and a positive multiple of {element}")
            }
        }
    }
}
