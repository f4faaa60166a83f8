//! What comes out of the engine.

use alloc::{string::String, vec::Vec};

use crate::onlining::OnlineZone;
use memtide_units::{
    ByteSize, Extent, HoldReason, ImageId, MemberId, MoveId, NodeId, Pageblock, RequestId, TokenId,
};

/// One thing for the world to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Tell the process which pageblocks it now leases: the answer to
    /// [`crate::Input::Lease`]. Empty: there are none.
    Grant {
        /// Who.
        member: MemberId,
        /// Which, in the order they should be used.
        extents: Vec<Extent>,
    },
    /// Tell the process whether it is promised what it asked for: the answer to
    /// [`crate::Input::Commit`] of more than 0.
    Promise {
        /// Who.
        member: MemberId,
        /// Whether it is.
        granted: bool,
    },
    /// The process has lost these pageblocks and what was in them, to a memory error: it no longer
    /// leases them. It answers with [`crate::Input::LetGo`] of all of them once nothing of it maps
    /// any of them; some it may not have mapped, or have given back. An order to move to one of
    /// them that it has not carried out it cannot carry out any more ([`HoldReason::MoveFailed`]);
    /// one to move from one of them likewise ([`crate::MoveOutcome::Gone`]).
    Poisoned {
        /// Who.
        member: MemberId,
        /// Which.
        extents: Vec<Extent>,
    },
    /// The same, with the device that they were on.
    Lost {
        /// Who.
        member: MemberId,
        /// Which.
        extents: Vec<Extent>,
    },
    /// Have the driver of a device save the device's state, before its memory is evacuated; answer
    /// with [`crate::Input::DeviceSaved`].
    SaveDevice {
        /// The device's node.
        node: NodeId,
    },
    /// Have the driver restore it; answer with [`crate::Input::DeviceRestored`].
    RestoreDevice {
        /// The device's node.
        node: NodeId,
    },
    /// Order the process to move pageblocks; it answers with [`crate::Input::Moved`].
    Move {
        /// Who.
        member: MemberId,
        /// The order.
        id: MoveId,
        /// From where to where. Destinations are leased to the process already.
        pairs: Vec<(Pageblock, Pageblock)>,
    },
    /// The pageblocks are the process's alone again: it maps them shared, keeping what it wrote,
    /// and answers with [`crate::Input::Thawed`]. Those that it does not know (its parent died in
    /// the middle of a move) it releases instead.
    Thaw {
        /// Who.
        member: MemberId,
        /// Which.
        extents: Vec<Extent>,
    },
    /// Zero and release what backs these pageblocks; answer with [`crate::Input::Zeroed`],
    /// possibly in parts.
    Zero {
        /// Whose they were.
        image: ImageId,
        /// Which.
        extents: Vec<Extent>,
    },
    /// The image is gone: no process of it is left and all its memory has been given back.
    ImageGone {
        /// Which.
        image: ImageId,
    },
    /// Watch no more for this token: its process disconnected and holds nothing.
    ForgetToken {
        /// Which.
        token: TokenId,
    },
    /// These pageblocks have left the pool: the store may hand them back. What of them it has not
    /// been told to zero is discarded: it was lost.
    Offlined {
        /// Of which node.
        node: NodeId,
        /// Which.
        extents: Vec<Extent>,
    },
    /// These pageblocks are in the pool again.
    Onlined {
        /// Of which node.
        node: NodeId,
        /// Which.
        extents: Vec<Extent>,
    },
    /// How far a request has come; at most one per request and input.
    Progress {
        /// Which request.
        request: RequestId,
        /// Done so far.
        done: ByteSize,
        /// Asked for (rounded).
        of: ByteSize,
    },
    /// A request is answered.
    Answer {
        /// Which request.
        request: RequestId,
        /// The answer.
        report: Report,
    },
}

/// Who keeps memory from leaving.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holder {
    /// The image. 0 for the driver of a device ([`HoldReason::DeviceState`]).
    pub image: ImageId,
    /// Its process. 0 for a driver.
    pub pid: u32,
    /// The program's name. For a driver, the device's node's.
    pub name: String,
    /// How much it holds for this reason.
    pub bytes: ByteSize,
    /// Why.
    pub reason: HoldReason,
}

/// The answer to a give-back or a move.
///
/// `returned + remaining = requested` (rounded to whole blocks) always holds. `holders` accounts
/// for what was looked at and could not leave, largest first; it may name more bytes than
/// `remaining` when one pinned pageblock keeps a whole block, and fewer when the node is simply
/// not that large.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Asked for, rounded to whole blocks.
    pub requested: ByteSize,
    /// Gone.
    pub returned: ByteSize,
    /// Not gone.
    pub remaining: ByteSize,
    /// Who holds the rest.
    pub holders: Vec<Holder>,
    /// Whether asking again may bring more without anybody changing anything: something was
    /// still moving, or did not answer in time.
    pub ask_again: bool,
}

/// A snapshot of one node: `free + leased + isolated + offline + retired = present`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeStatus {
    /// Its name in the engine.
    pub node: NodeId,
    /// Its name for people.
    pub name: String,
    /// All it ever had.
    pub present: ByteSize,
    /// Can be leased.
    pub free: ByteSize,
    /// Leased to programs, or not yet zeroed after them.
    pub leased: ByteSize,
    /// Free but in a block that is being emptied.
    pub isolated: ByteSize,
    /// Has left.
    pub offline: ByteSize,
    /// Is there, but its memory is bad.
    pub retired: ByteSize,
    /// How much is in which zone: of all zones that have any, in the order of
    /// [`OnlineZone::ALL`]. Together, what has not left.
    pub zones: Vec<ZoneStatus>,
}

/// What a node has in one zone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ZoneStatus {
    /// Which.
    pub zone: OnlineZone,
    /// In the pool, in whatever state.
    pub online: ByteSize,
    /// Can be leased.
    pub free: ByteSize,
}

/// A snapshot of one process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberStatus {
    /// Its name in the engine.
    pub member: MemberId,
    /// Its image.
    pub image: ImageId,
    /// Its process number.
    pub pid: u32,
    /// Its program's name.
    pub name: String,
    /// Whether it is connected.
    pub connected: bool,
    /// What it leases, per node, in node order.
    pub leased: Vec<(NodeId, ByteSize)>,
    /// What of that cannot move, and why.
    pub pinned: Vec<(HoldReason, ByteSize)>,
    /// What it promised itself.
    pub committed: ByteSize,
}
