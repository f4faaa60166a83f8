//! `[[tenant]]`: who may have what kind of memory, and how much.
//!
//! A program belongs to the first tenant that fits it; with no `[[tenant]]` at all, everybody
//! belongs to one of that name. Sizes are kept as they are written; the engine counts whole
//! pageblocks, and gets a maximum rounded down and a minimum rounded up to them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use memtide_engine::{
    mempolicy::MemPolicy,
    nodes::NodeClass,
    tenant::{Access, Emergency, Migration, OnDepletion, Who},
};
use memtide_units::{ByteSize, NodeKind};
use toml::Spanned;

use super::{
    nodes::{self, NodeConfig},
    policy,
    raw::{Located, RawQuota, RawTenant, Text, number, size, word, wrong, wrong_at},
    reach::PoolRules,
    who,
};
use crate::duration;

/// Most tenants in a pool.
pub const MAX_TENANTS: usize = 256;
/// How long a tenant waits unless it says so.
pub const WAIT: Duration = Duration::from_secs(10);
const WEIGHTS: (i64, i64) = (1, 1000);

/// One tenant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TenantConfig {
    /// Its name.
    pub name: String,
    /// Who belongs to it: whom any of these fits. Empty: everybody.
    pub who: Vec<Who>,
    /// Per kind of node; a kind that is not there has no limit and no guarantee.
    pub quotas: BTreeMap<NodeKind, Quota>,
    /// Its share of what several wait for, 1 to 1000.
    pub weight: u32,
    /// Where its memory goes. Nodes and accessors are positions in the file.
    pub policy: MemPolicy,
    /// What happens when the nodes of the policy have no room; as the pool's `on_full`, when
    /// absent.
    pub on_depletion: Option<OnDepletion>,
    /// Whether it may use special memory when all else is exhausted.
    pub emergency: Emergency,
    /// Whether its memory may be moved.
    pub migration: Migration,
    /// Whether its programs may map memory that is one file for all ([`super::dcd`]).
    pub trusted: bool,
}

/// How much of one kind of node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Quota {
    /// Whether it may use this kind at all.
    pub access: Access,
    /// At most.
    pub max: Option<ByteSize>,
    /// It is sure to get so much.
    pub min: ByteSize,
    /// How much may be pinned on request.
    pub pinned_max: Option<ByteSize>,
}

impl TenantConfig {
    /// Everybody, without limits and guarantees.
    #[must_use]
    pub fn everybody(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            who: Vec::new(),
            quotas: BTreeMap::new(),
            weight: 1,
            policy: MemPolicy::LOCAL,
            on_depletion: None,
            emergency: Emergency::Off,
            migration: Migration::Allowed,
            trusted: false,
        }
    }
}

pub(super) fn tenants(
    raw: &[Spanned<RawTenant>],
    pool: &PoolRules<'_>,
) -> Result<Vec<TenantConfig>, Located> {
    if let Some(one) = raw.get(MAX_TENANTS) {
        let text = format!("is too many; expected at most {MAX_TENANTS} [[tenant]] tables");
        return Err(wrong(one, "tenant", &raw.len().to_string(), text));
    }
    let zonelists = pool.zonelists();
    let mut seen = BTreeSet::new();
    let mut guaranteed = BTreeMap::new();
    let mut all: Vec<TenantConfig> = Vec::new();
    for raw in raw {
        let tenant = tenant(raw.get_ref(), pool, &all, &mut seen)?;
        let at = &raw.get_ref().name;
        if let Some(whole) = all.iter().find(|tenant| tenant.who.is_empty()) {
            let text = format!(
                "is never reached: tenant {} before it is for everybody; expected uid, gid, cgroup \
                 or label there, or that one last",
                whole.name
            );
            return Err(wrong(at, "tenant", &tenant.name, text));
        }
        if let Some(zonelists) = &zonelists {
            policy::makes_sense(&tenant.policy, raw.get_ref(), &tenant.name, zonelists, pool)?;
            let reach = pool.reach(&tenant, zonelists);
            check_reach(raw.get_ref(), &tenant, &reach)?;
            check_guarantees(raw.get_ref(), &tenant, pool.nodes, &reach, &mut guaranteed)?;
        }
        all.push(tenant);
    }
    Ok(all)
}

