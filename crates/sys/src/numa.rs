//! Memory of NUMA nodes that the kernel manages: where new pages come from, where pages are, and
//! how they move.
//!
//! Where the kernel owns a node there are no frames for us to hand out: one tells the kernel which
//! nodes a thread shall use ([`policy`]) or a memory file ([`mod@file`]), asks where pages lie and
//! has them moved ([`pages`]). None of this changes what memory holds, only where it lies; so all of
//! it is safe, for any address and any process. The kernel checks the rest, page by page, and says
//! for each page that stays why.
//!
//! Nodes are named by their numbers in a [`NodeSet`], which is as wide as the widest kernel.
//!
//! References: set_mempolicy(2), get_mempolicy(2), mbind(2), move_pages(2);
//! `include/uapi/linux/mempolicy.h`.

pub mod file;
pub mod node_set;
pub mod pages;
pub mod policy;

pub use file::{bind_file, file_policy};
pub use node_set::{NodeBeyond, NodeSet};
pub use pages::{Moved, PageStatus, Process, WhichPages, move_pages, where_are};
pub use policy::{
    Mode, NodesMean, NumaBalancing, Policy, allowed_nodes, set_thread_policy, thread_policy,
};
