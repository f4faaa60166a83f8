//! Inside a program: maps leased memory, moves it live, keeps fork's meaning.
//!
//! The design is in `docs/mechanism.md`. This crate decides nothing: which pageblock a program
//! gets and where it moves is the daemon's business. It refuses unsafe code: all that touches
//! mappings goes through the checked types of `memtide-sys`.
//!
//! What program threads use:
//! * [`memory`]: the arena and its lock; promises and posts to the pager.
//! * [`space`]: what is carved out of the arena, pure. [`blocks`]: what is behind it.
//! * [`calls`]: the mmap family. [`fork`]: the handlers around fork. [`mod@start`]: the beginning.
//!
//! The pager thread:
//! * [`pager`]: its loop. [`mailbox`]: how it is reached. [`link`], [`join`], [`daemon_link`]: the
//!   daemon. [`promises`]: what it has promised. [`nodes`], [`stock`]: files and leased pageblocks.
//! * [`touch`]: first touches. [`idle`]: giving back. [`pins`]: what cannot move.
//! * [`moves`], [`move_block`], [`wakeups`]: live moves. [`freeze`], [`thaw`]: around a fork.
//! * [`lost`]: memory whose device is gone. [`inject`]: faults on purpose.

#![forbid(unsafe_code)]

pub mod blocks;
pub mod calls;
mod daemon_link;
pub mod fork;
mod freeze;
mod idle;
mod inject;
mod join;
mod link;
mod lost;
mod mailbox;
pub mod memory;
mod move_block;
mod moves;
mod nodes;
mod pager;
mod pins;
mod promises;
pub mod space;
pub mod start;
mod stock;
mod thaw;
mod touch;
mod wakeups;

pub use blocks::{Block, Blocks, Frame};
pub use memory::{Guard, Memory, State};
pub use start::{StartError, start};
