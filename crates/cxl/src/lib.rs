//! CXL's mailbox, dynamic capacity and fabric-manager interface, without any hardware.
//!
//! A device with dynamic capacity is shared by hosts, and a fabric manager says who gets how much
//! of it (CXL 3.1, 9.13.3). All that they say to each other is here as data: messages that turn
//! into bytes and back, and the two ends of the talk that no kernel has, as state machines.
//!
//! ```text
//!   host ── 4800h–4803h, event records ──▶ ┌────────┐ ◀── 5600h–5608h, event records ── manager
//!                                          │ device │
//!   host ─────────────────────────────────▶└────────┘
//! ```
//!
//! * [`code`], [`opcode`]: return codes and opcodes by name.
//! * [`payload`]: how a message becomes bytes ([`Payload`]), and why bytes are none.
//! * [`command`]: every command that memtide speaks, one file each.
//! * [`mod@outdated`]: what of an event log is older than the list of extents.
//! * [`cci`], [`tunnel`]: what carries them where no register does.
//! * [`mailbox`]: the registers that carry them.
//! * [`registers`]: where registers are, and those that decode addresses.
//! * [`device`]: a device as the specification has it, for several hosts.
//! * [`switch`]: a switch as the specification has it, with such devices behind its ports.
//! * [`manager`]: who has what, who is to get what, who has to give what back.
//!
//! The host's own rules (chains, tag groups, what is given back when) are
//! `memtide_engine::dynamic_capacity`; this crate knows nothing of engines. No I/O, no clock, no
//! thread, no unsafe code. Whatever arrives may be hostile: it is decoded or refused, in time and
//! memory that its length bounds.

#![forbid(unsafe_code)]
#![no_std]

extern crate alloc;

pub mod cci;
pub mod code;
pub mod command;
pub mod device;
pub mod mailbox;
pub mod manager;
pub mod opcode;
pub mod outdated;
pub mod payload;
pub mod registers;
pub mod switch;
pub mod tunnel;

pub use code::ReturnCode;
pub use opcode::Opcode;
pub use outdated::outdated;
pub use payload::{Command, DecodeError, Payload};
