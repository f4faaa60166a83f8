//! The vectors of the rules, named after them.

use alloc::{string::String, vec::Vec};

use memtide_units::{FrameRange, NodeId, Pfn};

use super::*;

const GIB: u64 = 1 << 18;
const MIB: u64 = 1 << 8;
const BLOCK: u64 = 128 * MIB;

const NODE: NodeId = NodeId(0);

fn ratio(ratio: u32) -> OnlinePolicy {
    OnlinePolicy::AutoMovable(AutoMovable { ratio, ..AutoMovable::default() })
}

fn machine(early: u64) -> Memory {
    let mut memory = Memory::new();
    memory.boot(NODE, FrameRange::new(Pfn(0), early), 0).unwrap();
    memory
}

/// Onlines the blocks of a range; one letter each.
fn online(
    memory: &mut Memory,
    policy: OnlinePolicy,
    node: NodeId,
    group: Option<GroupId>,
    blocks: (u64, u64, u64),
) -> String {
    let (first, frames, block) = blocks;
    let starts = (first..first + frames).step_by(block as usize);
    let zone = |at| {
        let range = FrameRange::new(Pfn(at), block);
        memory.online(policy, OnlineType::Online, node, group, range).unwrap()
    };
    starts.map(zone).map(letter).collect()
}

fn letter(zone: OnlineZone) -> char {
    match zone {
        OnlineZone::Kernel => 'K',
        OnlineZone::Movable => 'M',
        OnlineZone::PreferMovable => 'P',
        OnlineZone::Exmem => 'X',
    }
}

/// One DIMM in blocks; 'M', 'K', or both if it is torn.
fn dimm(memory: &mut Memory, policy: OnlinePolicy, node: NodeId, first: u64, size: u64) -> String {
    let group = memory.add_group(node, GroupKind::Static { max_pages: size }).unwrap();
    let mut zones: Vec<char> =
        online(memory, policy, node, Some(group), (first, size, BLOCK)).chars().collect();
    zones.dedup();
    zones.into_iter().collect()
}

/// 1 TiB of virtio-mem on 4 GiB: pages movable, pages kernel.
fn tebibyte(policy: OnlinePolicy, unit: u64, block: u64) -> (u64, u64) {
    let mut memory = machine(4 * GIB);
    let group = memory.add_group(NODE, GroupKind::Dynamic { unit_pages: unit }).unwrap();
    online(&mut memory, policy, NODE, Some(group), (4 * GIB, 1024 * GIB, block));
    (memory.plugged(OnlineZone::Movable), memory.plugged(OnlineZone::Kernel))
}

#[test]
fn vm_of_4_gib_with_dimms_of_4_gib_gets_three_movable_then_kernel_for_ever() {
    let mut memory = machine(4 * GIB);
    let dimms: Vec<String> =
        (1..=40).map(|n| dimm(&mut memory, ratio(301), NODE, n * 4 * GIB, 4 * GIB)).collect();
    assert_eq!(dimms[..3], ["M", "M", "M"]);
    assert!(dimms[3..].iter().all(|dimm| dimm == "K"), "{dimms:?}");
}

#[test]
fn vm_of_4_gib_with_virtio_mem_gets_96_movable_then_one_kernel_and_three_movable() {
    let mut memory = machine(4 * GIB);
    let group = memory.add_group(NODE, GroupKind::Dynamic { unit_pages: BLOCK }).unwrap();
    let count = 96 + 4 * 60;
    let zones = online(&mut memory, ratio(301), NODE, Some(group), (4 * GIB, count * BLOCK, BLOCK));
    assert_eq!(zones[..96], "M".repeat(96));
    assert_eq!(zones[96..], "KMMM".repeat(60));
}

#[test]
fn a_tebibyte_on_4_gib() {
    let eighths = |(movable, kernel): (u64, u64)| (movable / BLOCK, kernel / BLOCK);
    assert_eq!(eighths(tebibyte(ratio(301), BLOCK, BLOCK)), (771 * 8 + 5, 252 * 8 + 3));
    assert_eq!(eighths(tebibyte(ratio(300), BLOCK, BLOCK)), (771 * 8, 253 * 8));
    // Units of 1 GiB, in blocks of 1 GiB or of 128 MiB.
    assert_eq!(eighths(tebibyte(ratio(301), GIB, GIB)), (771 * 8, 253 * 8));
    assert_eq!(eighths(tebibyte(ratio(301), GIB, BLOCK)), (771 * 8, 253 * 8));
    assert_eq!(eighths(tebibyte(ratio(300), GIB, GIB)), (771 * 8, 253 * 8));
}

