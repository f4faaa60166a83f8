//! A region comes, and with it what an earlier host, or this one before it was started again,
//! had accepted there (`cxl_dax_region` probe).
//!
//! Such extents pass the same gates, but no answer is sent: they were answered once. What does not
//! pass stays as it is, unused, with a line in the log: somebody's data may be in it.

use alloc::vec::Vec;

use super::{
    classify_extent::Class,
    device::Device,
    effect::Notice,
    extent::{DcExtent, DeviceId, DpaRange},
    host::Host,
    refused::{InputError, Refused},
    tag_group::{GroupState, tag_groups},
};

impl Device {
    /// Whether a region can be made over these addresses.
    pub(super) fn check_decoder(
        &self,
        device: DeviceId,
        decoder: DpaRange,
    ) -> Result<(), InputError> {
        let align = self.config.align;
        let taken = self.decoders.iter().any(|other| other.overlaps(decoder));
        if taken || !decoder.exists() || !decoder.is_aligned(align) {
            return Err(InputError::Decoder { device, decoder, align });
        }
        Ok(())
    }
}

impl Host {
    /// A region over addresses, and the device's list. Extents of other regions are left to those.
    pub(super) fn probe(
        &mut self,
        device: DeviceId,
        decoder: DpaRange,
        mut accepted: Vec<DcExtent>,
    ) {
        self.device_mut(device).decoders.push(decoder);
        accepted.retain(|extent| decoder.contains(DpaRange::new(extent.range.start, 1)));
        let extents = accepted.len();
        let extents_max = self.limits.extents_max;
        let beyond = accepted.split_off(extents.min(extents_max));
        for extent in beyond {
            let why = Refused::TooManyExtents { extents, extents_max };
            self.note(device, Notice::Refused { extent, why });
        }
        for mut group in tag_groups(accepted) {
            match self.check_group(device, &mut group) {
                Ok(Class::New) => {
                    let bytes = group.iter().map(|extent| u128::from(extent.range.length));
                    self.device_mut(device).totals.recovered += bytes.sum::<u128>();
                    let id = self.enter_group(device, &group, GroupState::Surfaced);
                    self.online_tag_group(id);
                }
                Ok(Class::Duplicate) => {}
                Err(fault) => {
                    for &extent in &group {
                        let why = fault.reason_for(&extent);
                        self.note(device, Notice::Refused { extent, why });
                    }
                }
            }
        }
    }
}
