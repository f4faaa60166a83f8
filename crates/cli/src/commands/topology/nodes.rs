//! Nodes, distances, memory blocks.

use memtide_host::{Topology, memory_blocks, nodes::Node};

use super::{or_dash, row};
use crate::output;

pub fn nodes(topology: &Topology) -> String {
    if topology.nodes.online.is_empty() {
        return String::new();
    }
    let mut rows = vec![row(["NODE", "CPUS", "MEMORY", "FREE", "TIER", "ZONES"])];
    for node in &topology.nodes.online {
        let cpus = node.cpus.to_string();
        rows.push(vec![
            node.node.to_string(),
            if cpus.is_empty() { "none".to_owned() } else { cpus },
            or_dash(node.memory),
            or_dash(node.free),
            or_dash(topology.tier_of(node.node)),
            zones(node),
        ]);
    }
    let mut text = output::table(&rows);
    if !topology.nodes.generic_initiators.is_empty() {
        text +=
            &format!("devices that access memory: on node {}\n", topology.nodes.generic_initiators);
    }
    for node in &topology.nodes.online {
        for cache in &node.side_caches {
            text += &format!(
                "{}: {} of cache in front of its memory, level {}\n",
                node.node,
                or_dash(cache.size.map(memtide_units::ByteSize)),
                cache.level
            );
        }
    }
    for node in &topology.nodes.online {
        if let Some(bad) = node.memory_failure.filter(|bad| bad.total > 0) {
            text += &format!(
                "{}: {} pages went bad since boot: {} recovered, {} delayed, {} ignored, {} \
                 failed\n",
                node.node, bad.total, bad.recovered, bad.delayed, bad.ignored, bad.failed
            );
        }
    }
    text
}

fn zones(node: &Node) -> String {
    let zone = |zone: &memtide_host::zones::NodeZone| format!("{} {}", zone.name, zone.present);
    let zones: Vec<String> = node.zones.iter().map(zone).collect();
    if zones.is_empty() { "none".to_owned() } else { zones.join(", ") }
}

/// Only where there is more than one node.
pub fn distances(topology: &Topology) -> String {
    let nodes = &topology.nodes.online;
    if nodes.len() < 2 {
        return String::new();
    }
    let mut heading = vec!["DISTANCE".to_owned()];
    heading.extend(nodes.iter().map(|node| node.node.to_string()));
    let mut rows = vec![heading];
    for from in nodes {
        let mut cells = vec![from.node.to_string()];
        for to in nodes {
            let mut all = from.distances.iter();
            cells.push(or_dash(all.find(|d| d.to == to.node).map(|d| d.distance)));
        }
        rows.push(cells);
    }
    output::table(&rows)
}

pub fn blocks(topology: &Topology) -> String {
    let Some(blocks) = &topology.blocks else { return String::new() };
    let mut text = format!("memory blocks of {}", blocks.block_size);
    if let Some(state) = &blocks.auto_online {
        text += &format!("; new ones: {state}");
    }
    if let Some(policy) = &blocks.online_policy {
        text += &format!(", policy {policy}");
        if policy == "auto-movable" {
            text += &format!(" {}%", or_dash(blocks.auto_movable_ratio));
        }
    }
    text += "\n";
    let mut rows = vec![row(["NODE", "STATE", "ZONE", "BLOCKS", "SIZE"])];
    for node in &blocks.nodes {
        for zone in &node.zones {
            let none = if zone.state == "offline" { "-" } else { "several" };
            rows.push(vec![
                super::node_name(node.node),
                zone.state.to_owned(),
                zone.zone.unwrap_or(none).to_owned(),
                zone.blocks.to_string(),
                zone.bytes.to_string(),
            ]);
        }
    }
    text += &output::table(&rows);
    if !blocks.abandoned.is_empty() {
        let list = memory_blocks::list(blocks.abandoned.iter().copied());
        text += &format!(
            "their device was taken out, and nothing is behind them: blocks {list}; take them \
             offline, and leave them so until the next restart\n"
        );
    }
    text
}
