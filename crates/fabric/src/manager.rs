//! The fabric manager's service: [`memtide_cxl::manager`] with a store, devices and sockets.
//!
//! The manager itself is a pure state machine. Here is the world around it, and the promises that
//! only the world can break:
//!
//! * **Durable first.** What the manager wants kept is on disk ([`store`]) before a command that
//!   depends on it is sent, and before a request is called accepted. If it cannot be kept (a full
//!   disk), a request is refused with that reason and has changed nothing; anything else that
//!   cannot be kept makes the service go back to what is on disk and read its devices anew, which
//!   is what its successor would do after a crash. While the store cannot even be read, nothing is
//!   asked of devices and nothing is accepted.
//! * **Nobody is waited for.** One loop serves devices, hosts' agents and operators. A device that
//!   does not answer in time is disconnected; connecting happens in a thread that ends in time
//!   ([`backend`]); who reads slowly loses nothing but his own connection, or, if he watches, the
//!   states in between.
//! * **Nobody is believed.** What agents and operators send is bounded and checked; a malformed
//!   frame ends its connection. What a device says goes to the manager, which looks at all of it.
//!
//! Operators connect to a Unix socket that is their user's alone ([`control`](crate::control)),
//! agents to sockets of their own ([`wire`](crate::wire)). Two services cannot have one store; of
//! two with a store each and the same device, the newer connection ends the older one, whose
//! service says so and tries again after a pause.

pub mod backend;
pub mod client;
pub mod config;
pub mod device_address;
mod service;
pub mod store;
mod view;

pub use self::{
    client::{Client, ClientError},
    config::Config,
    device_address::DeviceAddress,
    service::{BindError, Notice, RunError, Service},
};
