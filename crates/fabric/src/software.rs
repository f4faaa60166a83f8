//! A fabric without hardware: one device with dynamic capacity, shared by hosts on this machine.
//!
//! It is for trying pooling on one machine, and for proving hosts and managers against a device
//! that does what the specification says. The device is [`memtide_cxl::device`]; here is what makes
//! it real: sockets instead of a mailbox and an interrupt, and memory behind the addresses.
//!
//! # Memory
//! Every host has a sparse file of its own, as long as the device, in which a device address is an
//! offset. A host that reads or writes where it has accepted nothing meets its own file only, never
//! another host's data; the kernel keeps them apart as a device would. Bytes are handed on by
//! making holes: what a host no longer has is emptied in its file, which is also the device's
//! overwriting, and what it gains is emptied first, whatever it wrote there before. So capacity
//! always arrives as zeroes, also in a region that does not promise it. A host that goes on writing
//! to what it has lost writes into its own holes; only its own machine's memory suffers.
//!
//! The same bytes cannot be in two files. Therefore regions here are exclusive: the device refuses
//! to share what is in them, as the specification lets it.
//!
//! # What it forgets
//! Everything ends with the process: who holds what, and the data as soon as the hosts let go of
//! their files. A fabric that is started again is a device after a loss of power: hosts find that
//! they have nothing, and a manager reads that, too.
//!
//! # Whom it trusts
//! Whoever can connect is whom he says he is. A Unix socket is for its owner alone; a TCP socket is
//! for a network in which everybody is trusted, carries commands and no memory.
//!
//! One thread and one loop, like all of memtide's servers. Malformed frames end their connection
//! and nothing else; commands that are wrong get the return code that the specification has for
//! them.

mod config;
mod memory;
mod server;

pub use self::{
    config::{Config, ConfigError, MAX_CAPACITY},
    memory::MemoryError,
    server::{BindError, Fabric, Notice, RunError},
};
