//! `policy`, `nodes`, `accessors` and `extended` of a `[[tenant]]`: where its memory goes.
//!
//! A list of nodes is one of names and numbers, or a text as numactl takes it: `"near,far"`,
//! `"0,2-3"`, `"all"`. Numbers are positions in the file, from 0.

use memtide_engine::{
    mempolicy::{Extended, MemPolicy, Mode},
    nodes::Zonelists,
};
use memtide_units::NodeId;

use super::{
    accessors::{self, AccessorConfig, by_name},
    nodes::{NodeConfig, no_node},
    raw::{Item, Located, RawTenant, Scalar, word, wrong, wrong_at},
    reach::PoolRules,
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
const ACCESSED_BY: &str = "accessed-by";

/// How the mode of a policy is written, and its nodes.
pub(super) fn words(mode: &Mode) -> (&'static str, Vec<NodeId>) {
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

/// The mode of a policy for people, with the names of its nodes or of who accesses the memory:
/// `bind near,far`, `accessed-by cpu=1,gpu0=3`.
pub(crate) fn in_words(mode: &Mode, nodes: &[NodeConfig], accessors: &[AccessorConfig]) -> String {
    let (kind, of) = words(mode);
    let names: Vec<String> = match mode {
        Mode::AccessedBy(by) => {
            by_name(by, accessors).map(|(name, times)| format!("{name}={times}")).collect()
        }
        _ => of.iter().map(|node| nodes[usize::from(node.0)].name.clone()).collect(),
    };
    format!("{kind} {}", names.join(",")).trim_end().to_owned()
}

pub(super) fn policy(
    raw: &RawTenant,
    tenant: &str,
    pool: &PoolRules<'_>,
) -> Result<MemPolicy, Located> {
    let field = |field: &str| format!("{field} of tenant {tenant}");
    let kinds =
        [LOCAL, BIND, PREFERRED, PREFERRED_MANY, INTERLEAVE, WEIGHTED_INTERLEAVE, ACCESSED_BY];
    let kind = word(raw.policy.as_ref(), &field("policy"), LOCAL, &kinds.map(|kind| (kind, kind)))?;
    let extended = word(raw.extended.as_ref(), &field("extended"), Extended::Any, &EXTENDED)?;
    let mode = if kind == ACCESSED_BY {
        if let Some(nodes) = &raw.nodes {
            let text = "say nothing under policy \"accessed-by\"; expected another policy, or \
                        accessors and no nodes";
            return Err(wrong(nodes, &field("nodes"), "", text));
        }
        Mode::AccessedBy(accessors::of_tenant(raw, tenant, pool.accessors)?)
    } else {
        accessors::check_none(raw, tenant, kind)?;
        of_nodes(raw, kind, &field("nodes"), pool.nodes)?
    };
    Ok(MemPolicy { mode, extended })
}

/// The mode of a kind that nodes are named for, or none at all.
fn of_nodes(
    raw: &RawTenant,
    kind: &str,
    field: &str,
    nodes: &[NodeConfig],
) -> Result<Mode, Located> {
    let list = match &raw.nodes {
        None => Vec::new(),
        Some(at) => list(&at.get_ref().0, at.span().start, field, nodes)?,
    };
    let start = raw.nodes.as_ref().map(|at| at.span().start);
    let at = start.or(raw.policy.as_ref().map(|at| at.span().start));
    let at = at.unwrap_or(raw.name.span().start);
    Ok(match (kind, list.as_slice()) {
        (LOCAL, []) => Mode::Local,
        (LOCAL, _) => {
            let text = "say nothing under policy \"local\"; expected another policy, or no nodes";
            return Err(wrong_at(at, field, "", text));
        }
        (_, []) => {
            let text = format!("is missing; expected the nodes of policy {kind:?}");
            return Err(wrong_at(at, field, "", text));
        }
        (PREFERRED, [only]) => Mode::Preferred(*only),
        (PREFERRED, several) => {
            let text = "is too many; expected one node, or policy \"preferred-many\"";
            return Err(wrong_at(at, field, format!("{} nodes", several.len()), text));
        }
        (BIND, _) => Mode::Bind(list.into_iter().collect()),
        (PREFERRED_MANY, _) => Mode::PreferredMany(list.into_iter().collect()),
        (INTERLEAVE, _) => Mode::Interleave(list.into_iter().collect()),
        _ => Mode::WeightedInterleave(list.into_iter().collect()),
    })
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

/// That no policy speaks of what nodes are not for it, or is for who reaches none; see
/// [`MemPolicy::check`].
pub(super) fn makes_sense(
    policy: &MemPolicy,
    raw: &RawTenant,
    tenant: &str,
    zonelists: &Zonelists,
    pool: &PoolRules<'_>,
) -> Result<(), Located> {
    let Err(error) = policy.check(zonelists, &pool.table) else { return Ok(()) };
    let at = raw.policy.as_ref().unwrap_or(&raw.name);
    let value = in_words(&policy.mode, pool.nodes, pool.accessors);
    Err(wrong(at, &format!("policy of tenant {tenant}"), &value, format!("fails: {error}")))
}
