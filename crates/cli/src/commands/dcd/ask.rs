//! `memtide dcd status` and `memtide dcd accept-policy`.

use std::process::ExitCode;

use memtide_units::ByteSize;
use serde_json::Value;

use super::control::{self, Policy, Question};
use crate::{
    arguments::{AcceptKind, DcdAcceptPolicy, DcdStatus},
    failure::Failure,
    output,
};

pub fn status(options: &DcdStatus) -> Result<ExitCode, Failure> {
    let device = control::one(options.device.as_deref())?;
    let status = control::ask(&device, &Question::Status)?;
    if options.json {
        output::json(&status)?;
    } else {
        output::text(&told(&status))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub fn accept_policy(options: &DcdAcceptPolicy) -> Result<ExitCode, Failure> {
    let device = control::one(options.device.as_deref())?;
    let set = options.policy.map(|policy| match policy {
        AcceptKind::All => Policy::All,
        AcceptKind::None => Policy::None,
    });
    let answer = control::ask(&device, &Question::AcceptPolicy { set })?;
    if options.json {
        output::json(&answer)?;
    } else {
        output::text(&format!("{}\n", word(&answer, "accept_policy")))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn word<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or("unknown")
}

fn size(value: &Value, key: &str) -> String {
    ByteSize(value[key].as_u64().unwrap_or(0)).to_string()
}

fn told(status: &Value) -> String {
    let mut text = format!(
        "{}: {} accepted, {} online, {} asked back; accepts {}\n",
        word(status, "device"),
        size(status, "accepted"),
        size(status, "online"),
        size(status, "asked_back"),
        word(status, "accept_policy"),
    );
    let groups = status["groups"].as_array().map(Vec::as_slice).unwrap_or_default();
    if groups.is_empty() {
        return text;
    }
    let heading = ["GROUP", "SIZE", "ONLINE", "ASKED BACK", "NODE", "TAG"].map(str::to_owned);
    let mut rows = vec![heading.to_vec()];
    for group in groups {
        let nodes = group["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
        let nodes: Vec<String> = nodes.iter().map(|node| format!("node{node}")).collect();
        rows.push(vec![
            group["group"].to_string(),
            size(group, "size"),
            size(group, "online"),
            size(group, "asked_back"),
            nodes.join(","),
            group["tag"].as_str().unwrap_or("-").to_owned(),
        ]);
    }
    text.push_str(&output::table(&rows));
    text
}
