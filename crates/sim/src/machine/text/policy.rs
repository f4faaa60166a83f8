//! Policies: on which nodes memory lies.

use core::num::NonZeroU32;
use std::collections::BTreeMap;

use memtide_engine::{
    mempolicy::{Extended, MemPolicy, Mode},
    nodes::NodeMask,
};
use memtide_units::{AccessorId, NodeId};
use serde::Deserialize;
use toml::Spanned;

use super::name::{Names, find, wrong};
use crate::scenario::Wrong;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct PolicyText {
    mode: ModeText,
    #[serde(default)]
    nodes: Vec<Spanned<String>>,
    /// Processors, and how often each accesses the memory in proportion to the others.
    #[serde(default)]
    accessors: BTreeMap<Spanned<String>, NonZeroU32>,
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
    AccessedBy,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum ExtendedText {
    #[default]
    Any,
    Only,
    Never,
}

impl PolicyText {
    pub(super) fn policy(&self, at: usize, names: &Names) -> Result<MemPolicy, Wrong> {
        let nodes = self.nodes.iter().map(|name| find(&names.nodes, "node", name));
        let nodes: Vec<NodeId> =
            nodes.map(|node| node.map(|node| NodeId(node as u16))).collect::<Result<_, _>>()?;
        if (self.mode == ModeText::AccessedBy) == self.accessors.is_empty() {
            let expected = "expected \"accessors\" with mode \"accessed-by\", else not";
            let count = self.accessors.len();
            return Err(wrong(at, format!("a policy with {count} accessors; {expected}")));
        }
        let expected = match (self.mode, nodes.len()) {
            (ModeText::AccessedBy, 0) => "",
            (ModeText::AccessedBy, 1..) => "no nodes with \"accessed-by\"",
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
        let accessor = |(name, times): (&Spanned<String>, &NonZeroU32)| {
            let number = find(&names.processors, "processor", name)?;
            Ok((AccessorId(number as u16), u64::from(times.get())))
        };
        let mask = || nodes.iter().copied().collect::<NodeMask>();
        let mode = match self.mode {
            ModeText::Local => Mode::Local,
            ModeText::Bind => Mode::Bind(mask()),
            ModeText::Preferred => Mode::Preferred(nodes[0]),
            ModeText::PreferredMany => Mode::PreferredMany(mask()),
            ModeText::Interleave => Mode::Interleave(mask()),
            ModeText::WeightedInterleave => Mode::WeightedInterleave(mask()),
            ModeText::AccessedBy => {
                let all = self.accessors.iter().map(accessor);
                Mode::AccessedBy(all.collect::<Result<_, Wrong>>()?)
            }
        };
        let extended = match self.extended {
            ExtendedText::Any => Extended::Any,
            ExtendedText::Only => Extended::Only,
            ExtendedText::Never => Extended::Never,
        };
        Ok(MemPolicy { mode, extended })
    }
}
