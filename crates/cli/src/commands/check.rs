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
    let tenants: Vec<&str> = config.tenants.iter().map(|tenant| tenant.name.as_str()).collect();
    output::text(&format!(
        "{}: good: {} at {}{}\n",
        options.file.display(),
        nodes.join(", "),
        config.socket.display(),
        if tenants.is_empty() { String::new() } else { format!(", for {}", tenants.join(", ")) }
    ))?;
    Ok(ExitCode::SUCCESS)
}
