//! What a host is to do and to know.

use alloc::vec::Vec;

use memtide_units::Instant;

use super::{
    extent::{ChainId, DcExtent, DeviceId, DpaRange, GroupId, Tag},
    refused::Refused,
};

/// One thing for the world to do, in this order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Send Add Dynamic Capacity Response (4802h); say what came of it with
    /// [`super::Input::Answered`]. One for each chain; what is not in it is refused.
    AddResponse {
        /// To which device.
        device: DeviceId,
        /// The chain.
        chain: ChainId,
        /// What is accepted.
        accepted: Vec<DpaRange>,
    },
    /// Send Release Dynamic Capacity (4803h).
    ReleaseDc {
        /// To which device.
        device: DeviceId,
        /// What is released.
        released: Vec<DpaRange>,
    },
    /// There is capacity to use: one device for the user, its extents one after the other.
    Surface {
        /// Its name.
        group: GroupId,
        /// On which device.
        device: DeviceId,
        /// Its tag.
        tag: Tag,
        /// Where it is, in the order in which the user sees it.
        extents: Vec<DpaRange>,
    },
    /// Stop using this, as far as that can be done; answer with [`super::Input::Reclaimed`].
    Reclaim {
        /// Of which device.
        device: DeviceId,
        /// What, ascending.
        ranges: Vec<DpaRange>,
    },
    /// What was said to be free stays after all: the device takes back only more at once.
    Keep {
        /// Of which device.
        device: DeviceId,
        /// What, ascending.
        ranges: Vec<DpaRange>,
    },
    /// Capacity has been released, and must not be used any more.
    Withdrawn {
        /// Of what.
        group: GroupId,
        /// Which, ascending.
        extents: Vec<DpaRange>,
        /// Bytes that are left of it; with 0 it is gone.
        left: u64,
    },
    /// Capacity that was in use is gone, and what was in it.
    Lost {
        /// Of which device.
        device: DeviceId,
        /// Of what.
        group: GroupId,
        /// Which, ascending.
        extents: Vec<DpaRange>,
        /// Bytes that are left of it; with 0 it is gone.
        left: u64,
    },
    /// For the log.
    Note {
        /// When.
        at: Instant,
        /// About which device.
        device: DeviceId,
        /// What.
        notice: Notice,
    },
}

/// What is worth a line in a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Notice {
    /// An offered extent is refused, or one that was accepted earlier is not used.
    Refused {
        /// Which.
        extent: DcExtent,
        /// Why.
        why: Refused,
    },
    /// An extent that was accepted is offered again, and accepted again.
    Again {
        /// Which.
        extent: DcExtent,
    },
    /// A release cannot be done as it was asked for.
    NotReleased {
        /// What was asked for.
        range: DpaRange,
        /// Of which allocation.
        tag: Tag,
        /// Why.
        why: Refused,
    },
    /// The device did not take an answer: what was accepted is not.
    AnswerRejected {
        /// The chain.
        chain: ChainId,
    },
    /// Some of what was asked back is in use; it is asked for again at this time at the latest.
    Deferred {
        /// Bytes.
        bytes: u64,
        /// When.
        until: Instant,
    },
}
