//! Whole files, every mistake, and that what is written reads the same.

use std::{collections::BTreeMap, path::Path, time::Duration};

use memtide_engine::{
    Performance,
    mempolicy::{Extended, MemPolicy, Mode, Weighting},
    nodes::{Capabilities, Capability, NodeClass},
    tenant::{Access, Credentials, Emergency, Migration, OnDepletion, Who},
};
use memtide_proto::program::{Backing, OnFull};
use memtide_units::{ByteSize, NodeId, NodeKind, OnlineZone, PAGEBLOCK_BYTES, Pageblock, Random};

use super::{
    AccessorConfig, Config, NodeConfig, Quota, TenantConfig, Weights, accessors::accessor_id,
    reach::PoolRules,
};
use crate::start::fresh_nodes;

const GOOD: &str = r#"
socket = "/run/x/y.sock"
on_full = "fallback"
block = "4M"
mode = 0o660
deadline = "5s"

[placement]
order = ["far", "near"]

[[node]]
name = "near"
kind = "near"
size = "4G"

[[node]]
name = "far"
kind = "far"
size = "8gib"
store = "hugetlb"
"#;

fn parse(text: &str) -> Result<Config, (usize, String)> {
    Config::parse(text, Path::new("/default.sock")).map_err(|(offset, problem)| {
        (text[..offset].matches('\n').count() + 1, problem.to_string())
    })
}

#[test]
fn a_whole_file_is_read() {
    let config = parse(GOOD).unwrap();
    assert_eq!(config.socket, Path::new("/run/x/y.sock"));
    assert_eq!(config.state.as_deref(), Some(Path::new("/run/x/y.sock.state")));
    assert_eq!(config.mode, 0o660);
    assert_eq!(config.on_full, OnFull::Fallback);
    assert_eq!(config.block, ByteSize(4 << 20));
    assert_eq!(config.deadline, Duration::from_secs(5));
    assert_eq!(config.placement, [1, 0]);
    assert_eq!(config.nodes[1].size, ByteSize(8 << 30));
    assert_eq!(config.nodes[1].backing, Backing::Hugetlb);
    assert!(config.grant_userfaultfd);
}

#[test]
fn every_mistake_is_named_with_its_line_and_what_was_expected() {
    let replace = |from: &str, to: &str| parse(&GOOD.replace(from, to)).unwrap_err();
    for (from, to, line, text) in [
        ("\"4G\"", "\"4Q\"", 14, "size of node near \"4Q\" has an unknown unit; expected"),
        ("\"4G\"", "\"3M\"", 14, "size of node near \"3M\" is not a whole number of blocks"),
        ("\"4G\"", "\"0\"", 14, "expected a multiple of 4MiB"),
        ("\"4G\"", "4", 14, "invalid type: integer `4`, expected a string"),
        ("kind = \"near\"", "kind = \"nah\"", 13, "expected \"near\", \"far\" or \"device\""),
        ("name = \"far\"", "name = \"near\"", 17, "node name \"near\" is there twice"),
        ("name = \"far\"", "name = \"f r\"", 17, "node name \"f r\" is no name"),
        ("\"hugetlb\"", "\"disk\"", 20, "expected \"memfd\", \"memfd-thp\", \"hugetlb\" or"),
        ("\"fallback\"", "\"panic\"", 3, "on_full \"panic\" is unknown"),
        ("\"4M\"", "\"3M\"", 4, "block \"3M\" is not a block"),
        ("0o660", "0o6660", 5, "mode \"3504\" is no permission"),
        ("\"5s\"", "\"5 weeks\"", 6, "deadline \"5 weeks\" has an unknown unit"),
        ("\"/run", "\"run", 2, "socket \"run/x/y.sock\" is not absolute"),
        ("[\"far\"", "[\"fat\"", 9, "\"fat\" is no node; expected one of near, far"),
        ("[\"far\"", "[\"near\"", 9, "\"near\" is there twice"),
        ("block", "blok", 4, "unknown field `blok`"),
        ("kind", "kin", 13, "unknown field `kin`"),
    ] {
        let (at, message) = replace(from, to);
        assert!(message.contains(text), "{to}: {message}");
        assert_eq!(at, line, "{to}: {message}");
    }
}

