//! A group lies in one partition (`cxl_check_group_partition()`): what the memory is like
//! (shared, read-only, coherent) is said of partitions, and an allocation is of one kind.

use super::{add_pending::Fault, device::Device, extent::DcExtent, refused::Refused};

impl Device {
    /// Checks a group of extents that each are in a partition.
    pub(super) fn check_group_partition(&self, group: &[DcExtent]) -> Result<(), Fault> {
        let first = group[0].range;
        let partition = self.partition_of(first);
        match group.iter().find(|extent| self.partition_of(extent.range) != partition) {
            None => Ok(()),
            Some(&DcExtent { range, tag, .. }) => {
                Err(Fault::at(range, Refused::Partitions { tag, first, range }))
            }
        }
    }
}
