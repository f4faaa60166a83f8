//! What a program's pager and the daemon say to each other.
//!
//! A program connects, says [`Hello::Program`], and gets [`ToProgram::Welcome`] with one file
//! descriptor per node, in the order of `nodes`: sparse files, private to the image, in which
//! pageblock `p` of a node whose first pageblock is `first` lies at byte `(p − first) × 2 MiB`.
//! From then on both sides speak when they like. Promises of one connection are answered in the
//! order in which they were asked for, and so are leases. Before it says that there is no memory,
//! the daemon lets a request wait as long as the program's tenant says, and up to a second for what
//! programs that have ended leave behind; [`ToProgram::Welcome`] says how long that may be. A fork
//! waits for nothing, and may be answered before what was asked for before it.

use memtide_units::{Extent, HoldReason, ImageId, MemberId, MoveId, NodeKind, Pageblock, TokenId};
use serde::{Deserialize, Serialize};

use crate::{ControlRequest, Refused};

/// The first packet of a connection.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Hello {
    /// A program's pager.
    Program(HelloProgram),
    /// The command line; one request a connection.
    Control {
        /// Must be [`crate::VERSION`].
        version: u32,
        /// What it wants.
        request: ControlRequest,
    },
}

/// A program introduces itself.
///
/// Descriptors beside the packet, by lineage: `Fresh`: its life token. `Child`: none (its parent
/// sent the token before the fork). `Returning`: its life token (if it has its file), then one file
/// per node as it was given them; the tokens of its children follow beside [`FromProgram::Claim`].
///
/// A *token* is a one-page memfd (created with `MFD_ALLOW_SEALING`) that the process maps shared
/// and writable, and holds open nowhere in its own descriptor table. `F_ADD_SEALS(F_SEAL_WRITE)`
/// on it fails with `EBUSY` as long as any process maps it so, and succeeds once the process and
/// all that inherited the mapping by fork have exited or executed another program: a proof by the
/// kernel that no descriptor games of the program can fake.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HelloProgram {
    /// Must be [`crate::VERSION`].
    pub version: u32,
    /// Its process number as it sees it; the daemon believes the kernel's instead.
    pub pid: u32,
    /// The program's name, at most 64 bytes; longer is cut.
    pub name: String,
    /// What it was started as ([`crate::label`]); empty: nothing. For a child the daemon knows its
    /// parent's.
    pub label: String,
    /// Where it came from.
    pub lineage: Lineage,
}

/// How a process came to be. See [`HelloProgram`] for the descriptors that go with it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Lineage {
    /// A fresh program image.
    Fresh {
        /// A random name for its life token.
        token: TokenId,
    },
    /// A forked child, announced by its parent with [`FromProgram::ForkBegin`].
    Child {
        /// The token that it inherited.
        token: TokenId,
    },
    /// A process that another daemon served before.
    Returning {
        /// Its life token.
        token: TokenId,
        /// Who it was.
        member: MemberId,
        /// Whose it was.
        image: ImageId,
        /// Pageblocks it promised itself.
        committed: u64,
    },
}

/// What a program must know of a node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Its name.
    pub name: String,
    /// Near or far.
    pub kind: NodeKind,
    /// Its first pageblock.
    pub first: Pageblock,
    /// Its size in pageblocks.
    pub pageblocks: u64,
    /// What its memory is made of.
    pub backing: Backing,
}

/// What a node's memory is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backing {
    /// 4 KiB pages.
    Memfd,
    /// Transparent huge pages where the kernel finds them.
    MemfdThp,
    /// 2 MiB pages of the kernel's huge-page pool.
    Hugetlb,
    /// Memory of a device with dynamic capacity: one file for all programs that are trusted with
    /// it.
    Dcd,
}

/// What a program does when the pool is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFull {
    /// malloc and mmap return ENOMEM once the pool could not hold all that was promised.
    Fail,
    /// The program goes on with ordinary memory, and status says so.
    Fallback,
}

