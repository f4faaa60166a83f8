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
    Notes, Root, distances,
    processes::{
        bound::control_group,
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

/// What came of moving programs' pages.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Vacated {
    /// How much went.
    pub moved: ByteSize,
    /// What would not go.
    pub left: Vec<Left>,
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
) -> Vacated {
    let mut vacated = Vacated::default();
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
        let moved = fates.iter().filter(|fate| **fate == Fate::Moved).count() as u64;
        vacated.moved.0 = vacated.moved.0.saturating_add(moved.saturating_mul(PAGE_BYTES));
        vacated.left.extend(stayed(root, program, &addresses, &fates));
    }
    vacated
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

/// Where pages of a node go: to the nearest other one with so much room, as far as any has.
#[must_use]
pub fn destination(root: &Root, from: NodeId, bytes: ByteSize) -> Option<NodeId> {
    let room = room::above_watermarks(root).ok()?;
    let with_room = room.into_iter().filter(|&(node, free)| node != from && free >= bytes);
    let folder = "sys/devices/system/node";
    let online = root.text(format!("{folder}/online")).ok().flatten();
    let online = online.and_then(|list| list.trim().parse().ok()).unwrap_or_default();
    // Without distances, all other nodes are as far.
    let from = format!("{folder}/node{}", from.0);
    let distances = distances::read(root, &from, &online, &mut Notes::new());
    let distance = |node: NodeId| {
        let known = distances.iter().find(|distance| distance.to == node);
        known.map_or(u32::MAX, |known| known.distance)
    };
    with_room.map(|(node, _)| node).min_by_key(|&node| (distance(node), node))
}
