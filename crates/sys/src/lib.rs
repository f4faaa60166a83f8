//! The one unsafe crate: safe types over Linux's memory system calls.
//!
//! Everything here can run inside a program whose `malloc` and `mmap` are ours: memory calls are
//! made by instruction (rustix's linux_raw backend), never through libc's functions, which would
//! come back to us; nothing here waits for the program's allocator.
//!
//! An [`Arena`] is a range of addresses that belongs to us: what is mapped there can be replaced
//! safely, because no Rust object lives there. All calls check that they stay inside.
//!
//! * [`arena`], [`file_map`], [`copy`], [`futex`]: what is done in an arena.
//! * [`kernel`]: memory calls made for the program, with its own arguments.
//! * [`uffd`]: userfaultfd. [`pagemap`]: the page tables, as far as one can see them.
//! * [`numa`]: memory of NUMA nodes that the kernel manages: policies, and moving pages.
//! * [`task`], [`descriptors`], [`proc_dir`], [`process`]: what /proc tells.
//! * [`socket`], [`memfd`], [`file_data`], [`token`], [`own_table`]: descriptors and who shares
//!   them.
//! * [`device_registers`]: registers of PCI devices.
//! * [`zeroed`]: words for shared books. [`processor`]: where a thread runs.
//! * [`lock`], [`signals`]: locks that live through fork, signals kept away.
//! * [`mod@write_within`]: writes that end in time.

pub mod arena;
pub mod copy;
pub mod descriptors;
pub mod device_registers;
pub mod file_data;
pub mod file_map;
pub mod futex;
pub mod kernel;
pub mod lock;
pub mod memfd;
pub mod numa;
pub mod own_table;
pub mod pagemap;
pub mod proc_dir;
pub mod process;
pub mod processor;
pub mod signals;
pub mod socket;
pub mod task;
pub mod token;
pub mod uffd;
pub mod write_within;
pub mod zeroed;

pub use arena::{AddrRange, Arena, OnFault, Prot};
pub use descriptors::{Descriptors, Transfers};
pub use device_registers::DeviceRegisters;
pub use file_data::data_ranges;
pub use file_map::{HugePages, Populate, ProcessMemory, Sharing};
pub use kernel::Kernel;
pub use lock::{ForkLock, ForkLockGuard};
pub use own_table::own_descriptor_table;
pub use pagemap::{PageState, Pagemap};
pub use signals::SignalsBlocked;
pub use task::{Doing, Tasks};
pub use uffd::{Fault, Uffd, UffdError};
pub use zeroed::ZeroedWords;
