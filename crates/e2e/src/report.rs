//! What `memtide … --json` says, as the documentation promises it: raw integers of bytes.

use std::collections::BTreeMap;

use serde::Deserialize;

/// `memtide status --json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Status {
    /// The daemon's process.
    pub pid: u32,
    /// Bytes moved since the daemon started.
    pub moved_bytes: u64,
    /// The nodes, near first.
    pub nodes: Vec<Node>,
    /// The programs.
    pub programs: Vec<Program>,
}

/// One node.
#[derive(Clone, Debug, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// All it ever had.
    pub size: u64,
    /// Can be leased.
    pub free: u64,
    /// Leased.
    pub leased: u64,
    /// Being emptied.
    pub isolated: u64,
    /// Has left.
    pub offline: u64,
    /// Out of service for good.
    pub retired: u64,
}

/// One process.
#[derive(Clone, Debug, Deserialize)]
pub struct Program {
    /// Its process number.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// The name of its tenant.
    pub tenant: String,
    /// Whether it is connected to the daemon.
    pub connected: bool,
    /// Bytes leased, by node.
    pub nodes: Vec<NodeBytes>,
    /// What of that cannot move, and why.
    pub pinned: Vec<Pinned>,
    /// What it counts.
    pub counters: Counters,
}

/// Bytes on a node.
#[derive(Clone, Debug, Deserialize)]
pub struct NodeBytes {
    /// The node's name.
    pub node: String,
    /// Bytes.
    pub bytes: u64,
}

/// Bytes that cannot move.
#[derive(Clone, Debug, Deserialize)]
pub struct Pinned {
    /// Why, as a stable code.
    pub reason: String,
    /// Bytes.
    pub bytes: u64,
}

/// What a process counts.
#[derive(Clone, Debug, Deserialize)]
pub struct Counters {
    /// Bytes of ordinary memory used because the pool had none.
    pub overflow_bytes: u64,
}

/// One of `memtide dcd-pool --json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Device {
    /// The node.
    pub node: String,
    /// Why there is no connection, if there is none.
    pub away: Option<String>,
    /// Bytes accepted, and not released or lost.
    pub accepted: u64,
    /// Of that, what programs use.
    pub used: u64,
    /// What came of the device's last request.
    pub answer: Option<DeviceAnswer>,
}

/// What came of a request of a device.
#[derive(Clone, Debug, Deserialize)]
pub struct DeviceAnswer {
    /// What was asked for.
    pub asked: u64,
    /// What was released.
    pub released: u64,
    /// What stayed.
    pub remaining: u64,
    /// Who held it.
    pub holders: Vec<Holder>,
}

/// The answer to a give-back or a move.
#[derive(Clone, Debug, Deserialize)]
pub struct Report {
    /// Asked for, rounded up to whole blocks.
    pub requested: u64,
    /// Came back.
    pub returned: u64,
    /// Did not.
    pub remaining: u64,
    /// Who holds the rest.
    pub holders: Vec<Holder>,
    /// Whether asking again may bring more.
    pub ask_again: bool,
}

/// One of `memtide tenants --json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Tenant {
    /// Its name.
    pub name: String,
    /// Its processes.
    pub processes: u64,
    /// What it has of each kind of node.
    pub kinds: Vec<Kind>,
    /// What waits.
    pub waiting: Waiting,
    /// Bytes that its programs had to have elsewhere than their policies say.
    pub fell_back: u64,
}

/// What a tenant has of one kind of node.
#[derive(Clone, Debug, Deserialize)]
pub struct Kind {
    /// Which kind.
    pub kind: String,
    /// What it has.
    pub used: u64,
    /// At most.
    pub max: Option<u64>,
}

/// What waits for memory.
#[derive(Clone, Debug, Deserialize)]
pub struct Waiting {
    /// Requests.
    pub requests: u64,
    /// What they ask for.
    pub bytes: u64,
}

/// One of `memtide explain --json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Decision {
    /// The program's process number.
    pub pid: u32,
    /// Its name.
    pub program: String,
    /// `lease` or `promise`.
    pub asked: String,
    /// How much.
    pub bytes: u64,
    /// What came of it, as a stable code.
    pub outcome: String,
    /// What stood in the way.
    pub because: Vec<Reason>,
}

/// A rule that stood in the way.
#[derive(Clone, Debug, Deserialize)]
pub struct Reason {
    /// Which, as a stable code.
    pub rule: String,
    /// Of which node.
    pub node: Option<String>,
    /// Its numbers.
    pub amounts: BTreeMap<String, u64>,
    /// The same in words.
    pub text: String,
}

impl Tenant {
    /// Bytes that it has of a kind of node.
    ///
    /// # Panics
    /// If there is no such kind.
    #[must_use]
    pub fn used(&self, kind: &str) -> u64 {
        self.kinds.iter().find(|k| k.kind == kind).expect("a kind of node").used
    }
}

/// Who keeps memory from leaving.
#[derive(Clone, Debug, Deserialize)]
pub struct Holder {
    /// Which process.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// How much.
    pub bytes: u64,
    /// Why, as a stable code.
    pub reason: String,
}

impl Status {
    /// The node of this name.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn node(&self, name: &str) -> &Node {
        self.nodes.iter().find(|n| n.name == name).unwrap_or_else(|| panic!("no node {name}"))
    }

    /// Bytes leased on all nodes.
    #[must_use]
    pub fn leased(&self) -> u64 {
        self.nodes.iter().map(|n| n.leased).sum()
    }

    /// Bytes that have left all nodes.
    #[must_use]
    pub fn offline(&self) -> u64 {
        self.nodes.iter().map(|n| n.offline).sum()
    }

    /// Bytes of all programs that are pinned for `reason`.
    #[must_use]
    pub fn pinned(&self, reason: &str) -> u64 {
        let all = self.programs.iter().flat_map(|p| &p.pinned);
        all.filter(|p| p.reason == reason).map(|p| p.bytes).sum()
    }

    /// Checks what must hold at any time: no byte of a node is missing or counted twice.
    ///
    /// # Errors
    /// What does not hold.
    pub fn conserved(&self) -> Result<(), String> {
        for n in &self.nodes {
            let sum = n.free + n.leased + n.isolated + n.offline + n.retired;
            if sum != n.size {
                return Err(format!(
                    "free + leased + isolated + offline + retired = {sum}, not size: {n:?}"
                ));
            }
        }
        let programs: u64 =
            self.programs.iter().flat_map(|p| &p.nodes).map(|share| share.bytes).sum();
        if programs > self.leased() {
            return Err(format!("programs have {programs}, nodes leased {}", self.leased()));
        }
        Ok(())
    }
}

impl Report {
    /// Bytes held for `reason`.
    #[must_use]
    pub fn held(&self, reason: &str) -> u64 {
        self.holders.iter().filter(|h| h.reason == reason).map(|h| h.bytes).sum()
    }

    /// Checks what must hold of every report, given the exit code it came with.
    ///
    /// # Errors
    /// What does not hold.
    pub fn consistent(&self, exit_code: Option<i32>) -> Result<(), String> {
        if self.returned + self.remaining != self.requested {
            return Err(format!("returned + remaining is not requested: {self:?}"));
        }
        let expected = if self.remaining == 0 { 0 } else { 3 };
        if exit_code != Some(expected) {
            return Err(format!("exit code {exit_code:?}, expected {expected}: {self:?}"));
        }
        Ok(())
    }
}
