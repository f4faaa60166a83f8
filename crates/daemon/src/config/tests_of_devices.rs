//! Nodes of devices: what is read, what is refused, who may use them.

use std::path::{Path, PathBuf};

use memtide_fabric::Address;
use memtide_proto::program::Backing;
use memtide_units::ByteSize;

use super::{Accept, Config, SharedWith, Wants};

const GOOD: &str = r#"
[[node]]
name = "near"
kind = "near"
size = "4G"

[[node]]
name = "dcd0"
kind = "far"
store = "dcd"
fabric = "unix:/run/fabric.sock"
host = 3

[[tenant]]
name = "db"
uid = 7
trusted = true

[[tenant]]
name = "others"
far = { access = "denied" }
"#;

fn parse(text: &str) -> Result<Config, (usize, String)> {
    Config::parse(text, Path::new("/default.sock")).map_err(|(offset, problem)| {
        (text[..offset].matches('\n').count() + 1, problem.to_string())
    })
}

#[test]
fn a_node_of_a_device_says_where_the_device_is() {
    let config = parse(GOOD).unwrap();
    let (node, dcd) = (&config.nodes[1], config.nodes[1].dcd.as_ref().unwrap());
    assert_eq!((node.backing, node.size), (Backing::Dcd, ByteSize(1 << 40)));
    assert_eq!(dcd.fabric, Address::Unix(PathBuf::from("/run/fabric.sock")));
    assert_eq!((dcd.host, dcd.accept, &dcd.manager), (3, Accept::All, &None));
    assert_eq!((dcd.shared_with, dcd.wants), (SharedWith::Trusted, Wants::Nothing));
    assert!(config.tenants[0].trusted && !config.tenants[1].trusted);
    assert!(node.is_shared_with(&config.tenants[0]));
    assert!(!node.is_shared_with(&config.tenants[1]));
    assert_eq!(config.nodes[0].dcd, None);
}

#[test]
fn what_is_written_of_a_device_reads_the_same() {
    for more in [
        "",
        "accept = \"none\"\nwindow = \"64G\"",
        "accept = \"3G\"\nshared_with = \"everybody\"",
        "manager = \"tcp:fm:7000\"",
        "manager = \"/run/fm.sock\"\nhost_name = \"rack-3.h7\"",
        "manager = \"/run/fm.sock\"\nwants = \"automatic\"",
        "manager = \"/run/fm.sock\"\nwants = \"64G\"",
    ] {
        let config = parse(&GOOD.replace("host = 3", &format!("host = 3\n{more}"))).unwrap();
        let text = config.to_toml();
        assert_eq!(parse(&text).map_err(|error| panic!("{error:?}: {text}")).unwrap(), config);
    }
}

#[test]
fn every_mistake_about_a_device_is_named_with_its_line_and_what_was_expected() {
    let replace = |from: &str, to: &str| parse(&GOOD.replace(from, to)).unwrap_err();
    for (from, to, line, text) in [
        ("host = 3", "", 8, "host of node dcd0 is missing; expected it for store \"dcd\""),
        ("fabric = \"unix:/run/fabric.sock\"", "", 8, "fabric of node dcd0 is missing"),
        ("\"unix:/run/fabric.sock\"", "\"here\"", 11, "\"here\" is no address; expected unix:PATH"),
        ("\"unix:/run/fabric.sock\"", "\"tcp:h:1\"", 11, "cannot hand over memory"),
        ("\"unix:/run/fabric.sock\"", "\"unix:fabric\"", 11, "a path from /"),
        ("host = 3", "host = 65536", 12, "expected 0 to 65535"),
        ("host = 3", "host = 3\nsize = \"1G\"", 13, "size of node dcd0 \"1G\" is the device's"),
        ("host = 3", "host = 3\naccept = \"some\"", 13, "expected \"all\", \"none\", or a size"),
        ("host = 3", "host = 3\nwindow = \"3M\"", 13, "not a whole number of blocks"),
        ("host = 3", "host = 3\nwindow = \"65T\"", 13, "is too much; expected at most 64TiB"),
        ("host = 3", "host = 3\nshared_with = \"me\"", 13, "expected \"trusted\" or \"everybody\""),
        ("host = 3", "host = 3\nhost_name = \"x\"", 13, "is told to nobody"),
        ("host = 3", "host = 3\nmanager = \"/m\"\nhost_name = \"a b\"", 14, "is no name"),
        ("host = 3", "host = 3\nwants = \"automatic\"", 13, "\"automatic\" is told to nobody"),
        ("host = 3", "host = 3\nmanager = \"/m\"\nwants = \"all\"", 14, "expected \"nothing\""),
        (
            "size = \"4G\"",
            "size = \"4G\"\nwants = \"nothing\"",
            6,
            "wants of node near says nothing",
        ),
        ("size = \"4G\"", "size = \"4G\"\nhost = 1", 6, "host of node near says nothing here"),
        ("size = \"4G\"", "", 3, "size of node near is missing"),
        ("trusted = true", "", 15, "tenant \"db\" can get memory of node dcd0"),
        ("far = { access = \"denied\" }", "", 20, "tenant \"others\" can get memory of node dcd0"),
        ("trusted = true", "trusted = true\nfar = { min = \"1G\" }", 18, "expected at most the 0B"),
    ] {
        let (at, message) = replace(from, to);
        assert!(message.contains(text), "{to}: {message}");
        assert_eq!(at, line, "{to}: {message}");
    }
}

#[test]
fn without_tenants_everybody_has_to_be_trusted_by_name() {
    let pool = GOOD.split("[[tenant]]").next().unwrap();
    let (_, message) = parse(pool).unwrap_err();
    assert!(message.contains("tenant \"everybody\" can get memory of node dcd0"), "{message}");
    assert!(message.contains("expected trusted = true"), "{message}");
    let shared = pool.replace("host = 3", "host = 3\nshared_with = \"everybody\"");
    parse(&shared).unwrap();
}

#[test]
fn who_is_bound_elsewhere_need_not_be_trusted() {
    let bound = "policy = \"bind\"\nnodes = \"near\"";
    parse(&GOOD.replace("far = { access = \"denied\" }", bound)).unwrap();
    // It could fall back on it.
    let preferred = "policy = \"preferred-many\"\nnodes = \"near\"";
    parse(&GOOD.replace("far = { access = \"denied\" }", preferred)).unwrap_err();
}
