//! Dynamic capacity: memory that a device offers extent by extent, and asks back.
//!
//! A dynamic-capacity device (CXL 3.1, 9.13.3) has partitions of device addresses (DPA) with
//! nothing behind them at first. A fabric manager puts extents there and takes them away again;
//! the host hears of it by event records, and answers by mailbox commands. What the host accepts
//! it may use until it says itself that it does not any more. So the manager may ask for 100 GiB
//! and hear "97 now, ask again for 3"; this module is the host's side of that talk, as a pure
//! state machine: [`Host`]. It follows the rules of the Linux series "DCD: Add support for
//! Dynamic Capacity Devices" (v11, June 2026) where those are settled, and its names.
//!
//! # What counts
//! * **The tag is the unit of allocation.** Extents of one tag are one device for the user: the
//!   sum of their sizes, in the order of their sequence numbers. They are accepted together or
//!   not at all. An extent without a tag is a device of its own.
//! * **Nothing is half.** An extent is taken as it was offered, or refused; it is never clipped.
//! * **Nothing surfaces before it is whole:** records chain by a flag, *more*; a chain is weighed
//!   when it ends, answered once, and used once the device has taken the answer.
//! * **What is in use does not leave** by request. It is asked of whoever uses it, and what stays
//!   is *deferred*: asked for again when something was freed, and now and then, until it is gone.
//! * **What is taken by force is lost** at once; its users are told. (Linux logs it and goes on
//!   using memory that is not there.)
//!
//! # What differs from Linux, and why
//! * Linux never splits a tag group. Neither do we, unless the device says that it takes back
//!   single extents, or blocks ([`Splitting`]): without that the 3 GiB keep the 97.
//! * A chain that has too many extents, or never ends, is answered, with nothing accepted: a
//!   device that is owed an answer may never offer anything again. When the rest of a chain comes
//!   after all, its tags are refused once more: half an allocation must not look like a whole one.
//! * An extent surfaces only after the device has taken the answer. A device that no longer knows
//!   the offer would otherwise have its memory used by two.
//! * Linux calls it a duplicate when an offered extent lies inside one that it has. Here only the
//!   same extent, under the same tag, is one; anything else overlaps, and is refused.
//!
//! # Files
//! * [`extent`]: [`DpaRange`], [`Tag`], [`DcExtent`]. `ranges`: sets of addresses.
//! * [`config`]: partitions, limits. [`input`], [`effect`], [`refused`]: in, out, and why not.
//! * [`host`]: [`Host`], and the way an input takes. `device`: what is known of one device.
//! * `pending`: records until a chain ends. `add_pending`: a chain is weighed and answered.
//!   `again`: what is offered twice meanwhile.
//! * `validate_extent`, `classify_extent`, `check_group_seq`, `check_group_partition`: the gates.
//! * `tag_group`: extents of one tag, from the answer to the last release.
//! * `rm_extent`: asked back. `reclaim`: what is asked of the user, and when again.
//! * `forced_release`: taken. `recover`: what was accepted before this host knew of it.
//! * [`on_engine`]: [`Port`], dynamic capacity as blocks of an engine's nodes.

mod add_pending;
mod again;
mod check_group_partition;
mod check_group_seq;
mod classify_extent;
pub mod config;
mod device;
pub mod effect;
pub mod extent;
mod forced_release;
pub mod host;
pub mod input;
pub mod on_engine;
mod pending;
mod ranges;
mod reclaim;
mod recover;
pub mod refused;
mod rm_extent;
mod tag_group;
#[cfg(test)]
mod tests;
mod validate;
mod validate_extent;

pub use self::{
    config::{DeviceConfig, DeviceError, Limits, Partition, Splitting},
    effect::{Effect, Notice},
    extent::{ChainId, DcExtent, DeviceId, DpaRange, GroupId, Tag},
    host::{GroupStatus, Host, Totals},
    input::{Input, More, Outcome},
    on_engine::{Action, Answer, Port, PortError, Window},
    refused::{Errno, InputError, Refused},
};
