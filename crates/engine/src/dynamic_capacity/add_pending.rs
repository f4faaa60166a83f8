//! A chain has ended: its groups are weighed, one by one, and it is answered. What the device says
//! of the answer lets them be used, or not (`again`).

use alloc::vec::Vec;

use super::{
    classify_extent::Class,
    effect::{Effect, Notice},
    extent::{ChainId, DcExtent, DeviceId, DpaRange, GroupId},
    host::Host,
    input::Outcome,
    refused::Refused,
    tag_group::{GroupState, tag_groups},
};

/// A group that is not accepted: what is wrong, and with which extent if it is one's fault.
pub(super) struct Fault {
    pub(super) at: Option<DpaRange>,
    pub(super) why: Refused,
}

impl Fault {
    /// The fault of one extent.
    pub(super) const fn at(range: DpaRange, why: Refused) -> Self {
        Self { at: Some(range), why }
    }

    /// The fault of all.
    pub(super) const fn of_all(why: Refused) -> Self {
        Self { at: None, why }
    }
}

impl Host {
    /// Weighs what a chain offered, and answers it (`cxl_add_pending()`).
    pub(super) fn add_pending(&mut self, device: DeviceId, pending: Vec<DcExtent>) {
        let mut accepted = Vec::new();
        let mut new = Vec::new();
        let state = GroupState::Answered(ChainId(self.next_chain));
        let offered: u128 = pending.iter().map(|extent| u128::from(extent.range.length)).sum();
        let groups = tag_groups(pending);
        let once = groups.iter().flatten().map(|extent| u128::from(extent.range.length));
        let named_twice = offered - once.sum::<u128>();
        self.device_mut(device).totals.again += named_twice;
        for mut group in groups {
            match self.check_group(device, &mut group) {
                Ok(Class::New) => {
                    new.push(self.enter_group(device, &group, state));
                    accepted.extend(group.iter().map(|extent| extent.range));
                    let totals = &mut self.device_mut(device).totals;
                    totals.accepted +=
                        group.iter().map(|e| u128::from(e.range.length)).sum::<u128>();
                }
                Ok(Class::Duplicate) => {
                    for &extent in &group {
                        self.device_mut(device).totals.again += u128::from(extent.range.length);
                        self.note(device, Notice::Again { extent });
                        accepted.push(extent.range);
                        self.name_again(device, extent.range);
                    }
                }
                Err(fault) => self.refuse_group(device, &group, &fault),
            }
        }
        self.answer(device, accepted, new);
    }

    /// All gates, for one group. Puts it into the order in which its user sees it.
    pub(super) fn check_group(
        &mut self,
        device: DeviceId,
        group: &mut [DcExtent],
    ) -> Result<Class, Fault> {
        // Arrival order where the numbers are all the same: the sort is stable.
        group.sort_by_key(|extent| extent.sequence);
        let tag = group[0].tag;
        if self.device_mut(device).torn.remove(&tag) {
            return Err(Fault::of_all(Refused::Torn { tag }));
        }
        let known = &self.devices[&device];
        for extent in group.iter() {
            known.validate_extent(extent.range)?;
        }
        super::check_group_seq::check_group_seq(group)?;
        known.check_group_partition(group)?;
        let class = self.classify_group(device, group)?;
        let extents = known.held.len() + group.len();
        let extents_max = self.limits.extents_max;
        if class == Class::New && extents > extents_max {
            return Err(Fault::of_all(Refused::TooManyExtents { extents, extents_max }));
        }
        Ok(class)
    }

    /// Answers a chain.
    pub(super) fn answer(
        &mut self,
        device: DeviceId,
        accepted: Vec<DpaRange>,
        groups: Vec<GroupId>,
    ) {
        let chain = ChainId(self.next_chain);
        self.next_chain += 1;
        self.device_mut(device).answered.insert(chain, groups);
        self.out.push(Effect::AddResponse { device, chain, accepted });
    }

    /// The device's word on an answer.
    pub(super) fn answered(&mut self, device: DeviceId, chain: ChainId, outcome: Outcome) {
        let groups = self.device_mut(device).answered.get(&chain).cloned();
        let groups = groups.expect("checked on entry");
        match outcome {
            Outcome::Taken => {
                for group in groups {
                    self.online_tag_group(group);
                }
            }
            Outcome::Rejected => {
                self.note(device, Notice::AnswerRejected { chain });
                for group in groups {
                    self.reject_group(device, chain, group);
                }
            }
        }
        let known = self.device_mut(device);
        known.answered.remove(&chain);
        known.again.remove(&chain);
    }

    /// Lets a group be used.
    pub(super) fn online_tag_group(&mut self, id: GroupId) {
        let extents = self.pieces_of(id);
        let group = self.groups.get_mut(&id).expect("the caller found it");
        group.state = GroupState::Surfaced;
        let (device, tag) = (group.device, group.tag);
        self.out.push(Effect::Surface { group: id, device, tag, extents });
        self.reclaim_if_asked(device, id);
    }

    pub(super) fn refuse(&mut self, device: DeviceId, extents: &[DcExtent], why: Refused) {
        for &extent in extents {
            self.device_mut(device).totals.refused += u128::from(extent.range.length);
            self.note(device, Notice::Refused { extent, why });
        }
    }

    fn refuse_group(&mut self, device: DeviceId, group: &[DcExtent], fault: &Fault) {
        for extent in group {
            self.refuse(device, &[*extent], fault.reason_for(extent));
        }
    }
}

impl Fault {
    /// Why this one of the group is refused.
    pub(super) fn reason_for(&self, extent: &DcExtent) -> Refused {
        match self.at {
            Some(other) if other != extent.range => Refused::WithGroup { tag: extent.tag, other },
            _ => self.why,
        }
    }
}
