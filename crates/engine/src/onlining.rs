//! Which zone memory is onlined to: the rules of Linux's `mm/memory_hotplug.c`, integer-exact.
//!
//! What is onlined to ZONE_MOVABLE can leave again fairly reliably; what is onlined to a kernel
//! zone is possibly lost for ever; and a machine with too little kernel memory for its movable
//! memory fails. So the kernel keeps a ratio between the two. The rules, by the names they have
//! there, one file each:
//!
//! * [`zone_for_pfn_range`](self::zone_for_pfn_range::zone_for_pfn_range): what was asked for
//!   explicitly, else what the policy says.
//! * `default_zone_for_pfn`: the policy contig-zones.
//! * `auto_movable_zone_for_pfn`: the policy auto-movable, for one block.
//! * `auto_movable_can_online_movable`: whether the ratio bears so many movable pages more.
//! * `auto_movable_stats`: what is counted for that.
//! * [`memory`]: nodes, zones, groups of memory that are plugged together, blocks online.
//!
//! Two zones are here that Linux was offered and does not have, ZONE_PREFER_MOVABLE and ZONE_EXMEM.
//! Memory goes there when it is asked for explicitly, and with contig-zones where one of them is
//! the only zone that is there. For the ratio it is neither kernel memory, for it is not sure to be
//! there for the kernel, nor movable memory, for it needs no more kernel memory than it holds of
//! the kernel's; and a group with some of it is not all movable.
//!
//! Left out: `online_policy` cannot be changed half-way (the kernel allows it, and says not to),
//! and hardware zones below NORMAL are one kernel zone here: what is plugged never lies there.

mod auto_movable_can_online_movable;
mod auto_movable_stats;
mod auto_movable_zone_for_pfn;
mod default_zone_for_pfn;
pub mod memory;
#[cfg(test)]
mod tests;
pub mod zone_for_pfn_range;

pub use self::{
    memory::{Group, GroupId, GroupKind, Memory, OnlineError},
    zone_for_pfn_range::{AutoMovable, NumaAware, OnlinePolicy, OnlineType},
};
pub use memtide_units::OnlineZone;
