//! A Linux machine, read from and written to sysfs and procfs under any root folder: a live
//! machine, or a tree that somebody captured for a bug report.
//!
//! * [`root`]: [`Root`], the folder that everything is read under.
//! * [`memory_blocks`]: what goes online and offline. [`dax`]: devices that provide memory.
//!   [`memory_groups`]: which blocks came together.
//! * [`online`], [`offline`]: taking blocks there, and which zone they go to.
//! * [`plan`]: how anything is changed: planned, carried out, taken back.

#![forbid(unsafe_code)]

pub mod dax;
pub mod memory_blocks;
pub mod memory_groups;
pub mod offline;
pub mod online;
pub mod plan;
pub mod root;

pub use memory_blocks::{BlockId, BlockState, MemoryBlock, MemoryBlocks, Zone};
pub use root::{ReadError, Root};
