//! What is written and read, and what of it counts for whom.

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
