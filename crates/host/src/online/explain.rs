//! What it means when the kernel refuses to take a block on- or offline.
//!
//! The numbers are those of `memory_block_online`, `online_pages` and `offline_pages`
//! (drivers/base/memory.c, mm/memory_hotplug.c).

use std::{fmt, io};

use rustix::io::Errno;

use crate::{BlockId, Zone};

/// Why a block did not change its state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum BlockRefusal {
    /// Something in it cannot be moved away.
    Unmovable {
        /// Which.
        block: BlockId,
        /// Where it is.
        zone: Option<Zone>,
    },
    /// Its pages could be moved in principle, and were not in time.
    NotInTime {
        /// Which.
        block: BlockId,
    },
    /// No room for what lies in it, or for what describes it.
    NoMemory {
        /// Which.
        block: BlockId,
    },
    /// Somebody else was faster.
    Already {
        /// Which.
        block: BlockId,
    },
    /// Not allowed.
    NotPermitted {
        /// Which.
        block: BlockId,
    },
    /// Pages of it went bad: the kernel does not take it back (`memory_block_online`).
    BadPages {
        /// Which.
        block: BlockId,
    },
    /// Its device is gone.
    Gone {
        /// Which.
        block: BlockId,
    },
    /// None of the known.
    Other {
        /// Which.
        block: BlockId,
    },
}

impl BlockRefusal {
    /// What the answer to a write to the block's `state` means.
    #[must_use]
    pub fn of(block: BlockId, zone: Option<Zone>, error: &io::Error) -> Self {
        match (error.kind(), Errno::from_io_error(error)) {
            (io::ErrorKind::TimedOut, None) => Self::NotInTime { block },
            (_, Some(Errno::BUSY)) => Self::Unmovable { block, zone },
            (_, Some(Errno::NOMEM)) => Self::NoMemory { block },
            (_, Some(Errno::INVAL)) => Self::Already { block },
            (_, Some(Errno::PERM | Errno::ACCESS | Errno::ROFS)) => Self::NotPermitted { block },
            (_, Some(Errno::HWPOISON)) => Self::BadPages { block },
            (_, Some(Errno::NODEV)) => Self::Gone { block },
            (io::ErrorKind::NotFound, _) => Self::Gone { block },
            _ => Self::Other { block },
        }
    }
}

impl fmt::Display for BlockRefusal {
    /// What it means, and what to do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unmovable { block, zone: Some(Zone::Movable) } => write!(
                f,
                "{block} is in zone Movable, but something in it is held there at this moment \
                 (pinned by a device or by I/O): try again, or take others with memtide give-back"
            ),
            Self::Unmovable { block, .. } => write!(
                f,
                "the kernel's own data lies in {block}, and cannot be moved away: take others \
                 with memtide give-back; memory that is to leave again goes online with --zone \
                 movable"
            ),
            Self::NotInTime { block } => write!(
                f,
                "{block} still had pages that did not move (pinned, or written to all the time); \
                 it is in use again: give it a longer --deadline, or end the program that holds it"
            ),
            Self::NoMemory { block } => write!(
                f,
                "no room for the contents of {block} elsewhere, or for its page descriptors (1/64 \
                 of its size): free memory on another node, or allow swap"
            ),
            Self::Already { block } => write!(
                f,
                "{block} was in that state already, or cannot be taken to it because its range has \
                 holes: look at it with memtide topology, and ask again"
            ),
            Self::NotPermitted { block } => {
                write!(f, "changing {block} needs root and a writable /sys: run as root")
            }
            Self::BadPages { block } => write!(
                f,
                "{block} has bad pages (hardware errors), and the kernel does not take it back: name \
                 the other blocks, and have the device tested"
            ),
            Self::Gone { block } => {
                write!(f, "{block} is gone: its device left in between; ask again")
            }
            Self::Other { block } => {
                write!(f, "the kernel's log (dmesg) may say more about {block}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_with_bad_pages_is_told_apart() {
        let error = io::Error::from(Errno::HWPOISON);
        let refusal = BlockRefusal::of(BlockId(7), None, &error);
        assert_eq!(refusal, BlockRefusal::BadPages { block: BlockId(7) });
        assert!(refusal.to_string().starts_with("memory7 has bad pages"), "{refusal}");
    }

    #[test]
    fn ebusy_means_different_things_by_zone() {
        let error = io::Error::from(Errno::BUSY);
        let text = |zone| BlockRefusal::of(BlockId(7), zone, &error).to_string();
        assert!(text(Some(Zone::Movable)).contains("pinned by a device"));
        assert!(text(Some(Zone::Normal)).contains("the kernel's own data lies in memory7"));
        let late = io::Error::from(io::ErrorKind::TimedOut);
        let refusal = BlockRefusal::of(BlockId(7), None, &late);
        assert_eq!(refusal, BlockRefusal::NotInTime { block: BlockId(7) });
    }
}
