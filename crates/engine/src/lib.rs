//! The rulebook of memtide as a pure state machine.
//!
//! Requests, acknowledgements and the time go in ([`Input`]); decisions come out ([`Effect`]).
//! The engine does no I/O, knows no clock, starts no thread, and has no unsafe code.

#![forbid(unsafe_code)]
#![no_std]

extern crate alloc;

pub mod config;
pub mod effect;
pub mod input;
pub mod refusal;

pub use config::{Awaited, Config, ConfigError, Limits, NodeConfig, OnFull};
pub use effect::{Effect, Holder, MemberStatus, NodeStatus, Report};
pub use input::{Claims, Input, Lineage, MoveOutcome};
pub use refusal::Refusal;
