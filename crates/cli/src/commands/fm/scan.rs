//! `memtide fm scan`: the switches that this machine can manage, and who is behind their ports.

use std::process::ExitCode;

use memtide_cxl::command::switch::{ConnectedDevice, Link, Port, PortConfiguration};
use memtide_fabric::manager::DeviceAddress;
use memtide_host::{
    Root,
    switch::{self, Behind, Capacity, Identified, ScannedPort, ScannedSwitch, SwitchError},
};
use memtide_units::ByteSize;
use serde::Serialize;

use crate::{
    arguments::FmScan,
    failure::{Failure, PARTLY_DONE, chain},
    output,
};

#[derive(Serialize)]
struct SwitchView {
    function: String,
    /// The kernel's driver, if one has it.
    driver: Option<String>,
    serial: Option<u64>,
    ingress_port: Option<u8>,
    virtual_switches: Option<u8>,
    ports: Vec<PortView>,
    /// Why it says nothing.
    problem: Option<String>,
}

#[derive(Serialize)]
struct PortView {
    port: u8,
    #[serde(rename = "use")]
    usage: String,
    connected: String,
    link: LinkView,
    logical_devices: u8,
    /// Who is behind it; `null` where nobody is who could have memory.
    device: Option<DeviceView>,
    /// Why who is behind it does not say who it is.
    problem: Option<String>,
}

#[derive(Serialize)]
struct LinkView {
    width: u8,
    width_max: u8,
    /// PCIe's numbers: 1 for 2.5 GT/s to 6 for 64 GT/s.
    speed: u8,
    speed_max: u8,
    ltssm: u8,
}

#[derive(Serialize)]
struct DeviceView {
    serial: u64,
    vendor: u16,
    device: u16,
    /// For `memtide fm serve --device`; `null` where there is nothing to be handed out.
    address: Option<String>,
    hosts: Option<u8>,
    regions: Option<u8>,
    capacity: Option<u64>,
    /// Why there is no address.
    problem: Option<String>,
}

pub fn scan(options: &FmScan) -> Result<ExitCode, Failure> {
    let scanned = switch::scan(&Root::live()).map_err(|error| Failure::Failed(chain(&error)))?;
    let views: Vec<SwitchView> = scanned.iter().map(view).collect();
    if options.json {
        output::json(&views)?;
    } else if views.is_empty() {
        output::text("no CXL switch has a management function (PCI class 0c0b) here\n")?;
    } else {
        output::text(&told(&views))?;
    }
    Ok(exit_code(&scanned))
}

/// Whether all said what they are, some, or none.
fn exit_code(scanned: &[ScannedSwitch]) -> ExitCode {
    let is_whole = |told: &Identified| {
        told.ports.iter().all(|port| match &port.behind {
            None => true,
            // A device without dynamic capacity has answered, too.
            Some(Ok(behind)) => {
                matches!(behind.capacity, Ok(_) | Err(SwitchError::NoDynamicCapacity { .. }))
            }
            Some(Err(_)) => false,
        })
    };
    if !scanned.is_empty() && scanned.iter().all(|switch| switch.told.is_err()) {
        return ExitCode::FAILURE;
    }
    if scanned.iter().all(|switch| switch.told.as_ref().is_ok_and(is_whole)) {
        return ExitCode::SUCCESS;
    }
    ExitCode::from(PARTLY_DONE)
}

fn view(scanned: &ScannedSwitch) -> SwitchView {
    let (function, driver) = (scanned.function.clone(), scanned.driver.clone());
    match &scanned.told {
        Ok(told) => SwitchView {
            function,
            driver,
            serial: told.serial,
            ingress_port: Some(told.switch.ingress_port),
            virtual_switches: Some(told.switch.virtual_switches),
            ports: told.ports.iter().map(port_view).collect(),
            problem: None,
        },
        Err(error) => SwitchView {
            function,
            driver,
            serial: None,
            ingress_port: None,
            virtual_switches: None,
            ports: Vec::new(),
            problem: Some(chain(error)),
        },
    }
}

