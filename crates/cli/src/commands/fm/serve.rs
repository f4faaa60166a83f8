//! `memtide fm serve`.

use std::process::ExitCode;

use memtide_client::paths;
use memtide_fabric::manager::{BindError, Config, Service, config::Places};

use super::socket;
use crate::{
    arguments::FmServe,
    commands::fabric::stop_on_signals,
    failure::{Failure, chain},
};

pub fn serve(options: FmServe) -> Result<ExitCode, Failure> {
    let places = Places { socket: socket(options.socket), store: options.store };
    let config = match &options.config {
        Some(path) => Config::read(path, places),
        None => Config::from_arguments(places, options.agents, &options.device, &options.host),
    };
    let config = config.map_err(|error| Failure::Usage(chain(&error)))?;
    paths::prepare_directory_of(&config.socket)?;
    let devices: Vec<_> = config.addresses.keys().map(ToString::to_string).collect();
    let mut service = Service::bind(config).map_err(|error| match error {
        BindError::Config(_) => Failure::Usage(chain(&error)),
        _ => Failure::Failed(chain(&error)),
    })?;
    stop_on_signals(service.stop_handle())?;
    service.on_notice(|notice| eprintln!("memtide: {notice}"));
    let at: Vec<_> = service.addresses().map(ToString::to_string).collect();
    eprintln!("memtide: managing {} at {}", devices.join(", "), at.join(", "));
    service.run().map_err(|error| Failure::Failed(chain(&error)))?;
    Ok(ExitCode::SUCCESS)
}