#[test]
fn a_24_gib_dimm_is_movable_on_8164_8_mib_and_no_less() {
    let least = 2_090_185; // Pages: 8164.785 MiB.
    for (early, zone) in [(8 * GIB, "M"), (least, "M"), (least - 1, "K")] {
        assert_eq!(dimm(&mut machine(early), ratio(301), NODE, 32 * GIB, 24 * GIB), zone);
    }
    // Without the extra 1 %, a page that firmware keeps is too much.
    assert_eq!(dimm(&mut machine(8 * GIB), ratio(300), NODE, 32 * GIB, 24 * GIB), "M");
    assert_eq!(dimm(&mut machine(8 * GIB - 1), ratio(300), NODE, 32 * GIB, 24 * GIB), "K");
}

#[test]
fn ratio_0_is_kernel() {
    assert_eq!(tebibyte(ratio(0), BLOCK, BLOCK), (0, 1024 * GIB));
}

#[test]
fn explicit_types_bypass_the_policy() {
    let mut memory = machine(4 * GIB);
    for (online, at, zone) in [
        (OnlineType::OnlineMovable, 4, OnlineZone::Movable),
        (OnlineType::OnlineKernel, 5, OnlineZone::Kernel),
        (OnlineType::OnlinePreferMovable, 6, OnlineZone::PreferMovable),
        (OnlineType::OnlineExmem, 7, OnlineZone::Exmem),
        (OnlineType::Online, 8, OnlineZone::Kernel),
    ] {
        let range = FrameRange::new(Pfn(at * GIB), GIB);
        assert_eq!(memory.online(ratio(0), online, NODE, None, range), Ok(zone));
        let contig = OnlinePolicy::ContigZones { otherwise: OnlineZone::Kernel };
        let range = FrameRange::new(Pfn((at + 10) * GIB), GIB);
        let asked = online != OnlineType::Online;
        assert!(!asked || memory.online(contig, online, NODE, None, range) == Ok(zone));
    }
    for zone in OnlineZone::ALL {
        let blocks = if zone == OnlineZone::Kernel { 3 } else { 2 };
        assert_eq!(memory.plugged(zone), blocks * GIB, "{zone}");
    }
    // Each gives back what it took.
    for (at, zone) in [(6, OnlineZone::PreferMovable), (7, OnlineZone::Exmem)] {
        assert_eq!(memory.offline(Pfn(at * GIB)), Ok(zone));
        assert_eq!(memory.plugged(zone), GIB, "{zone}");
    }
}

#[test]
fn zones_that_linux_lacks_neither_earn_nor_take_credit() {
    for online_type in [OnlineType::OnlinePreferMovable, OnlineType::OnlineExmem] {
        // 4 GiB bears 12 GiB of MOVABLE, whatever else there is.
        let mut memory = machine(4 * GIB);
        let range = FrameRange::new(Pfn(64 * GIB), 64 * GIB);
        memory.online(ratio(301), online_type, NODE, None, range).unwrap();
        let zones = online(&mut memory, ratio(301), NODE, None, (4 * GIB, 13 * GIB, GIB));
        assert_eq!(zones, "MMMMMMMMMMMMK", "{online_type:?}");
        // Not in a dynamic group of its own, either.
        let unit = GroupKind::Dynamic { unit_pages: BLOCK };
        let group = memory.add_group(NODE, unit).unwrap();
        let range = FrameRange::new(Pfn(32 * GIB), BLOCK);
        memory.online(ratio(301), online_type, NODE, Some(group), range).unwrap();
        let next = (32 * GIB + BLOCK, BLOCK, BLOCK);
        assert_eq!(online(&mut memory, ratio(301), NODE, Some(group), next), "K");
    }
}

