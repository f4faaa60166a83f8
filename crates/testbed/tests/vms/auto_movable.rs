//! Which zone each memory block goes to: the kernel's answer and memtide's, block by block.
//!
//! The kernel onlines what is plugged by its policy auto-movable. memtide sees the machine before,
//! and which blocks came; from that its rules say where each of them goes. The kernel's zones are
//! read afterwards. Not one block may differ.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use memtide_engine::onlining::{
    AutoMovable, GroupKind, Memory, NumaAware, OnlinePolicy, OnlineType, OnlineZone,
};
use memtide_host::{
    BlockState, MemoryBlock, MemoryBlocks, Notes, Root, Zone,
    capture::Opened,
    memory_groups::MemoryGroups,
    nodes::Nodes,
    online::{policy, state::Onlining},
};
use memtide_testbed::{
    CxlDevice, Guest, HostBridge, Machine, NumaNode, Onlining as AtPlug, RootPort, VirtioMem,
    Window, by_hand, gib, mib, needs, ready,
};
use memtide_units::{ByteSize, FrameRange, NodeId, PAGE_BYTES, Pfn};

use crate::captured::{Done, capture, initramfs};

const SOON: Duration = Duration::from_secs(120);
/// Kernel zones may keep memory that was asked back; how long to wait for it.
const CALM: Duration = Duration::from_secs(4);

/// Those of an ordinary run first: each of the knobs at its ends, and a ratio in between.
const POLICIES: [(u32, NumaAware); 6] = [
    (301, NumaAware::MachineAndNode),
    (100, NumaAware::Machine),
    (0, NumaAware::Machine),
    (301, NumaAware::Machine),
    (100, NumaAware::MachineAndNode),
    (50, NumaAware::Machine),
];

fn policies() -> &'static [(u32, NumaAware)] {
    if needs::is_thorough() { &POLICIES } else { &POLICIES[..3] }
}

fn set(guest: &Guest, (ratio, numa_aware): (u32, NumaAware)) -> Done {
    let numa_aware = match numa_aware {
        NumaAware::MachineAndNode => 'Y',
        NumaAware::Machine => 'N',
    };
    guest.sh(&format!(
        "set -e; cd /sys/module/memory_hotplug/parameters; echo auto-movable >online_policy
         echo {ratio} >auto_movable_ratio; echo {numa_aware} >auto_movable_numa_aware"
    ))?;
    Ok(())
}

fn blocks(root: &Root) -> Done<MemoryBlocks> {
    Ok(MemoryBlocks::read(root)?.ok_or("the kernel has no memory blocks")?)
}

/// `3M 1K`: so many blocks after each other in a zone of this kind.
fn runs(zones: impl IntoIterator<Item = OnlineZone>) -> String {
    let mut runs: Vec<(OnlineZone, usize)> = Vec::new();
    for zone in zones {
        match runs.last_mut() {
            Some((last, count)) if *last == zone => *count += 1,
            _ => runs.push((zone, 1)),
        }
    }
    let letter = |zone| if zone == OnlineZone::Movable { 'M' } else { 'K' };
    runs.iter().fold(String::new(), |mut text, &(zone, count)| {
        let blank = if text.is_empty() { "" } else { " " };
        let _ = write!(text, "{blank}{count}{}", letter(zone));
        text
    })
}

fn kind(zone: Zone) -> OnlineZone {
    if zone.is_kernel() { OnlineZone::Kernel } else { OnlineZone::Movable }
}

/// Blocks that went online in between, by address, and the zones that the kernel chose.
fn went_online(before: &MemoryBlocks, after: &MemoryBlocks) -> Vec<(MemoryBlock, OnlineZone)> {
    let was_online = |id| before.blocks.get(&id).is_some_and(|b| b.state == BlockState::Online);
    let new = after.blocks.values().filter(|block| !was_online(block.id));
    new.filter_map(|block| Some((block.clone(), kind(block.zone()?)))).collect()
}

/// What memtide says of the blocks that went online between two looks at a machine, beside what
/// the kernel did; with how many blocks it were.
fn compare(before: &Opened, after: &Opened, about: &str) -> Done<usize> {
    let (old, mut all) = (blocks(before.root())?, blocks(after.root())?);
    let groups = MemoryGroups::read(after.root(), &all)?;
    let new = went_online(&old, &all);
    for (block, _) in &new {
        all.blocks.get_mut(&block.id).expect("it is among them").state = BlockState::Offline;
    }
    // What is there since boot is counted before: afterwards kernel zones have more.
    let mut book = Onlining::of(before.root(), &all, &groups)?;
    let policy = policy::of_kernel(after.root())?;
    let mut ours = Vec::new();
    for (block, _) in &new {
        assert!(groups.group_of(block.id).is_some(), "{about}: {} is in no group", block.id);
        ours.push(book.online(block, policy, OnlineType::Online)?);
    }
    let kernels = runs(new.iter().map(|&(_, zone)| zone));
    needs::loud(&format!("{about}: the kernel put {kernels}"));
    assert_eq!(
        runs(ours),
        kernels,
        "{about}: memtide's zones, the kernel's, from {:?}",
        new.first()
    );
    Ok(new.len())
}

