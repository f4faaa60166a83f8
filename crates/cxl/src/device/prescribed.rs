//! Extents that a manager lists to be offered (5604h, prescriptive: CXL 3.1, 7.6.7.6.5).
//!
//! They are whole blocks of regions, free, and do not overlap. A tag names one allocation in one
//! region, and no other is under it; in sharable regions there is one, and the sequence numbers of
//! its extents are 0 to n-1 (or 1 to n), each once; elsewhere they are 0 (table 8-52).

use alloc::{collections::BTreeMap, vec::Vec};

use memtide_units::{DcExtent, DpaRange, Tag};

use super::{Device, Refusal};

impl Device {
    /// Checks a list. What it has is what is offered, in its order.
    pub(super) fn check_prescribed(&self, extents: &[DcExtent]) -> Result<Vec<DcExtent>, Refusal> {
        if extents.is_empty() {
            return Err(Refusal::NoExtents);
        }
        let ranges: Vec<DpaRange> = extents.iter().map(|extent| extent.range).collect();
        self.well_formed(&ranges, |range| Refusal::NotInRegion { range })?;
        ranges.iter().try_for_each(|&range| self.check_free(range))?;
        self.check_tags(extents)?;
        self.check_capacity(ranges.iter().map(|range| range.length).sum())?;
        Ok(extents.to_vec())
    }

    fn check_free(&self, range: DpaRange) -> Result<(), Refusal> {
        let region = &self.regions[self.region_of(range).expect("the list was checked")];
        if region.free.contains(range) {
            return Ok(());
        }
        let mut later = region.free.clone();
        region.sanitizing.iter().for_each(|range| later.insert(range));
        if later.contains(range) {
            return Err(Refusal::Sanitizing { length: range.length });
        }
        Err(Refusal::NotFree { range })
    }

    fn check_tags(&self, extents: &[DcExtent]) -> Result<(), Refusal> {
        let mut groups: BTreeMap<Tag, (usize, Vec<DcExtent>)> = BTreeMap::new();
        for &extent in extents {
            let DcExtent { range, tag, sequence } = extent;
            let refuse = |expected| Err(Refusal::ExtentTag { range, tag, expected });
            let number = self.region_of(range).expect("the list was checked");
            let is_sharable = self.regions[number].is_sharable();
            if !is_sharable && sequence != 0 {
                return Err(Refusal::Sequence { range, sequence, expected: 0 });
            }
            if tag.is_null() {
                if is_sharable {
                    return refuse("one, as its region is sharable");
                }
                continue;
            }
            if self.is_used(tag) {
                return refuse("one that names no other allocation");
            }
            let (region, group) = groups.entry(tag).or_insert((number, Vec::new()));
            if *region != number {
                return refuse("one of this region only");
            }
            group.push(extent);
        }
        let sharable = |&(number, _): &(usize, Vec<DcExtent>)| self.regions[number].is_sharable();
        groups.into_values().filter(sharable).try_for_each(|(_, group)| check_order(group))
    }
}

/// Checks the sequence numbers of one tag.
fn check_order(mut group: Vec<DcExtent>) -> Result<(), Refusal> {
    group.sort_by_key(|extent| extent.sequence);
    let first = usize::from(group[0].sequence.min(1));
    for (expected, extent) in (first..).zip(&group) {
        if usize::from(extent.sequence) != expected {
            let DcExtent { range, sequence, .. } = *extent;
            return Err(Refusal::Sequence { range, sequence, expected });
        }
    }
    Ok(())
}