#[test]
fn what_is_written_reads_the_same() {
    let config = parse(GOOD).unwrap();
    assert_eq!(parse(&config.to_toml()).unwrap(), config);
}

#[test]
fn a_pool_has_nodes_and_a_limit() {
    let (_, message) = parse("").unwrap_err();
    assert!(message.contains("expected 1 to 16 [[node]] tables"), "{message}");
    let (_, message) = parse(&GOOD.replace("\"4G\"", "\"1P\"")).unwrap_err();
    assert!(message.contains("at most 64TiB"), "{message}");
}

/// GOOD has 20 lines; these come after them.
const TENANTS: &str = r#"
[[node]]
name = "gpu"
kind = "device"
size = "1G"
class = "private"
capabilities = ["user-numa", "fallback"]
read_latency_ns = 300
write_bandwidth = "20GiB"

[[tenant]]
name = "db"
uid = ["root", 1000]
cgroup = "/system.slice/db.service"
near = { max = "2G", min = "1G", pinned_max = "64M" }
device = { access = "denied" }
weight = 3
policy = "weighted-interleave"
nodes = "0-1"
extended = "any"
on_depletion = "wait"
wait = "2m"
emergency = "on"

[[tenant]]
name = "batch"
label = "batch"
policy = "bind"
nodes = ["gpu"]
migration = "never"

[[tenant]]
name = "rest"

[weights]
near = 3

[[node]]
name = "hbm"
kind = "near"
size = "1G"
class = "special"
"#;

fn with_tenants() -> String {
    format!("{GOOD}{TENANTS}")
}

#[test]
fn tenants_are_read() {
    let config = parse(&with_tenants()).unwrap();
    let [db, batch, rest] = config.tenants.as_slice() else { panic!("{config:?}") };
    assert_eq!(
        db.who,
        [Who::Uid(0), Who::Uid(1000), Who::Cgroup("/system.slice/db.service".to_owned())]
    );
    let near = Quota {
        access: Access::Allowed,
        max: Some(ByteSize(2 << 30)),
        min: ByteSize(1 << 30),
        pinned_max: Some(ByteSize(64 << 20)),
    };
    assert_eq!(db.quotas[&NodeKind::Near], near);
    assert_eq!(db.quotas[&NodeKind::Device].access, Access::Denied);
    let both = [NodeId(0), NodeId(1)].into_iter().collect();
    assert_eq!(db.policy.mode, Mode::WeightedInterleave(both));
    assert_eq!(db.on_depletion, Some(OnDepletion::Wait(Duration::from_secs(120))));
    assert_eq!((db.weight, db.emergency), (3, Emergency::On));
    assert_eq!(batch.policy.mode, Mode::Bind([NodeId(2)].into_iter().collect()));
    assert_eq!((batch.migration, batch.on_depletion), (Migration::Never, None));
    assert_eq!(config.on_depletion(batch), OnDepletion::FallBack, "as on_full says");
    assert_eq!(*rest, TenantConfig::everybody("rest"));
    let gpu = &config.nodes[2];
    let capabilities = Capabilities::NONE.with(Capability::UserNuma).with(Capability::Fallback);
    assert_eq!((gpu.kind, gpu.class), (NodeKind::Device, NodeClass::Private(capabilities)));
    assert_eq!(
        gpu.performance,
        Performance {
            read_latency_ns: 300,
            write_bandwidth_mib: 20 << 10,
            ..Performance::default()
        }
    );
    assert_eq!(config.weights, Weights::Manual([(0, 3)].into_iter().collect()));
}

