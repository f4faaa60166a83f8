//! The extents that a host has accepted: its extent list (CXL 3.1, 9.13.3).

use alloc::{collections::BTreeMap, vec::Vec};

use memtide_units::{DcExtent, DpaRange, Tag};

/// Extents that do not overlap, by their first address, which is their order in the list.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Held(BTreeMap<u64, DcExtent>);

impl Held {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &DcExtent> {
        self.0.values()
    }

    pub(super) fn insert(&mut self, extent: DcExtent) {
        self.0.insert(extent.range.start, extent);
    }

    /// Bytes under a tag.
    pub(super) fn bytes(&self, tag: Tag) -> u64 {
        self.iter().filter(|extent| extent.tag == tag).map(|extent| extent.range.length).sum()
    }

    /// What of `range`, which exists, is in the extents, as parts of one extent each.
    pub(super) fn parts(&self, range: DpaRange) -> Vec<DcExtent> {
        let before = self.0.range(..range.start).next_back();
        let end = range.start.saturating_add(range.length);
        let all = before.into_iter().chain(self.0.range(range.start..end));
        all.filter_map(|(_, &extent)| part(extent, range)).collect()
    }

    /// Whether the extents together cover all of `range`.
    pub(super) fn covers(&self, range: DpaRange) -> bool {
        self.parts(range).iter().map(|part| part.range.length).sum::<u64>() == range.length
    }

    /// Takes `range`, which exists, out. What is left of an extent on either side stays one.
    pub(super) fn remove(&mut self, range: DpaRange) {
        for part in self.parts(range) {
            let before = self.0.range(..=part.range.start).next_back();
            let extent = *before.expect("a part lies in an extent").1;
            self.0.remove(&extent.range.start);
            let (start, end) = (extent.range.start, extent.range.start + extent.range.length);
            let (from, to) = (part.range.start, part.range.start + part.range.length);
            for (start, end) in [(start, from), (to, end)] {
                if start < end {
                    self.insert(DcExtent { range: DpaRange::new(start, end - start), ..extent });
                }
            }
        }
    }
}

/// What `range` has of an extent.
fn part(extent: DcExtent, range: DpaRange) -> Option<DcExtent> {
    let start = extent.range.start.max(range.start);
    let end = extent.range.end().min(range.end());
    let length = u64::try_from(end.checked_sub(start.into())?).ok().filter(|&length| length > 0)?;
    Some(DcExtent { range: DpaRange::new(start, length), ..extent })
}
