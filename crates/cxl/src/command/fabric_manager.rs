//! What a fabric manager says to a device that hosts share (CXL 3.1, 7.6.7.6).

mod encoding;

use alloc::vec::Vec;

use memtide_units::{DcExtent, Tag};

use super::{HostId, Sanitize, dynamic_capacity::Resources};

/// 5600h: what the device can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GetInfo;

/// The answer to 5600h.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Info {
    /// Hosts that it has room for.
    pub hosts: u8,
    /// Regions for each of them: 1 to 8.
    pub regions: u8,
    /// Selection policies that 5604h may name: bits by [`Selection`].
    pub add_policies: u16,
    /// Removal policies that 5605h may name: bits by [`Removal`].
    pub release_policies: u16,
    /// Regions whose sanitizing can be configured: a bit for each.
    pub sanitize_configurable: u8,
    /// Bytes in all: a multiple of 256 MiB.
    pub total_capacity: u64,
    /// Block sizes that each region can have: bit n is 2^n bytes, n from 6 to 52.
    pub block_sizes: [u64; 8],
}

/// 5601h: the regions of one host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GetHostConfiguration {
    /// Whose.
    pub host: HostId,
    /// How many to tell of, at most.
    pub count: u8,
    /// The first, from 0.
    pub start: u8,
}

/// The answer to 5601h.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostConfiguration {
    /// Whose.
    pub host: HostId,
    /// How many there are.
    pub available: u8,
    /// Those that were asked for.
    pub regions: Vec<HostRegion>,
    /// What the device can remember.
    pub resources: Resources,
}

/// A region, as a fabric manager sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostRegion {
    /// Its first address: a multiple of 256 MiB.
    pub base: u64,
    /// Bytes that are decoded for it: a multiple of 256 MiB.
    pub decode_length: u64,
    /// Bytes of them that may have something behind them.
    pub length: u64,
    /// What extents are multiples of.
    pub block_size: u64,
    /// The flags of its entry in CDAT (bit 2 not volatile, 3 sharable, 5 dynamic …).
    pub dsmas_flags: u8,
    /// Whether what is released is overwritten.
    pub sanitize: Sanitize,
}

/// 5602h: configure a region, of all hosts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SetConfiguration {
    /// Which.
    pub region: u8,
    /// Its new unit.
    pub block_size: u64,
    /// Whether what is released is to be overwritten.
    pub sanitize: Sanitize,
}

/// 5603h: what one host has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GetHostExtents {
    /// Which.
    pub host: HostId,
    /// How many to tell of, at most.
    pub count: u32,
    /// The first, from 0.
    pub start: u32,
}

/// The answer to 5603h.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostExtents {
    /// Whose.
    pub host: HostId,
    /// The first that is told of.
    pub start: u32,
    /// How many there are in all.
    pub total: u32,
    /// Another number whenever the list changed.
    pub generation: u32,
    /// Those that were asked for.
    pub extents: Vec<DcExtent>,
}

/// How the device finds what to add.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Selection {
    /// Any that is free.
    Free = 0,
    /// One extent.
    Contiguous = 1,
    /// The extents that are named.
    Prescriptive = 2,
    /// What another host has under the tag already.
    EnableSharedAccess = 3,
}

/// 5604h: offer this to a host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InitiateAdd {
    /// Which.
    pub host: HostId,
    /// How to find it.
    pub selection: Selection,
    /// In which region.
    pub region: u8,
    /// Bytes; for free and contiguous.
    pub length: u64,
    /// Under which name.
    pub tag: Tag,
    /// Where; for prescriptive.
    pub extents: Vec<DcExtent>,
}

/// How the device finds what to ask for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Removal {
    /// What the host has under the tag, up to the length.
    TagBased = 0,
    /// The extents that are named.
    Prescriptive = 1,
}

/// Whether a host is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Force {
    /// It is: it may keep what it uses.
    Ask,
    /// It is told: it has lost it.
    Take,
}

/// 5605h: ask a host for this, or take it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InitiateRelease {
    /// Which.
    pub host: HostId,
    /// How to find it.
    pub removal: Removal,
    /// Whether it is asked.
    pub force: Force,
    /// Whether it is overwritten even where the region does not say so.
    pub sanitize: Sanitize,
    /// Bytes; for tag-based.
    pub length: u64,
    /// Under which name.
    pub tag: Tag,
    /// Where; for prescriptive.
    pub extents: Vec<DcExtent>,
}

/// 5606h: keep what is under this tag, also when no host has it any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AddReference(pub Tag);

/// 5607h: no longer keep it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RemoveReference(pub Tag);

/// 5608h: which tags there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListTags {
    /// The first, from 0.
    pub start: u32,
    /// How many to tell of, at most.
    pub count: u32,
}

/// The answer to 5608h.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tags {
    /// Another number whenever the list changed.
    pub generation: u32,
    /// How many there are in all.
    pub total: u32,
    /// Those that were asked for.
    pub tags: Vec<TagInfo>,
}

/// One tag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TagInfo {
    /// Its name.
    pub tag: Tag,
    /// Whether the fabric manager keeps it: 5606h.
    pub referenced: bool,
    /// Which hosts have accepted it: 256 bits, the lowest first.
    pub holders: [u8; 32],
    /// Which hosts have been offered it.
    pub pending: [u8; 32],
}
