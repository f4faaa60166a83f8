//! Why a device refuses a command, and the return code that says so.
//!
//! A refused command changed nothing, with two exceptions that the specification wants: a part of
//! a chain of commands that is refused takes the rest of the chain with it, and an offer that was
//! taken back by force is gone once its host was told so.
//!
//! Section numbers are those of CXL 3.1; where 3.2 says more (dead groups, logs that would
//! overflow) it is followed.

use memtide_units::{DpaRange, Tag};

use crate::{DecodeError, Opcode, ReturnCode, command::HostId};

/// Why a command is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Not a command of this interface.
    #[error("{opcode} is no command of this interface")]
    Command {
        /// Which.
        opcode: Opcode,
    },
    /// Bytes that are not the command.
    #[error("{0}")]
    Decode(#[from] DecodeError),
    /// Too many bytes.
    #[error("payload of {bytes} bytes; expected {limit} or less")]
    PayloadLength {
        /// How many.
        bytes: usize,
        /// How many there may be.
        limit: u32,
    },
    /// No such host.
    #[error("{host}; expected one below {hosts}")]
    Host {
        /// Which.
        host: HostId,
        /// How many there are.
        hosts: usize,
    },
    /// No such region.
    #[error("region {region}; expected one below {regions}")]
    Region {
        /// Which.
        region: u8,
        /// How many there are.
        regions: usize,
    },
    /// A list is read from past its end.
    #[error("list starts at {start}; expected {total} or less")]
    Start {
        /// From where.
        start: u32,
        /// How many there are.
        total: usize,
    },
    /// All records are to be cleared, and none was lost (8.2.9.2.3).
    #[error("all event records are to be cleared; expected their handles, as none was lost")]
    ClearAll,
    /// No record is to be cleared.
    #[error("no event record is to be cleared; expected 1 to 255 handles")]
    NoHandles,
    /// An event record that is not the oldest (8.2.9.2.3).
    #[error("event record {handle} is to be cleared; the oldest is {expected:?}")]
    Handle {
        /// Which.
        handle: u16,
        /// Which is the oldest, if there is one.
        expected: Option<u16>,
    },
    /// The rest of a chain of commands of which a part was refused, or that another interrupted.
    #[error("{opcode} goes on with a chain that was refused or interrupted")]
    BrokenChain {
        /// Of which command.
        opcode: Opcode,
    },
    /// A chain that says more than the device remembers.
    #[error("chain of {extents} extents; expected {limit} or fewer")]
    LongChain {
        /// How many.
        extents: usize,
        /// How many there may be.
        limit: usize,
    },

    /// An extent of nothing.
    #[error("{range} is empty")]
    Empty {
        /// Where.
        range: DpaRange,
    },
    /// An extent that is not made of whole blocks.
    #[error("{range} is not made of blocks of {block_size:#x} bytes")]
    Unaligned {
        /// Where.
        range: DpaRange,
        /// The region's.
        block_size: u64,
    },
    /// Two extents of a list with an address in common.
    #[error("{range} and {other} overlap")]
    Overlap {
        /// One.
        range: DpaRange,
        /// The other.
        other: DpaRange,
    },
    /// Addresses of no region, or of two.
    #[error("{range} lies in no region")]
    NoAddress {
        /// Where.
        range: DpaRange,
    },
    /// The same, where the specification has no code for addresses.
    #[error("{range} lies in no region")]
    NotInRegion {
        /// Where.
        range: DpaRange,
    },

    /// An answer to no offer (8.2.9.9.9.3: order).
    #[error("nothing is offered that could be answered")]
    NothingOffered,
    /// An answer to an offer that is not the oldest (8.2.9.9.9.3: order).
    #[error("{range} is of an offer that is not the oldest")]
    OutOfOrder {
        /// What is accepted.
        range: DpaRange,
    },
    /// Capacity that is not offered (8.2.9.9.9.3).
    #[error("{range} is not offered")]
    NotOffered {
        /// What is accepted.
        range: DpaRange,
    },
    /// Capacity that was accepted before (8.2.9.9.9.3).
    #[error("{range} was accepted before")]
    AcceptedBefore {
        /// What is accepted.
        range: DpaRange,
    },
    /// The offer was taken back by force (8.2.9.9.9.3). It is gone now.
    #[error("the offer was taken back before it was answered")]
    Dead,
    /// Neither an extent that was offered, nor none of it.
    #[error("{range} is not an extent as it was offered")]
    NotTheExtent {
        /// What is accepted.
        range: DpaRange,
    },
    /// Some of what is under a sharable tag, in a list of a host.
    #[error("a part of sharable tag {tag}; expected all of it or none")]
    PartOfTag {
        /// Which.
        tag: Tag,
    },
    /// Nothing to release (8.2.9.9.9.4).
    #[error("nothing is released; expected one extent or more")]
    NothingReleased,
    /// Capacity that the host does not have (8.2.9.9.9.4).
    #[error("{range} is not held by this host")]
    NotHeld {
        /// What is released.
        range: DpaRange,
    },
    /// More extents than the device remembers (9.13.3.3).
    #[error("{needed} more extents; {available} can be remembered")]
    Extents {
        /// How many.
        needed: usize,
        /// How many are left.
        available: usize,
    },
    /// More tags than the device remembers (9.13.3.3).
    #[error("{needed} more tags; {available} can be remembered")]
    Tags {
        /// How many.
        needed: usize,
        /// How many are left.
        available: usize,
    },

    /// A length that is nothing, or not made of whole blocks (7.6.7.6.5, 7.6.7.6.6).
    #[error("length is {length:#x}; expected a multiple of {block_size:#x}, not 0")]
    Length {
        /// How much.
        length: u64,
        /// The region's.
        block_size: u64,
    },
    /// More than is free (7.6.7.6.5).
    #[error("{length:#x} bytes; {free:#x} can be had so")]
    Capacity {
        /// How much.
        length: u64,
        /// How much there is.
        free: u64,
    },
    /// What would do is being overwritten: later.
    #[error("{length:#x} bytes, some of which are being overwritten; ask again")]
    Sanitizing {
        /// How much.
        length: u64,
    },
    /// No tag, where capacity can be shared (table 8-52).
    #[error("no tag; expected one in sharable region {region}")]
    NoTag {
        /// Which region.
        region: u8,
    },
    /// Another allocation has the tag.
    #[error("tag {tag} names another allocation")]
    TagInUse {
        /// Which.
        tag: Tag,
    },
    /// The event log cannot take all records now (7.6.7.6.5, 7.6.7.6.6).
    #[error("{records} event records; the log of {host} has room for {room}")]
    LogFull {
        /// Whose.
        host: HostId,
        /// How many.
        records: usize,
        /// How many fit.
        room: usize,
    },
    /// The event log can never take all records.
    #[error("{records} event records; a log has room for {limit}")]
    LogTooSmall {
        /// How many.
        records: usize,
        /// How many fit when it is empty.
        limit: usize,
    },
    /// A list without extents (7.6.7.6.5, 7.6.7.6.6).
    #[error("no extents; expected one or more")]
    NoExtents,
    /// Capacity that somebody has (7.6.7.6.5).
    #[error("{range} is not free")]
    NotFree {
        /// Where.
        range: DpaRange,
    },
    /// An extent whose tag does not fit the others, or its region (table 8-52).
    #[error("{range} has tag {tag}; expected {expected}")]
    ExtentTag {
        /// Where.
        range: DpaRange,
        /// Which.
        tag: Tag,
        /// What it should be.
        expected: &'static str,
    },
    /// Sequence numbers that do not put a tag's extents in order (table 8-52).
    #[error("{range} has sequence number {sequence}; expected {expected}")]
    Sequence {
        /// Where.
        range: DpaRange,
        /// Which.
        sequence: u16,
        /// What it should be.
        expected: usize,
    },
    /// A region in which nothing can be shared (7.6.7.6.5).
    #[error("region {region} is not sharable")]
    NotSharable {
        /// Which.
        region: u8,
    },
    /// No sharable capacity is under the tag (7.6.7.6.5, 7.6.7.6.7, 7.6.7.6.8).
    #[error("no sharable capacity has tag {tag}")]
    NoSharedTag {
        /// Which.
        tag: Tag,
    },
    /// No host has accepted what is under the tag (7.6.7.6.5).
    #[error("nobody has accepted tag {tag} yet")]
    NotYetShared {
        /// Which.
        tag: Tag,
    },
    /// The capacity lies in another region, and this device maps it nowhere else (7.6.7.6.5).
    #[error("tag {tag} lies in region {lies}; expected region {region}")]
    OtherRegion {
        /// Which.
        tag: Tag,
        /// Where it lies.
        lies: u8,
        /// Where it was asked for.
        region: u8,
    },
    /// The host has, or is offered, what is under the tag (7.6.7.6.5).
    #[error("{host} has tag {tag}, or is offered it")]
    SharedAlready {
        /// Which.
        host: HostId,
        /// Which.
        tag: Tag,
    },

    /// The host has nothing under the tag (7.6.7.6.6).
    #[error("{host} has nothing under tag {tag}")]
    NothingTagged {
        /// Which.
        host: HostId,
        /// Which.
        tag: Tag,
    },
    /// More than the host has under the tag (7.6.7.6.6).
    #[error("{length:#x} bytes; the host has {held:#x} under the tag")]
    MoreThanHeld {
        /// How much.
        length: u64,
        /// How much there is.
        held: u64,
    },
    /// Some of what is under a sharable tag, in a request of a manager (7.6.7.6.6).
    #[error("a part of sharable tag {tag}; expected all of it")]
    PartIsAsked {
        /// Which.
        tag: Tag,
    },
    /// Capacity that the host does not have (7.6.7.6.6).
    #[error("{range} is not assigned to this host")]
    NotAssigned {
        /// Where.
        range: DpaRange,
    },
    /// Capacity that the host has not answered for (7.6.7.6.6).
    #[error("{range} is offered and not answered; it can only be taken by force")]
    Pending {
        /// Where.
        range: DpaRange,
    },

    /// Something of the region is in use (7.6.7.6.3).
    #[error("region {region} is in use")]
    RegionInUse {
        /// Which.
        region: u8,
    },
    /// A block size that the region cannot have (7.6.7.6.3).
    #[error("block size is {block_size:#x}; expected one of {block_sizes:#x}")]
    BlockSize {
        /// Which.
        block_size: u64,
        /// Those that it can have, as bits.
        block_sizes: u64,
    },
    /// The region's sanitizing cannot be switched (7.6.7.6.3).
    #[error("sanitizing of region {region} cannot be configured")]
    SanitizeFixed {
        /// Which.
        region: u8,
    },
}

