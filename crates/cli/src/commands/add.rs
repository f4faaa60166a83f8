//! `memtide add`.

use std::process::ExitCode;

use memtide_units::ByteSize;
use serde::Serialize;

use crate::{arguments::Add, ask, failure::Failure, output};

#[derive(Serialize)]
struct Added {
    added: ByteSize,
}

pub fn add(options: Add) -> Result<ExitCode, Failure> {
    let socket = ask::socket(options.socket.socket)?;
    let added = ask::add(&socket, options.size, options.to.clone())?;
    if options.json {
        output::json(&Added { added })?;
    } else {
        output::text(&format!("{added} are back on node {}\n", options.to))?;
    }
    Ok(ExitCode::SUCCESS)
}
