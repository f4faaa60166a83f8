//! Where in a window there is room for a region.
//!
//! The kernel looks itself (`alloc_free_mem_region` in kernel/resource.c): from the start of the
//! window up, in steps of 256 MiB, the first place that intersects no resource. The same is done
//! here, to say before anything is written how much fits, and where the region will be: decoders of
//! a port must be in the order of their addresses.

use memtide_physmap::iomem::{self, Line};
use memtide_units::{ByteSize, PhysAddr, PhysRange};

use super::REGION_ALIGN;
use crate::{
    ReadError, Root,
    cxl::{Cxl, Decoder},
};

/// Why a region does not fit into a window.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WindowError {
    /// Where it is cannot be seen.
    #[error("the place of {window} is for root's eyes only: run as root")]
    Hidden {
        /// Which.
        window: String,
    },
    /// No room.
    #[error(
        "{window} has no room for {size} in one piece: the largest that would fit is {largest} \
         (its {} are taken by {})",
        ByteSize(u64::try_from(range.bytes()).unwrap_or(u64::MAX)),
        if neighbours.is_empty() { "nothing".to_owned() } else { neighbours.join(", ") }
    )]
    NoRoom {
        /// Which.
        window: String,
        /// Where it is.
        range: PhysRange,
        /// What was asked for.
        size: ByteSize,
        /// What would fit.
        largest: ByteSize,
        /// What is in the way.
        neighbours: Vec<String>,
    },
    /// Something could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// A window, and what is taken of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Room {
    window: String,
    range: PhysRange,
    /// By start, with the names of their resources.
    taken: Vec<(PhysRange, String)>,
}

impl Room {
    /// What the regions of a window and other resources have of it.
    ///
    /// # Errors
    /// [`WindowError::Hidden`], [`WindowError::Read`].
    pub fn of(root: &Root, cxl: &Cxl, window: &Decoder) -> Result<Self, WindowError> {
        let hidden = || WindowError::Hidden { window: window.name.clone() };
        let range = window.range().filter(|range| range.start().0 != 0).ok_or_else(hidden)?;
        let regions = cxl.regions.iter().filter_map(|region| {
            let range = region.range().filter(|of| range.overlaps(*of))?;
            Some((range, region.name.clone()))
        });
        let mut taken: Vec<(PhysRange, String)> = regions.collect();
        let iomem = root.text("proc/iomem")?.unwrap_or_default();
        for Line { range: of, name, .. } in iomem::lines(&iomem).filter_map(Result::ok) {
            let is_new = !taken.iter().any(|(range, _)| range.contains(of));
            if range.contains(of) && !name.starts_with("CXL Window") && is_new {
                taken.push((of, name.to_owned()));
            }
        }
        taken.sort();
        Ok(Self { window: window.name.clone(), range, taken })
    }

    /// Where the kernel will put a region of that size.
    ///
    /// # Errors
    /// [`WindowError::NoRoom`].
    pub fn place(&self, size: ByteSize) -> Result<PhysRange, WindowError> {
        let fits = |&(start, bytes): &(PhysAddr, u64)| {
            (bytes >= size.0).then(|| PhysRange::from_size(start, size.0)).flatten()
        };
        self.holes().iter().find_map(fits).ok_or_else(|| WindowError::NoRoom {
            window: self.window.clone(),
            range: self.range,
            size,
            largest: self.largest(),
            neighbours: self.taken.iter().map(|(_, name)| name.clone()).collect(),
        })
    }

    /// The largest size that fits, in steps of 256 MiB.
    #[must_use]
    pub fn largest(&self) -> ByteSize {
        let largest = self.holes().iter().map(|&(_, bytes)| bytes).max().unwrap_or(0);
        ByteSize(largest / REGION_ALIGN * REGION_ALIGN)
    }

    /// Free places from the first aligned address on, with their sizes.
    fn holes(&self) -> Vec<(PhysAddr, u64)> {
        let mut holes = Vec::new();
        let mut free_from = Some(self.range.start());
        let ends = self.taken.iter().map(|(range, _)| (range.start(), range.last()));
        let edge = self.range.last().checked_add(1);
        for (start, last) in ends {
            holes.extend(free_from.and_then(|from| hole(from, start)));
            let next = last.checked_add(1);
            free_from = free_from.zip(next).map(|(from, next)| from.max(next));
        }
        holes.extend(free_from.zip(edge).and_then(|(from, edge)| hole(from, edge)));
        holes
    }
}

/// From the first aligned address at or above `from` to below `end`.
fn hole(from: PhysAddr, end: PhysAddr) -> Option<(PhysAddr, u64)> {
    let start = from.align_up(REGION_ALIGN)?;
    let bytes = end.0.checked_sub(start.0).filter(|&bytes| bytes > 0)?;
    Some((start, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;
    const QUARTER: u64 = GIB / 4;

    fn room(taken: &[(u64, u64)]) -> Room {
        let range = |(start, bytes)| PhysRange::from_size(PhysAddr(start), bytes).unwrap();
        Room {
            window: "decoder0.0".to_owned(),
            range: range((4 * GIB, 16 * GIB)),
            taken: taken.iter().map(|&taken| (range(taken), "region9".to_owned())).collect(),
        }
    }

    #[test]
    fn the_first_place_above_what_is_taken_is_chosen() {
        // Busy at 4 GiB and 13 GiB: steps of the size, instead of 256 MiB, would find nothing.
        let room = room(&[(4 * GIB, QUARTER), (13 * GIB, QUARTER)]);
        let place = room.place(ByteSize(8 * GIB)).unwrap();
        assert_eq!(place.start(), PhysAddr(0x1_1000_0000));
        assert_eq!(room.largest(), ByteSize(8 * GIB + 3 * QUARTER));
    }

    #[test]
    fn what_does_not_fit_is_told_with_what_would() {
        let error = room(&[(5 * GIB, 15 * GIB)]).place(ByteSize(GIB + QUARTER)).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("no room for 1.2GiB in one piece"), "{text}");
        assert!(text.contains("fit is 1GiB (its 16GiB are taken by region9)"), "{text}");
        assert_eq!(room(&[(4 * GIB, 16 * GIB)]).largest(), ByteSize(0));
    }

    #[test]
    fn places_are_aligned() {
        let room = room(&[(4 * GIB, 4096)]);
        assert_eq!(room.place(ByteSize(GIB)).unwrap().start(), PhysAddr(4 * GIB + QUARTER));
    }
}
