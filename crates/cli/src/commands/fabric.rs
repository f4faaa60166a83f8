//! `memtide fabric`.

use std::process::ExitCode;

use memtide_fabric::{
    Address,
    serving::StopHandle,
    software::{BindError, Config, Fabric},
};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::{
    arguments::{FabricServe, FabricWhat},
    failure::{Failure, chain},
};

pub fn fabric(what: FabricWhat) -> Result<ExitCode, Failure> {
    match what {
        FabricWhat::Serve(options) => serve(options),
    }
}

fn serve(options: FabricServe) -> Result<ExitCode, Failure> {
    let FabricServe { capacity, hosts, socket, tcp, block, regions, name, serial } = options;
    let config = Config { name, serial, capacity, hosts, regions, block };
    let addresses: Vec<_> = std::iter::once(Address::Unix(socket)).chain(tcp).collect();
    let mut fabric = Fabric::bind(config.clone(), &addresses).map_err(|error| match error {
        BindError::Config(_) => Failure::Usage(chain(&error)),
        _ => Failure::Failed(chain(&error)),
    })?;
    stop_on_signals(fabric.stop_handle())?;
    fabric.on_notice(|notice| eprintln!("memtide: {notice}"));
    let at: Vec<_> = fabric.addresses().map(ToString::to_string).collect();
    eprintln!(
        "memtide: serving {} of {} for {hosts} hosts at {}",
        config.name,
        config.capacity,
        at.join(", ")
    );
    fabric.run().map_err(|error| Failure::Failed(chain(&error)))?;
    Ok(ExitCode::SUCCESS)
}

/// Lets a server end in order.
pub fn stop_on_signals(stop: StopHandle) -> Result<(), Failure> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for _ in signals.forever() {
            stop.stop();
        }
    })?;
    Ok(())
}