fn tenant(
    raw: &RawTenant,
    pool: &PoolRules<'_>,
    earlier: &[TenantConfig],
    seen: &mut BTreeSet<String>,
) -> Result<TenantConfig, Located> {
    let name = nodes::name(&raw.name, "tenant name", seen)?;
    let field = |field: &str| format!("{field} of tenant {name}");
    let mut quotas = BTreeMap::new();
    for (kind, at) in quotas_of(raw) {
        quotas.insert(kind, quota(at, kind, &name)?);
    }
    let weight = match &raw.weight {
        None => 1,
        Some(at) => number(at, &field("weight"), WEIGHTS, "")?,
    };
    let migration = [("allowed", Migration::Allowed), ("never", Migration::Never)];
    Ok(TenantConfig {
        who: who::who(raw, &name, earlier)?,
        quotas,
        weight,
        policy: policy::policy(raw, &name, pool)?,
        on_depletion: on_depletion(raw, &name)?,
        emergency: emergency(raw, &name, pool.nodes)?,
        migration: word(
            raw.migration.as_ref(),
            &field("migration"),
            Migration::Allowed,
            &migration,
        )?,
        trusted: raw.trusted.unwrap_or(false),
        name,
    })
}

fn emergency(raw: &RawTenant, tenant: &str, nodes: &[NodeConfig]) -> Result<Emergency, Located> {
    let field = format!("emergency of tenant {tenant}");
    let words = [("off", Emergency::Off), ("on", Emergency::On)];
    let what = word(raw.emergency.as_ref(), &field, Emergency::Off, &words)?;
    let special = nodes.iter().any(|node| node.class == NodeClass::Special);
    match &raw.emergency {
        Some(at) if what == Emergency::On && !special => {
            let text = "says nothing here; expected a node of class \"special\", or \"off\"";
            Err(wrong(at, &field, at.get_ref(), text))
        }
        _ => Ok(what),
    }
}

fn quotas_of(raw: &RawTenant) -> impl Iterator<Item = (NodeKind, &Spanned<RawQuota>)> {
    let all =
        [(NodeKind::Near, &raw.near), (NodeKind::Far, &raw.far), (NodeKind::Device, &raw.device)];
    all.into_iter().filter_map(|(kind, quota)| Some((kind, quota.as_ref()?)))
}

fn quota(at: &Spanned<RawQuota>, kind: NodeKind, tenant: &str) -> Result<Quota, Located> {
    let raw = at.get_ref();
    let field = |field: &str| format!("{kind}.{field} of tenant {tenant}");
    let read =
        |at: &Option<Text>, name: &str| at.as_ref().map(|at| size(at, &field(name))).transpose();
    let accesses = [("allowed", Access::Allowed), ("denied", Access::Denied)];
    let access = word(raw.access.as_ref(), &field("access"), Access::Allowed, &accesses)?;
    let (max, min) = (read(&raw.max, "max")?, read(&raw.min, "min")?.unwrap_or_default());
    let pinned_max = read(&raw.pinned_max, "pinned_max")?;
    let amounts = [("max", &raw.max), ("min", &raw.min), ("pinned_max", &raw.pinned_max)];
    let amount = amounts.into_iter().find_map(|(name, at)| Some((name, at.as_ref()?)));
    if let (Access::Denied, Some((name, at))) = (access, amount) {
        let text = "says nothing where access is \"denied\"; expected one or the other";
        return Err(wrong(at, &field(name), at.get_ref(), text));
    }
    if let (Some(at), Some(0)) = (&raw.max, max.map(whole_pageblocks)) {
        let text = "is no whole 2M; expected at least that, or access = \"denied\"";
        return Err(wrong(at, &field("max"), at.get_ref(), text));
    }
    if let (Some(at), Some(max)) = (&raw.min, max)
        && min.pageblocks_ceil() > whole_pageblocks(max)
    {
        let text = format!("is more than max {max}; expected at most that, in whole 2M");
        return Err(wrong(at, &field("min"), at.get_ref(), text));
    }
    if let (Some(at), Some(max), Some(pinned)) = (&raw.pinned_max, max, pinned_max)
        && pinned > max
    {
        let text = format!("is more than max {max}; expected at most that");
        return Err(wrong(at, &field("pinned_max"), at.get_ref(), text));
    }
    Ok(Quota { access, max, min, pinned_max })
}

