//! Why a state file is of no use.

use std::{io, path::PathBuf};

use memtide_units::{NodeId, OnlineZone};

use super::State;

/// Why a state file is of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// It cannot be read or written.
    #[error("cannot {verb} the state file {}", path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is not what this program writes.
    #[error(
        "the state file {} is damaged: {problem}; if no program of this pool is running, remove it",
        path.display()
    )]
    Damaged {
        /// Which.
        path: PathBuf,
        /// How.
        problem: String,
    },
    /// It is of another pool, programs of which are still running.
    #[error(
        "the state file {} is of a pool of other nodes ({then}), whose programs still run \
         (pid {pids}); end them, or start with the nodes that it had",
        path.display()
    )]
    OtherNodes {
        /// Which.
        path: PathBuf,
        /// The nodes it had.
        then: String,
        /// The programs.
        pids: String,
    },
    /// A node was in EXMEM and is not now, or the other way round, while programs still run.
    #[error(
        "the state file {} has node {node} in zone {then}, and programs of it still run (pid \
         {pids}); end them, or start with the zone that it had, not with {now}",
        path.display()
    )]
    OtherZone {
        /// Which.
        path: PathBuf,
        /// The node.
        node: String,
        /// Its zone then.
        then: OnlineZone,
        /// Its zone now.
        now: OnlineZone,
        /// The programs.
        pids: String,
    },
    /// A node was on another NUMA node, or on none, while programs still run: what they have there
    /// does not come along.
    #[error(
        "the state file {} has node {node} on {}, and programs of it still run (pid {pids}); end \
         them, or start with the numa that it had, not on {}",
        path.display(),
        on(*then),
        on(*now)
    )]
    OtherNuma {
        /// Which.
        path: PathBuf,
        /// The node.
        node: String,
        /// Its NUMA node then.
        then: Option<NodeId>,
        /// Its NUMA node now.
        now: Option<NodeId>,
        /// The programs.
        pids: String,
    },
}

/// Where a node lies, for people.
fn on(numa: Option<NodeId>) -> String {
    numa.map_or_else(|| "no NUMA node".to_owned(), |node| format!("NUMA node {}", node.0))
}

/// The programs of a state, for people.
pub(super) fn pids(state: &State) -> String {
    let pids: Vec<_> = state.members.iter().map(|m| m.pid.to_string()).collect();
    pids.join(", ")
}
