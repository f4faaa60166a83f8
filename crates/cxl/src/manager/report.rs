//! What operators are told of a request: exact numbers, at any time.

use alloc::vec::Vec;

use memtide_units::RequestId;

use super::input::Holder;

/// What has become of a request. For what is added: `asked = accepted + refused + pending +
/// missing`. For what is released: `asked = returned + held + missing`. A move has both: what is
/// returned is then accepted, refused, pending, or about to be offered.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Report {
    /// Which.
    pub id: RequestId,
    /// Whether there is more to come.
    pub state: State,
    /// Bytes that were asked for.
    pub asked: u64,
    /// Bytes that came back.
    pub returned: u64,
    /// Bytes that were asked back and that the host still has.
    pub held: u64,
    /// Who holds them, and why, in the host's own words; empty if it has not said.
    pub holders: Vec<Holder>,
    /// Bytes that the host took.
    pub accepted: u64,
    /// Bytes that it did not want.
    pub refused: u64,
    /// Bytes that it has been offered and has not answered.
    pub pending: u64,
    /// Bytes that could not be offered, or asked for.
    pub missing: u64,
}

/// Whether there is more to come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum State {
    /// It stands: the rest is asked for again.
    Open,
    /// It is over.
    Ended(Ending),
}

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Ending {
    /// All was done.
    Done,
    /// Some was, or nothing: the numbers say how much.
    Partly,
    /// It was cancelled.
    Cancelled,
    /// The device refused it: with this return code.
    Refused(u16),
    /// What it had offered is not there any more: the device has become another, or another host
    /// has some of it.
    NoLongerFits,
}
