//! What goes into the engine.
//!
//! Requests of programs and operators, acknowledgements of effects, deaths. Every input is
//! checked in full before anything changes; a refused one ([`crate::Refusal`]) changed nothing.

use alloc::{string::String, vec::Vec};
use core::time::Duration;

use memtide_units::{
    ByteSize, Extent, HoldReason, ImageId, MemberId, MoveId, NodeId, Pageblock, RequestId, TokenId,
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
    /// The program now uses the destination; the source is no longer mapped anywhere.
    Moved,
    /// The program no longer held the source when the order came: it has released it.
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
    /// The process promises itself `by` more pageblocks (fewer, when negative).
    Commit {
        /// Who.
        member: MemberId,
        /// Pageblocks more or fewer.
        by: i64,
    },
    /// The process wants pageblocks, now.
    Lease {
        /// Who.
        member: MemberId,
        /// How many pageblocks; 1 or more. Fewer may be granted.
        count: u32,
        /// A pageblock that one of the new ones should follow, if it is free.
        after: Option<Pageblock>,
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
