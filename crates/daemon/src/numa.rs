//! Nodes on NUMA nodes of the kernel's: asking whether the memory is there, and binding files.
//!
//! Before capacity comes into such a node, at the start or by `memtide add`, it must be there
//! (`memtide_store::numa`): what is online and not yet in the files, and what is to come, of all
//! nodes of the pool on that NUMA node together. As long as any of it is online, every image's file
//! is bound; while nothing is, the NUMA node need not even have memory, and files wait.
//!
//! The kernel may take that memory away without asking the pool. Files that are bound stay so, and
//! who has them goes on, with pages from elsewhere; a file that is not cannot be bound then, and
//! whose it is would be given something else than is promised. He is refused, until the memory is
//! back or the pool has given the node back.
//!
//! What of a node with `online` came later is there only as long as programs are: a daemon that
//! finds none of them begins as it is configured, for the memory may be gone, too.

use memtide_proto::Refused;
use memtide_store::{
    Store, StoreError,
    kernel::Kernel,
    numa::{self, Wanted},
};
use memtide_units::{ByteSize, Extent};

use crate::{
    config::Config,
    daemon::{Daemon, node_id},
    images::Files,
    program::refused,
    start::BindError,
    state::{NodeState, State},
};

/// Takes what came later out of an earlier daemon's state, unless somebody may still have it; then
/// whether what is online can be had.
pub(crate) fn prepare(
    config: &Config,
    left: &mut State,
    fresh: &[NodeState],
) -> Result<(), BindError> {
    if !left.members.is_empty() {
        // They hold some of it already; what they have not touched was there when it came.
        return Ok(());
    }
    let comes_later = |numa: crate::config::NumaConfig| numa.online.is_some();
    for (index, node) in config.nodes.iter().enumerate() {
        if node.numa.is_some_and(comes_later) {
            left.nodes[index].offline = fresh[index].offline.clone();
            left.nodes[index].zones.clear();
        }
    }
    let nodes = config.nodes.iter().zip(&left.nodes);
    let wanted = nodes.filter_map(|(node, left)| {
        let online = node.size.pageblocks_ceil().saturating_sub(pageblocks(&left.offline));
        let bytes = ByteSize::from_pageblocks(online);
        Some(Wanted { name: &node.name, numa: node.numa?.node, bytes })
    });
    let wanted: Vec<_> = wanted.collect();
    Ok(numa::check(&Kernel::this_machine(), &wanted)?)
}

fn pageblocks(extents: &[Extent]) -> u64 {
    extents.iter().map(|extent| u64::from(extent.count)).sum()
}

impl Daemon {
    /// How much of a node is online.
    fn online(&self, node: usize) -> ByteSize {
        let offline = pageblocks(&self.engine.offline(node_id(node)));
        let all = self.config.nodes[node].size.pageblocks_ceil();
        ByteSize::from_pageblocks(all.saturating_sub(offline))
    }

    /// Binds the files of one image where there is memory for them.
    pub(crate) fn bind_files(&self, files: &Files) -> Result<(), StoreError> {
        let stores = self.stores.iter().enumerate().filter(|(_, store)| store.numa().is_some());
        for (node, store) in stores.filter(|(node, _)| self.online(*node).0 > 0) {
            store.bind(files.at(node))?;
        }
        Ok(())
    }

    /// Whether so much can come into a node, in whole blocks; if so, all files are made ready for
    /// it.
    pub(crate) fn check_add_on_numa(&self, node: usize, bytes: ByteSize) -> Result<(), Refused> {
        let Some(numa) = self.stores[node].numa() else { return Ok(()) };
        let on_it = self.stores.iter().enumerate().filter(|(_, store)| store.numa() == Some(numa));
        let (mut wanted, mut already) = (Vec::new(), ByteSize(0));
        for (other, _) in on_it {
            let untouched = self.untouched(other);
            already.0 = already.0.saturating_add(untouched.0);
            let coming = if other == node { self.in_blocks(bytes).0 } else { 0 };
            let bytes = ByteSize(untouched.0.saturating_add(coming));
            wanted.push(Wanted { name: &self.config.nodes[other].name, numa, bytes });
        }
        numa::check(&Kernel::this_machine(), &wanted).map_err(|error| match error {
            StoreError::NumaTooSmall { usable, .. } => {
                let room = usable.0.saturating_sub(already.0);
                // Part of a block would be refused, too.
                let room = ByteSize(room - room % self.config.block.0);
                let expected = format!("at most the {room} that NUMA node {} has to give", numa.0);
                refused("size", bytes, expected)
            }
            error => refused("numa", error, "memory there"),
        })?;
        let bound = self.images.on_node(node).try_for_each(|file| self.stores[node].bind(file));
        bound.map_err(|error| refused("numa", error, "memory there"))
    }

    /// What is online of a node and has not come into any file.
    fn untouched(&self, node: usize) -> ByteSize {
        let files = self.images.on_node(node).map(|file| file.allocated().unwrap_or_default().0);
        ByteSize(self.online(node).0.saturating_sub(files.fold(0, u64::saturating_add)))
    }

    /// Whether what is offline of a node says nothing to a later daemon that finds no program.
    pub(crate) fn is_told_by_others(&self, node: usize) -> bool {
        let comes_later = |numa: crate::config::NumaConfig| numa.online.is_some();
        self.is_device(node) || self.config.nodes[node].numa.is_some_and(comes_later)
    }
}

/// Why there are no bound files for who asked, and what would help.
pub(crate) fn no_files(field: &str, error: &StoreError, expected: &str) -> Refused {
    let StoreError::NumaMemoryGone { node, .. } = error else {
        return refused(field, error, expected);
    };
    let expected =
        format!("memory there again, or all of it out of the pool (give-back --from {node})");
    refused(field, error, expected)
}

/// A node's store, on its NUMA node.
pub(crate) fn placed(store: Store, node: &crate::NodeConfig) -> Store {
    store.on_numa_node(node.numa.map(|numa| numa.node))
}
