//! What goes into the engine.
//!
//! Requests of programs and operators, acknowledgements of effects, deaths. Every input is
//! checked in full before anything changes; a refused one ([`crate::Refusal`]) changed nothing.

use alloc::{string::String, vec::Vec};
use core::time::Duration;

use crate::{config::Performance, mempolicy::MemPolicy, onlining::OnlineZone, tenant::Credentials};
use memtide_units::{
    AccessorId, ByteSize, Extent, HoldReason, ImageId, MemberId, MoveId, NodeId, Pageblock,
    RequestId, TokenId,
};

/// How a process came to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Lineage {
    /// A fresh program image: an image of its own.
    Fresh,
    /// A forked child, known by the token its parent announced with [`Input::ForkBegin`].
    Child(TokenId),
    /// A process that was there before this engine, or whose connection was lost: it says what
    /// it holds. What this engine thought was its and it does not claim is given back.
    Returning(Claims),
}

/// What a returning process says it holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claims {
    /// The member it was.
    pub member: MemberId,
    /// The image it belonged to.
    pub image: ImageId,
    /// Pageblocks it leases.
    pub leased: Vec<Extent>,
    /// Pageblocks it shares copy-on-write (its own that a child shares, or its parent's).
    pub shared: Vec<Extent>,
    /// Tokens of its forked children that may still be there.
    pub children: Vec<TokenId>,
    /// Pageblocks it promised to itself ([`Input::Commit`]).
    pub committed: u64,
}

/// How one move of one pageblock ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MoveOutcome {
    /// The program now uses the destination, to which all of the source was copied; the source
    /// is no longer mapped anywhere.
    Moved,
    /// The program no longer held the source when the order came: it has released it, or knows
    /// that it was lost.
    Gone,
    /// It stays, for this reason.
    Held(HoldReason),
}

