//! Accessors and tenants whose memory follows them: what is read, what is refused, what the engine
//! is told.

use std::{collections::BTreeMap, path::Path};

use memtide_engine::{
    Engine, Performance,
    mempolicy::{Extended, MemPolicy, Mode},
    tiers::Access,
};
use memtide_units::{AccessorId, NodeId, NodeKind, Pageblock};

use super::{Config, reach::PoolRules};
use crate::start::fresh_nodes;

const GOOD: &str = r#"
[[node]]
name = "near"
kind = "near"
size = "1G"
[[node]]
name = "far"
kind = "far"
size = "1G"
[[node]]
name = "card"
kind = "device"
class = "special"
size = "512M"
[[node]]
name = "own"
kind = "device"
class = "private"
capabilities = ["user-numa"]
size = "512M"

[[accessor]]
name = "cpu"
nodes.near = { read_latency_ns = 100, read_bandwidth = "40GiB" }
nodes.far = { read_latency_ns = 250, write_latency_ns = 300 }
nodes.card = { write_latency_ns = 800, write_bandwidth = "512M" }
[[accessor]]
name = "gpu0"
[accessor.nodes]
near = { read_latency_ns = 700 }
card = { read_latency_ns = 100 }
[[accessor]]
name = "npu"
nodes.own = { read_latency_ns = 50 }

[[tenant]]
name = "db"
uid = 7
policy = "accessed-by"
accessors = { gpu0 = 9, cpu = 1 }
extended = "any"

[[tenant]]
name = "others"
"#;

fn parse(text: &str) -> Result<Config, (usize, String)> {
    Config::parse(text, Path::new("/default.sock")).map_err(|(offset, problem)| {
        (text[..offset].matches('\n').count() + 1, problem.to_string())
    })
}

const CPU: AccessorId = AccessorId(0);
const GPU: AccessorId = AccessorId(1);

#[test]
fn accessors_are_read_and_tenants_name_them() {
    let config = parse(GOOD).unwrap();
    let [cpu, gpu, npu] = config.accessors.as_slice() else { panic!("{config:?}") };
    assert_eq!([&cpu.name, &gpu.name, &npu.name], ["cpu", "gpu0", "npu"]);
    let nothing = Performance::default();
    let near = Performance { read_latency_ns: 100, read_bandwidth_mib: 40 << 10, ..nothing };
    let far = Performance { read_latency_ns: 250, write_latency_ns: 300, ..nothing };
    let card = Performance { write_latency_ns: 800, write_bandwidth_mib: 512, ..nothing };
    assert_eq!(cpu.nodes, BTreeMap::from([(0, near), (1, far), (2, card)]));
    assert_eq!(gpu.nodes.keys().copied().collect::<Vec<_>>(), [0, 2]);
    let mode = Mode::AccessedBy(vec![(CPU, 1), (GPU, 9)]);
    assert_eq!(config.tenants[0].policy, MemPolicy { mode, extended: Extended::Any });
    assert_eq!(config.tenants[1].policy, MemPolicy::LOCAL);
}

#[test]
fn what_is_written_of_accessors_reads_the_same() {
    let config = parse(GOOD).unwrap();
    let text = config.to_toml();
    assert_eq!(parse(&text).map_err(|error| panic!("{error:?}: {text}")).unwrap(), config);
    assert!(text.contains("accessors = { cpu = 1, gpu0 = 9 }"), "{text}");
    assert!(text.contains("nodes.far = { read_latency_ns = 250, write_latency_ns = 300 }"));
}

#[test]
fn the_engine_is_told_every_pair() {
    let config = parse(GOOD).unwrap();
    let firsts = [Pageblock(0), Pageblock(512), Pageblock(1024), Pageblock(1280)];
    let rules = config.rulebook(&firsts, &fresh_nodes(&config));
    let pairs: Vec<_> = rules.accessors.iter().map(|at| (at.accessor.0, at.node.0)).collect();
    assert_eq!(pairs, [(0, 0), (0, 1), (0, 2), (1, 0), (1, 2), (2, 3)]);
    let of = |accessor, node| {
        let found = |at: &&Access| (at.accessor, at.node) == (accessor, NodeId(node));
        rules.accessors.iter().find(found).unwrap().performance
    };
    assert_eq!(of(CPU, 1), config.accessors[0].nodes[&1]);
    assert_eq!(of(GPU, 2), config.accessors[1].nodes[&2]);
    Engine::new(rules).unwrap();
}

