//! What operators ask about tenants: who has how much, and why somebody got what it got.
//!
//! The engine keeps what it decided and what it moved; what a rule refused beside that is kept in
//! `refusals`. All is told together, in the order of time.
//!
//! The engine knows processes by names of its own and keeps decisions about those that have ended;
//! so do we, as long as one of its decisions names them.

mod moved;
mod refusals;

use std::collections::{BTreeMap, BTreeSet};

use memtide_engine::{
    Decision, Rule,
    decision::{Asked, Outcome, Scope},
    mempolicy::{Extended, MemPolicy},
    tenant::{Access, OnDepletion, Who},
};
use memtide_proto::{
    ControlReply, Refused, Whom,
    control::{self, NodeBytes, Reason},
};
use memtide_units::{ByteSize, ImageId, Instant, MemberId, NodeId, TenantId};

use crate::{
    config::policy_in_words,
    control::chunks,
    daemon::{ConnectionId, Daemon},
    program::refused,
};

pub(crate) use self::refusals::Refusals;

/// A process that has ended, as it was called.
#[derive(Clone, Debug)]
pub(crate) struct Past {
    pub(crate) pid: u32,
    pub(crate) image: ImageId,
    pub(crate) name: String,
}

impl Daemon {
    pub(crate) fn send_tenants(&mut self, id: ConnectionId) {
        let parts = chunks(&self.tenants());
        let last = parts.len() - 1;
        for (index, tenants) in parts.into_iter().enumerate() {
            self.send(id, &ControlReply::Tenants { tenants, more: index < last });
        }
        self.close(id);
    }

    pub(crate) fn send_decisions(&mut self, id: ConnectionId, whom: &Whom) -> Result<(), Refused> {
        let parts = chunks(&self.decisions(whom)?);
        let last = parts.len() - 1;
        for (index, decisions) in parts.into_iter().enumerate() {
            self.send(id, &ControlReply::Decisions { decisions, more: index < last });
        }
        self.close(id);
        Ok(())
    }

    fn tenants(&self) -> Vec<control::TenantStatus> {
        let configured = self.config.tenants();
        let all = self.engine.tenant_status().into_iter().zip(&configured);
        all.map(|(status, config)| {
            let (on_depletion, wait_ms) = on_depletion(status.on_depletion);
            control::TenantStatus {
                name: status.name,
                who: config.who.iter().map(who).collect(),
                weight: status.weight,
                policy: self.policy(&config.policy),
                on_depletion,
                wait_ms,
                processes: status.processes,
                kinds: status.kinds.into_iter().map(kind).collect(),
                promised: status.promised,
                waiting: control::Waiting { requests: status.waiting, bytes: status.waiting_for },
                fell_back: status.fell_back,
            }
        })
        .collect()
    }

    fn policy(&self, policy: &MemPolicy) -> String {
        let extended = match policy.extended {
            Extended::Any => "",
            Extended::Only => ", extended only",
            Extended::Never => ", never extended",
        };
        policy_in_words(&policy.mode, &self.config.nodes, &self.config.accessors) + extended
    }

    pub(crate) fn node_name(&self, node: NodeId) -> String {
        self.config.nodes[usize::from(node.0)].name.clone()
    }

    /// The name of a tenant.
    pub(crate) fn tenant_name(&self, tenant: TenantId) -> String {
        self.tenant_names.get(usize::from(tenant.0)).cloned().unwrap_or_default()
    }

    /// The name of the tenant of an image.
    pub(crate) fn tenant_of_image(&self, image: ImageId) -> String {
        self.tenants.get(&image).map(|id| self.tenant_name(*id)).unwrap_or_default()
    }

