//! Moving programs' pages out of a block, and finding out whose would not go.
//!
//! Taking a block offline moves what is in it, too; but it does not say what was in the way, nor
//! for whom it is. So programs' pages are moved first, one program after the other: what stays is
//! known by program and address, and what holds it by the program's open files. The rest (page
//! cache, pages of no program) is left to the kernel.
//!
//! Which pages of a program lie in a block is seen in its page map: frame numbers are root's to
//! see. Without that right nothing is moved here, and nobody is named.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use memtide_sys::numa::{Process, WhichPages};
use memtide_units::{ByteSize, HoldReason, NodeId, PAGE_BYTES, PhysRange};

use crate::{
    Root,
    node_list::IdList,
    processes::{
        held::Holder,
        pages::{Fate, HugePages, Stays, move_batch},
        program::Program,
        room,
    },
};

/// Addresses whose page map is read before the time is looked at again: 256 MiB. Some programs
/// have mappings of terabytes that are almost empty.
const ADDRESSES_AT_ONCE: u64 = 256 << 20;

/// Pages that are moved before the time is looked at again: 8 MiB.
const PAGES_AT_ONCE: usize = 2048;

/// A program with pages on the node that is to shrink.
#[derive(Debug)]
pub struct Resident {
    /// The program.
    pub program: Program,
    /// Its pages on the node, physical address to virtual.
    pages: BTreeMap<u64, Page>,
}

#[derive(Clone, Copy, Debug)]
struct Page {
    address: u64,
    huge: bool,
}

/// What stays of a program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Left {
    /// Which process.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// Who is charged for it: its control group, as far as it has one.
    pub tenant: String,
    /// How much.
    pub bytes: ByteSize,
    /// Why.
    pub reason: HoldReason,
}

/// Programs with memory whose policy is to come from this node alone (`MPOL_BIND`), whether or not
/// any of it is there. Should the node have no memory at all, the kernel would find no zone for
/// their next page, and kill them (`CONSTRAINT_MEMORY_POLICY` in mm/oom_kill.c).
#[must_use]
pub fn bound_to(root: &Root, node: NodeId) -> Vec<Bound> {
    let names = root.names("proc").unwrap_or_default();
    let pids = names.iter().filter_map(|name| name.parse::<u32>().ok());
    let programs = pids.filter_map(|pid| Program::find(root, pid).ok());
    programs
        .filter_map(|program| {
            let maps = program.numa_maps().ok()?;
            let bound: Vec<_> =
                maps.iter().filter(|map| binds_only_to(&map.policy, node)).collect();
            let pages = bound.iter().flat_map(|map| {
                map.nodes.values().map(|pages| pages.saturating_mul(map.page_bytes))
            });
            (!bound.is_empty()).then(|| Bound {
                pid: program.pid(),
                name: program.name().to_owned(),
                tenant: control_group(root, program.pid()),
                bytes: ByteSize(pages.fold(0, u64::saturating_add)),
            })
        })
        .collect()
}

/// A program that is bound to a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bound {
    /// Which process.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// Its control group, as far as it has one.
    pub tenant: String,
    /// What it has of such memory at this moment, on any node.
    pub bytes: ByteSize,
}

/// `bind:1`, `bind=static:1`, as numa_maps has it.
fn binds_only_to(policy: &str, node: NodeId) -> bool {
    let Some(rest) = policy.strip_prefix("bind") else { return false };
    let list = rest.rsplit_once(':').and_then(|(_, list)| list.parse::<IdList>().ok());
    list.is_some_and(|list| list.len() == 1 && list.has(u32::from(node.0)))
}

/// All programs with pages on a node, as far as there is time until `end` to look. Those that end
/// meanwhile, or may not be looked at, are left out.
#[must_use]
pub fn residents(root: &Root, node: NodeId, end: Instant) -> Vec<Resident> {
    let names = root.names("proc").unwrap_or_default();
    let pids = names.iter().filter_map(|name| name.parse::<u32>().ok());
    let programs = pids.filter_map(|pid| Program::find(root, pid).ok());
    programs
        .filter_map(|program| {
            let pages = pages_on(&program, node, end)?;
            (!pages.is_empty()).then_some(Resident { program, pages })
        })
        .collect()
}

fn pages_on(program: &Program, node: NodeId, end: Instant) -> Option<BTreeMap<u64, Page>> {
    let maps = program.numa_maps().ok()?;
    let with_pages = maps.iter().filter(|map| map.nodes.get(&node).is_some_and(|&n| n > 0));
    let on_node: BTreeSet<u64> = with_pages.map(|map| map.start).collect();
    let mut pages = BTreeMap::new();
    if on_node.is_empty() {
        return Some(pages);
    }
    let pagemap = program.pagemap().ok()?;
    let mappings = program.mappings().ok()?;
    for mapping in mappings.iter().filter(|mapping| on_node.contains(&mapping.start)) {
        let huge = mapping.huge > 0;
        let mut start = mapping.start;
        while start < mapping.end && Instant::now() < end {
            let last = start.saturating_add(ADDRESSES_AT_ONCE).min(mapping.end);
            let there = pagemap.frames(start..last).ok()?;
            pages.extend(there.into_iter().map(|(address, frame)| {
                (frame.saturating_mul(PAGE_BYTES), Page { address, huge })
            }));
            start = last;
        }
    }
    Some(pages)
}

