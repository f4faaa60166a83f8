//! What a device is made as, and what it refuses to be.
//!
//! The checks are those of CXL 3.1, tables 8-165 (a region's configuration) and 7-60 (what the
//! device can do), and section 9.13.3 (regions in the order of their addresses).

use alloc::vec::Vec;

use memtide_units::DpaRange;

use crate::command::Sanitize;

/// What region bases and decode lengths, and the device's capacity, are multiples of.
pub const CAPACITY_UNIT: u64 = 256 << 20;
/// Block sizes are at least a cache line: 64 bytes.
pub const BLOCK_BYTES_MIN: u64 = 64;
/// Bits of a mask of block sizes that may be set: bit n is for 2^n bytes (table 7-60: bits 5:0 and
/// 63:52 are 0).
pub const BLOCK_SIZES: u64 = (1 << 52) - BLOCK_BYTES_MIN;
/// Most regions that a device can have.
pub const REGIONS_MAX: usize = 8;
/// Most hosts: their number is told in a byte (table 7-60).
pub const HOSTS_MAX: u16 = 255;

/// A device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Its serial number.
    pub serial: u64,
    /// How many hosts share it: 1 to [`HOSTS_MAX`]. They are numbered from 0.
    pub hosts: u16,
    /// Its regions, ascending: 1 to 8. They are the same for all hosts, as is what lies behind
    /// an address.
    pub regions: Vec<RegionConfig>,
    /// Bytes of medium behind all of them, a multiple of 256 MiB: no more than the regions'
    /// lengths together, rounded up. It may be less, and then whoever asks first has it.
    pub total_capacity: u64,
    /// What it remembers at most.
    pub limits: Limits,
}

/// A region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RegionConfig {
    /// Its first address: a multiple of 256 MiB.
    pub base: u64,
    /// Addresses that it takes up: a multiple of 256 MiB, not 0.
    pub decode_length: u64,
    /// Those of them, from the base, that may be used: not 0, a multiple of every block size.
    pub length: u64,
    /// What extents are multiples of: one of `block_sizes`.
    pub block_size: u64,
    /// The block sizes that a manager may choose from: bit n is for 2^n bytes.
    pub block_sizes: u64,
    /// Its entry in CDAT.
    pub dsmad_handle: u32,
    /// Who may have what is in it.
    pub sharing: Sharing,
    /// Whether what is released is overwritten.
    pub sanitize: Sanitize,
    /// Whether a manager may change that.
    pub sanitize_control: SanitizeControl,
}

impl RegionConfig {
    /// The addresses that may be used.
    #[must_use]
    pub const fn usable(&self) -> DpaRange {
        DpaRange::new(self.base, self.length)
    }
}

/// How many hosts may have the same capacity at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sharing {
    /// One.
    Exclusive,
    /// Any number. It always has a tag, and is accepted and released whole.
    Sharable,
}

/// Whether sanitizing on release can be switched (table 7-60).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SanitizeControl {
    /// No.
    Fixed,
    /// Yes, by 5602h.
    Configurable,
}

/// What a device remembers at most. What does not fit is refused, but for event records of what
/// happened anyway, which are lost and counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Extents of each host, those that it was offered and has not answered included: not 0.
    pub extents: u32,
    /// Tags of each host, likewise: not 0.
    pub tags: u32,
    /// Event records of each host, and of the manager: 1 to 65534, for each has a number of its
    /// own that is not 0.
    pub event_records: u16,
    /// Bytes of a message's payload, either way: a power of two from 256 to 1 MiB (CXL 3.1,
    /// 8.2.8.4.3).
    pub payload_bytes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { extents: 512, tags: 256, event_records: 256, payload_bytes: 4096 }
    }
}

