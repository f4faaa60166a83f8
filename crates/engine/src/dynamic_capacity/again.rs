//! What is offered again before the device has said what became of the first offer.
//!
//! A device that withdraws an offer may make it again before the host has answered the first. Both
//! are accepted, the second as a duplicate; the device rejects the first answer and takes the
//! second. So what is rejected, and was named again meanwhile, waits for the word on that: every
//! piece for that of the first later chain that names *it*. Chains that name different pieces make
//! several groups of one, under one tag: the device has offered them one by one. What comes to wait
//! for the same word is one group again.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use core::ops::Bound;

use super::{
    device::Device,
    extent::{ChainId, DeviceId, DpaRange, GroupId},
    host::Host,
    tag_group::{GroupState, TagGroup},
};

impl Device {
    /// The first chain after this one that names a piece, and waits for the device's word.
    fn named_after(&self, chain: ChainId, piece: DpaRange) -> Option<ChainId> {
        let mut later = self.again.range((Bound::Excluded(chain), Bound::Unbounded));
        let next = later.find(|(_, again)| again.iter().any(|range| range.contains(piece)));
        next.map(|(&next, _)| next)
    }
}

impl Host {
    /// Remembers what this chain names that an earlier one did, if the device's word on that is yet
    /// to come.
    pub(super) fn name_again(&mut self, device: DeviceId, range: DpaRange) {
        let chain = ChainId(self.next_chain);
        let group = self.devices[&device].held[&range.start].group;
        if matches!(self.groups[&group].state, GroupState::Answered(_)) {
            self.device_mut(device).again.entry(chain).or_default().push(range);
        }
    }

    /// Takes a group out of the books, but for what later chains named again.
    pub(super) fn reject_group(&mut self, device: DeviceId, chain: ChainId, id: GroupId) {
        let mut lost = BTreeSet::new();
        let mut next: BTreeMap<ChainId, Vec<DpaRange>> = BTreeMap::new();
        for piece in self.pieces_of(id) {
            match self.devices[&device].named_after(chain, piece) {
                Some(later) => next.entry(later).or_default().push(piece),
                None => _ = lost.insert(piece.start),
            }
        }
        for (later, pieces) in next {
            self.await_word(id, later, &pieces);
        }
        for gone in self.remove_pieces(device, &lost).values() {
            self.device_mut(device).totals.rejected += gone.bytes();
        }
    }

    /// Has these pieces of a group wait for the word on another chain, in the group that does so
    /// already if there is one of the same allocation.
    fn await_word(&mut self, from: GroupId, chain: ChainId, pieces: &[DpaRange]) {
        let TagGroup { device, tag, first, .. } = self.groups[&from];
        let waiting = &self.devices[&device].answered[&chain];
        let other = waiting.iter().copied().find(|other| self.groups[other].first == first);
        let to = other.unwrap_or_else(|| {
            let to = GroupId(self.next_group);
            self.next_group += 1;
            let state = GroupState::Answered(chain);
            let (pieces, bytes) = (BTreeSet::new(), 0);
            self.groups.insert(to, TagGroup { device, tag, first, state, pieces, bytes });
            self.note_tag(tag, to);
            let waiting = self.device_mut(device).answered.get_mut(&chain);
            waiting.expect("its word is yet to come").push(to);
            to
        });
        for &DpaRange { start, length } in pieces {
            let held = self.device_mut(device).held.get_mut(&start).expect("it is a piece");
            held.group = to;
            let place = held.place;
            let group = self.groups.get_mut(&from).expect("the caller found it");
            group.pieces.remove(&(place, start));
            group.bytes -= length;
            let is_over = group.bytes == 0;
            let group = self.groups.get_mut(&to).expect("just found");
            group.pieces.insert((place, start));
            group.bytes += length;
            if is_over {
                self.drop_group(from);
            }
        }
    }
}
