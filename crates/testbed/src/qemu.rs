//! A machine's description as QEMU's command line.
//!
//! `-cpu max,-hypervisor`: with the hypervisor bit set the kernel does not commit a CXL region,
//! because it cannot invalidate the processors' caches (`cxl_region_invalidate_memregion`), and
//! says only ENXIO. Every processor has a thread (`thread=multi`). There are no default devices.
//!
//! Host bridge N sits on PCI bus 0x20 + 0x30 N, which is also its ACPI `_UID`; that leaves each 48
//! buses.

use std::path::Path;

use memtide_units::ByteSize;

use crate::{
    CxlDevice, HostBridge, Machine, NumaNode, RootPort, agent::PORT, machine::Network, memory::gib,
};

/// What a machine is to be connected to.
pub(crate) struct Connections<'a> {
    pub(crate) kernel: &'a Path,
    pub(crate) initramfs: &'a Path,
    pub(crate) console: Console<'a>,
}

/// Where the guest's first serial port leads.
pub(crate) enum Console<'a> {
    /// Into a file, with sockets for the agent and QMP in the same folder.
    Kept(&'a Path),
    /// To a person's terminal.
    Person,
}

/// The PCI bus of a host bridge.
pub(crate) fn bus_number(bridge: usize) -> usize {
    0x20 + 0x30 * bridge
}

struct Arguments(Vec<String>);

impl Arguments {
    fn add(&mut self, option: &str, value: impl Into<String>) {
        self.0.push(option.to_owned());
        self.0.push(value.into());
    }

    /// Memory that is there when it is touched, however much there is of it.
    fn backend(&mut self, name: &str, size: ByteSize) {
        self.add("-object", format!("memory-backend-ram,id={name},size={},reserve=off", size.0));
    }
}

/// QEMU's arguments for this machine, which was checked.
pub(crate) fn arguments(machine: &Machine, connections: &Connections<'_>) -> Vec<String> {
    let mut arguments = hardware(machine);
    arguments.add("-kernel", connections.kernel.to_string_lossy());
    arguments.add("-initrd", connections.initramfs.to_string_lossy());
    arguments.add("-append", command_line(machine, &connections.console));
    console(&connections.console, &mut arguments);
    arguments.0
}

/// QEMU's arguments for this machine, which was checked, with processors that never start (`-S`):
/// what happens in it is told over the socket `qtest` in a folder, beside `qmp`. Distributions
/// build QEMU without its accelerator of that name.
pub(crate) fn without_guest(machine: &Machine, folder: &Path) -> Vec<String> {
    let mut arguments = hardware(machine);
    arguments.0.push("-S".to_owned());
    sockets(folder, &["qmp", "qtest"], &mut arguments);
    arguments.add("-qtest", "chardev:qtest");
    arguments.add("-qtest-log", "none");
    arguments.0
}

/// The machine itself.
fn hardware(machine: &Machine) -> Arguments {
    let mut arguments = Arguments(Vec::new());
    arguments.0.extend(["-nodefaults", "-no-user-config", "-no-reboot"].map(str::to_owned));
    arguments.add("-display", "none");
    arguments.add("-accel", "tcg,thread=multi");
    arguments.add("-cpu", "max,-hypervisor");
    arguments.add("-smp", machine.processors.to_string());
    base(machine, &mut arguments);
    nodes(machine, &mut arguments);
    for (number, bridge) in machine.bridges.iter().enumerate() {
        host_bridge(machine, number, bridge, &mut arguments);
    }
    windows(machine, &mut arguments);
    virtio_mem(machine, &mut arguments);
    surroundings(machine, &mut arguments);
    arguments
}

fn base(machine: &Machine, arguments: &mut Arguments) {
    let mut options = "q35".to_owned();
    if !machine.bridges.is_empty() {
        options += ",cxl=on";
    }
    if machine.has_hmat() {
        options += ",hmat=on";
    }
    arguments.add("-machine", options);
    let mut memory = format!("{}M", machine.memory.0 >> 20);
    if !machine.virtio_mem.is_empty() {
        // Each device begins at a multiple of 1 GiB.
        let devices: u64 = machine.virtio_mem.iter().map(|d| d.most.0.div_ceil(gib(1).0) + 1).sum();
        let most = machine.memory.0.div_ceil(gib(1).0) + devices;
        memory += &format!(",maxmem={most}G,slots={}", machine.virtio_mem.len());
    }
    arguments.add("-m", memory);
}

