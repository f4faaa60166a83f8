//! Roots: where CXL begins in a machine.
//!
//! The kernel has one for the object ACPI0017 of the firmware. Its dports are host bridges, by
//! their `_UID`, as the windows' target lists name them.

use serde::Serialize;

use super::{DEVICES, Dport, port};
use crate::{
    Notes, Root,
    attributes::{Folder, number_after},
};

/// A root.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Bus {
    /// `rootN`.
    pub name: String,
    /// N, which also begins the names of its decoders.
    pub number: u32,
    /// The device of the firmware that describes it: `ACPI0017:00`.
    pub host: Option<String>,
    /// Host bridges.
    pub dports: Vec<Dport>,
}

/// Whether a device of this name is a root.
pub(super) fn is_name(name: &str) -> bool {
    number_after(name, "root").is_some()
}

impl Bus {
    /// The root of that name (`root0`).
    #[must_use]
    pub fn read(root: &Root, name: &str, notes: &mut Notes) -> Self {
        let path = format!("{DEVICES}/{name}");
        let dports = port::dports(root, &path, notes);
        let folder = Folder::new(root, path, notes);
        Self {
            name: name.to_owned(),
            number: number_after(name, "root").unwrap_or_default(),
            host: folder.link("uport"),
            dports,
        }
    }
}
