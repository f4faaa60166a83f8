//! Nodes: what sort they are, and in which order one falls back from one to the next.
//!
//! A node's *class* says who reaches it. *Public* memory serves every request. *Special* memory
//! (coherent memory of a device; Linux's proposal of 2017 called it CDM) serves whoever names it,
//! and others at most in an emergency. *Private* memory (the proposal of 2026) serves only those
//! that bind to it, if its owner lets users do that at all.
//!
//! * [`class`]: the classes, and what the owner of a private node permits.
//! * [`cpuset`]: which nodes control groups divide up.
//! * [`node_states`]: which nodes have memory, and of what class it is.
//! * [`nodemask`]: sets of nodes, and how people write them.
//! * [`zonelist`]: the order of fallback, as `build_zonelists` makes it.

pub mod class;
pub mod cpuset;
pub mod node_states;
pub mod nodemask;
pub mod zonelist;

pub use self::{
    class::{Capabilities, Capability, CapabilityError, NodeClass},
    node_states::{NodeStateError, NodeStates},
    nodemask::{NodeMask, ParseMaskError},
    zonelist::{LOCAL_DISTANCE, ZonelistError, Zonelists},
};