fn nodes(machine: &Machine, arguments: &mut Arguments) {
    // Node 0 is where the processors are, and so the initiator of all.
    let initiator = if machine.has_hmat() { ",initiator=0" } else { "" };
    for (number, node) in machine.nodes.iter().enumerate() {
        let mut option = format!("node,nodeid={number}");
        if !node.processors.is_empty() {
            option += &format!(",cpus={}-{}", node.processors.start, node.processors.end - 1);
        }
        if node.memory.0 > 0 {
            arguments.backend(&format!("node{number}"), node.memory);
            option += &format!(",memdev=node{number}{initiator}");
        }
        arguments.add("-numa", option);
    }
    for (number, node) in machine.nodes.iter().enumerate() {
        if let Some(distance) = node.distance {
            arguments.add("-numa", format!("dist,src=0,dst={number},val={distance}"));
        }
        if machine.has_hmat() {
            hmat(number, node, arguments);
        }
    }
}

fn hmat(number: usize, node: &NumaNode, arguments: &mut Arguments) {
    let Some(access) = node.access else { return };
    let target = format!("hmat-lb,initiator=0,target={number},hierarchy=memory");
    let (latency, bandwidth) = (access.latency_ns, access.bandwidth_mib_s);
    arguments.add("-numa", format!("{target},data-type=access-latency,latency={latency}"));
    arguments.add("-numa", format!("{target},data-type=access-bandwidth,bandwidth={bandwidth}M"));
}

fn host_bridge(machine: &Machine, number: usize, bridge: &HostBridge, arguments: &mut Arguments) {
    let name = &bridge.name;
    let bus = bus_number(number);
    arguments.add("-device", format!("pxb-cxl,id={name},bus=pcie.0,bus_nr={bus}"));
    for (port, plugged) in bridge.ports.iter().enumerate() {
        // The pair of chassis and slot is a port's name to hot-plug: one in the whole machine.
        let root = format!("{name}-p{port}");
        let slot = format!("chassis={},slot={port}", number + 1);
        arguments.add("-device", format!("cxl-rp,id={root},bus={name},port={port},{slot}"));
        let chassis = 16 * (number + 1) + port;
        match plugged {
            RootPort::Empty => {}
            RootPort::Device(device) => cxl_device(machine, device, &root, arguments),
            RootPort::Switch(devices) => {
                arguments.add("-device", format!("cxl-upstream,id={root}-up,bus={root}"));
                downstream(machine, devices, &root, chassis, arguments);
            }
            RootPort::ManagedSwitch(devices) => {
                let up = format!("{root}-up");
                let option =
                    format!("id={up},bus={root},port=33,sn=4660,multifunction=on,addr=0.0");
                arguments.add("-device", format!("cxl-upstream,{option}"));
                let option = format!("bus={root},addr=0.1,target={up}");
                arguments.add("-device", format!("cxl-switch-mailbox-cci,{option}"));
                downstream(machine, devices, &root, chassis, arguments);
            }
        }
    }
}

/// The downstream ports of the switch in a root port, and what is in them.
fn downstream(
    machine: &Machine,
    devices: &[CxlDevice],
    root: &str,
    chassis: usize,
    arguments: &mut Arguments,
) {
    for (down, device) in devices.iter().enumerate() {
        let id = format!("{root}-d{down}");
        let slot = format!("chassis={chassis},slot={down}");
        let option = format!("cxl-downstream,id={id},bus={root}-up,port={down},{slot}");
        arguments.add("-device", option);
        cxl_device(machine, device, &id, arguments);
    }
}

fn cxl_device(machine: &Machine, device: &CxlDevice, bus: &str, arguments: &mut Arguments) {
    let name = &device.name;
    arguments.backend(&format!("{name}-ram"), device.volatile);
    let mut option = format!("cxl-type3,id={name},bus={bus},volatile-memdev={name}-ram");
    option += &format!(",sn={}", machine.serial(name).unwrap_or_default());
    if let Some(dynamic) = device.dynamic {
        arguments.backend(&format!("{name}-dc"), dynamic.size);
        let regions = dynamic.regions;
        option += &format!(",volatile-dc-memdev={name}-dc,num-dc-regions={regions}");
    }
    arguments.add("-device", option);
}

