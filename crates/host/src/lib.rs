//! A Linux machine, read from and written to sysfs and procfs under any root folder: a live
//! machine, or a tree that somebody captured for a bug report.
//!
//! * [`processes`]: the memory of programs on the kernel's nodes: where it is, and moving it.
//! * [`root`]: [`Root`], the folder that everything is read under.

#![forbid(unsafe_code)]

pub mod processes;
pub mod root;

pub use root::{ReadError, Root};
