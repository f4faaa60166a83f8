//! memtide's map of physical addresses, made of firmware's tables, against the kernel's.
//!
//! Each machine is captured while it runs: its tables, its firmware's map of memory and
//! `/proc/iomem`. The map that memtide makes of the first two is what the kernel has, but for what
//! tables do not tell ([`USUAL`]) and for what is listed here with its reason, machine by machine.
//! Where the kernel puts a region is foretold, too, and what is taken apart again leaves nothing.

mod captured;

use std::time::Duration;

use captured::{Done, capture, initramfs};
use memtide_host::address_map::{self, MachineMap};
use memtide_physmap::{
    allocate::{Allocator, LinuxChoice},
    iomem,
    kernel_map::Rule,
};
use memtide_testbed::{Guest, Machine, by_hand, gib, machines, ready};
use memtide_units::PhysRange;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(120);

/// What tables do not tell, on any machine.
const USUAL: [Rule; 4] = [Rule::Driver, Rule::KernelImage, Rule::RamBuffer, Rule::FirstMib];

fn boot(machine: &Machine) -> Done<Guest> {
    Ok(Guest::boot_with(machine, &initramfs())?)
}

/// The map of a guest, and its differences from the kernel's but for the usual ones, in words.
fn look(guest: &Guest) -> Done<(MachineMap, Vec<String>)> {
    let map = address_map::read(capture(guest)?.root())?;
    assert!(map.notes.is_empty(), "{:?}", map.notes);
    assert!(map.kernel.is_some(), "root sees addresses");
    let odd = map.differences.iter().filter(|difference| !USUAL.contains(&difference.rule));
    let odd = odd.map(ToString::to_string).collect();
    Ok((map, odd))
}

/// `memtide map` in the guest says the same, and its ranges are the lines of /proc/iomem.
fn assert_the_command_agrees(guest: &Guest, odd: &[String]) -> Done {
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
    let differences = told["differences"].as_array().expect("an array");
    let is_odd = |rule: &&Value| usual.iter().all(|usual| **rule != usual.as_str());
    let rules: Vec<_> =
        differences.iter().map(|it| &it["rule"]).filter(is_odd).filter_map(Value::as_str).collect();
    assert_eq!(rules.len(), odd.len(), "{rules:?} in the guest, {odd:#?} here");
    assert!(odd.iter().zip(rules).all(|(odd, rule)| odd.ends_with(rule)), "{odd:#?}");
    Ok(())
}

/// Boots a machine; its differences are exactly these.
#[track_caller]
fn differs_in(machine: &Machine, expected: &[&str]) -> Done {
    let guest = boot(machine)?;
    let (_, odd) = look(&guest)?;
    assert_eq!(odd, expected, "{}", machine.name());
    assert_the_command_agrees(&guest, &odd)?;
    guest.powerdown()?;
    Ok(())
}

#[test]
fn on_machines_without_cxl_the_maps_are_the_same() -> Done {
    if !ready() {
        return Ok(());
    }
    for machine in [machines::plain(), machines::near_far(), machines::numa_emulation()] {
        differs_in(&machine, &[])?;
    }
    let guest = boot(&machines::virtio_mem())?;
    assert_eq!(look(&guest)?.1, [""; 0]);
    guest.qmp().request_memory("vm0", gib(1))?;
    guest.wait_until(SOON, "grep -q 'System RAM (virtio_mem)' /proc/iomem")?;
    let (_, odd) = look(&guest)?;
    assert_eq!(odd, ["?"]);
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
    let (before, odd) = look(&guest)?;
    assert_eq!(odd, [""; 0], "{}", machine.name());
    assert_the_command_agrees(&guest, &odd)?;
    let booted = guest.sh("cat /proc/iomem")?;

    let bytes = gib(serials.len() as u64).0;
    let allocator = Allocator::new(before.map().clone());
    let LinuxChoice::At(range) = allocator.linux_choice(window, bytes)? else {
        panic!("{}: no room is seen in window {window}", machine.name());
    };
    let region = by_hand::create_region(&guest, window, gib(1), 256, serials)?;
    guest.wait_until(SOON, "grep -q 'System RAM (kmem)' /proc/iomem")?;
    let (with_region, odd) = look(&guest)?;
    assert_eq!(regions(&with_region), [(region.clone(), range)], "{}", machine.name());
    let is_made =
        |name| format!("{name} {range} is only in the kernel's map: made while the machine ran");
    let expected = [region.as_str(), "dax0.0", "System RAM (kmem)"].map(is_made);
    let dax = odd.iter().find(|it| it.starts_with("dax")).cloned().unwrap_or_default();
    let expected = expected.map(|it| if it.starts_with("dax") { dax.clone() } else { it });
    assert_eq!(odd, expected, "{}", machine.name());
    assert_the_command_agrees(&guest, &odd)?;

    guest.sh("cd /sys/bus/dax/drivers/kmem; echo $(basename dax*.*) >unbind")?;
    by_hand::destroy_region(&guest, window, &region)?;
    let (_, odd) = look(&guest)?;
    assert_eq!(odd, [""; 0], "{}: after the region", machine.name());
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
    differs_in(&machines::cxl_dynamic(), &[])
}

#[test]
fn interleaved_and_switched_regions_as_well() -> Done {
    if !ready() {
        return Ok(());
    }
    region_comes_and_goes(&machines::cxl_interleaved(), 0, &[1, 2])?;
    region_comes_and_goes(&machines::cxl_switch(), 0, &[2])
}

#[test]
fn odd_maps_differ_by_what_the_command_line_says() -> Done {
    if !ready() {
        return Ok(());
    }
    differs_in(&machines::odd_map(), &["?"])?;
    differs_in(&machines::plain().kernel_argument("memmap=512M!1G"), &["?"])?;
    differs_in(&machines::plain().kernel_argument("memmap=256M%1G-1+0xefffffff"), &["?"])
}

/// Two windows with something of the command line's across their border, or inside the first.
#[test]
fn windows_follow_what_lies_across_them() -> Done {
    if !ready() {
        return Ok(());
    }
    let guest = boot(&machines::cxl_windows())?;
    let (map, _) = look(&guest)?;
    guest.powerdown()?;
    let bases: Vec<u64> =
        map.reconciled.map.windows.iter().map(|window| window.window.base).collect();
    println!("{bases:x?}");
    let across = format!("memmap=1G${:#x}", bases[1] - (512 << 20));
    differs_in(&machines::cxl_windows().kernel_argument(&across), &["?"])?;
    let inside = format!("memmap=512M%{:#x}+0xefffffff", bases[0] + (1 << 30));
    differs_in(&machines::cxl_windows().kernel_argument(&inside), &["?"])?;
    let fake = machines::cxl_windows().kernel_argument("numa=fake=2U");
    differs_in(&fake, &[])
}
