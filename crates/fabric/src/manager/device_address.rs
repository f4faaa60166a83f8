//! Where a device is that a manager speaks to, and in which language.

use std::{fmt, str::FromStr, sync::Arc};

use memtide_host::switch::{ParsePortAddressError, PortAddress};

use super::backend::{
    Connector, FabricConnector,
    cci::CciConnector,
    qmp::{ParseQmpError, QmpAddress, QmpConnector},
};
use crate::{Address, address::ParseAddressError};

/// Where a device is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub enum DeviceAddress {
    /// Behind a fabric's socket.
    Fabric(Address),
    /// In QEMU's guests: `qmp:SOCKET,DEVICE[+SOCKET,DEVICE…]`.
    Qmp(QmpAddress),
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
    /// It begins as QEMU's devices do.
    #[error(transparent)]
    Qmp(#[from] ParseQmpError),
    /// It is no port's.
    #[error("cci: {0}")]
    Cci(#[from] ParsePortAddressError),
}

impl FromStr for DeviceAddress {
    type Err = ParseDeviceAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with("qmp:") {
            return Ok(Self::Qmp(text.parse()?));
        }
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
            Self::Qmp(address) => address.fmt(f),
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
            Self::Qmp(address) => Arc::new(QmpConnector(address.clone())),
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
            ("qmp:/run/a.qmp,mem0", "qmp:/run/a.qmp,mem0"),
            ("qmp:a,b,/machine/x+c,mem1", "qmp:a,b,/machine/x+c,mem1"),
            ("cci:0D:00.1,port=3", "cci:0000:0d:00.1,port=3"),
            ("cci:0000:0d:00.1,port=3,pool", "cci:0000:0d:00.1,port=3,pool"),
        ] {
            let address: DeviceAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), shown);
            assert_eq!(address.connector().address(), shown);
            assert_eq!(shown.parse(), Ok(address));
        }
    }

    #[test]
    fn what_is_no_address_of_a_guest_is_told_what_one_looks_like() {
        for text in ["qmp:", "qmp:/run/a.qmp", "qmp:,mem0", "qmp:/a,", "qmp:/a,m+", "qmp:/a,m+/b"] {
            let error = text.parse::<DeviceAddress>().unwrap_err().to_string();
            assert!(error.contains("expected qmp:SOCKET,DEVICE"), "{text}: {error}");
        }
        let twice = "qmp:/a,m+/a,n".parse::<DeviceAddress>().unwrap_err().to_string();
        assert_eq!(twice, "socket /a twice; expected each once");
        let many = (0..17).map(|n| format!("/{n},m")).collect::<Vec<_>>().join("+");
        let many = format!("qmp:{many}").parse::<DeviceAddress>().unwrap_err().to_string();
        assert_eq!(many, "17 guests; expected 16 or fewer");
    }
}
