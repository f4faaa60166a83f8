//! Taking memory blocks online, zone by zone.
//!
//! Which zone a block goes to decides whether it can ever leave again. The kernel decides that
//! either for each block by itself (`echo online`) or is told (`online_movable`,
//! `online_kernel`); here it is always told. A policy is worked out by the engine's own rules
//! from the state of the machine ([`state`]), and so what memtide decides and what the kernel
//! would have decided (the first of `valid_zones`) stand side by side.
//!
//! * [`policy`]: by what the zone is chosen. [`state`]: the machine as the rules see it.
//! * [`mod@plan`]: which blocks, in which order; the writes.
//! * [`explain`]: what it means when the kernel refuses a block.
//!
//! ZONE_PREFER_MOVABLE is not offered: Linux has no such zone, and nothing that is written to a
//! block makes one.

pub mod explain;
pub mod plan;
pub mod policy;
pub mod state;

pub use self::{
    explain::BlockRefusal,
    plan::{OnlineError, OnlinePlan, OnlineWish, Placed, Which, plan},
    policy::How,
};
