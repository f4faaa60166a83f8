//! What a host says to a device with dynamic capacity (CXL 3.1, 8.2.9.9.9).

mod encoding;

use alloc::vec::Vec;

use memtide_units::{DcExtent, DpaRange};

use super::{More, Sanitize};

/// 4800h: which regions there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GetConfiguration {
    /// How many to tell of, at most.
    pub count: u8,
    /// The first, from 0.
    pub start: u8,
}

/// The answer to 4800h.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Configuration {
    /// How many there are: 1 to 8.
    pub available: u8,
    /// Those that were asked for.
    pub regions: Vec<Region>,
    /// What it can remember.
    pub resources: Resources,
}

/// A region, as a host sees it (CXL 3.1, table 8-165).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Region {
    /// Its first address: a multiple of 256 MiB.
    pub base: u64,
    /// Bytes that are decoded for it: a multiple of 256 MiB.
    pub decode_length: u64,
    /// Bytes of them, from the base, that may have something behind them.
    pub length: u64,
    /// What extents are multiples of: a power of two.
    pub block_size: u64,
    /// The entry of CDAT that describes it.
    pub dsmad_handle: u32,
    /// Whether what is released is overwritten.
    pub sanitize: Sanitize,
}

/// How much a device can remember of a host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Resources {
    /// Extents.
    pub extents_supported: u32,
    /// Of them, those that are left.
    pub extents_available: u32,
    /// Tags.
    pub tags_supported: u32,
    /// Of them, those that are left.
    pub tags_available: u32,
}

/// 4801h: what this host has accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GetExtentList {
    /// How many to tell of, at most.
    pub count: u32,
    /// The first, from 0.
    pub start: u32,
}

/// The answer to 4801h.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExtentList {
    /// How many there are in all.
    pub total: u32,
    /// Another number whenever the list changed.
    pub generation: u32,
    /// Those that were asked for.
    pub extents: Vec<DcExtent>,
}

/// 4802h: what this host makes of the oldest offer. What is not in it is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AddResponse {
    /// Whether the rest of the answer follows in another command.
    pub more: More,
    /// What is accepted.
    pub accepted: Vec<DpaRange>,
}

/// 4803h: this host no longer uses this.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Release {
    /// Whether the rest follows in another command.
    pub more: More,
    /// What is released: one or more.
    pub released: Vec<DpaRange>,
}
