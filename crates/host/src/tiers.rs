//! Memory tiers: nodes that the kernel takes for equally fast.
//!
//! A tier is a step of 128 of the abstract distance, and its number that distance divided by 128:
//! ordinary memory is in tier 4 (mm/memory-tiers.c). Less is faster; what is cold is demoted to
//! the next.

use memtide_units::NodeId;
use serde::Serialize;

use crate::{
    Notes, Root,
    attributes::{Folder, numbered},
};

const FOLDER: &str = "sys/devices/virtual/memory_tiering";

/// A tier, and who is in it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Tier {
    /// Abstract distance divided by 128.
    pub tier: u32,
    /// The nodes.
    pub nodes: Vec<NodeId>,
}

/// The tiers, the fastest first. None on kernels before 6.1.
#[must_use]
pub fn read(root: &Root, notes: &mut Notes) -> Vec<Tier> {
    let mut tiers = Vec::new();
    for (name, tier) in notes.keep_list(numbered(root, FOLDER, "memory_tier")) {
        let list = Folder::new(root, format!("{FOLDER}/{name}"), notes).list("nodelist");
        let nodes = list.unwrap_or_default();
        let nodes = nodes.iter().filter_map(|id| u16::try_from(id).ok().map(NodeId)).collect();
        tiers.push(Tier { tier, nodes });
    }
    tiers
}
