//! A device behind a port of a switch, as people write it: `0000:0d:00.1,port=3`.
//!
//! * `port=N`: what is at this port.
//! * `ld=N`: on from there, to this logical device.
//! * `pool`: on from there, to the pool of logical devices, which hands out the capacity of a
//!   device with several heads.

use std::{fmt, str::FromStr};

use memtide_cxl::tunnel::{Route, Target};

use crate::dcd::pci::PciDevice;

/// Where a device is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PortAddress {
    function: String,
    route: Route,
}

/// A text that is no such address.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{text:?} is no port of a switch; expected its PCI function and a port of 0 to 255, as \
     0000:0d:00.1,port=3, and where it goes on from there ,ld=0 or ,pool"
)]
pub struct ParsePortAddressError {
    /// It.
    pub text: String,
}

impl PortAddress {
    /// What is at the end of this route from a switch whose function was found.
    pub(super) fn of(function: &PciDevice, route: Route) -> Self {
        Self { function: function.address.clone(), route }
    }

    /// The switch's PCI function: `0000:0d:00.1`.
    #[must_use]
    pub fn function(&self) -> &str {
        &self.function
    }

    /// The way from there.
    #[must_use]
    pub const fn route(&self) -> &Route {
        &self.route
    }
}

impl FromStr for PortAddress {
    type Err = ParsePortAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| ParsePortAddressError { text: text.to_owned() })
    }
}

impl fmt::Display for PortAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { function, route } = self;
        f.write_str(function)?;
        for (hop, target) in route.hops().iter().enumerate() {
            match target {
                Target::PortOrLd(number) if hop == 0 => write!(f, ",port={number}")?,
                Target::PortOrLd(number) => write!(f, ",ld={number}")?,
                Target::LdPool => f.write_str(",pool")?,
            }
        }
        Ok(())
    }
}

fn parse(text: &str) -> Option<PortAddress> {
    let mut parts = text.split(',');
    let function = function(parts.next()?)?;
    let mut route = Route::port(number(parts.next()?.strip_prefix("port=")?)?);
    for part in parts {
        // In this order, each once.
        route = match (route.hops(), part) {
            (&[.., Target::LdPool], _) => return None,
            (_, "pool") => route.then(Target::LdPool),
            (&[_], ld) => route.then(Target::PortOrLd(number(ld.strip_prefix("ld=")?)?)),
            _ => return None,
        };
    }
    Some(PortAddress { function, route })
}

fn number(text: &str) -> Option<u8> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// As the kernel names it: with its domain, in small letters. Nothing else is let through, for it
/// becomes a part of a path.
fn function(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let parts: Vec<&str> = text.split([':', '.']).collect();
    let hexadecimal = |digits: std::ops::RangeInclusive<usize>, part: &str| {
        digits.contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let (domain, [bus, device, function]) = match *parts.as_slice() {
        [domain, bus, device, function] => (domain, [bus, device, function]),
        [bus, device, function] => ("0000", [bus, device, function]),
        _ => return None,
    };
    let is_one = hexadecimal(4..=8, domain)
        && hexadecimal(2..=2, bus)
        && hexadecimal(2..=2, device)
        && matches!(function.as_bytes(), [b'0'..=b'7']);
    let address = format!("{domain}:{bus}:{device}.{function}");
    (is_one && address.ends_with(&text)).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_written_as_it_is_read() {
        let port = Route::port(3);
        for (text, route, shown) in [
            ("0000:0d:00.1,port=3", port.clone(), "0000:0d:00.1,port=3"),
            ("0D:00.1,port=3", port.clone(), "0000:0d:00.1,port=3"),
            (
                "10000:0d:1f.7,port=3,ld=255",
                port.clone().then(Target::PortOrLd(255)),
                "10000:0d:1f.7,port=3,ld=255",
            ),
            ("0d:00.0,port=3,pool", port.clone().then(Target::LdPool), "0000:0d:00.0,port=3,pool"),
            (
                "0d:00.0,port=3,ld=1,pool",
                port.then(Target::PortOrLd(1)).then(Target::LdPool),
                "0000:0d:00.0,port=3,ld=1,pool",
            ),
        ] {
            let address: PortAddress = text.parse().unwrap();
            assert_eq!(address.route(), &route, "{text}");
            assert_eq!(address.to_string(), shown);
            assert_eq!(shown.parse().as_ref(), Ok(&address));
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "0000:0d:00.1",
            "0000:0d:00.1,port=",
            "0000:0d:00.1,port=256",
            "0000:0d:00.1,port=+1",
            "0000:0d:00.1,ld=1",
            "0000:0d:00.1,port=1,port=2",
            "0000:0d:00.1,port=1,ld=1,ld=2",
            "0000:0d:00.1,port=1,pool,ld=2",
            "0000:0d:00.1,port=1,pool,pool",
            "0000:0d:00.1,port=1,",
            "0000:0d:00.8,port=1",
            "0000:0d:0.1,port=1",
            "000:0d:00.1,port=1",
            "0000.0d.00:1,port=1",
            "../0000:0d:00.1,port=1",
            "0000:0d:00.1/..,port=1",
            "0000:0g:00.1,port=1",
        ] {
            assert!(text.parse::<PortAddress>().is_err(), "{text}");
        }
    }
}
