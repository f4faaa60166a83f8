//! What operators ask for.
//!
//! A host may have a part in several devices; then the device has to be named ([`Place`]). Sizes
//! are multiples of the region's block size.

use alloc::vec::Vec;
use core::time::Duration;

use memtide_units::{DpaRange, RequestId, Tag};

use super::{
    config::{Limits, LimitsError},
    name::{DeviceName, HostName},
};

/// One request.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Request {
    /// Offer capacity to a host.
    Add {
        /// To whom.
        to: Place,
        /// Bytes; 0 with [`Policy::Prescriptive`] and [`Policy::Shared`], which say it themselves.
        size: u64,
        /// Under which name: of nothing else on the device, but for [`Policy::Shared`]. What has a
        /// tag is offered in one go or not at all.
        tag: Tag,
        /// Where.
        policy: Policy,
        /// What becomes of what cannot be had now.
        rest: Rest,
        /// When to answer at the latest; as much as `patience` later while something is just being
        /// taken, moved or withdrawn.
        deadline: Option<Duration>,
    },
    /// Ask for capacity back, or take it.
    Release {
        /// From whom.
        from: Place,
        /// What.
        what: What,
        /// Whether it is taken if it does not come.
        forcing: Forcing,
        /// What becomes of what does not come now.
        rest: Rest,
        /// When to answer at the latest; as much as `patience` later while something is just being
        /// taken, moved or withdrawn.
        deadline: Option<Duration>,
    },
    /// Ask one host for capacity, and offer the very bytes that come to another one.
    Move {
        /// From whom.
        from: Place,
        /// To whom; on the same device.
        to: HostName,
        /// Bytes.
        size: u64,
        /// What becomes of what does not come now.
        rest: Rest,
        /// When to answer at the latest; as much as `patience` later while something is just being
        /// taken, moved or withdrawn.
        deadline: Option<Duration>,
    },
    /// Keep what is under a tag when its last host releases it (5606h).
    AddReference {
        /// Where.
        device: DeviceName,
        /// Which; some host has it.
        tag: Tag,
    },
    /// No longer keep it (5607h).
    RemoveReference {
        /// Where.
        device: DeviceName,
        /// Which.
        tag: Tag,
    },
    /// Change what a host may have. Nothing is asked back by this.
    SetLimits {
        /// Whose.
        of: Place,
        /// What it may have.
        limits: Limits,
    },
    /// End a request that is not done. What it offered and is not answered soon is withdrawn.
    Cancel {
        /// Which.
        request: RequestId,
    },
}

/// A host, and the device that is meant.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Place {
    /// The host.
    pub host: HostName,
    /// The device; may be left out if the host has a part in just one.
    pub device: Option<DeviceName>,
    /// The region; may be left out: the first with room.
    pub region: Option<u8>,
}

/// Where added capacity is to be.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Policy {
    /// Anywhere.
    Free,
    /// In one piece.
    Contiguous,
    /// Here.
    Prescriptive(Vec<DpaRange>),
    /// What another host has under the tag.
    Shared,
}

/// What is asked back.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum What {
    /// So many bytes: of what has no tag, as long as there is any; then whole tags that fit.
    Size(u64),
    /// All under this tag.
    Tag(Tag),
    /// This.
    Extents(Vec<DpaRange>),
}

/// What becomes of what cannot be had now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Rest {
    /// The answer says how much it is, and that is all.
    Drop,
    /// It is asked for again and again, with growing pauses, until it is had or cancelled.
    Stand,
}

/// Whether capacity is taken from a host that does not return it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Forcing {
    /// Never.
    Never,
    /// What has not come at the deadline is.
    AtDeadline,
    /// All, without asking.
    AtOnce,
}

