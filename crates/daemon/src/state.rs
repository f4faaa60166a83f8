//! What a daemon leaves for the next one.
//!
//! Programs outlive their daemon. The next one must give out nothing that they hold, so it must
//! know whom to wait for; it must use no name again that they know; and capacity that had left is
//! to stay away, and bad memory out of use. The file is small and replaced as a whole, before
//! anything is answered that depends on it. It survives the daemon, not the machine: after a boot
//! no program is left, and only the capacity counts. Of a pool of other nodes, only what is bad of
//! them (`other_nodes`).

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use memtide_sys::process;
use memtide_units::{ByteSize, Extent, ImageId, MemberId, NodeId, OnlineZone, Pageblock};
use serde::{Deserialize, Serialize};

use crate::{dcd::takeover, zones::ZoneState};

mod other_nodes;

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
fn pids(state: &State) -> String {
    let pids: Vec<_> = state.members.iter().map(|m| m.pid.to_string()).collect();
    pids.join(", ")
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

/// Another NUMA node than before, or more or less of it at the start, counts if no program is left:
/// what programs have of a node lies where the node is to lie, and may be more than it would begin
/// with. What had left says nothing then: it was other memory, or was only to come later.
fn take_numa(path: &Path, state: &mut State, nodes: &[NodeState]) -> Result<(), StateError> {
    let pids = pids(state);
    let changed = |(then, now): &(&mut NodeState, &NodeState)| {
        (then.numa, then.online) != (now.numa, now.online)
    };
    for (then, now) in state.nodes.iter_mut().zip(nodes).filter(changed) {
        if state.members.is_empty() {
            (then.numa, then.online) = (now.numa, now.online);
            then.offline = now.offline.clone();
            then.zones.clear();
        } else if then.numa != now.numa {
            let (path, node) = (path.to_owned(), now.name.clone());
            return Err(StateError::OtherNuma { path, node, then: then.numa, now: now.numa, pids });
        }
    }
    Ok(())
}

/// Other zones than before count for what is there if no program is left.
fn take_zones(path: &Path, state: &mut State, nodes: &[NodeState]) -> Result<(), StateError> {
    let pids = pids(state);
    let mut next = Pageblock(0);
    for (then, now) in state.nodes.iter_mut().zip(nodes) {
        let first = next;
        next = Pageblock(first.0 + then.pageblocks);
        if then.zone == now.zone {
            continue;
        }
        if state.members.is_empty() {
            then.zones.clear();
        } else if [then.zone, now.zone].contains(&OnlineZone::Exmem) {
            return Err(StateError::OtherZone {
                path: path.to_owned(),
                node: now.name.clone(),
                then: then.zone,
                now: now.zone,
                pids,
            });
        } else if then.zones.is_empty() {
            // All of it stays in the zone that it was in.
            let extents = takeover::whole(first, then.pageblocks);
            then.zones = vec![ZoneState { zone: then.zone, extents }];
        }
        then.zone = now.zone;
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use memtide_units::Pageblock;

    use super::*;

    fn node(name: &str) -> NodeState {
        let (offline, retired, zones) = (Vec::new(), Vec::new(), Vec::new());
        let (name, zone) = (name.to_owned(), OnlineZone::Kernel);
        let (numa, online) = (None, None);
        NodeState { name, pageblocks: 8, offline, retired, zone, zones, numa, online }
    }

    fn this_process() -> MemberState {
        let pid = std::process::id();
        let started = process::start_time(pid).unwrap();
        MemberState { member: MemberId(1), image: ImageId(1), pid, started }
    }

    fn some_state() -> State {
        let mut far = node("far");
        far.offline = vec![Extent::new(Pageblock(14), 2)];
        far.retired = vec![Extent::new(Pageblock(11), 1)];
        State {
            format: FORMAT,
            boot: process::boot_id().unwrap(),
            nodes: vec![node("near"), far],
            next_member: 3,
            next_image: 2,
            members: vec![this_process()],
            devices: vec![DeviceState { node: "far".to_owned(), device: 1, inode: 7 }],
        }
    }

    fn file(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("memtide-state-{}-{name}", std::process::id()))
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let path = file("saved");
        save(&path, &some_state()).unwrap();
        let nodes = [node("near"), node("far")];
        let loaded = load(&path, &nodes).unwrap().unwrap();
        assert_eq!(loaded, Left { state: some_state(), forgotten: Vec::new() });
        fs::remove_file(&path).unwrap();
        assert_eq!(load(&path, &nodes).unwrap(), None);
    }

    #[test]
    fn who_is_gone_is_not_waited_for() {
        let path = file("gone");
        let mut state = some_state();
        state.members[0].started += 1;
        save(&path, &state).unwrap();
        let loaded = load(&path, &[node("near"), node("far")]).unwrap().unwrap().state;
        assert!(loaded.members.is_empty());
        state = some_state();
        state.boot = "another".to_owned();
        save(&path, &state).unwrap();
        let loaded = load(&path, &[node("near"), node("far")]).unwrap().unwrap().state;
        assert!(loaded.members.is_empty());
        assert_eq!(loaded.nodes[1].offline.len(), 1);
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn another_pool_is_refused_while_its_programs_run() {
        let path = file("other");
        save(&path, &some_state()).unwrap();
        let error = load(&path, &[node("near")]).unwrap_err();
        assert!(matches!(error, StateError::OtherNodes { .. }), "{error}");
        let mut state = some_state();
        state.members.clear();
        save(&path, &state).unwrap();
        let loaded = load(&path, &[node("near")]).unwrap().unwrap();
        assert_eq!(loaded.state.nodes, [node("near")]);
        let bytes = memtide_units::ByteSize::from_pageblocks(1);
        let forgotten = Forgotten { node: "far".to_owned(), bytes, why: Why::Gone };
        assert_eq!(loaded.forgotten, [forgotten]);
        // What is bad is so wherever its node lies now; what had left is there again.
        let mut far = node("far");
        far.retired = vec![Extent::new(Pageblock(3), 1)];
        let loaded = load(&path, &[node("far"), node("near")]).unwrap().unwrap();
        assert_eq!(loaded.state.nodes, [far, node("near")]);
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn other_zones_count_for_what_is_there_when_no_program_is_left() {
        let path = file("zones");
        let extents = vec![Extent::new(Pageblock(0), 8)];
        let mut state = some_state();
        state.nodes[0].zones = vec![ZoneState { zone: OnlineZone::Movable, extents }];
        let nodes = |zone| {
            let mut nodes = [node("near"), node("far")];
            nodes[0].zone = zone;
            nodes
        };
        let load_with = |zone| load(&path, &nodes(zone)).map(|left| left.unwrap().state.nodes);
        // While programs run, what is there keeps its zone.
        save(&path, &state).unwrap();
        for zone in [OnlineZone::Kernel, OnlineZone::PreferMovable] {
            let loaded = load_with(zone).unwrap();
            assert_eq!((loaded[0].zone, &loaded[0].zones), (zone, &state.nodes[0].zones));
        }
        let error = load_with(OnlineZone::Exmem).unwrap_err();
        assert!(matches!(error, StateError::OtherZone { .. }), "{error}");
        state.members.clear();
        save(&path, &state).unwrap();
        assert_eq!(load_with(OnlineZone::Kernel).unwrap()[0].zones.len(), 1);
        for zone in [OnlineZone::PreferMovable, OnlineZone::Exmem] {
            assert_eq!(load_with(zone).unwrap()[0].zones, []);
        }
        // A file of before there were zones.
        let text = fs::read_to_string(&path).unwrap();
        let text = text.replace("\"zone\":\"kernel\",", "").replace(",\"zone\":\"kernel\"", "");
        assert!(text.matches("\"zone\"").count() == 1, "{text}");
        fs::write(&path, text).unwrap();
        assert_eq!(load_with(OnlineZone::Kernel).unwrap()[1].zones, []);
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn another_numa_node_is_refused_while_programs_run() {
        let path = file("numa");
        let mut state = some_state();
        state.nodes[1].numa = Some(NodeId(1));
        let nodes = |numa| {
            let mut nodes = [node("near"), node("far")];
            nodes[1].numa = numa;
            nodes
        };
        save(&path, &state).unwrap();
        assert_eq!(load(&path, &nodes(Some(NodeId(1)))).unwrap().unwrap().state, state);
        for other in [None, Some(NodeId(0))] {
            let error = load(&path, &nodes(other)).unwrap_err();
            assert!(matches!(error, StateError::OtherNuma { .. }), "{error}");
            let text = error.to_string();
            assert!(text.contains("has node far on NUMA node 1, and programs"), "{text}");
        }
        state.members.clear();
        save(&path, &state).unwrap();
        assert_eq!(load(&path, &nodes(None)).unwrap().unwrap().state.nodes[1].numa, None);
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn what_was_to_come_later_is_there_once_it_is_configured_so_and_no_program_is_left() {
        let path = file("online");
        let size = ByteSize::from_pageblocks;
        let with = |online: Option<ByteSize>, offline: &[Extent], numa: u16| {
            let mut nodes = [node("near"), node("far")];
            nodes[1].numa = Some(NodeId(numa));
            nodes[1].online = online;
            nodes[1].offline = offline.to_vec();
            nodes
        };
        // Of 8, 2 were there at the start, and 3 have come.
        let mut state = some_state();
        let came = [Extent::new(Pageblock(13), 3)];
        state.nodes = with(Some(size(2)), &came, 1).to_vec();
        let load_with = |state: &State, nodes: &[NodeState]| {
            save(&path, state).unwrap();
            load(&path, nodes).unwrap().unwrap().state
        };
        let all = with(None, &[], 1);
        // While programs run, they may have what came, and what did not is not there. That they
        // began with less is known for as long.
        let loaded = load_with(&state, &all);
        assert_eq!(loaded, state);
        state.members.clear();
        assert_eq!(load_with(&state, &all).nodes, all);
        let less = with(Some(size(1)), &[Extent::new(Pageblock(9), 7)], 1);
        assert_eq!(load_with(&state, &less).nodes, less);
        // What an operator took stays away, but on another NUMA node it is other memory.
        state.nodes = with(None, &came, 1).to_vec();
        assert_eq!(load_with(&state, &all).nodes, state.nodes);
        let elsewhere = with(None, &[], 0);
        assert_eq!(load_with(&state, &elsewhere).nodes, elsewhere);
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn garbage_is_named() {
        let path = file("garbage");
        fs::write(&path, "{\"format\": 1").unwrap();
        let error = load(&path, &[node("near")]).unwrap_err();
        assert!(error.to_string().contains("is damaged"), "{error}");
        fs::remove_file(&path).unwrap();
    }
}
