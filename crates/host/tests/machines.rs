//! Real machines, as `memtide capture` wrote them: emulated ones, see data/README.md.
//!
//! What is asserted is what QEMU was told to build, and what the guest did then.

use std::{fmt::Write, path::PathBuf};

use memtide_host::{
    Root, Topology,
    capture::{self, Opened},
    cxl::{Decoder, DecoderKind},
    dax::DaxMode,
    dax_mode::{self, ModeWish},
    topology::{Source, Way},
};

fn open(machine: &str) -> Opened {
    let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    capture::open(&data.join(format!("{machine}.tar.gz"))).unwrap()
}

fn read(machine: &str) -> Topology {
    let topology = Topology::read(open(machine).root());
    assert!(topology.notes.is_empty(), "{machine}: {:?}", topology.notes);
    topology
}

/// A line for each thing that matters.
fn summary(topology: &Topology) -> String {
    let mut text = String::new();
    nodes(topology, &mut text);
    for window in topology.cxl.decoders.iter().filter(|decoder| decoder.is_window()) {
        writeln!(text, "{}", self::window(window)).unwrap();
    }
    for region in &topology.cxl.regions {
        let targets: Vec<&str> =
            region.targets.iter().map(|t| t.as_deref().unwrap_or("-")).collect();
        writeln!(
            text,
            "{} in {} {} ways {} of {} targets {} {} {}",
            region.name,
            region.decoder.as_deref().unwrap(),
            region.range().unwrap(),
            region.interleave_ways.unwrap(),
            region.interleave_granularity.unwrap(),
            targets.join(","),
            if region.committed.unwrap() { "committed" } else { "open" },
            region.driver.as_deref().unwrap_or("unbound"),
        )
        .unwrap();
    }
    for dax in &topology.dax {
        let (mode, parent) = (dax.mode.unwrap(), dax.parent.as_deref().unwrap());
        writeln!(text, "{} of {parent} {mode} {}", dax.name, dax.target_node.unwrap()).unwrap();
    }
    memories(topology, &mut text);
    text
}

fn nodes(topology: &Topology, text: &mut String) {
    for node in &topology.nodes.online {
        let distances: Vec<String> =
            node.distances.iter().map(|distance| distance.distance.to_string()).collect();
        let tier = topology.tier_of(node.node).map_or("-".to_owned(), |tier| tier.to_string());
        let blocks = topology.blocks.as_ref().unwrap().of_node(node.node);
        let blocks: Vec<String> = blocks
            .iter()
            .map(|zone| format!("{} {} {}", zone.blocks, zone.state, zone.zone.unwrap_or("-")))
            .collect();
        writeln!(
            text,
            "{} cpus {} tier {tier} distances {} blocks {}",
            node.node,
            node.cpus,
            distances.join(","),
            blocks.join(", ")
        )
        .unwrap();
    }
}

fn window(decoder: &Decoder) -> String {
    let DecoderKind::Root { targets, .. } = &decoder.kind else { unreachable!() };
    format!(
        "{} {} ways {} of {} targets {targets:?}",
        decoder.name,
        decoder.range().unwrap(),
        decoder.interleave_ways.unwrap(),
        decoder.interleave_granularity.unwrap(),
    )
}

fn memories(topology: &Topology, text: &mut String) {
    for memory in &topology.memories {
        let name = match &memory.source {
            Source::Ram => "ram",
            Source::Region { name, .. } | Source::Dax { name } | Source::VirtioMem { name } => name,
        };
        let node = memory.node.map_or("-".to_owned(), |node| node.to_string());
        let (size, online) = (memory.size.unwrap(), memory.online.unwrap());
        write!(text, "{name} on {node}: {size}, {online} online").unwrap();
        for from in &memory.from {
            write!(text, "; from {} at {}", from.node, from.distance.unwrap()).unwrap();
            let cost = from.performance;
            if let (Some(latency), Some(bandwidth)) =
                (cost.read_latency_ns, cost.read_bandwidth_mbs)
            {
                write!(text, ", {latency} ns, {bandwidth} MB/s").unwrap();
            }
        }
        text.push('\n');
        if let Source::Region { ways, .. } = &memory.source {
            for way in ways {
                writeln!(text, "  {}", self::way(way)).unwrap();
            }
        }
    }
}

fn way(way: &Way) -> String {
    let hops: Vec<String> = way
        .hops
        .iter()
        .map(|hop| {
            let decoder = hop.decoder.as_deref().unwrap_or("-");
            match (hop.dport, &hop.device) {
                (Some(dport), Some(device)) => format!("{} {decoder} {dport}={device}", hop.port),
                _ => format!("{} {decoder}", hop.port),
            }
        })
        .collect();
    format!("{}: {} / {}", way.position, hops.join(" / "), way.memdev.as_deref().unwrap_or("-"))
}

