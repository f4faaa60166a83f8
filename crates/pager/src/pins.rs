//! Telling the daemon which pageblocks cannot be moved, before it asks.

use std::collections::BTreeMap;

use memtide_proto::FromProgram;
use memtide_units::{Extent, HoldReason, Pageblock};

use crate::{blocks::Block, memory::State, pager::Pager, space::BlockIndex};

/// What the daemon has been told: lock and foreign mapping, by pageblock.
#[derive(Debug, Default)]
pub struct ToldPins(BTreeMap<Pageblock, [bool; 2]>);

const REASONS: [HoldReason; 2] = [HoldReason::MemoryLock, HoldReason::ForeignMapping];

impl ToldPins {
    /// The pageblock is no longer ours.
    pub(crate) fn forget(&mut self, pageblock: Pageblock) {
        self.0.remove(&pageblock);
    }

    /// Nothing has been told to this daemon.
    pub(crate) fn forget_all(&mut self) {
        self.0.clear();
    }
}

impl Pager {
    /// The pins of a block may have changed, or a foreign mapping is gone from it.
    pub(crate) fn tell_pins(&mut self, block: BlockIndex) {
        let memory = self.memory;
        let state = memory.lock_as_pager();
        self.tell_pins_of(&state, block);
        let reserved = state.blocks.get(block) == Block::Reserved;
        if reserved && !state.space.has_foreign(block) {
            // A foreign mapping may have taken the registration with it; registering what is
            // registered changes nothing.
            let _ = self.uffd.register_missing(memory.arena(), self.range_of(block));
        }
        drop(state);
        self.look_at_later(block);
    }

    pub(crate) fn tell_pins_of(&mut self, state: &State, block: BlockIndex) {
        let Some(frame) = state.blocks.get(block).frame() else { return };
        let pageblock = frame.pageblock;
        let now = [state.space.is_locked(block), state.space.has_foreign(block)];
        let told = self.told_pins.0.get(&pageblock).copied().unwrap_or_default();
        if now == told {
            return;
        }
        for ((now, told), reason) in now.into_iter().zip(told).zip(REASONS) {
            let extents = vec![Extent::new(pageblock, 1)];
            if now && !told {
                self.tell(&FromProgram::Pin { extents, reason });
            } else if told && !now {
                self.tell(&FromProgram::Unpin { extents, reason });
            }
        }
        self.told_pins.0.insert(pageblock, now);
    }

    /// Tells a new daemon all pins.
    pub(crate) fn tell_all_pins(&mut self) {
        let memory = self.memory;
        let state = memory.lock_as_pager();
        self.told_pins.forget_all();
        let blocks: Vec<BlockIndex> = state.blocks.in_use().map(|(block, _)| block).collect();
        for block in blocks {
            self.tell_pins_of(&state, block);
        }
    }
}
