//! Owns a pool: the engine over real memory, behind a socket.
//!
//! A [`Daemon`] is made from a [`Config`] and serves programs and operators until told to stop.
//! It can be a process of its own (`memtide serve`) or a thread of another (`memtide run`).
//!
//! * [`config`]: `memtide.toml`, checked.
//! * [`daemon`]: the loop and its end; [`start`]: what it needs before it can begin.
//! * `join`, `returning`, `program`: how programs join and come back, what they say.
//!   `credentials`: who they are.
//! * `control`, `explain`: what operators ask; `retire`: memory that they say is bad.
//! * `dcd`: nodes of a device's dynamic capacity. `numa`: nodes on NUMA nodes of the kernel's.
//! * `effects`: what the engine decides, carried out.
//! * [`connection`], [`images`], [`tokens`], [`zeroing`]: packets, files, who is still there,
//!   memory on its way back.
//! * [`state`]: what a daemon leaves for the next one.
//! * [`notice`], [`summary`]: what it says while it runs, and when it is over.

#![forbid(unsafe_code)]

pub mod config;
pub mod connection;
mod control;
mod credentials;
pub mod daemon;
mod dcd;
pub mod duration;
mod effects;
mod explain;
pub mod images;
mod join;
pub mod notice;
mod numa;
mod program;
mod retire;
mod returning;
pub mod start;
pub mod state;
pub mod summary;
pub mod tokens;
pub mod zeroing;
pub mod zones;

pub use config::{Config, ConfigError, NodeConfig};
pub use daemon::{Daemon, RunError, StopHandle};
pub use notice::Notice;
pub use start::BindError;
pub use summary::Summary;
