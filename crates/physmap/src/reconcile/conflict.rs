//! Where two sources disagree about the same addresses: who says what, and what comes of it.

use alloc::{string::String, vec::Vec};
use core::fmt;

use memtide_units::{ByteSize, PhysRange};

use crate::{
    resource::{InsertError, Kind},
    window::WindowError,
};

/// Who says something about addresses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Source {
    /// Firmware's map of memory (e820, the EFI memory map).
    MemoryMap,
    /// The CXL early discovery table.
    Cedt,
    /// The system resource affinity table.
    Srat,
    /// What firmware programmed into decoders.
    Decoders,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::MemoryMap => "the memory map",
            Self::Cedt => "the CEDT",
            Self::Srat => "the SRAT",
            Self::Decoders => "a decoder",
        })
    }
}

/// What one source says of a range.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Party {
    /// The source.
    pub source: Source,
    /// What it calls the range.
    pub name: String,
    /// The range.
    pub range: PhysRange,
}

impl Party {
    pub(super) fn new(source: Source, name: impl Into<String>, range: PhysRange) -> Self {
        Self { source, name: name.into(), range }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.source {
            Source::Decoders => write!(f, "{} as firmware programmed it", self.name)?,
            source => write!(f, "{} of {source}", self.name)?,
        }
        write!(f, " ({})", self.range)
    }
}

/// How much of a window firmware handed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extent {
    /// All that its decoder decodes.
    All,
    /// A part.
    Some,
}

/// A disagreement, and what the map makes of it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Conflict {
    /// A window that cannot be.
    BadWindow {
        /// Its place in the table.
        window: usize,
        /// Its base and size, as the table has them.
        base: u64,
        /// Bytes.
        size: u64,
        /// What is wrong with it.
        error: WindowError,
    },
    /// A window beyond all addresses.
    WindowOutside {
        /// The window.
        window: Party,
        /// Why it does not go into the map.
        error: InsertError,
    },
    /// Two windows that overlap in part: the later one is left out.
    WindowsOverlap {
        /// The one that is left out.
        window: Party,
        /// The other one.
        other: Party,
    },
    /// A window inside another: accesses go where the hardware says, which is not known.
    WindowInWindow {
        /// The inner one.
        window: Party,
        /// The outer one.
        within: Party,
    },
    /// Firmware handed over memory in a window.
    HandedOver {
        /// The window.
        window: Party,
        /// The memory, all of it.
        memory: Party,
        /// What kind of memory.
        kind: Kind,
        /// How much of the window.
        extent: Extent,
    },
    /// One range of memory in several windows.
    Merged {
        /// The memory.
        memory: Party,
        /// The first of the windows, [`MAX_NAMED`] at most.
        windows: Vec<Party>,
        /// How many there are.
        count: usize,
    },
    /// A window that grew, so that what is half inside is inside.
    Widened {
        /// The window.
        window: Party,
        /// What its resource is now.
        resource: PhysRange,
        /// The first that it grew for.
        by: Party,
    },
    /// A window that begins later, as the one below grew into it.
    Trimmed {
        /// The window.
        window: Party,
        /// What is left of its resource.
        left: PhysRange,
        /// The one that grew.
        by: Party,
    },
    /// A window without a resource of its own, as the one below grew over all of it.
    Swallowed {
        /// The window.
        window: Party,
        /// The one that grew.
        by: Party,
    },
    /// A window that lies wholly in a larger range of firmware's.
    InsideMemory {
        /// The window.
        window: Party,
        /// What it lies in.
        memory: Party,
        /// What that is.
        kind: Kind,
    },
    /// A window above 0 that is no multiple of 256 MiB for each way.
    OddSize {
        /// The window.
        window: Party,
        /// Of what it should be a multiple.
        unit: u64,
    },
    /// A window at 0 that ends at a hole for devices, with decoders that go on: as it is meant.
    LowMemoryHole {
        /// The window.
        window: Party,
        /// The decoder.
        decoder: Party,
    },
    /// A decoder that goes beyond its window, without such a hole.
    DecoderBeyond {
        /// The decoder.
        decoder: Party,
        /// The window.
        window: Party,
    },
    /// A decoder in no window.
    DecoderOutside {
        /// The decoder.
        decoder: Party,
    },
    /// Two ranges of firmware's own map that overlap: the first one named wins, as in Linux.
    MemoryOverlap {
        /// Who wins.
        winner: Party,
        /// Who loses what they share.
        loser: Party,
    },
    /// A window of which the SRAT does not say all.
    NoAffinity {
        /// The window.
        window: Party,
        /// What it does not say.
        missing: Vec<PhysRange>,
        /// The domain of the part that it does say, which Linux extends; none if it says nothing,
        /// and Linux makes up a new domain.
        extends: Option<u32>,
    },
    /// Memory of which the SRAT does not say all.
    MemoryWithoutAffinity {
        /// The memory.
        memory: Party,
        /// What it does not say.
        missing: Vec<PhysRange>,
    },
    /// Addresses that the SRAT puts into two domains.
    TwoDomains {
        /// The one.
        one: Party,
        /// The other.
        other: Party,
    },
    /// A Soft Reserved range that regions have a part of.
    SoftReservedSplit {
        /// The range.
        memory: Party,
        /// What regions have of it.
        regions: Vec<PhysRange>,
        /// What is left to the hmem driver.
        rest: Vec<PhysRange>,
    },
}

