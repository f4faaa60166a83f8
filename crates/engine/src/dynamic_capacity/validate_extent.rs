//! What an extent must be, whatever else there is (`cxl_validate_extent()`).

use super::{add_pending::Fault, device::Device, extent::DpaRange, refused::Refused};

impl Device {
    /// It exists; it starts in a region, and is fully in its endpoint decoder: it is refused and
    /// never clipped; there is a partition behind it; it can be mapped.
    pub(super) fn validate_extent(&self, range: DpaRange) -> Result<(), Fault> {
        let fault = |why| Err(Fault::at(range, why));
        if !range.exists() {
            return fault(Refused::NoSuchRange { range });
        }
        let Some(decoder) = self.decoder_of(range.start) else {
            return fault(Refused::NoRegion { range });
        };
        if !decoder.contains(range) {
            return fault(Refused::NotInDecoder { range, decoder });
        }
        if self.partition_of(range).is_none() {
            return fault(Refused::NotInPartition { range });
        }
        let align = self.config.align;
        if !range.is_aligned(align) {
            return fault(Refused::Unaligned { range, align });
        }
        Ok(())
    }
}
