//! How much more of a node would let programs have what they ask for.
//!
//! Whoever can have a node grow ([`crate::dynamic_capacity`]) wants to know when that helps, and by
//! how much. Counted is what was asked for and not had, and what a bigger node would have given:
//!
//! * **waiting**: leases that wait, where their route leads to the node and their tenant may have
//!   more of its kind, less what is being zeroed, which comes by itself; promises that wait, by
//!   what they exceed the room. During recovery nobody is counted: what there is is not known.
//! * **refused**: of every process what it was refused last, leases and promises each by
//!   themselves. A program that tries again and again wants the same each time. What it is given
//!   later in the same line settles it, and so does its end.
//! * **fell back**: pageblocks that went elsewhere than the policy says, or to ordinary memory,
//!   since the engine was made. Such a wish is over, and is no wish for ever: that memory stays
//!   where it is. It tells of a program that grows.
//!
//! A wish that stumbled over something else than room is not counted, for no bigger node would help
//! it: a maximum, no access, an evacuation. Nor is one that lacks more than the node may ever grow:
//! who asks for a petabyte, to see whether he gets it, wants nothing that there is.

use alloc::{collections::BTreeMap, vec::Vec};

use memtide_units::{ByteSize, Instant, NodeId, NodeKind, PAGEBLOCK_BYTES, TenantId, TokenId};

use crate::{
    decision::{Asked, Rule},
    demand::Room,
    engine::Engine,
    parts::{first_part, node_of, parts_of, second_part},
    promise::Ahead,
    tenant::Access,
    wishes::{Line, Place, Wish},
};

/// What programs asked of a node and did not get.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Want {
    /// What those lack who wait.
    pub waiting: ByteSize,
    /// What those lacked who were refused lately.
    pub refused: ByteSize,
    /// What went elsewhere, ever.
    pub fell_back: ByteSize,
}

/// What was not given, and would have been if some node had been bigger.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Unmet {
    /// The last refusal of every line of every process that has not been given anything since.
    refused: BTreeMap<Place, Refused>,
    /// Pageblocks, by node.
    fell_back: BTreeMap<usize, u64>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Refused {
    at: Instant,
    /// Pageblocks.
    lacks: u64,
    /// Any of these would have done.
    nodes: Vec<usize>,
}

impl Engine {
    /// What programs lack of a node that may become so much bigger: what waits now, what was
    /// refused since then, and what fell back ever. Nothing when there is no such node.
    #[must_use]
    pub fn want_of(&self, node: NodeId, since: Instant, growth: ByteSize) -> Want {
        let Some(node) = self.pool.index_of(node) else { return Want::default() };
        if self.is_closed(node) {
            return Want::default();
        }
        let most = growth.0 / PAGEBLOCK_BYTES;
        let refused = self.unmet.refused.values();
        let refused = refused.filter(|refused| {
            refused.at >= since && refused.lacks <= most && refused.nodes.contains(&node)
        });
        let refused = refused.fold(0, |sum: u64, refused| sum.saturating_add(refused.lacks));
        Want {
            waiting: ByteSize::from_pageblocks(self.waiting_for(node, most)),
            refused: ByteSize::from_pageblocks(refused),
            fell_back: ByteSize::from_pageblocks(
                self.unmet.fell_back.get(&node).copied().unwrap_or(0),
            ),
        }
    }

    fn waiting_for(&self, node: usize, most: u64) -> u64 {
        if self.recovery.is_some() {
            return 0;
        }
        let (mut leases, mut promises) = (0_u64, 0_u64);
        let mut left: BTreeMap<TenantId, u64> = BTreeMap::new();
        for (&(token, _), line) in &self.queue.of {
            let tenant = self.tenant_of(token);
            let left = left.entry(tenant).or_insert_with(|| self.may_have(tenant, node));
            for (at, waiting) in line.iter().enumerate() {
                let lacks = match &waiting.wish {
                    Wish::Lease(count, _, route) => {
                        let may_lie = self.grows_for(tenant, node);
                        let leads = may_lie && self.legs(tenant, route).any(|leg| leg == node);
                        if leads { u64::from(*count) } else { 0 }
                    }
                    Wish::Promise(by)
                        if self.process(token).reach.contains(&self.part_that_grows(node)) =>
                    {
                        let all = self.promised_to(tenant).saturating_add(*by);
                        match at {
                            _ if !self.could_be_promised(tenant, all, node) => 0,
                            0 => self.lacks_to_promise(token, *by),
                            // What waits behind another is not tried, and lacks all of it.
                            _ => *by,
                        }
                    }
                    Wish::Promise(_) => 0,
                };
                let lacks = if lacks > most { 0 } else { lacks.min(*left) };
                *left -= lacks;
                match waiting.wish.line() {
                    Line::Leases => leases = leases.saturating_add(lacks),
                    Line::Promises => promises = promises.saturating_add(lacks),
                }
            }
        }
        // Promises count what is being zeroed as room already. And what is promised is leased
        // next: room for one is room for the other.
        leases.saturating_sub(self.zeroing.len() as u64).max(promises)
    }

    /// By how much a promise exceeds the room.
    fn lacks_to_promise(&self, token: TokenId, by: u64) -> u64 {
        match self.can_promise(token, by, &Ahead::default()) {
            Ok(()) => 0,
            Err(rule) => self.lacked(token, by, rule),
        }
    }

