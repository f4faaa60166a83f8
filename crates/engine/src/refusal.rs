//! Why an input is refused. A refused input changed nothing, and so leaves no trace in the engine
//! either: who wants to tell later of those that a rule refused ([`Refusal::ground`]) keeps them.

use crate::{mempolicy::PolicyError, onlining::OnlineZone};
use memtide_units::{
    Extent, HoldReason, ImageId, MemberId, MoveId, NodeId, NodeKind, Pageblock, RequestId,
    TenantId, TokenId,
};

/// Why an input is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The member joined already, or joins under a name that another uses.
    #[error("{member} is there already")]
    MemberTaken {
        /// Which.
        member: MemberId,
    },
    /// No such member is there.
    #[error("{member} is not there")]
    NoSuchMember {
        /// Which.
        member: MemberId,
    },
    /// The member's connection is gone.
    #[error("{member} is not connected")]
    NotConnected {
        /// Which.
        member: MemberId,
    },
    /// The member is not one that is awaited.
    #[error("{member} is not awaited")]
    NotAwaited {
        /// Which.
        member: MemberId,
    },
    /// The token is in use for another process, or named twice.
    #[error("{token} is in use already")]
    TokenTaken {
        /// Which.
        token: TokenId,
    },
    /// Nobody announced this token, or its process is gone.
    #[error("{token} is not known")]
    NoSuchToken {
        /// Which.
        token: TokenId,
    },
    /// A process's token is not the one it had, or a child's not the one announced for it.
    #[error("the token is {token}; expected {expected}")]
    TokenMismatch {
        /// What came.
        token: TokenId,
        /// What it should be.
        expected: TokenId,
    },
    /// A member comes back under another image than it had.
    #[error("the image is {image}; expected {expected}")]
    ImageMismatch {
        /// What came.
        image: ImageId,
        /// What it should be.
        expected: ImageId,
    },
    /// No node has this pageblock.
    #[error("no node has {pageblock}")]
    NoSuchPageblock {
        /// Which.
        pageblock: Pageblock,
    },
    /// A message names a pageblock twice.
    #[error("{pageblock} is named twice")]
    NamedTwice {
        /// Which.
        pageblock: Pageblock,
    },
    /// A returning process claims what somebody else has.
    #[error("{pageblock} is claimed by a process of {image} but is in use by {by}")]
    ClaimConflict {
        /// Which.
        pageblock: Pageblock,
        /// The image of who claims it.
        image: ImageId,
        /// The image that has it.
        by: ImageId,
    },
    /// The member does not hold this pageblock.
    #[error("{member} does not hold {pageblock}")]
    NotHeld {
        /// Who.
        member: MemberId,
        /// Which.
        pageblock: Pageblock,
    },
    /// The pageblock is the destination of an order that is not answered yet.
    #[error("{pageblock} is the destination of {order}, which is not answered yet")]
    InFlight {
        /// Which.
        pageblock: Pageblock,
        /// The order.
        order: MoveId,
    },
    /// A reason that is not for programs to give.
    #[error("{reason:?} is not a reason that pins memory")]
    NotAPin {
        /// Which.
        reason: HoldReason,
    },
    /// No pageblocks asked for.
    #[error("0 pageblocks; expected 1 or more")]
    NoPageblocks,
    /// No bytes asked for.
    #[error("0 bytes; expected more")]
    NoBytes,
    /// The member takes back more than it promised itself.
    #[error("{member} takes back {by} pageblocks of {committed} promised")]
    CommitUnderflow {
        /// Who.
        member: MemberId,
        /// Pageblocks fewer.
        by: u64,
        /// Pageblocks promised.
        committed: u64,
    },
    /// The member has no such order to answer.
    #[error("{order} is not an order that {member} has yet to answer")]
    NoSuchOrder {
        /// Which.
        order: MoveId,
        /// Who.
        member: MemberId,
    },
    /// More outcomes than pairs are left.
    #[error("{outcomes} outcomes for {order}, of which {left} pairs are not answered yet")]
    TooManyOutcomes {
        /// Which order.
        order: MoveId,
        /// Outcomes that came.
        outcomes: u64,
        /// Pairs not answered yet.
        left: u64,
    },
    /// The pageblock is not one of the image's that is being zeroed.
    #[error("{pageblock} is not being zeroed for {image}")]
    NotZeroing {
        /// Whose.
        image: ImageId,
        /// Which.
        pageblock: Pageblock,
    },
    /// No such node.
    #[error("{node} is not there")]
    NoSuchNode {
        /// Which.
        node: NodeId,
    },
    /// More to put back than has left.
    #[error("{blocks} blocks to put back on {node}, of which {offline} are offline")]
    NotOffline {
        /// Which node.
        node: NodeId,
        /// Blocks asked for.
        blocks: u64,
        /// Blocks that are offline.
        offline: u64,
    },
    /// A request of this name is not answered yet.
    #[error("{request} is not answered yet")]
    RequestTaken {
        /// Which.
        request: RequestId,
    },
    /// Too many requests at once.
    #[error("{requests} requests are not answered yet; at most {requests} at once")]
    TooManyRequests {
        /// How many there are: the limit.
        requests: u32,
    },
    /// No tenant's description fits the program.
    #[error("no tenant is for user {uid}, group {gid}; expected one whose description fits")]
    NoTenant {
        /// Its user.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// A policy makes no sense.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// More would be pinned than the tenant may.
    #[error("{by} pageblocks more would make {pinned} pinned on {kind} nodes; {tenant} may {max}")]
    PinLimit {
        /// Whose limit.
        tenant: TenantId,
        /// Of which kind.
        kind: NodeKind,
        /// Pageblocks more.
        by: u64,
        /// Pageblocks pinned then.
        pinned: u64,
        /// Pageblocks that may be.
        max: u64,
    },
    /// An extent that is not made of whole blocks of a node, in the state that is expected.
    #[error("{extent} is not made of whole blocks of one node that are {expected}")]
    NotBlocks {
        /// Which.
        extent: Extent,
        /// Which state was expected.
        expected: &'static str,
    },
    /// Nobody asked the driver of this node's device for that.
    #[error("the driver of {node} was not asked to {what}")]
    NotAsked {
        /// Which.
        node: NodeId,
        /// For what.
        what: &'static str,
    },
    /// The member did not lose this pageblock, or has let go of it before.
    #[error("{pageblock} is not one that {member} lost and has not let go of")]
    NotLost {
        /// Who.
        member: MemberId,
        /// Which.
        pageblock: Pageblock,
    },
    /// A block cannot come back yet.
    #[error("{pageblock} was lost, and not all who had it have let go of it")]
    NotLetGo {
        /// Which of its pageblocks.
        pageblock: Pageblock,
    },
    /// That memory cannot move is asked for where all must be able to.
    #[error(
        "{pageblock} is in zone {zone} of {node}, or on its way there; {by} of the {of} pageblocks \
         that are not to move are, or will be, where only what can move may lie; expected none"
    )]
    PinInZone {
        /// The first of them.
        pageblock: Pageblock,
        /// Its node, or that to which it is on its way.
        node: NodeId,
        /// The zone of that node.
        zone: OnlineZone,
        /// How many of them are in a zone for what can move, of any node, or on their way to one.
        by: u64,
        /// How many are asked for.
        of: u64,
    },
    /// A zone that a node cannot have beside its own.
    #[error("zone {zone} on {node}, which is in {own}; expected all of a node in exmem or nothing")]
    ZoneOfNode {
        /// Which node.
        node: NodeId,
        /// Which zone.
        zone: OnlineZone,
        /// The node's own.
        own: OnlineZone,
    },
    /// A long pin on a node whose owner does not permit that.
    #[error("{pageblock} is on {node}, whose owner does not permit pinning for long")]
    PinNotPermitted {
        /// Which.
        pageblock: Pageblock,
        /// Its node.
        node: NodeId,
    },
}