#[test]
fn a_device_without_a_region_has_a_window_and_a_way() {
    let topology = read("cxl-direct-unbound");
    assert_eq!(
        summary(&topology),
        "\
node0 cpus 0-1 tier 4 distances 10 blocks 1 online -, 15 online DMA32
decoder0.0 0x590000000-0x68fffffff ways 1 of 256 targets [12]
ram on node0: 2GiB, 2GiB online; from node0 at 10
"
    );
    let endpoint = topology.cxl.endpoint_of("mem0").unwrap();
    let ways: Vec<&str> =
        topology.cxl.ancestry(endpoint).iter().map(|port| port.name.as_str()).collect();
    assert_eq!(ways, ["endpoint2", "port1"]);
    assert_eq!(topology.cxl.decoders_of(endpoint.number).filter(|d| d.is_free()).count(), 4);
    let memdev = topology.cxl.memdev("mem0").unwrap();
    assert_eq!(memdev.host.as_deref(), Some("0000:0d:00.0"));
    assert_eq!(memdev.ram.size, Some("1G".parse().unwrap()));
    assert_eq!((memdev.serial, memdev.driver.as_deref()), (None, Some("cxl_mem")));
}

#[test]
fn a_region_on_one_device_is_reached_through_its_host_bridge() {
    assert_eq!(
        summary(&read("cxl-direct-region")),
        "\
node0 cpus 0-1 tier 4 distances 10,20 blocks 1 online -, 15 online DMA32
node1 cpus  tier 22 distances 20,10 blocks 8 online Movable
decoder0.0 0x590000000-0x68fffffff ways 1 of 256 targets [12]
region0 in decoder0.0 0x590000000-0x5cfffffff ways 1 of 256 targets decoder2.0 committed cxl_region
dax0.0 of region0 system-ram node1
ram on node0: 2GiB, 2GiB online; from node0 at 10
region0 on node1: 1GiB, 1GiB online; from node0 at 20
  0: root0 decoder0.0 12=pci0000:0c / port1 decoder1.0 0=0000:0c:00.0 / endpoint2 decoder2.0 / mem0
"
    );
}

#[test]
fn behind_a_switch_there_is_a_port_more() {
    let topology = read("cxl-switch");
    let text = summary(&topology);
    let way = "0: root0 decoder0.0 12=pci0000:0c / port1 decoder1.0 0=0000:0c:00.0 / \
               port2 decoder2.0 0=0000:0e:00.0 / endpoint3 decoder3.0 / mem0\n";
    assert!(text.ends_with(way), "{text}");
    let other = topology.cxl.endpoint_of("mem1").unwrap();
    assert_eq!(
        (other.parent.as_deref(), topology.cxl.dport_above(other)),
        (Some("port2"), Some(1))
    );
    assert_eq!(topology.cxl.port("port2").unwrap().dports.len(), 2);
}

#[test]
fn an_interleaved_region_has_two_ways_over_two_host_bridges() {
    assert_eq!(
        summary(&read("cxl-interleave2")),
        "\
node0 cpus 0-1 tier 4 distances 10,20 blocks 1 online -, 15 online DMA32
node1 cpus  tier 22 distances 20,10 blocks 16 online Movable
decoder0.0 0x590000000-0x68fffffff ways 2 of 256 targets [12, 222]
region0 in decoder0.0 0x590000000-0x60fffffff ways 2 of 256 targets decoder3.0,decoder4.0 committed cxl_region
dax0.0 of region0 system-ram node1
ram on node0: 2GiB, 2GiB online; from node0 at 10
region0 on node1: 2GiB, 2GiB online; from node0 at 20
  0: root0 decoder0.0 12=pci0000:0c / port2 decoder2.0 0=0000:0c:00.0 / endpoint3 decoder3.0 / mem0
  1: root0 decoder0.0 222=pci0000:de / port1 decoder1.0 0=0000:de:00.0 / endpoint4 decoder4.0 / mem1
"
    );
}

