//! Where there is room (`get_free_mem_region`).
//!
//! CXL regions take the lowest free range of their window, device-private users the highest of all
//! addresses. The kernel tries one address after the other, a step of the alignment apart, and asks
//! each time whether anything is there. The same addresses come out of looking at the gaps between
//! the resources, and that is done after as many looks as there are resources, however large the
//! address space and however small the alignment.
//!
//! The candidates, exactly as the kernel's loop has them:
//! * upwards, all multiples of the alignment from `ALIGN(max(start, align), align)` on: address 0
//!   is none, since older kernels could not tell it from an address that wrapped around;
//! * downwards, `end - size + 1` and all that are a multiple of the alignment lower, but above the
//!   alignment itself;
//! * the size is rounded up to the alignment first.
//!
//! The kernel compares only the first address of a candidate with the end of the usable addresses;
//! here the whole range has to lie in [`Search::within`].

use alloc::vec::Vec;

use memtide_units::{PhysAddr, PhysRange};

use super::{NoSuchResource, ResourceId, Tree};
use crate::ranges;

/// From where the search goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From the lowest address upwards: CXL regions.
    Ascending,
    /// From the highest address downwards (`GFR_DESCENDING`): device-private users.
    Descending,
}

/// What is looked for, besides the size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Search<'a> {
    /// The addresses that come into question; those of what is searched are cut to them.
    pub within: PhysRange,
    /// The alignment in bytes, a power of two.
    pub align: u64,
    /// From where.
    pub direction: Direction,
    /// Addresses that are not to be given out though no resource has them; sorted and apart, as
    /// [`crate::ranges::union`] makes them.
    pub avoid: &'a [PhysRange],
}

/// Why there is no free range.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FreeError {
    /// Nothing was asked for.
    #[error("a size of 0 was asked for; expected at least one byte")]
    NoBytes,
    /// The alignment is none.
    #[error("an alignment of {align:#x} was asked for; expected a power of two")]
    Alignment {
        /// What was asked for.
        align: u64,
    },
    /// No gap is large enough (`-ERANGE`).
    #[error("no free range has {bytes:#x} bytes aligned to {align:#x}")]
    NoRoom {
        /// How many bytes were looked for, rounded up to the alignment.
        bytes: u128,
        /// The alignment.
        align: u64,
    },
    /// What was to be searched is gone.
    #[error(transparent)]
    Gone(#[from] NoSuchResource),
}

impl Tree {
    /// The first free range of `bytes` below `base`, in the direction of the search.
    ///
    /// # Errors
    ///
    /// [`FreeError::NoRoom`], or what is wrong with the question.
    pub fn find_free(
        &self,
        base: ResourceId,
        bytes: u64,
        search: &Search<'_>,
    ) -> Result<PhysRange, FreeError> {
        let Search { align, direction, .. } = *search;
        if bytes == 0 {
            return Err(FreeError::NoBytes);
        }
        let rooms = self.rooms(base, search)?;
        let bytes = u128::from(bytes).next_multiple_of(u128::from(align));
        let fits = |room: &&Room| room.end - room.start >= bytes;
        let start = match direction {
            Direction::Ascending => rooms.iter().find(fits).map(|room| room.start),
            Direction::Descending => rooms.iter().rfind(fits).map(|room| room.end - bytes),
        };
        let start = start.ok_or(FreeError::NoRoom { bytes, align })?;
        Ok(from_ends(start, start + bytes - 1))
    }

    /// The most bytes, a multiple of `unit` (itself a multiple of the alignment), for which
    /// [`Self::find_free`] finds a range; 0 if there is none.
    ///
    /// # Errors
    ///
    /// What is wrong with the question.
    pub fn largest_free(
        &self,
        base: ResourceId,
        unit: u64,
        search: &Search<'_>,
    ) -> Result<u64, FreeError> {
        if unit == 0 || !unit.is_multiple_of(search.align) {
            return Err(FreeError::Alignment { align: unit });
        }
        let rooms = self.rooms(base, search)?;
        let most = rooms.iter().map(|room| room.end - room.start).max().unwrap_or(0);
        let most = most.min(u128::from(u64::MAX));
        Ok(u64::try_from(most - most % u128::from(unit)).expect("cut to 64 bits"))
    }

    /// What nobody has directly below `base`, without the addresses to avoid, ascending.
    ///
    /// # Errors
    ///
    /// [`NoSuchResource`].
    pub fn gaps(
        &self,
        base: ResourceId,
        within: PhysRange,
        avoid: &[PhysRange],
    ) -> Result<Vec<PhysRange>, NoSuchResource> {
        let node = self.node(base).ok_or(NoSuchResource)?;
        let Some(within) = node.resource.range.intersection(within) else { return Ok(Vec::new()) };
        let taken = node.children.iter().map(|&id| self.range(id));
        let taken = ranges::union(taken.chain(ranges::shared(within, avoid)));
        Ok(ranges::without(within, &taken))
    }

    /// The parts of the gaps where candidates may start and end.
    fn rooms(&self, base: ResourceId, search: &Search<'_>) -> Result<Vec<Room>, FreeError> {
        let Search { within, align, direction, avoid } = *search;
        if !align.is_power_of_two() {
            return Err(FreeError::Alignment { align });
        }
        let base_range = self.node(base).ok_or(NoSuchResource)?.resource.range;
        let Some(whole) = base_range.intersection(within) else { return Ok(Vec::new()) };
        let gaps = self.gaps(base, within, avoid)?;
        let room = |gap: &PhysRange| match direction {
            Direction::Ascending => Room::ascending(*gap, align),
            Direction::Descending => Room::descending(*gap, align, whole.last()),
        };
        Ok(gaps.iter().map(room).filter(|room| room.start < room.end).collect())
    }
}

