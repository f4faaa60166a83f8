//! `[[node]]`: one node each, their order, their distances, their weights.

use std::collections::{BTreeMap, BTreeSet};

use memtide_engine::{
    Performance,
    nodes::{Capabilities, Capability, NodeClass},
};
use memtide_proto::program::Backing;
use memtide_units::{ByteSize, NodeKind, OnlineZone, PAGEBLOCK_BYTES};
use toml::Spanned;

use super::{
    MAX_NAME, check_size,
    dcd::{self, DcdConfig},
    numa::{self, NumaConfig},
    raw::{
        Located, Number, RawNode, RawPlacement, RawWeights, Text, either, number, size, word,
        wrong, wrong_at,
    },
};

/// Bytes of a MiB, the unit of bandwidths.
const MIB: u64 = 1 << 20;
/// Distances to other nodes, as ACPI's SLIT has them: 10 is to itself, 255 is unreachable.
const DISTANCES: (i64, i64) = (11, 254);
/// Weights of the weighted interleave, as Linux has them.
const WEIGHTS: (i64, i64) = (1, 255);
/// Longest latency: a second.
const LATENCY_MAX_NS: i64 = 1_000_000_000;

/// What the owner of a private node may permit, by name: that of it which makes a difference.
pub(super) const CAPABILITIES: [(&str, Capability); 6] = [
    ("reclaim", Capability::Reclaim),
    ("user-numa", Capability::UserNuma),
    ("demotion", Capability::Demotion),
    ("numa-balancing", Capability::NumaBalancing),
    ("long-term-pin", Capability::LongTermPin),
    ("fallback", Capability::Fallback),
];

/// One node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeConfig {
    /// Its name.
    pub name: String,
    /// Near, far, or of a device.
    pub kind: NodeKind,
    /// How large; a whole number of blocks. Of a device, how large it could be at most.
    pub size: ByteSize,
    /// What it is made of.
    pub backing: Backing,
    /// Who reaches it.
    pub class: NodeClass,
    /// What may lie in its blocks: those that are there at the start, and those that come later
    /// unless it is said otherwise.
    pub zone: OnlineZone,
    /// How fast it is.
    pub performance: Performance,
    /// How far other nodes are, by their positions: 11 to 254. Empty in all nodes or in none.
    pub distances: BTreeMap<usize, u8>,
    /// Where its capacity comes from, if it is a device's ([`Backing::Dcd`]).
    pub dcd: Option<DcdConfig>,
    /// On which NUMA node it lies, if on one.
    pub numa: Option<NumaConfig>,
}

impl NodeConfig {
    /// A public node, nothing known of its speed and distances.
    #[must_use]
    pub fn new(name: &str, kind: NodeKind, size: ByteSize, backing: Backing) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            size,
            backing,
            class: NodeClass::Public,
            zone: OnlineZone::default(),
            performance: Performance::default(),
            distances: BTreeMap::new(),
            dcd: None,
            numa: None,
        }
    }
}

/// Who sets the weights of the weighted interleave.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Weights {
    /// They follow the bandwidths.
    #[default]
    Automatic,
    /// These, 1 to 255, by the nodes' positions; 1 for all others.
    Manual(BTreeMap<usize, u8>),
}

/// A name of a node, a tenant or an accessor.
pub(super) fn name(at: &Text, field: &str, seen: &mut BTreeSet<String>) -> Result<String, Located> {
    let name = at.get_ref();
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(plain) {
        let text = format!("is no name; expected 1 to {MAX_NAME} letters, digits, - and _");
        return Err(wrong(at, field, name, text));
    }
    if !seen.insert(name.clone()) {
        return Err(wrong(at, field, name, "is there twice; expected unique names"));
    }
    Ok(name.clone())
}

pub(super) fn block(value: Option<&Text>) -> Result<ByteSize, Located> {
    let Some(at) = value else { return Ok(ByteSize(PAGEBLOCK_BYTES)) };
    let size = size(at, "block")?;
    if size.0 < PAGEBLOCK_BYTES || !size.0.is_power_of_two() {
        let text = "is not a block; expected 2M or 2M times a power of two";
        return Err(wrong(at, "block", at.get_ref(), text));
    }
    Ok(size)
}