#[test]
fn every_mistake_of_a_tenant_is_named_with_its_line_and_what_was_expected() {
    let text = with_tenants();
    for (from, to, line, expected) in [
        (
            "\"root\", 1000",
            "\"root\", -1",
            33,
            "uid of tenant db \"-1\" is no user; expected a num",
        ),
        ("\"root\", 1000", "\"no-such-user\"", 33, "expected a number from 0 to 4294967294, or"),
        ("[\"root\", 1000]", "[]", 33, "uid of tenant db is an empty list"),
        ("[\"root\", 1000]", "true", 33, "invalid type: boolean `true`, expected a number, a s"),
        ("\"/system", "\"system", 34, "is no control group; expected a path from /"),
        (
            "label = \"batch\"",
            "label = \"a b\"",
            47,
            "label of tenant batch \"a b\" is no label; e",
        ),
        ("max = \"2G\"", "max = \"1M\"", 35, "near.max of tenant db \"1M\" is no whole 2M; expec"),
        ("max = \"2G\"", "max = \"2X\"", 35, "near.max of tenant db \"2X\" has an unknown unit"),
        ("min = \"1G\"", "min = \"3G\"", 35, "near.min of tenant db \"3G\" is more than max 2GiB"),
        (
            "max = \"2G\", min = \"1G\"",
            "min = \"6G\"",
            35,
            "makes 6GiB guaranteed of near memory; e",
        ),
        ("\"64M\"", "\"4G\"", 35, "near.pinned_max of tenant db \"4G\" is more than max 2GiB"),
        (
            "\"denied\"",
            "\"denied\", max = \"2M\"",
            36,
            "device.max of tenant db \"2M\" says nothing",
        ),
        ("\"denied\"", "\"no\"", 36, "\"no\" is unknown; expected \"allowed\" or \"denied\""),
        (
            "weight = 3",
            "weight = 1001",
            37,
            "weight of tenant db \"1001\" is out of range; expected",
        ),
        (
            "\"weighted-interleave\"",
            "\"some\"",
            38,
            "expected \"local\", \"bind\", \"preferred\", ",
        ),
        ("\"weighted-interleave\"", "\"local\"", 39, "say nothing under policy \"local\""),
        ("\"weighted-interleave\"", "\"preferred\"", 39, "\"2 nodes\" is too many; expected one"),
        ("\"0-1\"", "\"0-4\"", 39, "nodes of tenant db \"0-4\" is no node; expected one of near"),
        ("\"0-1\"", "[0, 0]", 39, "nodes of tenant db \"near\" is there twice"),
        (
            "nodes = \"0-1\"\n",
            "",
            38,
            "nodes of tenant db is missing; expected the nodes of policy",
        ),
        ("extended = \"any\"", "extended = \"all\"", 40, "expected \"any\", \"only\" or \"never\""),
        ("\"wait\"", "\"reclaims\"", 41, "expected \"fail\", \"fall-back\" or \"wait\""),
        ("\"wait\"", "\"reclaim\"", 41, "has no source of accesses yet; expected \"wait\""),
        ("\"wait\"", "\"fail\"", 42, "wait of tenant db \"2m\" says nothing here; expected it"),
        ("\"2m\"", "\"2y\"", 42, "wait of tenant db \"2y\" has an unknown unit"),
        ("\"2m\"", "\"0s\"", 42, "wait of tenant db \"0s\" is no time"),
        ("emergency = \"on\"", "emergency = \"yes\"", 43, "expected \"off\" or \"on\""),
        ("\"never\"", "\"ever\"", 50, "expected \"allowed\" or \"never\""),
        ("name = \"batch\"", "name = \"db\"", 46, "tenant name \"db\" is there twice"),
        ("name = \"batch\"", "name = \"b c\"", 46, "tenant name \"b c\" is no name"),
        ("label = \"batch\"\n", "", 52, "tenant \"rest\" is never reached: tenant batch before it"),
        ("\"device\"", "\"cxl\"", 24, "expected \"near\", \"far\" or \"device\""),
        ("\"private\"", "\"public\"", 27, "capabilities of node gpu say nothing here; expected"),
        ("\"private\"", "\"cdm\"", 26, "expected \"public\", \"special\" or \"private\""),
        ("\"user-numa\"", "\"numa\"", 27, "capabilities of node gpu \"numa\" is unknown; expected"),
        (
            "\"user-numa\"",
            "\"ksm\"",
            27,
            "capabilities of node gpu \"ksm\" is unknown; expected \"re",
        ),
        ("\"user-numa\"", "\"demotion\"", 27, "\"demotion\" needs \"reclaim\" beside it"),
        ("= 300", "= 0", 28, "read_latency_ns of node gpu \"0\" is out of range; expected 1 to"),
        ("\"20GiB\"", "\"1000\"", 29, "\"1000\" is no bandwidth; expected whole MiB a second"),
        ("near = 3\n", "near = 0\n", 56, "weights.near \"0\" is out of range; expected 1 to 255"),
        (
            "near = 3\n",
            "cxl = 3\n",
            56,
            "weights \"cxl\" is no node; expected one of near, far, gpu",
        ),
        (
            "\"user-numa\", \"fallback\"",
            "\"fallback\"",
            48,
            "policy of tenant batch \"bind gpu\" fails: the policy binds to node2, whose own",
        ),
        (
            "policy = \"bind\"",
            "policy = \"preferred\"",
            48,
            "policy of tenant batch \"preferred gpu\" fails: the policy names node2, which is",
        ),
        (
            "class = \"private\"",
            "class = \"private\"\nzone = \"normal\"",
            27,
            "zone of node gpu \"normal\" is unknown; expected \"kernel\", \"movable\", \
             \"prefer-movable\" or \"exmem\"",
        ),
        ("weight = 3", "wieght = 3", 37, "unknown field `wieght`"),
    ] {
        assert!(text.contains(from), "{from}");
        let (at, message) = parse(&text.replacen(from, to, 1)).unwrap_err();
        assert!(message.contains(expected), "{to}: {message}");
        assert_eq!(at, line, "{to}: {message}");
    }
}