/// One thing that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// A process joins under a member name that the caller chose and never used before (a
    /// returning one brings its own).
    Join {
        /// Its name.
        member: MemberId,
        /// Its process number, for people.
        pid: u32,
        /// Its program's name, for people.
        name: String,
        /// Its life token, which the caller watches from now on: [`Input::TokenGone`] with it
        /// means that the process is gone. For a forked child the one in its lineage.
        token: TokenId,
        /// Where it came from.
        lineage: Lineage,
        /// Who it is: decides which tenant it belongs to.
        who: Credentials,
    },
    /// A process of an earlier engine ([`crate::config::Awaited`]) will not come back.
    AwaitedGone {
        /// Who.
        member: MemberId,
    },
    /// The process's connection is gone. Its memory is not, until [`Input::TokenGone`].
    Left {
        /// Who.
        member: MemberId,
    },
    /// Nothing maps this token any more: the process it was for is gone (or has executed
    /// another program), and so is every process that inherited it.
    TokenGone {
        /// Which.
        token: TokenId,
    },
    /// The process promises itself `by` more pageblocks (fewer, when negative). When more, the
    /// answer is a [`crate::Effect::Promise`], now or later.
    Commit {
        /// Who.
        member: MemberId,
        /// Pageblocks more or fewer.
        by: i64,
    },
    /// The process wants pageblocks. The answer is a [`crate::Effect::Grant`], now or later.
    Lease {
        /// Who.
        member: MemberId,
        /// How many pageblocks; 1 or more. Fewer may be granted.
        count: u32,
        /// A pageblock that one of the new ones should follow, if it is free.
        after: Option<Pageblock>,
        /// Where they are to lie; as the process's policy says, when absent.
        policy: Option<MemPolicy>,
    },
    /// What the process leases from now on goes where this says; where its tenant's policy says,
    /// when absent (set_mempolicy(2)).
    SetPolicy {
        /// Who.
        member: MemberId,
        /// How.
        policy: Option<MemPolicy>,
    },
    /// Pageblocks that the process has already are to lie where this says (mbind(2) with
    /// `MPOL_MF_MOVE`): what lies elsewhere and can move is moved.
    Mbind {
        /// The name of the request.
        request: RequestId,
        /// Who.
        member: MemberId,
        /// Which.
        extents: Vec<Extent>,
        /// How.
        policy: MemPolicy,
        /// How long to go on trying.
        deadline: Duration,
    },
    /// Pageblocks were accessed so often since the last time that this was said.
    Accessed {
        /// By whom.
        accessor: AccessorId,
        /// Which, and how often each of them.
        extents: Vec<(Extent, u32)>,
    },
    /// A pageblock has a memory error that cannot be corrected: what is in it is lost, and it is
    /// never used again.
    Poison {
        /// Which.
        pageblock: Pageblock,
    },
    /// Whole blocks are gone without a word: a link was lost, a device removed by surprise, an
    /// extent taken back by force. Leases in them end.
    Lost {
        /// Which; whole blocks.
        extents: Vec<Extent>,
    },
    /// The process has heard that it lost these ([`crate::Effect::Poisoned`],
    /// [`crate::Effect::Lost`]), and nothing of it maps them any more. Until then what it says of
    /// them is void, and their blocks do not come back.
    LetGo {
        /// Who.
        member: MemberId,
        /// Which; of those it was told of on this connection, each once.
        extents: Vec<Extent>,
    },
    /// A node became faster or slower (a link was renegotiated).
    LinkChanged {
        /// Which.
        node: NodeId,
        /// How fast it is now.
        performance: Performance,
    },
    /// Whole blocks come into the pool.
    Online {
        /// Which; whole blocks that are offline. They come into the zone of their node.
        extents: Vec<Extent>,
    },
    /// An operator, or a device, wants these very blocks back.
    GiveBackExtents {
        /// The name of the request.
        request: RequestId,
        /// Which; whole blocks of one node that are online.
        extents: Vec<Extent>,
        /// How long to go on trying.
        deadline: Duration,
    },
    /// All of a node is to be emptied. Nothing is placed there until memory is put back, not even
    /// in an emergency. The device's driver is asked to save its state first.
    Evacuate {
        /// The name of the request.
        request: RequestId,
        /// Which.
        node: NodeId,
        /// How long to go on trying.
        deadline: Duration,
    },
    /// The driver of a device has saved the device's state: the answer to
    /// [`crate::Effect::SaveDevice`].
    DeviceSaved {
        /// The device's node.
        node: NodeId,
    },
    /// The driver of a device has restored it: the answer to [`crate::Effect::RestoreDevice`].
    DeviceRestored {
        /// The device's node.
        node: NodeId,
    },
    /// The process gives pageblocks back; nothing of it maps them any more. One that it shares
    /// with others stays theirs. The destination of an order cannot be released before the order
    /// is answered.
    Release {
        /// Who.
        member: MemberId,
        /// Which.
        extents: Vec<Extent>,
    },
    /// These pageblocks cannot be moved.
    Pin {
        /// Who.
        member: MemberId,
        /// Which.
        extents: Vec<Extent>,
        /// Why.
        reason: HoldReason,
    },
    /// These pageblocks can be moved again as far as this reason goes.
    Unpin {
        /// Who.
        member: MemberId,
        /// Which.
        extents: Vec<Extent>,
        /// Why not, until now.
        reason: HoldReason,
    },
    /// The process is about to fork: all it leases is shared copy-on-write with whoever maps
    /// `token`. A [`crate::Effect::Thaw`] that it has not acknowledged before is void: it must
    /// not acknowledge it any more.
    ForkBegin {
        /// Who.
        member: MemberId,
        /// The child's token, never used before.
        token: TokenId,
    },
    /// How moves ended. Outcomes follow the order of the pairs in [`crate::Effect::Move`],
    /// starting at the first pair not yet answered; there may be fewer than pairs left.
    Moved {
        /// Who.
        member: MemberId,
        /// Which order.
        id: MoveId,
        /// How each went.
        outcomes: Vec<MoveOutcome>,
    },
    /// These pageblocks, of which [`crate::Effect::Thaw`] spoke, are mapped shared again.
    Thawed {
        /// Who.
        member: MemberId,
        /// Which.
        extents: Vec<Extent>,
    },
    /// The store has zeroed and released what backs these pageblocks.
    Zeroed {
        /// Whose they were.
        image: ImageId,
        /// Which.
        extents: Vec<Extent>,
    },
    /// An operator wants capacity back.
    GiveBack {
        /// The name of the request.
        request: RequestId,
        /// How much. Rounded up to whole blocks.
        bytes: ByteSize,
        /// From which node; from any, the furthest first, when absent.
        from: Option<NodeId>,
        /// How long to go on trying.
        deadline: Duration,
    },
    /// An operator puts capacity back, up to the node's size.
    Add {
        /// How much. Rounded up to whole blocks.
        bytes: ByteSize,
        /// To which node.
        to: NodeId,
        /// Into which zone; into that of the node, when absent.
        zone: Option<OnlineZone>,
    },
    /// An operator moves a process's memory.
    MoveTo {
        /// The name of the request.
        request: RequestId,
        /// Whose memory.
        member: MemberId,
        /// To which node.
        to: NodeId,
        /// How much of it; all that is elsewhere, when absent.
        bytes: Option<ByteSize>,
        /// How long to go on trying.
        deadline: Duration,
    },
    /// Nothing happened but the passing of time.
    Tick,
}
