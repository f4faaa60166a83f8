//! A device asks for capacity back (`cxl_rm_extent()`).
//!
//! A request names addresses and a tag, which must be those of one accepted extent. The device,
//! not the host, says who is meant: addresses of one allocation under the tag of another are not
//! touched. What is asked back with it is the whole tag group, as in Linux, or less where the
//! device takes less.

use alloc::vec::Vec;

use super::{
    config::Splitting,
    device::Standing,
    effect::{Effect, Notice},
    extent::{DeviceId, DpaRange, GroupId, Tag},
    host::Host,
    input::More,
    reclaim::Marked,
    refused::Refused,
};

impl Host {
    /// A Release record.
    pub(super) fn release(&mut self, device: DeviceId, range: DpaRange, tag: Tag, more: More) {
        let marked = match self.find_extent(device, range, tag) {
            Ok((group, place)) => {
                self.ask_back(device, range, group, place);
                Marked::Some
            }
            Err(why) => {
                // Accepted by a host before this one, perhaps: the device must know that nobody
                // here uses it.
                if matches!(why, Refused::NoRegion { .. }) {
                    self.out.push(Effect::ReleaseDc { device, released: alloc::vec![range] });
                }
                self.note(device, Notice::NotReleased { range, tag, why });
                Marked::Nothing
            }
        };
        self.reclaim_recorded(device, more, marked);
    }

    /// The group and the place of the extent that has all of a range, under this tag.
    pub(super) fn find_extent(
        &self,
        device: DeviceId,
        range: DpaRange,
        tag: Tag,
    ) -> Result<(GroupId, u32), Refused> {
        let known = &self.devices[&device];
        if !range.exists() {
            return Err(Refused::NoSuchRange { range });
        }
        if known.decoder_of(range.start).is_none() {
            return Err(Refused::NoRegion { range });
        }
        let member = known.member_of(range).filter(|(group, _)| self.groups[group].tag == tag);
        member.ok_or(Refused::NoSuchExtent { range, tag })
    }

    /// Marks what goes with a range.
    fn ask_back(&mut self, device: DeviceId, range: DpaRange, group: GroupId, place: u32) {
        let known = &self.devices[&device];
        let starts: Vec<u64> = match known.config.splitting {
            Splitting::Group => {
                self.groups[&group].pieces.iter().map(|&(_, start)| start).collect()
            }
            Splitting::Extent => {
                let pieces = self.groups[&group].pieces.range((place, 0)..=(place, u64::MAX));
                pieces.map(|&(_, start)| start).collect()
            }
            Splitting::Block => {
                let range = known.aligned_out(range);
                self.split_around(device, range);
                let known = &self.devices[&device];
                known.overlapping(range).map(|(piece, _)| piece.start).collect()
            }
        };
        let known = self.device_mut(device);
        for start in starts {
            let held = known.held.get_mut(&start).expect("just found");
            if held.standing == Standing::Kept {
                held.standing = Standing::Asked;
            }
        }
    }
}
