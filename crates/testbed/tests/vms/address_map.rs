//! memtide's map of physical addresses, made of firmware's tables, against the kernel's.
//!
//! Each machine is captured while it runs: its tables, its firmware's map of memory and
//! `/proc/iomem`. The map that memtide makes of the first two is what the kernel has, but for what
//! tables do not tell ([`USUAL`]) and for what is listed here with its reason, machine by machine.
//! Where the kernel puts a region is foretold, too, and what is taken apart again leaves nothing.

use std::{fs, time::Duration};

use memtide_host::{
    address_map::{self, MachineMap},
    capture::Opened,
};
use memtide_physmap::{
    allocate::{Allocator, LinuxChoice},
    firmware_map::{MapEntry, MapType, MemmapOption, memmap_options},
    iomem,
    kernel_map::{Difference, Rule},
    resource::Resource,
};
use memtide_testbed::{
    CxlDevice, Guest, HostBridge, Machine, Window, by_hand, gib, machines, mib, needs, ready,
};
use memtide_units::{PhysAddr, PhysRange};
use serde_json::Value;

use crate::captured::{Done, capture, initramfs};

const SOON: Duration = Duration::from_secs(120);

/// What tables do not tell, on any machine.
const USUAL: [Rule; 4] = [Rule::Driver, Rule::KernelImage, Rule::RamBuffer, Rule::FirstMib];

fn boot(machine: &Machine) -> Done<Guest> {
    Ok(Guest::boot_with(machine, &initramfs())?)
}

fn read(opened: &Opened) -> Done<MachineMap> {
    let map = address_map::read(opened.root())?;
    assert!(map.notes.is_empty(), "{:?}", map.notes);
    assert!(map.kernel.is_some(), "root sees addresses");
    Ok(map)
}

fn look(guest: &Guest) -> Done<MachineMap> {
    read(&capture(guest)?)
}

/// What is not the same in the kernel's map, but for the usual.
fn odd(map: &MachineMap) -> impl Iterator<Item = &Difference> {
    map.differences.iter().filter(|difference| !USUAL.contains(&difference.rule))
}

/// Each as `OURS | KERNEL'S | RULE`. Where memory below 4 GiB ends is each firmware's business.
fn brief(map: &MachineMap) -> Vec<String> {
    let mut ours = map.reconciled.map.tree.resources();
    let low = ours.find(|(_, it)| it.name == "System RAM" && it.range.start().0 == 1 << 20);
    let end = low.expect("all PCs have it").1.range.last().to_string();
    let side = |it: &Option<Resource>| it.as_ref().map_or("-".to_owned(), ToString::to_string);
    odd(map)
        .map(|it| format!("{} | {} | {:?}", side(&it.ours), side(&it.kernel), it.rule))
        .map(|text| text.replace(&end, "END"))
        .collect()
}

/// `memtide map` in the guest says the same, and its ranges are the lines of /proc/iomem.
fn assert_the_command_agrees(guest: &Guest, map: &MachineMap) -> Done {
    let told: Value = serde_json::from_str(&guest.sh("memtide map --json")?)?;
    assert_eq!((&told["source"], &told["notes"]), (&"kernel".into(), &Value::Array(vec![])));
    let text = guest.sh("cat /proc/iomem")?;
    let lines: Vec<_> = iomem::lines(&text).collect::<Result<_, _>>()?;
    let ranges = told["ranges"].as_array().expect("an array");
    assert_eq!(ranges.len(), lines.len());
    for (range, line) in ranges.iter().zip(lines) {
        let (start, last) = (line.range.start().0, line.range.last().0);
        assert_eq!(
            (&range["depth"], &range["start"], &range["last"], &range["name"]),
            (&line.depth.into(), &start.into(), &last.into(), &line.name.into())
        );
    }
    let usual: Vec<_> = USUAL.iter().map(ToString::to_string).collect();
    let rules = told["differences"].as_array().expect("an array").iter().map(|it| &it["rule"]);
    let rules: Vec<_> = rules.filter_map(Value::as_str).map(str::to_owned).collect();
    let rules: Vec<_> = rules.into_iter().filter(|rule| !usual.contains(rule)).collect();
    assert_eq!(rules, odd(map).map(|it| it.rule.to_string()).collect::<Vec<_>>());
    Ok(())
}

/// Writes what the kernel's command line says of memory into the firmware's map of a captured
/// machine: where entries overlap, both the kernel and memtide know which is the stronger.
fn tell_of_the_command_line(opened: &Opened) -> Done {
    let line = opened.root().text("proc/cmdline")?.unwrap_or_default();
    for (number, option) in memmap_options(&line).enumerate() {
        let (range, kind) = match option.map_err(|error| error.to_string())? {
            MemmapOption::Set(MapEntry { range, kind }) => (range, kind),
            MemmapOption::Change { range, to: Some(to), .. } => {
                (range, MapType::numbered(to).ok_or("a type that has no name")?)
            }
            other => panic!("no test has {other:?}"),
        };
        let entry = opened.root().at(format!("sys/firmware/memmap/told-{number}"));
        fs::create_dir(&entry)?;
        fs::write(entry.join("start"), format!("{:#x}\n", range.start().0))?;
        fs::write(entry.join("end"), format!("{:#x}\n", range.last().0))?;
        fs::write(entry.join("type"), format!("{kind}\n"))?;
    }
    Ok(())
}

