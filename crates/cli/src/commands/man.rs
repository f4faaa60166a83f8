//! `memtide man`.

use std::process::ExitCode;

use clap::CommandFactory;

use crate::{
    arguments::{Arguments, Man},
    failure::Failure,
    output,
};

pub fn man(options: &Man) -> Result<ExitCode, Failure> {
    let command = Arguments::command();
    match &options.output {
        Some(directory) => {
            clap_mangen::generate_to(command, directory).map_err(|error| {
                Failure::failed(format_args!("cannot write to {}: {error}", directory.display()))
            })?;
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page)?;
            output::text(&String::from_utf8_lossy(&page))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
