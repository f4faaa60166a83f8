//! The memtide command.
//!
//! [`arguments`] defines the command line, of which the manual pages and completions are made;
//! each file of [`commands`] is one subcommand. Everything else is in the libraries.

#![forbid(unsafe_code)]

mod arguments;
mod ask;
mod commands;
mod failure;
mod library;
mod machine;
mod output;
mod pool;
mod progress;

use std::process::ExitCode;

use clap::Parser;

use crate::{arguments::Arguments, failure::Failure};

fn main() -> ExitCode {
    // A wrong command line ends here, with exit code 2.
    let arguments = Arguments::parse();
    match commands::run(arguments.command) {
        Ok(code) => code,
        Err(Failure::BrokenPipe) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("memtide: {failure}");
            failure.exit_code()
        }
    }
}