#[test]
fn two_windows_are_two_nodes_one_of_them_offline() {
    assert_eq!(
        summary(&read("two-windows")),
        "\
node0 cpus 0-1 tier 4 distances 10,20,20 blocks 1 online -, 15 online DMA32
node1 cpus  tier 22 distances 20,10,20 blocks 8 online Movable
node2 cpus  tier - distances 20,20,10 blocks 8 offline -
decoder0.0 0x590000000-0x68fffffff ways 1 of 256 targets [12]
decoder0.1 0x690000000-0x70fffffff ways 1 of 256 targets [222]
region0 in decoder0.0 0x590000000-0x5cfffffff ways 1 of 256 targets decoder4.0 committed cxl_region
region1 in decoder0.1 0x690000000-0x6cfffffff ways 1 of 256 targets decoder3.0 committed cxl_region
dax0.0 of region0 system-ram node1
dax1.0 of region1 system-ram node2
ram on node0: 2GiB, 2GiB online; from node0 at 10
region0 on node1: 1GiB, 1GiB online; from node0 at 20
  0: root0 decoder0.0 12=pci0000:0c / port2 decoder2.0 0=0000:0c:00.0 / endpoint4 decoder4.0 / mem1
region1 on node2: 1GiB, 0B online; from node0 at 20
  0: root0 decoder0.1 222=pci0000:de / port1 decoder1.0 0=0000:de:00.0 / endpoint3 decoder3.0 / mem0
"
    );
}

#[test]
fn a_region_over_both_devices_of_a_switch_has_costs_and_one_begun_has_none() {
    let text = summary(&read("cxl-genport"));
    let cxl = text.split_once("decoder0.0 ").unwrap().1;
    assert_eq!(
        cxl,
        "\
0x590000000-0x68fffffff ways 1 of 256 targets [12]
region0 in decoder0.0 0x590000000-0x5cfffffff ways 2 of 256 targets decoder3.0,decoder4.0 committed cxl_region
region1 in decoder0.0 0x5d0000000-0x5dfffffff ways 1 of 256 targets - open unbound
dax0.0 of region0 system-ram node2
ram on node0: 2GiB, 2GiB online; from node0 at 10, 80 ns, 40960 MB/s
region0 on node2: 1GiB, 1GiB online; from node0 at 20, 34420 ns, 20480 MB/s
  0: root0 decoder0.0 12=pci0000:0c / port1 decoder1.0 0=0000:0c:00.0 / port2 decoder2.0 1=0000:0e:01.0 / endpoint3 decoder3.0 / mem0
  1: root0 decoder0.0 12=pci0000:0c / port1 decoder1.0 0=0000:0c:00.0 / port2 decoder2.0 0=0000:0e:00.0 / endpoint4 decoder4.0 / mem1
region1 on -: 256MiB, 0B online
  0:  / -
"
    );
}

#[test]
fn hmat_says_what_a_node_costs() {
    assert_eq!(
        summary(&read("hmat")),
        "\
node0 cpus 0-1 tier 4 distances 10,30 blocks 1 online -, 15 online DMA32
node1 cpus  tier 28 distances 30,10 blocks 8 online Normal
ram on node0: 2GiB, 2GiB online; from node0 at 10, 80 ns, 40960 MB/s
ram on node1: 1GiB, 1GiB online; from node0 at 30, 250 ns, 20480 MB/s
"
    );
}

#[test]
fn virtio_mem_is_a_source_of_its_node() {
    for (machine, blocks, online) in [
        ("virtio-mem", "16 online Normal", "2GiB"),
        ("virtio-mem-movable", "16 online Movable", "2GiB"),
        ("virtio-mem-offline", "8 offline -", "0B"),
    ] {
        let topology = read(machine);
        let text = summary(&topology);
        assert!(text.contains("node1 cpus  tier "), "{text}");
        assert!(text.contains(&format!("blocks {blocks}\n")), "{text}");
        let line = format!("virtio0 on node1: 16GiB, {online} online; from node0 at 20\n");
        assert!(text.ends_with(&line), "{text}");
        let [device] = topology.virtio_mem.as_slice() else { panic!("{text}") };
        let added = if machine == "virtio-mem-offline" { "1G" } else { "2G" };
        assert_eq!(device.added, Some(added.parse().unwrap()));
    }
}

#[test]
fn machines_without_cxl_have_their_nodes() {
    let topology = read("numa-fake");
    assert_eq!(
        summary(&topology),
        "\
node0 cpus 0-1 tier 4 distances 10,10 blocks 1 online -, 7 online DMA32
node1 cpus 0-1 tier 4 distances 10,10 blocks 7 online DMA32
ram on node0: 1.1GiB, 1.1GiB online; from node0 at 10; from node1 at 10
ram on node1: 896MiB, 896MiB online; from node0 at 10; from node1 at 10
"
    );
    // The emulated nodes meet a page after a boundary of blocks: that block is of both.
    let both = topology.blocks.as_ref().unwrap().nodes.iter().find(|blocks| blocks.node.is_none());
    assert_eq!(both.unwrap().zones[0].blocks, 1);
    let text = summary(&read("plain-memmap"));
    assert!(text.starts_with("node0 cpus 0-1 tier 4 distances 10 blocks "), "{text}");
}

