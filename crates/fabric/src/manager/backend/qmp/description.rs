//! What QEMU's device is, by its properties.
//!
//! QEMU says the serial number, how many regions there are, and the backends; how the regions lie
//! follows from that (`cxl_create_dc_regions`): one after the other behind the static memory, of
//! equal lengths, in blocks of 2 MiB.

use std::time::Instant;

use memtide_cxl::{
    command::Sanitize,
    device::{self, CAPACITY_UNIT, RegionConfig, SanitizeControl, Sharing},
};
use serde_json::{Value, json};

use super::{QmpError, lines::Lines};
use crate::wire::MAX_TOLD_EXTENTS;

/// What extents are multiples of.
const BLOCK_BYTES: u64 = 2 << 20;
/// QEMU's serial number of a device that has none (`UI64_NULL`).
const NO_SERIAL: u64 = u64::MAX;

/// Of the shadow's log: for each extent of a host one, and some.
const EVENT_RECORDS: u16 = 4096;
const _: () = assert!(MAX_TOLD_EXTENTS < EVENT_RECORDS as usize);

/// A device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Description {
    /// Its serial number.
    pub(super) serial: u64,
    /// Bytes of static memory: where its first region begins.
    pub(super) base: u64,
    /// Bytes of dynamic capacity.
    pub(super) size: u64,
    /// In how many regions.
    pub(super) regions: u64,
}

impl Description {
    /// Asks QEMU; waits until then at most.
    pub(super) fn read(lines: &mut Lines, path: &str, until: Instant) -> Result<Self, QmpError> {
        let mut object = Object { lines, path, until };
        let serial = object.number("sn")?;
        if serial == NO_SERIAL {
            return Err(object.wrong("sn", &json!("none"), "a serial number: sn=1, …"));
        }
        let regions = object.number("num-dc-regions")?;
        if !(1..=device::REGIONS_MAX as u64).contains(&regions) {
            return Err(object.wrong("num-dc-regions", &json!(regions), "1 to 8"));
        }
        let size = object.size_of("volatile-dc-memdev")?;
        let whole = regions * CAPACITY_UNIT;
        if size == 0 || !size.is_multiple_of(whole) {
            let expected = "a multiple of 256 MiB for each region";
            return Err(object.wrong("volatile-dc-memdev", &json!(size), expected));
        }
        let statics = ["volatile-memdev", "persistent-memdev"];
        let mut base = 0_u64;
        for property in statics {
            let size = object.size_of(property)?;
            let sum = base.checked_add(size);
            base = sum.ok_or_else(|| object.wrong(property, &json!(size), "less"))?;
        }
        Ok(Self { serial, base, size, regions })
    }

    /// Whether another guest's device is like this one.
    pub(super) fn check_same(&self, other: &Self, device: &str) -> Result<(), QmpError> {
        let fields = [
            ("sn", other.serial, self.serial),
            ("static memory", other.base, self.base),
            ("dynamic capacity", other.size, self.size),
            ("num-dc-regions", other.regions, self.regions),
        ];
        for (field, value, expected) in fields {
            if value != expected {
                let device = device.to_owned();
                return Err(QmpError::Differs { device, field, value, expected });
            }
        }
        Ok(())
    }

    /// The same as a device of this crate's, with so many hosts.
    pub(super) fn config(&self, hosts: u16) -> device::Config {
        let length = self.size / self.regions;
        let region = |number: u64| RegionConfig {
            base: self.base.saturating_add(number.saturating_mul(length)),
            decode_length: length,
            length,
            block_size: BLOCK_BYTES,
            block_sizes: BLOCK_BYTES,
            dsmad_handle: 0,
            sharing: Sharing::Exclusive,
            // Nobody else ever gets it: each guest has memory of its own.
            sanitize: Sanitize::OnRelease,
            sanitize_control: SanitizeControl::Fixed,
        };
        device::Config {
            serial: self.serial,
            hosts,
            regions: (0..self.regions).map(region).collect(),
            total_capacity: self.size,
            // As many extents as an agent may tell of, each alone in its host's log while they are
            // taken over.
            limits: device::Limits {
                extents: MAX_TOLD_EXTENTS as u32,
                event_records: EVENT_RECORDS,
                ..device::Limits::default()
            },
        }
    }
}

/// An object of QEMU's.
struct Object<'a> {
    lines: &'a mut Lines,
    path: &'a str,
    until: Instant,
}

impl Object<'_> {
    fn get(&mut self, path: &str, property: &str) -> Result<Value, QmpError> {
        let arguments = json!({ "path": path, "property": property });
        self.lines.ask("qom-get", &arguments, self.until)
    }

    fn number(&mut self, property: &'static str) -> Result<u64, QmpError> {
        let value = self.get(self.path, property)?;
        value.as_u64().ok_or_else(|| self.wrong(property, &value, "a number"))
    }

    /// The size of a backend that a property links to; 0 of none.
    fn size_of(&mut self, property: &'static str) -> Result<u64, QmpError> {
        let link = self.get(self.path, property)?;
        let expected = "the path of a memory backend with a size";
        match link.as_str() {
            None => Err(self.wrong(property, &link, expected)),
            Some("") => Ok(0),
            Some(backend) => {
                let size = self.get(backend, "size")?;
                size.as_u64().ok_or_else(|| self.wrong(property, &link, expected))
            }
        }
    }

    fn wrong(&self, property: &'static str, value: &Value, expected: &'static str) -> QmpError {
        let (path, value) = (self.path.to_owned(), value.to_string());
        QmpError::Property { path, property, value, expected }
    }
}
