//! What the command line and the daemon say to each other.
//!
//! One request a connection. The daemon answers with any number of [`ControlReply::Progress`]
//! and exactly one other reply. Closing the connection withdraws interest, not the request.
//! The types here serialize to JSON as `--json` prints them.

mod devices;
mod tenants;
mod zone;

pub use self::devices::{DcdAnswer, DcdExtent, DcdStatus, EXTENTS_MAX, HOLDERS_MAX};
pub use self::tenants::{
    Asked, Decision, KindStatus, OnDepletion, Outcome, Reason, TenantStatus, Waiting, Whom,
};
pub use self::zone::ZoneBytes;

use memtide_units::{ByteSize, HoldReason, ImageId, NodeId, NodeKind, OnlineZone};
use serde::{Deserialize, Serialize};

use crate::{
    Refused,
    program::{Backing, Counters, OnFull},
};

/// What an operator wants.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ControlRequest {
    /// Who has what.
    Status,
    /// Take capacity out of the pool.
    GiveBack {
        /// How much.
        bytes: ByteSize,
        /// From which node, by name.
        from: Option<String>,
        /// How long to try; as the daemon is configured, when absent.
        deadline_ms: Option<u64>,
    },
    /// Put capacity back.
    Add {
        /// How much.
        bytes: ByteSize,
        /// To which node, by name.
        to: String,
        /// Into which zone; as the node is configured, when absent.
        zone: Option<OnlineZone>,
    },
    /// Move a program's memory.
    Move {
        /// Whose.
        pid: u32,
        /// To which node, by name.
        to: String,
        /// How much; all when absent.
        bytes: Option<ByteSize>,
        /// How long to try; as the daemon is configured, when absent.
        deadline_ms: Option<u64>,
    },
    /// Who may have how much, and has how much.
    Tenants,
    /// What was decided lately, and why.
    Explain {
        /// For whom.
        whom: Whom,
    },
    /// The nodes of devices' dynamic capacity.
    Devices,
    /// How much of what a device offers is accepted from now on.
    Accept {
        /// For which node, by name.
        node: String,
        /// `all`, `none`, or a size: the most that is held.
        what: String,
    },
    /// Finish: the daemon answers, then ends. Programs run on with what they have.
    Shutdown,
    /// Memory of a node is bad: it is not to be used again.
    Retire {
        /// Which node, by name.
        node: String,
        /// Where in it, in bytes from its start; the whole pageblock goes.
        offset: ByteSize,
    },
}

/// From the daemon to the command line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ControlReply {
    /// How far it has come.
    Progress {
        /// Bytes done.
        done: ByteSize,
        /// Bytes asked for.
        of: ByteSize,
    },
    /// The answer to [`ControlRequest::Status`]. A long list of programs comes in several
    /// replies; the last has `more` false.
    Status {
        /// This part.
        status: Status,
        /// More of `programs` follows.
        more: bool,
    },
    /// The answer to [`ControlRequest::Tenants`]. A long list comes in several replies; the last
    /// has `more` false.
    Tenants {
        /// This part, in the order of the configuration.
        tenants: Vec<TenantStatus>,
        /// More follow.
        more: bool,
    },
    /// The answer to [`ControlRequest::Explain`]. A long list comes in several replies; the last
    /// has `more` false.
    Decisions {
        /// This part, the oldest first.
        decisions: Vec<Decision>,
        /// More follow.
        more: bool,
    },
    /// The answer to [`ControlRequest::Devices`]. Of a device with many extents the rest follows in
    /// further replies that say everything else again; the last has `more` false.
    Devices {
        /// One device, or none when there is none.
        device: Option<DcdStatus>,
        /// More follow.
        more: bool,
    },
    /// The answer to a give-back or a move. A long list of holders comes in several replies; the
    /// last has `more` false.
    Report {
        /// This part.
        report: Report,
        /// More of `holders` follows.
        more: bool,
    },
    /// The answer to [`ControlRequest::Add`], [`ControlRequest::Retire`],
    /// [`ControlRequest::Accept`] and [`ControlRequest::Shutdown`].
    Done {
        /// Bytes that came online.
        bytes: ByteSize,
    },
    /// The request makes no sense; nothing changed.
    Refused(Refused),
}

/// Who has what.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The daemon's process.
    pub pid: u32,
    /// What programs do when the pool is full, where their tenant does not say.
    pub on_full: OnFull,
    /// Bytes moved since the daemon started.
    pub moved_bytes: ByteSize,
    /// Whether the daemon hands programs an open userfaultfd device, so that they need no right
    /// of their own.
    pub grants_userfaultfd: bool,
    /// Processes of an earlier daemon that have not come back yet; nothing is leased from their
    /// memory meanwhile.
    pub awaited: u32,
    /// The nodes, near first.
    pub nodes: Vec<NodeStatus>,
    /// The programs.
    pub programs: Vec<ProgramStatus>,
}

/// One node: `free + leased + isolated + offline + retired = size`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// Near, far, or of a device.
    pub kind: NodeKind,
    /// What it is made of.
    pub backing: Backing,
    /// The NUMA node of the kernel's that its memory is of, if it is bound to one.
    pub numa: Option<NodeId>,
    /// All it ever had.
    pub size: ByteSize,
    /// Can be leased.
    pub free: ByteSize,
    /// Leased.
    pub leased: ByteSize,
    /// Being emptied.
    pub isolated: ByteSize,
    /// Has left.
    pub offline: ByteSize,
    /// Out of service for good: its memory is bad.
    pub retired: ByteSize,
    /// How much is in which zone, of all that have any: together `size - offline`.
    pub zones: Vec<ZoneBytes>,
}

/// One process.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProgramStatus {
    /// Its process number.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// The name of its tenant.
    pub tenant: String,
    /// Its image.
    pub image: ImageId,
    /// Whether it is connected to the daemon.
    pub connected: bool,
    /// Bytes leased, by node.
    pub nodes: Vec<NodeBytes>,
    /// What of that cannot move, and why.
    pub pinned: Vec<PinnedBytes>,
    /// Bytes promised to it.
    pub committed: ByteSize,
    /// What it counts.
    pub counters: Counters,
}

/// Bytes on a node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeBytes {
    /// The node's name.
    pub node: String,
    /// Bytes.
    pub bytes: ByteSize,
}

/// Bytes that cannot move.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PinnedBytes {
    /// Why.
    pub reason: HoldReason,
    /// Bytes.
    pub bytes: ByteSize,
}

/// The answer to a give-back or a move.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Asked for, rounded up to whole blocks.
    pub requested: ByteSize,
    /// Came back.
    pub returned: ByteSize,
    /// Did not.
    pub remaining: ByteSize,
    /// Who holds the rest.
    pub holders: Vec<Holder>,
    /// Whether asking again may bring more.
    pub ask_again: bool,
}

/// Who keeps memory from leaving.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Holder {
    /// The name of the tenant that is charged for it.
    pub tenant: String,
    /// Whose.
    pub image: ImageId,
    /// Which process.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// How much.
    pub bytes: ByteSize,
    /// Why.
    pub reason: HoldReason,
}