/// From a program.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum FromProgram {
    /// The last part of what a returning process holds; the daemon answers
    /// [`ToProgram::Welcome`] after the one with `last`.
    Claim {
        /// Pageblocks it leases.
        leased: Vec<Extent>,
        /// Pageblocks it shares copy-on-write.
        shared: Vec<Extent>,
        /// Children that may still be there; beside the packet: their tokens, in order, at most
        /// [`crate::codec::MAX_CHILDREN`].
        children: Vec<TokenId>,
        /// Nothing more comes.
        last: bool,
    },
    /// It promises itself `by` pageblocks more; answered by [`ToProgram::Commit`]. A negative
    /// number is not answered.
    Commit {
        /// Pageblocks more or fewer; not 0.
        by: i64,
    },
    /// It wants pageblocks; answered by [`ToProgram::Grant`].
    Lease {
        /// How many, 1 to [`crate::codec::MAX_LIST`].
        count: u32,
        /// A pageblock that the first should follow.
        after: Option<Pageblock>,
    },
    /// It gives pageblocks back, and maps them no longer.
    Release {
        /// Which.
        extents: Vec<Extent>,
    },
    /// These cannot be moved.
    Pin {
        /// Which.
        extents: Vec<Extent>,
        /// Why.
        reason: HoldReason,
    },
    /// These can be moved again, as far as this reason goes.
    Unpin {
        /// Which.
        extents: Vec<Extent>,
        /// Why not, until now.
        reason: HoldReason,
    },
    /// It is about to fork; beside it: the child's token. Answered by [`ToProgram::ForkReady`].
    ForkBegin {
        /// A random name for the token.
        token: TokenId,
    },
    /// How moves ended, in the order of the pairs, from the first one not yet answered.
    Moved {
        /// Which order.
        id: MoveId,
        /// How each went.
        outcomes: Vec<Outcome>,
    },
    /// These are mapped shared again.
    Thawed {
        /// Which.
        extents: Vec<Extent>,
    },
    /// It has heard that it lost these ([`ToProgram::Lost`]), and maps them no longer.
    LetGo {
        /// Which.
        extents: Vec<Extent>,
    },
    /// What it keeps outside the pool, for status: cumulative figures.
    Counters(Counters),
}

/// How one move of one pageblock ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Outcome {
    /// Done.
    Moved,
    /// It no longer held the source.
    Gone,
    /// It stays.
    Held(HoldReason),
}

/// What a process counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Bytes of ordinary memory used because the pool had none (or no daemon answered).
    pub overflow_bytes: u64,
    /// Mappings (VMAs) that memtide uses in the process.
    pub mappings: u64,
    /// What vm.max_map_count allows.
    pub mappings_max: u64,
    /// Pageblocks moved so far.
    pub moved_pageblocks: u64,
    /// Nanoseconds the pager spent moving, from the protection of the first block of a batch to
    /// the release of the last.
    pub moving_ns: u64,
    /// Nanoseconds the pager spent on mapping and populating destinations ahead of that.
    pub populating_ns: u64,
}

/// To a program.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ToProgram {
    /// It is in; beside it: one file per node, then an open `/dev/userfaultfd` if `userfaultfd`
    /// says so (nothing at all for a returning process, which has them).
    Welcome {
        /// Who it is now.
        member: MemberId,
        /// Whose it is.
        image: ImageId,
        /// The nodes, in the order of the files.
        nodes: Vec<NodeInfo>,
        /// What to do when the pool is full: what the program's tenant says.
        on_full: OnFull,
        /// Longest that it may wait for the answer to a promise or a lease, in milliseconds. A
        /// program need not: the pager lets promises wait so long, and first touches two seconds.
        wait_ms: u64,
        /// Whether the last descriptor beside it is an open `/dev/userfaultfd`, with which a
        /// program needs no right of its own.
        userfaultfd: bool,
    },
    /// It is not in, or its request makes no sense; the daemon closes the connection.
    Refused(Refused),
    /// The answer to [`FromProgram::Commit`].
    Commit {
        /// Whether the promise holds.
        granted: bool,
    },
    /// The answer to [`FromProgram::Lease`]; empty when there is nothing to lease.
    Grant {
        /// Which pageblocks.
        extents: Vec<Extent>,
    },
    /// The fork may go ahead.
    ForkReady,
    /// Move these; answered by [`FromProgram::Moved`], possibly in parts.
    Move {
        /// The order.
        id: MoveId,
        /// From where to where; the destinations are leased to the process already.
        pairs: Vec<(Pageblock, Pageblock)>,
    },
    /// These are its alone again: map them shared, answer with [`FromProgram::Thawed`].
    Thaw {
        /// Which.
        extents: Vec<Extent>,
    },
    /// The memory of these is gone without a word (its device is gone, or took it by force, or it
    /// is bad), and what was in it. Whoever touches it from now on must hear of that: SIGBUS, as of
    /// memory that fails. Answered by [`FromProgram::LetGo`].
    Lost {
        /// Which.
        extents: Vec<Extent>,
    },
    /// Beside it: another file for a node, of which the process holds nothing any more. What it is
    /// granted there from now on lies in that file.
    File {
        /// Which node, by its place in the welcome.
        node: u16,
    },
}
