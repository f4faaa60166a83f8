//! A CXL fabric without hardware, links to fabrics of any kind, and the fabric manager's service.
//!
//! ```text
//!   memtide serve (host 0) ──┐ unix or tcp socket        ┌── memtide fm serve ── memtide fm add …
//!   memtide serve (host 1) ──┴──▶ memtide fabric serve ◀──┘        ▲
//!            └──────────── answers: who holds what, and why ────────┘
//! ```
//!
//! * [`wire`]: what is said on a socket of the fabric, and between host and manager.
//! * [`address`], [`frame`], [`channel`]: where a socket is, what a message looks like on it, and
//!   one nonblocking connection with its limits.
//! * [`serving`]: what both servers have in common.
//! * [`software`]: a device of `memtide_cxl` behind a socket, with memory behind its addresses.
//! * [`link`]: one connection to a device, as a host or as the manager.
//! * `manager`: the service that hands out capacity, and what it keeps on disk.

#![forbid(unsafe_code)]

pub mod address;
pub mod channel;
pub mod control;
pub mod frame;
pub mod link;
pub mod manager;
pub mod serving;
pub mod software;
pub mod wire;

pub use address::Address;
pub use link::{Link, LinkError};