/// Boots a machine; its differences are exactly these, and if memtide is told of the command line,
/// these.
#[track_caller]
fn differs_in(machine: &Machine, expected: &[&str], expected_if_told: &[&str]) -> Done {
    let guest = boot(machine)?;
    let opened = capture(&guest)?;
    let map = read(&opened)?;
    assert_eq!(brief(&map), expected, "{}", machine.name());
    assert_the_command_agrees(&guest, &map)?;
    guest.powerdown()?;
    tell_of_the_command_line(&opened)?;
    assert_eq!(brief(&read(&opened)?), expected_if_told, "{} if told", machine.name());
    Ok(())
}

#[test]
fn on_machines_without_cxl_the_maps_are_the_same() -> Done {
    if !ready() {
        return Ok(());
    }
    differs_in(&machines::plain(), &[], &[])?;
    differs_in(&machines::near_far(), &[], &[])?;
    if needs::is_thorough() {
        // With a region beside them, emulated nodes have a test of their own.
        differs_in(&machines::numa_emulation(), &[], &[])?;
    }
    let guest = boot(&machines::virtio_mem())?;
    assert_eq!(brief(&look(&guest)?), [""; 0]);
    guest.qmp().request_memory("vm0", gib(1))?;
    guest
        .wait_until(SOON, "grep -q '100000000-13fffffff : System RAM (virtio_mem)' /proc/iomem")?;
    let plugged = "- | System RAM (virtio_mem) 0x100000000-0x13fffffff | Plugged";
    assert_eq!(brief(&look(&guest)?), [plugged]);
    guest.powerdown()?;
    Ok(())
}

/// Where the kernel's map has regions.
fn regions(map: &MachineMap) -> Vec<(String, PhysRange)> {
    let all = map.map().tree.resources();
    let regions = all.filter(|(_, it)| it.name.starts_with("region"));
    regions.map(|(_, it)| (it.name.clone(), it.range)).collect()
}

/// Boots a machine, makes a region of 1 GiB of each of these devices, and takes it apart again; the
/// maps are the same before and afterwards, and the region lies where it was foretold.
fn region_comes_and_goes(machine: &Machine, window: usize, serials: &[u64]) -> Done {
    let guest = boot(machine)?;
    let before = look(&guest)?;
    assert_eq!(brief(&before), [""; 0], "{}", machine.name());
    assert_the_command_agrees(&guest, &before)?;
    let booted = guest.sh("cat /proc/iomem")?;

    let bytes = gib(serials.len() as u64).0;
    let allocator = Allocator::new(before.map().clone());
    let LinuxChoice::At(range) = allocator.linux_choice(window, bytes)? else {
        panic!("{}: no room is seen in window {window}", machine.name());
    };
    let region = by_hand::create_region(&guest, window, gib(1), 256, serials)?;
    guest.wait_until(SOON, "grep -q 'System RAM (kmem)' /proc/iomem")?;
    let with_region = look(&guest)?;
    assert_eq!(regions(&with_region), [(region.clone(), range)], "{}", machine.name());
    let dax = guest.sh("basename /sys/bus/dax/drivers/kmem/dax*.*")?;
    let is_made = |name: &str| format!("- | {name} {range} | Provisioned");
    let made = [&region, &dax, "System RAM (kmem)"].map(is_made);
    assert_eq!(brief(&with_region), made, "{}", machine.name());
    assert_the_command_agrees(&guest, &with_region)?;

    guest.sh(&format!("echo {dax} >/sys/bus/dax/drivers/kmem/unbind"))?;
    by_hand::destroy_region(&guest, window, &region)?;
    assert_eq!(brief(&look(&guest)?), [""; 0], "{}: after the region", machine.name());
    assert_eq!(guest.sh("cat /proc/iomem")?, booted, "{}: as it was", machine.name());
    guest.powerdown()?;
    Ok(())
}

#[test]
fn a_region_lies_where_it_was_foretold_and_leaves_nothing() -> Done {
    if !ready() {
        return Ok(());
    }
    region_comes_and_goes(&machines::cxl_direct(), 0, &[1])?;
    region_comes_and_goes(&machines::cxl_windows(), 1, &[2])?;
    differs_in(&machines::cxl_dynamic(), &[], &[])
}

#[test]
fn interleaved_and_switched_regions_as_well() -> Done {
    if !ready() {
        return Ok(());
    }
    region_comes_and_goes(&machines::cxl_interleaved(), 0, &[1, 2])?;
    region_comes_and_goes(&machines::cxl_switch(), 0, &[2])
}

