//! `memtide status`.

use std::{path::Path, process::ExitCode};

use memtide_proto::{
    control::{NodeStatus, ProgramStatus, Status as Told, ZoneBytes},
    program::{Backing, OnFull},
};
use memtide_units::OnlineZone;

use crate::{arguments::Status, ask, failure::Failure, output};

pub fn status(options: Status) -> Result<ExitCode, Failure> {
    let socket = ask::socket(options.socket.socket)?;
    let status = ask::status(&socket)?;
    if options.json {
        output::json(&status)?;
    } else {
        output::text(&text(&status, &socket))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn text(status: &Told, socket: &Path) -> String {
    let on_full = match status.on_full {
        OnFull::Fail => "ENOMEM",
        OnFull::Fallback => "ordinary memory",
    };
    let mut text = format!(
        "daemon {} at {}: {} moved so far; when full, {on_full}\n",
        status.pid,
        socket.display(),
        status.moved_bytes
    );
    if status.awaited > 0 {
        text += &format!(
            "{} programs of an earlier daemon have not come back yet; nothing is leased meanwhile\n",
            status.awaited
        );
    }
    text += "\n";
    text += &output::table(&node_rows(status));
    text += &zones(status);
    if status.programs.is_empty() {
        text += "\nno programs\n";
        return text;
    }
    text += "\n";
    text += &output::table(&program_rows(status));
    for program in &status.programs {
        text += &remarks(program);
    }
    text
}

fn node_rows(status: &Told) -> Vec<Vec<String>> {
    let heading =
        ["NODE", "KIND", "STORE", "SIZE", "FREE", "LEASED", "ISOLATED", "OFFLINE", "RETIRED"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for node in &status.nodes {
        let store = match node.backing {
            Backing::Memfd => "memfd",
            Backing::MemfdThp => "memfd-thp",
            Backing::Hugetlb => "hugetlb",
            Backing::Dcd => "dcd",
        };
        let numa = node.numa.map(|numa| format!(", NUMA node {}", numa.0)).unwrap_or_default();
        let mut row = vec![node.name.clone(), node.kind.to_string(), format!("{store}{numa}")];
        row.extend(
            [node.size, node.free, node.leased, node.isolated, node.offline, node.retired]
                .map(|size| size.to_string()),
        );
        rows.push(row);
    }
    rows
}

/// What is in which zone, of nodes that have another than the usual one.
fn zones(status: &Told) -> String {
    let is_usual = |part: &ZoneBytes| part.zone == OnlineZone::default();
    let unusual = status.nodes.iter().filter(|node| !node.zones.iter().all(is_usual));
    let line = |node: &NodeStatus| {
        let part = |part: &ZoneBytes| format!("{} {} ({} free)", part.online, part.zone, part.free);
        let parts: Vec<String> = node.zones.iter().map(part).collect();
        format!("{}: {}\n", node.name, parts.join(", "))
    };
    unusual.map(line).collect()
}

fn program_rows(status: &Told) -> Vec<Vec<String>> {
    let mut heading = ["PID", "PROGRAM", "TENANT"].map(str::to_owned).to_vec();
    heading.extend(status.nodes.iter().map(|node| node.name.to_uppercase()));
    heading.extend(["PROMISED", "ORDINARY"].map(str::to_owned));
    let mut rows = vec![heading];
    for program in &status.programs {
        let mut row = vec![program.pid.to_string(), program.name.clone(), program.tenant.clone()];
        for node in &status.nodes {
            let bytes = program.nodes.iter().find(|share| share.node == node.name);
            row.push(bytes.map(|share| share.bytes).unwrap_or_default().to_string());
        }
        row.push(program.committed.to_string());
        row.push(memtide_units::ByteSize(program.counters.overflow_bytes).to_string());
        rows.push(row);
    }
    rows
}

/// What does not fit into a table.
fn remarks(program: &ProgramStatus) -> String {
    let who = format!("{} (pid {})", program.name, program.pid);
    let mut text = String::new();
    for pinned in &program.pinned {
        text += &format!("{who}: {} cannot move: {}\n", pinned.bytes, pinned.reason);
    }
    if !program.connected {
        text += &format!("{who} is not connected; its memory returns when it is gone\n");
    }
    text
}