/// Why there can be no such device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// None, or too many hosts.
    #[error("{hosts} hosts; expected 1 to {HOSTS_MAX}")]
    Hosts {
        /// How many.
        hosts: u16,
    },
    /// None, or too many regions.
    #[error("{regions} regions; expected 1 to {REGIONS_MAX}")]
    Regions {
        /// How many.
        regions: usize,
    },
    /// A number that is none of those that it may be.
    #[error("region {region}: {field} is {value:#x}; expected {expected}")]
    Region {
        /// Which.
        region: usize,
        /// What of it.
        field: &'static str,
        /// What it is.
        value: u64,
        /// What it should be.
        expected: &'static str,
    },
    /// A region that starts before the one before it ends.
    #[error(
        "region {region}: base is {base:#x}; expected {end:#x} or more, where the one before ends"
    )]
    Order {
        /// Which.
        region: usize,
        /// Its base.
        base: u64,
        /// Where it could start.
        end: u64,
    },
    /// A capacity that is none, or more than there are addresses for.
    #[error("total capacity is {capacity:#x}; expected a multiple of 256 MiB from 1 to {most:#x}")]
    Capacity {
        /// How much.
        capacity: u64,
        /// How much it could be.
        most: u64,
    },
    /// A limit that allows nothing, or more than the messages can say.
    #[error("limit {field} is {value}; expected {expected}")]
    Limit {
        /// Which.
        field: &'static str,
        /// What it is.
        value: u32,
        /// What it should be.
        expected: &'static str,
    },
}

impl Config {
    /// Checks all of it.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if !(1..=HOSTS_MAX).contains(&self.hosts) {
            return Err(ConfigError::Hosts { hosts: self.hosts });
        }
        let regions = self.regions.len();
        if !(1..=REGIONS_MAX).contains(&regions) {
            return Err(ConfigError::Regions { regions });
        }
        let mut end = 0;
        for (number, region) in self.regions.iter().enumerate() {
            region.check(number)?;
            if region.base < end {
                return Err(ConfigError::Order { region: number, base: region.base, end });
            }
            end = region.base + region.decode_length;
        }
        self.check_capacity()?;
        self.limits.check()
    }

    fn check_capacity(&self) -> Result<(), ConfigError> {
        // They lie one after the other below 2^64, so the sum does, too.
        let bytes: u64 = self.regions.iter().map(|region| region.length).sum();
        let most = bytes.div_ceil(CAPACITY_UNIT) * CAPACITY_UNIT;
        let capacity = self.total_capacity;
        if capacity == 0 || !capacity.is_multiple_of(CAPACITY_UNIT) || capacity > most {
            return Err(ConfigError::Capacity { capacity, most });
        }
        Ok(())
    }
}

impl RegionConfig {
    fn check(&self, region: usize) -> Result<(), ConfigError> {
        let refuse =
            |field, value, expected| Err(ConfigError::Region { region, field, value, expected });
        let Self { base, decode_length, length, block_size, block_sizes, .. } = *self;
        if !base.is_multiple_of(CAPACITY_UNIT) {
            return refuse("base", base, "a multiple of 256 MiB");
        }
        if decode_length == 0 || !decode_length.is_multiple_of(CAPACITY_UNIT) {
            return refuse("decode length", decode_length, "a multiple of 256 MiB, not 0");
        }
        if base.checked_add(decode_length).is_none() {
            return refuse("decode length", decode_length, "an end below 2^64");
        }
        if block_sizes & !BLOCK_SIZES != 0 {
            return refuse("block sizes", block_sizes, "only bits 6 to 51");
        }
        if !block_size.is_power_of_two() || block_sizes & block_size == 0 {
            return refuse("block size", block_size, "one of its block sizes");
        }
        if length == 0 || length > decode_length {
            return refuse("length", length, "1 to the decode length");
        }
        let largest = 1 << block_sizes.ilog2();
        if !length.is_multiple_of(largest) || !base.is_multiple_of(largest) {
            return refuse("block sizes", block_sizes, "sizes that divide base and length");
        }
        Ok(())
    }
}

impl Limits {
    fn check(&self) -> Result<(), ConfigError> {
        let refuse = |field, value, expected| Err(ConfigError::Limit { field, value, expected });
        if self.extents == 0 {
            return refuse("extents", self.extents, "1 or more");
        }
        if self.tags == 0 {
            return refuse("tags", self.tags, "1 or more");
        }
        if !(1..=0xfffe).contains(&self.event_records) {
            return refuse("event records", self.event_records.into(), "1 to 65534");
        }
        let payload = self.payload_bytes;
        if !payload.is_power_of_two() || !(256..=1 << 20).contains(&payload) {
            return refuse("payload bytes", payload, "a power of two from 256 to 1 MiB");
        }
        Ok(())
    }
}
