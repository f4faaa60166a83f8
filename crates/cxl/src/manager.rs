//! The fabric manager: who has what of shared devices, who is to get what, who has to give back.
//!
//! A device with dynamic capacity serves several hosts. It does what it is told, asks nobody, and
//! keeps no list of wishes; that is the manager's part (CXL 3.1, 7.6.7.6 and 9.13.3). This is it,
//! as a pure state machine: [`Manager`]. Inputs are what operators ask for, what devices reply,
//! what hosts say of themselves, and the time; outputs are commands, what to make durable, and
//! answers.
//!
//! # What is true where
//! * **Who holds what: the device says so.** Its event records are only the reason to look (5603h);
//!   the one thing that nothing but a record tells is that a host took nothing.
//! * **What was asked and promised: the journal says so.** [`Output::Journal`] is durable before
//!   the commands after it are sent, so a manager that starts again knows of every offer that a
//!   device might have. It is a map: a key ([`Key`]) has the value that was last put there.
//! * **Who uses it and why it stays: the hosts say so**, if they are connected. Without their word
//!   an answer says how much stays, and not why.
//!
//! # How a device is talked to
//! One command at a time. A connection begins ([`Input::DeviceUp`]) with everything being read:
//! the event log until it is empty, what the device is, its regions, the extents of all its hosts,
//! known to this manager or not, and its tags. Only then does anything change. A lost reply is a
//! lost connection: whether the command was carried out is found in what is read next. Records are
//! read and cleared before any new offer is made, and a host has one offer at a time, so a record
//! that a host took nothing is about the last offer to it, also when it is read twice.
//!
//! An offer whose reply was lost, and that is neither accepted nor refused, is made once more, of
//! the same bytes to the same host: a device that has it already refuses that, and it is known to
//! be pending. What the device chooses itself can only be found again by its tag (5608h): without
//! a tag the manager chooses, by the same rule.
//!
//! # What holds at any time
//! * Bytes are free, offered to one host, held by one (by several if shared), kept for a tag, or
//!   promised to one request. Only free ones are offered, or promised ones for their request.
//! * A host has no more than its maximum, offers and promises included. What is free is only given
//!   out as far as all others could still get their minimum.
//! * Bytes get another owner only after the device has overwritten them: by itself on release, or
//!   because the command asked for it. What a host released unasked in a region that does not do so
//!   is only given to that host again (`sanitize`).
//! * A request is its id: the same again is no other one. It ends in an answer, whatever becomes of
//!   devices and hosts; until then it can be cancelled. A refused one changed nothing.
//!
//! # What it does not do
//! It cannot make a host answer, and does not take what a host uses unless it is told to
//! ([`Forcing`]). It asks for the bytes it chose until they come; it does not ask for others
//! instead, because then it would get more than it asked for. It does not program decoders.
//!
//! # Files
//! * [`name`], [`config`]: devices, hosts, limits. [`request`], [`report`]: in and back to
//!   operators.
//! * [`exchange`]: commands and replies as one type each. [`input`], [`output`]: all that goes in
//!   and out. [`journal`]: what lasts. [`status`]: who has what, to look at.
//! * [`state`]: [`Manager`], and the way an input takes. `turn`: a device's next command.
//! * `device`: what is known of one. `read`: how. `ranges`: sets of addresses.
//! * `check`: whether a request can be; `extents`: what it names. `entry`: its life. `recall`: what
//!   of it lasts. `choose`: which bytes.
//! * `offer`, `release`, `reference`: how each kind goes. `withdraw`: offers that come to nothing.
//!   `sanitize`: whose data is where. `balance`: the manager's own requests.

mod balance;
mod check;
mod choose;
pub mod config;
mod device;
mod entry;
pub mod exchange;
mod extents;
pub mod input;
pub mod journal;
pub mod name;
mod offer;
pub mod output;
mod ranges;
mod read;
mod recall;
mod reference;
mod release;
pub mod report;
pub mod request;
mod sanitize;
pub mod state;
pub mod status;
#[cfg(test)]
mod tests;
mod turn;
mod withdraw;

pub use self::{
    check::MAX_EXTENTS,
    config::{Chooser, Config, ConfigError, DeviceConfig, HostConfig, Limits, Timing},
    entry::{FIRST_OWN_ID, MAX_ENDED, MAX_OPEN},
    exchange::{Command, Reply, Response},
    input::{Holder, HostAnswer, Input, InputError},
    journal::{Former, Key, Record, Value},
    name::{DeviceName, HostName, NameError},
    output::{Notice, Output},
    report::{Ending, Report, State},
    request::{Forcing, Place, Policy, Request, RequestError, Rest, What},
    state::Manager,
    status::{DeviceState, DeviceStatus, HostStatus},
};
