//! What is answered: the same as a pool answers, and the blocks that stay.

use memtide_units::{ByteSize, HoldReason};
use serde::{Serialize, Serializer};

use super::rank::Contents;
use crate::{BlockId, Zone, online::BlockRefusal};

/// The answer to a give-back on a node of the kernel. In JSON it has all that a pool's answer has,
/// and `blocks` besides.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Answer {
    /// Asked for, rounded up to whole blocks.
    pub requested: ByteSize,
    /// Went offline.
    pub returned: ByteSize,
    /// Did not.
    pub remaining: ByteSize,
    /// Who holds the rest, as far as that is known.
    pub holders: Vec<Holder>,
    /// Whether asking again may bring more.
    pub ask_again: bool,
    /// Blocks that were to leave and stay, with the reason.
    pub blocks: Vec<Stayed>,
}

/// Who keeps memory from leaving.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Holder {
    /// The control group that is charged for it; `kernel` for the kernel itself.
    pub tenant: String,
    /// Always 0: the kernel has no images.
    pub image: u64,
    /// Which process; 0 for the kernel itself.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// How much.
    pub bytes: ByteSize,
    /// Why.
    pub reason: Reason,
}

/// Why memory stays.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Reason {
    /// A program's doing.
    Hold(HoldReason),
    /// The kernel's own data.
    KernelMemory,
    /// Huge pages of the pool, of which no others are free.
    HugePages,
    /// Somebody holds pages, and the kernel does not say who.
    Pinned,
    /// There was not enough time to find out.
    NotInTime,
    /// A program's policy is to have memory of this node alone: without any there, the kernel would
    /// kill it.
    BoundToNode,
    /// Nothing in the block: the kernel does not take it offline at all, or it left meanwhile.
    Refused,
}

impl Reason {
    /// The stable name, as it stands in JSON.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Hold(reason) => reason.code(),
            Self::KernelMemory => "kernel-memory",
            Self::HugePages => "huge-pages",
            Self::Pinned => "pinned",
            Self::NotInTime => "not-in-time",
            Self::BoundToNode => "bound-to-node",
            Self::Refused => "refused",
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Hold(reason) => reason.fmt(f),
            Self::KernelMemory => f.write_str("the kernel's own data, which cannot be moved"),
            Self::HugePages => f.write_str("huge pages, of which no others are free elsewhere"),
            Self::Pinned => f.write_str("pages that somebody holds; the kernel does not say who"),
            Self::NotInTime => f.write_str(
                "pages that did not move in time: somebody holds them, or they are many",
            ),
            Self::BoundToNode => f.write_str(
                "its policy binds memory to this node alone: without any there, the kernel would \
                 kill it; the last block stays",
            ),
            Self::Refused => f.write_str("nothing in it is in the way, but the kernel refuses it"),
        }
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

/// A block that was to leave, and stays.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Stayed {
    /// Which.
    #[serde(serialize_with = "number")]
    pub block: BlockId,
    /// Where it is.
    #[serde(serialize_with = "zone_name")]
    pub zone: Option<Zone>,
    /// Why.
    pub reason: Reason,
    /// What is in it, if that may be seen.
    pub contents: Option<Contents>,
    /// What the kernel's answer means; `null` where it was not even tried.
    #[serde(serialize_with = "text")]
    pub kernel_says: Option<BlockRefusal>,
}

fn number<S: Serializer>(block: &BlockId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(block.0)
}

fn zone_name<S: Serializer>(zone: &Option<Zone>, serializer: S) -> Result<S::Ok, S::Error> {
    zone.map(Zone::name).serialize(serializer)
}

fn text<S: Serializer>(says: &Option<BlockRefusal>, serializer: S) -> Result<S::Ok, S::Error> {
    says.map(|says| says.to_string()).serialize(serializer)
}
