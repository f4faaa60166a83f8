//! Nodes and links.

use core::num::NonZeroU32;

use memtide_engine::{
    Performance,
    nodes::{Capabilities, Capability, NodeClass},
};
use memtide_units::{NodeKind, OnlineZone};
use serde::Deserialize;
use toml::Spanned;

use super::{
    name::wrong,
    value::{Blocks, Time},
};
use crate::{
    machine::plan::{MS, Node},
    scenario::Wrong,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct NodeText {
    pub name: Spanned<String>,
    kind: NodeKind,
    #[serde(default)]
    class: ClassText,
    #[serde(default)]
    permits: Vec<CapabilityText>,
    #[serde(default)]
    zone: OnlineZone,
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
pub(super) struct LinkText {
    pub name: Option<String>,
    pub from: Spanned<String>,
    pub to: Spanned<String>,
    pub latency_ns: u32,
    pub bandwidth_mib: NonZeroU32,
}

pub(super) fn speed(
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
    pub(super) fn node(&self, at: usize) -> Result<Node, Wrong> {
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
            zone: self.zone,
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
