//! CXL: buses with their windows and ports, down to the devices.

use std::collections::BTreeSet;

use memtide_host::{
    Topology,
    cxl::{Bus, Cxl, Decoder, DecoderKind, Dport, Memdev, Port, Region},
};
use memtide_units::{ByteSize, PhysAddr};

use super::{or_dash, tree::Tree};

/// Levels of ports that are shown: as many as the kernel has at most, and some.
const DEPTH_MAX: usize = 8;

pub fn cxl(topology: &Topology) -> String {
    let cxl = &topology.cxl;
    let buses: String = cxl.buses.iter().map(|one| bus(topology, one).text()).collect();
    let unreached = cxl.memdevs.iter().filter(|memdev| cxl.endpoint_of(&memdev.name).is_none());
    let unreached: String = unreached
        .map(|memdev| format!("{}; no way to it: its driver is not bound\n", describe(memdev)))
        .collect();
    buses + &unreached
}

fn bus(topology: &Topology, bus: &Bus) -> Tree {
    let cxl = &topology.cxl;
    let mut below: Vec<Tree> =
        cxl.decoders_of(bus.number).map(|decoder| window(topology, decoder)).collect();
    below.extend(Ports { cxl, shown: BTreeSet::new() }.below(&bus.name, &bus.dports, DEPTH_MAX));
    Tree::new(format!("{}, of {}", bus.name, or_dash(bus.host.as_ref())), below)
}

fn window(topology: &Topology, decoder: &Decoder) -> Tree {
    let DecoderKind::Root { capabilities, qos_class, targets, .. } = &decoder.kind else {
        return Tree::leaf(decoder.name.clone());
    };
    let capabilities: Vec<&str> = capabilities.iter().map(|one| one.as_str()).collect();
    let line = format!(
        "window {}: {}; {} over dport {}; for {}; QoS class {}",
        decoder.name,
        range(decoder.start, decoder.size),
        interleave(decoder.interleave_ways, decoder.interleave_granularity),
        list(targets),
        capabilities.join(", "),
        or_dash(*qos_class)
    );
    let is_here = |region: &&Region| region.decoder.as_deref() == Some(decoder.name.as_str());
    let regions = topology.cxl.regions.iter().filter(is_here);
    Tree::new(line, regions.map(|one| region(topology, one)).collect())
}

fn region(topology: &Topology, region: &Region) -> Tree {
    let dax = topology.dax.iter().find(|dax| dax.parent.as_deref() == Some(region.name.as_str()));
    let state = match (region.committed, &region.driver) {
        (Some(true), Some(_)) => "committed",
        (Some(true), None) => "committed, its driver is not bound",
        (Some(false), _) => "not committed",
        (None, _) => "unknown whether committed",
    };
    let mut line = format!(
        "{}: {} of {}; {}; {state}",
        region.name,
        or_dash(region.mode.as_ref()),
        range(region.start, region.size),
        interleave(region.interleave_ways, region.interleave_granularity),
    );
    if let Some(dax) = dax {
        line += &format!("; gives {}", dax.name);
    }
    let targets = region.targets.iter().enumerate();
    let targets = targets.map(|(position, target)| {
        Tree::leaf(format!("target {position}: {}", or_dash(target.as_ref())))
    });
    Tree::new(line, targets.collect())
}

/// Ports on their way into a tree, each once: in a captured tree made by hand they could hang
/// behind each other in a ring.
struct Ports<'a> {
    cxl: &'a Cxl,
    shown: BTreeSet<u32>,
}

impl<'a> Ports<'a> {
    /// Each dport with the ports behind it.
    fn below(&mut self, parent: &'a str, dports: &'a [Dport], depth: usize) -> Vec<Tree> {
        let Some(depth) = depth.checked_sub(1) else { return Vec::new() };
        let mut all = Vec::new();
        for dport in dports {
            let mut behind = Vec::new();
            for port in self.cxl.ports_under(parent) {
                let is_behind = port.parent_dport.as_deref() == Some(dport.device.as_str());
                if is_behind && self.shown.insert(port.number) {
                    behind.push(self.port(port, depth));
                }
            }
            all.push(Tree::new(format!("dport {}: {}", dport.id, dport.device), behind));
        }
        all
    }

