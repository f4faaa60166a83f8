//! A Linux machine, read from and written to sysfs and procfs under any root folder: a live
//! machine, or a tree that somebody captured for a bug report.
//!
//! * [`root`]: [`Root`], the folder that everything is read under.

#![forbid(unsafe_code)]

pub mod root;

pub use root::{ReadError, Root};
