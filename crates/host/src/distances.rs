//! Distances between nodes: SLIT's numbers, 10 for a node's own memory.
//!
//! A node's `distance` is a line of numbers, one for each node that is online, in their order
//! (`node_read_distance` in drivers/base/node.c).

use memtide_units::NodeId;
use serde::Serialize;

use crate::{Notes, Root, node_list::IdList};

/// How far another node is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Distance {
    /// From here to this node.
    pub to: NodeId,
    /// 10 is local, 20 twice as far.
    pub distance: u32,
}

/// The distances of the node in the folder `node` to all that are `online`.
pub(crate) fn read(root: &Root, node: &str, online: &IdList, notes: &mut Notes) -> Vec<Distance> {
    let path = format!("{node}/distance");
    let Some(text) = notes.keep(root.text(&path)) else { return Vec::new() };
    let numbers: Option<Vec<u32>> = text.split_whitespace().map(|word| word.parse().ok()).collect();
    match numbers {
        Some(numbers) if numbers.len() == online.len() => online
            .iter()
            .zip(numbers)
            .filter_map(|(to, distance)| Some((u16::try_from(to).ok()?, distance)))
            .map(|(to, distance)| Distance { to: NodeId(to), distance })
            .collect(),
        _ => {
            notes.add(root.unexpected(&path, &text, "a distance for each node that is online"));
            Vec::new()
        }
    }
}