#[test]
fn a_group_with_memory_in_a_zone_that_linux_lacks_is_not_all_movable() {
    for online_type in [OnlineType::OnlinePreferMovable, OnlineType::OnlineExmem] {
        for kind in [GroupKind::Static { max_pages: GIB }, GroupKind::Dynamic { unit_pages: GIB }] {
            let mut memory = machine(4 * GIB);
            let group = memory.add_group(NODE, kind).unwrap();
            let first = FrameRange::new(Pfn(8 * GIB), BLOCK);
            memory.online(ratio(301), online_type, NODE, Some(group), first).unwrap();
            let rest = (8 * GIB + BLOCK, GIB - BLOCK, BLOCK);
            assert_eq!(online(&mut memory, ratio(301), NODE, Some(group), rest), "KKKKKKK");
            // It counts towards what the group has at most.
            assert_eq!(memory.group(group).unwrap().present_pages(), GIB);
            let more = FrameRange::new(Pfn(16 * GIB), BLOCK);
            let more = memory.online(ratio(301), online_type, NODE, Some(group), more);
            assert_eq!(more.is_err(), matches!(kind, GroupKind::Static { .. }));
        }
    }
}

#[test]
fn contig_zones_inherits_zones_that_linux_lacks_as_well() {
    let contig = OnlinePolicy::ContigZones { otherwise: OnlineZone::Kernel };
    let mut memory = machine(4 * GIB);
    let mut add = |online, at| {
        let range = FrameRange::new(Pfn(at * GIB), GIB);
        letter(memory.online(contig, online, NODE, None, range).unwrap())
    };
    assert_eq!(add(OnlineType::OnlinePreferMovable, 8), 'P');
    assert_eq!(add(OnlineType::OnlinePreferMovable, 10), 'P');
    assert_eq!(add(OnlineType::Online, 9), 'P');
    assert_eq!(add(OnlineType::OnlineExmem, 20), 'X');
    assert_eq!(add(OnlineType::OnlineExmem, 22), 'X');
    assert_eq!(add(OnlineType::Online, 21), 'X');
    // Where several are.
    assert_eq!(add(OnlineType::OnlineExmem, 6), 'X');
    assert_eq!(add(OnlineType::Online, 11), 'X');
    assert_eq!(add(OnlineType::OnlineMovable, 12), 'M');
    assert_eq!(add(OnlineType::OnlineMovable, 14), 'M');
    assert_eq!(add(OnlineType::Online, 13), 'K');
}

#[test]
fn cma_counts_as_movable() {
    // 4 GiB, 1 GiB of it CMA: 301 % of 3 GiB, less 1 GiB, is 8.03 GiB.
    let mut memory = Memory::new();
    memory.boot(NODE, FrameRange::new(Pfn(0), 4 * GIB), GIB).unwrap();
    let zones = online(&mut memory, ratio(301), NODE, None, (4 * GIB, 9 * GIB, GIB));
    assert_eq!(zones, "MMMMMMMMK");
}

#[test]
fn numa_aware_asks_the_node_as_well() {
    let far = NodeId(1);
    let policy = |numa_aware| {
        OnlinePolicy::AutoMovable(AutoMovable { ratio: AutoMovable::RATIO_DEFAULT, numa_aware })
    };
    for (numa_aware, zone) in [(NumaAware::MachineAndNode, "K"), (NumaAware::Machine, "M")] {
        let mut memory = machine(4 * GIB);
        memory.add_node(far);
        assert_eq!(dimm(&mut memory, policy(numa_aware), far, 4 * GIB, 4 * GIB), zone);
    }
}

#[test]
fn other_dynamic_groups_are_taken_out_on_both_sides() {
    // One device has used up the early memory: another gets nothing movable, but the first, whose
    // own kernel memory earns it credit, still does.
    let mut memory = machine(4 * GIB);
    let unit = GroupKind::Dynamic { unit_pages: BLOCK };
    let [one, two] = [(); 2].map(|()| memory.add_group(NODE, unit).unwrap());
    online(&mut memory, ratio(300), NODE, Some(one), (4 * GIB, 12 * GIB, BLOCK));
    let second = online(&mut memory, ratio(300), NODE, Some(two), (32 * GIB, 4 * BLOCK, BLOCK));
    assert_eq!(second, "KKKK");
    let first = online(&mut memory, ratio(300), NODE, Some(one), (16 * GIB, 4 * BLOCK, BLOCK));
    assert_eq!(first, "KMMM");
}

