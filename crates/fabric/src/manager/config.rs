//! What a manager's service is started with: a file, or the command line.
//!
//! ```toml
//! socket = "/run/memtide/fm.sock"       # where memtide fm connects
//! agents = ["unix:/run/memtide/fm-agents.sock"]
//! store = "/var/lib/memtide/fm.redb"
//!
//! [timing]
//! patience = "10s"
//!
//! [[device]]
//! name = "pool0"
//! address = "unix:/run/memtide/pool0.sock"
//! hosts = [
//!     { name = "h1", number = 0, minimum = "1GiB", maximum = "8GiB", weight = 2 },
//!     { name = "h2", number = 1 },
//! ]
//! ```

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use memtide_cxl::{
    command::HostId,
    manager::{
        self, Chooser, DeviceConfig, DeviceName, HostConfig, HostName, Limits, NameError, Timing,
    },
};
use memtide_units::{ByteSize, ParseSizeError};
use serde::Deserialize;

use super::device_address::{DeviceAddress, ParseDeviceAddressError};
use crate::{Address, address::ParseAddressError};

/// A service, as it is to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Where `memtide fm` connects, and for whom a Unix socket is the only kind: whoever can
    /// connect can take memory from hosts.
    pub socket: PathBuf,
    /// Where hosts' agents connect.
    pub agents: Vec<Address>,
    /// What is kept.
    pub store: PathBuf,
    /// Devices, hosts, limits, pauses.
    pub manager: manager::Config,
    /// Where the devices are.
    pub addresses: BTreeMap<DeviceName, DeviceAddress>,
}

/// Why there is no such service.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is not TOML, or has fields that there are not.
    #[error("{}: {source}", path.display())]
    Syntax {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        source: Box<toml::de::Error>,
    },
    /// A name that is none.
    #[error("{field}: {source}")]
    Name {
        /// Where it stands.
        field: String,
        /// What is wrong.
        source: NameError,
    },
    /// An address that is none.
    #[error("{field}: {source}")]
    Address {
        /// Where it stands.
        field: String,
        /// What is wrong.
        source: ParseAddressError,
    },
    /// An address of a device that is none.
    #[error("{field}: {source}")]
    DeviceAddress {
        /// Where it stands.
        field: String,
        /// What is wrong.
        source: ParseDeviceAddressError,
    },
    /// A size that is none.
    #[error("{field}: {source}")]
    Size {
        /// Where it stands.
        field: String,
        /// What is wrong.
        source: ParseSizeError,
    },
    /// A time that is none.
    #[error("{field} is {value:?}; expected a time such as 500ms, 10s or 2m")]
    Time {
        /// Which.
        field: &'static str,
        /// What it is.
        value: String,
    },
    /// Something on the command line that is not of the form it should be.
    #[error("{option} {value:?}; expected {expected}")]
    Form {
        /// Which option.
        option: &'static str,
        /// What was given.
        value: String,
        /// What it should look like.
        expected: &'static str,
    },
    /// A host of a device that is not there.
    #[error("--host {host:?}: device {device} is not among --device; expected one that is")]
    NoSuchDevice {
        /// Which host.
        host: String,
        /// Which device.
        device: DeviceName,
    },
    /// The same device twice.
    #[error("device {device} is there twice; expected each once")]
    Twice {
        /// Which.
        device: DeviceName,
    },
    /// A service of nothing.
    #[error("no device; expected one or more")]
    NoDevice,
    /// The manager refuses it.
    #[error(transparent)]
    Manager(#[from] manager::ConfigError),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    socket: Option<PathBuf>,
    #[serde(default)]
    agents: Vec<String>,
    store: Option<PathBuf>,
    #[serde(default)]
    timing: RawTiming,
    #[serde(default)]
    device: Vec<RawDevice>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawTiming {
    patience: Option<String>,
    retry_first: Option<String>,
    retry_most: Option<String>,
    settle: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDevice {
    name: String,
    address: String,
    #[serde(default)]
    chooser: RawChooser,
    #[serde(default)]
    hosts: Vec<RawHost>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
enum RawChooser {
    #[default]
    Manager,
    Device,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHost {
    name: String,
    number: u16,
    minimum: Option<String>,
    maximum: Option<String>,
    weight: Option<u32>,
}

/// Where things are, unless a file or the command line says otherwise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Places {
    /// Where `memtide fm` connects.
    pub socket: PathBuf,
    /// What is kept; nothing: `fm.redb` beside the socket, wherever that is.
    pub store: Option<PathBuf>,
}

impl Places {
    /// Where things are: what a file says comes first.
    fn resolve(self, socket: Option<PathBuf>, store: Option<PathBuf>) -> (PathBuf, PathBuf) {
        let socket = socket.unwrap_or(self.socket);
        let beside = || socket.with_file_name("fm.redb");
        let store = store.or(self.store).unwrap_or_else(beside);
        (socket, store)
    }
}

/// A device on the command line: `NAME=ADDRESS`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeviceArgument(DeviceName, DeviceAddress);

/// A host on the command line: `[DEVICE/]NAME=NUMBER`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostArgument {
    device: Option<DeviceName>,
    name: HostName,
    number: u16,
}

impl FromStr for DeviceArgument {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let form = || ConfigError::Form {
            option: "--device",
            value: text.to_owned(),
            expected: "NAME=ADDRESS, as pool0=unix:/run/memtide/pool0.sock",
        };
        let (name, address) = text.split_once('=').ok_or_else(form)?;
        Ok(Self(device_name("--device", name)?, device_address("--device", address)?))
    }
}

impl FromStr for HostArgument {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let form = || ConfigError::Form {
            option: "--host",
            value: text.to_owned(),
            expected: "[DEVICE/]NAME=NUMBER, as h1=0 or pool0/h1=0",
        };
        let (name, number) = text.split_once('=').ok_or_else(form)?;
        let number = number.parse().map_err(|_| form())?;
        let (device, name) = match name.split_once('/') {
            Some((device, name)) => (Some(device_name("--host", device)?), name),
            None => (None, name),
        };
        Ok(Self { device, name: host_name("--host", name)?, number })
    }
}