pub(super) fn nodes(raw: &[Spanned<RawNode>], block: ByteSize) -> Result<Vec<NodeConfig>, Located> {
    let mut seen = BTreeSet::new();
    let nodes: Result<Vec<_>, _> =
        raw.iter().map(|raw| node(raw.get_ref(), block, &mut seen)).collect();
    let mut nodes = nodes?;
    let names: Vec<String> = nodes.iter().map(|node| node.name.clone()).collect();
    let some = raw.iter().any(|raw| raw.get_ref().distances.is_some());
    for (index, raw) in raw.iter().enumerate().filter(|_| some) {
        nodes[index].distances = distances(raw.get_ref(), index, &names)?;
    }
    Ok(nodes)
}

fn node(
    raw: &RawNode,
    block: ByteSize,
    seen: &mut BTreeSet<String>,
) -> Result<NodeConfig, Located> {
    let name = name(&raw.name, "node name", seen)?;
    let field = |field: &str| format!("{field} of node {name}");
    let kinds = NodeKind::ALL.map(|kind| (kind.to_string(), kind));
    let kinds: Vec<_> = kinds.iter().map(|(word, kind)| (word.as_str(), *kind)).collect();
    let kind = word(Some(&raw.kind), &field("kind"), NodeKind::Near, &kinds)?;
    let backings = [
        ("memfd", Backing::Memfd),
        ("memfd-thp", Backing::MemfdThp),
        ("hugetlb", Backing::Hugetlb),
        ("dcd", Backing::Dcd),
    ];
    let backing = word(raw.store.as_ref(), &field("store"), Backing::Memfd, &backings)?;
    let at = raw.name.span().start;
    let (bytes, dcd) = if backing == Backing::Dcd {
        (dcd::window(raw, &field)?, Some(dcd::dcd(raw, at, &field)?))
    } else {
        dcd::check_none(raw, &field)?;
        (own_size(raw, &field)?, None)
    };
    let given = raw.size.as_ref().or(raw.window.as_ref());
    let (sized, value) = given.map_or((at, ""), |at| (at.span().start, at.get_ref()));
    check_size(bytes, block).map_err(|text| wrong_at(sized, &field("size"), value, text))?;
    let numa = numa::numa(raw, backing, (bytes, block), &field)?;
    let class = class(raw, &field)?;
    let zones = OnlineZone::ALL.map(|zone| (zone.name(), zone));
    let zone = word(raw.zone.as_ref(), &field("zone"), OnlineZone::default(), &zones)?;
    let performance = performance(
        [&raw.read_latency_ns, &raw.write_latency_ns],
        [&raw.read_bandwidth, &raw.write_bandwidth],
        &field,
    )?;
    let plain = NodeConfig::new(&name, kind, bytes, backing);
    Ok(NodeConfig { class, zone, performance, dcd, numa, ..plain })
}

fn own_size(raw: &RawNode, field: &impl Fn(&str) -> String) -> Result<ByteSize, Located> {
    match &raw.size {
        Some(at) => size(at, &field("size")),
        None => {
            let text = "is missing; expected it, as size = \"4G\"";
            Err(wrong_at(raw.name.span().start, &field("size"), "", text))
        }
    }
}

fn class(raw: &RawNode, field: &impl Fn(&str) -> String) -> Result<NodeClass, Located> {
    let classes = [
        ("public", NodeClass::Public),
        ("special", NodeClass::Special),
        ("private", NodeClass::Private(Capabilities::NONE)),
    ];
    let class = word(raw.class.as_ref(), &field("class"), NodeClass::Public, &classes)?;
    let Some(list) = &raw.capabilities else { return Ok(class) };
    let NodeClass::Private(none) = class else {
        let text = "say nothing here; expected them on a node of class \"private\" only";
        return Err(wrong(list, &field("capabilities"), "", text));
    };
    let mut all = none;
    for at in list.get_ref() {
        let one = word(Some(at), &field("capabilities"), Capability::Reclaim, &CAPABILITIES)?;
        all = all.with(one);
    }
    if all.has(Capability::Demotion) && !all.has(Capability::Reclaim) {
        let text = "needs \"reclaim\" beside it: what is demoted there must be able to leave";
        return Err(wrong(list, &field("capabilities"), "demotion", text));
    }
    Ok(NodeClass::Private(all))
}