/// All in one option: a second one would say that the first list of windows is not the list.
fn windows(machine: &Machine, arguments: &mut Arguments) {
    let mut options = Vec::new();
    for (number, window) in machine.windows.iter().enumerate() {
        let key = format!("cxl-fmw.{number}");
        for (way, target) in window.targets.iter().enumerate() {
            options.push(format!("{key}.targets.{way}={target}"));
        }
        options.push(format!("{key}.size={}M", window.size.0 >> 20));
        if window.targets.len() > 1 {
            options.push(format!("{key}.interleave-granularity={}", window.granularity));
        }
    }
    if !options.is_empty() {
        arguments.add("-machine", options.join(","));
    }
}

fn virtio_mem(machine: &Machine, arguments: &mut Arguments) {
    for device in &machine.virtio_mem {
        let name = &device.name;
        arguments.backend(&format!("{name}-ram"), device.most);
        let mut option = format!("virtio-mem-pci,id={name},bus=pcie.0,memdev={name}-ram");
        option += &format!(",requested-size={},block-size={}", device.requested.0, device.block.0);
        if !machine.nodes.is_empty() {
            option += &format!(",node={}", device.node);
        }
        arguments.add("-device", option);
    }
}

/// What is around the machine, unless it stands alone.
fn surroundings(machine: &Machine, arguments: &mut Arguments) {
    if machine.network == Network::User {
        arguments.add("-netdev", "user,id=net");
        // Nothing is booted from it.
        arguments.add("-device", "virtio-net-pci,netdev=net,bus=pcie.0,romfile=");
    }
    if let Some(path) = &machine.control {
        let path = escaped(path);
        arguments.add("-chardev", format!("socket,id=control,path={path},server=on,wait=off"));
        arguments.add("-mon", "chardev=control,mode=control");
    }
}

/// `panic=-1` restarts at once on a panic, which `-no-reboot` makes QEMU's end; an oops is a panic,
/// because a test must not go on with a kernel that has one behind it. Ticks are periodic: once, on
/// a busy computer, a boot stood still with a processor that slept and was not woken by its
/// one-shot timer.
fn command_line(machine: &Machine, console: &Console<'_>) -> String {
    let mut words = vec![
        "console=ttyS0".to_owned(),
        "earlyprintk=ttyS0,115200".to_owned(),
        "panic=-1".to_owned(),
        "oops=panic".to_owned(),
        "highres=off".to_owned(),
        "nohz=off".to_owned(),
        format!("memhp_default_state={}", machine.onlining.word()),
        format!("testbed.modules={}", machine.loaded_modules().join(",")),
    ];
    if matches!(console, Console::Person) {
        words.push("testbed.shell".to_owned());
    }
    words.extend(machine.kernel_arguments.iter().cloned());
    words.join(" ")
}

fn console(console: &Console<'_>, arguments: &mut Arguments) {
    let Console::Kept(folder) = console else {
        arguments.add("-serial", "mon:stdio");
        return;
    };
    arguments.add("-chardev", format!("file,id=console,path={}", escaped(&folder.join("console"))));
    arguments.add("-serial", "chardev:console");
    sockets(folder, &["qmp", "agent"], arguments);
    arguments.add("-device", "virtio-serial-pci,id=serial,bus=pcie.0");
    arguments.add("-device", format!("virtserialport,bus=serial.0,chardev=agent,name={PORT}"));
}

/// Sockets that a test listens on; one of them for QMP.
fn sockets(folder: &Path, names: &[&str], arguments: &mut Arguments) {
    for name in names {
        let path = escaped(&folder.join(name));
        arguments.add("-chardev", format!("socket,id={name},path={path},server=off"));
    }
    arguments.add("-mon", "chardev=qmp,mode=control");
}

