//! The keys of `[machine]`, and their way to a [`Plan`]: every name known, every size possible.

use core::num::NonZeroU32;
use std::collections::BTreeMap;

use memtide_engine::{
    Limits, Performance, TenantConfig,
    mempolicy::{Extended, MemPolicy, Mode, Weighting},
    nodes::{Capabilities, Capability, NodeClass, NodeMask},
    tenant::{Access as Allowed, Emergency, Migration, OnDepletion, Quota, Who},
};
use memtide_units::{ByteSize, HoldReason, NodeId, NodeKind, PAGEBLOCK_BYTES};
use serde::{Deserialize, Deserializer, de::Error as _};
use toml::Spanned;

use super::{
    plan::{
        Access, Event, Faults, Happening, MS, Nanos, Node, Phase, Plan, Program, Promise, SECOND,
        Window,
    },
    topology::{Link, Place, Topology, Width},
};
use crate::scenario::Wrong;

/// Entries of a list at most.
const LIST_MAX: usize = 256;
/// Programs at most.
const PROGRAMS_MAX: u64 = 100_000;
/// Pageblocks of all nodes at most: 8 TiB.
const PAGEBLOCKS_MAX: u64 = 1 << 22;
/// Samples at most.
const SAMPLES_MAX: u64 = 100_000;

/// `[machine]`, as it stands in a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Text {
    duration: Time,
    #[serde(default = "second")]
    sample_every: Time,
    heat_every: Option<Time>,
    weighting: Option<WeightingText>,
    #[serde(default)]
    weights: BTreeMap<Spanned<String>, u8>,
    ordinary: Option<OrdinaryText>,
    zero_mib: Option<NonZeroU32>,
    #[serde(default)]
    limits: LimitsText,
    #[serde(default)]
    faults: FaultsText,
    #[serde(default)]
    window: Vec<Spanned<WindowText>>,
    processor: Vec<Named>,
    #[serde(default)]
    switch: Vec<Named>,
    node: Vec<Spanned<NodeText>>,
    #[serde(default)]
    link: Vec<Spanned<LinkText>>,
    tenant: Vec<Spanned<TenantText>>,
    program: Vec<Spanned<ProgramText>>,
    #[serde(default)]
    event: Vec<Spanned<EventText>>,
}

/// A time, such as `"1.5s"`, `"20ms"`, `"3us"`, in nanoseconds.
#[derive(Clone, Copy)]
struct Time(Nanos);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong =
            || D::Error::custom(format!("{text:?}; expected a time such as \"10s\" or \"1ms\""));
        let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, unit) = text.split_at(digits);
        let unit = match unit {
            "ns" => 1,
            "us" => 1000,
            "ms" => MS,
            "s" => SECOND,
            "min" => 60 * SECOND,
            "h" => 3600 * SECOND,
            _ => return Err(wrong()),
        };
        let number: Nanos = number.parse().map_err(|_| wrong())?;
        number.checked_mul(unit).filter(|&ns| ns <= 24 * 3600 * SECOND).map(Self).ok_or_else(wrong)
    }
}

const fn second() -> Time {
    Time(SECOND)
}

/// A size of whole pageblocks, in pageblocks.
#[derive(Clone, Copy)]
struct Blocks(u64);