/// Every one of these reads well and would surprise whoever runs it.
#[test]
fn tenants_that_nobody_reaches_and_that_reach_nothing_are_refused() {
    let text = with_tenants();
    let db = "name = \"db\"";
    for (from, to, line, expected) in [
        ("label = \"batch\"", "uid = 1000", 47, "uid of tenant batch \"1000\" is for tenant db"),
        (
            "label = \"batch\"",
            "label = \"b\"\ncgroup = [\"/x\", \"/system.slice/db.service/worker\"]",
            48,
            "\"/system.slice/db.service/worker\" is for tenant db before it; expected each in one",
        ),
        ("label = \"batch\"", "cgroup = \"/system.slice/db.service/\"", 47, "is for tenant db"),
        (
            "nodes = [\"gpu\"]",
            "nodes = [\"far\"]\nextended = \"never\"\non_depletion = \"fail\"",
            50,
            "tenant \"batch\" may use no node: none fits its policy, nodes, extended and access",
        ),
        (
            "nodes = [\"gpu\"]",
            "nodes = [\"far\"]\nfar = { access = \"denied\" }\non_depletion = \"fail\"",
            48,
            "tenant \"batch\" may use no node",
        ),
        (
            "nodes = [\"gpu\"]",
            "nodes = [\"far\"]\non_depletion = \"wait\"\nnear = { min = \"64M\" }",
            51,
            "near.min of tenant batch \"64MiB\" makes 64MiB guaranteed of near memory; expected at \
             most the 0B that this tenant can get",
        ),
        (
            "nodes = [\"gpu\"]",
            "nodes = [\"near\", \"hbm\"]\non_depletion = \"wait\"\nnear = { min = \"5G\" }",
            51,
            "makes 6GiB guaranteed of near memory; expected at most the 5GiB that there are",
        ),
        (
            "class = \"special\"",
            "",
            43,
            "emergency of tenant db \"on\" says nothing here; expected a node of class",
        ),
        (db, db, 0, ""),
    ] {
        let changed = text.replacen(from, to, 1);
        match parse(&changed) {
            Ok(_) => assert_eq!(line, 0, "{to}: is let through"),
            Err((at, message)) => {
                assert!(line > 0 && message.contains(expected), "{to}: {at}: {message}");
                assert_eq!(at, line, "{to}: {message}");
            }
        }
    }
    // Nothing is guaranteed of a node that is reached by naming it only.
    let outside = GOOD.replace("[\"far\", \"near\"]", "[\"far\"]");
    let tenant = "[[tenant]]\nname = \"t\"\non_depletion = \"fail\"\nnear = { min = \"64M\" }\n";
    let (at, message) = parse(&format!("{outside}{tenant}")).unwrap_err();
    assert!(message.contains("at most the 0B that this tenant can get"), "{message}");
    assert_eq!(at, 24);
    let named = tenant.replace("near =", "policy = \"bind\"\nnodes = \"near\"\nnear =");
    parse(&format!("{outside}{named}")).unwrap();
}