/// Firmware announces no nodes, and the kernel makes two. (With nodes of firmware's beside the CXL
/// windows, `numa=fake=` crashes Linux 6.12 in `numa_emulation`.)
#[test]
fn a_region_beside_emulated_nodes() -> Done {
    if !ready() {
        return Ok(());
    }
    let machine = machines::numa_emulation()
        .host_bridge(HostBridge::with("hb0", CxlDevice::new("mem0", gib(1))))
        .window(Window::new(["hb0"], gib(4)));
    region_comes_and_goes(&machine, 0, &[1])
}

#[test]
fn odd_maps_differ_by_what_the_command_line_says() -> Done {
    if !ready() {
        return Ok(());
    }
    let cut = "System RAM 0x100000-END | System RAM 0x100000-0x3fffffff | MemoryChanged";
    differs_in(
        &machines::odd_map(),
        &[
            cut,
            "- | Persistent Memory (legacy) 0x40000000-0x4fffffff | MemoryChanged",
            "- | System RAM 0x50000000-0x5fffffff | MemoryChanged",
            "- | Reserved 0x60000000-0x67ffffff | MemoryChanged",
            "- | System RAM 0x68000000-0x6fffffff | MemoryChanged",
            "- | Soft Reserved 0x70000000-0x77ffffff | MemoryChanged",
            "- | dax0.0 0x70000000-0x77ffffff | Provisioned",
            "- | System RAM (kmem) 0x70000000-0x77ffffff | Provisioned",
            "- | System RAM 0x78000000-END | MemoryChanged",
        ],
        &[
            "- | dax0.0 0x70000000-0x77ffffff | Provisioned",
            "- | System RAM (kmem) 0x70000000-0x77ffffff | Provisioned",
        ],
    )?;
    if !needs::is_thorough() {
        return Ok(());
    }
    // Of what that machine has all of, one at a time.
    differs_in(
        &machines::plain().kernel_argument("memmap=512M!1G"),
        &[
            cut,
            "- | Persistent Memory (legacy) 0x40000000-0x5fffffff | MemoryChanged",
            "- | System RAM 0x60000000-END | MemoryChanged",
        ],
        &[],
    )?;
    differs_in(
        &machines::plain().kernel_argument("memmap=256M%1G-1+0xefffffff"),
        &[
            cut,
            "- | Soft Reserved 0x40000000-0x4fffffff | MemoryChanged",
            "- | System RAM 0x50000000-END | MemoryChanged",
        ],
        &[],
    )
}

/// Two windows, with something of the command line's across their border, inside the first, around
/// both, or around the second and what lies behind it.
#[test]
fn windows_follow_what_lies_across_them() -> Done {
    if !ready() {
        return Ok(());
    }
    let machine = machines::cxl_windows;
    let guest = boot(&machine())?;
    let map = look(&guest)?;
    assert_eq!(brief(&map), [""; 0], "as it boots");
    guest.powerdown()?;
    let bases: Vec<u64> =
        map.reconciled.map.windows.iter().map(|window| window.window.base).collect();
    let at = |base: u64, bytes| {
        PhysRange::from_size(PhysAddr(base), bytes).expect("far below the end of addresses")
    };
    let (first, second) = (at(bases[0], gib(4).0), at(bases[1], gib(2).0));
    let half = mib(512).0;
    let across = at(bases[1] - half, 2 * half);
    let widened = at(bases[0], gib(4).0 + half);
    let trimmed = at(bases[1] + half, gib(2).0 - half);
    let window = |number, ours, kernels| {
        let name = format!("CXL Window {number}");
        format!("{name} {ours} | {name} {kernels} | WindowFollows")
    };
    differs_in(
        &machine().kernel_argument(&format!("memmap=1G${}", across.start())),
        &[
            &window(0, first, widened),
            &format!("- | Reserved {across} | MemoryChanged"),
            &window(1, second, trimmed),
        ],
        &[],
    )?;
    if needs::is_thorough() {
        let inside = at(bases[0] + gib(1).0, half);
        differs_in(
            &machine().kernel_argument(&format!("memmap=512M%{}+0xefffffff", inside.start())),
            &[&format!("- | Soft Reserved {inside} | MemoryChanged")],
            &[],
        )?;
        let both = at(bases[0], gib(6).0);
        differs_in(
            &machine().kernel_argument(&format!("memmap=6G${}", both.start())),
            &[&format!("- | Reserved {both} | MemoryChanged")],
            &[],
        )?;
    }
    // Behind the windows a bus has its addresses: what reaches into them grows around all of them.
    let bus = map.map().tree.resources().map(|(_, it)| it).filter(|it| it.name.contains("PCI Bus"));
    let bus = bus.map(|it| it.range).max().expect("all PCs have one");
    let around = at(bases[1], bus.start().0 - bases[1] + half);
    let grown = around.hull(bus);
    let argument = format!("memmap={:#x}${}", around.bytes(), around.start());
    differs_in(
        &machine().kernel_argument(&argument),
        &[&format!("- | Reserved {grown} | MemoryChanged")],
        &[&format!("Reserved {around} | Reserved {grown} | ReservedWidened")],
    )
}
