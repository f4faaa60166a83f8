//! Where a device is that a manager speaks to, and in which language.

use std::{fmt, str::FromStr, sync::Arc};

use memtide_host::switch::{ParsePortAddressError, PortAddress};

use super::backend::{Connector, FabricConnector, cci::CciConnector};
use crate::{Address, address::ParseAddressError};

/// Where a device is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub enum DeviceAddress {
    /// Behind a fabric's socket.
    Fabric(Address),
    /// Behind a port of a switch that this machine manages: `cci:0000:0d:00.1,port=3`.
    Cci(PortAddress),
}

/// What stands before the address of a port.
const CCI: &str = "cci:";

/// A text that is no device's address.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseDeviceAddressError {
    /// It is no socket's.
    #[error(transparent)]
    Fabric(#[from] ParseAddressError),
    /// It is no port's.
    #[error("cci: {0}")]
    Cci(#[from] ParsePortAddressError),
}

impl FromStr for DeviceAddress {
    type Err = ParseDeviceAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix(CCI) {
            Some(port) => Ok(Self::Cci(port.parse()?)),
            None => Ok(Self::Fabric(text.parse()?)),
        }
    }
}

impl fmt::Display for DeviceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fabric(address) => address.fmt(f),
            Self::Cci(address) => write!(f, "{CCI}{address}"),
        }
    }
}

impl DeviceAddress {
    /// How it is connected.
    #[must_use]
    pub fn connector(&self) -> Arc<dyn Connector> {
        match self {
            Self::Fabric(address) => Arc::new(FabricConnector(address.clone())),
            Self::Cci(address) => Arc::new(CciConnector::new(address.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_devices_address_is_written_as_it_is_read() {
        for (text, shown) in [
            ("unix:/run/f.sock", "unix:/run/f.sock"),
            ("/run/f.sock", "unix:/run/f.sock"),
            ("tcp:localhost:7000", "tcp:localhost:7000"),
            ("cci:0D:00.1,port=3", "cci:0000:0d:00.1,port=3"),
            ("cci:0000:0d:00.1,port=3,pool", "cci:0000:0d:00.1,port=3,pool"),
        ] {
            let address: DeviceAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), shown);
            assert_eq!(address.connector().address(), shown);
            assert_eq!(shown.parse(), Ok(address));
        }
    }
}