#[test]
fn every_mistake_about_accessors_is_named_with_its_line_and_what_was_expected() {
    for (from, to, line, expected) in [
        ("name = \"cpu\"", "name = \"c u\"", 23, "accessor name \"c u\" is no name; expected 1 to"),
        ("name = \"gpu0\"", "name = \"cpu\"", 28, "accessor name \"cpu\" is there twice"),
        ("nodes.own = { read_latency_ns = 50 }\n", "", 33, "nodes of accessor npu are missing"),
        (
            "nodes.own =",
            "nodes.hbm =",
            34,
            "nodes of accessor npu \"hbm\" is no node; expected one of near, far, card, own",
        ),
        (
            "near = { read_latency_ns = 700 }",
            "near = { read_latency_ns = 0 }",
            30,
            "read_latency_ns of accessor gpu0 to node near \"0\" is out of range; expected 1 to \
             1000000000 nanoseconds",
        ),
        (
            "card = { read_latency_ns = 100 }",
            "card = { read_bandwidth = \"1G\" }",
            31,
            "latency of accessor gpu0 to node card is missing; expected read_latency_ns, \
             write_latency_ns or both",
        ),
        (
            "\"512M\" }",
            "\"512\" }",
            26,
            "write_bandwidth of accessor cpu to node card \"512\" is no bandwidth",
        ),
        ("write_latency_ns = 300", "latency-ns = 300", 25, "unknown field `latency-ns`"),
        ("nodes.far =", "nodes.near =", 25, "duplicate key"),
        ("nodes.far =", "node.far =", 25, "unknown field `node`"),
        ("nodes.own = { read_latency_ns = 50 }", "nodes.own = 50", 34, "invalid type: integer"),
        (
            "\"accessed-by\"",
            "\"accessed\"",
            39,
            "\"accessed\" is unknown; expected \"local\", \"bind\"",
        ),
        (
            "accessors = { gpu0 = 9, cpu = 1 }\n",
            "",
            39,
            "accessors of tenant db are missing; expected who accesses its memory and how often",
        ),
        ("{ gpu0 = 9, cpu = 1 }", "{}", 40, "accessors of tenant db are missing; expected who"),
        (
            "gpu0 = 9",
            "gpu9 = 9",
            40,
            "accessors of tenant db \"gpu9\" is no accessor; expected one of cpu, gpu0, npu",
        ),
        (
            "cpu = 1 }",
            "cpu = 0 }",
            40,
            "accessors.cpu of tenant db \"0\" is out of range; expected 1 to 4294967295",
        ),
        ("cpu = 1 }", "cpu = -1 }", 40, "accessors.cpu of tenant db \"-1\" is out of range"),
        ("cpu = 1 }", "cpu = 4294967296 }", 40, "\"4294967296\" is out of range"),
        ("cpu = 1 }", "gpu0 = 1 }", 40, "duplicate key"),
        ("cpu = 1 }", "cpu = \"1\" }", 40, "invalid type: string \"1\", expected i64"),
        (
            "extended = \"any\"",
            "nodes = [\"near\"]",
            41,
            "nodes of tenant db say nothing under policy \"accessed-by\"; expected another policy",
        ),
        (
            "policy = \"accessed-by\"",
            "policy = \"preferred\"\nnodes = \"near\"",
            41,
            "accessors of tenant db say nothing under policy \"preferred\"; expected policy \
             \"accessed-by\"",
        ),
        (
            "name = \"others\"",
            "name = \"others\"\naccessors = { cpu = 1 }",
            45,
            "accessors of tenant others say nothing under policy \"local\"",
        ),
        // Of the one node that all of them reach nobody gets anything but by binding to it; and
        // there is no node at all that all of these reach.
        (
            "{ gpu0 = 9, cpu = 1 }",
            "{ npu = 1 }",
            39,
            "policy of tenant db \"accessed-by npu=1\" fails: the policy is for memory that 1 acc",
        ),
        (
            "{ gpu0 = 9, cpu = 1 }",
            "{ npu = 2, cpu = 1 }",
            39,
            "policy of tenant db \"accessed-by cpu=1,npu=2\" fails: the policy is for memory that 2",
        ),
        // It reaches near memory and the card's, and may have neither.
        (
            "extended = \"any\"",
            "near = { access = \"denied\" }\ndevice = { access = \"denied\" }",
            39,
            "tenant \"db\" may use no node",
        ),
        (
            "extended = \"any\"",
            "far = { min = \"2M\" }",
            41,
            "far.min of tenant db \"2MiB\" makes 2MiB guaranteed of far memory; expected at most \
             the 0B that this tenant can get",
        ),
    ] {
        assert!(GOOD.contains(from), "{from}");
        let (at, message) = parse(&GOOD.replacen(from, to, 1)).expect_err(to);
        assert!(message.contains(expected), "{to}: {message}");
        assert_eq!(at, line, "{to}: {message}");
    }
}

