//! Serving a CXL device with dynamic capacity from user space.
//!
//! **Problem.** A dynamic-capacity device (CXL 3.1, 9.13.3) offers memory extent by extent and asks
//! for it back. No Linux that one can install knows how to answer it.
//!
//! **Idea.** All that it takes is there all the same. The device's registers can be mapped through
//! sysfs, as long as no driver has it. Its mailbox offers, accepts and releases. Its decoders put
//! it into a CXL window that was set aside when the kernel was started, and there the kernel makes
//! dax devices of any part, and of those memory of a node: online, movable, for programs that know
//! nothing of it. Which extents are taken, and what goes back when, are the rules of
//! [`memtide_engine::dynamic_capacity`], the same that the simulator and the proofs drive.
//!
//! ```text
//!   PCI device ── mailbox ──▶ Agent ◀──▶ Host (rules)
//!        │                      │
//!     decoders               dax devices, kmem, memory blocks
//!        └───── CXL window ─────┘
//! ```
//!
//! **Invariants.** No memory is online without an accepted extent behind it, but what was taken by
//! force. Nothing is given back that is in use. Every chain is answered once, in order. Nothing is
//! remembered but by the device and the kernel ([`agent`]).
//!
//! **What it refuses.** Devices that a driver of the kernel's has; those behind switches, or in
//! host bridges with several root ports; extents that are not whole memory blocks. Undoing what
//! force did: it says who is concerned, and touches nothing.
//!
//! * [`pci`]: the device, and the way to it. [`registers`], [`mailbox`], [`decoder`]: its
//!   registers.
//! * [`window`], [`dax_region`]: where it goes. [`memory`]: extents as memory of the kernel's.
//! * [`agent`]: what happens. `answers`, `blocks`: what is said to the device and done to the
//!   kernel. `log`: event records and the list of extents. [`report`]: as lines.
//!   `standing`: what is accepted, for a fabric manager that is told of it.
//! * [`pool`]: a pool that has the capacity; `supply`: its part of it; `fetch`: its pages, back on
//!   their node.
//! * [`mod@serve`]: all of it put together, for a device of this machine.

pub mod agent;
mod answers;
mod blocks;
pub mod dax_region;
pub mod decoder;
pub mod error;
mod fetch;
mod log;
pub mod mailbox;
pub mod memory;
pub mod pci;
pub mod pool;
pub mod registers;
pub mod report;
pub mod serve;
mod standing;
mod stuck;
mod supply;
pub mod window;

pub use self::{
    agent::{AcceptPolicy, Agent, Setup},
    error::DcdError,
    mailbox::{CommandError, Commands, Mailbox},
    pool::{AddError, Pool, PoolError, PoolState},
    report::Report,
    serve::{ServeWish, Served, find, serve},
};
