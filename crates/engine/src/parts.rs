//! The two parts of a node: where anything may lie, and where only what can move may.
//!
//! Who is never moved ([`crate::tenant::Migration::Never`]) gets nothing of a block in MOVABLE or
//! EXMEM. So what a program reaches of a node is all of it, or only the rest, and what is promised
//! is counted in parts of nodes, not in nodes. A part has a number, as nodes have: those of node n
//! are 2n, where anything may lie, and 2n + 1.
//!
//! What can move takes the second part first, and the first only when nothing is free there
//! (the order of [`crate::pageblocks`]). And whoever reaches the second part of a node reaches the
//! first. So every set of parts that promises are counted in has the first if it has the second,
//! and so much can be had of a node without breaking a promise: as much as is unpromised of the
//! second part; and as much as is free there, with what is unpromised and free of the first.

use alloc::vec::Vec;
use core::ops::RangeInclusive;

use memtide_frames::Movability;
use memtide_units::{NodeKind, Pageblock, TenantId, TokenId};

use crate::{
    engine::Engine,
    onlining::OnlineZone,
    pageblocks::{Counts, MOVABLE, Pageblocks, UNMOVABLE},
    pool::Node,
    tenant::{Migration, TenantConfig},
};

/// How many parts a node has.
const PARTS: usize = 2;

/// Parts of nodes, by their numbers.
pub(crate) type NodeParts = RangeInclusive<usize>;

/// The part of a node where anything may lie.
pub(crate) const fn first_part(node: usize) -> usize {
    node * PARTS
}

/// The part of a node where only what can move may lie.
pub(crate) const fn second_part(node: usize) -> usize {
    node * PARTS + 1
}

/// The node that a part is of.
pub(crate) const fn node_of(part: usize) -> usize {
    part / PARTS
}

/// The parts of a node where this may lie.
pub(crate) const fn parts_of(node: usize, movability: Movability) -> NodeParts {
    match movability {
        Movability::Movable => first_part(node)..=second_part(node),
        _ => first_part(node)..=first_part(node),
    }
}

/// The parts of all nodes of a kind where this may lie, ascending.
pub(crate) fn parts_of_kind(
    kinds: impl Iterator<Item = NodeKind>,
    kind: NodeKind,
    movability: Movability,
) -> impl Iterator<Item = usize> {
    let nodes = kinds.enumerate().filter(move |&(_, of)| of == kind);
    nodes.flat_map(move |(node, _)| parts_of(node, movability))
}

impl TenantConfig {
    /// Whether what its programs lease can move.
    pub(crate) const fn movability(&self) -> Movability {
        match self.migration {
            Migration::Allowed => MOVABLE,
            Migration::Never => UNMOVABLE,
        }
    }
}

impl Pageblocks {
    /// The counts of the zones of a part.
    fn counts_in_part(&self, is_second: bool) -> impl Iterator<Item = Counts> {
        let zones = OnlineZone::ALL.into_iter();
        zones.filter(move |zone| zone.is_movable_only() == is_second).map(|z| self.counts_in(z))
    }
}

impl Engine {
    /// Whether what a tenant's programs lease can move.
    pub(crate) fn movability(&self, tenant: TenantId) -> Movability {
        self.tenant(tenant).config.movability()
    }

    /// The kind of the node that a part is of.
    pub(crate) fn kind_of_part(&self, part: usize) -> NodeKind {
        self.pool.nodes()[node_of(part)].kind
    }

    /// The parts of all nodes of a kind that a tenant may have any of, ascending.
    pub(crate) fn parts_for(
        &self,
        tenant: TenantId,
        kind: NodeKind,
    ) -> impl Iterator<Item = usize> {
        let kinds = self.pool.nodes().iter().map(|node: &Node| node.kind);
        parts_of_kind(kinds, kind, self.movability(tenant))
    }

    /// All parts of all nodes, ascending.
    pub(crate) fn all_parts(&self) -> core::ops::Range<usize> {
        0..first_part(self.pool.nodes().len())
    }

    /// The part that a pageblock lies in.
    pub(crate) fn part_of(&self, pageblock: Pageblock) -> usize {
        let block = self.pool.block_of(pageblock);
        if self.pool.zone(block).is_movable_only() {
            second_part(block.node)
        } else {
            first_part(block.node)
        }
    }

    /// What of a part is in which state.
    fn counts_of_part(&self, part: usize) -> impl Iterator<Item = Counts> {
        let node = node_of(part);
        self.pool.frames(node).counts_in_part(part == second_part(node))
    }

    /// What of a part can be taken.
    pub(crate) fn free_in_part(&self, part: usize) -> u64 {
        self.counts_of_part(part).map(|counts| counts.free).sum()
    }

    /// What of a part is in use.
    pub(crate) fn used_in_part(&self, part: usize) -> u64 {
        self.counts_of_part(part).map(|counts| counts.used).sum()
    }

    /// What of a part there is for leases, in use or not.
    pub(crate) fn usable_in_part(&self, part: usize) -> u64 {
        self.counts_of_part(part).map(|counts| counts.present() - counts.retired).sum()
    }

    /// How much of a node a process can lease without breaking a promise.
    pub(crate) fn unpromised_on(&self, node: usize, token: TokenId) -> u64 {
        let movability = self.movability(self.tenant_of(token));
        self.unpromised_of(node, movability, |part| self.unpromised_of_part(part, token))
    }

    /// The same for what it has already, can move, and is to come from these pageblocks.
    pub(crate) fn unpromised_to(&self, node: usize, token: TokenId, what: &[Pageblock]) -> u64 {
        let mut from: Vec<usize> = what.iter().map(|&at| self.part_of(at)).collect();
        from.sort_unstable();
        from.dedup();
        let of_part = |part| self.unpromised_to_part(part, token, &from);
        self.unpromised_of(node, MOVABLE, of_part)
    }

    fn unpromised_of(
        &self,
        node: usize,
        movability: Movability,
        of_part: impl Fn(usize) -> u64,
    ) -> u64 {
        let (first, second) = (first_part(node), second_part(node));
        let free = |part| self.free_in_part(part);
        let of_first = of_part(first).min(free(first));
        match movability {
            Movability::Movable => of_part(second).min(free(second) + of_first),
            _ => of_first,
        }
    }
}
