//! What is worth an operator's attention.

use std::{fmt, io};

use memtide_engine::dynamic_capacity;
use memtide_units::{ByteSize, Extent, ImageId};

use crate::state::{Forgotten, Why};

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
    /// What was to come into the pool could not be emptied; it is tried again.
    NotReady {
        /// Which.
        extent: Extent,
        /// Why.
        error: io::Error,
    },
    /// A device's memory could not be emptied after a restart; none of it is used.
    NotEmptied {
        /// Which node.
        node: String,
        /// Why.
        error: io::Error,
    },
    /// An image could not be given a device's memory.
    NotShared {
        /// Which node.
        node: String,
        /// Why.
        error: io::Error,
    },
    /// A process has lost memory: its device is gone, or it is bad.
    ProcessLost {
        /// Who.
        pid: u32,
        /// Its name.
        name: String,
        /// How much.
        bytes: ByteSize,
    },
    /// Capacity was taken by force.
    CapacityLost {
        /// Of which node.
        node: String,
        /// How much.
        bytes: ByteSize,
    },
    /// A fabric is there.
    FabricHere {
        /// For which node.
        node: String,
    },
    /// A fabric is not there. What it gave stays in use.
    FabricAway {
        /// For which node.
        node: String,
        /// Why.
        why: String,
    },
    /// A device that cannot be used.
    DeviceUnusable {
        /// For which node.
        node: String,
        /// Why.
        why: String,
    },
    /// A device does not do what it was told.
    DeviceSaysNo {
        /// Of which node.
        node: String,
        /// What it says.
        why: String,
    },
    /// The rules have something to say of what a device said.
    Device {
        /// Of which node.
        node: String,
        /// What.
        notice: dynamic_capacity::Notice,
    },
    /// Capacity was offered that the operator does not want.
    Declined {
        /// For which node.
        node: String,
        /// How much.
        bytes: ByteSize,
    },
    /// A device's log overflowed.
    RecordsLost {
        /// Of which node.
        node: String,
        /// How many records.
        lost: u16,
    },
    /// A region of a device was configured anew.
    RegionChanged {
        /// Of which node.
        node: String,
        /// Which region.
        region: u8,
    },
    /// An earlier pool had other nodes, and this was retired of one of them.
    Forgotten(Forgotten),
    /// A manager says that it has taken capacity.
    Taken {
        /// Of which node.
        node: String,
        /// How much.
        bytes: ByteSize,
    },
    /// A manager does not want to be told.
    ManagerRefuses {
        /// For which node.
        node: String,
        /// Why.
        why: String,
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
            Self::NotReady { extent, error } => {
                write!(f, "cannot empty {extent}, which is not used for now: {error}")
            }
            Self::NotEmptied { node, error } => {
                write!(f, "node {node}: cannot be emptied, none of it is used: {error}")
            }
            Self::NotShared { node, error } => {
                write!(f, "node {node}: cannot be given to a program: {error}")
            }
            Self::ProcessLost { pid, name, bytes } => {
                write!(
                    f,
                    "{name} (pid {pid}) has lost {bytes}: their device is gone, or they are bad"
                )
            }
            Self::CapacityLost { node, bytes } => {
                write!(f, "node {node}: {bytes} were taken by force")
            }
            Self::FabricHere { node } => write!(f, "node {node}: its fabric is there"),
            Self::FabricAway { node, why } => {
                write!(f, "node {node}: its fabric is away, what it gave stays in use: {why}")
            }
            Self::DeviceUnusable { node, why } => {
                write!(f, "node {node}: its device cannot be used: {why}")
            }
            Self::DeviceSaysNo { node, why } => write!(f, "node {node}: its device says: {why}"),
            Self::Device { node, notice } => device(f, node, notice),
            Self::Declined { node, bytes } => {
                write!(f, "node {node}: {bytes} were offered and declined, as \"accept\" has it")
            }
            Self::RecordsLost { node, lost } => {
                write!(f, "node {node}: its device lost {lost} records; its list is read instead")
            }
            Self::RegionChanged { node, region } => {
                write!(
                    f,
                    "node {node}: region {region} of its device was configured anew; restart the \
                     daemon to use what it has become"
                )
            }
            Self::Forgotten(Forgotten { node, bytes, why }) => {
                let why = match why {
                    Why::Gone => "the pool has no such node any more",
                    Why::Smaller => "it is smaller than it was",
                };
                write!(f, "node {node}: {bytes} that were retired are forgotten: {why}")
            }
            Self::Taken { node, bytes } => {
                write!(f, "node {node}: the fabric manager says that it took {bytes}")
            }
            Self::ManagerRefuses { node, why } => {
                write!(f, "node {node}: the fabric manager refuses to be told: {why}")
            }
        }
    }
}

fn device(
    f: &mut fmt::Formatter<'_>,
    node: &str,
    notice: &dynamic_capacity::Notice,
) -> fmt::Result {
    use dynamic_capacity::Notice as Of;
    write!(f, "node {node}: ")?;
    match notice {
        Of::Refused { extent, why } => write!(f, "{} is refused: {why}", extent.range),
        Of::Again { extent } => write!(f, "{} is offered again", extent.range),
        Of::NotReleased { range, why, .. } => {
            write!(f, "{range} cannot be released as asked for: {why}")
        }
        Of::AnswerRejected { .. } => write!(f, "an offer came to nothing"),
        Of::Deferred { bytes, .. } => {
            write!(f, "{} of what is asked back are in use", ByteSize(*bytes))
        }
        other => write!(f, "{other:?}"),
    }
}
