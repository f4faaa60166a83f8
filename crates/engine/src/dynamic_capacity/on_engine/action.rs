//! What a port has done, answers, and refuses.

use alloc::vec::Vec;

use memtide_units::{ByteSize, Pageblock};

use crate::{
    dynamic_capacity::{
        effect::Effect,
        extent::{DeviceId, DpaRange},
        refused::InputError,
    },
    effect::Holder,
};

/// What is to be done, in this order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Hand this to the engine, and its effects to [`super::Port::engine_did`]. If it refuses, tell
    /// [`super::Port::engine_refused`].
    Engine(crate::Input),
    /// What the host says; of this, responses and releases are to be sent to the device. Never
    /// [`Effect::Reclaim`] or [`Effect::Keep`]: those are done by the engine.
    Host(Effect),
    /// How far a device's request has come.
    Answer(Answer),
}

/// The answer to a device that asked for capacity back. `released + remaining = asked`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Which device.
    pub device: DeviceId,
    /// What was asked for, as far as it was not gone before.
    pub asked: ByteSize,
    /// What was released.
    pub released: ByteSize,
    /// What stays for now.
    pub remaining: ByteSize,
    /// Who holds it, largest first.
    pub holders: Vec<Holder>,
    /// Whether there is something to ask for again. It follows by itself when it is free.
    pub ask_again: bool,
}

/// Why a port cannot do something; then nothing changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PortError {
    /// The host refuses it.
    #[error(transparent)]
    Host(#[from] InputError),
    /// A region whose pageblocks have no number, or are those of another.
    #[error("{device}: {decoder} at {first}; expected pageblocks that have no other region")]
    Window {
        /// Which device.
        device: DeviceId,
        /// Which region.
        decoder: DpaRange,
        /// Where it was to be.
        first: Pageblock,
    },
    /// Only the port itself says that to its host.
    #[error("{what}; expected a record, an answer of a device, or the passing of time")]
    NotFromOutside {
        /// What was said.
        what: &'static str,
    },
}