    fn decisions(&self, whom: &Whom) -> Result<Vec<control::Decision>, Refused> {
        let only = match whom {
            Whom::Tenant(name) => Some(self.tenant_named(name)?),
            Whom::Everybody | Whom::Pid(_) => None,
        };
        let image = match whom {
            Whom::Pid(pid) => self.last_with(*pid),
            Whom::Everybody | Whom::Tenant(_) => None,
        };
        let of_pid = |member: MemberId| match whom {
            Whom::Pid(pid) => {
                let Past { pid: had, image: of, .. } = self.called(member);
                had == *pid && Some(of) == image
            }
            Whom::Everybody | Whom::Tenant(_) => true,
        };
        let mut all: Vec<(Instant, control::Decision)> = Vec::new();
        for tenant in self.tenant_ids().filter(|id| only.is_none_or(|only| only == *id)) {
            let kept = self.engine.decisions(tenant).filter(|decision| of_pid(decision.member));
            all.extend(kept.map(|decision| (decision.at, self.decision(tenant, decision))));
            let moved = self.engine.migrations(tenant).filter(|moved| of_pid(moved.member));
            all.extend(moved.map(|moved| (moved.at, self.migration(tenant, moved))));
        }
        let now = self.engine_now();
        for (tenant, refused) in self.refusals.iter() {
            let concerns = match whom {
                Whom::Everybody => true,
                Whom::Pid(pid) => refused.is_of(*pid, image),
                Whom::Tenant(_) => tenant == only,
            };
            if concerns {
                let tenant = tenant.map(|id| self.tenant_name(id)).unwrap_or_default();
                all.push((refused.at, refused.told(tenant, now)));
            }
        }
        if let (Whom::Pid(pid), None, true) = (whom, image, all.is_empty()) {
            return Err(refused("pid", pid, "a program of this pool, or one that ended lately"));
        }
        all.sort_by_key(|(at, _)| *at);
        Ok(all.into_iter().map(|(_, decision)| decision).collect())
    }

    fn tenant_ids(&self) -> impl Iterator<Item = TenantId> + use<> {
        let count = u16::try_from(self.tenant_names.len()).expect("a pool has few tenants");
        (0..count).map(TenantId)
    }

    fn tenant_named(&self, name: &str) -> Result<TenantId, Refused> {
        let mut all = self.tenant_ids();
        all.find(|id| self.tenant_name(*id) == name).ok_or_else(|| {
            let names = self.tenant_names.join(", ");
            refused("tenant", name, format!("one of the tenants {names}"))
        })
    }

    /// A process that is there, or was.
    fn called(&self, member: MemberId) -> Past {
        let present = || {
            let member = self.members.get(&member)?;
            Some(Past { pid: member.pid, image: member.image, name: member.name.clone() })
        };
        let unknown = Past { pid: 0, image: ImageId(0), name: String::new() };
        present().or_else(|| self.past.get(&member).cloned()).unwrap_or(unknown)
    }

    /// The image of the process that has this number, or was the last to have it: a number is given
    /// again to another program, whose decisions have nothing to do with those.
    fn last_with(&self, pid: u32) -> Option<ImageId> {
        let present = self.members.iter().filter(|(_, member)| member.pid == pid);
        let present = present.map(|(id, member)| (member.connection.is_some(), *id, member.image));
        let past = self.past.iter().filter(|(_, past)| past.pid == pid);
        let past = past.map(|(id, past)| (*id, past.image));
        let last = present.max().map(|(_, _, image)| image);
        last.or_else(|| past.max().map(|(_, image)| image))
    }

    fn decision(&self, tenant: TenantId, decision: &Decision) -> control::Decision {
        let now = self.engine_now();
        let Past { pid, image, name } = self.called(decision.member);
        let (asked, pageblocks) = match decision.asked {
            Asked::Lease(count) => (control::Asked::Lease, count),
            Asked::Promise(count) => (control::Asked::Promise, count),
            other => unreachable!("{other:?} is not asked here"),
        };
        let (outcome, nodes) = self.outcome(&decision.outcome);
        let wait = match decision.outcome {
            Outcome::Waits(until) => until.0.saturating_sub(now.0),
            _ => std::time::Duration::ZERO,
        };
        control::Decision {
            tenant: self.tenant_name(tenant),
            pid,
            image,
            program: name,
            ago_ms: milliseconds(now.0.saturating_sub(decision.at.0)),
            times: decision.times,
            asked,
            bytes: ByteSize::from_pageblocks(pageblocks),
            from: None,
            outcome,
            nodes,
            wait_ms: milliseconds(wait),
            because: decision.rules.iter().map(|rule| self.reason(tenant, rule)).collect(),
        }
    }

