//! The frames of one node, in pageblocks.
//!
//! A node is a span of pageblocks. They come and go in *blocks* (the unit of hot-plug, a power of
//! two of pageblocks), and are handed out and taken back one by one. This crate keeps, for one
//! node, which pageblock is in which state, and finds free ones quickly; it knows nothing of who
//! asks, why, or what comes next: no policy, no tenants, no time.
//!
//! * [`frames`]: [`Frames`], the allocator.
//! * `runs`: the index of free runs by place and by length.

#![forbid(unsafe_code)]
#![no_std]

extern crate alloc;

pub mod frames;
mod runs;

pub use frames::{BlockState, Counts, Frames, LayoutError, PageblockState};
