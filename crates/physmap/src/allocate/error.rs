//! Why there is no range: which decoder, window, alignment or neighbour was in the way.

use alloc::{string::String, vec::Vec};
use core::fmt;

use memtide_units::{ByteSize, PhysAddr, PhysRange};

use super::LinuxChoice;
use crate::resource::{InsertError, Resource};

/// The number with which Linux refuses the same request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Errno {
    /// Something is in use.
    Ebusy,
    /// Something is missing.
    Enxio,
    /// Something is wrong with the request.
    Einval,
    /// There is no room.
    Erange,
    /// There is nothing of that name.
    Enoent,
    /// The map is full.
    Enomem,
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ebusy => "EBUSY",
            Self::Enxio => "ENXIO",
            Self::Einval => "EINVAL",
            Self::Erange => "ERANGE",
            Self::Enoent => "ENOENT",
            Self::Enomem => "ENOMEM",
        })
    }
}

/// What a region lacks before it can have a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Missing {
    /// The number of ways.
    Ways,
    /// The granularity.
    Granularity,
    /// The UUID that persistent memory is found by.
    Uuid,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ways => "number of interleave ways",
            Self::Granularity => "interleave granularity",
            Self::Uuid => "UUID",
        })
    }
}

/// How many of those in the way an error names.
pub const MAX_NAMED: usize = 4;

/// What was in the way of a range.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Obstacle {
    /// All that the decoder decodes is not enough.
    Decoder {
        /// How many bytes it decodes.
        bytes: u128,
    },
    /// A gap is large enough, but not from an aligned address on.
    Alignment {
        /// The gap.
        gap: PhysRange,
        /// The alignment in bytes.
        align: u64,
    },
    /// Others have too much of it.
    Neighbours {
        /// The largest gap that they leave.
        gap: Option<PhysRange>,
        /// The lowest of them, [`MAX_NAMED`] at most.
        by: Vec<Resource>,
        /// How many more there are.
        more: usize,
    },
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decoder { bytes } => {
                write!(f, "the decoder decodes only {}", Bytes(*bytes))
            }
            Self::Alignment { gap, align } => {
                let align = ByteSize(*align);
                write!(f, "{gap} is free, but too small from a multiple of {align} on")
            }
            Self::Neighbours { gap, by, more } => {
                match gap {
                    Some(gap) => write!(f, "the largest gap is {gap}")?,
                    None => f.write_str("nothing is free")?,
                }
                for (at, resource) in by.iter().enumerate() {
                    write!(f, "{}{resource}", if at == 0 { " beside " } else { ", " })?;
                }
                if *more > 0 { write!(f, " and {more} more") } else { Ok(()) }
            }
        }
    }
}

/// A number of bytes that may need more than 64 bits.
struct Bytes(u128);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match u64::try_from(self.0) {
            Ok(bytes) => ByteSize(bytes).fmt(f),
            Err(_) => write!(f, "{:#x} bytes", self.0),
        }
    }
}

/// Why a region, or a program's decoder, gets no range.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegionError {
    /// No such window.
    #[error("there is no window {window}; the CEDT has {windows}")]
    NoSuchWindow {
        /// What was asked for.
        window: usize,
        /// How many there are.
        windows: usize,
    },
    /// The window was left out of the map, and so decodes nothing for us.
    #[error("{window} is not usable: {why}")]
    Unusable {
        /// Its name.
        window: String,
        /// What became of it.
        why: String,
    },
    /// The name is that of something else.
    #[error("{name} is not a region of window {window}: it has {range} already")]
    Name {
        /// The name.
        name: String,
        /// The window that was asked for.
        window: usize,
        /// What has that name.
        range: PhysRange,
    },
    /// It has a range of another size, which has to be given up first.
    #[error("{name} has {range} ({}), {} were asked for; free its range first",
        ByteSize(*has), ByteSize(*asked))]
    OtherSize {
        /// The region.
        name: String,
        /// Its range.
        range: PhysRange,
        /// Its size.
        has: u64,
        /// The size that was asked for.
        asked: u64,
    },
    /// Its decoders are at work already, with a range that is not from here.
    #[error("{name} is active: its decoders are programmed already")]
    Active {
        /// The region.
        name: String,
    },
    /// Something has to be set first.
    #[error("{name} has no {what} yet; set it before the size")]
    Missing {
        /// The region.
        name: String,
        /// What is missing.
        what: Missing,
    },
    /// No legal number of ways.
    #[error("{name} has {ways} interleave ways; expected one of 1, 2, 3, 4, 6, 8, 12 and 16")]
    Ways {
        /// The region.
        name: String,
        /// Its ways.
        ways: u32,
    },
    /// The window is not for this kind of memory.
    #[error("{window} does not allow {media} memory")]
    Media {
        /// The window.
        window: String,
        /// The kind of memory.
        media: &'static str,
    },
    /// A size of nothing, or not of a whole number of units.
    #[error("size {size:#x} ({}) is not a multiple of {} (256MiB for each of {ways} ways){}",
        ByteSize(*size), ByteSize(*unit), Nearest { size: *size, unit: *unit })]
    Size {
        /// The size that was asked for.
        size: u64,
        /// Of what it has to be a multiple.
        unit: u64,
        /// The ways of the region.
        ways: u32,
    },
    /// No free range is large enough.
    #[error("no {} free in {window}, whose decoder decodes {decoder}: {obstacle}; {}",
        ByteSize(*size), Fits(*largest))]
    NoRoom {
        /// The window.
        window: String,
        /// What its decoder decodes.
        decoder: PhysRange,
        /// The size that was asked for.
        size: u64,
        /// What was in the way.
        obstacle: Obstacle,
        /// The largest size that would fit now; 0 if none would.
        largest: u64,
    },
    /// There is a range, but the kernel, which chooses itself, would not choose it.
    #[error("{range} is free in {window}, but {linux}; only a program can have it")]
    LinuxElsewhere {
        /// The window.
        window: String,
        /// The range.
        range: PhysRange,
        /// What Linux would do.
        linux: LinuxChoice,
    },
    /// The map does not take the range.
    #[error(transparent)]
    Insert(#[from] InsertError),
}

