//! What is worth an operator's attention.

use std::{fmt, io};

use memtide_units::{Extent, ImageId};

/// Something that a daemon says besides its answers.
#[derive(Debug)]
#[non_exhaustive]
pub enum Notice {
    /// Connections cannot be accepted for the moment.
    CannotAccept(io::Error),
    /// A connection sent what makes no sense, and is closed.
    Garbage {
        /// Whose.
        pid: u32,
        /// What it was.
        what: String,
    },
    /// Memory could not be zeroed; it is not used again.
    NotZeroed {
        /// Whose it was.
        image: ImageId,
        /// Which.
        extent: Extent,
        /// Why.
        error: io::Error,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CannotAccept(error) => write!(f, "cannot accept connections: {error}"),
            Self::Garbage { pid, what } => {
                write!(f, "closed a connection of pid {pid}: {what}")
            }
            Self::NotZeroed { image, extent, error } => {
                write!(f, "cannot zero {extent} of {image}, which stays unused: {error}")
            }
        }
    }
}