#[test]
fn what_was_captured_is_captured_again_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let opened = open("cxl-switch");
    let files = ["first", "second"].map(|name| folder.path().join(name));
    let serials = capture::Serials::LeftOut;
    capture::capture(opened.root(), &files[0], serials).unwrap();
    let again = capture::open(&files[0]).unwrap();
    capture::capture(again.root(), &files[1], serials).unwrap();
    assert_eq!(std::fs::read(&files[0]).unwrap(), std::fs::read(&files[1]).unwrap());
    assert_eq!(Topology::read(again.root()), Topology::read(opened.root()));
}

#[test]
fn nothing_secret_is_captured_and_serial_numbers_on_request_only() {
    let opened = open("cxl-direct-region");
    let at = |path: &str| opened.root().at(path);
    std::fs::write(at("sys/bus/cxl/devices/mem0/serial"), "0xc0ffee\n").unwrap();
    std::fs::write(at("sys/bus/cxl/devices/region0/uuid"), "u-u-i-d\n").unwrap();
    std::fs::write(at("proc/iomem"), "0-fff : System RAM\n  10-1f : Kernel code\n").unwrap();
    std::fs::write(at("proc/cmdline"), "rd.luks.key=secret mem=4G\n").unwrap();
    std::fs::write(at("proc/kcore"), "secret").unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (serials, serial, uuid) in [
        (capture::Serials::LeftOut, None, None),
        (capture::Serials::Included, Some(0xc0ffee), Some("u-u-i-d".to_owned())),
    ] {
        let file = folder.path().join(format!("{serials:?}.tar.gz"));
        let captured = capture::capture(opened.root(), &file, serials).unwrap();
        assert_eq!(captured.left_out, if serial.is_none() { 2 } else { 0 });
        let again = capture::open(&file).unwrap();
        let cxl = Topology::read(again.root()).cxl;
        assert_eq!(cxl.memdev("mem0").unwrap().serial, serial);
        assert_eq!(cxl.region("region0").unwrap().uuid, uuid);
        let text = |path: &str| again.root().text(path).unwrap();
        assert_eq!(text("proc/iomem").as_deref(), Some("0-fff : System RAM"));
        assert_eq!(text("proc/cmdline").as_deref(), Some("mem=4G"));
        assert_eq!(text("proc/kcore"), None);
    }
}

#[test]
fn what_changes_are_planned_by_is_captured() {
    let opened = open("cxl-direct-region");
    let at = |path: &str| opened.root().at(path);
    let driver = "sys/bus/dax/drivers/device_dax";
    std::fs::create_dir_all(at(driver)).unwrap();
    std::fs::write(at(driver).join("new_id"), "secret").unwrap();
    // Two entries, the second one RAM from 4 GiB on; and a signature of a disk.
    let mut params = vec![0u8; 4096];
    params[0x1e8] = 2;
    params[0x2d0 + 20..][..8].copy_from_slice(&(4u64 << 30).to_le_bytes());
    params[0x2d0 + 28..][..8].copy_from_slice(&(1u64 << 30).to_le_bytes());
    params[0x2d0 + 36] = 1;
    let without_secret = params.clone();
    params[0x290..0x2d0].fill(0x5a);
    std::fs::create_dir_all(at("sys/kernel/boot_params")).unwrap();
    std::fs::write(at("sys/kernel/boot_params/data"), params).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("capture.tar.gz");
    capture::capture(opened.root(), &file, capture::Serials::LeftOut).unwrap();
    let again = capture::open(&file).unwrap();
    let data = again.root().bytes("sys/kernel/boot_params/data").unwrap();
    assert_eq!(data, Some(without_secret));
    assert!(again.root().exists(driver) && again.root().names(driver).unwrap().is_empty());
    // So there is a plan of what needs the driver.
    let wish = ModeWish {
        device: "dax0.0".to_owned(),
        mode: DaxMode::Devdax,
        online: None,
        limit: std::time::Duration::from_secs(1),
    };
    let change = dax_mode::plan(again.root(), &wish).unwrap();
    assert!(!change.plan.is_empty());
}

#[test]
fn an_empty_machine_has_nothing_and_says_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let topology = Topology::read(&Root::new(folder.path()));
    assert!(topology.notes.is_empty() && topology.cxl.is_empty() && topology.memories.is_empty());
}