#[test]
fn a_group_is_not_torn() {
    // 4 GiB bears 12 GiB: a DIMM of 16 GiB is kernel memory from its first block on.
    let mut memory = machine(4 * GIB);
    assert_eq!(dimm(&mut memory, ratio(301), NODE, 32 * GIB, 16 * GIB), "K");
    // A unit of which a block is kernel memory already.
    let unit = GroupKind::Dynamic { unit_pages: GIB };
    let group = memory.add_group(NODE, unit).unwrap();
    let range = FrameRange::new(Pfn(64 * GIB), BLOCK);
    memory.online(ratio(301), OnlineType::OnlineKernel, NODE, Some(group), range).unwrap();
    let rest = (64 * GIB + BLOCK, GIB - BLOCK, BLOCK);
    assert_eq!(online(&mut memory, ratio(301), NODE, Some(group), rest), "KKKKKKK");
    assert_eq!(online(&mut memory, ratio(301), NODE, Some(group), (65 * GIB, GIB, GIB)), "M");
}

#[test]
fn contig_zones_inherits_the_only_zone_that_is_there() {
    let contig = |otherwise| OnlinePolicy::ContigZones { otherwise };
    let mut memory = machine(4 * GIB);
    let mut add = |online, otherwise, at| {
        let range = FrameRange::new(Pfn(at * GIB), GIB);
        letter(memory.online(contig(otherwise), online, NODE, None, range).unwrap())
    };
    // Nothing there.
    assert_eq!(add(OnlineType::Online, OnlineZone::Kernel, 8), 'K');
    assert_eq!(add(OnlineType::Online, OnlineZone::Movable, 20), 'M');
    assert_eq!(add(OnlineType::OnlineMovable, OnlineZone::Kernel, 24), 'M');
    // Between two of one zone.
    assert_eq!(add(OnlineType::Online, OnlineZone::Movable, 6), 'K');
    assert_eq!(add(OnlineType::Online, OnlineZone::Kernel, 22), 'M');
    // Where both are.
    assert_eq!(add(OnlineType::OnlineKernel, OnlineZone::Kernel, 30), 'K');
    assert_eq!(add(OnlineType::Online, OnlineZone::Kernel, 23), 'K');
    assert_eq!(add(OnlineType::Online, OnlineZone::Movable, 21), 'M');
}

#[test]
fn what_goes_offline_gives_its_credit_back() {
    let mut memory = machine(4 * GIB);
    let all = (4 * GIB, 13 * GIB, GIB);
    assert_eq!(online(&mut memory, ratio(301), NODE, None, all), "MMMMMMMMMMMMK");
    assert_eq!(memory.offline(Pfn(4 * GIB)), Ok(OnlineZone::Movable));
    let again = (4 * GIB, GIB, GIB);
    assert_eq!(online(&mut memory, ratio(301), NODE, None, again), "M");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let mut memory = machine(4 * GIB);
    let group = memory.add_group(NODE, GroupKind::Static { max_pages: GIB }).unwrap();
    let mut try_online = |node, group, first, frames| {
        let range = FrameRange::new(Pfn(first), frames);
        memory.online(ratio(301), OnlineType::Online, node, group, range).unwrap_err()
    };
    let error = try_online(NODE, None, 0, GIB);
    assert!(matches!(error, OnlineError::Range { .. }), "{error}");
    let error = try_online(NODE, None, 4 * GIB, 0);
    assert!(matches!(error, OnlineError::Range { .. }), "{error}");
    let error = try_online(NodeId(9), None, 4 * GIB, GIB);
    assert!(matches!(error, OnlineError::NoSuchNode { .. }), "{error}");
    let error = try_online(NODE, Some(group), 4 * GIB, 2 * GIB);
    assert!(matches!(error, OnlineError::Group { .. }), "{error}");
    assert_eq!(memory.offline(Pfn(7)), Err(OnlineError::NotOnline { at: Pfn(7) }));
}
