//! Blocks come into the pool, and these very blocks go.
//!
//! A device offers extents and asks them back; an operator adds a size. Either way whole blocks
//! come that are offline, and only when nobody speaks any more of what was lost in them
//! ([`crate::loss`]). That memory comes back ends an evacuation: the node serves again, once its
//! device does. To end one that emptied nothing, [`crate::Input::Online`] may name blocks of the
//! node that are still online.
//!
//! A block comes into its node's zone, unless an operator who adds it says another ([`OnlineZone`],
//! explicitly, as by `online_kernel` and `online_movable` in the kernel). A node in EXMEM has no
//! other zone, and no other node has that: policies for extended memory choose nodes.
//!
//! These very blocks go as others do ([`crate::giveback`]), but all of them, and no others.

use alloc::{collections::BTreeSet, vec::Vec};
use core::time::Duration;

use memtide_units::{ByteSize, Extent, NodeId, Pageblock, RequestId};

use crate::{
    device::DeviceEvent,
    engine::Engine,
    onlining::OnlineZone,
    pageblocks::BlockState,
    pool::BlockId,
    refusal::Refusal,
    request::{Aim, Blocks, Request},
};

impl Engine {
    pub(crate) fn add(
        &mut self,
        bytes: ByteSize,
        node: NodeId,
        zone: Option<OnlineZone>,
    ) -> Result<(), Refusal> {
        let to = self.pool.index_of(node).ok_or(Refusal::NoSuchNode { node })?;
        if bytes.0 == 0 {
            return Err(Refusal::NoBytes);
        }
        let own = self.pool.nodes()[to].zone;
        let zone = zone.unwrap_or(own);
        if (zone == OnlineZone::Exmem) != (own == OnlineZone::Exmem) {
            return Err(Refusal::ZoneOfNode { node, zone, own });
        }
        let frames = self.pool.frames(to);
        let blocks = bytes.pageblocks_ceil().div_ceil(frames.block_pageblocks());
        let offline = frames.counts().offline / frames.block_pageblocks();
        if blocks > offline {
            return Err(Refusal::NotOffline { node, blocks, offline });
        }
        let all = (0..frames.blocks()).map(|block| BlockId { node: to, block });
        let all = all.filter(|&block| self.pool.block_state(block) == BlockState::Offline);
        let count = usize::try_from(blocks).expect("bounded by the size of the node");
        let spoken_of = self.spoken_of();
        let mut free = Vec::new();
        let mut kept = None;
        for block in all {
            if free.len() == count {
                break;
            }
            match spoken_of.first_in(self.pool.span(block)) {
                None => free.push(block),
                Some(pageblock) => kept = kept.or(Some(pageblock)),
            }
        }
        if let Some(pageblock) = kept.filter(|_| free.len() < count) {
            return Err(Refusal::NotLetGo { pageblock });
        }
        for block in free {
            self.bring_in(block, zone);
        }
        Ok(())
    }

    pub(crate) fn online_extents(&mut self, extents: &[Extent]) -> Result<(), Refusal> {
        let blocks = self.blocks_of(extents, "offline", |block| {
            self.evacuating.contains(&block.node)
                || self.pool.block_state(block) == BlockState::Offline
        })?;
        if blocks.is_empty() {
            return Err(Refusal::NoPageblocks);
        }
        let is_offline = |block: BlockId| self.pool.block_state(block) == BlockState::Offline;
        let offline: Vec<_> = blocks.iter().copied().filter(|&block| is_offline(block)).collect();
        let spoken_of = self.spoken_of();
        let mut spans = offline.iter().map(|&block| self.pool.span(block));
        if let Some(pageblock) = spans.find_map(|span| spoken_of.first_in(span)) {
            return Err(Refusal::NotLetGo { pageblock });
        }
        for block in offline {
            self.bring_in(block, self.pool.nodes()[block.node].zone);
        }
        for node in blocks.iter().map(|block| block.node).collect::<BTreeSet<_>>() {
            self.memory_is_back(node);
        }
        Ok(())
    }

    fn bring_in(&mut self, block: BlockId, zone: OnlineZone) {
        self.pool.online_block(block, zone);
        let span = self.pool.span(block);
        let onlined = self.out.onlined.entry(block.node).or_default();
        onlined.extend((span.start.0..span.end.0).map(Pageblock));
        self.memory_is_back(block.node);
    }

    fn memory_is_back(&mut self, node: usize) {
        self.evacuating.remove(&node);
        self.tell_device(node, DeviceEvent::MemoryBack);
    }

    pub(crate) fn give_back_extents(
        &mut self,
        request: RequestId,
        extents: &[Extent],
        deadline: Duration,
    ) -> Result<(), Refusal> {
        let is_online = |block| self.pool.block_state(block) != BlockState::Offline;
        let blocks = self.blocks_of(extents, "online", is_online)?;
        let node = blocks.first().ok_or(Refusal::NoPageblocks)?.node;
        if let Some(&extent) =
            extents.iter().find(|extent| self.pool.node_of(extent.start) != Some(node))
        {
            return Err(Refusal::NotBlocks { extent, expected: "of the same node as the first" });
        }
        let wanted = blocks.iter().map(|&block| self.pool.block_pageblocks(block)).sum();
        let aim = Aim::give_back(alloc::vec![node], Blocks::These { left: blocks });
        self.open_request(request, Request::new(aim, wanted, self.now.after(deadline)))
    }
}