fn port_view(scanned: &ScannedPort) -> PortView {
    let Port { number, configuration, connected, link, ld_count, .. } = scanned.port;
    let Link { width, width_max, speed, speed_max, ltssm, .. } = link;
    let (device, problem) = match &scanned.behind {
        None => (None, None),
        Some(Ok(behind)) => (Some(device_view(behind)), None),
        Some(Err(error)) => (None, Some(chain(error))),
    };
    PortView {
        port: number,
        usage: usage(configuration),
        connected: kind(configuration, connected),
        link: LinkView { width, width_max, speed, speed_max, ltssm },
        logical_devices: ld_count,
        device,
        problem,
    }
}

fn device_view(behind: &Behind) -> DeviceView {
    let identity = behind.identity;
    let view = DeviceView {
        serial: identity.serial,
        vendor: identity.vendor,
        device: identity.device,
        address: None,
        hosts: None,
        regions: None,
        capacity: None,
        problem: None,
    };
    match &behind.capacity {
        Ok(Capacity { address, info }) => DeviceView {
            address: Some(DeviceAddress::Cci(address.clone()).to_string()),
            hosts: Some(info.hosts),
            regions: Some(info.regions),
            capacity: Some(info.total_capacity),
            ..view
        },
        Err(error) => DeviceView { problem: Some(chain(error)), ..view },
    }
}

fn usage(configuration: PortConfiguration) -> String {
    let name = match configuration {
        PortConfiguration::DISABLED => "disabled",
        PortConfiguration::BINDING => "binding",
        PortConfiguration::UNBINDING => "unbinding",
        PortConfiguration::DOWNSTREAM => "downstream",
        PortConfiguration::UPSTREAM => "upstream",
        PortConfiguration::FABRIC => "fabric",
        PortConfiguration::INVALID => "invalid",
        PortConfiguration(other) => return format!("{other:#x}"),
    };
    name.to_owned()
}

/// Nothing is said of who is at an upstream port, but that it is the host.
fn kind(configuration: PortConfiguration, connected: ConnectedDevice) -> String {
    if configuration == PortConfiguration::UPSTREAM {
        return "host".to_owned();
    }
    let name = match connected {
        ConnectedDevice::NONE => "nothing",
        ConnectedDevice::PCIE => "pcie",
        ConnectedDevice::TYPE_1 => "type-1",
        ConnectedDevice::TYPE_2 => "type-2",
        ConnectedDevice::MEMORY => "memory",
        ConnectedDevice::MEMORY_MULTI_LOGICAL => "memory-multi-logical",
        ConnectedDevice::PBR => "pbr",
        ConnectedDevice(other) => return format!("{other:#x}"),
    };
    name.to_owned()
}

fn told(views: &[SwitchView]) -> String {
    views.iter().map(switch_text).collect::<Vec<_>>().join("\n")
}