    fn port(&mut self, port: &'a Port, depth: usize) -> Tree {
        let mut line = port.name.clone();
        let mut below = decoders(self.cxl, port);
        match port.host.as_deref().and_then(|host| self.cxl.memdev(host)) {
            Some(memdev) => line += &format!(", of {}", describe(memdev)),
            None => line += &format!(", of {}", or_dash(port.host.as_ref())),
        }
        if port.driver.is_none() {
            line += "; its driver is not bound";
        }
        below.extend(self.below(&port.name, &port.dports, depth));
        Tree::new(line, below)
    }
}

/// Those in use, each in a line; the others in one.
fn decoders(cxl: &Cxl, port: &Port) -> Vec<Tree> {
    let (free, used): (Vec<&Decoder>, Vec<&Decoder>) =
        cxl.decoders_of(port.number).partition(|decoder| decoder.is_free() && !has_dpa(decoder));
    let mut lines: Vec<Tree> = used.into_iter().map(|one| Tree::leaf(decoder_line(one))).collect();
    match free.as_slice() {
        [] => {}
        [only] => lines.push(Tree::leaf(format!("{}: free", only.name))),
        [first, .., last] => lines.push(Tree::leaf(format!(
            "{} to {}: {} free decoders",
            first.name,
            last.name,
            free.len()
        ))),
    }
    lines
}

/// Whether device memory is set aside for it already.
fn has_dpa(decoder: &Decoder) -> bool {
    matches!(&decoder.kind, DecoderKind::Endpoint { dpa_size: Some(size), .. } if size.0 > 0)
}

fn decoder_line(decoder: &Decoder) -> String {
    let mut line = format!(
        "{}: {}; {}",
        decoder.name,
        range(decoder.start, decoder.size),
        interleave(decoder.interleave_ways, decoder.interleave_granularity)
    );
    match &decoder.kind {
        DecoderKind::Root { .. } => {}
        DecoderKind::Switch { targets, .. } => {
            line += &format!(" over dport {}", list(targets));
        }
        DecoderKind::Endpoint { mode, dpa_start, dpa_size, .. } => {
            line += &format!(
                "; device's {} {}",
                or_dash(mode.as_ref()),
                range(dpa_start.map(PhysAddr), *dpa_size)
            );
        }
    }
    if let Some(region) = decoder.region() {
        line += &format!("; for {region}");
    }
    if decoder.locked == Some(true) {
        line += "; locked";
    }
    line
}

fn describe(memdev: &Memdev) -> String {
    let mut text = format!("{} at {}", memdev.name, or_dash(memdev.host.as_ref()));
    for (kind, partition) in [("ram", memdev.ram), ("pmem", memdev.pmem)] {
        if let Some(size) = partition.size.filter(|size| size.0 > 0) {
            text += &format!(", {size} {kind}");
        }
    }
    if let Some(node) = memdev.numa_node {
        text += &format!(", near {node}");
    }
    if let Some(version) = &memdev.firmware_version {
        text += &format!(", firmware {version:?}");
    }
    text
}

/// `1GiB at 0x590000000`
fn range(start: Option<PhysAddr>, size: Option<ByteSize>) -> String {
    match (start, size) {
        (Some(start), Some(size)) => format!("{size} at {start}"),
        (None, Some(size)) => size.to_string(),
        (_, None) => "of unknown size".to_owned(),
    }
}

/// `2 ways of 256B`
fn interleave(ways: Option<u32>, granularity: Option<u32>) -> String {
    match (ways, granularity) {
        (Some(1), _) => "1 way".to_owned(),
        (Some(ways), Some(bytes)) => format!("{ways} ways of {}", ByteSize(u64::from(bytes))),
        _ => "no interleave yet".to_owned(),
    }
}

fn list(numbers: &[u32]) -> String {
    if numbers.is_empty() {
        return "-".to_owned();
    }
    numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}
