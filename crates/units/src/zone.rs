//! The zones that plugged memory goes to.

use core::fmt;

/// What may lie in a block. Linux has the first two zones (`ZONE_NORMAL` and its like,
/// `ZONE_MOVABLE`), and its policies never give another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum OnlineZone {
    /// A kernel zone: everything may lie here.
    #[default]
    Kernel,
    /// ZONE_MOVABLE: only what can move.
    Movable,
    /// ZONE_PREFER_MOVABLE, proposed in 2021: what can move, and as little else as possible.
    PreferMovable,
    /// ZONE_EXMEM, of SMDK: extended memory, for what can move.
    Exmem,
}

impl OnlineZone {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Kernel, Self::Movable, Self::PreferMovable, Self::Exmem];

    /// Its name for people, and in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Movable => "movable",
            Self::PreferMovable => "prefer-movable",
            Self::Exmem => "exmem",
        }
    }

    /// Whether only what can move may lie here.
    #[must_use]
    pub const fn is_movable_only(self) -> bool {
        matches!(self, Self::Movable | Self::Exmem)
    }
}

impl fmt::Display for OnlineZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
