//! NUMA nodes: who is near what.
//!
//! A node is what firmware says lies together: processors, memory, devices that access memory, or
//! any one of these. A node without processors is memory that all reach from outside (CXL); one
//! without memory has none *now*: memory may come.

use memtide_units::{ByteSize, NodeId};
use serde::Serialize;

use crate::{
    Notes, Root,
    access::{self, AccessClass, SideCache},
    attributes::{Folder, numbered},
    distances::{self, Distance},
    node_list::IdList,
    zones::{self, NodeZone},
};

const FOLDER: &str = "sys/devices/system/node";

/// One node that is online.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Node {
    /// Its number.
    pub node: NodeId,
    /// Its processors.
    pub cpus: IdList,
    /// What the page allocator has of its memory (`MemTotal`), if the kernel says.
    pub memory: Option<ByteSize>,
    /// Of this, what is free.
    pub free: Option<ByteSize>,
    /// Its zones that have any memory, from the lowest address up.
    pub zones: Vec<NodeZone>,
    /// To all nodes that are online.
    pub distances: Vec<Distance>,
    /// What reaching its memory costs, if firmware says.
    pub access: Vec<AccessClass>,
    /// Caches in front of its memory.
    pub side_caches: Vec<SideCache>,
    /// Pages of its memory that went bad, if the kernel counts them.
    pub memory_failure: Option<MemoryFailure>,
}

/// Pages that went bad since boot (`memory_failure_attr_group` in mm/memory-failure.c): how many,
/// and what came of each.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct MemoryFailure {
    /// All of them.
    pub total: u64,
    /// Nobody used it any more, or its use is not known to be one.
    pub ignored: u64,
    /// It is still in use.
    pub failed: u64,
    /// Its user hears of it on the next access.
    pub delayed: u64,
    /// It is out of use, and its user knows.
    pub recovered: u64,
}

/// The nodes of a machine.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Nodes {
    /// Those that may ever come online.
    pub possible: IdList,
    /// Those with a device of firmware's that accesses memory, and no processors.
    pub generic_initiators: IdList,
    /// Those that are online, by number.
    pub online: Vec<Node>,
}

impl Nodes {
    /// The nodes of a machine; none if its kernel is built without NUMA.
    #[must_use]
    pub fn read(root: &Root, notes: &mut Notes) -> Self {
        let mut folder = Folder::new(root, FOLDER, notes);
        let possible = folder.list("possible").unwrap_or_default();
        let online = folder.list("online").unwrap_or_default();
        let generic_initiators = folder.list("has_generic_initiator").unwrap_or_default();
        let mut nodes = Vec::new();
        for (name, id) in notes.keep_list(numbered(root, FOLDER, "node")) {
            // A folder outlives its node going offline by a moment.
            if let Ok(id) = u16::try_from(id)
                && online.has(u32::from(id))
            {
                nodes.push(read(root, &format!("{FOLDER}/{name}"), NodeId(id), &online, notes));
            }
        }
        add_zones(root, &mut nodes, notes);
        Self { possible, generic_initiators, online: nodes }
    }

    /// The node of that number, if it is online.
    #[must_use]
    pub fn get(&self, node: NodeId) -> Option<&Node> {
        self.online.iter().find(|candidate| candidate.node == node)
    }
}

fn read(root: &Root, path: &str, node: NodeId, online: &IdList, notes: &mut Notes) -> Node {
    let cpus = Folder::new(root, path, notes).list("cpulist").unwrap_or_default();
    let (memory, free) = meminfo(root, path, notes);
    Node {
        node,
        cpus,
        memory,
        free,
        zones: Vec::new(),
        distances: distances::read(root, path, online, notes),
        access: access::of_node(root, path, notes),
        side_caches: access::side_caches(root, path, notes),
        memory_failure: memory_failure(root, path, notes),
    }
}

fn memory_failure(root: &Root, path: &str, notes: &mut Notes) -> Option<MemoryFailure> {
    let mut folder = Folder::new(root, format!("{path}/memory_failure"), notes);
    let total = folder.number("total")?;
    let mut number = |name| folder.number(name).unwrap_or(0);
    Some(MemoryFailure {
        total,
        ignored: number("ignored"),
        failed: number("failed"),
        delayed: number("delayed"),
        recovered: number("recovered"),
    })
}

/// `Node 0 MemTotal:       2013948 kB`
fn meminfo(root: &Root, path: &str, notes: &mut Notes) -> (Option<ByteSize>, Option<ByteSize>) {
    let path = format!("{path}/meminfo");
    let Some(text) = notes.keep(root.text(&path)) else { return (None, None) };
    let mut value = |name: &str| {
        let number = text.lines().find_map(|line| {
            match *line.split_whitespace().take(5).collect::<Vec<_>>() {
                ["Node", _, field, number, "kB"] if field == name => number.parse::<u64>().ok(),
                _ => None,
            }
        });
        let bytes = number.and_then(|number| number.checked_mul(1024)).map(ByteSize);
        if bytes.is_none() {
            notes.add(root.unexpected(&path, &text, "MemTotal and MemFree in kB"));
        }
        bytes
    };
    (value("MemTotal:"), value("MemFree:"))
}

fn add_zones(root: &Root, nodes: &mut [Node], notes: &mut Notes) {
    let pages = zones::read(root, notes);
    let totals: Vec<(NodeId, ByteSize)> =
        nodes.iter().filter_map(|node| Some((node.node, node.memory?))).collect();
    let page_bytes = zones::page_bytes(&pages, &totals);
    for node in nodes {
        let own = pages.iter().filter(|zone| zone.node == node.node.0);
        node.zones = own.map(|zone| zone.zone(page_bytes)).collect();
    }
}