    /// What a promise of so much lacks, if this rule forbids it: what it exceeds the room on the
    /// nodes that the process reaches by, with all that is promised there.
    fn lacked(&self, token: TokenId, by: u64, rule: Rule) -> u64 {
        let (promised, most) = match rule {
            Rule::Promises { promised, most, .. } => (promised, most),
            Rule::Queue { .. } => return by,
            _ => return 0,
        };
        let (tenant, process) = (self.tenant_of(token), self.process(token));
        let parts = self.open_parts(&process.reach);
        let room: u64 = parts.map(|part| self.free_on(part, Room::Later)).sum();
        let others = self.kept_from(tenant, &process.reach, Room::Later);
        let spare =
            room.saturating_sub(others).saturating_sub(self.open_in(tenant, &process.reach));
        let after = process.committed.saturating_add(by).max(process.owned);
        let lacks = (after - process.promised()).saturating_sub(spare);
        lacks.max(promised.saturating_sub(most)).min(by)
    }

    /// The part of a node that what comes is added to.
    fn part_that_grows(&self, node: usize) -> usize {
        if self.pool.nodes()[node].zone.is_movable_only() {
            second_part(node)
        } else {
            first_part(node)
        }
    }

    /// Whether a tenant's leases may lie in what a node grows by.
    fn grows_for(&self, tenant: TenantId, node: usize) -> bool {
        parts_of(node, self.movability(tenant)).contains(&self.part_that_grows(node))
    }

    /// The nodes whose growth is in one of these parts, ascending.
    fn growing_in(&self, parts: &[usize]) -> Vec<usize> {
        let grows = |&&part: &&usize| part == self.part_that_grows(node_of(part));
        parts.iter().filter(grows).map(|&part| node_of(part)).collect()
    }

    /// Whether a tenant could be promised so much in all if a node were big enough.
    fn could_be_promised(&self, tenant: TenantId, promised: u64, node: usize) -> bool {
        let growing = self.pool.nodes()[node].kind;
        let most = NodeKind::ALL.map(|kind| {
            let quota = self.tenant(tenant).config.quota(kind);
            let of_kind: Vec<usize> = self.parts_for(tenant, kind).collect();
            let online = self.open_parts(&of_kind).map(|part| self.usable_in_part(part));
            let there = online.sum();
            let there = if kind == growing { u64::MAX } else { there };
            match quota.access {
                Access::Allowed => quota.max.unwrap_or(u64::MAX).min(there),
                Access::Denied => 0,
            }
        });
        most.into_iter().fold(0, u64::saturating_add) >= promised
    }

    /// What a tenant is promised in all.
    fn promised_to(&self, tenant: TenantId) -> u64 {
        let sum: u128 = self.sums.of(tenant).map(|(_, sum)| sum.promised).sum();
        u64::try_from(sum).unwrap_or(u64::MAX)
    }

    /// How much more of a node's kind a tenant may have, as far as its quota goes.
    fn may_have(&self, tenant: TenantId, node: usize) -> u64 {
        let kind = self.pool.nodes()[node].kind;
        let tenant = self.tenant(tenant);
        let quota = tenant.config.quota(kind);
        match quota.access {
            Access::Denied => 0,
            Access::Allowed => {
                quota.max.map_or(u64::MAX, |max| max.saturating_sub(tenant.used[kind as usize]))
            }
        }
    }

    /// A process has an answer: so much was granted, so much of it on nodes that its policy leaves
    /// out, and this stood in the way.
    pub(crate) fn note_answer(
        &mut self,
        token: TokenId,
        asked: Asked,
        (granted, beyond): (u64, u64),
        rules: &[Rule],
    ) {
        let (place, falls_back) = match asked {
            Asked::Lease(_) => ((token, Line::Leases), self.falls_back(self.tenant_of(token))),
            Asked::Promise(_) => ((token, Line::Promises), false),
        };
        let (lacks, nodes) = match asked {
            Asked::Lease(count) => (count - granted + beyond, self.too_small(rules)),
            Asked::Promise(by) => (
                rules.first().map_or(0, |&rule| self.lacked(token, by, rule)),
                self.growing_in(&self.process(token).reach),
            ),
        };
        self.unmet.refused.remove(&place);
        let tenant = self.tenant_of(token);
        let promised = match asked {
            Asked::Lease(_) => 0,
            Asked::Promise(by) => self.promised_to(tenant).saturating_add(by),
        };
        let helps = |&node: &usize| {
            self.grows_for(tenant, node)
                && self.may_have(tenant, node) >= lacks
                && self.could_be_promised(tenant, promised, node)
        };
        let nodes: Vec<usize> = nodes.into_iter().filter(helps).collect();
        if lacks == 0 || nodes.is_empty() {
            return;
        }
        if falls_back {
            for node in nodes {
                let sum = self.unmet.fell_back.entry(node).or_default();
                *sum = sum.saturating_add(lacks);
            }
        } else if granted == 0 {
            // Who got a part asks for the rest.
            self.unmet.refused.insert(place, Refused { at: self.now, lacks, nodes });
        }
    }

    /// A process wants nothing any more.
    pub(crate) fn forget_unmet(&mut self, token: TokenId) {
        for line in [Line::Leases, Line::Promises] {
            self.unmet.refused.remove(&(token, line));
        }
    }

    /// The nodes that had too little.
    fn too_small(&self, rules: &[Rule]) -> Vec<usize> {
        let node = |rule: &Rule| match *rule {
            Rule::Full { node }
            | Rule::MovableOnly { node, .. }
            | Rule::NoCapacity { node }
            | Rule::Guaranteed { node, .. }
            | Rule::Promised { node, .. } => self.pool.index_of(node),
            Rule::AccessedBy { .. }
            | Rule::NoAccess { .. }
            | Rule::Maximum { .. }
            | Rule::Queue { .. }
            | Rule::NoEmergency { .. }
            | Rule::Evacuating { .. }
            | Rule::Earlier { .. }
            | Rule::Recovery { .. }
            | Rule::Masks { .. }
            | Rule::Promises { .. } => None,
        };
        rules.iter().filter_map(node).collect()
    }
}