#[test]
fn control_groups_may_have_dots_in_their_names() {
    let text = with_tenants().replacen("label = \"batch\"", "cgroup = \"/a..b\"", 1);
    assert_eq!(parse(&text).unwrap().tenants[1].who, [Who::Cgroup("/a..b".to_owned())]);
    let (_, message) = parse(&text.replace("/a..b", "/a/../b")).unwrap_err();
    assert!(message.contains("is no control group"), "{message}");
}

#[test]
fn distances_are_given_for_all_or_for_none() {
    let near = "name = \"near\"\n";
    let far = "name = \"far\"\n";
    let both = GOOD
        .replace(near, "name = \"near\"\ndistances = { far = 20 }\n")
        .replace(far, "name = \"far\"\ndistances = { near = 30 }\n");
    let config = parse(&both).unwrap();
    assert_eq!(config.nodes[1].distances, BTreeMap::from([(0, 30)]));
    for (from, to, line, expected) in [
        (
            "far = 20",
            "far = 10",
            13,
            "distances of node near: far \"10\" is out of range; expected 11",
        ),
        ("far = 20", "near = 20", 13, "distances of node near \"near\" is itself"),
        ("far = 20", "fat = 20", 13, "distances of node near \"fat\" is no node; expected one of"),
        ("far = 20", "", 13, "distances of node near \"far\" is missing; expected the distances"),
        ("distances = { near = 30 }\n", "", 18, "distances of node far \"near\" is missing"),
    ] {
        let (at, message) = parse(&both.replacen(from, to, 1)).unwrap_err();
        assert!(message.contains(expected), "{to}: {message}");
        assert_eq!(at, line, "{to}: {message}");
    }
}

#[test]
fn the_engine_counts_whole_pageblocks_and_promises_no_more_than_the_file() {
    let text = with_tenants()
        .replace("max = \"2G\"", "max = \"2047M\"")
        .replace("min = \"1G\"", "min = \"3M\"")
        .replace("\"64M\"", "\"5M\"");
    let config = parse(&text).unwrap();
    let firsts = [Pageblock(0), Pageblock(2048), Pageblock(6144), Pageblock(6656)];
    let rules = config.rulebook(&firsts, &fresh_nodes(&config));
    let near = rules.tenants[0].quota(NodeKind::Near);
    assert_eq!((near.max, near.min, near.pinned_max), (Some(1023), 2, Some(2)));
    assert_eq!(rules.tenants[1].on_depletion, OnDepletion::FallBack);
    assert_eq!((rules.weighting, rules.weights), (Weighting::Manual, vec![(NodeId(0), 3)]));
    let config = parse(GOOD).unwrap();
    let everybody = config.rulebook(&firsts[..2], &fresh_nodes(&config));
    assert_eq!(everybody.tenants.len(), 1);
    assert_eq!(everybody.tenants[0].name, "everybody");
    assert!(everybody.tenants[0].who.iter().all(|who| who.fits(&Credentials::default())));
}

/// A configuration of any sort that makes sense.
fn random_config(random: &mut Random) -> Config {
    let count = 1 + random.below(4) as usize;
    let node = |index: usize, random: &mut Random| {
        let kind = NodeKind::ALL[random.below(3) as usize];
        let size = ByteSize::from_pageblocks(64 + random.below(64));
        let mut node = NodeConfig::new(&format!("n{index}"), kind, size, Backing::Memfd);
        node.performance = Performance {
            read_latency_ns: random.below(500) as u32,
            write_latency_ns: random.below(2) as u32 * 90,
            read_bandwidth_mib: random.below(3) as u32 * 1000,
            write_bandwidth_mib: random.below(70_000) as u32,
        };
        if index > 0 && random.below(3) == 0 {
            node.class = NodeClass::Special;
        }
        node
    };
    let mut nodes: Vec<_> = (0..count).map(|index| node(index, random)).collect();
    if random.below(2) == 0 {
        for (index, node) in nodes.iter_mut().enumerate() {
            let others = (0..count).filter(|other| *other != index);
            node.distances = others.map(|to| (to, 11 + random.below(244) as u8)).collect();
        }
    }
    let mut config = Config::new("/run/a \"b\"/\\c.sock".into(), nodes).unwrap();
    if random.below(2) == 0 {
        config.weights =
            Weights::Manual((0..count).map(|to| (to, 1 + random.below(255) as u8)).collect());
    }
    config.on_full = [OnFull::Fail, OnFull::Fallback][random.below(2) as usize];
    config.placement = (0..random.below(count as u64 + 1) as usize).rev().collect();
    config.accessors = (0..random.below(4)).map(|n| random_accessor(n, count, random)).collect();
    let accessors = config.accessors.len();
    config.tenants =
        (0..random.below(4)).map(|n| random_tenant(n, (count, accessors), random)).collect();
    let is_never = |tenant: &TenantConfig| tenant.migration == Migration::Never;
    let zones = if config.tenants.iter().any(is_never) { 1 } else { 3 };
    for node in &mut config.nodes {
        let zones = &[OnlineZone::PreferMovable, OnlineZone::Movable, OnlineZone::Kernel][..zones];
        node.zone = zones[random.below(zones.len() as u64) as usize];
    }
    let rules = PoolRules::new(&config.nodes, &config.accessors, &config.placement, config.on_full);
    let zonelists = rules.zonelists().unwrap();
    for tenant in &mut config.tenants {
        if config.nodes.iter().all(|node| node.class != NodeClass::Special) {
            tenant.emergency = Emergency::Off;
        }
        let makes_sense = tenant.policy.check(&zonelists, &rules.table).is_ok();
        if !makes_sense || rules.reach(tenant, &zonelists).is_empty() {
            (tenant.policy, tenant.quotas) = (MemPolicy::LOCAL, BTreeMap::new());
        }
    }
    config
}

