//! `memtide add`.

use std::process::ExitCode;

use memtide_units::ByteSize;
use serde::Serialize;

use crate::{
    arguments::{Add, PoolZone},
    ask,
    failure::Failure,
    output,
};

#[derive(Serialize)]
struct Added {
    added: ByteSize,
}

pub fn add(options: Add) -> Result<ExitCode, Failure> {
    let socket = ask::socket(options.socket.socket)?;
    let zone = options.zone.map(PoolZone::zone);
    let added = ask::add(&socket, options.size, options.to.clone(), zone)?;
    if options.json {
        output::json(&Added { added })?;
    } else {
        let zone = zone.map(|zone| format!(", in zone {zone}")).unwrap_or_default();
        output::text(&format!("{added} are back on node {}{zone}\n", options.to))?;
    }
    Ok(ExitCode::SUCCESS)
}