fn switch_text(switch: &SwitchView) -> String {
    if let Some(problem) = &switch.problem {
        return format!("{}: {problem}\n", switch.function);
    }
    let serial =
        switch.serial.map_or_else(|| "unknown".to_owned(), |serial| format!("{serial:#x}"));
    let heading = ["PORT", "USE", "CONNECTED", "LINK", "SERIAL", "CAPACITY", "ADDRESS"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(switch.ports.iter().map(row));
    let mut text = format!("{}: a switch, serial number {serial}\n", switch.function);
    text += &output::table(&rows);
    for port in &switch.ports {
        let of_device = port.device.as_ref().and_then(|device| device.problem.as_ref());
        for problem in port.problem.iter().chain(of_device) {
            text += &format!("{problem}\n");
        }
    }
    text
}

fn row(port: &PortView) -> Vec<String> {
    let none = || "-".to_owned();
    let device = port.device.as_ref();
    vec![
        port.port.to_string(),
        port.usage.clone(),
        port.connected.clone(),
        format!("x{} {}", port.link.width, speed(port.link.speed)),
        device.map_or_else(none, |device| format!("{:#x}", device.serial)),
        device.and_then(|device| device.capacity).map_or_else(none, |c| ByteSize(c).to_string()),
        device.and_then(|device| device.address.clone()).unwrap_or_else(none),
    ]
}

/// PCIe's numbers for speeds (PCI Express base 6.0, 7.5.3.6).
fn speed(number: u8) -> String {
    let name = match number {
        1 => "2.5",
        2 => "5",
        3 => "8",
        4 => "16",
        5 => "32",
        6 => "64",
        other => return format!("speed {other}"),
    };
    format!("{name} GT/s")
}

#[cfg(test)]
mod tests {
    use memtide_cxl::{
        ReturnCode,
        command::identify::{Component, Identity},
    };
    use memtide_host::switch::Who;

    use super::*;

    fn port(behind: Option<Result<Behind, SwitchError>>) -> ScannedPort {
        let link = Link {
            width_max: 16,
            width: 8,
            speeds: 0x1f,
            speed_max: 5,
            speed: 4,
            ltssm: 4,
            first_lane: 0,
            flags: 0,
        };
        let (configuration, connected) = (PortConfiguration::DOWNSTREAM, ConnectedDevice::MEMORY);
        let port = Port {
            number: 1,
            configuration,
            mode: 2,
            connected,
            modes_supported: 2,
            link,
            ld_count: 1,
        };
        ScannedPort { port, behind }
    }

    fn behind(capacity: Result<Capacity, SwitchError>) -> Behind {
        let identity = Identity {
            vendor: 0x8086,
            device: 0xd93,
            subsystem_vendor: 0,
            subsystem: 0,
            serial: 0x2a,
            message_log2_max: 9,
            component: Component::MEMORY_DEVICE,
        };
        Behind { identity, capacity }
    }

    fn nothing() -> SwitchError {
        let who = Who(memtide_cxl::tunnel::Route::port(1));
        SwitchError::NoDynamicCapacity { who, code: ReturnCode::UNSUPPORTED }
    }

    #[test]
    fn a_device_without_dynamic_capacity_is_told_in_a_sentence() {
        let view = port_view(&port(Some(Ok(behind(Err(nothing()))))));
        let switch = SwitchView {
            function: "0000:0d:00.1".to_owned(),
            driver: None,
            serial: Some(9),
            ingress_port: Some(0),
            virtual_switches: Some(1),
            ports: vec![view],
            problem: None,
        };
        assert_eq!(
            switch_text(&switch),
            "0000:0d:00.1: a switch, serial number 0x9\n\
             PORT  USE         CONNECTED  LINK        SERIAL  CAPACITY  ADDRESS\n   \
             1  downstream  memory     x8 16 GT/s    0x2a  -         -\n\
             the device behind port 1 has no dynamic capacity commands for a manager: it answers \
             unsupported (0x3) to Get DCD Info (5600h)\n"
        );
    }

    #[test]
    fn the_exit_code_says_whether_all_answered() {
        let failed = || SwitchError::NoSwitch { wanted: "x".to_owned(), found: Vec::new() };
        let switch = |told| ScannedSwitch { function: "x".to_owned(), driver: None, told };
        let with = |ports| {
            let switch = memtide_cxl::command::switch::Switch {
                ingress_port: 0,
                ports: 1,
                virtual_switches: 1,
                active_ports: [0; 32],
                active_virtual_switches: [0; 32],
                bridges: 0,
                bound_bridges: 0,
                decoders: 0,
            };
            Ok(Identified { serial: None, switch, ports })
        };
        let code = |all: Vec<ScannedSwitch>| exit_code(&all);
        let refused = || behind(Err(nothing()));
        assert_eq!(code(vec![]), ExitCode::SUCCESS);
        assert_eq!(code(vec![switch(with(vec![port(Some(Ok(refused())))]))]), ExitCode::SUCCESS);
        assert_eq!(code(vec![switch(Err(failed()))]), ExitCode::FAILURE);
        let partly = ExitCode::from(PARTLY_DONE);
        assert_eq!(code(vec![switch(Err(failed())), switch(with(vec![]))]), partly);
        assert_eq!(code(vec![switch(with(vec![port(Some(Err(failed())))]))]), partly);
        let unknown = behind(Err(failed()));
        assert_eq!(code(vec![switch(with(vec![port(Some(Ok(unknown)))]))]), partly);
    }
}
