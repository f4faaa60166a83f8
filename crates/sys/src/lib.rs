//! sys

pub mod arena;
pub mod kernel;

pub use arena::{AddrRange, Arena, OnFault, Prot};
pub use kernel::Kernel;
