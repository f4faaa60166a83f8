//! `memtide dcd list`.

use std::process::ExitCode;

use memtide_host::{
    Root,
    dcd::{
        pci::{self, PciDevice},
        window,
    },
};
use serde::Serialize;

use super::control;
use crate::{
    arguments::DcdList,
    failure::{Failure, chain},
    machine, output,
};

#[derive(Serialize)]
struct Listed {
    device: String,
    /// The kernel's driver, if one has it.
    driver: Option<String>,
    /// Whether a `memtide dcd serve` has it.
    served: bool,
    /// The part of a window that it can have; `null` where it cannot be served.
    window: Option<String>,
    /// Why it cannot be served.
    obstacle: Option<String>,
}

pub fn list(options: &DcdList) -> Result<ExitCode, Failure> {
    let machine = machine::open(&options.machine)?;
    let root = machine.root();
    let devices = pci::devices(root).map_err(|error| Failure::Failed(chain(&error)))?;
    let served = if root.is_live() { control::served() } else { Vec::new() };
    let listed: Vec<Listed> = devices.iter().map(|device| look(root, device, &served)).collect();
    if options.json {
        output::json(&listed)?;
    } else if listed.is_empty() {
        output::text("no CXL memory device\n")?;
    } else {
        output::text(&told(&listed))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn look(root: &Root, device: &PciDevice, served: &[String]) -> Listed {
    let place = window::find(root, device);
    let driver = device.driver.clone();
    let has_driver = driver.as_ref().map(|driver| format!("the kernel's driver {driver} has it"));
    Listed {
        device: device.address.clone(),
        served: served.contains(&device.address),
        window: place.as_ref().ok().map(|place| place.region.range.to_string()),
        obstacle: has_driver.or_else(|| place.err().map(|error| chain(&error))),
        driver,
    }
}

fn told(listed: &[Listed]) -> String {
    let heading = ["DEVICE", "DRIVER", "SERVED", "WINDOW"].map(str::to_owned);
    let mut rows = vec![heading.to_vec()];
    for device in listed {
        rows.push(vec![
            device.device.clone(),
            device.driver.clone().unwrap_or_else(|| "-".to_owned()),
            if device.served { "yes" } else { "no" }.to_owned(),
            device.window.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    let mut text = output::table(&rows);
    for device in listed {
        if let Some(obstacle) = &device.obstacle {
            text.push_str(&format!("{}: cannot be served: {obstacle}\n", device.device));
        }
    }
    text
}