/// How many windows a conflict names.
pub const MAX_NAMED: usize = 16;

/// How many conflicts are kept; tables that contradict themselves more often are not worth more.
pub const MAX_CONFLICTS: usize = 4096;

/// Disagreements as they are found.
#[derive(Default)]
pub(super) struct Conflicts {
    pub list: Vec<Conflict>,
    /// How many there were besides those in the list.
    pub more: usize,
}

impl Conflicts {
    pub fn push(&mut self, conflict: Conflict) {
        match self.list.len() < MAX_CONFLICTS {
            true => self.list.push(conflict),
            false => self.more += 1,
        }
    }
}

/// Ranges, with commas.
struct List<'a>(&'a [PhysRange]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MAX: usize = 4;
        for (at, range) in self.0.iter().take(MAX).enumerate() {
            write!(f, "{}{range}", if at == 0 { "" } else { ", " })?;
        }
        match self.0.len().saturating_sub(MAX) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadWindow { window, base, size, error } => write!(
                f,
                "window {window} of the CEDT (base {base:#x}, size {size:#x}) is left out: {error}"
            ),
            Self::WindowOutside { window, error } => write!(f, "{window} is left out: {error}"),
            Self::WindowsOverlap { window, other } => {
                write!(f, "{window} is left out: it overlaps {other} in part")
            }
            Self::WindowInWindow { window, within } => {
                write!(f, "{window} lies inside {within}: one address, two decoders")
            }
            Self::HandedOver { window, memory, extent: Extent::All, .. } => {
                write!(f, "{memory} takes up all of {window}")
            }
            Self::HandedOver { window, memory, extent: Extent::Some, .. } => {
                write!(f, "{memory} takes up a part of {window}; the rest is free")
            }
            Self::Merged { memory, windows, count } => {
                write!(f, "{memory} lies across {count} windows:")?;
                windows.iter().enumerate().try_for_each(|(at, window)| {
                    write!(f, "{} {}", if at == 0 { "" } else { "," }, window.name)
                })?;
                f.write_str(if *count > windows.len() { " and more" } else { "" })
            }
            Self::Widened { window, resource, by } => write!(
                f,
                "the resource of {window} grows to {resource} to cover {by}; only what the \
                 decoder decodes is used"
            ),
            Self::Trimmed { window, left, by } => write!(
                f,
                "the resource of {window} is cut to {left}, as that of {by} grows into it; Linux \
                 gives its decoder nothing, here it has all that it decodes"
            ),
            Self::Swallowed { window, by } => write!(
                f,
                "{window} has no resource of its own, as that of {by} grows over it; what firmware \
                 frees there is its decoder's all the same"
            ),
            Self::InsideMemory { window, memory, kind } => {
                write!(f, "{window} lies inside {memory}; ")?;
                f.write_str(match kind {
                    Kind::Reserved => "Linux places regions there, and so do we",
                    _ => "Linux places regions there, we do not",
                })
            }
            Self::OddSize { window, unit } => write!(
                f,
                "{window} is not a multiple of {}, its unit, and does not begin at 0: its end \
                 cannot be used by a region of all ways",
                ByteSize(*unit)
            ),
            Self::LowMemoryHole { window, decoder } => write!(
                f,
                "{window} ends at the low memory hole, {decoder} goes on behind: as it is meant"
            ),
            Self::DecoderBeyond { decoder, window } => {
                write!(f, "{decoder} goes beyond {window}")
            }
            Self::DecoderOutside { decoder } => {
                write!(f, "{decoder} lies in no window of the CEDT")
            }
            Self::MemoryOverlap { winner, loser } => {
                write!(f, "{loser} overlaps {winner}, which wins")
            }
            Self::NoAffinity { window, missing, extends } => {
                write!(
                    f,
                    "the SRAT does not say to which node {} of {window} belongs; ",
                    List(missing)
                )?;
                match extends {
                    Some(domain) => write!(f, "Linux extends domain {domain}"),
                    None => f.write_str("Linux makes up a new domain"),
                }
            }
            Self::MemoryWithoutAffinity { memory, missing } => {
                write!(
                    f,
                    "the SRAT does not say to which node {} of {memory} belongs",
                    List(missing)
                )
            }
            Self::TwoDomains { one, other } => write!(f, "{one} overlaps {other}"),
            Self::SoftReservedSplit { memory, regions, rest } => write!(
                f,
                "regions have {} of {memory}; the rest, {}, is for the hmem driver",
                List(regions),
                List(rest)
            ),
        }
    }
}
