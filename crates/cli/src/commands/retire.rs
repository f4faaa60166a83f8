//! `memtide retire`.

use std::process::ExitCode;

use memtide_units::ByteSize;
use serde::Serialize;

use crate::{arguments::Retire, ask, failure::Failure, output};

#[derive(Serialize)]
struct Retired {
    retired: ByteSize,
}

pub fn retire(options: Retire) -> Result<ExitCode, Failure> {
    let socket = ask::socket(options.socket.socket)?;
    let retired = ask::retire(&socket, options.on.clone(), options.offset)?;
    if options.json {
        output::json(&Retired { retired })?;
    } else {
        let (offset, on) = (options.offset, options.on);
        output::text(&format!("{retired} around {offset} of node {on} are not used again\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}
