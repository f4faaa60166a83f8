//! The physical address map of a machine, as data.
//!
//! Firmware tables and the kernel's lists of ranges come in as bytes and text; one map comes out,
//! with every conflict named, and one allocator of what is free in it.
//!
//! The crate reads no file and writes none: whoever has a machine, a captured tree or a fuzzer
//! brings the bytes.
//!
//! * [`ranges`]: sets of addresses.
//! * [`resource`]: the kernel's resource tree, with the kernel's rules.
//! * [`window`]: a CXL window as firmware states it.
//! * [`windows`]: the windows in the tree, and what each decoder may use.
//! * [`reconcile`]: one map out of what several tables say, and where they disagree.
//! * [`map`]: that map.
//! * [`allocate`]: who gets what is free in it.
//! * [`kernel_map`]: the map beside the kernel's own.

#![forbid(unsafe_code)]
#![no_std]

extern crate alloc;

pub mod allocate;
pub mod kernel_map;
pub mod map;
pub mod ranges;
pub mod reconcile;
pub mod resource;
pub mod window;
pub mod windows;