impl RegionError {
    /// How Linux would refuse (`size_store`, `alloc_hpa`), or should.
    #[must_use]
    pub const fn errno(&self) -> Errno {
        match self {
            Self::NoSuchWindow { .. } => Errno::Enoent,
            Self::Name { .. } | Self::OtherSize { .. } | Self::Active { .. } => Errno::Ebusy,
            Self::Missing { .. } | Self::Unusable { .. } | Self::LinuxElsewhere { .. } => {
                Errno::Enxio
            }
            Self::Ways { .. } | Self::Media { .. } | Self::Size { .. } => Errno::Einval,
            Self::NoRoom { .. } => Errno::Erange,
            Self::Insert(InsertError::Full { .. }) => Errno::Enomem,
            Self::Insert(_) => Errno::Erange,
        }
    }
}

struct Nearest {
    size: u64,
    unit: u64,
}

impl fmt::Display for Nearest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let below = self.size - self.size % self.unit;
        let above = below.checked_add(self.unit);
        match (below, above) {
            (0, Some(above)) => write!(f, "; the smallest is {}", ByteSize(above)),
            (below, Some(above)) => {
                write!(f, "; next to it are {} and {}", ByteSize(below), ByteSize(above))
            }
            (below, None) => write!(f, "; the next one below is {}", ByteSize(below)),
        }
    }
}

struct Fits(u64);

impl fmt::Display for Fits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("no size would fit"),
            largest => write!(f, "at most {} would fit", ByteSize(largest)),
        }
    }
}

/// Why a device-private user gets no range.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrivateError {
    /// Nothing was asked for.
    #[error("{name} asks for 0 bytes; expected at least one")]
    NoBytes {
        /// Who asks.
        name: String,
    },
    /// The name is taken.
    #[error("{name} has {range} already")]
    Name {
        /// Who asks.
        name: String,
        /// What has that name.
        range: PhysRange,
    },
    /// No free range is large enough.
    #[error("no {} free below {top} for {name}: {obstacle}; {}", ByteSize(*size), Fits(*largest))]
    NoRoom {
        /// Who asks.
        name: String,
        /// The size that was asked for.
        size: u64,
        /// The last usable address.
        top: PhysAddr,
        /// What was in the way.
        obstacle: Obstacle,
        /// The largest size that would fit now; 0 if none would.
        largest: u64,
    },
    /// The map does not take the range.
    #[error(transparent)]
    Insert(#[from] InsertError),
}

/// Why a fact does not go into the map.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LearnError {
    /// It was given to somebody.
    #[error("{range} was given to {owner}, who has {owned}")]
    Given {
        /// The range in question.
        range: PhysRange,
        /// Who has it.
        owner: String,
        /// The range that he has.
        owned: PhysRange,
    },
    /// It is in use for something that does not go away by itself.
    #[error("{range} is in use: {by} is in it")]
    InUse {
        /// The range in question.
        range: PhysRange,
        /// What is in it.
        by: Resource,
    },
    /// It is a part of something that is not in it as a whole.
    #[error("{range} covers only a part of {of}")]
    Part {
        /// The range in question.
        range: PhysRange,
        /// What it covers in part.
        of: Resource,
    },
    /// The map does not take it.
    #[error(transparent)]
    Insert(#[from] InsertError),
}

/// Why a range stays with its owner.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReleaseError {
    /// Nobody of that name has one.
    #[error("{name} has no range")]
    NoSuchOwner {
        /// The name.
        name: String,
    },
    /// Its decoders are at work (`free_hpa`).
    #[error("{name} is active; reset its decoders first")]
    Active {
        /// The name.
        name: String,
    },
    /// Something is in it.
    #[error("{name} is in use: {by} is in it")]
    InUse {
        /// The name.
        name: String,
        /// What is in it.
        by: Resource,
    },
}
