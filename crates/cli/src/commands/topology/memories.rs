//! Dax devices, virtio-mem devices, and each source of memory with the way to it.

use memtide_host::{
    Topology,
    access::Performance,
    topology::{Hop, Memory, Source, Way},
};
use memtide_units::PhysAddr;

use super::{node_name, or_dash, row};
use crate::output;

pub fn dax(topology: &Topology) -> String {
    if topology.dax.is_empty() {
        return String::new();
    }
    let mut rows = vec![row(["DAX", "OF", "SIZE", "ALIGN", "MODE", "NODE"])];
    for device in &topology.dax {
        rows.push(vec![
            device.name.clone(),
            or_dash(device.parent.as_ref()),
            device.size.to_string(),
            device.align.to_string(),
            or_dash(device.mode),
            node_name(device.target_node),
        ]);
    }
    output::table(&rows)
}

pub fn virtio_mem(topology: &Topology) -> String {
    if topology.virtio_mem.is_empty() {
        return String::new();
    }
    let mut rows = vec![row(["VIRTIO-MEM", "AT", "AT MOST", "ADDED", "DRIVER"])];
    for device in &topology.virtio_mem {
        rows.push(vec![
            device.name.clone(),
            or_dash(device.start),
            or_dash(device.size),
            or_dash(device.added),
            or_dash(device.driver.as_ref()),
        ]);
    }
    output::table(&rows)
}

/// From each node with processors to each source; then the ways through CXL.
pub fn memories(topology: &Topology) -> String {
    if topology.memories.is_empty() {
        return String::new();
    }
    let heading = ["FROM", "TO", "MEMORY", "SIZE", "ONLINE", "DISTANCE", "READ", "WRITE"];
    let mut rows = vec![row(heading)];
    for memory in &topology.memories {
        rows.extend(reach_rows(memory));
    }
    let mut text = output::table(&rows);
    for memory in &topology.memories {
        if let Source::Region { name, ways, .. } = &memory.source {
            for way in ways {
                text += &format!("{name}, position {}: {}\n", way.position, way_line(way));
            }
        }
    }
    text
}

fn reach_rows(memory: &Memory) -> Vec<Vec<String>> {
    let name = match &memory.source {
        Source::Ram => "RAM".to_owned(),
        Source::Region { name, dax: Some(dax), .. } => format!("{name}, {dax}"),
        Source::Region { name, dax: None, .. }
        | Source::Dax { name }
        | Source::VirtioMem { name } => name.clone(),
    };
    let row = |from: String, distance: Option<u32>, performance: Performance| {
        vec![
            from,
            node_name(memory.node),
            name.clone(),
            or_dash(memory.size),
            or_dash(memory.online),
            or_dash(distance),
            cost(performance.read_latency_ns, performance.read_bandwidth_mbs),
            cost(performance.write_latency_ns, performance.write_bandwidth_mbs),
        ]
    };
    if memory.from.is_empty() {
        return vec![row("-".to_owned(), None, Performance::default())];
    }
    let rows = memory.from.iter();
    rows.map(|from| row(from.node.to_string(), from.distance, from.performance)).collect()
}

fn cost(latency_ns: Option<u64>, bandwidth_mbs: Option<u64>) -> String {
    let latency = latency_ns.map(|ns| format!("{ns}ns"));
    let bandwidth = bandwidth_mbs.map(|mbs| format!("{mbs}MB/s"));
    let known: Vec<String> = latency.into_iter().chain(bandwidth).collect();
    if known.is_empty() { "-".to_owned() } else { known.join(" ") }
}

/// `root0 decoder0.0 → pci0000:0c (dport 12) → port1 … → mem0, 1GiB at 0x0`
fn way_line(way: &Way) -> String {
    let mut parts: Vec<String> = Vec::new();
    for Hop { port, decoder, dport, device } in &way.hops {
        let decoder = decoder.as_deref().unwrap_or("without a decoder for it");
        parts.push(format!("{port} {decoder}"));
        if let Some(device) = device {
            let dport = dport.map_or_else(String::new, |id| format!(" (dport {id})"));
            parts.push(format!("{device}{dport}"));
        }
    }
    match &way.memdev {
        None => parts.push("no device yet".to_owned()),
        Some(memdev) => parts.push(match (way.dpa_start, way.dpa_size) {
            (Some(start), Some(size)) => format!("{memdev}, {size} at {}", PhysAddr(start)),
            _ => memdev.clone(),
        }),
    }
    parts.join(" → ")
}
