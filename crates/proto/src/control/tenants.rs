//! Tenants, and what was decided for them.

use std::collections::BTreeMap;

use memtide_units::{ByteSize, ImageId, NodeKind};
use serde::{Deserialize, Serialize};

use super::NodeBytes;

/// Whom an explanation is about.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Whom {
    /// Everybody.
    Everybody,
    /// A process, by its number; it may have ended.
    Pid(u32),
    /// A tenant, by its name.
    Tenant(String),
}

/// One tenant.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TenantStatus {
    /// Its name.
    pub name: String,
    /// Whom it is for, as the configuration has it, such as `uid 1000`; empty: everybody.
    pub who: Vec<String>,
    /// Its share of what several wait for.
    pub weight: u32,
    /// Where its memory goes, such as `bind far`.
    pub policy: String,
    /// What happens when there is no room.
    pub on_depletion: OnDepletion,
    /// Longest that it waits then, in milliseconds; 0 where it does not.
    pub wait_ms: u64,
    /// Its processes, forked children that have not joined included.
    pub processes: u64,
    /// What it has of each kind of node: near, far, device.
    pub kinds: Vec<KindStatus>,
    /// What its processes are promised or have.
    pub promised: ByteSize,
    /// What waits.
    pub waiting: Waiting,
    /// What its programs had to have elsewhere than their policies say, since the daemon started.
    pub fell_back: ByteSize,
}

/// What happens when there is no room for a tenant.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnDepletion {
    /// `ENOMEM`.
    Fail,
    /// Other nodes, then ordinary memory.
    FallBack,
    /// It waits.
    Wait,
    /// It waits, and idle memory is taken from others for it.
    Reclaim,
}

/// What a tenant has of one kind of node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KindStatus {
    /// Which kind.
    pub kind: NodeKind,
    /// Whether it may use it.
    pub allowed: bool,
    /// What it has, or has left behind and is not yet zeroed.
    pub used: ByteSize,
    /// At most; no limit when absent.
    pub max: Option<ByteSize>,
    /// Guaranteed.
    pub min: ByteSize,
    /// What of it cannot move.
    pub pinned: ByteSize,
    /// How much may be pinned on request; no limit when absent.
    pub pinned_max: Option<ByteSize>,
}

/// What waits for memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Waiting {
    /// Requests.
    pub requests: u64,
    /// What they ask for.
    pub bytes: ByteSize,
}

/// What came of one request of a program, or what was moved of it, and why.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Decision {
    /// The program's tenant; empty where none is for it.
    pub tenant: String,
    /// The program's process number.
    pub pid: u32,
    /// Its image: tells programs apart that had the same process number one after the other. 0 of
    /// one that was not let in.
    pub image: ImageId,
    /// Its name.
    pub program: String,
    /// How long ago, in milliseconds; for several in a row, the last.
    pub ago_ms: u64,
    /// How often in a row.
    pub times: u64,
    /// What was asked for.
    pub asked: Asked,
    /// How much; 0 of what is not counted so.
    pub bytes: ByteSize,
    /// Where it was, of what was moved.
    pub from: Option<String>,
    /// What came of it.
    pub outcome: Outcome,
    /// Where it was placed, or moved to.
    pub nodes: Vec<NodeBytes>,
    /// How much longer it waits at most, in milliseconds; 0 unless it waits.
    pub wait_ms: u64,
    /// What stood in the way, in the order in which nodes were tried.
    pub because: Vec<Reason>,
}

/// What a program asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Asked {
    /// To have so much now.
    Lease,
    /// To be promised so much more.
    Promise,
    /// To be let into the pool.
    Join,
    /// To pin so much.
    Pin,
    /// To have another child.
    Fork,
    /// Nothing: so much of it was moved.
    Move,
}

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Placed as the policy says.
    Placed,
    /// Placed, in part elsewhere than the policy says.
    FellBack,
    /// Placed, in part on special memory, because all else was exhausted.
    Emergency,
    /// Promised.
    Promised,
    /// It waits, or waited then.
    Waits,
    /// Refused: the program was told `ENOMEM`, or took ordinary memory.
    Refused,
    /// The same, after it had waited.
    TimedOut,
    /// Moved.
    Moved,
}

/// A rule that stood in the way, or why something was moved, with its numbers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reason {
    /// Which rule, such as `maximum`.
    pub rule: String,
    /// Of which node, if of one.
    pub node: Option<String>,
    /// Its amounts, by name, such as `used` and `max`.
    pub amounts: BTreeMap<String, ByteSize>,
    /// A number that is no size: how many requests or programs are before it, or how many
    /// milliseconds something was idle.
    pub count: Option<u64>,
    /// The same in words.
    pub text: String,
}
