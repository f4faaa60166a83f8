//! A Linux machine, read from and written to sysfs and procfs under any root folder: a live
//! machine, or a tree that somebody captured for a bug report.
//!
//! What a kernel or a machine does not have is absent, not an error; what is there and makes no
//! sense is a note that names the file ([`Notes`]), and the rest is read all the same.
//!
//! * [`root`]: [`Root`], the folder that everything is read under; [`notes`]: what could not be.
//! * [`nodes`]: NUMA nodes with their [`zones`], [`distances`] and [`access`] costs; [`tiers`] of
//!   them; [`node_list`], lists such as `0-3,8`.
//! * [`memory_blocks`]: what goes online and offline; [`memory_groups`]: which of them came
//!   together. [`dax`]: devices that provide memory.
//! * [`cxl`]: buses, ports, decoders, memory devices and regions of Compute Express Link.
//! * [`virtio_mem`]: memory that a hypervisor plugs. [`firmware`]: what it reported at boot.
//! * [`address_map`]: firmware's physical address map against the kernel's.
//! * [`topology`]: all of it joined, with the way from each processor to each memory.
//! * [`capture`]: such a tree as a file for a bug report, and back.
//! * [`processes`]: the memory of programs on the kernel's nodes: where it is, and moving it.
//!
//! Who changes something is stricter: what makes no sense is an error, before anything is written.
//!
//! * [`online`], [`offline`]: taking blocks there, and which zone they go to.
//! * [`give_back`]: as much of a node as can be had, and who holds the rest.
//! * [`region`]: making and unmaking CXL regions. [`dax_mode`]: whose a dax device is.
//! * [`dcd`]: serving a device with dynamic capacity that no driver of the kernel's serves.
//! * [`switch`]: what is behind the switches that this machine can manage. [`mailbox`]: registers
//!   that carry commands.
//! * [`plan`]: how anything is changed: planned, carried out, taken back.

#![forbid(unsafe_code)]

pub mod access;
pub mod address_map;
mod attributes;
pub mod capture;
pub mod cxl;
pub mod dax;
pub mod dax_mode;
pub mod dcd;
pub mod distances;
pub mod firmware;
pub mod give_back;
pub mod mailbox;
pub mod memory_blocks;
pub mod memory_groups;
pub mod node_list;
pub mod nodes;
pub mod notes;
pub mod offline;
pub mod online;
mod page_words;
pub mod plan;
pub mod processes;
pub mod region;
pub mod root;
pub mod switch;
pub mod tiers;
pub mod topology;
pub mod virtio_mem;
pub mod zones;

pub use memory_blocks::{BlockId, BlockState, MemoryBlock, MemoryBlocks, Zone};
pub use notes::Notes;
pub use root::{ReadError, Root};
pub use topology::Topology;
