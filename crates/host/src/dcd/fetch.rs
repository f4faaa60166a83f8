//! Fetching pages back to the node that they are bound to.
//!
//! When a memory block goes offline, the kernel moves what is in it to *other* nodes, whatever its
//! policy says (`do_migrate_range`, mm/memory_hotplug.c), and so does
//! [`crate::give_back::vacate`]. For memory that is bound to the node, as that of a pool's node
//! with `numa` is, that is the wrong place: its owner has reserved room for it on the rest of the
//! node. So once blocks have left, what is bound to the node and lies elsewhere is moved back.
//!
//! Only memory bound to this node alone is looked at, in whatever program. Pages that would not
//! move stay where they are; nothing is lost by that, and the next time they are tried again.

use std::time::Instant;

use memtide_sys::numa::{PageStatus, Process, WhichPages, where_are};
use memtide_units::{ByteSize, NodeId, PAGE_BYTES};

use crate::{
    Root,
    processes::{
        HugePages, Mapping, NumaMap, Program,
        bound::binds_only_to,
        pages::{Fate, move_batch},
    },
};

/// Addresses that are looked at before the time is: 64 MiB.
const ADDRESSES_AT_ONCE: u64 = 64 << 20;

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Fetched {
    /// Is on the node again.
    pub(super) moved: ByteSize,
    /// Is elsewhere still, as programs have it: what several share counts for each of them.
    pub(super) left: ByteSize,
    /// Programs that there was no time for.
    pub(super) unseen: u64,
}

/// Moves what is bound to a node and lies elsewhere to it, as far as there is time until `end`.
pub(super) fn fetch(root: &Root, node: NodeId, end: Instant) -> Fetched {
    let names = root.names("proc").unwrap_or_default();
    let pids: Vec<u32> = names.iter().filter_map(|name| name.parse().ok()).collect();
    let mut fetched = Fetched::default();
    for (at, &pid) in pids.iter().enumerate() {
        // Looking at a program takes its time, too, also where there is nothing to move.
        if Instant::now() >= end {
            fetched.unseen = (pids.len() - at) as u64;
            break;
        }
        // Who has ended, or may not be looked at, has nothing that could be moved.
        let Ok(program) = Program::find(root, pid) else { continue };
        let mappings = astray(&program, node).unwrap_or_default();
        for mapping in mappings.into_iter().take_while(|_| Instant::now() < end) {
            fetch_mapping(&program, &mapping, node, end, &mut fetched);
        }
    }
    fetched
}

/// Its mappings that are bound to the node and have pages elsewhere.
fn astray(program: &Program, node: NodeId) -> Option<Vec<Mapping>> {
    let is_astray = |map: &NumaMap| {
        let elsewhere = map.nodes.iter().any(|(&at, &pages)| at != node && pages > 0);
        elsewhere && binds_only_to(&map.policy, node)
    };
    let starts: Vec<u64> = program
        .numa_maps()
        .ok()?
        .iter()
        .filter(|map| is_astray(map))
        .map(|map| map.start)
        .collect();
    if starts.is_empty() {
        return Some(Vec::new());
    }
    let mut mappings = program.mappings().ok()?;
    mappings.retain(|mapping| starts.contains(&mapping.start));
    Some(mappings)
}

fn fetch_mapping(
    program: &Program,
    mapping: &Mapping,
    node: NodeId,
    end: Instant,
    fetched: &mut Fetched,
) {
    let Ok(pagemap) = program.pagemap() else { return };
    let huge = if mapping.huge > 0 { HugePages::Some } else { HugePages::None };
    let mut process = Process::Other(program.pid());
    let mut start = mapping.start;
    while start < mapping.end && program.is_there() && Instant::now() < end {
        let last = start.saturating_add(ADDRESSES_AT_ONCE).min(mapping.end);
        let Ok(present) = pagemap.present(start..last, PAGE_BYTES) else { return };
        start = last;
        let there: Vec<usize> = present.iter().map(|page| page.address).collect();
        let Ok(nodes) = where_are(process, &there) else { return };
        let is_astray = |status: &PageStatus| matches!(status, PageStatus::On(at) if *at != node);
        let addresses: Vec<usize> = there
            .into_iter()
            .zip(&nodes)
            .filter(|(_, at)| is_astray(at))
            .map(|(it, _)| it)
            .collect();
        if addresses.is_empty() {
            continue;
        }
        let moved = move_batch(&mut process, &addresses, node, WhichPages::Shared, huge);
        let Ok(fates) = moved else { return };
        let count = |what: fn(&Fate) -> bool| fates.iter().filter(|fate| what(fate)).count() as u64;
        fetched.moved.0 += count(|fate| *fate == Fate::Moved) * PAGE_BYTES;
        fetched.left.0 += count(|fate| matches!(fate, Fate::Stays(_))) * PAGE_BYTES;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn when_the_time_is_over_nobody_is_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["1", "4711", "self", "meminfo"] {
            std::fs::create_dir_all(folder.path().join("proc").join(name)).unwrap();
        }
        let root = Root::new(folder.path());
        let now = Instant::now();
        assert_eq!(fetch(&root, NodeId(1), now), Fetched { unseen: 2, ..Fetched::default() });
        let end = now + Duration::from_secs(60);
        assert_eq!(fetch(&root, NodeId(1), end), Fetched::default(), "both have ended");
    }
}