    fn outcome(&self, outcome: &Outcome) -> (control::Outcome, Vec<NodeBytes>) {
        let nodes = |shares: &[(NodeId, u64)]| {
            let share = |&(node, count): &(NodeId, u64)| NodeBytes {
                node: self.node_name(node),
                bytes: ByteSize::from_pageblocks(count),
            };
            shares.iter().map(share).collect()
        };
        match outcome {
            Outcome::Placed(shares) => (control::Outcome::Placed, nodes(shares)),
            Outcome::FellBack(shares) => (control::Outcome::FellBack, nodes(shares)),
            Outcome::Emergency(shares) => (control::Outcome::Emergency, nodes(shares)),
            Outcome::Promised => (control::Outcome::Promised, Vec::new()),
            Outcome::Waits(_) => (control::Outcome::Waits, Vec::new()),
            Outcome::Refused => (control::Outcome::Refused, Vec::new()),
            Outcome::TimedOut => (control::Outcome::TimedOut, Vec::new()),
            other => unreachable!("{other:?} does not come of what is asked here"),
        }
    }

    fn reason(&self, tenant: TenantId, rule: &Rule) -> Reason {
        let (name, node, amounts) = parts(rule);
        let amount =
            |(name, count): (&str, u64)| (name.to_owned(), ByteSize::from_pageblocks(count));
        Reason {
            rule: name.to_owned(),
            node: node.map(|node| self.node_name(node)),
            amounts: amounts.into_iter().map(amount).collect(),
            count: match *rule {
                Rule::Earlier { wishes } => Some(wishes),
                Rule::Recovery { awaited } => Some(awaited),
                Rule::AccessedBy { latency_ns, .. } => Some(latency_ns),
                _ => None,
            },
            text: rule.text(|node| self.node_name(node)) + &self.who_accesses(tenant, rule),
        }
    }

    /// Who those are that a rule speaks of. The policy is the tenant's: programs of a pool have none
    /// of their own.
    fn who_accesses(&self, tenant: TenantId, rule: &Rule) -> String {
        match (rule, self.config.tenants.get(usize::from(tenant.0))) {
            (Rule::AccessedBy { .. }, Some(tenant)) => {
                format!(" ({})", self.policy(&tenant.policy))
            }
            _ => String::new(),
        }
    }

    /// Keeps in mind who has ended, as long as a decision names it.
    pub(crate) fn remember(&mut self, gone: BTreeMap<MemberId, Past>) {
        if gone.is_empty() {
            return;
        }
        self.past.extend(gone);
        let decided = self.tenant_ids().flat_map(|tenant| self.engine.decisions(tenant));
        let moved = self.tenant_ids().flat_map(|tenant| self.engine.migrations(tenant));
        let named = decided.map(|decision| decision.member);
        let named: BTreeSet<MemberId> = named.chain(moved.map(|moved| moved.member)).collect();
        self.past.retain(|member, _| named.contains(member));
    }
}

fn milliseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What happens to a tenant when there is no room, and how long it waits.
pub(crate) fn on_depletion(what: OnDepletion) -> (control::OnDepletion, u64) {
    match what {
        OnDepletion::Fail => (control::OnDepletion::Fail, 0),
        OnDepletion::FallBack => (control::OnDepletion::FallBack, 0),
        OnDepletion::Wait(most) => (control::OnDepletion::Wait, milliseconds(most)),
        OnDepletion::Reclaim(most) => (control::OnDepletion::Reclaim, milliseconds(most)),
    }
}

fn who(who: &Who) -> String {
    match who {
        Who::Uid(uid) => format!("uid {uid}"),
        Who::Gid(gid) => format!("gid {gid}"),
        Who::Cgroup(path) => format!("cgroup {path}"),
        Who::Label(label) => format!("label {label}"),
    }
}

fn kind(kind: memtide_engine::KindStatus) -> control::KindStatus {
    control::KindStatus {
        kind: kind.kind,
        allowed: kind.access == Access::Allowed,
        used: kind.used,
        max: kind.max,
        min: kind.min,
        pinned: kind.pinned,
        pinned_max: kind.pinned_max,
    }
}