impl Config {
    /// What a file says.
    ///
    /// # Errors
    /// [`ConfigError`] says what is wrong.
    pub fn read(path: &Path, places: Places) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path, places)
    }

    fn parse(text: &str, path: &Path, places: Places) -> Result<Self, ConfigError> {
        let raw: RawFile = toml::from_str(text).map_err(|source| ConfigError::Syntax {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        let devices = raw.device.into_iter().map(device).collect::<Result<Vec<_>, _>>()?;
        let agents = raw.agents.iter().map(|text| address("agents", text));
        let (socket, store) = places.resolve(raw.socket, raw.store);
        let config = Self {
            socket,
            agents: agents.collect::<Result<_, _>>()?,
            store,
            manager: manager::Config { devices: Vec::new(), timing: timing(raw.timing)? },
            addresses: BTreeMap::new(),
        };
        config.with_devices(devices)
    }

    /// What the command line says. A host without a device has a part in every one.
    ///
    /// # Errors
    /// [`ConfigError`] says what is wrong.
    pub fn from_arguments(
        places: Places,
        agents: Vec<Address>,
        devices: &[DeviceArgument],
        hosts: &[HostArgument],
    ) -> Result<Self, ConfigError> {
        let has = |name: &DeviceName| devices.iter().any(|device| device.0 == *name);
        for host in hosts {
            if let Some(device) = host.device.as_ref().filter(|device| !has(device)) {
                let (host, device) = (host.name.to_string(), device.clone());
                return Err(ConfigError::NoSuchDevice { host, device });
            }
        }
        let device = |DeviceArgument(name, address): &DeviceArgument| {
            let is_there =
                |host: &&HostArgument| host.device.as_ref().is_none_or(|device| device == name);
            let host = |host: &HostArgument| HostConfig {
                name: host.name.clone(),
                host: HostId(host.number),
                limits: Limits::default(),
            };
            let hosts = hosts.iter().filter(is_there).map(host).collect();
            let (name, chooser) = (name.clone(), Chooser::default());
            (DeviceConfig { name, chooser, hosts }, address.clone())
        };
        let (socket, store) = places.resolve(None, None);
        let config = Self {
            socket,
            agents,
            store,
            manager: manager::Config::default(),
            addresses: BTreeMap::new(),
        };
        config.with_devices(devices.iter().map(device).collect())
    }

    fn with_devices(
        mut self,
        devices: Vec<(DeviceConfig, DeviceAddress)>,
    ) -> Result<Self, ConfigError> {
        if devices.is_empty() {
            return Err(ConfigError::NoDevice);
        }
        for (device, address) in devices {
            if self.addresses.insert(device.name.clone(), address).is_some() {
                return Err(ConfigError::Twice { device: device.name });
            }
            self.manager.devices.push(device);
        }
        manager::Manager::new(self.manager.clone())?;
        Ok(self)
    }
}

fn device(raw: RawDevice) -> Result<(DeviceConfig, DeviceAddress), ConfigError> {
    let name = device_name("device.name", &raw.name)?;
    let address = device_address(&format!("device {name}: address"), &raw.address)?;
    let chooser = match raw.chooser {
        RawChooser::Manager => Chooser::Manager,
        RawChooser::Device => Chooser::Device,
    };
    let hosts = raw.hosts.into_iter().map(host).collect::<Result<_, _>>()?;
    Ok((DeviceConfig { name, chooser, hosts }, address))
}

fn host(raw: RawHost) -> Result<HostConfig, ConfigError> {
    let name = host_name("hosts.name", &raw.name)?;
    let size = |what: &str, text: Option<String>, otherwise: u64| match text {
        None => Ok(otherwise),
        Some(text) => match text.parse::<ByteSize>() {
            Ok(size) => Ok(size.0),
            Err(source) => Err(ConfigError::Size { field: format!("{what} of {name}"), source }),
        },
    };
    let usual = Limits::default();
    let limits = Limits {
        minimum: size("minimum", raw.minimum, usual.minimum)?,
        maximum: size("maximum", raw.maximum, usual.maximum)?,
        weight: raw.weight.unwrap_or(usual.weight),
    };
    Ok(HostConfig { name, host: HostId(raw.number), limits })
}

fn timing(raw: RawTiming) -> Result<Timing, ConfigError> {
    let usual = Timing::default();
    let time = |field, text: Option<String>, otherwise| match text {
        None => Ok(otherwise),
        Some(value) => self::time(&value).ok_or(ConfigError::Time { field, value }),
    };
    Ok(Timing {
        patience: time("patience", raw.patience, usual.patience)?,
        retry_first: time("retry_first", raw.retry_first, usual.retry_first)?,
        retry_most: time("retry_most", raw.retry_most, usual.retry_most)?,
        settle: time("settle", raw.settle, usual.settle)?,
    })
}

fn time(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.parse::<u64>().ok()?.checked_mul(unit_ms)?))
}

fn device_name(field: &str, text: &str) -> Result<DeviceName, ConfigError> {
    text.parse().map_err(|source| ConfigError::Name { field: field.to_owned(), source })
}

fn host_name(field: &str, text: &str) -> Result<HostName, ConfigError> {
    text.parse().map_err(|source| ConfigError::Name { field: field.to_owned(), source })
}

fn address(field: &str, text: &str) -> Result<Address, ConfigError> {
    text.parse().map_err(|source| ConfigError::Address { field: field.to_owned(), source })
}

fn device_address(field: &str, text: &str) -> Result<DeviceAddress, ConfigError> {
    text.parse().map_err(|source| ConfigError::DeviceAddress { field: field.to_owned(), source })
}

#[cfg(test)]
mod tests;
