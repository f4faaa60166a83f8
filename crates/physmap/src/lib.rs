//! The physical address map of a machine, as data.
//!
//! Firmware tables and the kernel's lists of ranges come in as bytes and text; one map comes out,
//! with every conflict named, and one allocator of what is free in it.
//!
//! * [`acpi`]: the firmware tables CEDT, SRAT, HMAT and SLIT.
//! * [`cdat`]: the table that a CXL device or switch has of itself.
//! * [`interleave`]: which device an address goes to, and where on it.
//! * [`performance`]: latency and bandwidth of a path, from what tables say of its parts.
//! * [`firmware_map`]: the ranges that firmware handed over, and `memmap=`.
//! * [`iomem`]: the kernel's own map, `/proc/iomem`.
//! * [`ranges`]: sets of addresses.
//! * [`resource`]: the kernel's resource tree, with the kernel's rules.
//! * [`window`]: a CXL window as firmware states it.
//! * [`windows`]: the windows in the tree, and what each decoder may use.
//! * [`reconcile`]: one map out of what several tables say, and where they disagree.
//! * [`map`]: that map.
//! * [`allocate`]: who gets what is free in it.
//! * [`kernel_map`]: the map beside the kernel's own.
//!
//! The crate reads no file and writes none: whoever has a machine, a captured tree or a fuzzer
//! brings the bytes.

#![forbid(unsafe_code)]
#![no_std]

extern crate alloc;

pub mod acpi;
pub mod allocate;
pub mod cdat;
pub mod firmware_map;
pub mod interleave;
pub mod iomem;
pub mod kernel_map;
pub mod map;
pub mod performance;
pub mod ranges;
pub mod reconcile;
pub mod resource;
pub mod window;
pub mod windows;