/// On what ground an input is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ground {
    /// It can be said, and a rule is against it, or a quota, or a limit: another time, or for
    /// another tenant, the same may be granted.
    Rule,
    /// It cannot be said: it is not of what there is, or out of order.
    Protocol,
}

impl Refusal {
    /// On what ground.
    #[must_use]
    pub const fn ground(&self) -> Ground {
        match self {
            Self::NoTenant { .. }
            | Self::PinLimit { .. }
            | Self::PinNotPermitted { .. }
            | Self::PinInZone { .. }
            | Self::ZoneOfNode { .. }
            | Self::TooManyRequests { .. }
            | Self::NotOffline { .. }
            | Self::NotLetGo { .. }
            | Self::Policy(PolicyError::NotPermitted { .. }) => Ground::Rule,
            Self::MemberTaken { .. }
            | Self::NoSuchMember { .. }
            | Self::NotConnected { .. }
            | Self::NotAwaited { .. }
            | Self::TokenTaken { .. }
            | Self::NoSuchToken { .. }
            | Self::TokenMismatch { .. }
            | Self::ImageMismatch { .. }
            | Self::NoSuchPageblock { .. }
            | Self::NamedTwice { .. }
            | Self::ClaimConflict { .. }
            | Self::NotHeld { .. }
            | Self::InFlight { .. }
            | Self::NotAPin { .. }
            | Self::NoPageblocks
            | Self::NoBytes
            | Self::CommitUnderflow { .. }
            | Self::NoSuchOrder { .. }
            | Self::TooManyOutcomes { .. }
            | Self::NotZeroing { .. }
            | Self::NoSuchNode { .. }
            | Self::RequestTaken { .. }
            | Self::Policy(_)
            | Self::NotBlocks { .. }
            | Self::NotAsked { .. }
            | Self::NotLost { .. } => Ground::Protocol,
        }
    }
}
