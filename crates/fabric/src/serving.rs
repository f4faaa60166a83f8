//! What both servers have in common: sockets to listen on, connections with limits, a way to stop.
//!
//! * [`listener`]: listening sockets, which take the place of a dead server's and not of a living
//!   one's.
//! * [`hub`]: all connections, waited for together.
//! * [`stop`]: the end, from another thread or a signal.

pub mod hub;
pub mod listener;
pub mod stop;

pub use self::{
    hub::{GuestId, Hub},
    listener::{ListenError, Listener},
    stop::{Stop, StopHandle},
};