fn random_accessor(number: u64, nodes: usize, random: &mut Random) -> AccessorConfig {
    let mut all = BTreeMap::new();
    let any = random.below(nodes as u64) as usize;
    for node in 0..nodes {
        let performance = Performance {
            read_latency_ns: 1 + random.below(500) as u32,
            write_latency_ns: random.below(2) as u32 * 90,
            read_bandwidth_mib: random.below(3) as u32 * 1000,
            write_bandwidth_mib: random.below(70_000) as u32,
        };
        if node == any || random.below(3) > 0 {
            all.insert(node, performance);
        }
    }
    AccessorConfig { name: format!("{number}-a_x"), nodes: all }
}

fn random_tenant(
    number: u64,
    (nodes, accessors): (usize, usize),
    random: &mut Random,
) -> TenantConfig {
    let mut tenant = TenantConfig::everybody(&format!("t{number}"));
    let who = [
        Who::Uid(random.below(1 << 32) as u32 & 0x7fff_ffff),
        Who::Gid((number * 70_000 + random.below(70_000)) as u32),
        Who::Cgroup(format!("/a.slice/ü \"q\"{number}")),
        Who::Label(format!("l.x-{number}")),
    ];
    let first = random.below(4) as usize;
    tenant.who = who[first..].to_vec();
    for kind in NodeKind::ALL.into_iter().take(random.below(4) as usize) {
        let max = ByteSize(PAGEBLOCK_BYTES * (8 + random.below(64)) + random.below(2));
        let mut quota = Quota { max: Some(max), ..Quota::default() };
        quota.pinned_max = (random.below(2) == 0).then(|| ByteSize(random.below(max.0)));
        if random.below(4) == 0 {
            quota = Quota { access: Access::Denied, ..Quota::default() };
        }
        tenant.quotas.insert(kind, quota);
    }
    tenant.weight = 1 + random.below(1000) as u32;
    let mask = || (0..nodes).map(crate::daemon::node_id).collect();
    let mode = match random.below(7) {
        6 if accessors > 0 => {
            let accessed = (0..accessors).filter(|&id| id == 0 || id == number as usize);
            let by = accessed.map(|id| (accessor_id(id), 1 + random.below(1 << 32) / 2));
            Mode::AccessedBy(by.collect())
        }
        0 | 6 => Mode::Local,
        1 => Mode::Bind(mask()),
        2 => Mode::Preferred(NodeId(0)),
        3 => Mode::PreferredMany(mask()),
        4 => Mode::Interleave(mask()),
        _ => Mode::WeightedInterleave(mask()),
    };
    let extended = [Extended::Any, Extended::Only, Extended::Never][random.below(3) as usize];
    tenant.policy = MemPolicy { mode, extended };
    let wait = Duration::from_millis(1 + random.below(1000));
    tenant.on_depletion = match random.below(4) {
        0 => None,
        1 => Some(OnDepletion::Fail),
        2 => Some(OnDepletion::FallBack),
        _ => Some(OnDepletion::Wait(wait)),
    };
    tenant.emergency = [Emergency::On, Emergency::Off][random.below(2) as usize];
    tenant.migration = [Migration::Allowed, Migration::Never][random.below(2) as usize];
    tenant
}

