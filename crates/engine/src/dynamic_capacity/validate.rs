//! The books agree with each other.

use alloc::collections::{BTreeMap, BTreeSet};

use super::{
    device::{Device, Standing},
    extent::DpaRange,
    host::Host,
    pending::Chain,
    tag_group::GroupState,
};

impl Host {
    /// Recomputes every fact that is kept twice, and checks what must always hold.
    ///
    /// # Panics
    /// When something does not: the rules are broken.
    pub fn validate(&self) {
        assert!(self.out.is_empty(), "effects are handed out");
        let mut bytes = BTreeMap::new();
        for (id, device) in &self.devices {
            device.validate(self.limits.pending_max);
            for (&start, held) in &device.held {
                let group = &self.groups[&held.group];
                assert_eq!(group.device, *id, "a piece is on its group's device");
                assert!(group.pieces.contains(&(held.place, start)), "{start:#x} is listed");
                *bytes.entry(held.group).or_insert(0) += held.length;
                if held.standing == Standing::Reclaiming {
                    assert_eq!(group.state, GroupState::Surfaced, "only what is used is asked for");
                    assert!(device.reclaim.is_asked(), "its user owes an answer");
                }
            }
            for (chain, groups) in &device.answered {
                for group in groups {
                    assert_eq!(self.groups[group].state, GroupState::Answered(*chain));
                }
            }
        }
        let counted = self.groups.iter().map(|(&id, group)| (id, group.bytes)).collect();
        assert_eq!(bytes, counted, "groups have what their pieces have, and some");
        for (id, group) in &self.groups {
            let pieces = &self.devices[&group.device].held;
            let of_it = |&&(place, start): &&(u32, u64)| {
                pieces.get(&start).is_some_and(|held| (held.group, held.place) == (*id, place))
            };
            assert_eq!(group.pieces.iter().filter(of_it).count(), group.pieces.len());
            let by_tag = self.tags.get(&group.tag);
            let is_listed = by_tag.is_some_and(|groups| groups.contains(id));
            assert_eq!(is_listed, !group.tag.is_null(), "tag {}", group.tag);
            let parts = by_tag.into_iter().flatten().map(|part| self.groups[part].first);
            assert!(parts.into_iter().all(|first| first == group.first), "tag {}", group.tag);
            if let GroupState::Answered(chain) = group.state {
                let waiting = &self.devices[&group.device].answered[&chain];
                assert!(waiting.contains(id), "{id} waits for the device's word");
            }
        }
        let tagged = self.groups.values().filter(|group| !group.tag.is_null()).count();
        let listed = self.tags.values().map(BTreeSet::len).sum::<usize>();
        assert_eq!(listed, tagged, "tags have groups");
        assert!(self.tags.values().all(|groups| !groups.is_empty()), "tags have groups");
    }
}

impl Device {
    fn validate(&self, pending_max: usize) {
        let align = self.config.align;
        let mut end = 0;
        let mut bytes = 0;
        for (&start, held) in &self.held {
            let piece = DpaRange::new(start, held.length);
            assert!(piece.exists() && piece.is_aligned(align), "{piece} is whole pages");
            assert!(end <= u128::from(start), "{piece} is held once");
            let decoder = self.decoder_of(start).expect("what is held is in a region");
            assert!(decoder.contains(piece) && self.partition_of(piece).is_some(), "{piece}");
            end = piece.end();
            bytes += u128::from(held.length);
        }
        let pending = match &self.chain {
            Chain::Open { pending, .. } => {
                assert!((1..=pending_max).contains(&pending.len()), "a chain is bounded");
                pending.iter().map(|extent| u128::from(extent.range.length)).sum()
            }
            Chain::Closed | Chain::Overfull { .. } => 0,
        };
        let totals = &self.totals;
        let weighed = totals.refused + totals.again + totals.accepted;
        assert_eq!(totals.offered, pending + weighed, "what was offered");
        let gone = totals.released + totals.lost + totals.rejected;
        assert_eq!(totals.accepted + totals.recovered, bytes + gone, "what was accepted");
    }
}
