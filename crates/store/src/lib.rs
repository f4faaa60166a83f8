//! The memory behind a node.
//!
//! A node's memory is a sparse file per image, as large as the node, in which a pageblock always
//! lies at the same place ([`NodeFile`]). The engine sees to it that no two images use the same
//! pageblock; the kernel sees to it that no image sees another's file. Giving a pageblock back is
//! punching a hole: the memory is the machine's again, and reads as zero in the next hands.
//!
//! * [`store`]: a node's [`Store`], which makes its files.
//! * [`file`](mod@file): an image's file on one node.
//! * [`error`]: what can be wrong with them.
//! * [`dcd`]: a device's memory: one file for all images.
//! * [`numa`]: memory of one NUMA node of the kernel's.
//! * [`kernel`]: what the kernel offers: huge pages, transparent huge pages.
//!
//! The crate knows nothing of who may have what.

#![forbid(unsafe_code)]

pub mod dcd;
pub mod error;
pub mod file;
pub mod kernel;
pub mod numa;
pub mod store;

pub use error::StoreError;
pub use file::NodeFile;
pub use store::{Backing, Store};
