//! All plugged memory is asked back: what can leave, in units of one size?
//!
//! As a host does it: nothing is placed in the memory any more (isolated), units in which something
//! cannot move are given up and used again, and the others are emptied, the cheapest first. What is
//! moved is taken elsewhere and freed here. A unit leaves as a whole or not at all.

use memtide_frames::{FrameRange, Frames, Kind, Movability, Order, Pfn, Request};

use crate::SimError;

/// What became of the frames that were asked back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct GivenBack {
    /// Left.
    pub returned: u64,
    /// In units with something that cannot move.
    pub blocked: u64,
    /// In units whose contents found no room elsewhere.
    pub no_room: u64,
    /// Moved.
    pub moved: u64,
    /// Of those that stay: taken by what cannot move.
    pub unmovable: u64,
}

/// Asks all of a range back. `returned + blocked + no_room` is its size.
pub(crate) fn give_back(
    frames: &Frames<'_>,
    plugged: FrameRange,
    unit_frames: u64,
) -> Result<GivenBack, SimError> {
    let mut given = GivenBack::default();
    let mut candidates = Vec::new();
    frames.isolate(plugged)?;
    for start in (plugged.start.0..plugged.start.0 + plugged.frames).step_by(unit_frames as usize) {
        let unit = FrameRange::new(Pfn(start), unit_frames);
        let occupancy = frames.occupancy(unit)?;
        given.unmovable += occupancy.unmovable + occupancy.reclaimable;
        if occupancy.can_leave() {
            candidates.push((occupancy.movable, start, unit));
        } else {
            given.blocked += unit_frames;
            frames.unisolate(unit)?;
        }
    }
    candidates.sort_unstable_by_key(|&(movable, start, _)| (movable, start));
    for (_, _, unit) in candidates {
        if empty(frames, unit, &mut given.moved)? {
            frames.remove(unit)?;
            given.returned += unit_frames;
        } else {
            frames.unisolate(unit)?;
            given.no_room += unit_frames;
        }
    }
    let sum = given.returned + given.blocked + given.no_room;
    assert_eq!(sum, plugged.frames, "every frame asked back left or stayed");
    Ok(given)
}

/// Moves what is in a unit elsewhere. False if there is no room for it.
fn empty(frames: &Frames<'_>, unit: FrameRange, moved: &mut u64) -> Result<bool, SimError> {
    let occupants = frames.occupants(unit)?.filter(|occupant| occupant.kind == Kind::Block);
    let occupants: Vec<(Pfn, Order)> =
        occupants.map(|occupant| (occupant.pfn, occupant.order)).collect();
    for (pfn, order) in occupants {
        let Ok(copy) = frames.take(Request::new(order, Movability::Movable)) else {
            return Ok(false);
        };
        copy.into_number();
        drop(frames.adopt(pfn, order)?);
        *moved += order.frames();
    }
    Ok(true)
}
