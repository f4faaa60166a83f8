//! What a manager has done, in this order.

use alloc::vec::Vec;

use memtide_units::{DcExtent, DpaRange};

use super::{
    exchange::Command,
    journal::Record,
    name::{DeviceName, HostName},
    report::Report,
};
use crate::ReturnCode;

/// One thing for the world to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Make this durable, all of it or nothing, before anything after it is done, now or by a later
    /// input. (Reading a device, and clearing its log, may come first: nothing is journalled of
    /// what a device says that it does not say again.) If that fails, this manager must not go on:
    /// its successor is restored from what is durable.
    Journal(Vec<Record>),
    /// Send this to a device; then say [`super::Input::Reply`] or [`super::Input::DeviceDown`].
    /// There is never more than one at a time for a device.
    Command {
        /// To which.
        device: DeviceName,
        /// What.
        command: Command,
    },
    /// The answer to a request: its last one, unless its state is open; then another one follows
    /// when it ends.
    Answer(Report),
    /// Tell the host's agent, if it is connected: this was taken by force.
    Taken {
        /// Whom.
        host: HostName,
        /// Of which device.
        device: DeviceName,
        /// What.
        extents: Vec<DcExtent>,
    },
    /// For the log.
    Note {
        /// About which device.
        device: DeviceName,
        /// What.
        notice: Notice,
    },
}

/// What is worth a line in a log.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Notice {
    /// All is read: requests go on.
    #[error("in use: {hosts} hosts, {regions} regions, {capacity} bytes")]
    Ready {
        /// Hosts it has room for.
        hosts: u8,
        /// Regions.
        regions: usize,
        /// Bytes in all.
        capacity: u64,
    },
    /// The device says of itself what cannot be; it is left alone until it is connected anew.
    #[error("not in use: {field} is {value:#x}; expected {expected}")]
    Unusable {
        /// What is wrong.
        field: &'static str,
        /// What it says.
        value: u64,
        /// What it may say.
        expected: &'static str,
    },
    /// The device refused a command.
    #[error("{command:?} refused: {code}")]
    Refused {
        /// Which.
        command: Command,
        /// How.
        code: ReturnCode,
    },
    /// A host did not answer an offer in time: it was withdrawn.
    #[error("{bytes} bytes were offered to {host}, which did not answer: they are withdrawn")]
    Withdrawn {
        /// Who.
        host: HostName,
        /// How many.
        bytes: u64,
    },
    /// A host did not answer an offer in time, and the device does not withdraw it.
    #[error("{bytes} bytes are offered to {host}, which does not answer; not withdrawn: {code}")]
    NotWithdrawn {
        /// Who.
        host: HostName,
        /// How many.
        bytes: u64,
        /// What the device says.
        code: ReturnCode,
    },
    /// What was offered to a host cannot be: it is not there, or another host has it.
    #[error("{bytes} bytes were offered to {host} that the device does not have for it any more")]
    NoLongerFits {
        /// Who.
        host: HostName,
        /// How many.
        bytes: u64,
    },
    /// What is free and was not overwritten since somebody had it is given to nobody else.
    #[error("{bytes} bytes are free that others had and that were not overwritten")]
    Withheld {
        /// How many.
        bytes: u64,
    },
    /// Event records were lost; everything is read again.
    #[error("{count} event records were lost; everything is read again")]
    Overflow {
        /// How many.
        count: u16,
    },
    /// Two hosts have the same bytes, and the region cannot be shared: the device is at fault.
    #[error("{range} is held by two hosts; expected one")]
    TwoOwners {
        /// What.
        range: DpaRange,
    },
}
