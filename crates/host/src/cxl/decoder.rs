//! Decoders: which physical addresses go where.
//!
//! A root decoder is a window that firmware laid out: its range, its interleave over host bridges,
//! what may live there. A switch decoder (of host bridges too) and an endpoint decoder are
//! registers: free ones have size 0. Sizes and starts are of the machine's addresses (HPA); of an
//! endpoint decoder also what it takes of its device (DPA). `start` is for root's eyes only.

use memtide_units::{ByteSize, PhysAddr, PhysRange};
use serde::Serialize;

use super::DEVICES;
use crate::{Notes, Root, attributes::Folder};

/// A decoder.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Decoder {
    /// `decoderX.Y`.
    pub name: String,
    /// X, the number of its bus or port.
    pub port: u32,
    /// Y; decoders are committed in this order, and freed in reverse.
    pub index: u32,
    /// What it is, with what only such a one has.
    #[serde(flatten)]
    pub kind: DecoderKind,
    /// Where its range starts.
    pub start: Option<PhysAddr>,
    /// The size of its range; 0 when it is free.
    pub size: Option<ByteSize>,
    /// Over how many targets it interleaves.
    pub interleave_ways: Option<u32>,
    /// Bytes at one target before the next one's turn.
    pub interleave_granularity: Option<u32>,
    /// Whether it is locked until the next reset.
    pub locked: Option<bool>,
}

/// What a decoder is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum DecoderKind {
    /// A window.
    Root {
        /// What may live in it.
        capabilities: Vec<Capability>,
        /// The platform's class of performance.
        qos_class: Option<u32>,
        /// Host bridges (dports of the bus) in the order of the interleave.
        targets: Vec<u32>,
        /// The name that the next region here will have.
        next_region: Option<String>,
    },
    /// Of a host bridge or switch.
    Switch {
        /// `expander` or `accelerator`.
        target_type: Option<String>,
        /// Dports of the port in the order of the interleave.
        targets: Vec<u32>,
        /// Whose it is.
        region: Option<String>,
    },
    /// Of a memory device.
    Endpoint {
        /// `expander` or `accelerator`.
        target_type: Option<String>,
        /// `ram`, `pmem`, `none`, `mixed`.
        mode: Option<String>,
        /// Where its range of the device starts.
        dpa_start: Option<u64>,
        /// How much of the device it has; 0 if nothing.
        dpa_size: Option<ByteSize>,
        /// Whose it is.
        region: Option<String>,
    },
}

/// What may live in a window (restrictions of the CFMWS).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Capability {
    /// Volatile memory.
    Ram,
    /// Persistent memory.
    Pmem,
    /// Accelerators' memory.
    Type2,
    /// Memory expanders.
    Type3,
}

impl Capability {
    /// As messages name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ram => "ram",
            Self::Pmem => "pmem",
            Self::Type2 => "type2",
            Self::Type3 => "type3",
        }
    }
}

/// The X of a name `decoderX.Y`, and the Y.
pub(super) fn port_number(name: &str) -> Option<(u32, u32)> {
    let (port, index) = name.strip_prefix("decoder")?.split_once('.')?;
    let numbers: (u32, u32) = (port.parse().ok()?, index.parse().ok()?);
    (format!("decoder{}.{}", numbers.0, numbers.1) == name).then_some(numbers)
}

impl Decoder {
    /// The decoder of that name (`decoder0.0`); nothing if it is no decoder's name, or (with a
    /// note) its `devtype` is no decoder's.
    #[must_use]
    pub fn read(root: &Root, name: &str, notes: &mut Notes) -> Option<Self> {
        let (port, index) = port_number(name)?;
        let mut folder = Folder::new(root, format!("{DEVICES}/{name}"), notes);
        let devtype = folder.word("devtype").unwrap_or_default();
        let kind = match devtype.as_str() {
            "cxl_decoder_root" => Some(window(&mut folder)),
            "cxl_decoder_switch" => Some(switch(&mut folder)),
            "cxl_decoder_endpoint" => Some(endpoint(&mut folder)),
            _ => None,
        };
        let kind = folder.checked("devtype", &devtype, kind, "a kind of CXL decoder")?;
        Some(Self {
            name: name.to_owned(),
            port,
            index,
            kind,
            start: folder.address("start"),
            size: folder.size("size"),
            interleave_ways: folder.small("interleave_ways"),
            interleave_granularity: folder.small("interleave_granularity"),
            locked: folder.flag("locked"),
        })
    }

    /// Whether it decodes nothing.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.size.is_none_or(|size| size.0 == 0)
    }

    /// The range that it decodes, if that may be known.
    #[must_use]
    pub fn range(&self) -> Option<PhysRange> {
        PhysRange::from_size(self.start?, self.size?.0)
    }

    /// The region that it serves. A window serves many, and says none.
    #[must_use]
    pub fn region(&self) -> Option<&str> {
        match &self.kind {
            DecoderKind::Root { .. } => None,
            DecoderKind::Switch { region, .. } | DecoderKind::Endpoint { region, .. } => {
                region.as_deref()
            }
        }
    }

    /// Whether it is a window.
    #[must_use]
    pub fn is_window(&self) -> bool {
        matches!(self.kind, DecoderKind::Root { .. })
    }
}

fn window(folder: &mut Folder<'_>) -> DecoderKind {
    let all = [
        ("cap_ram", Capability::Ram),
        ("cap_pmem", Capability::Pmem),
        ("cap_type2", Capability::Type2),
        ("cap_type3", Capability::Type3),
    ];
    let mut capabilities = Vec::new();
    for (name, capability) in all {
        if folder.flag(name) == Some(true) {
            capabilities.push(capability);
        }
    }
    let next = folder.word("create_ram_region");
    DecoderKind::Root {
        capabilities,
        qos_class: folder.unless_negative("qos_class"),
        targets: targets(folder),
        next_region: next.or_else(|| folder.word("create_pmem_region")),
    }
}

fn switch(folder: &mut Folder<'_>) -> DecoderKind {
    DecoderKind::Switch {
        target_type: folder.word("target_type"),
        targets: targets(folder),
        region: folder.word("region"),
    }
}

fn endpoint(folder: &mut Folder<'_>) -> DecoderKind {
    let size = folder.size("dpa_size");
    let start = folder.address("dpa_resource").filter(|_| size.is_some_and(|size| size.0 > 0));
    DecoderKind::Endpoint {
        target_type: folder.word("target_type"),
        mode: folder.word("mode"),
        dpa_start: start.map(|address| address.0),
        dpa_size: size,
        region: folder.word("region"),
    }
}

/// `12,222`: in the order of the interleave, which is not that of the numbers.
fn targets(folder: &mut Folder<'_>) -> Vec<u32> {
    let Some(text) = folder.word("target_list") else { return Vec::new() };
    let targets: Option<Vec<u32>> = text.split(',').map(|id| id.parse().ok()).collect();
    folder.checked("target_list", &text, targets, "numbers of dports").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_form() {
        assert_eq!(port_number("decoder12.3"), Some((12, 3)));
        for name in ["decoder1", "decoder1.", "decoder01.0", "decoder1.0.0", "decoder+1.0"] {
            assert_eq!(port_number(name), None, "{name}");
        }
    }
}