/// How fast something is, reading and writing; what is not said is not known.
pub(super) fn performance(
    [read_latency, write_latency]: [&Option<Number>; 2],
    [read_bandwidth, write_bandwidth]: [&Option<Text>; 2],
    field: &impl Fn(&str) -> String,
) -> Result<Performance, Located> {
    let latency = |at: &Option<Number>, name: &str| match at {
        None => Ok(0),
        Some(at) => number(at, &field(name), (1, LATENCY_MAX_NS), " nanoseconds"),
    };
    let bandwidth = |at: &Option<Text>, name: &str| match at {
        None => Ok(0),
        Some(at) => bandwidth(at, &field(name)),
    };
    Ok(Performance {
        read_latency_ns: latency(read_latency, "read_latency_ns")?,
        write_latency_ns: latency(write_latency, "write_latency_ns")?,
        read_bandwidth_mib: bandwidth(read_bandwidth, "read_bandwidth")?,
        write_bandwidth_mib: bandwidth(write_bandwidth, "write_bandwidth")?,
    })
}

/// MiB a second.
fn bandwidth(at: &Text, field: &str) -> Result<u32, Located> {
    let bytes = size(at, field)?.0;
    let mib = u32::try_from(bytes / MIB).ok().filter(|mib| *mib > 0 && bytes.is_multiple_of(MIB));
    mib.ok_or_else(|| {
        let text = "is no bandwidth; expected whole MiB a second, such as \"20GiB\"";
        wrong(at, field, at.get_ref(), text)
    })
}

/// How far all others are. Whoever gives one gives all: a wrong guess would send memory astray.
fn distances(raw: &RawNode, own: usize, names: &[String]) -> Result<BTreeMap<usize, u8>, Located> {
    let field = format!("distances of node {}", names[own]);
    let none = BTreeMap::new();
    let table = raw.distances.as_ref().map_or(&none, Spanned::get_ref);
    let mut all = BTreeMap::new();
    for (name, at) in table {
        match names.iter().position(|other| other == name) {
            Some(index) if index != own => {
                all.insert(index, number(at, &format!("{field}: {name}"), DISTANCES, "")?);
            }
            Some(_) => return Err(wrong(at, &field, name, "is itself; expected other nodes")),
            None => return Err(no_node(at.span().start, &field, name, names)),
        }
    }
    let missing = (0..names.len()).find(|index| *index != own && !all.contains_key(index));
    match missing {
        None => Ok(all),
        Some(index) => {
            let at = raw.distances.as_ref().map_or(raw.name.span(), Spanned::span).start;
            let text = "is missing; expected the distances from every node to all others, or none";
            Err(wrong_at(at, &field, &names[index], text))
        }
    }
}

/// A name that no node has.
pub(super) fn no_node(at: usize, field: &str, name: &str, names: &[String]) -> Located {
    wrong_at(at, field, name, format!("is no node; expected one of {}", names.join(", ")))
}

pub(super) fn placement(
    raw: Option<&RawPlacement>,
    nodes: &[NodeConfig],
) -> Result<Vec<usize>, Located> {
    let mut order = Vec::new();
    let names: Vec<String> = nodes.iter().map(|node| node.name.clone()).collect();
    for at in raw.iter().flat_map(|placement| &placement.order) {
        match names.iter().position(|name| name == at.get_ref()) {
            Some(index) if !order.contains(&index) => order.push(index),
            Some(_) => {
                let text = "is there twice; expected each node once";
                return Err(wrong(at, "placement.order", at.get_ref(), text));
            }
            None => return Err(no_node(at.span().start, "placement.order", at.get_ref(), &names)),
        }
    }
    Ok(order)
}

pub(super) fn weights(
    raw: Option<&Spanned<RawWeights>>,
    nodes: &[NodeConfig],
) -> Result<Weights, Located> {
    let Some(at) = raw else { return Ok(Weights::Automatic) };
    let names: Vec<String> = nodes.iter().map(|node| node.name.clone()).collect();
    let table = match at.get_ref() {
        RawWeights::Named(word) if word == "automatic" => return Ok(Weights::Automatic),
        RawWeights::Named(word) => {
            let words = ["\"automatic\"".to_owned(), "a table [weights]".to_owned()];
            let text = format!("is unknown; expected {}", either(&words));
            return Err(wrong(at, "weights", word, text));
        }
        RawWeights::Table(table) => table,
    };
    let mut all = BTreeMap::new();
    for (name, at) in table {
        let Some(index) = names.iter().position(|other| other == name) else {
            return Err(no_node(at.span().start, "weights", name, &names));
        };
        all.insert(index, number(at, &format!("weights.{name}"), WEIGHTS, "")?);
    }
    Ok(Weights::Manual(all))
}
