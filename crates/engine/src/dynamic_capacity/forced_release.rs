//! Capacity is taken by force: it is gone before the host hears of it.
//!
//! Linux writes a line to its log and goes on using it. Here whoever uses it is told that it is
//! lost. No answer is owed: the device does not wait for one (CXL 3.1, 9.13.3.4).

use alloc::collections::BTreeSet;

use super::{
    effect::{Effect, Notice},
    extent::{DeviceId, DpaRange, Tag},
    host::Host,
    tag_group::GroupState,
};

impl Host {
    /// A Forced Release record. Whole pages are lost, whatever part of one it names.
    pub(super) fn forced_release(&mut self, device: DeviceId, range: DpaRange, tag: Tag) {
        let group = match self.find_extent(device, range, tag) {
            Ok((group, _)) => group,
            Err(why) => return self.note(device, Notice::NotReleased { range, tag, why }),
        };
        let surfaced = self.groups[&group].state == GroupState::Surfaced;
        let range = self.devices[&device].aligned_out(range);
        self.split_around(device, range);
        let overlapping = self.devices[&device].overlapping(range);
        let starts: BTreeSet<u64> = overlapping.map(|(piece, _)| piece.start).collect();
        for (group, gone) in self.remove_pieces(device, &starts) {
            self.device_mut(device).totals.lost += gone.bytes();
            if surfaced {
                let (extents, left) = (gone.ranges, gone.left);
                self.out.push(Effect::Lost { device, group, extents, left });
            }
        }
    }
}
