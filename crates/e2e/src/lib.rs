//! Proofs with real programs.
//!
//! The tests in `tests/` start the real `memtide`, run programs under it that know nothing of it,
//! take capacity away and put it back all the while, and look whether anything was lost. The
//! programs are ordinary ones of this machine (redis, memcached, python, sqlite, sort) and, in
//! `programs/`, small C programs that check themselves.
//!
//! This crate is what the tests share; it uses only what an operator has: the `memtide` command
//! and its JSON. It reads that JSON with its own types, so that a change of the documented form
//! does not pass unseen.
//!
//! * [`mod@machine`]: one test at a time, what a test needs, skipping loudly, seeds and lengths.
//! * [`artifacts`]: builds and finds `memtide` and the C programs.
//! * [`mod@nobody`]: as an ordinary user.
//! * [`process`]: a child process that cannot hang a test.
//! * [`pool`]: a daemon on a socket of its own.
//! * [`report`]: what `memtide … --json` says.
//! * [`tides`]: gives back, adds and moves without a pause, and checks every answer.
//! * [`wire`]: small clients for memcached and for garbage.
//!
//! Nothing waits without a deadline, and what outlives its deadline is killed with its process
//! group. The functions panic: they are called by tests.

#![forbid(unsafe_code)]

pub mod artifacts;
pub mod machine;
pub mod nobody;
pub mod pool;
pub mod process;
pub mod report;
pub mod tides;
pub mod wire;

pub use artifacts::{library, memtide, program};
pub use machine::{Machine, Random, machine, needs, seconds};
pub use pool::{OnFull, Pool, PoolSpec};
pub use process::{Finished, Running};
pub use tides::Tides;

/// Bytes in a MiB.
pub const MIB: u64 = 1 << 20;