#[test]
fn any_configuration_that_is_written_reads_the_same() {
    for seed in 0..500 {
        let config = random_config(&mut Random::new(seed));
        let text = config.to_toml();
        let read = parse(&text).unwrap_or_else(|e| panic!("seed {seed}: {e:?}\n{text}"));
        assert_eq!(read, config, "seed {seed}:\n{text}");
    }
}

/// A file of one node in a zone, and one tenant.
fn in_zone(kind: &str, zone: &str, tenant: &str) -> Result<Config, (usize, String)> {
    parse(&format!(
        "socket = \"/s\"\n[[node]]\nname = \"n\"\nkind = \"{kind}\"\nsize = \"1G\"\n\
         zone = \"{zone}\"\n[[tenant]]\nname = \"t\"\n{tenant}\n"
    ))
}

#[test]
fn a_zone_is_read_and_kernel_unless_said_otherwise() {
    assert!(parse(GOOD).unwrap().nodes.iter().all(|node| node.zone == OnlineZone::Kernel));
    for zone in OnlineZone::ALL {
        let config = in_zone("far", zone.name(), "").unwrap();
        assert_eq!(config.nodes[0].zone, zone);
        assert_eq!(parse(&config.to_toml()).unwrap(), config);
    }
}

#[test]
fn a_tenant_that_is_never_moved_reaches_nothing_where_only_what_can_move_may_lie() {
    let never = "migration = \"never\"";
    for zone in OnlineZone::ALL {
        let read = in_zone("near", zone.name(), never);
        match zone {
            OnlineZone::Kernel | OnlineZone::PreferMovable => drop(read.unwrap()),
            OnlineZone::Movable | OnlineZone::Exmem => {
                let (_, message) = read.unwrap_err();
                assert!(message.contains("by its zone; expected one at least"), "{message}");
            }
        }
    }
    // EXMEM is extended memory, near as it is.
    in_zone("near", "exmem", "extended = \"only\"").unwrap();
    in_zone("near", "exmem", "extended = \"never\"").unwrap_err();
    in_zone("near", "kernel", "extended = \"only\"").unwrap_err();
}

#[test]
fn garbage_is_refused_without_a_panic() {
    let text = with_tenants();
    for seed in 0..2000 {
        let mut random = Random::new(seed);
        let mut bytes = text.clone().into_bytes();
        for _ in 0..1 + random.below(4) {
            let at = random.below(bytes.len() as u64) as usize;
            match random.below(3) {
                0 => bytes[at] = random.below(128) as u8,
                1 => drop(bytes.drain(at..(at + 9).min(bytes.len()))),
                _ => bytes.insert(at, b"=[]{}\"'\n"[random.below(8) as usize]),
            }
        }
        // Whether it makes sense is of no interest.
        let _ = parse(&String::from_utf8_lossy(&bytes));
    }
}

/// The example that is installed, as it is and with all that is commented out in it.
#[test]
fn the_packaged_example_is_good() {
    let text = include_str!("../../../../packaging/memtide.toml");
    assert_eq!(parse(text).unwrap().tenants, []);
    let (plain, tenants) = text.split_once("#\n# [[tenant]]").expect("commented tenants");
    // What is a sentence stays a comment.
    let is_text = |line: &str| line.starts_with("# Who ") || line.starts_with("# accessed-by");
    let lines = tenants.lines().filter(|line| !is_text(line));
    let lines = lines.map(|line| line.strip_prefix("# ").unwrap_or(line));
    let tenants = lines.collect::<Vec<_>>().join("\n");
    // A user that not every machine has.
    let tenants = tenants.replace("\"postgres\"", "\"root\"");
    let whole = parse(&format!("{plain}\n[[tenant]]{tenants}")).unwrap();
    let names: Vec<_> = whole.tenants.iter().map(|tenant| tenant.name.as_str()).collect();
    assert_eq!(names, ["db", "batch", "inference", "everybody-else"]);
    assert_eq!(whole.accessors.len(), 2);
}
