//! Machines that have names: those of the tests, and of `cargo xtask vm shell`.

use crate::{
    CxlDevice, HostBridge, Machine, NumaNode, Onlining, RootPort, VirtioMem, Window, gib, mib,
};

/// All of them.
#[must_use]
pub fn all() -> Vec<Machine> {
    vec![
        plain(),
        cxl_direct(),
        cxl_switch(),
        cxl_managed(),
        cxl_interleaved(),
        cxl_windows(),
        cxl_dynamic(),
        cxl_set_aside(),
        near_far(),
        virtio_mem(),
        odd_map(),
        numa_emulation(),
    ]
}

/// One line about each.
#[must_use]
pub fn about(name: &str) -> &'static str {
    match name {
        "plain" => "2 GiB and two processors, nothing special",
        "cxl-direct" => "a CXL device of 1 GiB in a root port, a window of 4 GiB",
        "cxl-switch" => "a CXL switch with two devices of 1 GiB, a window of 4 GiB",
        "cxl-managed" => "the same with 1 GiB of dynamic capacity, and the switch to be managed",
        "cxl-interleaved" => "two host bridges with a device each, a window over both",
        "cxl-windows" => "two host bridges with a device each, and two windows",
        "cxl-dynamic" => "a CXL device with 1 GiB and 2 GiB of dynamic capacity, left unbound",
        "cxl-set-aside" => "the same, with its window set aside for `memtide dcd serve`",
        "near-far" => "a near node and a far one without processors, with HMAT",
        "virtio-mem" => "a virtio-mem device of up to 16 GiB on a node of its own",
        "odd-map" => "a firmware map with persistent, reserved and soft-reserved ranges",
        "numa-emulation" => "one node that the kernel splits into two",
        _ => "",
    }
}

/// The machine of this name.
#[must_use]
pub fn named(name: &str) -> Option<Machine> {
    all().into_iter().find(|machine| machine.name() == name)
}

/// 2 GiB, nothing special.
#[must_use]
pub fn plain() -> Machine {
    Machine::new("plain", gib(2))
}

/// 2 GiB on one node that firmware announces. Without an SRAT the kernel forgets the nodes that it
/// made for CXL windows (`acpi_numa_init` ends with ENOENT), and puts their memory on node 0.
fn server(name: &str) -> Machine {
    Machine::new(name, gib(2)).node(NumaNode::near(0..2, gib(2)))
}

/// One device, directly in a root port.
#[must_use]
pub fn cxl_direct() -> Machine {
    server("cxl-direct")
        .host_bridge(HostBridge::with("hb0", CxlDevice::new("mem0", gib(1))))
        .window(Window::new(["hb0"], gib(4)))
}

/// Two devices behind a switch.
#[must_use]
pub fn cxl_switch() -> Machine {
    let devices = vec![CxlDevice::new("mem0", gib(1)), CxlDevice::new("mem1", gib(1))];
    server("cxl-switch")
        .host_bridge(HostBridge::new("hb0", [RootPort::Switch(devices)]))
        .window(Window::new(["hb0"], gib(4)))
}

/// Two devices, one of them with dynamic capacity, behind a switch that the machine can manage.
#[must_use]
pub fn cxl_managed() -> Machine {
    let dynamic = CxlDevice::new("mem1", gib(1)).dynamic(gib(1), 1);
    let devices = vec![CxlDevice::new("mem0", gib(1)), dynamic];
    server("cxl-managed")
        .host_bridge(HostBridge::new("hb0", [RootPort::ManagedSwitch(devices)]))
        .window(Window::new(["hb0"], gib(4)))
        .modules(["cxl_acpi"])
}

/// Two host bridges without windows.
fn two_bridges(name: &str) -> Machine {
    server(name)
        .host_bridge(HostBridge::with("hb0", CxlDevice::new("mem0", gib(1))))
        .host_bridge(HostBridge::with("hb1", CxlDevice::new("mem1", gib(1))))
}

/// One window over two host bridges, 256 bytes to each in turn.
#[must_use]
pub fn cxl_interleaved() -> Machine {
    two_bridges("cxl-interleaved").window(Window::new(["hb0", "hb1"], gib(4)))
}

/// A window of 4 GiB to one host bridge, and one of 2 GiB to the other.
#[must_use]
pub fn cxl_windows() -> Machine {
    two_bridges("cxl-windows")
        .window(Window::new(["hb0"], gib(4)))
        .window(Window::new(["hb1"], gib(2)))
}

/// A device with dynamic capacity, for a driver in user space: no kernel driver is loaded for it.
#[must_use]
pub fn cxl_dynamic() -> Machine {
    let device = CxlDevice::new("mem0", gib(1)).dynamic(gib(2), 2);
    server("cxl-dynamic")
        .host_bridge(HostBridge::with("hb0", device))
        .window(Window::new(["hb0"], gib(4)))
        .modules(["cxl_acpi"])
}

/// The same device, on a kernel that was started with its window set aside: for
/// `memtide dcd serve`. QEMU puts the first window at the first multiple of 256 MiB above 4 GiB and
/// its own devices' memory; with 2 GiB below 4 GiB that is 0x110000000.
#[must_use]
pub fn cxl_set_aside() -> Machine {
    let mut machine = cxl_dynamic();
    machine.name = "cxl-set-aside".to_owned();
    machine
        .kernel_argument("memmap=4096M%0x110000000+0xefffffff")
        // dax_hmem before cxl_acpi: it leaves windows that it knows of to the CXL driver.
        .modules(["device_dax", "kmem", "dax_hmem", "cxl_acpi"])
}

/// 2 GiB near and 1 GiB far, with distances, latencies and bandwidths.
#[must_use]
pub fn near_far() -> Machine {
    Machine::new("near-far", gib(3))
        .node(NumaNode::near(0..2, gib(2)).access(80, 40960))
        .node(NumaNode::far(gib(1)).access(250, 20480).distance(30))
}

/// 2 GiB, and a virtio-mem device of up to 16 GiB on node 1, onlined by the kernel's policy.
#[must_use]
pub fn virtio_mem() -> Machine {
    server("virtio-mem")
        .node(NumaNode::empty())
        .virtio_mem(VirtioMem::new("vm0", 1, gib(16)))
        // Offline blocks would make the driver stop at 1 GiB (virtio_mem_could_add_memory).
        .onlining(Onlining::Online)
}

/// A firmware map such as nobody expects: `!` makes persistent memory, `$` reserves, `%` turns one
/// type of range into another (kernel `parse_memmap_one`; 1 is RAM, 2 reserved, 0xefffffff soft
/// reserved).
#[must_use]
pub fn odd_map() -> Machine {
    Machine::new("odd-map", gib(2))
        .kernel_argument("memmap=256M!1G")
        .kernel_argument("memmap=128M$0x60000000")
        .kernel_argument("memmap=128M%0x70000000-1+0xefffffff")
        .modules(["device_dax", "kmem", "dax_hmem"])
}

/// A machine without NUMA whose kernel makes two nodes of it.
#[must_use]
pub fn numa_emulation() -> Machine {
    Machine::new("numa-emulation", mib(3072)).kernel_argument("numa=fake=2U")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_different_and_described() {
        let names: BTreeSet<_> = all().iter().map(|machine| machine.name().to_owned()).collect();
        assert_eq!(names.len(), all().len());
        for name in names {
            assert!(!about(&name).is_empty(), "{name} is not described");
            assert_eq!(named(&name).map(|machine| machine.name().to_owned()), Some(name));
        }
        assert_eq!(named("pdp-11"), None);
    }
}