#[test]
fn without_accessors_there_is_none_to_name() {
    let (start, rest) = GOOD.split_once("[[accessor]]").unwrap();
    let (_, tenants) = rest.split_once("[[tenant]]").unwrap();
    let (_, message) = parse(&format!("{start}[[tenant]]{tenants}")).unwrap_err();
    let expected = "is no accessor; expected an [[accessor]] table of that name";
    assert!(message.contains(expected), "{message}");
}

#[test]
fn a_pool_has_a_limited_number_of_accessors() {
    let with = |count: usize| {
        let more = (0..count).map(|number| {
            format!("[[accessor]]\nname = \"a{number}\"\nnodes.near = {{ read_latency_ns = 1 }}\n")
        });
        parse(&format!("{GOOD}{}", more.collect::<String>()))
    };
    assert_eq!(with(61).unwrap().accessors.len(), 64);
    let (line, message) = with(62).unwrap_err();
    assert!(message.contains("accessor \"65\" is too many; expected at most 64"), "{message}");
    assert_eq!(line, GOOD.matches('\n').count() + 61 * 3 + 1);
}

/// A node of special memory is reached by those who say that it is theirs, and a guarantee of it
/// counts.
#[test]
fn what_they_reach_is_what_their_tenant_can_get() {
    let config = parse(&GOOD.replace("extended = \"any\"", "device = { min = \"512M\" }")).unwrap();
    let rules = PoolRules::new(&config.nodes, &config.accessors, &config.placement, config.on_full);
    let zonelists = rules.zonelists().unwrap();
    let reach = |tenant: usize| rules.reach(&config.tenants[tenant], &zonelists);
    assert_eq!(reach(0).into_iter().collect::<Vec<_>>(), [0, 2]);
    assert_eq!(reach(1).into_iter().collect::<Vec<_>>(), [0, 1]);
    assert_eq!(config.nodes[2].kind, NodeKind::Device);
    // For a processor it is nobody's but in an emergency.
    let processor = GOOD.replace("{ gpu0 = 9, cpu = 1 }", "{ cpu = 1 }");
    parse(&processor).unwrap();
    let asks = processor.replace("extended = \"any\"", "device = { min = \"2M\" }");
    let (_, message) = parse(&asks).unwrap_err();
    assert!(message.contains("at most the 0B that this tenant can get"), "{message}");
    // Who can fall back gets what is left out, but nothing that they do not reach.
    let fallback = GOOD.replace("extended = \"any\"", "on_depletion = \"fall-back\"");
    let config = parse(&fallback).unwrap();
    let rules = PoolRules::new(&config.nodes, &config.accessors, &config.placement, config.on_full);
    assert!(!rules.reach(&config.tenants[0], &zonelists).contains(&1));
}

/// One file of a device's memory is kept from who is not trusted with it, whoever works on it.
#[test]
fn who_is_not_trusted_with_a_devices_file_is_not_brought_to_it() {
    let dcd = GOOD.replace(
        "class = \"special\"\nsize = \"512M\"",
        "class = \"special\"\nstore = \"dcd\"\nfabric = \"unix:/run/f.sock\"\nhost = 0",
    );
    let (_, message) = parse(&dcd).unwrap_err();
    assert!(message.contains("tenant \"db\" can get memory of node card"), "{message}");
    parse(&dcd.replace("extended = \"any\"", "trusted = true")).unwrap();
}
