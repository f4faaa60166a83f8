//! `memtide completions`.

use std::process::ExitCode;

use clap::CommandFactory;

use crate::{
    arguments::{Arguments, Completions},
    failure::Failure,
    output,
};

pub fn completions(options: &Completions) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut Arguments::command(), "memtide", &mut script);
    output::text(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