impl<'de> Deserialize<'de> for Blocks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let size: ByteSize =
            text.parse().map_err(|error| D::Error::custom(format!("{text:?} {error}")))?;
        if size.0.is_multiple_of(PAGEBLOCK_BYTES) {
            Ok(Self(size.0 / PAGEBLOCK_BYTES))
        } else {
            Err(D::Error::custom(format!("{size}; expected whole pageblocks of 2MiB")))
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum WeightingText {
    Automatic,
    Manual,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct OrdinaryText {
    latency_ns: NonZeroU32,
    bandwidth_mib: NonZeroU32,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct LimitsText {
    patience: Option<Time>,
    idle_after: Option<Time>,
    settle_for: Option<Time>,
    stall_after: Option<Time>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct FaultsText {
    die_permille: u32,
    mute_permille: u32,
    late_permille: u32,
    held_permille: u32,
    driver_mute_permille: u32,
    link_lost_permille: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WindowText {
    name: String,
    from: Time,
    to: Time,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Named {
    name: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct NodeText {
    name: Spanned<String>,
    kind: NodeKind,
    #[serde(default)]
    class: ClassText,
    #[serde(default)]
    permits: Vec<CapabilityText>,
    size: Blocks,
    block: Option<Blocks>,
    latency_ns: NonZeroU32,
    bandwidth_mib: NonZeroU32,
    write_latency_ns: Option<NonZeroU32>,
    write_bandwidth_mib: Option<NonZeroU32>,
    driver: Option<Time>,
}

#[derive(Deserialize, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum ClassText {
    #[default]
    Public,
    Special,
    Private,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum CapabilityText {
    Reclaim,
    UserNuma,
    Demotion,
    NumaBalancing,
    LongTermPin,
    Damon,
    Ksm,
    Collapse,
    Hugetlb,
    Fallback,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct LinkText {
    name: Option<String>,
    from: Spanned<String>,
    to: Spanned<String>,
    latency_ns: u32,
    bandwidth_mib: NonZeroU32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct TenantText {
    name: String,
    #[serde(default = "one")]
    weight: NonZeroU32,
    policy: Option<PolicyText>,
    #[serde(default)]
    on_depletion: DepletionText,
    wait: Option<Time>,
    #[serde(default)]
    emergency: Switch,
    #[serde(default)]
    migration: MigrationText,
    #[serde(default)]
    quota: BTreeMap<NodeKind, QuotaText>,
}

const fn one() -> NonZeroU32 {
    NonZeroU32::MIN
}

#[derive(Deserialize, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum DepletionText {
    #[default]
    Fail,
    FallBack,
    Wait,
    Reclaim,
}

#[derive(Deserialize, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum Switch {
    On,
    #[default]
    Off,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum MigrationText {
    #[default]
    Allowed,
    Never,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct QuotaText {
    #[serde(default)]
    access: AllowedText,
    max: Option<Blocks>,
    min: Option<Blocks>,
    pinned_max: Option<Blocks>,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum AllowedText {
    #[default]
    Allowed,
    Denied,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct PolicyText {
    mode: ModeText,
    #[serde(default)]
    nodes: Vec<Spanned<String>>,
    #[serde(default)]
    extended: ExtendedText,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum ModeText {
    Local,
    Bind,
    Preferred,
    PreferredMany,
    Interleave,
    WeightedInterleave,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum ExtendedText {
    #[default]
    Any,
    Only,
    Never,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ProgramText {
    name: String,
    tenant: Spanned<String>,
    #[serde(default = "one")]
    count: NonZeroU32,
    start: Option<Time>,
    every: Option<Time>,
    processor: Option<Spanned<String>>,
    #[serde(default = "one")]
    repeats: NonZeroU32,
    policy: Option<PolicyText>,
    pin: Option<HoldReason>,
    #[serde(default)]
    promise: Switch,
    #[serde(default = "leases")]
    lease_max: NonZeroU32,
    retry: Option<Time>,
    fork: Option<ForkText>,
    phase: Vec<PhaseText>,
}

const fn leases() -> NonZeroU32 {
    NonZeroU32::new(64).expect("not 0")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ForkText {
    every: Time,
    lives: Time,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct PhaseText {
    lasts: Time,
    working_set: Blocks,
    /// MiB a second; idle when 0.
    #[serde(default)]
    wants_mib: u64,
    lines: Option<NonZeroU32>,
    hot_percent: Option<u32>,
    hot_share_percent: Option<u32>,
}

/// One event: a time, what is done, and what that needs.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct EventText {
    at: Time,
    #[serde(rename = "do")]
    what: DoText,
    node: Option<Spanned<String>>,
    link: Option<Spanned<String>>,
    program: Option<Spanned<String>>,
    size: Option<Blocks>,
    deadline: Option<Time>,
    percent: Option<u32>,
    pageblock: Option<u64>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum DoText {
    GiveBack,
    Add,
    Evacuate,
    MoveTo,
    SetLink,
    LoseLink,
    Remove,
    Poison,
}

fn wrong(at: usize, problem: impl Into<String>) -> Wrong {
    Wrong { at: Some(at), problem: problem.into() }
}

/// The number of a name, or what is wrong with it.
fn find(names: &[String], what: &str, name: &Spanned<String>) -> Result<usize, Wrong> {
    names.iter().position(|known| known == name.get_ref()).ok_or_else(|| {
        let known = names.join(", ");
        wrong(name.span().start, format!("no {what} {:?}; there are: {known}", name.get_ref()))
    })
}

/// Names, each there once.
fn unique<'a>(
    what: &str,
    names: impl Iterator<Item = (usize, &'a str)>,
) -> Result<Vec<String>, Wrong> {
    let mut known: Vec<String> = Vec::new();
    for (at, name) in names {
        if name.is_empty() || known.iter().any(|other| other == name) {
            let expected = "expected a name that no other has";
            return Err(wrong(at, format!("{what} {name:?}; {expected}")));
        }
        known.push(name.to_owned());
    }
    if known.len() > LIST_MAX {
        return Err(wrong(0, format!("{} {what}s; expected {LIST_MAX} at most", known.len())));
    }
    Ok(known)
}

impl Text {
    /// The plan, or the first mistake.
    pub(super) fn plan(&self) -> Result<Plan, Wrong> {
        let place = |named: &Named| named.name.span().start;
        let named = |all: &[Named], what| {
            unique(what, all.iter().map(|one| (place(one), one.name.get_ref().as_str())))
        };
        let processors = named(&self.processor, "processor")?;
        if processors.is_empty() {
            return Err("no processor; expected one or more".to_owned().into());
        }
        let switches = named(&self.switch, "switch")?;
        let nodes = self
            .node
            .iter()
            .map(|node| (node.get_ref().name.span().start, node.get_ref().name.get_ref().as_str()));
        let nodes = unique("node", nodes)?;
        let tenants = self.tenant.iter();
        let tenants = tenants.map(|tenant| (tenant.span().start, tenant.get_ref().name.as_str()));
        let tenants = unique("tenant", tenants)?;
        let programs = self.program.iter();
        let programs = programs.map(|one| (one.span().start, one.get_ref().name.as_str()));
        let programs = unique("program", programs)?;
        let links = self.links(&processors, &switches, &nodes)?;
        let names: Vec<String> = links.iter().map(|link| link.name.clone()).collect();
        let topology = Topology::new(processors.len(), nodes.len(), links).map_err(|error| {
            let at = error.link.map_or(0, |link| self.link[link].span().start);
            wrong(at, error.problem)
        })?;
        let names = Names { processors, nodes, tenants, programs, links: names };
        let plan = self.with_names(&names, topology)?;
        self.check(&plan)?;
        Ok(plan)
    }

    fn links(
        &self,
        processors: &[String],
        switches: &[String],
        nodes: &[String],
    ) -> Result<Vec<Link>, Wrong> {
        let all: Vec<&String> = processors.iter().chain(switches).chain(nodes).collect();
        if let Some(at) = (1..all.len()).find(|&at| all[..at].contains(&all[at])) {
            let name = all[at];
            return Err(format!("{name:?} is a processor, switch or node twice").into());
        }
        let place = |name: &Spanned<String>| {
            let at = |names: &[String]| names.iter().position(|known| known == name.get_ref());
            let place = at(processors).map(Place::Processor);
            let place = place.or_else(|| at(switches).map(Place::Switch));
            place.or_else(|| at(nodes).map(Place::Node)).ok_or_else(|| {
                let problem = format!(
                    "no processor, switch or node {:?} for a link to end at",
                    name.get_ref()
                );
                wrong(name.span().start, problem)
            })
        };
        let link = |text: &Spanned<LinkText>| {
            let LinkText { name, from, to, latency_ns, bandwidth_mib } = text.get_ref();
            let name = name.clone();
            let name = name.unwrap_or_else(|| format!("{}-{}", from.get_ref(), to.get_ref()));
            Ok(Link {
                name,
                from: place(from)?,
                to: place(to)?,
                latency_ns: *latency_ns,
                bandwidth_mib: bandwidth_mib.get(),
            })
        };
        let links: Vec<Link> = self.link.iter().map(link).collect::<Result<_, Wrong>>()?;
        let at = |number: usize| self.link[number].span().start;
        unique("link", links.iter().enumerate().map(|(n, link)| (at(n), link.name.as_str())))?;
        Ok(links)
    }

    fn with_names(&self, names: &Names, topology: Topology) -> Result<Plan, Wrong> {
        let windows = self.window.iter().map(|window| {
            let WindowText { name, from, to } = window.get_ref();
            if from.0 >= to.0 || to.0 > self.duration.0 {
                let expected = "expected one that ends after it begins, within the duration";
                return Err(wrong(window.span().start, format!("window {name:?}; {expected}")));
            }
            Ok(Window { name: name.clone(), from: from.0, to: to.0 })
        });
        let mut windows: Vec<Window> = windows.collect::<Result<_, Wrong>>()?;
        if windows.is_empty() {
            windows.push(Window { name: "all".to_owned(), from: 0, to: self.duration.0 });
        }
        let weight = |(name, weight): (&Spanned<String>, &u8)| {
            let node = find(&names.nodes, "node", name)?;
            match weight {
                0 => Err(wrong(name.span().start, "weight 0; expected 1 to 255")),
                &weight => Ok((NodeId(node as u16), weight)),
            }
        };
        let OrdinaryText { latency_ns, bandwidth_mib } =
            self.ordinary.as_ref().unwrap_or(&ORDINARY);
        Ok(Plan {
            duration: self.duration.0,
            sample_every: self.sample_every.0,
            heat_every: self.heat_every.map(|every| every.0),
            windows,
            processors: names.processors.clone(),
            nodes: self
                .node
                .iter()
                .map(|node| node.get_ref().node(node.span().start))
                .collect::<Result<_, _>>()?,
            topology,
            ordinary: speed(*latency_ns, *bandwidth_mib, None, None),
            tenants: self
                .tenant
                .iter()
                .map(|tenant| tenant.get_ref().tenant(tenant.span().start, names))
                .collect::<Result<_, _>>()?,
            weighting: match self.weighting {
                Some(WeightingText::Manual) => Weighting::Manual,
                _ => Weighting::Automatic,
            },
            weights: self.weights.iter().map(weight).collect::<Result<_, _>>()?,
            limits: self.limits.limits(),
            programs: self
                .program
                .iter()
                .map(|program| program.get_ref().program(program.span().start, names))
                .collect::<Result<_, _>>()?,
            events: self
                .event
                .iter()
                .map(|event| event.get_ref().event(event.span().start, names))
                .collect::<Result<_, _>>()?,
            faults: self.faults.faults()?,
            zero_mib: self.zero_mib.map_or(16 << 10, |mib| mib.get().into()),
        })
    }

    /// What no part can say of itself.
    fn check(&self, plan: &Plan) -> Result<(), Wrong> {
        let pageblocks = plan.pageblocks();
        if pageblocks > PAGEBLOCKS_MAX {
            return Err(
                format!("{pageblocks} pageblocks; expected {PAGEBLOCKS_MAX} at most").into()
            );
        }
        let programs: u64 = plan.programs.iter().map(|program| u64::from(program.count)).sum();
        if programs > PROGRAMS_MAX {
            return Err(format!("{programs} programs; expected {PROGRAMS_MAX} at most").into());
        }
        if plan.sample_every == 0 || plan.duration / plan.sample_every > SAMPLES_MAX {
            let problem = format!("sample-every; expected {SAMPLES_MAX} samples at most");
            return Err(problem.into());
        }
        if plan.heat_every == Some(0) {
            return Err("heat-every 0; expected more".to_owned().into());
        }
        if plan.duration == 0 {
            return Err("duration 0; expected more".to_owned().into());
        }
        for (number, tenant) in plan.tenants.iter().enumerate() {
            for (kind, quota) in &tenant.quotas {
                let max = quota.max.unwrap_or(u64::MAX);
                if quota.min > max || quota.access == Allowed::Denied && quota.min > 0 {
                    let problem = format!(
                        "tenant {:?}: at least {} pageblocks of {kind}; expected {} at most",
                        tenant.name,
                        quota.min,
                        if quota.access == Allowed::Denied { 0 } else { max },
                    );
                    return Err(wrong(self.tenant[number].span().start, problem));
                }
            }
        }
        for kind in NodeKind::ALL {
            let there: u64 = plan
                .nodes
                .iter()
                .filter(|node| node.kind == kind)
                .map(|node| node.pageblocks)
                .sum();
            let sure: u64 = plan.tenants.iter().map(|tenant| tenant.quota(kind).min).sum();
            if sure > there {
                let problem = format!(
                    "{sure} pageblocks of {kind} are guaranteed, of {there} that there are"
                );
                return Err(problem.into());
            }
        }
        Ok(())
    }
}

/// Memory of programs beside the pool, unless something is said of it.
const ORDINARY: OrdinaryText = OrdinaryText {
    latency_ns: NonZeroU32::new(100).expect("not 0"),
    bandwidth_mib: NonZeroU32::new(10 << 10).expect("not 0"),
};

/// What there is, by name.
struct Names {
    processors: Vec<String>,
    nodes: Vec<String>,
    tenants: Vec<String>,
    programs: Vec<String>,
    links: Vec<String>,
}

fn speed(
    latency: NonZeroU32,
    bandwidth: NonZeroU32,
    write_latency: Option<NonZeroU32>,
    write_bandwidth: Option<NonZeroU32>,
) -> Performance {
    Performance {
        read_latency_ns: latency.get(),
        write_latency_ns: write_latency.unwrap_or(latency).get(),
        read_bandwidth_mib: bandwidth.get(),
        write_bandwidth_mib: write_bandwidth.unwrap_or(bandwidth).get(),
    }
}

impl NodeText {
    fn node(&self, at: usize) -> Result<Node, Wrong> {
        let block = self.block.map_or(1, |block| block.0);
        let name = self.name.get_ref();
        if !block.is_power_of_two() || self.size.0 == 0 || !self.size.0.is_multiple_of(block) {
            let expected = "expected one or more whole blocks, of a power of two of pageblocks";
            return Err(wrong(
                at,
                format!("node {name:?}: {} pageblocks; {expected}", self.size.0),
            ));
        }
        if !self.permits.is_empty() && self.class != ClassText::Private {
            return Err(wrong(at, format!("node {name:?}: permits are for private nodes")));
        }
        let permits = self.permits.iter();
        let permits = permits.fold(Capabilities::NONE, |all, one| all.with(one.capability()));
        Ok(Node {
            name: name.clone(),
            kind: self.kind,
            class: match self.class {
                ClassText::Public => NodeClass::Public,
                ClassText::Special => NodeClass::Special,
                ClassText::Private => NodeClass::Private(permits),
            },
            pageblocks: self.size.0,
            block_pageblocks: block,
            media: speed(
                self.latency_ns,
                self.bandwidth_mib,
                self.write_latency_ns,
                self.write_bandwidth_mib,
            ),
            driver: self.driver.map_or(MS, |time| time.0),
        })
    }
}

impl CapabilityText {
    const fn capability(self) -> Capability {
        match self {
            Self::Reclaim => Capability::Reclaim,
            Self::UserNuma => Capability::UserNuma,
            Self::Demotion => Capability::Demotion,
            Self::NumaBalancing => Capability::NumaBalancing,
            Self::LongTermPin => Capability::LongTermPin,
            Self::Damon => Capability::Damon,
            Self::Ksm => Capability::Ksm,
            Self::Collapse => Capability::Collapse,
            Self::Hugetlb => Capability::Hugetlb,
            Self::Fallback => Capability::Fallback,
        }
    }
}

impl PolicyText {
    fn policy(&self, at: usize, names: &Names) -> Result<MemPolicy, Wrong> {
        let nodes = self.nodes.iter().map(|name| find(&names.nodes, "node", name));
        let nodes: Vec<NodeId> =
            nodes.map(|node| node.map(|node| NodeId(node as u16))).collect::<Result<_, _>>()?;
        let expected = match (self.mode, nodes.len()) {
            (ModeText::Local, 1..) => "no nodes with \"local\"",
            (ModeText::Preferred, 0 | 2..) => "one node with \"preferred\"",
            (ModeText::Local | ModeText::Preferred, _) | (_, 1..) => "",
            (_, 0) => "nodes",
        };
        if !expected.is_empty() {
            return Err(wrong(
                at,
                format!("a policy of {} nodes; expected {expected}", nodes.len()),
            ));
        }
        let mask = || nodes.iter().copied().collect::<NodeMask>();
        let mode = match self.mode {
            ModeText::Local => Mode::Local,
            ModeText::Bind => Mode::Bind(mask()),
            ModeText::Preferred => Mode::Preferred(nodes[0]),
            ModeText::PreferredMany => Mode::PreferredMany(mask()),
            ModeText::Interleave => Mode::Interleave(mask()),
            ModeText::WeightedInterleave => Mode::WeightedInterleave(mask()),
        };
        let extended = match self.extended {
            ExtendedText::Any => Extended::Any,
            ExtendedText::Only => Extended::Only,
            ExtendedText::Never => Extended::Never,
        };
        Ok(MemPolicy { mode, extended })
    }
}

impl TenantText {
    fn tenant(&self, at: usize, names: &Names) -> Result<TenantConfig, Wrong> {
        if self.weight.get() > 1000 {
            return Err(wrong(at, format!("weight {}; expected 1 to 1000", self.weight)));
        }
        let waits = matches!(self.on_depletion, DepletionText::Wait | DepletionText::Reclaim);
        if waits != self.wait.is_some() {
            let expected = "expected \"wait\" with on-depletion \"wait\" and \"reclaim\", else not";
            return Err(wrong(at, format!("tenant {:?}: {expected}", self.name)));
        }
        let wait = core::time::Duration::from_nanos(self.wait.map_or(0, |time| time.0));
        let policy = self.policy.as_ref().map(|policy| policy.policy(at, names)).transpose()?;
        let quota = |(&kind, quota): (&NodeKind, &QuotaText)| {
            let access = match quota.access {
                AllowedText::Allowed => Allowed::Allowed,
                AllowedText::Denied => Allowed::Denied,
            };
            let blocks = |blocks: Option<Blocks>| blocks.map(|blocks| blocks.0);
            let (max, pinned_max) = (blocks(quota.max), blocks(quota.pinned_max));
            (kind, Quota { access, max, min: blocks(quota.min).unwrap_or(0), pinned_max })
        };
        Ok(TenantConfig {
            name: self.name.clone(),
            who: vec![Who::Label(self.name.clone())],
            quotas: self.quota.iter().map(quota).collect(),
            weight: self.weight.get(),
            policy: policy.unwrap_or(MemPolicy::LOCAL),
            on_depletion: match self.on_depletion {
                DepletionText::Fail => OnDepletion::Fail,
                DepletionText::FallBack => OnDepletion::FallBack,
                DepletionText::Wait => OnDepletion::Wait(wait),
                DepletionText::Reclaim => OnDepletion::Reclaim(wait),
            },
            emergency: match self.emergency {
                Switch::On => Emergency::On,
                Switch::Off => Emergency::Off,
            },
            migration: match self.migration {
                MigrationText::Allowed => Migration::Allowed,
                MigrationText::Never => Migration::Never,
            },
        })
    }
}

impl ProgramText {
    fn program(&self, at: usize, names: &Names) -> Result<Program, Wrong> {
        let processor = match &self.processor {
            Some(name) => find(&names.processors, "processor", name)?,
            None => 0,
        };
        if !(1..=LIST_MAX).contains(&self.phase.len()) {
            let phases = self.phase.len();
            return Err(wrong(at, format!("{phases} phases; expected 1 to {LIST_MAX}")));
        }
        if self.pin.is_some_and(|reason| !reason.is_pin()) {
            return Err(wrong(at, "pin; expected a reason that lasts, such as \"memory-lock\""));
        }
        let phases = self.phase.iter().map(|phase| phase.phase(at)).collect::<Result<_, _>>()?;
        let policy = self.policy.as_ref().map(|policy| policy.policy(at, names)).transpose()?;
        let zero = |time: Option<Time>| time.map_or(0, |time| time.0);
        if self.fork.as_ref().is_some_and(|fork| fork.every.0 == 0)
            || self.retry.is_some_and(|t| t.0 == 0)
        {
            return Err(wrong(at, "a time of 0; expected more"));
        }
        Ok(Program {
            name: self.name.clone(),
            tenant: find(&names.tenants, "tenant", &self.tenant)?,
            count: self.count.get(),
            start: zero(self.start),
            every: zero(self.every),
            processor,
            phases,
            repeats: self.repeats.get(),
            policy,
            pin: self.pin,
            promise: match self.promise {
                Switch::On => Promise::Asked,
                Switch::Off => Promise::NotAsked,
            },
            lease_max: self.lease_max.get(),
            retry: self.retry.map(|time| time.0),
            fork: self.fork.as_ref().map(|fork| (fork.every.0, fork.lives.0)),
        })
    }
}

impl PhaseText {
    fn phase(&self, at: usize) -> Result<Phase, Wrong> {
        let hot = (self.hot_percent.unwrap_or(100), self.hot_share_percent.unwrap_or(100));
        if hot.0 == 0 || hot.0 > 100 || hot.1 > 100 || self.lasts.0 == 0 {
            let problem = format!(
                "a phase that lasts {} ns, {} % hot for {} % of accesses; expected more than 0, and \
                 100 % at most",
                self.lasts.0, hot.0, hot.1
            );
            return Err(wrong(at, problem));
        }
        let access = match self.wants_mib {
            0 => Access::Idle,
            wants_mib => Access::Busy {
                wants_mib,
                lines: self.lines.map(NonZeroU32::get),
                hot_permille: hot.0 * 10,
                hot_share_permille: hot.1 * 10,
            },
        };
        Ok(Phase { lasts: self.lasts.0, pageblocks: self.working_set.0, access })
    }
}

impl EventText {
    fn event(&self, at: usize, names: &Names) -> Result<Event, Wrong> {
        let need = |key: &str| wrong(at, format!("an event without {key:?}; expected one"));
        let node = || {
            let name = self.node.as_ref().ok_or_else(|| need("node"))?;
            find(&names.nodes, "node", name)
        };
        let link = || {
            let name = self.link.as_ref().ok_or_else(|| need("link"))?;
            find(&names.links, "link", name)
        };
        let size = || match self.size {
            Some(Blocks(size)) if size > 0 => Ok(size),
            _ => Err(need("size")),
        };
        let deadline = self.deadline.map_or(5 * SECOND, |time| time.0);
        let what = match self.what {
            DoText::GiveBack => {
                let from = self.node.as_ref().map(|name| find(&names.nodes, "node", name));
                Happening::GiveBack { pageblocks: size()?, from: from.transpose()?, deadline }
            }
            DoText::Add => Happening::Add { pageblocks: size()?, to: node()? },
            DoText::Evacuate => Happening::Evacuate { node: node()?, deadline },
            DoText::MoveTo => {
                let name = self.program.as_ref().ok_or_else(|| need("program"))?;
                let program = find(&names.programs, "program", name)?;
                Happening::MoveTo { program, to: node()?, deadline }
            }
            DoText::SetLink => match self.percent {
                Some(percent @ 1..=100) => {
                    Happening::Link { link: link()?, width: Width::Percent(percent) }
                }
                _ => return Err(wrong(at, "set-link; expected a \"percent\" of 1 to 100")),
            },
            DoText::LoseLink => Happening::Link { link: link()?, width: Width::Lost },
            DoText::Remove => Happening::Remove { node: node()? },
            DoText::Poison => {
                let pageblock = self.pageblock.ok_or_else(|| need("pageblock"))?;
                Happening::Poison { node: node()?, pageblock }
            }
        };
        Ok(Event { at: self.at.0, what })
    }
}

impl LimitsText {
    fn limits(&self) -> Limits {
        let usual = Limits::default();
        let or = |time: Option<Time>, usual| {
            time.map_or(usual, |time| core::time::Duration::from_nanos(time.0))
        };
        Limits {
            patience: or(self.patience, usual.patience),
            idle_after: or(self.idle_after, usual.idle_after),
            settle_for: or(self.settle_for, usual.settle_for),
            stall_after: or(self.stall_after, usual.stall_after),
            ..usual
        }
    }
}

impl FaultsText {
    fn faults(&self) -> Result<Faults, Wrong> {
        let faults = Faults {
            die_permille: self.die_permille,
            mute_permille: self.mute_permille,
            late_permille: self.late_permille,
            held_permille: self.held_permille,
            driver_mute_permille: self.driver_mute_permille,
            link_lost_permille: self.link_lost_permille,
        };
        let all = [
            faults.die_permille,
            faults.mute_permille,
            faults.late_permille,
            faults.held_permille,
            faults.driver_mute_permille,
            faults.link_lost_permille,
        ];
        match all.iter().find(|&&permille| permille > 1000) {
            Some(permille) => Err(format!("faults: {permille}; expected 1000 at most").into()),
            None => Ok(faults),
        }
    }
}
