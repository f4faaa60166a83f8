//! What is known of a device before it offers anything.

use alloc::vec::Vec;
use core::time::Duration;

use memtide_units::{Instant, PAGEBLOCK_BYTES};

use super::extent::DpaRange;

/// Partitions that a device has at most (CXL 3.1, 9.13.3: regions 0 to 7).
pub const PARTITIONS_MAX: usize = 8;
/// What a partition starts at a multiple of.
pub const PARTITION_ALIGN: u64 = 256 << 20;
/// What a device tracks extents in multiples of, at least: a cache line.
pub const LINE_BYTES: u64 = 64;

/// One device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeviceConfig {
    /// Its partitions, ascending.
    pub partitions: Vec<Partition>,
    /// What extents must start and end at multiples of: a power of two, 2 MiB or more.
    pub align: u64,
    /// In which parts it takes capacity back.
    pub splitting: Splitting,
}

impl DeviceConfig {
    /// A device of these partitions that takes back whole groups, in extents of whole pageblocks.
    #[must_use]
    pub const fn new(partitions: Vec<Partition>) -> Self {
        Self { partitions, align: PAGEBLOCK_BYTES, splitting: Splitting::Group }
    }
}

/// One partition: a DC region of a device, as it is configured (CXL 3.1, table 8-165).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Partition {
    /// Its addresses.
    pub range: DpaRange,
    /// What of them, from the start, may ever have something behind it.
    pub length: u64,
    /// The unit of its extents: a power of two.
    pub block_bytes: u64,
}

/// What a device takes back of an allocation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Splitting {
    /// All of it, or nothing. What Linux does with every device.
    #[default]
    Group,
    /// Any of its extents.
    Extent,
    /// Any blocks of its extents.
    Block,
}

/// How much of anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// How long a chain of records may wait for its next.
    pub chain_timeout: Duration,
    /// Most extents in a chain that has not ended.
    pub pending_max: usize,
    /// Most extents of one device.
    pub extents_max: usize,
    /// How long after something stayed it is asked for again; twice as long each time.
    pub retry_after: Duration,
    /// How long at most.
    pub retry_after_max: Duration,
}

impl Default for Limits {
    /// As Linux has them (`CXL_DC_ADD_TIMEOUT`, `CXL_DC_MAX_PENDING_EXTENTS`), where it does.
    fn default() -> Self {
        Self {
            chain_timeout: Duration::from_secs(20),
            pending_max: 100,
            extents_max: 65_536,
            retry_after: Duration::from_secs(1),
            retry_after_max: Duration::from_secs(60),
        }
    }
}

impl Limits {
    /// The pause that follows one.
    pub(super) fn longer(&self, pause: Duration) -> Duration {
        pause.saturating_mul(2).min(self.retry_after_max)
    }

    pub(super) const fn chain_ends(&self, now: Instant) -> Instant {
        now.after(self.chain_timeout)
    }
}

/// Why a device is none that this host can use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// Not a number of partitions that there can be.
    #[error("{partitions} partitions; expected 1 to {PARTITIONS_MAX}")]
    Partitions {
        /// How many there are.
        partitions: usize,
    },
    /// An alignment that is none.
    #[error("align {align:#x}; expected a power of two, {PAGEBLOCK_BYTES:#x} or more")]
    Align {
        /// Bytes.
        align: u64,
    },
    /// A partition that starts at no multiple of 256 MiB or of its block, or past the last address.
    #[error("partition {number} is {range}; expected a multiple of {of:#x}, below 2^64")]
    Start {
        /// Which, from 0.
        number: usize,
        /// Where it is.
        range: DpaRange,
        /// What it should start at a multiple of.
        of: u64,
    },
    /// A partition of nothing, of more than its addresses, or not of whole blocks.
    #[error("partition {number} has {length:#x} bytes; expected blocks of {block:#x} in {range}")]
    Length {
        /// Which, from 0.
        number: usize,
        /// What may be behind its addresses.
        length: u64,
        /// Its addresses.
        range: DpaRange,
        /// Its unit.
        block: u64,
    },
    /// A block that is not a power of two of cache lines.
    #[error("partition {number} has blocks of {block:#x}; expected a power of two, 64 or more")]
    Block {
        /// Which, from 0.
        number: usize,
        /// Bytes.
        block: u64,
    },
    /// Partitions out of order, or over each other.
    #[error("partition {number} starts at {start:#x}; expected {least:#x} or more")]
    Order {
        /// Which, from 0.
        number: usize,
        /// Where it starts.
        start: u64,
        /// Where the one before ends.
        least: u128,
    },
}

impl DeviceConfig {
    /// Whether this makes a device: the checks of `cxl_dc_check()`.
    ///
    /// # Errors
    /// [`DeviceError`] says which number is wrong.
    pub fn check(&self) -> Result<(), DeviceError> {
        let partitions = self.partitions.len();
        if !(1..=PARTITIONS_MAX).contains(&partitions) {
            return Err(DeviceError::Partitions { partitions });
        }
        if !self.align.is_power_of_two() || self.align < PAGEBLOCK_BYTES {
            return Err(DeviceError::Align { align: self.align });
        }
        let mut least = 0;
        for (number, partition) in self.partitions.iter().enumerate() {
            partition.check(number)?;
            let start = partition.range.start;
            if u128::from(start) < least {
                return Err(DeviceError::Order { number, start, least });
            }
            least = partition.range.end();
        }
        Ok(())
    }
}

impl Partition {
    fn check(&self, number: usize) -> Result<(), DeviceError> {
        let Self { range, length, block_bytes: block } = *self;
        if !block.is_power_of_two() || block < LINE_BYTES {
            return Err(DeviceError::Block { number, block });
        }
        let of = PARTITION_ALIGN.max(block);
        if !range.start.is_multiple_of(of) || range.end() > 1 << 64 {
            return Err(DeviceError::Start { number, range, of });
        }
        if length == 0 || length > range.length || !length.is_multiple_of(block) {
            return Err(DeviceError::Length { number, length, range, block });
        }
        Ok(())
    }

    /// Whether something can be behind all of a range.
    pub(super) const fn has(&self, range: DpaRange) -> bool {
        DpaRange::new(self.range.start, self.length).contains(range)
    }
}
