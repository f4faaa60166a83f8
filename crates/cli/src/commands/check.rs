//! `memtide check`.

use std::process::ExitCode;

use memtide_client::paths;
use memtide_daemon::{Config, NodeConfig};

use crate::{arguments::Check, failure::Failure, output};

pub fn check(options: &Check) -> Result<ExitCode, Failure> {
    let config = Config::read(&options.file, &paths::default_socket())?;
    let node = |node: &NodeConfig| {
        let numa = node.numa.map(|numa| format!(" on NUMA node {}", numa.node.0));
        format!("{} {}{}", node.name, node.size, numa.unwrap_or_default())
    };
    let nodes: Vec<String> = config.nodes.iter().map(node).collect();
    let accessors = config.accessors.iter().map(|accessor| accessor.name.as_str());
    let tenants = config.tenants.iter().map(|tenant| tenant.name.as_str());
    output::text(&format!(
        "{}: good: {} at {}{}{}\n",
        options.file.display(),
        nodes.join(", "),
        config.socket.display(),
        listed("accessed by", accessors.collect()),
        listed("for", tenants.collect())
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Names after a word, if there are any.
fn listed(word: &str, names: Vec<&str>) -> String {
    if names.is_empty() { String::new() } else { format!(", {word} {}", names.join(", ")) }
}
