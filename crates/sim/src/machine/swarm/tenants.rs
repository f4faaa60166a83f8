//! Tenants, what they may have, and where their memory goes.

use core::time::Duration;
use std::collections::BTreeMap;

use memtide_engine::{
    TenantConfig,
    mempolicy::{Extended, MemPolicy, Mode},
    nodes::{Capability, NodeClass, NodeMask},
    tenant::{Access as Allowed, Emergency, Migration, OnDepletion, Quota, Who},
};
use memtide_units::{AccessorId, NodeId, NodeKind};

use super::{Features, Swarm};
use crate::machine::plan::Node;

/// What is left to guarantee of each kind, and what of that to who is never moved.
type Left = BTreeMap<NodeKind, [u64; 2]>;

impl Swarm {
    pub(super) fn policy(&mut self, has: &Features, nodes: &[Node]) -> MemPolicy {
        // What is private is bound to, if its owner permits that, and named by nothing else.
        let bindable = |node: &Node| match node.class {
            NodeClass::Private(capabilities) => capabilities.has(Capability::UserNuma),
            _ => true,
        };
        let ids = |of: &dyn Fn(&Node) -> bool| -> Vec<NodeId> {
            let all = nodes.iter().enumerate().filter(|(_, node)| of(node));
            all.map(|(number, _)| NodeId(number as u16)).collect()
        };
        let public = ids(&|node| !matches!(node.class, NodeClass::Private(_)));
        let all = ids(&bindable);
        let mode = match self.below(if has.accessors { 10 } else { 7 }) {
            1 => Mode::Bind(self.some(&all)),
            2 => Mode::Preferred(self.one_of(&public)),
            3 => Mode::PreferredMany(self.some(&public)),
            4 => Mode::Interleave(self.some(&public)),
            5 => Mode::WeightedInterleave(self.some(&public)),
            // The first processor, who reaches every node, or both.
            6..10 if has.accessors => Mode::AccessedBy(
                [0, 1].map(|id| (AccessorId(id), u64::from(id == 0) + self.below(4))).to_vec(),
            ),
            _ => Mode::Local,
        };
        let extended = match self.below(10) {
            0 => Extended::Only,
            1 => Extended::Never,
            _ => Extended::Any,
        };
        MemPolicy { mode, extended }
    }

    /// One or more of these.
    pub(super) fn some(&mut self, from: &[NodeId]) -> NodeMask {
        let one = self.one_of(from);
        from.iter().copied().filter(|_| self.percent(50)).chain([one]).collect()
    }

    pub(super) fn tenants(&mut self, has: &Features, nodes: &[Node]) -> Vec<TenantConfig> {
        let count = self.between(1, 4);
        let mut left = Left::new();
        for node in nodes {
            let [all, for_never] = left.entry(node.kind).or_default();
            *all += node.pageblocks;
            *for_never += if node.zone.is_movable_only() { 0 } else { node.pageblocks };
        }
        (0..count)
            .map(|number| {
                let name = format!("t{number}");
                let migration =
                    if self.percent(85) { Migration::Allowed } else { Migration::Never };
                let quotas = self.quotas(has, migration, &mut left);
                let wait = Duration::from_millis(self.one_of(&[10, 500, 3000]));
                TenantConfig {
                    who: vec![Who::Label(name.clone())],
                    name,
                    quotas,
                    weight: self.between(1, 5) as u32,
                    policy: match has.policies {
                        true => self.policy(has, nodes),
                        false => MemPolicy::LOCAL,
                    },
                    on_depletion: match (has.waits, self.below(4)) {
                        (true, 0) => OnDepletion::Wait(wait),
                        (true, 1) => OnDepletion::Reclaim(wait),
                        (_, 2) => OnDepletion::FallBack,
                        _ => OnDepletion::Fail,
                    },
                    emergency: self.one_of(&[Emergency::Off, Emergency::On]),
                    migration,
                }
            })
            .collect()
    }

    /// What a tenant may have of each kind, of what is left to guarantee.
    fn quotas(
        &mut self,
        has: &Features,
        migration: Migration,
        left: &mut Left,
    ) -> BTreeMap<NodeKind, Quota> {
        let mut quotas = BTreeMap::new();
        for (&kind, [left, for_never]) in left {
            if !self.percent(60) {
                continue;
            }
            let most = match migration {
                Migration::Allowed => *left,
                Migration::Never => (*left).min(*for_never),
            };
            let min = if has.guarantees { self.below(most / 2 + 1) } else { 0 };
            if migration == Migration::Never {
                *for_never -= min;
            }
            let max = (has.quotas && self.percent(60)).then(|| min + self.below(40));
            let denied = has.quotas && min == 0 && self.percent(15);
            *left -= min;
            let access = if denied { Allowed::Denied } else { Allowed::Allowed };
            let pinned_max = (has.quotas && self.percent(30)).then(|| self.below(16));
            quotas.insert(kind, Quota { access, max, min, pinned_max });
        }
        quotas
    }
}
