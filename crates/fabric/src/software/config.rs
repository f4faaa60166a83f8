//! What a fabric is made as.

use memtide_cxl::{
    command::Sanitize,
    device::{
        self, CAPACITY_UNIT, HOSTS_MAX, Limits, REGIONS_MAX, RegionConfig, SanitizeControl, Sharing,
    },
    manager::{DeviceName, NameError},
};
use memtide_units::ByteSize;

/// Most bytes of a device: what files can be this long.
pub const MAX_CAPACITY: u64 = 1 << 50;
/// Block sizes are whole pages, for holes are made of those.
const BLOCK_MIN: u64 = 4096;

/// A fabric of one device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The device's name: as a manager's devices are named.
    pub name: String,
    /// Its serial number; nothing: made of its name, so that it stays the same.
    pub serial: Option<u64>,
    /// Bytes: a multiple of 256 MiB.
    pub capacity: ByteSize,
    /// How many hosts share it: 1 to 255.
    pub hosts: u16,
    /// How many regions the capacity is divided into: 1 to 8.
    pub regions: u8,
    /// What extents are multiples of: a power of two from 4 KiB to 256 MiB.
    pub block: ByteSize,
}

/// Why there is no such fabric.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No such name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// No such capacity.
    #[error(
        "capacity is {capacity}; expected a multiple of 256MiB from {least} to {}",
        ByteSize(MAX_CAPACITY)
    )]
    Capacity {
        /// What it is.
        capacity: ByteSize,
        /// What it is at least: 256 MiB for each region.
        least: ByteSize,
    },
    /// No such number of hosts.
    #[error("hosts is {hosts}; expected 1 to {HOSTS_MAX}")]
    Hosts {
        /// What it is.
        hosts: u16,
    },
    /// No such number of regions.
    #[error("regions is {regions}; expected 1 to {REGIONS_MAX}")]
    Regions {
        /// What it is.
        regions: u8,
    },
    /// No such block size.
    #[error("block is {block}; expected a power of two from 4KiB to 256MiB")]
    Block {
        /// What it is.
        block: ByteSize,
    },
    /// The device refuses to be made so.
    #[error(transparent)]
    Device(#[from] device::ConfigError),
}

impl Default for Config {
    /// What `memtide fabric serve` makes if nothing is said: 16 GiB for two hosts.
    fn default() -> Self {
        Self {
            name: "fabric".to_owned(),
            serial: None,
            capacity: ByteSize(16 << 30),
            hosts: 2,
            regions: 1,
            block: ByteSize(2 << 20),
        }
    }
}

impl Config {
    /// Its serial number.
    #[must_use]
    pub fn serial(&self) -> u64 {
        // FNV-1a: any function of the name that is the same tomorrow.
        self.serial.unwrap_or_else(|| {
            self.name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            })
        })
    }

    /// The device.
    ///
    /// # Errors
    /// [`ConfigError`] says what is wrong.
    pub fn device(&self) -> Result<device::Config, ConfigError> {
        self.name.parse::<DeviceName>()?;
        let Self { capacity, hosts, regions, block, .. } = *self;
        if !(1..=HOSTS_MAX).contains(&hosts) {
            return Err(ConfigError::Hosts { hosts });
        }
        if !(1..=REGIONS_MAX).contains(&usize::from(regions)) {
            return Err(ConfigError::Regions { regions });
        }
        let least = u64::from(regions) * CAPACITY_UNIT;
        let fits = (least..=MAX_CAPACITY).contains(&capacity.0);
        if !fits || !capacity.0.is_multiple_of(CAPACITY_UNIT) {
            return Err(ConfigError::Capacity { capacity, least: ByteSize(least) });
        }
        if !block.0.is_power_of_two() || !(BLOCK_MIN..=CAPACITY_UNIT).contains(&block.0) {
            return Err(ConfigError::Block { block });
        }
        Ok(device::Config {
            serial: self.serial(),
            hosts,
            regions: self.region_configs(),
            total_capacity: capacity.0,
            limits: Limits { extents: 4096, event_records: 1024, ..Limits::default() },
        })
    }

    /// Regions of the same length, in steps of 256 MiB; the last one has what is left over.
    fn region_configs(&self) -> Vec<RegionConfig> {
        let units = self.capacity.0 / CAPACITY_UNIT;
        let each = units / u64::from(self.regions);
        let region = |number: u8| {
            let first = u64::from(number) * each;
            let units = if number + 1 == self.regions { units - first } else { each };
            RegionConfig {
                base: first * CAPACITY_UNIT,
                decode_length: units * CAPACITY_UNIT,
                length: units * CAPACITY_UNIT,
                block_size: self.block.0,
                // All sizes that holes can be made of and that divide any region.
                block_sizes: (CAPACITY_UNIT << 1) - BLOCK_MIN,
                dsmad_handle: number.into(),
                sharing: Sharing::Exclusive,
                sanitize: Sanitize::OnRelease,
                sanitize_control: SanitizeControl::Fixed,
            }
        };
        (0..self.regions).map(region).collect()
    }
}

#[cfg(test)]
mod tests {
    use memtide_cxl::device::Device;

    use super::*;

    #[test]
    fn regions_divide_all_of_the_capacity() {
        for (units, regions) in [(1, 1), (8, 8), (11, 3), (64, 5)] {
            let capacity = ByteSize(units * CAPACITY_UNIT);
            let config = Config { capacity, regions, ..Config::default() };
            let device = config.device().unwrap();
            assert_eq!(device.regions.iter().map(|r| r.length).sum::<u64>(), capacity.0);
            Device::new(device).unwrap();
        }
    }

    #[test]
    fn every_block_size_can_be_had() {
        for bits in 12..=28 {
            let config = Config { block: ByteSize(1 << bits), ..Config::default() };
            Device::new(config.device().unwrap()).unwrap();
        }
    }

    #[test]
    fn what_cannot_be_names_the_field_and_what_it_may_be() {
        type Spoil = fn(&mut Config);
        let cases: [(Spoil, &str); 8] = [
            (|c| c.capacity = ByteSize(0), "capacity is 0B"),
            (|c| c.capacity = ByteSize((256 << 20) + 1), "capacity is"),
            (|c| c.capacity = ByteSize(1 << 51), "capacity is 2PiB"),
            (|c| (c.capacity, c.regions) = (ByteSize(256 << 20), 2), "from 512MiB"),
            (|c| c.hosts = 0, "hosts is 0; expected 1 to 255"),
            (|c| c.regions = 9, "regions is 9; expected 1 to 8"),
            (|c| c.block = ByteSize(2048), "block is 2KiB"),
            (|c| c.name = "a b".to_owned(), "expected 1 to 64"),
        ];
        for (spoil, expected) in cases {
            let mut config = Config::default();
            spoil(&mut config);
            let error = config.device().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(error.contains("expected"), "{error}");
        }
    }

    #[test]
    fn a_serial_number_follows_the_name() {
        let serial = |name: &str| Config { name: name.to_owned(), ..Config::default() }.serial();
        assert_eq!(serial("a"), serial("a"));
        assert_ne!(serial("a"), serial("b"));
        assert_eq!(Config { serial: Some(7), ..Config::default() }.serial(), 7);
    }
}
