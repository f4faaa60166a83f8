//! Ports: host bridges, switches and endpoints.
//!
//! A port stands for an upstream port with decoders in its registers. Its parent is the port (or
//! the root) that its folder lies in, and `parent_dport` the device there behind which it is.

use serde::Serialize;

use super::DEVICES;
use crate::{
    Notes, Root,
    attributes::{Folder, device_path, number_after, numbered},
};

/// What a port is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortKind {
    /// Of a host bridge or a switch: it has others below.
    Port,
    /// Of a memory device.
    Endpoint,
}

impl PortKind {
    /// By the name: `port1`, `endpoint2`.
    pub(super) fn of_name(name: &str) -> Option<(Self, u32)> {
        let port = number_after(name, "port").map(|number| (Self::Port, number));
        port.or_else(|| number_after(name, "endpoint").map(|number| (Self::Endpoint, number)))
    }
}

/// A downstream port.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Dport {
    /// Its number in the hardware, which target lists name.
    pub id: u32,
    /// The device: `pci0000:0c`, `0000:0c:00.0`.
    pub device: String,
}

/// A host bridge, a switch, or a memory device's side of the way to it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Port {
    /// `portN` or `endpointN`.
    pub name: String,
    /// N, which also begins the names of its decoders.
    pub number: u32,
    /// What it is.
    pub kind: PortKind,
    /// The root or port above.
    pub parent: Option<String>,
    /// The device behind which it lies in its parent.
    pub parent_dport: Option<String>,
    /// The device that it stands for: a host bridge, a switch's upstream port, a memdev.
    pub host: Option<String>,
    /// Its downstream ports, by number; none of an endpoint.
    pub dports: Vec<Dport>,
    /// Decoders that the hardware decodes with.
    pub decoders_committed: Option<u32>,
    /// The driver that is bound; none means disabled.
    pub driver: Option<String>,
}

impl Port {
    /// The port of that name (`port1`, `endpoint2`); nothing if it is no port's name.
    #[must_use]
    pub fn read(root: &Root, name: &str, notes: &mut Notes) -> Option<Self> {
        let (kind, number) = PortKind::of_name(name)?;
        let path = format!("{DEVICES}/{name}");
        let dports = dports(root, &path, notes);
        let parent = parent(root, &path);
        let mut folder = Folder::new(root, path, notes);
        Some(Self {
            name: name.to_owned(),
            number,
            kind,
            parent,
            parent_dport: folder.link("parent_dport"),
            host: folder.link("uport"),
            dports,
            decoders_committed: folder.small("decoders_committed"),
            driver: folder.link("driver"),
        })
    }
}

/// The root or port in whose folder the device at `path` lies.
fn parent(root: &Root, path: &str) -> Option<String> {
    let mut parts = device_path(root, path);
    parts.pop()?;
    let parent = parts.pop()?;
    let known = super::bus::is_name(&parent) || PortKind::of_name(&parent).is_some();
    known.then_some(parent)
}

/// The `dportN` links in a folder.
pub(super) fn dports(root: &Root, path: &str, notes: &mut Notes) -> Vec<Dport> {
    let links = notes.keep_list(numbered(root, path, "dport"));
    let folder = Folder::new(root, path, notes);
    let dport = |(name, id): (String, u32)| Some(Dport { id, device: folder.link(&name)? });
    links.into_iter().filter_map(dport).collect()
}
