//! The nouns that every other memtide crate speaks.
//!
//! A number that means something has a type of its own: a pageblock is not a node, a size is
//! not an instant. The crate has no I/O and no dependencies (`serde` is an optional feature for
//! the crates that send these nouns somewhere).
//!
//! * [`address`]: [`PhysAddr`] and [`PhysRange`], with inclusive ends.
//! * [`size`]: [`ByteSize`], its text form (`256M`, `4GiB`) and its errors.
//! * [`block`]: [`Pageblock`] (2 MiB) and [`Extent`], a run of them.
//! * [`dynamic_capacity`]: [`DpaRange`], [`Tag`] and [`DcExtent`], as CXL devices offer them.
//! * [`frame`]: [`Pfn`] (4 KiB), [`Order`] and [`FrameRange`].
//! * [`id`]: names of nodes, images, members, tokens, moves and requests.
//! * [`hold`]: why memory cannot leave ([`HoldReason`]).
//! * [`random`]: [`Random`], numbers that are the same in every run of a seed.
//! * [`time`]: [`Instant`], a point of time that somebody else measured.
//! * [`zone`]: [`OnlineZone`], what may lie in a block.

#![forbid(unsafe_code)]
#![no_std]

extern crate alloc;

pub mod address;
pub mod block;
pub mod dynamic_capacity;
pub mod frame;
pub mod hold;
pub mod id;
pub mod random;
pub mod size;
pub mod time;
pub mod zone;

pub use address::{PhysAddr, PhysRange};
pub use block::{Extent, PAGE_BYTES, PAGEBLOCK_BYTES, PAGES_PER_PAGEBLOCK, Pageblock};
pub use dynamic_capacity::{DcExtent, DpaRange, Tag};
pub use frame::{FrameRange, Order, OrderError, Pfn};
pub use hold::HoldReason;
pub use id::{
    AccessorId, ImageId, MemberId, MoveId, NodeId, NodeKind, RequestId, TenantId, TokenId,
};
pub use random::Random;
pub use size::{ByteSize, ParseSizeError};
pub use time::Instant;
pub use zone::OnlineZone;