impl Resident {
    /// Its addresses in a block, ascending, and whether huge pages are among them.
    fn within(&self, range: PhysRange) -> (Vec<usize>, HugePages) {
        let inside = self.pages.range(range.start().0..=range.last().0);
        let mut huge = HugePages::None;
        let mut addresses: Vec<usize> = Vec::new();
        for (_, page) in inside {
            if page.huge {
                huge = HugePages::Some;
            }
            addresses.extend(usize::try_from(page.address).ok());
        }
        addresses.sort_unstable();
        (addresses, huge)
    }
}

/// Moves all programs' pages out of a block, to `to`, as far as there is time until `end`. Says
/// what would not go; what there was no time for is left to the kernel.
#[must_use]
pub fn vacate(
    root: &Root,
    residents: &[Resident],
    block: PhysRange,
    to: NodeId,
    end: Instant,
) -> Vec<Left> {
    let mut left = Vec::new();
    for resident in residents {
        let (addresses, huge) = resident.within(block);
        let program = &resident.program;
        if addresses.is_empty() || !program.is_there() {
            continue;
        }
        let mut process = Process::Other(program.pid());
        let mut fates = Vec::new();
        for batch in addresses.chunks(PAGES_AT_ONCE) {
            if Instant::now() >= end {
                break;
            }
            let moved = move_batch(&mut process, batch, to, WhichPages::Shared, huge);
            // The process ended, or is not ours: the kernel may still move its pages.
            let Ok(moved) = moved else { break };
            fates.extend(moved);
        }
        left.extend(stayed(root, program, &addresses, &fates));
    }
    left
}

/// What stayed, by reason.
fn stayed(root: &Root, program: &Program, addresses: &[usize], fates: &[Fate]) -> Vec<Left> {
    let mut reasons: BTreeMap<HoldReason, u64> = BTreeMap::new();
    let holders = program.holders();
    for (&address, fate) in addresses.iter().zip(fates) {
        let Fate::Stays(why) = fate else { continue };
        let reason = match why {
            Stays::NoRoom | Stays::NodeGone => HoldReason::NoRoom,
            Stays::NotAllowed | Stays::Shared => HoldReason::MoveFailed,
            Stays::Unmovable => HoldReason::ForeignMapping,
            Stays::Held => match holders.of(address as u64, PAGE_BYTES) {
                Holder::IoUring => HoldReason::IoUring,
                Holder::Rdma => HoldReason::Rdma,
                Holder::DeviceDma => HoldReason::DeviceDma,
                _ if program.pinned().is_ok_and(|pinned| pinned.0 > 0) => HoldReason::LongTermPin,
                _ => HoldReason::DirectRead,
            },
        };
        *reasons.entry(reason).or_default() += PAGE_BYTES;
    }
    let of = |(reason, bytes)| Left {
        pid: program.pid(),
        name: program.name().to_owned(),
        tenant: control_group(root, program.pid()),
        bytes: ByteSize(bytes),
        reason,
    };
    reasons.into_iter().map(of).collect()
}

/// The control group that a process is charged to (cgroups(7), the unified hierarchy); empty
/// without one.
fn control_group(root: &Root, pid: u32) -> String {
    let text = root.text(format!("proc/{pid}/cgroup")).ok().flatten().unwrap_or_default();
    let group = text.lines().find_map(|line| line.strip_prefix("0::"));
    group.unwrap_or_default().to_owned()
}

/// Where pages of a node go: to the nearest other one with so much room, as far as any has.
#[must_use]
pub fn destination(root: &Root, from: NodeId, bytes: ByteSize) -> Option<NodeId> {
    let zoneinfo = root.text("proc/zoneinfo").ok().flatten()?;
    let room = room::above_watermarks(&zoneinfo);
    let with_room = room.into_iter().filter(|&(node, free)| node != from && free >= bytes);
    let distance = |node: NodeId| distance(root, from, node).unwrap_or(u32::MAX);
    with_room.map(|(node, _)| node).min_by_key(|&node| (distance(node), node))
}

fn distance(root: &Root, from: NodeId, to: NodeId) -> Option<u32> {
    let folder = "sys/devices/system/node";
    let online: IdList = root.text(format!("{folder}/online")).ok()??.trim().parse().ok()?;
    let text = root.text(format!("{folder}/node{}/distance", from.0)).ok()??;
    let at = online.iter().position(|id| id == u32::from(to.0))?;
    text.split_ascii_whitespace().nth(at)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_policy_for_this_node_alone_binds() {
        for (policy, binds) in [
            ("bind:1", true),
            ("bind=static|balancing:1", true),
            ("bind:0-1", false),
            ("bind:2", false),
            ("prefer:1", false),
            ("default", false),
            ("bind", false),
        ] {
            assert_eq!(binds_only_to(policy, NodeId(1)), binds, "{policy}");
        }
    }
}
