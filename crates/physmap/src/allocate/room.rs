//! What is free of a window, what is in the way, and how much would fit.

use alloc::vec::Vec;

use memtide_units::PhysRange;

use super::error::{MAX_NAMED, Obstacle};
use crate::{
    map::AddressMap,
    resource::{Direction, FreeError, Resource, ResourceId, Search},
    window::WINDOW_UNIT,
    windows::{PlacedWindow, Territory},
};

impl AddressMap {
    /// The gaps in a part of what a decoder decodes.
    pub(super) fn free_in(&self, part: &Territory) -> Vec<PhysRange> {
        if self.owner_around(part.resource).is_some() {
            return Vec::new();
        }
        let gaps = self.tree.gaps(part.resource, part.range, &[]);
        gaps.expect("a territory is in a window, and windows stay in the tree")
    }

    /// The lowest free range of a window, and the resource that it is to go into.
    pub(super) fn find_in(
        &self,
        window: &PlacedWindow,
        bytes: u64,
    ) -> Option<(ResourceId, PhysRange)> {
        let open =
            window.territory.iter().filter(|part| self.owner_around(part.resource).is_none());
        open.map(|part| (part.resource, self.tree.find_free(part.resource, bytes, &upwards(part))))
            .find_map(|(resource, found)| Some((resource, found.ok()?)))
    }

    /// The largest multiple of `unit` for which there is a free range in a window.
    pub(super) fn largest_in(&self, window: &PlacedWindow, unit: u64) -> u64 {
        let open =
            window.territory.iter().filter(|part| self.owner_around(part.resource).is_none());
        let largest = |part: &Territory| -> Result<u64, FreeError> {
            self.tree.largest_free(part.resource, unit, &upwards(part))
        };
        open.filter_map(|part| largest(part).ok()).max().unwrap_or(0)
    }

    /// Why a window has no free range of `bytes`.
    pub(super) fn obstacle_in(&self, window: &PlacedWindow, bytes: u64) -> Obstacle {
        let decoded = window.territory.iter().map(|part| part.range.bytes()).sum();
        if decoded < u128::from(bytes) {
            return Obstacle::Decoder { bytes: decoded };
        }
        let gaps = window.territory.iter().flat_map(|part| self.free_in(part)).collect();
        let around = window.territory.iter().filter_map(|part| self.owner_around(part.resource));
        let inside = window.territory.iter().flat_map(|part| self.directly_in(part));
        obstacle(bytes, WINDOW_UNIT, gaps, around.chain(inside))
    }

    fn directly_in(&self, part: &Territory) -> impl Iterator<Item = &Resource> {
        let range = part.range;
        let children = self.tree.children(part.resource).iter();
        children.filter_map(|&id| self.tree.get(id)).filter(move |it| it.range.overlaps(range))
    }
}

fn upwards(part: &Territory) -> Search<'static> {
    let direction = Direction::Ascending;
    Search { within: part.range, align: WINDOW_UNIT, direction, avoid: &[] }
}

/// Why gaps do not do: a large enough one has the wrong alignment, or none is large enough.
pub(super) fn obstacle<'a>(
    bytes: u64,
    align: u64,
    gaps: Vec<PhysRange>,
    neighbours: impl Iterator<Item = &'a Resource>,
) -> Obstacle {
    let gap = gaps.into_iter().max_by_key(|gap| gap.bytes());
    match gap {
        Some(gap) if gap.bytes() >= u128::from(bytes) => Obstacle::Alignment { gap, align },
        _ => {
            let mut all: Vec<_> = neighbours.collect();
            all.sort_unstable_by_key(|resource| resource.range);
            all.dedup();
            let more = all.len().saturating_sub(MAX_NAMED);
            let by = all.into_iter().take(MAX_NAMED).cloned().collect();
            Obstacle::Neighbours { gap, by, more }
        }
    }
}
