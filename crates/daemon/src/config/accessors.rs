//! `[[accessor]]`: who reads and writes memory, and how soon. `accessors` of a `[[tenant]]`: which
//! of them work on its memory, and how often.
//!
//! ```toml
//! [[accessor]]
//! name = "gpu0"
//! nodes.near = { read_latency_ns = 700, read_bandwidth = "10GiB" }
//! nodes.card = { read_latency_ns = 100, read_bandwidth = "200GiB" }
//!
//! [[tenant]]
//! name = "inference"
//! policy = "accessed-by"
//! accessors = { gpu0 = 9, cpu = 1 }
//! ```
//!
//! A node is near or far only for somebody ([`memtide_engine::tiers::accessor`]), and only the
//! operator knows for whom: firmware's HMAT tells it of the machine's processors, and of a device
//! only where it is listed as an initiator. What is said is what an access takes from end to end,
//! as HMAT says it of an initiator and a target. A node that an accessor does not name it does not
//! reach, and memory that it works on never lies there; so what is forgotten shows at once, and no
//! number is guessed.
//!
//! Keys are spelt as those of `[[node]]`, which mean the same as seen by the processors near the
//! node. A scenario of the simulator says `latency-ns` and `bandwidth-mib` of links and nodes, and
//! adds them up itself; `policy` and `accessors` of a tenant are the same words there.
//!
//! What is said here counts for tenants with policy `accessed-by` only. All other policies mean
//! what they say.

use std::collections::{BTreeMap, BTreeSet};

use memtide_engine::{
    Performance,
    tiers::{Access, AccessTable},
};
use memtide_units::AccessorId;
use toml::Spanned;

use super::{
    nodes::{self, NodeConfig, no_node},
    raw::{Located, RawAccess, RawAccessor, RawTenant, number, wrong, wrong_at},
};
use crate::daemon::node_id;

/// Most accessors in a pool.
pub const MAX_ACCESSORS: usize = 64;
/// How often one accesses memory in proportion to the others; scenarios have the same range.
const TIMES: (i64, i64) = (1, u32::MAX as i64);

/// One who reads and writes memory: a processor package or a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccessorConfig {
    /// Its name.
    pub name: String,
    /// What it has to the nodes, by their positions in the file; each with a latency. One that is
    /// not there it does not reach.
    pub nodes: BTreeMap<usize, Performance>,
}

/// The name in the engine of the accessor at this position in the file.
pub fn accessor_id(index: usize) -> AccessorId {
    AccessorId(u16::try_from(index).expect("a pool has few accessors"))
}

pub(super) fn accessors(
    raw: &[Spanned<RawAccessor>],
    nodes: &[NodeConfig],
) -> Result<Vec<AccessorConfig>, Located> {
    if let Some(one) = raw.get(MAX_ACCESSORS) {
        let text = format!("is too many; expected at most {MAX_ACCESSORS} [[accessor]] tables");
        return Err(wrong(one, "accessor", &raw.len().to_string(), text));
    }
    let mut seen = BTreeSet::new();
    raw.iter().map(|raw| accessor(raw.get_ref(), nodes, &mut seen)).collect()
}

fn accessor(
    raw: &RawAccessor,
    nodes: &[NodeConfig],
    seen: &mut BTreeSet<String>,
) -> Result<AccessorConfig, Located> {
    let name = nodes::name(&raw.name, "accessor name", seen)?;
    if raw.nodes.is_empty() {
        let text = "are missing; expected what it has to one node or more, as \
                    nodes.near = { read_latency_ns = 100 }";
        return Err(wrong(&raw.name, &format!("nodes of accessor {name}"), "", text));
    }
    let mut all = BTreeMap::new();
    for (node, access) in &raw.nodes {
        let Some(index) = nodes.iter().position(|known| known.name == *node.get_ref()) else {
            let names: Vec<String> = nodes.iter().map(|node| node.name.clone()).collect();
            let field = format!("nodes of accessor {name}");
            return Err(no_node(node.span().start, &field, node.get_ref(), &names));
        };
        all.insert(index, performance(node, access, &name)?);
    }
    Ok(AccessorConfig { name, nodes: all })
}

