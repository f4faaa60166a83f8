//! What a daemon leaves for the next one.
//!
//! Programs outlive their daemon. The next one must give out nothing that they hold, so it must
//! know whom to wait for; it must use no name again that they know; and capacity that had left is
//! to stay away, and bad memory out of use. The file is small and replaced as a whole, before
//! anything is answered that depends on it. It survives the daemon, not the machine: after a boot
//! no program is left, and only the capacity counts; with other settings, not all of it
//! (`configured`); of a pool of other nodes, only what is bad of them (`other_nodes`).

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use memtide_sys::process;
use memtide_units::{ByteSize, Extent, ImageId, MemberId, NodeId, OnlineZone};
use serde::{Deserialize, Serialize};

use crate::zones::ZoneState;

mod configured;
mod error;
mod other_nodes;
#[cfg(test)]
mod tests;

use configured::{take_numa, take_zones};
pub use error::StateError;
use error::pids;
pub use other_nodes::{Forgotten, Why};

/// The whole of it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// The form of the file; [`FORMAT`].
    pub format: u32,
    /// The boot of the machine in which it was written.
    pub boot: String,
    /// The nodes, by name and size.
    pub nodes: Vec<NodeState>,
    /// The first member name that was never used.
    pub next_member: u64,
    /// The first image name that was never used.
    pub next_image: u64,
    /// The processes.
    pub members: Vec<MemberState>,
    /// The devices' memory.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DeviceState>,
}

/// Which file is the memory of a device, in whole: programs of an earlier daemon still map it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceState {
    /// The node.
    pub node: String,
    /// The file's file system, as stat(2) numbers it.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
}

/// The form of file that this program writes.
pub const FORMAT: u32 = 1;

/// One node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeState {
    /// Its name.
    pub name: String,
    /// Its size.
    pub pageblocks: u64,
    /// What has left.
    pub offline: Vec<Extent>,
    /// The zone that it was configured with.
    #[serde(default)]
    pub zone: OnlineZone,
    /// The zones of what has not left. Not there: as it is configured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub zones: Vec<ZoneState>,
    /// What is bad.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retired: Vec<Extent>,
    /// The NUMA node that its files are bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numa: Option<NodeId>,
    /// How much of it was to be online at the start, when it was last begun with no program left.
    /// Not there: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub online: Option<ByteSize>,
}

/// One process.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberState {
    /// Its name.
    pub member: MemberId,
    /// Whose it is.
    pub image: ImageId,
    /// Its number.
    pub pid: u32,
    /// When it started: tells it from a later one of the same number.
    pub started: u64,
}

impl MemberState {
    /// Whether it is still there.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        process::is_alive(self.pid, self.started)
    }
}

/// What an earlier daemon left, for the nodes that there are now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Left {
    /// What is known.
    pub state: State,
    /// What was bad of other nodes.
    pub forgotten: Vec<Forgotten>,
}

/// Reads what an earlier daemon left; `None` when there is nothing. Processes that are gone are
/// left out already.
///
/// # Errors
/// [`StateError`]; `nodes` are those of the new daemon, as it would begin with nothing left.
pub fn load(path: &Path, nodes: &[NodeState]) -> Result<Option<Left>, StateError> {
    let text = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(StateError::Io { verb: "read", path: path.to_owned(), source });
        }
        Ok(text) => text,
    };
    let damaged = |problem: String| StateError::Damaged { path: path.to_owned(), problem };
    let mut state: State =
        serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
    if state.format != FORMAT {
        return Err(damaged(format!("its format is {}; expected {FORMAT}", state.format)));
    }
    if process::boot_id().is_ok_and(|boot| boot != state.boot) {
        state.members.clear();
    }
    state.members.retain(MemberState::is_alive);
    let same = state.nodes.len() == nodes.len()
        && state
            .nodes
            .iter()
            .zip(nodes)
            .all(|(then, now)| then.name == now.name && then.pageblocks == now.pageblocks);
    let mut forgotten = Vec::new();
    if !same {
        if !state.members.is_empty() {
            let then: Vec<_> = state.nodes.iter().map(|node| node.name.clone()).collect();
            return Err(StateError::OtherNodes {
                path: path.to_owned(),
                then: then.join(", "),
                pids: pids(&state),
            });
        }
        let then = std::mem::replace(&mut state.nodes, nodes.to_vec());
        forgotten = other_nodes::carry_retired(&then, &mut state.nodes);
    }
    take_numa(path, &mut state, nodes)?;
    take_zones(path, &mut state, nodes)?;
    Ok(Some(Left { state, forgotten }))
}

/// Puts the file in the place of the one before, at once.
///
/// # Errors
/// [`StateError::Io`].
pub fn save(path: &Path, state: &State) -> Result<(), StateError> {
    let failed = |source| StateError::Io { verb: "write", path: path.to_owned(), source };
    let text = serde_json::to_vec(state).map_err(|error| failed(error.into()))?;
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    fs::write(&new, text).map_err(failed)?;
    fs::rename(&new, path).map_err(failed)
}
