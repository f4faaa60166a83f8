//! The page-frame allocator: zones, movability, hot-plug.
//!
//! A node is a span of page frames of 4 KiB, up to 128 TiB of them, parts of which come and go.
//! This crate keeps which of them are taken, hands out blocks of 2^k frames from 4 KiB (order 0)
//! to 1 GiB (order 18) and ranges of any length, and sees to it that what can move, what cannot,
//! and what is about to leave do not get into each other's way. It is meant for hypervisors,
//! unikernels, databases, and for memtide's engine.
//!
//! ```
//! use memtide_frames::{
//!     AtomicU64, Frames, Geometry, Layout, Movability, Order, Pfn, Request, Zone,
//! };
//!
//! // A node of 1 GiB from 4 GiB on, in blocks of 128 MiB, for two cores.
//! let geometry =
//!     Geometry { first: Pfn(1 << 20), frames: 1 << 18, block_frames: 1 << 15, cores: 2 };
//! let words = Layout::new(geometry)?.words() + Layout::WORDS_SPARE;
//! let memory: Vec<AtomicU64> = (0..words).map(|_| AtomicU64::new(0)).collect();
//! let frames = Frames::new(geometry, &memory)?;
//! frames.add(frames.span(), Zone::Normal)?;
//!
//! let mut core = frames.core(0)?;
//! let page = core.take(Request::new(Order::FRAME, Movability::Movable))?;
//! let huge = core.take(Request::new(Order::PAGEBLOCK, Movability::Unmovable))?;
//! assert!(huge.pfn().is_aligned(Order::PAGEBLOCK));
//! core.give(page).expect("taken of this node");
//! drop(huge); // goes back as well
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The idea
//! Linux's buddy allocator keeps free blocks in lists under a lock; LLFree (USENIX ATC 2023) keeps
//! them in bitmaps without one. Both pay for each frame. Here
//! * **a pageblock has one owner at a time**, and only the owner takes frames out of it. So taking
//!   needs no agreement: one addition to a bitmap takes up to 32 frames, which a core hands out
//!   from its record with plain loads and stores;
//! * **anybody frees anywhere**, by one subtraction from a bitmap, and frames of one word together;
//! * **the bit in an index is the pageblock**: clearing it is owning it. The indexes (free, partly
//!   free by movability and fullness) are lock-free hierarchies of bitmaps whose height is all
//!   that grows with memory;
//! * **what is freed is not what is taken next**: frames come from the fullest pageblocks, so that
//!   a program that frees at random and takes again packs its memory, and 2 MiB blocks come back.
//!
//! And a block is a value: [`Frame`] is owned, not `Clone`, and giving it back consumes it. So no
//! look at memory is needed to know that nobody gives it back twice. Who needs plain numbers pays
//! two atomic operations for having them checked.
//!
//! # What it refuses
//! To allocate: all metadata, 0.6 bytes a frame, is memory of the caller (descriptors of 8 bytes
//! a frame are extra). To touch the frames themselves. To call back. To know who asks: no policy,
//! no tenants, no time. And whatever is wrong: a number that nobody holds, another order, a range
//! that is not there are refused with an error that carries the numbers, in every build, and
//! nothing changes.
//!
//! # Where is what
//! * Asking: [`request`], [`zone`] (which request lands where), [`search`](self) (from which
//!   pageblock), [`cache`] (a core's frames), `shared` (without a core), [`reserve`].
//! * Owning: [`frame`], `number` (held by its number), `split`, [`at`] (named blocks and ranges).
//! * Coming and going: [`plug`] (add, isolate, remove), [`retire`] (poison and holes),
//!   [`occupants`] and [`plan`] (what is in the way, and what moving it costs), [`watermark`].
//! * Inside: `entry` (a word for each pageblock), `claim` (owning one), `blocks` (within one),
//!   `huge` (whole ones), `refill` (of a core's cache), `index`, `bits`, `record`, `dedication`,
//!   [`layout`], [`frames`].
//! * Looking: [`stats`], [`dump`], [`descriptor`], and [`Frames::validate`].
//! * [`recover`]: metadata that outlives a crash.
//!
//! # Threads
//! Everything but a [`Core`] may be used by all threads at once. Freeing waits for nobody, unless a
//! frame that somebody has is to be retired. A core takes its own lock when it looks for a
//! pageblock; others take it when memory is short, a block is being emptied, or a frame is named.
//! The locks spin: who has one waits for nobody, but may be preempted. A core that is forgotten
//! (`mem::forget`) keeps what it caches until the node is recovered.

#![forbid(unsafe_code)]
#![no_std]

#[cfg(test)]
extern crate std;

pub mod at;
mod bits;
mod blocks;
pub mod cache;
mod claim;
#[cfg(all(test, not(loom)))]
mod crash;
pub mod dedication;
pub mod descriptor;
pub mod dump;
mod entry;
pub mod error;
pub mod frame;
pub mod frames;
mod huge;
mod index;
pub mod layout;
#[cfg(all(test, loom))]
mod loom;
mod number;
pub mod occupants;
pub mod plan;
pub mod plug;
mod primitive;
mod record;
pub mod recover;
mod refill;
pub mod request;
pub mod reserve;
pub mod retire;
mod search;
mod shared;
mod split;
pub mod stats;
mod validate;
pub mod watermark;
pub mod zone;

pub use crate::{
    at::Run,
    cache::{CACHE_FRAMES, Core},
    dedication::Dedication,
    descriptor::{Descriptor, DescriptorError, Descriptors, DescriptorsError},
    dump::Dump,
    error::{CoreError, FrameError, GiveError, LayoutError, PlugError, TakeAtError, TakeError},
    frame::Frame,
    frames::Frames,
    layout::{Geometry, Layout},
    occupants::{Kind, Occupancy, Occupant, Occupants},
    plan::Plan,
    primitive::AtomicU64,
    recover::Recovered,
    request::{Movability, Request, Urgency, Want},
    reserve::Reservation,
    retire::Retirement,
    stats::{Counts, Leakage, Statistics, ZoneStatistics},
    watermark::{Crossing, Pressure, WatermarkError, Watermarks},
    zone::{Channel, Zone, Zones},
};
pub use memtide_units::{FrameRange, Order, Pfn};
