//! `memtide check`.

use std::process::ExitCode;

use memtide_client::paths;
use memtide_daemon::Config;

use crate::{arguments::Check, failure::Failure, output};

pub fn check(options: &Check) -> Result<ExitCode, Failure> {
    let config = Config::read(&options.file, &paths::default_socket())?;
    let nodes: Vec<String> =
        config.nodes.iter().map(|node| format!("{} {}", node.name, node.size)).collect();
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