/// What an accessor has to a node; of a latency one direction at least.
fn performance(
    node: &Spanned<String>,
    access: &RawAccess,
    accessor: &str,
) -> Result<Performance, Located> {
    let field = |field: &str| format!("{field} of accessor {accessor} to node {}", node.get_ref());
    let performance = nodes::performance(
        [&access.read_latency_ns, &access.write_latency_ns],
        [&access.read_bandwidth, &access.write_bandwidth],
        &field,
    )?;
    if performance.read_latency_ns == 0 && performance.write_latency_ns == 0 {
        let text = "is missing; expected read_latency_ns, write_latency_ns or both";
        return Err(wrong(node, &field("latency"), "", text));
    }
    Ok(performance)
}

/// As the engine has them.
pub(super) fn entries(all: &[AccessorConfig]) -> Vec<Access> {
    let of = |(index, accessor): (usize, &AccessorConfig)| {
        let accessor_id = accessor_id(index);
        let entry = move |(node, performance): (&usize, &Performance)| Access {
            accessor: accessor_id,
            node: node_id(*node),
            performance: *performance,
        };
        accessor.nodes.iter().map(entry).collect::<Vec<_>>()
    };
    all.iter().enumerate().flat_map(of).collect()
}

/// What the engine will make of them.
pub(super) fn table(all: &[AccessorConfig]) -> AccessTable {
    AccessTable::new(&entries(all)).expect("each pair is there once, and has a latency")
}

/// Who accesses the memory of a tenant with policy `accessed-by`, and how often.
pub(super) fn of_tenant(
    raw: &RawTenant,
    tenant: &str,
    accessors: &[AccessorConfig],
) -> Result<Vec<(AccessorId, u64)>, Located> {
    let field = format!("accessors of tenant {tenant}");
    let table = raw.accessors.as_ref();
    let Some(table) = table.filter(|table| !table.get_ref().is_empty()) else {
        let at = table.map(Spanned::span).or(raw.policy.as_ref().map(Spanned::span));
        let start = at.unwrap_or(raw.name.span()).start;
        let text = "are missing; expected who accesses its memory and how often, as { cpu = 1 }";
        return Err(wrong_at(start, &field, "", text));
    };
    let mut all = Vec::new();
    for (name, times) in table.get_ref() {
        let known = accessors.iter().position(|accessor| accessor.name == *name.get_ref());
        let Some(index) = known else {
            let names: Vec<&str> = accessors.iter().map(|known| known.name.as_str()).collect();
            let expected = match names.as_slice() {
                [] => "an [[accessor]] table of that name".to_owned(),
                names => format!("one of {}", names.join(", ")),
            };
            let text = format!("is no accessor; expected {expected}");
            return Err(wrong(name, &field, name.get_ref(), text));
        };
        let field = format!("accessors.{} of tenant {tenant}", name.get_ref());
        all.push((accessor_id(index), number(times, &field, TIMES, "")?));
    }
    all.sort_unstable();
    Ok(all)
}

/// That a tenant under another policy says nothing of them.
pub(super) fn check_none(raw: &RawTenant, tenant: &str, kind: &str) -> Result<(), Located> {
    let Some(at) = &raw.accessors else { return Ok(()) };
    let text = format!("say nothing under policy {kind:?}; expected policy \"accessed-by\"");
    Err(wrong(at, &format!("accessors of tenant {tenant}"), "", text))
}

/// Who accesses memory and how often, by name.
pub(super) fn by_name<'a>(
    by: &'a [(AccessorId, u64)],
    accessors: &'a [AccessorConfig],
) -> impl Iterator<Item = (&'a str, u64)> {
    by.iter().map(|(id, times)| (accessors[usize::from(id.0)].name.as_str(), *times))
}
