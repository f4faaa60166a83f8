//! What was decided for a tenant, why, and how to say it.
//!
//! Every answer to a lease or a promise is noted, with the rules that decided it. A tenant's latest
//! [`DECISIONS_MAX`] are kept. Nodes are known by number here; who knows their names says so
//! ([`Decision::text`]).

use alloc::{format, string::String, vec::Vec};
use core::fmt;

use memtide_units::{ByteSize, NodeId, TenantId, TokenId};

use crate::{
    decision::{Asked, DECISIONS_MAX, Decision, Outcome, Rule, Scope},
    engine::Engine,
    queue::FOREVER,
};

impl Engine {
    /// Notes what came of what a process asked for.
    pub(crate) fn decide(
        &mut self,
        token: TokenId,
        asked: Asked,
        outcome: Outcome,
        rules: Vec<Rule>,
    ) {
        let member = self.process(token).member().expect("who asks has joined");
        let (tenant, at) = (self.tenant_of(token), self.now);
        let all = &mut self.tenant_mut(tenant).decisions;
        if let Some(last) = all.back_mut()
            && (last.member, last.asked) == (member, asked)
            && (&last.outcome, &last.rules) == (&outcome, &rules)
        {
            last.times += 1;
            last.at = at;
            return;
        }
        if all.len() == DECISIONS_MAX {
            all.pop_front();
        }
        all.push_back(Decision { at, times: 1, member, asked, outcome, rules });
    }

    /// What was decided lately for a tenant, the oldest first. Nothing when there is no such
    /// tenant.
    pub fn decisions(&self, tenant: TenantId) -> impl DoubleEndedIterator<Item = &Decision> {
        let tenant = self.tenants.get(usize::from(tenant.0));
        tenant.into_iter().flat_map(|tenant| &tenant.decisions)
    }
}

/// Pageblocks, as people read them.
fn size(pageblocks: u64) -> ByteSize {
    ByteSize::from_pageblocks(pageblocks)
}

fn shares(shares: &[(NodeId, u64)], name: impl Fn(NodeId) -> String) -> String {
    let one = |&(node, count): &(NodeId, u64)| format!("{} on {}", size(count), name(node));
    shares.iter().map(one).collect::<Vec<_>>().join(", ")
}

impl Decision {
    /// The decision in words, with nodes called as `name` says.
    pub fn text(&self, name: impl Fn(NodeId) -> String) -> String {
        let mut text = format!("{} {}: {}", self.member, self.asked, self.outcome.text(&name));
        for (place, rule) in self.rules.iter().enumerate() {
            text.push_str(if place == 0 { "; because " } else { "; " });
            text.push_str(&rule.text(&name));
        }
        if self.times > 1 {
            text.push_str(&format!(" ({} times)", self.times));
        }
        text
    }
}

impl Outcome {
    /// The outcome in words, with nodes called as `name` says.
    pub fn text(&self, name: impl Fn(NodeId) -> String) -> String {
        match self {
            Self::Placed(all) => format!("placed {}", shares(all, name)),
            Self::FellBack(all) => format!("fell back to {}", shares(all, name)),
            Self::Emergency(all) => format!("in an emergency placed {}", shares(all, name)),
            Self::Promised => String::from("promised"),
            Self::Waits(FOREVER) => String::from("waits for programs to return"),
            Self::Waits(until) => format!("waits until {:?} at most", until.0),
            Self::Refused => String::from("refused"),
            Self::TimedOut => String::from("refused after it had waited"),
        }
    }
}

impl Rule {
    /// The rule in words, with nodes called as `name` says.
    pub fn text(&self, name: impl Fn(NodeId) -> String) -> String {
        match *self {
            Self::NoAccess { node, kind } => {
                format!("{}: the tenant may not use {kind} memory", name(node))
            }
            Self::Maximum { node, kind, used, max } => format!(
                "{}: the tenant has {} of {kind} memory and may have {}",
                name(node),
                size(used),
                size(max)
            ),
            Self::Guaranteed { node, free, reserved } => format!(
                "{}: of this kind {} is free and {} guaranteed to other tenants",
                name(node),
                size(free),
                size(reserved)
            ),
            Self::Promised { node, free } => format!(
                "{}: of {} the rest is promised to programs that cannot fall back",
                name(node),
                size(free)
            ),
            Self::Queue { before: 0 } => String::from("its tenant waits for a promise already"),
            Self::Queue { before } => format!("others wait for promises of {}", size(before)),
            Self::Earlier { wishes } => {
                format!("the program waits for {wishes} things that it asked for before")
            }
            Self::Recovery { awaited } => {
                format!("{awaited} programs have not said yet what they hold")
            }
            Self::Full { node } => format!("{}: nothing is free", name(node)),
            Self::MovableOnly { node, asked, kernel, movable } => format!(
                "{}: of {} that is not to move, {} had room, and {} is free only where all must \
                 be able to move",
                name(node),
                size(asked),
                size(kernel),
                size(movable)
            ),
            Self::AccessedBy { node, latency_ns, bandwidth_mib } => {
                accessed_by(&name(node), latency_ns, bandwidth_mib)
            }
            Self::NoCapacity { node } => format!("{}: all of it is offline", name(node)),
            Self::NoEmergency { node } => {
                format!("{}: not even in an emergency, for this tenant", name(node))
            }
            Self::Evacuating { node } => format!("{}: it is being evacuated", name(node)),
            Self::Masks { most } => format!(
                "its policy's nodes are not among the {most} sets of which promises are counted"
            ),
            Self::Promises { scope, promised, most } => promises(scope, promised, most),
        }
    }
}

fn accessed_by(node: &str, latency_ns: u64, bandwidth_mib: u64) -> String {
    let waits = format!("{node}: those who access it wait {latency_ns}ns");
    match bandwidth_mib {
        0 => waits,
        known => format!("{waits} and have {known}MiB/s"),
    }
}

fn promises(scope: Scope, promised: u64, most: u64) -> String {
    let (promised, most) = (size(promised), size(most));
    match scope {
        Scope::Process => format!(
            "it would be promised {promised} and its policy and its tenant's quotas let it have \
             {most}"
        ),
        Scope::Tenant => format!("its tenant would be promised {promised} and may have {most}"),
        Scope::Pool => format!("{promised} would be promised or guaranteed and {most} is there"),
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Lease(count) => write!(f, "wants {}", size(count)),
            Self::Promise(by) => write!(f, "wants to be promised {}", size(by)),
        }
    }
}

/// The name of a node as the engine knows it.
fn number(node: NodeId) -> String {
    format!("{node}")
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(number))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(number))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(number))
    }
}
