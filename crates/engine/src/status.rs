//! Snapshots for people and for the caller.

use alloc::{collections::BTreeMap, vec::Vec};

use memtide_units::{ByteSize, Extent, HoldReason, ImageId, MemberId, NodeId, Pageblock, TokenId};

use crate::{
    effect::{MemberStatus, NodeStatus, ZoneStatus},
    engine::Engine,
    lease::Standing,
    onlining::OnlineZone,
    pageblocks::{BlockState, Counts},
    pool::BlockId,
    process::Link,
};

/// What a node has in each zone.
fn zone_status(node: &crate::pool::Node) -> Vec<ZoneStatus> {
    let counts = OnlineZone::ALL.map(|zone| (zone, node.frames.counts_in(zone)));
    let some = counts.into_iter().filter(|(_, counts)| counts.present() > 0);
    let status = |(zone, counts): (OnlineZone, Counts)| ZoneStatus {
        zone,
        online: ByteSize::from_pageblocks(counts.present()),
        free: ByteSize::from_pageblocks(counts.free),
    };
    some.map(status).collect()
}

impl Engine {
    /// The nodes, in the order of the configuration.
    #[must_use]
    pub fn node_status(&self) -> Vec<NodeStatus> {
        let status = |node: &crate::pool::Node| {
            let counts = node.frames.counts();
            NodeStatus {
                node: node.id,
                name: node.name.clone(),
                present: ByteSize::from_pageblocks(counts.present()),
                free: ByteSize::from_pageblocks(counts.free),
                leased: ByteSize::from_pageblocks(counts.used),
                isolated: ByteSize::from_pageblocks(counts.isolated),
                offline: ByteSize::from_pageblocks(counts.offline),
                retired: ByteSize::from_pageblocks(counts.retired),
                zones: zone_status(node),
            }
        };
        self.pool.nodes().iter().map(status).collect()
    }

    /// The processes that joined, by member name. A pageblock that several processes share is
    /// counted for its owner only.
    #[must_use]
    pub fn member_status(&self) -> Vec<MemberStatus> {
        let mut leased: BTreeMap<TokenId, BTreeMap<usize, u64>> = BTreeMap::new();
        let mut pinned: BTreeMap<TokenId, BTreeMap<HoldReason, u64>> = BTreeMap::new();
        for (&pageblock, lease) in &self.leases {
            let owner = lease.owner.token;
            let node = self.pool.block_of(pageblock).node;
            *leased.entry(owner).or_default().entry(node).or_default() += 1;
            if let Standing::Held(_, reason) = self.standing(lease) {
                *pinned.entry(owner).or_default().entry(reason).or_default() += 1;
            }
        }
        let bytes = ByteSize::from_pageblocks;
        let status = |(&member, token): (&MemberId, &TokenId)| {
            let process = self.process(*token);
            let nodes = leased.remove(token).unwrap_or_default();
            let reasons = pinned.remove(token).unwrap_or_default();
            let node = |(node, count): (usize, u64)| (self.pool.nodes()[node].id, bytes(count));
            MemberStatus {
                member,
                image: process.image,
                pid: process.pid,
                name: process.name.clone(),
                connected: matches!(process.link, Link::Connected(_)),
                leased: nodes.into_iter().map(node).collect(),
                pinned: reasons.into_iter().map(|(why, count)| (why, bytes(count))).collect(),
                committed: bytes(process.committed),
            }
        };
        self.members.iter().map(status).collect()
    }

    /// The image of a member that joined.
    #[must_use]
    pub fn image_of(&self, member: MemberId) -> Option<ImageId> {
        Some(self.process(*self.members.get(&member)?).image)
    }

    /// The member that a token belongs to, if its process joined.
    #[must_use]
    pub fn member_of(&self, token: TokenId) -> Option<MemberId> {
        self.processes.get(&token)?.member()
    }

    /// Whether a token is of interest: its process joined, or its parent announced it, and it is
    /// not gone.
    #[must_use]
    pub fn knows(&self, token: TokenId) -> bool {
        self.processes.contains_key(&token)
    }

    /// The name that the next fresh image gets: what to put into
    /// [`crate::Config::next_image`] of an engine that takes over.
    #[must_use]
    pub const fn next_image(&self) -> ImageId {
        ImageId(self.next_image)
    }

    /// What an image has of a node: leased to its processes, or not yet zeroed after them. What a
    /// image's file holds beside this, after a recovery, is of no use to anybody.
    #[must_use]
    pub fn held_by(&self, image: ImageId, node: NodeId) -> Vec<Extent> {
        let Some(node) = self.pool.index_of(node) else { return Vec::new() };
        let leased = self.leases.iter().filter(|(_, lease)| lease.image == image);
        let orphans = self.recovery.iter().flat_map(|recovery| &recovery.orphans);
        let zeroing = self.zeroing.iter().map(|(p, residue)| (p, &residue.image));
        let waiting = zeroing.chain(orphans).filter(|&(_, &of)| of == image);
        let all = leased.map(|(&p, _)| p).chain(waiting.map(|(&p, _)| p));
        self.pool.extents(all.filter(|&pageblock| self.pool.node_of(pageblock) == Some(node)))
    }

    /// What is offline on a node: what to put into [`crate::NodeConfig::offline`] of an engine
    /// that takes over. Nothing when there is no such node.
    #[must_use]
    pub fn offline(&self, node: NodeId) -> Vec<Extent> {
        let Some(node) = self.pool.index_of(node) else { return Vec::new() };
        self.pool.frames(node).offline_extents().collect()
    }

    /// The blocks of a node that are being emptied: nothing is leased out of them. Nothing when
    /// there is no such node.
    #[must_use]
    pub fn isolated(&self, node: NodeId) -> Vec<Extent> {
        let Some(node) = self.pool.index_of(node) else { return Vec::new() };
        let frames = self.pool.frames(node);
        let is_isolated = |&block: &u64| frames.block_state(block) == BlockState::Isolated;
        let blocks = (0..frames.blocks()).filter(is_isolated);
        let spans = blocks.map(|block| self.pool.span(BlockId { node, block }));
        self.pool.extents(spans.flat_map(|span| (span.start.0..span.end.0).map(Pageblock)))
    }

    /// The zones of what is online on a node: what to put into [`crate::NodeConfig::zones`] of an
    /// engine that takes over. Nothing when there is no such node.
    #[must_use]
    pub fn zones(&self, node: NodeId) -> Vec<(Extent, OnlineZone)> {
        let Some(node) = self.pool.index_of(node) else { return Vec::new() };
        self.pool.frames(node).zone_extents()
    }

    /// Pageblocks that have been moved since this engine was made.
    #[must_use]
    pub const fn moved_pageblocks(&self) -> u64 {
        self.moved
    }
}
