//! The memory of programs on the kernel's nodes: where it is, and moving it.
//!
//! What the kernel owns, the kernel moves: no library in the program, no stopping it. One can set a
//! policy before a program starts, see where its pages are, and have them moved page by page; the
//! kernel refuses those that somebody holds, one by one, and never loses a byte.
//!
//! * [`program`]: a process, and the right to look at it.
//! * [`numa_maps`], [`mappings`], [`pagemap`]: what /proc tells of its memory.
//! * [`pages`]: moves a batch, and says of each page that stayed why. [`held`]: who may hold it.
//! * [`placing`]: all of a program's memory, tier by tier, to a deadline. [`room`]: what fits.
//! * [`policy`]: the policy that a program starts with. [`bound`]: whose policy allows one node
//!   only. [`nodes`]: lists of nodes.

pub mod bound;
pub mod held;
pub mod mappings;
pub mod nodes;
pub mod numa_maps;
pub mod pagemap;
pub mod pages;
pub mod placing;
pub mod policy;
pub mod program;
pub mod room;
#[cfg(test)]
mod spoil;

pub use bound::Bound;
pub use held::{Holder, Holders};
pub use mappings::{Mapping, Migratable};
pub use nodes::{NodeListError, parse_list};
pub use numa_maps::{NumaMap, on_nodes};
pub use pages::{Fate, HugePages, Mover, Stays, move_batch};
pub use placing::{Doing, Ended, Placed, Placing, PlacingError, Reason, nodes_with_memory, place};
pub use policy::{Nearer, Placement, Plan, PolicyError, plan, under};
pub use program::{Program, ProgramError, family};
