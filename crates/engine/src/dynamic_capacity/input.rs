//! What a host hears: of its devices, and of those who use the capacity.

use alloc::vec::Vec;

use super::extent::{ChainId, DcExtent, DeviceId, DpaRange, Tag};

/// One thing that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// A region was made over addresses of a device, and the device's list of accepted extents
    /// was read (`cxl_dax_region` probe): from now on extents there can be used.
    Probe {
        /// Of which device.
        device: DeviceId,
        /// What its endpoint decoder decodes.
        decoder: DpaRange,
        /// What the device says was accepted earlier.
        accepted: Vec<DcExtent>,
    },
    /// An Add Capacity record.
    Add {
        /// Of which device.
        device: DeviceId,
        /// What is offered.
        extent: DcExtent,
        /// Whether another record of the chain follows.
        more: More,
    },
    /// The device has taken an [`super::Effect::AddResponse`], or not.
    Answered {
        /// Which device.
        device: DeviceId,
        /// The chain that was answered.
        chain: ChainId,
        /// What it said.
        outcome: Outcome,
    },
    /// A Release Capacity record: the device asks for capacity back.
    Release {
        /// Of which device.
        device: DeviceId,
        /// What; inside one extent.
        range: DpaRange,
        /// Of which allocation.
        tag: Tag,
        /// Whether another record of the request follows.
        more: More,
    },
    /// A Forced Capacity Release record: it is gone already.
    ForcedRelease {
        /// Of which device.
        device: DeviceId,
        /// What; inside one extent.
        range: DpaRange,
        /// Of which allocation.
        tag: Tag,
    },
    /// The answer to [`super::Effect::Reclaim`]: nobody uses this of it any more. Somebody uses
    /// the rest.
    Reclaimed {
        /// Of which device.
        device: DeviceId,
        /// What.
        free: Vec<DpaRange>,
    },
    /// Somebody stopped using something: what was deferred may be free now.
    Freed {
        /// Of which device.
        device: DeviceId,
    },
    /// Nothing happened but the passing of time.
    Tick,
}

/// Whether another record of a chain follows (the flag More).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum More {
    /// Yes: 1.
    Follows,
    /// No: 0, the chain ends.
    Last,
}

/// What a device made of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Success.
    Taken,
    /// An error: it does not know of the offer any more.
    Rejected,
}