/// The part of a gap that ranges of the right alignment may fill, in numbers that hold the address
/// after the last one, too. `start` is the lowest candidate; whatever is not usable is cut off.
#[derive(Clone, Copy)]
struct Room {
    start: u128,
    end: u128,
}

impl Room {
    /// Candidates are multiples of the alignment, except 0.
    fn ascending(gap: PhysRange, align: u64) -> Self {
        let (start, end) = ends(gap);
        let align = u128::from(align);
        Self { start: start.max(align).next_multiple_of(align), end }
    }

    /// Candidates end a multiple of the alignment below `top`, and begin above the alignment.
    fn descending(gap: PhysRange, align: u64, top: PhysAddr) -> Self {
        let (start, end) = ends(gap);
        let align = u128::from(align);
        let top = u128::from(top.0) + 1;
        let over = (align - (top - end) % align) % align;
        Self { start: start.max(align + 1), end: end.saturating_sub(over) }
    }
}

fn ends(range: PhysRange) -> (u128, u128) {
    (u128::from(range.start().0), u128::from(range.last().0) + 1)
}

fn from_ends(start: u128, last: u128) -> PhysRange {
    let inside = "a candidate lies in a gap, and gaps are addresses";
    let [start, last] = [start, last].map(|at| PhysAddr(u64::try_from(at).expect(inside)));
    PhysRange::new(start, last).expect("no candidate is empty")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::{Kind, Resource};

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;

    fn span(start: u64, bytes: u64) -> PhysRange {
        PhysRange::from_size(PhysAddr(start), bytes).unwrap()
    }

    fn all() -> PhysRange {
        PhysRange::new(PhysAddr(0), PhysAddr(u64::MAX)).unwrap()
    }

    fn ascending(align: u64) -> Search<'static> {
        Search { within: all(), align, direction: Direction::Ascending, avoid: &[] }
    }

    /// Window [4 GiB, 20 GiB), 256 MiB busy at 4 GiB and at 13 GiB: 8 GiB aligned to 256 MiB fit at
    /// 0x110000000. In steps of the size, 4, 12 and 20 GiB would have been tried, and none is free.
    #[test]
    fn the_step_is_the_alignment_and_not_the_size() {
        let mut tree = Tree::new(all());
        let window = Resource::open(span(4 * GIB, 16 * GIB), Kind::CxlWindow, "CXL Window 0");
        let window = tree.insert(tree.root(), window).unwrap();
        for at in [4 * GIB, 13 * GIB] {
            let busy = Resource::busy(span(at, 256 * MIB), Kind::CxlRegion, "region");
            tree.insert(window, busy).unwrap();
        }
        let found = tree.find_free(window, 8 * GIB, &ascending(256 * MIB)).unwrap();
        assert_eq!(found, span(0x1_1000_0000, 8 * GIB));
        let largest = tree.largest_free(window, 256 * MIB, &ascending(256 * MIB)).unwrap();
        assert_eq!(largest, 8 * GIB + 768 * MIB, "from 4.25 GiB to 13 GiB");
    }

    #[test]
    fn ascending_from_base_zero_and_at_the_top_nothing_wraps() {
        let tree = Tree::new(all());
        let found = tree.find_free(tree.root(), 1, &ascending(256 * MIB)).unwrap();
        assert_eq!(found, span(256 * MIB, 256 * MIB), "address 0 is never given out");
        let high = Search { within: span(u64::MAX - MIB, MIB + 1), ..ascending(256 * MIB) };
        let error = tree.find_free(tree.root(), MIB, &high).unwrap_err();
        assert_eq!(error, FreeError::NoRoom { bytes: 256 << 20, align: 256 * MIB });
        let most = tree.find_free(tree.root(), u64::MAX, &ascending(1 << 63)).unwrap_err();
        assert_eq!(most, FreeError::NoRoom { bytes: 1 << 64, align: 1 << 63 });
        let half = tree.find_free(tree.root(), 1 << 63, &ascending(1 << 63)).unwrap();
        assert_eq!(half.last(), PhysAddr(u64::MAX));
        assert_eq!(tree.largest_free(tree.root(), 4096, &ascending(4096)), Ok(u64::MAX - 4095));
    }

    #[test]
    fn descending_starts_at_the_end() {
        let mut tree = Tree::new(span(0, 1 << 46));
        let down = Search { direction: Direction::Descending, ..ascending(128 * MIB) };
        let first = tree.find_free(tree.root(), 100 * MIB, &down).unwrap();
        assert_eq!(first, span((1 << 46) - 128 * MIB, 128 * MIB));
        tree.insert(tree.root(), Resource::busy(first, Kind::DevicePrivate, "gpu")).unwrap();
        let second = tree.find_free(tree.root(), GIB, &down).unwrap();
        assert_eq!(second, span(first.start().0 - GIB, GIB));
        let avoid = [span(0, second.start().0)];
        let left = Search { avoid: &avoid, ..down };
        assert_eq!(tree.find_free(tree.root(), GIB, &left), Ok(second));
        assert_eq!(tree.largest_free(tree.root(), 128 * MIB, &left), Ok(GIB));
    }

    #[test]
    fn a_wrong_question_is_refused() {
        let tree = Tree::new(all());
        assert_eq!(tree.find_free(tree.root(), 0, &ascending(1)), Err(FreeError::NoBytes));
        for align in [0, 3] {
            let error = FreeError::Alignment { align };
            assert_eq!(tree.find_free(tree.root(), 1, &ascending(align)), Err(error));
        }
        let error = tree.largest_free(tree.root(), 3, &ascending(2));
        assert_eq!(error, Err(FreeError::Alignment { align: 3 }));
    }
}