/// What memtide says of each offline block alone, beside the kernel's own word on it
/// (`valid_zones`); with how many blocks it were.
fn compare_words(now: &Opened, about: &str) -> Done<usize> {
    let all = blocks(now.root())?;
    let book = Onlining::of(now.root(), &all, &MemoryGroups::read(now.root(), &all)?)?;
    let policy = policy::of_kernel(now.root())?;
    let mut count = 0;
    for block in all.blocks.values().filter(|block| block.state == BlockState::Offline) {
        let ours = book.clone().online(block, policy, OnlineType::Online)?;
        assert_eq!(Some(ours), block.default_zone().map(kind), "{about}: {}", block.id);
        count += 1;
    }
    Ok(count)
}

/// Asks for so much, and waits until it is plugged.
fn plug(guest: &Guest, device: &str, size: ByteSize) -> Done {
    guest.qmp().request_memory(device, size)?;
    let deadline = Instant::now() + SOON;
    while guest.qmp().plugged_memory(device)? != size {
        assert!(Instant::now() < deadline, "{device}: {size} is not plugged");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Asks for all of it back, and waits while something comes.
fn unplug(guest: &Guest, device: &str) -> Done {
    guest.qmp().request_memory(device, ByteSize(0))?;
    let mut last = (guest.qmp().plugged_memory(device)?, Instant::now());
    while last.0 != ByteSize(0) && last.1.elapsed() < CALM {
        std::thread::sleep(Duration::from_millis(100));
        let plugged = guest.qmp().plugged_memory(device)?;
        if plugged != last.0 {
            last = (plugged, Instant::now());
        }
    }
    Ok(())
}

/// 2 GiB on node 0 since boot, and virtio-mem devices: of node 1, which has nothing else, and of
/// node 0.
fn two_devices(block: ByteSize) -> Machine {
    Machine::new("two-virtio-mem", gib(2))
        .node(NumaNode::near(0..2, gib(2)))
        .node(NumaNode::empty())
        .virtio_mem(VirtioMem::new("far", 1, gib(8)).block(block))
        .virtio_mem(VirtioMem::new("near", 0, gib(8)).block(block))
        .onlining(AtPlug::Online)
}

#[test]
fn virtio_mem_is_onlined_as_the_kernel_onlines_it() -> Done {
    if !ready() {
        return Ok(());
    }
    let guest = Guest::boot_with(&two_devices(mib(2)), &initramfs())?;
    let mut count = 0;
    for &policy in policies() {
        set(&guest, policy)?;
        let mut before = capture(&guest)?;
        for (device, gibs) in [("far", 1), ("far", 2), ("near", 1), ("near", 3), ("far", 4)] {
            plug(&guest, device, gib(gibs))?;
            let after = capture(&guest)?;
            let about = format!("{policy:?}, {device} to {gibs} GiB");
            count += compare(&before, &after, &about)?;
            before = after;
        }
        unplug(&guest, "far")?;
        unplug(&guest, "near")?;
    }
    needs::loud(&format!("{count} blocks of virtio-mem in the same zones"));
    assert!(count > 33 * policies().len(), "{count}");
    guest.powerdown()?;
    Ok(())
}

/// Frames of a node that are there since boot, all in kernel zones.
fn early(root: &Root, node: NodeId) -> Done<u64> {
    let mut notes = Notes::new();
    let nodes = Nodes::read(root, &mut notes);
    assert!(notes.is_empty(), "{:?}", notes.lines());
    let zones = nodes.online.iter().filter(|it| it.node == node).flat_map(|it| &it.zones);
    Ok(zones.map(|zone| zone.present.0 / PAGE_BYTES).sum())
}

/// With device blocks of 512 MiB the driver plugs four memory blocks at once or none of them, and
/// such a unit is torn between zones by nobody. (Nothing shows the size of a unit, so the rules are
/// told here.)
#[test]
fn units_of_several_blocks_stay_together_as_in_the_kernel() -> Done {
    if !ready() {
        return Ok(());
    }
    const UNIT: ByteSize = mib(512);
    let node = NodeId(0);
    let guest = Guest::boot_with(&two_devices(UNIT), &initramfs())?;
    let mut before = capture(&guest)?;
    let mut memory = Memory::new();
    memory.boot(node, FrameRange::new(Pfn(0), early(before.root(), node)?), 0)?;
    let unit = GroupKind::Dynamic { unit_pages: UNIT.0 / PAGE_BYTES };
    let group = memory.add_group(node, unit)?;
    let (mut zones, mut count) = (String::new(), 0);
    for (ratio, gibs) in [(0, 1), (50, 3), (100, 5), (301, 8)] {
        set(&guest, (ratio, NumaAware::MachineAndNode))?;
        plug(&guest, "near", gib(gibs))?;
        let after = capture(&guest)?;
        let new = went_online(&blocks(before.root())?, &blocks(after.root())?);
        let knobs = AutoMovable { ratio, numa_aware: NumaAware::MachineAndNode };
        let mut ours = Vec::new();
        for (block, _) in &new {
            let frames = u64::try_from(block.range.bytes())? / PAGE_BYTES;
            let range = FrameRange::new(Pfn(block.range.start().0 / PAGE_BYTES), frames);
            let policy = OnlinePolicy::AutoMovable(knobs);
            ours.push(memory.online(policy, OnlineType::Online, node, Some(group), range)?);
        }
        let kernels = runs(new.iter().map(|&(_, zone)| zone));
        needs::loud(&format!("ratio {ratio}, to {gibs} GiB: the kernel put {kernels}"));
        assert_eq!(runs(ours), kernels, "ratio {ratio}, to {gibs} GiB");
        zones += &kernels;
        count += new.len();
        before = after;
    }
    assert_eq!(count, 64, "all blocks of the device");
    assert!(zones.contains('M') && zones.contains('K'), "{zones}");
    guest.powerdown()?;
    Ok(())
}

/// Regions of 1, 2 and 1 GiB on one node, each of a device of its own.
fn three_regions() -> Machine {
    let device = |name, gibs| RootPort::Device(CxlDevice::new(name, gib(gibs)));
    let ports = [device("mem0", 1), device("mem1", 2), device("mem2", 1)];
    Machine::new("three-cxl-devices", gib(2))
        .node(NumaNode::near(0..2, gib(2)))
        .host_bridge(HostBridge::new("hb0", ports))
        .window(Window::new(["hb0"], gib(4)))
}

/// Takes offline what goes offline, then one block online as it is told here, then the others as
/// the policy says; with how many blocks were compared.
fn once_more(guest: &Guest, about: &str, first: &str) -> Done<usize> {
    const BLOCKS: &str = "/sys/devices/system/node/node1/memory[0-9]*";
    guest
        .sh(&format!("for b in {BLOCKS}; do echo offline >$b/state 2>/dev/null; done; {first}"))?;
    let before = capture(guest)?;
    let words = compare_words(&before, about)?;
    guest.sh(&format!(
        "for b in {BLOCKS}; do grep -qx online $b/state || echo online >$b/state || exit 1; done"
    ))?;
    Ok(words + compare(&before, &capture(guest)?, about)?)
}

#[test]
fn kmem_is_onlined_as_the_kernel_onlines_it() -> Done {
    if !ready() {
        return Ok(());
    }
    let guest = Guest::boot_with(&three_regions(), &initramfs())?;
    // As the regions are made.
    set(&guest, (100, NumaAware::Machine))?;
    guest.sh("echo online >/sys/devices/system/memory/auto_online_blocks")?;
    let mut count = 0;
    let mut before = capture(&guest)?;
    for (serial, gibs, all) in [(1, 1, 8), (2, 2, 24), (3, 1, 32)] {
        by_hand::create_region(&guest, 0, gib(gibs), 256, &[serial])?;
        let online = "cat /sys/devices/system/node/node1/memory[0-9]*/state | grep -cx online";
        guest.wait_until(SOON, &format!("[ $({online}) = {all} ]"))?;
        let after = capture(&guest)?;
        count += compare(&before, &after, &format!("a region of device {serial}"))?;
        before = after;
    }
    assert_eq!(count, 32, "all blocks of the regions");
    // As offline blocks are taken online, under each policy.
    for &policy in policies() {
        set(&guest, policy)?;
        count += once_more(&guest, &format!("{policy:?}"), "")?;
    }
    // And when one block of a region is in a kernel zone, all its others go there.
    set(&guest, (301, NumaAware::Machine))?;
    let told =
        "cd /sys/devices/system/node/node1; set -- memory[0-9]*; echo online_kernel >$5/state";
    count += once_more(&guest, "the fifth block is told", told)?;
    guest.sh("echo contig-zones >/sys/module/memory_hotplug/parameters/online_policy")?;
    count += once_more(&guest, "contig-zones", told)?;
    needs::loud(&format!("{count} blocks of kmem in the same zones"));
    guest.powerdown()?;
    Ok(())
}
