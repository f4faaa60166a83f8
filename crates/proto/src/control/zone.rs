//! The zones of a node, as files and the command line name them.

use std::fmt;

use memtide_units::ByteSize;
use serde::{Deserialize, Serialize};

/// What may lie in a block.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Zone {
    /// Anything.
    #[default]
    Kernel,
    /// Only what can move.
    Movable,
    /// What can move, and as little else as possible.
    PreferMovable,
    /// Extended memory, for what can move.
    Exmem,
}

impl Zone {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Kernel, Self::Movable, Self::PreferMovable, Self::Exmem];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Movable => "movable",
            Self::PreferMovable => "prefer-movable",
            Self::Exmem => "exmem",
        }
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a node has in one zone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ZoneBytes {
    /// Which.
    pub zone: Zone,
    /// In the pool, in use or not.
    pub online: ByteSize,
    /// Can be leased.
    pub free: ByteSize,
}
