//! Why something is refused, with the numbers.

use super::{
    config::DeviceError,
    extent::{ChainId, DeviceId, DpaRange, Tag},
};

/// Why what a device says is not done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// No bytes, or bytes past the last address.
    #[error("{range} does not exist; expected 1 byte or more, below 2^64")]
    NoSuchRange {
        /// What was said.
        range: DpaRange,
    },
    /// No region decodes where it starts.
    #[error("{range} starts in no region")]
    NoRegion {
        /// Where it is.
        range: DpaRange,
    },
    /// It starts in a region and goes on past it. It is not clipped.
    #[error("{range} is not fully in {decoder}, which its endpoint decoder decodes")]
    NotInDecoder {
        /// Where it is.
        range: DpaRange,
        /// What is decoded.
        decoder: DpaRange,
    },
    /// No partition has something behind all of it.
    #[error("{range} is not fully in a partition")]
    NotInPartition {
        /// Where it is.
        range: DpaRange,
    },
    /// It cannot be mapped in whole pages.
    #[error("{range}; expected a multiple of {align:#x}, at both ends")]
    Unaligned {
        /// Where it is.
        range: DpaRange,
        /// What it should be a multiple of.
        align: u64,
    },
    /// Some of it is there already.
    #[error("{range} overlaps {with}, which was accepted or is offered with it")]
    Overlaps {
        /// Where it is.
        range: DpaRange,
        /// What is there.
        with: DpaRange,
    },
    /// An allocation of this tag is there, on this device or another.
    #[error("tag {tag} is in use on {by}; expected a tag that is not")]
    TagTaken {
        /// Which.
        tag: Tag,
        /// Where it is in use.
        by: DeviceId,
    },
    /// Its allocation came in part, in a chain that was cut off.
    #[error("the chain that had tag {tag} before was cut off: this may be only the rest of it")]
    Torn {
        /// Which.
        tag: Tag,
    },
    /// The sequence numbers of its allocation are neither all 0 nor 0 to n-1 nor 1 to n.
    #[error("tag {tag}: sequence number {found}; expected {expected}")]
    Sequence {
        /// Whose.
        tag: Tag,
        /// What it is.
        found: u16,
        /// What it should be.
        expected: u32,
    },
    /// Its allocation lies in several partitions.
    #[error("tag {tag}: {range} is in another partition than {first}")]
    Partitions {
        /// Whose.
        tag: Tag,
        /// An extent of one partition.
        first: DpaRange,
        /// One of another.
        range: DpaRange,
    },
    /// Another extent of its allocation is refused.
    #[error("tag {tag}: {other} is refused, and with it all of the allocation")]
    WithGroup {
        /// Whose.
        tag: Tag,
        /// The one that was at fault.
        other: DpaRange,
    },
    /// The chain has too many.
    #[error("more than {pending_max} extents in a chain that has not ended")]
    TooManyPending {
        /// How many there may be.
        pending_max: usize,
    },
    /// The chain did not go on in time.
    #[error("the chain did not end in time")]
    TimedOut,
    /// The device has too many.
    #[error("{extents} extents would be more than {extents_max}")]
    TooManyExtents {
        /// How many there would be.
        extents: usize,
        /// How many there may be.
        extents_max: usize,
    },
    /// No extent has all of a range, under this tag.
    #[error("{range} of tag {tag} is in no extent that was accepted")]
    NoSuchExtent {
        /// What was asked for.
        range: DpaRange,
        /// Of which allocation.
        tag: Tag,
    },
}

/// The kernel's numbers for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Errno {
    /// No such device or address.
    Enxio,
    /// Invalid argument.
    Einval,
    /// No space left.
    Enospc,
    /// Timer expired.
    Etime,
}

impl Refused {
    /// The kernel's number.
    #[must_use]
    pub const fn errno(&self) -> Errno {
        match self {
            Self::NoRegion { .. }
            | Self::NotInDecoder { .. }
            | Self::NotInPartition { .. }
            | Self::Overlaps { .. } => Errno::Enxio,
            Self::TooManyPending { .. } | Self::TooManyExtents { .. } => Errno::Enospc,
            Self::TimedOut => Errno::Etime,
            Self::NoSuchRange { .. }
            | Self::Unaligned { .. }
            | Self::TagTaken { .. }
            | Self::Torn { .. }
            | Self::Sequence { .. }
            | Self::Partitions { .. }
            | Self::WithGroup { .. }
            | Self::NoSuchExtent { .. } => Errno::Einval,
        }
    }
}

/// Why an input makes no sense; then nothing changed. What a device says never does this.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// No such device.
    #[error("{device} is not there")]
    NoSuchDevice {
        /// Which.
        device: DeviceId,
    },
    /// The device is there already.
    #[error("{device} is there already")]
    DeviceTaken {
        /// Which.
        device: DeviceId,
    },
    /// The device makes no sense.
    #[error("{device}: {source}")]
    Device {
        /// Which.
        device: DeviceId,
        /// Why.
        source: DeviceError,
    },
    /// A region over addresses that do not exist, are not aligned, or have a region.
    #[error("{device}: a region over {decoder}; expected multiples of {align:#x} without a region")]
    Decoder {
        /// Which device.
        device: DeviceId,
        /// Where.
        decoder: DpaRange,
        /// What it should be a multiple of.
        align: u64,
    },
    /// No such chain waits for the device's word.
    #[error("{device}: {chain} does not wait for an answer")]
    NoSuchChain {
        /// Which device.
        device: DeviceId,
        /// Which chain.
        chain: ChainId,
    },
    /// Nothing was asked of the user.
    #[error("{device}: nothing was asked of those who use it")]
    NotReclaiming {
        /// Which device.
        device: DeviceId,
    },
}
