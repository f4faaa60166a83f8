//! Capacity is taken by force: it is gone before the host hears of it.
//!
//! Linux writes a line to its log and goes on using it. Here whoever uses it is told that it is
//! lost. No answer is owed: the device does not wait for one (CXL 3.1, 9.13.3.4).
//!
//! The device names what it had given, and a host may be giving a part of that back at that very
//! moment: what is left of the extent is gone all the same. An extent that lies in what is named,
//! and is smaller, is another one, which came later: the record is an old one that is read again.

use alloc::collections::BTreeSet;

use super::{
    effect::{Effect, Notice},
    extent::{DeviceId, DpaRange, GroupId, Tag},
    host::Host,
    refused::Refused,
    tag_group::GroupState,
};

impl Host {
    /// A Forced Release record. Whole pages are lost, whatever part of one it names.
    pub(super) fn forced_release(&mut self, device: DeviceId, range: DpaRange, tag: Tag) {
        let groups = match self.find_left(device, range, tag) {
            Ok(groups) => groups,
            Err(why) => return self.note(device, Notice::NotReleased { range, tag, why }),
        };
        let is_surfaced = |group: &&GroupId| self.groups[group].state == GroupState::Surfaced;
        let surfaced: BTreeSet<GroupId> = groups.iter().filter(is_surfaced).copied().collect();
        let range = self.devices[&device].aligned_out(range);
        self.split_around(device, range);
        let left = self.devices[&device].left_of(range);
        let its = left.filter(|(_, held)| groups.contains(&held.group));
        let starts: BTreeSet<u64> = its.map(|(piece, _)| piece.start).collect();
        for (group, gone) in self.remove_pieces(device, &starts) {
            self.device_mut(device).totals.lost += gone.bytes();
            if surfaced.contains(&group) {
                let (extents, left) = (gone.ranges, gone.left);
                self.out.push(Effect::Lost { device, group, extents, left });
            }
        }
    }

    /// The groups with what is left of the extent that had all of a range, under this tag. There
    /// are several if several chains offered it again.
    fn find_left(
        &self,
        device: DeviceId,
        range: DpaRange,
        tag: Tag,
    ) -> Result<BTreeSet<GroupId>, Refused> {
        let known = &self.devices[&device];
        if !range.exists() {
            return Err(Refused::NoSuchRange { range });
        }
        if known.decoder_of(range.start).is_none() {
            return Err(Refused::NoRegion { range });
        }
        let groups = known.left_of(range).map(|(_, held)| held.group);
        let groups: BTreeSet<_> = groups.filter(|group| self.groups[group].tag == tag).collect();
        if groups.is_empty() {
            return Err(Refused::NoSuchExtent { range, tag });
        }
        Ok(groups)
    }
}
