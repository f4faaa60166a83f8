//! What reaching memory costs: HMAT's numbers, as the kernel hands them on.
//!
//! A memory node has up to two classes of access (Documentation/admin-guide/mm/numaperf.rst):
//! class 0 names the initiators that reach it best, whatever they are; class 1 those with
//! processors. Latencies are nanoseconds, bandwidths MB/s (10^6 bytes). CXL regions have the same
//! attributes, worked out from the devices' CDAT and the links between (`access0`, `access1`).

use memtide_units::NodeId;
use serde::Serialize;

use crate::{
    Notes, Root,
    attributes::{Folder, numbered},
};

/// Latency and bandwidth; what the firmware does not tell is missing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Performance {
    /// Nanoseconds.
    pub read_latency_ns: Option<u64>,
    /// Nanoseconds.
    pub write_latency_ns: Option<u64>,
    /// 10^6 bytes a second.
    pub read_bandwidth_mbs: Option<u64>,
    /// 10^6 bytes a second.
    pub write_bandwidth_mbs: Option<u64>,
}

impl Performance {
    /// The attributes in a folder.
    pub(crate) fn read(folder: &mut Folder<'_>) -> Self {
        Self {
            read_latency_ns: folder.number("read_latency"),
            write_latency_ns: folder.number("write_latency"),
            read_bandwidth_mbs: folder.number("read_bandwidth"),
            write_bandwidth_mbs: folder.number("write_bandwidth"),
        }
    }

    /// Whether anything is known.
    #[must_use]
    pub fn is_known(&self) -> bool {
        *self != Self::default()
    }
}

/// One class of access to a memory node, or to a region.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct AccessClass {
    /// 0: the best initiators of any kind; 1: the best of those with processors.
    pub class: u32,
    /// Who they are; empty for a region.
    pub initiators: Vec<NodeId>,
    /// What they get.
    #[serde(flatten)]
    pub performance: Performance,
}

/// A cache in front of a node's memory.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct SideCache {
    /// The N of `indexN`.
    pub level: u32,
    /// Bytes.
    pub size: Option<u64>,
    /// Bytes.
    pub line_size: Option<u64>,
    /// 0 direct mapped, else indexed.
    pub indexing: Option<u64>,
    /// 0 write-back, 1 write-through, else unknown.
    pub write_policy: Option<u64>,
}

/// The classes of the node in the folder `node`.
pub(crate) fn of_node(root: &Root, node: &str, notes: &mut Notes) -> Vec<AccessClass> {
    let mut classes = Vec::new();
    for (name, class) in notes.keep_list(numbered(root, node, "access")) {
        let path = format!("{node}/{name}/initiators");
        let initiators = notes
            .keep_list(numbered(root, &path, "node"))
            .into_iter()
            .filter_map(|(_, id)| u16::try_from(id).ok().map(NodeId))
            .collect();
        let performance = Performance::read(&mut Folder::new(root, path, notes));
        classes.push(AccessClass { class, initiators, performance });
    }
    classes
}

/// The classes of the region in the folder `region` of which anything is known.
pub(crate) fn of_region(root: &Root, region: &str, notes: &mut Notes) -> Vec<AccessClass> {
    let mut classes = Vec::new();
    for (name, class) in notes.keep_list(numbered(root, region, "access")) {
        let mut folder = Folder::new(root, format!("{region}/{name}"), notes);
        let performance = Performance::read(&mut folder);
        if performance.is_known() {
            classes.push(AccessClass { class, initiators: Vec::new(), performance });
        }
    }
    classes
}

/// The caches in front of the node in the folder `node`.
pub(crate) fn side_caches(root: &Root, node: &str, notes: &mut Notes) -> Vec<SideCache> {
    let path = format!("{node}/memory_side_cache");
    let mut caches = Vec::new();
    for (name, level) in notes.keep_list(numbered(root, &path, "index")) {
        let mut folder = Folder::new(root, format!("{path}/{name}"), notes);
        caches.push(SideCache {
            level,
            size: folder.number("size"),
            line_size: folder.number("line_size"),
            indexing: folder.number("indexing"),
            write_policy: folder.number("write_policy"),
        });
    }
    caches
}