/// Whole pageblocks in a size.
pub(super) const fn whole_pageblocks(size: ByteSize) -> u64 {
    size.0 / memtide_units::PAGEBLOCK_BYTES
}

fn on_depletion(raw: &RawTenant, tenant: &str) -> Result<Option<OnDepletion>, Located> {
    let field = |field: &str| format!("{field} of tenant {tenant}");
    let wait = match &raw.wait {
        None => WAIT,
        Some(at) => duration::parse(at.get_ref())
            .map_err(|problem| wrong(at, &field("wait"), at.get_ref(), problem))?,
    };
    let words = [
        ("fail", OnDepletion::Fail),
        ("fall-back", OnDepletion::FallBack),
        ("wait", OnDepletion::Wait(wait)),
    ];
    let given = raw.on_depletion.as_ref();
    if let Some(at) = given.filter(|at| at.get_ref() == "reclaim") {
        let text = "needs to know which memory is idle, and the daemon has no source of accesses \
                    yet; expected \"wait\"";
        return Err(wrong(at, &field("on_depletion"), at.get_ref(), text));
    }
    let what = word(given, &field("on_depletion"), OnDepletion::Fail, &words)?;
    let waits = matches!(what, OnDepletion::Wait(_));
    match &raw.wait {
        Some(at) if !waits => {
            let text = "says nothing here; expected it beside on_depletion \"wait\"";
            Err(wrong(at, &field("wait"), at.get_ref(), text))
        }
        Some(at) if wait.is_zero() => {
            let text = "is no time; expected more, or on_depletion \"fail\"";
            Err(wrong(at, &field("wait"), at.get_ref(), text))
        }
        _ => Ok(given.is_some().then_some(what)),
    }
}

/// That there is a node that it can get anything of.
fn check_reach(
    raw: &RawTenant,
    tenant: &TenantConfig,
    reach: &BTreeSet<usize>,
) -> Result<(), Located> {
    if !reach.is_empty() {
        return Ok(());
    }
    let starts = [&raw.extended, &raw.policy].map(|at| at.as_ref().map(|at| at.span().start));
    let start = starts.into_iter().flatten().next().unwrap_or(raw.name.span().start);
    let text = "may use no node: none fits its policy, nodes, extended and access all together, \
                and, if its migration is never, by its zone; expected one at least";
    Err(wrong_at(start, "tenant", &tenant.name, text))
}

/// What is guaranteed of a kind so far, and the nodes that it can lie on.
#[derive(Default)]
struct Guaranteed {
    pageblocks: u64,
    nodes: BTreeSet<usize>,
}

/// That what is guaranteed can be kept: to this tenant not more of a kind than the nodes have that
/// it can get anything of, and to all of them not more than theirs have.
fn check_guarantees(
    raw: &RawTenant,
    tenant: &TenantConfig,
    nodes: &[NodeConfig],
    reach: &BTreeSet<usize>,
    guaranteed: &mut BTreeMap<NodeKind, Guaranteed>,
) -> Result<(), Located> {
    let size = |of: &BTreeSet<usize>| -> u64 {
        of.iter().map(|index| whole_pageblocks(nodes[*index].online_at_start())).sum()
    };
    for (kind, at) in quotas_of(raw) {
        let min = tenant.quotas[&kind].min;
        if min.0 == 0 {
            continue;
        }
        let own = reach.iter().copied().filter(|index| nodes[*index].kind == kind);
        let own: BTreeSet<usize> = own.collect();
        let sum = guaranteed.entry(kind).or_default();
        sum.pageblocks = sum.pageblocks.saturating_add(min.pageblocks_ceil());
        sum.nodes.extend(&own);
        let (wanted, there, whose) = match (min.pageblocks_ceil(), size(&own)) {
            (wanted, there) if wanted > there => (wanted, there, "this tenant can get"),
            _ => (sum.pageblocks, size(&sum.nodes), "there are"),
        };
        if wanted > there {
            let start = at.get_ref().min.as_ref().map_or(at.span(), Spanned::span).start;
            let text = format!(
                "makes {} guaranteed of {kind} memory; expected at most the {} that {whose}",
                ByteSize::from_pageblocks(wanted),
                ByteSize::from_pageblocks(there)
            );
            let field = format!("{kind}.min of tenant {}", tenant.name);
            return Err(wrong_at(start, &field, min, text));
        }
    }
    Ok(())
}