/// A rule's name, its node, and its amounts in pageblocks.
fn parts(rule: &Rule) -> (&'static str, Option<NodeId>, Vec<(&'static str, u64)>) {
    match *rule {
        Rule::NoAccess { node, .. } => ("no-access", Some(node), vec![]),
        Rule::Maximum { node, used, max, .. } => {
            ("maximum", Some(node), vec![("used", used), ("max", max)])
        }
        Rule::Guaranteed { node, free, reserved } => {
            ("guaranteed", Some(node), vec![("free", free), ("reserved", reserved)])
        }
        Rule::Promised { node, free } => ("promised", Some(node), vec![("free", free)]),
        Rule::Queue { before } => ("queue", None, vec![("before", before)]),
        Rule::Full { node } => ("full", Some(node), vec![]),
        Rule::MovableOnly { node, asked, kernel, movable } => {
            let amounts = vec![("asked", asked), ("kernel", kernel), ("movable", movable)];
            ("movable-only", Some(node), amounts)
        }
        Rule::AccessedBy { node, .. } => ("accessed-by", Some(node), vec![]),
        Rule::NoCapacity { node } => ("no-capacity", Some(node), vec![]),
        Rule::NoEmergency { node } => ("no-emergency", Some(node), vec![]),
        Rule::Evacuating { node } => ("evacuating", Some(node), vec![]),
        Rule::Earlier { .. } => ("earlier", None, vec![]),
        Rule::Recovery { .. } => ("recovery", None, vec![]),
        Rule::Masks { most } => ("masks", None, vec![("most", most)]),
        Rule::Promises { scope, promised, most } => {
            let name = match scope {
                Scope::Process => "promises-of-process",
                Scope::Tenant => "promises-of-tenant",
                Scope::Pool => "promises-of-pool",
            };
            (name, None, vec![("promised", promised), ("most", most)])
        }
    }
}

#[cfg(test)]
mod tests {
    use memtide_units::NodeKind;

    use super::*;

    /// One of every rule; [`parts`] does not compile without a name for each.
    fn every_rule() -> Vec<Rule> {
        let (node, kind) = (NodeId(1), NodeKind::Near);
        let promises = |scope| Rule::Promises { scope, promised: 3, most: 2 };
        vec![
            Rule::NoAccess { node, kind },
            Rule::Maximum { node, kind, used: 1, max: 2 },
            Rule::Guaranteed { node, free: 1, reserved: 2 },
            Rule::Promised { node, free: 1 },
            Rule::Queue { before: 1 },
            Rule::Full { node },
            Rule::MovableOnly { node, asked: 1, kernel: 0, movable: 1 },
            Rule::AccessedBy { node, latency_ns: 1, bandwidth_mib: 1 },
            Rule::NoCapacity { node },
            Rule::NoEmergency { node },
            Rule::Evacuating { node },
            Rule::Earlier { wishes: 1 },
            Rule::Recovery { awaited: 1 },
            Rule::Masks { most: 1 },
            promises(Scope::Process),
            promises(Scope::Tenant),
            promises(Scope::Pool),
        ]
    }

    #[test]
    fn every_rule_has_a_name_of_its_own_and_a_line_in_the_reference() {
        let reference = include_str!("../../../docs/cli.md");
        let mut names = BTreeSet::new();
        for rule in every_rule() {
            let (name, node, amounts) = parts(&rule);
            assert!(names.insert(name), "{name} is there twice");
            let short = name.strip_prefix("promises").unwrap_or("none");
            let line = reference.lines().find(|line| {
                line.starts_with('|')
                    && (line.contains(&format!("`{name}`")) || line.contains(&format!("`{short}`")))
            });
            let line = line.unwrap_or_else(|| panic!("{name} is not in docs/cli.md"));
            for (amount, _) in amounts {
                assert!(line.contains(&format!("`{amount}`")), "{amount} of {name}: {line}");
            }
            let of_node = rule.text(|_| "n".to_owned()).starts_with("n:");
            assert_eq!(node.is_some(), of_node, "{name}");
        }
    }
}