/// Why a request is refused. It changed nothing.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The id belongs to another one.
    #[error("{id} is in use for another request; expected one that is not")]
    IdTaken {
        /// Which.
        id: RequestId,
    },
    /// Too many are open.
    #[error("{open} requests are open; expected fewer than {most}: cancel some")]
    TooMany {
        /// How many.
        open: usize,
        /// How many there may be.
        most: usize,
    },
    /// No such host.
    #[error("host {host}; expected one that is set up")]
    NoSuchHost {
        /// Which.
        host: HostName,
    },
    /// No such device.
    #[error("device {device}; expected one that is set up")]
    NoSuchDevice {
        /// Which.
        device: DeviceName,
    },
    /// The host has no part in the device.
    #[error("host {host} on device {device}; expected a device that it has a part in")]
    NotThere {
        /// Which.
        host: HostName,
        /// Where.
        device: DeviceName,
    },
    /// The host has a part in several.
    #[error("host {host} has a part in {count} devices; expected one of them to be named")]
    WhichDevice {
        /// Which.
        host: HostName,
        /// How many.
        count: usize,
    },
    /// The device has not said what it is yet.
    #[error("device {device} is not connected; expected one that is, or was before")]
    NotConnected {
        /// Which.
        device: DeviceName,
    },
    /// No such region.
    #[error("region {region}; expected one below {count}")]
    NoSuchRegion {
        /// Which.
        region: u8,
        /// How many there are.
        count: usize,
    },
    /// A size that cannot be.
    #[error("size {size}; expected a multiple of {block}, more than 0")]
    Size {
        /// What it is.
        size: u64,
        /// What it should be a multiple of.
        block: u64,
    },
    /// A size where none belongs.
    #[error("size {size}; expected 0: the policy says how much it is")]
    SizeGiven {
        /// What it is.
        size: u64,
    },
    /// More than the host has.
    #[error("size {size}; expected at most {held}, which is all that {host} has")]
    MoreThanHeld {
        /// What it is.
        size: u64,
        /// How much there is.
        held: u64,
        /// Whose.
        host: HostName,
    },
    /// More than the host may have.
    #[error("size {size}; expected at most {most}: the maximum of {host} is {maximum}")]
    AboveMaximum {
        /// What it is.
        size: u64,
        /// How much more it may have.
        most: u64,
        /// Whose.
        host: HostName,
        /// What it may have in all.
        maximum: u64,
    },
    /// Less would stay than is guaranteed.
    #[error("size {size}; expected at most {most}: {host} is guaranteed {minimum}")]
    BelowMinimum {
        /// What it is.
        size: u64,
        /// How much may be asked for.
        most: u64,
        /// Whose.
        host: HostName,
        /// What it is guaranteed.
        minimum: u64,
    },
    /// More than the device could ever give.
    #[error("size {size}; expected at most {capacity}, which is all that there is")]
    MoreThanThereIs {
        /// What it is.
        size: u64,
        /// How much there is.
        capacity: u64,
    },
    /// Guarantees that cannot all be kept.
    #[error("minimum {minimum}; expected at most {most}: others are guaranteed the rest")]
    Guarantees {
        /// What it is.
        minimum: u64,
        /// What it may be.
        most: u64,
    },
    /// An extent that cannot be.
    #[error("extent {extent}; expected multiples of {block} inside a region, each byte once")]
    Extent {
        /// Which.
        extent: DpaRange,
        /// What it should be a multiple of.
        block: u64,
    },
    /// An extent that somebody has, or is to get.
    #[error("extent {extent}; expected one that is free")]
    NotFree {
        /// Which.
        extent: DpaRange,
    },
    /// An extent that the host does not have.
    #[error("extent {extent}; expected one that {host} has")]
    NotHeld {
        /// Which.
        extent: DpaRange,
        /// Who.
        host: HostName,
    },
    /// No extents, or too many.
    #[error("{count} extents; expected 1 to {most}")]
    Extents {
        /// How many.
        count: usize,
        /// How many there may be.
        most: usize,
    },
    /// A tag that is in use.
    #[error("tag {tag}; expected one that is not in use on the device")]
    TagTaken {
        /// Which.
        tag: Tag,
    },
    /// A tag that nobody has.
    #[error("tag {tag}; expected one that is in use there")]
    NoSuchTag {
        /// Which.
        tag: Tag,
    },
    /// No tag where one belongs: what hosts can share always has one.
    #[error("no tag; expected one")]
    NoTag,
    /// The host has it already.
    #[error("tag {tag}; expected one that {host} does not have")]
    SharedAlready {
        /// Which.
        tag: Tag,
        /// Who.
        host: HostName,
    },
    /// A region that hosts cannot share.
    #[error("tag {tag} is in a region that hosts cannot share")]
    NotSharable {
        /// Which.
        tag: Tag,
    },
    /// The device does not do it.
    #[error("device {device} does not do policy {policy}")]
    Policy {
        /// Which.
        device: DeviceName,
        /// What was asked for.
        policy: &'static str,
    },
    /// From and to the same host.
    #[error("from {host} to itself; expected another host")]
    SameHost {
        /// Which.
        host: HostName,
    },
    /// Taking by force needs a time.
    #[error("no deadline; expected one: what has not come by then is taken")]
    NoDeadline,
    /// Limits that contradict each other.
    #[error("{0}")]
    Limits(#[from] LimitsError),
    /// No such request is open.
    #[error("{id} is not open; expected a request that is")]
    NotOpen {
        /// Which.
        id: RequestId,
    },
}