impl Refusal {
    /// What the device answers.
    #[must_use]
    pub const fn code(&self) -> ReturnCode {
        match self {
            Self::Decode(why) => why.code(),
            Self::Command { .. } | Self::RegionInUse { .. } | Self::SanitizeFixed { .. } => {
                ReturnCode::UNSUPPORTED
            }
            Self::PayloadLength { .. } => ReturnCode::INVALID_PAYLOAD_LENGTH,
            Self::Handle { .. } => ReturnCode::INVALID_HANDLE,
            Self::Host { .. }
            | Self::Region { .. }
            | Self::Start { .. }
            | Self::ClearAll
            | Self::NoHandles
            | Self::BrokenChain { .. }
            | Self::NothingOffered
            | Self::OutOfOrder { .. }
            | Self::NothingReleased
            | Self::Length { .. }
            | Self::NoTag { .. }
            | Self::TagInUse { .. }
            | Self::NotSharable { .. }
            | Self::NoSharedTag { .. }
            | Self::NotYetShared { .. }
            | Self::OtherRegion { .. }
            | Self::SharedAlready { .. }
            | Self::NothingTagged { .. }
            | Self::PartIsAsked { .. }
            | Self::BlockSize { .. } => ReturnCode::INVALID_INPUT,
            Self::Sanitizing { .. } | Self::LogFull { .. } => ReturnCode::RETRY_REQUIRED,
            Self::NoAddress { .. }
            | Self::NotOffered { .. }
            | Self::AcceptedBefore { .. }
            | Self::Dead
            | Self::NotHeld { .. }
            | Self::Pending { .. } => ReturnCode::INVALID_PHYSICAL_ADDRESS,
            Self::LongChain { .. }
            | Self::Extents { .. }
            | Self::Tags { .. }
            | Self::Capacity { .. }
            | Self::LogTooSmall { .. }
            | Self::MoreThanHeld { .. } => ReturnCode::RESOURCES_EXHAUSTED,
            Self::Empty { .. }
            | Self::Unaligned { .. }
            | Self::Overlap { .. }
            | Self::NotInRegion { .. }
            | Self::NotTheExtent { .. }
            | Self::PartOfTag { .. }
            | Self::NoExtents
            | Self::NotFree { .. }
            | Self::ExtentTag { .. }
            | Self::Sequence { .. }
            | Self::NotAssigned { .. } => ReturnCode::INVALID_EXTENT_LIST,
        }
    }
}
