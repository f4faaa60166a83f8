//! Telling the daemon which pageblocks cannot be moved, before it asks.
//!
//! Locks and foreign mappings pin single pageblocks. An asynchronous transfer that is possible (an
//! open io_uring, say) pins all of them: it is noticed when something is to be moved, told as a
//! pin, and looked at again every [`LOOK_AGAIN`] until it is gone.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use memtide_proto::FromProgram;
use memtide_sys::Transfers;
use memtide_units::{Extent, HoldReason, Pageblock};

use crate::{blocks::Block, memory::State, pager::Pager, space::BlockIndex};

/// How often a transfer that pins everything is looked for again.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Why a pageblock is pinned: at most a lock, a foreign mapping, and a transfer.
type Reasons = [Option<HoldReason>; 3];

/// What the daemon has been told, by pageblock.
#[derive(Debug, Default)]
pub struct ToldPins(BTreeMap<Pageblock, Reasons>);

/// A transfer that pins all memory of the program.
#[derive(Clone, Copy, Debug)]
pub struct TransferPin {
    reason: HoldReason,
    /// When to look whether it is still there.
    pub look_at: Instant,
}

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
        let now = [
            state.space.is_locked(block).then_some(HoldReason::MemoryLock),
            state.space.has_foreign(block).then_some(HoldReason::ForeignMapping),
            self.transfer_pin.map(|pin| pin.reason),
        ];
        let told = self.told_pins.0.get(&pageblock).copied().unwrap_or_default();
        if now == told {
            return;
        }
        let extents = || vec![Extent::new(pageblock, 1)];
        for (now, told) in now.into_iter().zip(told).filter(|(now, told)| now != told) {
            if let Some(reason) = told {
                self.tell(&FromProgram::Unpin { extents: extents(), reason });
            }
            if let Some(reason) = now {
                self.tell(&FromProgram::Pin { extents: extents(), reason });
            }
        }
        if now == Reasons::default() {
            self.told_pins.0.remove(&pageblock);
        } else {
            self.told_pins.0.insert(pageblock, now);
        }
    }

    /// All memory of the program is pinned for this reason, or no longer.
    pub(crate) fn pin_all(&mut self, reason: Option<HoldReason>) {
        let before = self.transfer_pin.map(|pin| pin.reason);
        let look_at = Instant::now() + LOOK_AGAIN;
        self.transfer_pin = reason.map(|reason| TransferPin { reason, look_at });
        if before != reason {
            self.tell_pins_of_all();
        }
    }

    /// Looks whether the transfer that pinned everything is still possible.
    pub(crate) fn look_at_transfer_pin(&mut self) {
        let reason = match self.transfers() {
            Ok(Transfers::Asynchronous(reason)) => Some(reason),
            Ok(Transfers::None | Transfers::DirectReads) => None,
            Err(_) => self.transfer_pin.map(|pin| pin.reason),
        };
        self.pin_all(reason);
    }

    fn tell_pins_of_all(&mut self) {
        let memory = self.memory;
        let state = memory.lock_as_pager();
        let blocks: Vec<BlockIndex> = state.blocks.in_use().map(|(block, _)| block).collect();
        for block in blocks {
            self.tell_pins_of(&state, block);
        }
    }

    /// Tells a new daemon all pins.
    pub(crate) fn tell_all_pins(&mut self) {
        self.told_pins.forget_all();
        self.tell_pins_of_all();
    }
}
