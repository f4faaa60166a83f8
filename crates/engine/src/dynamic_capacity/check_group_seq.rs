//! The sequence numbers of a group (`cxl_check_group_seq()`).
//!
//! All 0: the extents are not shared, and go one after the other as they came. Otherwise several
//! hosts must put them together in the same order: 0 to n-1, none missing and none twice. An
//! earlier revision of the rule counted from 1; there is no telling which one a device was built
//! for, and no list is both.

use super::{add_pending::Fault, extent::DcExtent, refused::Refused};

/// Checks a group that is sorted by its numbers.
pub(super) fn check_group_seq(group: &[DcExtent]) -> Result<(), Fault> {
    let (first, last) = (group[0].sequence, group[group.len() - 1].sequence);
    if last == 0 {
        return Ok(());
    }
    for (extent, expected) in group.iter().zip(u32::from(first.min(1))..) {
        let found = extent.sequence;
        if u32::from(found) != expected {
            let why = Refused::Sequence { tag: extent.tag, found, expected };
            return Err(Fault::of_all(why));
        }
    }
    Ok(())
}
