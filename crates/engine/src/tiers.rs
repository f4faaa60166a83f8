//! Memory tiers by abstract distance, and what each accessor has to each node.
//!
//! Two views of the same question, which memory is better. A *tier* is the view of the processors:
//! one number for each node, from its latency and bandwidth as they see them, cut into steps; nodes
//! on one step are as good as each other, and cold pages go a step down. That is enough as long as
//! processors are the only ones that read and write. Where devices do too, far memory of the one is
//! near memory of the other, and only who accesses a page how often can say where it should lie.
//!
//! * [`abstract_distance`]: one number from latency and bandwidth.
//! * [`memory_tier`]: which nodes are on one step, and where a step down leads to.
//! * [`accessor`]: what a page costs on each node, by who accesses it.

pub mod abstract_distance;
pub mod accessor;
pub mod memory_tier;

pub use self::{
    abstract_distance::{AdistanceError, DramReference},
    accessor::{Access, AccessTable, Cost},
    memory_tier::{MemoryTiers, TierNode},
};
