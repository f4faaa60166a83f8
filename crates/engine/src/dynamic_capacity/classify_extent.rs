//! Whether what is offered is new, there already, or in the way of what is there
//! (`cxlr_dax_classify_extent()`, `cxl_tag_register()`).

use super::{
    add_pending::Fault,
    extent::{DcExtent, DeviceId, DpaRange},
    host::Host,
    refused::Refused,
};

/// What an offered group is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Class {
    /// Nothing of it is there.
    New,
    /// All of it is there, extent by extent, under this tag: nothing changes.
    Duplicate,
}

impl Host {
    /// Weighs a group against what was accepted, here and on other devices, and its extents
    /// against each other.
    pub(super) fn classify_group(
        &self,
        device: DeviceId,
        group: &[DcExtent],
    ) -> Result<Class, Fault> {
        let tag = group[0].tag;
        if group.iter().all(|extent| self.is_duplicate(device, extent)) {
            return Ok(Class::Duplicate);
        }
        if let Some(taken) = self.tags.get(&tag).and_then(|groups| groups.first()) {
            let by = self.groups[taken].device;
            return Err(Fault::of_all(Refused::TagTaken { tag, by }));
        }
        let known = &self.devices[&device];
        for extent in group {
            if let Some((with, _)) = known.overlapping(extent.range).next() {
                let range = extent.range;
                return Err(Fault::at(range, Refused::Overlaps { range, with }));
            }
        }
        among_themselves(group).map(|()| Class::New)
    }

    /// Whether this very extent was accepted, and all of it is still held.
    fn is_duplicate(&self, device: DeviceId, extent: &DcExtent) -> bool {
        let known = &self.devices[&device];
        let held = known.held.get(&extent.range.start);
        held.is_some_and(|held| {
            held.length == extent.range.length && self.groups[&held.group].tag == extent.tag
        })
    }
}

fn among_themselves(group: &[DcExtent]) -> Result<(), Fault> {
    let mut ranges: alloc::vec::Vec<DpaRange> = group.iter().map(|extent| extent.range).collect();
    ranges.sort_unstable();
    match ranges.windows(2).find(|pair| pair[0].overlaps(pair[1])) {
        None => Ok(()),
        Some(pair) => {
            let (with, range) = (pair[0], pair[1]);
            Err(Fault::at(range, Refused::Overlaps { range, with }))
        }
    }
}
