//! `memtide topology`.

mod cxl;
mod memories;
mod nodes;
mod tree;

use std::process::ExitCode;

use memtide_host::Topology as Read;
use memtide_units::NodeId;

use crate::{arguments::Topology, failure::Failure, machine, output};

pub fn topology(options: &Topology) -> Result<ExitCode, Failure> {
    let machine = machine::open(&options.machine)?;
    let topology = Read::read(machine.root());
    if options.json {
        output::json(&topology)?;
    } else {
        output::text(&text(&topology))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn text(topology: &Read) -> String {
    let parts = [
        nodes::nodes(topology),
        nodes::distances(topology),
        nodes::blocks(topology),
        cxl::cxl(topology),
        memories::dax(topology),
        memories::virtio_mem(topology),
        memories::memories(topology),
        lacking(topology),
        notes(topology),
    ];
    let there: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    there.join("\n")
}

/// What this machine does not have, in one line.
fn lacking(topology: &Read) -> String {
    let has_costs = topology.nodes.online.iter().any(|node| !node.access.is_empty());
    let all = [
        (topology.nodes.online.is_empty(), "NUMA nodes"),
        (topology.tiers.is_empty(), "memory tiers"),
        (!has_costs, "latency and bandwidth from firmware (HMAT)"),
        (topology.blocks.is_none(), "memory hot-plug"),
        (topology.cxl.is_empty(), "CXL"),
        (topology.dax.is_empty(), "dax devices"),
        (topology.virtio_mem.is_empty(), "virtio-mem"),
    ];
    let missing: Vec<&str> =
        all.into_iter().filter(|(lacks, _)| *lacks).map(|(_, name)| name).collect();
    if missing.is_empty() {
        return String::new();
    }
    format!("not on this machine: {}\n", missing.join(", "))
}

fn notes(topology: &Read) -> String {
    topology.notes.iter().map(|note| format!("note: {note}\n")).collect()
}

/// A node's name, or a dash.
fn node_name(node: Option<NodeId>) -> String {
    node.map_or_else(|| "-".to_owned(), |node| node.to_string())
}

/// A thing as it prints, or a dash.
fn or_dash(thing: Option<impl ToString>) -> String {
    thing.map_or_else(|| "-".to_owned(), |thing| thing.to_string())
}

/// A row of a table.
fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}
