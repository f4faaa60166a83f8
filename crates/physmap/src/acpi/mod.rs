//! The firmware tables that say what memory there is: CEDT, SRAT, HMAT and SLIT.
//!
//! A table is bytes from firmware, and firmware errs: a length that reaches beyond the table, a
//! record too short for its fields, a matrix of four thousand million rows. So nothing is trusted
//! before it is compared with what is there. A reader is a view over the borrowed bytes and
//! copies nothing; records come from an iterator, each either whole or an error that names the
//! record, where it lies, and what was expected.
//!
//! * [`cursor`]: fields and records of bytes.
//! * [`error`]: what can be wrong with them.
//! * [`header`]: the 36 bytes at the start of each table, its signature, length and checksum.
//! * [`cedt`]: CXL's host bridges and windows.
//! * [`srat`]: which memory and processors belong together.
//! * [`hmat`]: latency and bandwidth between them.
//! * [`slit`]: distances between them, as one number.
//!
//! A record of an unknown type is handed out as such, with its place and length: newer firmware
//! is no error, but neither is it silently left out. After a record whose length makes no sense
//! nothing can be found any more: the iterator says so and ends. A record with a sensible length
//! and senseless contents costs only itself.
//!
//! What a table *means* is decided as Linux decides it, and the function is named where it is
//! done; what Linux ignores (a wrong checksum, for one) is a check of its own here.

pub mod cedt;
pub mod cursor;
pub mod error;
pub mod header;
pub mod hmat;
pub mod slit;
pub mod srat;

pub use cursor::{List, Unknown};
pub use error::{Expected, TableError};
pub use header::Table;