/// A path as QEMU's options want it.
fn escaped(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{machines, mib};

    fn of(machine: &Machine) -> String {
        let connections = Connections {
            kernel: Path::new("/k"),
            initramfs: Path::new("/i"),
            console: Console::Kept(Path::new("/tmp/f")),
        };
        machine.check().expect("it fits");
        arguments(machine, &connections).join(" ")
    }

    #[track_caller]
    fn says(line: &str, parts: &[&str]) {
        for part in parts {
            assert!(line.contains(part), "no {part:?} in {line}");
        }
    }

    #[test]
    fn a_device_hangs_on_its_root_port_and_its_window_leads_there() {
        says(
            &of(&machines::cxl_direct()),
            &[
                "-machine q35,cxl=on -m 2048M ",
                "-numa node,nodeid=0,cpus=0-1,memdev=node0 ",
                "-device pxb-cxl,id=hb0,bus=pcie.0,bus_nr=32 ",
                "-device cxl-rp,id=hb0-p0,bus=hb0,port=0,chassis=1,slot=0 ",
                "memory-backend-ram,id=mem0-ram,size=1073741824,reserve=off ",
                "-device cxl-type3,id=mem0,bus=hb0-p0,volatile-memdev=mem0-ram,sn=1 ",
                "-machine cxl-fmw.0.targets.0=hb0,cxl-fmw.0.size=4096M ",
                "-cpu max,-hypervisor ",
            ],
        );
    }

    #[test]
    fn a_switch_is_between() {
        says(
            &of(&machines::cxl_switch()),
            &[
                "cxl-upstream,id=hb0-p0-up,bus=hb0-p0 ",
                "cxl-downstream,id=hb0-p0-d1,bus=hb0-p0-up,port=1,chassis=16,slot=1 ",
                "cxl-type3,id=mem1,bus=hb0-p0-d1,",
            ],
        );
    }

    #[test]
    fn a_managed_switch_has_a_function_beside_its_upstream_port() {
        says(
            &of(&machines::cxl_managed()),
            &[
                "cxl-upstream,id=hb0-p0-up,bus=hb0-p0,port=33,sn=4660,multifunction=on,addr=0.0 ",
                "cxl-switch-mailbox-cci,bus=hb0-p0,addr=0.1,target=hb0-p0-up ",
                "cxl-downstream,id=hb0-p0-d1,bus=hb0-p0-up,port=1,chassis=16,slot=1 ",
                "cxl-type3,id=mem1,bus=hb0-p0-d1,",
            ],
        );
    }

    #[test]
    fn an_interleaved_window_has_its_granularity() {
        let key = "cxl-fmw.0";
        let window = format!(
            "{key}.targets.0=hb0,{key}.targets.1=hb1,{key}.size=4096M,\
             {key}.interleave-granularity=256 "
        );
        says(&of(&machines::cxl_interleaved()), &[&window, "bus_nr=32 ", "bus_nr=80 "]);
    }

    #[test]
    fn nodes_have_what_firmware_says_of_them() {
        says(
            &of(&machines::near_far()),
            &[
                "-machine q35,hmat=on ",
                "node,nodeid=0,cpus=0-1,memdev=node0,initiator=0 ",
                "node,nodeid=1,memdev=node1,initiator=0 ",
                "dist,src=0,dst=1,val=30 ",
                "target=1,hierarchy=memory,data-type=access-latency,latency=250 ",
                "target=0,hierarchy=memory,data-type=access-bandwidth,bandwidth=40960M ",
            ],
        );
    }

    #[test]
    fn virtio_mem_has_room_for_all_that_it_may_plug() {
        says(
            &of(&machines::virtio_mem()),
            &[
                "-m 2048M,maxmem=19G,slots=1 ",
                "-numa node,nodeid=1 ",
                "virtio-mem-pci,id=vm0,bus=pcie.0,memdev=vm0-ram,requested-size=0,\
                 block-size=2097152,node=1 ",
                "memhp_default_state=online ",
            ],
        );
    }

    #[test]
    fn a_network_and_a_second_socket_are_there_when_they_are_asked_for() {
        let machine = machines::cxl_set_aside();
        let alone = of(&machine);
        assert!(!alone.contains("-netdev") && !alone.contains("id=control"), "{alone}");
        says(
            &of(&machine.user_network().control("/run/a,b")),
            &[
                "-netdev user,id=net -device virtio-net-pci,netdev=net,bus=pcie.0,romfile= ",
                "socket,id=control,path=/run/a,,b,server=on,wait=off -mon chardev=control,",
            ],
        );
    }

    #[test]
    fn words_for_the_kernel_come_last() {
        let machine = Machine::new("m", mib(512)).kernel_argument("numa=fake=2U");
        says(&of(&machine), &["nohz=off memhp_default_state=offline", " numa=fake=2U -chardev"]);
    }
}
