//! One file per subcommand.

mod add;
mod adopt;
mod bench;
mod bench_frames;
mod capture;
mod change;
mod check;
mod completions;
mod dax;
mod dcd;
mod dcd_pool;
mod doctor;
mod explain;
mod fabric;
mod fm;
mod give_back;
mod man;
mod map;
mod move_memory;
mod offline;
mod online;
mod region;
mod retire;
mod run;
mod serve;
mod sim;
mod status;
mod tenants;
mod topology;

use std::process::ExitCode;

use crate::{arguments::Command, failure::Failure};

pub fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Run(options) => run::run(options),
        Command::Serve(options) => serve::serve(options),
        Command::Status(options) => status::status(options),
        Command::Tenants(options) => tenants::tenants(options),
        Command::Explain(options) => explain::explain(options),
        Command::GiveBack(options) => give_back::give_back(options),
        Command::Add(options) => add::add(options),
        Command::Retire(options) => retire::retire(options),
        Command::Move(options) => move_memory::move_memory(options),
        Command::DcdPool(options) => dcd_pool::dcd_pool(options),
        Command::Fabric(options) => fabric::fabric(options.what),
        Command::Fm(options) => fm::fm(options.what),
        Command::Topology(options) => topology::topology(&options),
        Command::Map(options) => map::map(&options),
        Command::Capture(options) => capture::capture(&options),
        Command::Region(options) => region::region(&options.what),
        Command::Dax(options) => dax::dax(&options.what),
        Command::Dcd(options) => dcd::dcd(&options.what),
        Command::Online(options) => online::online(&options),
        Command::Offline(options) => offline::offline(&options),
        Command::Adopt(options) => adopt::adopt(options),
        Command::Doctor(options) => doctor::doctor(options),
        Command::Check(options) => check::check(&options),
        Command::Completions(options) => completions::completions(&options),
        Command::Man(options) => man::man(&options),
        Command::Bench(options) => bench::bench(options.what),
        Command::Sim(options) => sim::sim(&options.what),
    }
}
