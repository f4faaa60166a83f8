//! `policy`, `nodes` and `extended` of a `[[tenant]]`: where its memory goes.
//!
//! A list of nodes is one of names and numbers, or a text as numactl takes it: `"near,far"`,
//! `"0,2-3"`, `"all"`. Numbers are positions in the file, from 0.

use memtide_engine::{
    mempolicy::{Extended, MemPolicy, Mode},
    tiers::AccessTable,
};
use memtide_units::NodeId;

use super::{
    nodes::{NodeConfig, no_node},
    raw::{Item, Located, RawTenant, Scalar, word, wrong, wrong_at},
};
use crate::daemon::node_id;

/// How `extended` is written.
pub(super) const EXTENDED: [(&str, Extended); 3] =
    [("any", Extended::Any), ("only", Extended::Only), ("never", Extended::Never)];

/// The kinds of policy, as they are written.
const LOCAL: &str = "local";
const BIND: &str = "bind";
const PREFERRED: &str = "preferred";
const PREFERRED_MANY: &str = "preferred-many";
const INTERLEAVE: &str = "interleave";
const WEIGHTED_INTERLEAVE: &str = "weighted-interleave";
/// Of a pool whose file cannot say who accesses what, only ever seen, never read.
const ACCESSED_BY: &str = "accessed-by";

/// How the mode of a policy is written, and its nodes.
pub fn words(mode: &Mode) -> (&'static str, Vec<NodeId>) {
    match mode {
        Mode::Local => (LOCAL, Vec::new()),
        Mode::Bind(mask) => (BIND, mask.iter().collect()),
        Mode::Preferred(node) => (PREFERRED, vec![*node]),
        Mode::PreferredMany(mask) => (PREFERRED_MANY, mask.iter().collect()),
        Mode::Interleave(mask) => (INTERLEAVE, mask.iter().collect()),
        Mode::WeightedInterleave(mask) => (WEIGHTED_INTERLEAVE, mask.iter().collect()),
        Mode::AccessedBy(_) => (ACCESSED_BY, Vec::new()),
    }
}

pub(super) fn policy(
    raw: &RawTenant,
    tenant: &str,
    nodes: &[NodeConfig],
) -> Result<MemPolicy, Located> {
    let field = |field: &str| format!("{field} of tenant {tenant}");
    let kinds = [LOCAL, BIND, PREFERRED, PREFERRED_MANY, INTERLEAVE, WEIGHTED_INTERLEAVE];
    let kind = word(raw.policy.as_ref(), &field("policy"), LOCAL, &kinds.map(|kind| (kind, kind)))?;
    let extended = word(raw.extended.as_ref(), &field("extended"), Extended::Any, &EXTENDED)?;
    let list = match &raw.nodes {
        None => Vec::new(),
        Some(at) => {
            let start = at.span().start;
            list(&at.get_ref().0, start, &field("nodes"), nodes)?
        }
    };
    let start = raw.nodes.as_ref().map(|at| at.span().start);
    let at = start.or(raw.policy.as_ref().map(|at| at.span().start));
    let at = at.unwrap_or(raw.name.span().start);
    let mode = match (kind, list.as_slice()) {
        (LOCAL, []) => Mode::Local,
        (LOCAL, _) => {
            let text = "say nothing under policy \"local\"; expected another policy, or no nodes";
            return Err(wrong_at(at, &field("nodes"), "", text));
        }
        (_, []) => {
            let text = format!("is missing; expected the nodes of policy {kind:?}");
            return Err(wrong_at(at, &field("nodes"), "", text));
        }
        (PREFERRED, [only]) => Mode::Preferred(*only),
        (PREFERRED, several) => {
            let text = "is too many; expected one node, or policy \"preferred-many\"";
            return Err(wrong_at(at, &field("nodes"), format!("{} nodes", several.len()), text));
        }
        (BIND, _) => Mode::Bind(list.into_iter().collect()),
        (PREFERRED_MANY, _) => Mode::PreferredMany(list.into_iter().collect()),
        (INTERLEAVE, _) => Mode::Interleave(list.into_iter().collect()),
        _ => Mode::WeightedInterleave(list.into_iter().collect()),
    };
    Ok(MemPolicy { mode, extended })
}

/// The nodes of a list, in its order, each once.
fn list(
    items: &[Item],
    start: usize,
    field: &str,
    nodes: &[NodeConfig],
) -> Result<Vec<NodeId>, Located> {
    let mut all = Vec::new();
    for item in items {
        let at = item.at.unwrap_or(start);
        let parts: Vec<String> = match &item.value {
            Scalar::Number(number) => vec![number.to_string()],
            Scalar::Text(text) => text.split(',').map(|part| part.trim().to_owned()).collect(),
        };
        for part in parts {
            let found = range(&part, nodes).ok_or_else(|| {
                let names: Vec<String> = nodes.iter().map(|node| node.name.clone()).collect();
                no_node(at, field, &part, &names)
            })?;
            for node in found.map(node_id) {
                if all.contains(&node) {
                    let text = "is there twice; expected each node once";
                    return Err(wrong_at(at, field, &nodes[usize::from(node.0)].name, text));
                }
                all.push(node);
            }
        }
    }
    Ok(all)
}

/// The positions that a name, a number, a range of numbers, or `all` stands for.
fn range(part: &str, nodes: &[NodeConfig]) -> Option<std::ops::Range<usize>> {
    if let Some(index) = nodes.iter().position(|node| node.name == part) {
        return Some(index..index + 1);
    }
    if part == "all" {
        return Some(0..nodes.len());
    }
    let (first, last) = part.split_once('-').unwrap_or((part, part));
    let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last && last < nodes.len()).then_some(first..last + 1)
}

/// That no policy speaks of what nodes are not for it; see [`MemPolicy::check`].
pub(super) fn makes_sense(
    policy: &MemPolicy,
    raw: &RawTenant,
    tenant: &str,
    zonelists: &memtide_engine::nodes::Zonelists,
    nodes: &[NodeConfig],
) -> Result<(), Located> {
    let Err(error) = policy.check(zonelists, &AccessTable::default()) else { return Ok(()) };
    let (kind, of) = words(&policy.mode);
    let names: Vec<&str> = of.iter().map(|node| nodes[usize::from(node.0)].name.as_str()).collect();
    let at = raw.policy.as_ref().unwrap_or(&raw.name);
    let value = format!("{kind} {}", names.join(","));
    Err(wrong(
        at,
        &format!("policy of tenant {tenant}"),
        value.trim_end(),
        format!("fails: {error}"),
    ))
}
