//! `memtide dcd`.

mod ask;
mod control;
mod list;
mod manager;
mod pool;
mod serve;

use std::process::ExitCode;

use crate::{arguments::DcdWhat, failure::Failure};

pub fn dcd(what: &DcdWhat) -> Result<ExitCode, Failure> {
    match what {
        DcdWhat::Serve(options) => serve::serve(options),
        DcdWhat::List(options) => list::list(options),
        DcdWhat::Status(options) => ask::status(options),
        DcdWhat::AcceptPolicy(options) => ask::accept_policy(options),
    }
}
