//! What the engine is told of a configuration: positions become names, sizes become pageblocks.
//!
//! A maximum is rounded down to whole pageblocks and a minimum up, so that neither promises more
//! than the file says.

use std::time::Duration;

use memtide_engine as engine;
use memtide_engine::{mempolicy::Weighting, tenant::OnDepletion};
use memtide_proto::program::OnFull;
use memtide_units::{NodeId, Pageblock};

use super::{
    Config, NodeConfig, TenantConfig, Weights, accessors,
    tenants::{Quota, whole_pageblocks},
};
use crate::{daemon::node_id, state::NodeState, zones};

/// The tenant that everybody belongs to where the file has none.
const EVERYBODY: &str = "everybody";

impl Config {
    /// As the engine has it: the nodes at these places, each as an earlier daemon left it.
    pub(crate) fn rulebook(&self, firsts: &[Pageblock], left: &[NodeState]) -> engine::Config {
        let block_pageblocks = self.block.pageblocks_ceil();
        let nodes = self.nodes.iter().zip(firsts).zip(left).enumerate();
        let nodes = nodes.map(|(index, ((node, first), left))| engine::NodeConfig {
            node: node_id(index),
            name: node.name.clone(),
            kind: node.kind,
            class: node.class,
            performance: node.performance,
            first: *first,
            pageblocks: node.size.pageblocks_ceil(),
            block_pageblocks,
            offline: left.offline.clone(),
            zone: node.zone,
            zones: zones::known(&left.zones),
        });
        let mut made = engine::Config::new(nodes.collect());
        made.placement = self.placement.iter().map(|index| node_id(*index)).collect();
        made.distances = self.nodes.iter().enumerate().flat_map(distances).collect();
        if let Weights::Manual(weights) = &self.weights {
            made.weighting = Weighting::Manual;
            made.weights = weights.iter().map(|(node, weight)| (node_id(*node), *weight)).collect();
        }
        made.accessors = accessors::entries(&self.accessors);
        // Nobody tells this engine of accesses: what it does not hear of is not idle.
        made.limits.idle_after = Duration::MAX;
        made.tenants = self.tenants().iter().map(|tenant| self.tenant_rules(tenant)).collect();
        made
    }

    /// The tenants, in the order in which the engine names them: those of the file, or everybody.
    #[must_use]
    pub fn tenants(&self) -> Vec<TenantConfig> {
        match self.tenants.as_slice() {
            [] => vec![TenantConfig::everybody(EVERYBODY)],
            tenants => tenants.to_vec(),
        }
    }

    /// What happens when there is no room for a tenant.
    #[must_use]
    pub fn on_depletion(&self, tenant: &TenantConfig) -> OnDepletion {
        tenant.on_depletion.unwrap_or(match self.on_full {
            OnFull::Fail => OnDepletion::Fail,
            OnFull::Fallback => OnDepletion::FallBack,
        })
    }

    fn tenant_rules(&self, tenant: &TenantConfig) -> engine::TenantConfig {
        engine::TenantConfig {
            name: tenant.name.clone(),
            who: tenant.who.clone(),
            quotas: tenant.quotas.iter().map(|(kind, quota)| (*kind, rules(quota))).collect(),
            weight: tenant.weight,
            policy: tenant.policy.clone(),
            on_depletion: self.on_depletion(tenant),
            emergency: tenant.emergency,
            migration: tenant.migration,
        }
    }
}

fn rules(quota: &Quota) -> engine::tenant::Quota {
    engine::tenant::Quota {
        access: quota.access,
        max: quota.max.map(whole_pageblocks),
        min: quota.min.pageblocks_ceil(),
        pinned_max: quota.pinned_max.map(whole_pageblocks),
    }
}

fn distances((from, node): (usize, &NodeConfig)) -> impl Iterator<Item = (NodeId, NodeId, u8)> {
    let others = node.distances.iter();
    let others = others.map(move |(to, distance)| (node_id(from), node_id(*to), *distance));
    let own = (!node.distances.is_empty()).then(|| (node_id(from), node_id(from), 10));
    own.into_iter().chain(others)
}
