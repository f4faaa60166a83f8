//! `memtide map`.

mod json;
mod text;

use std::process::ExitCode;

use memtide_host::address_map;

use crate::{
    arguments::Map,
    failure::{Failure, chain},
    machine, output,
};

pub fn map(options: &Map) -> Result<ExitCode, Failure> {
    let machine = machine::open(&options.machine)?;
    let map = address_map::read(machine.root()).map_err(|error| Failure::Failed(chain(&error)))?;
    if options.json {
        output::json(&json::Told::of(&map))?;
    } else {
        output::text(&text::text(&map))?;
    }
    Ok(ExitCode::SUCCESS)
}
