//! Talk to a memtide daemon.
//!
//! One call is one request: connect, ask, listen to progress, take the answer. Errors say what
//! to do about them.
//!
//! * [`mod@request`]: the calls.
//! * [`paths`]: where a daemon's socket is, unless somebody says otherwise.

#![forbid(unsafe_code)]

pub mod paths;
pub mod request;

pub use request::{Answer, ClientError, is_served, request};
