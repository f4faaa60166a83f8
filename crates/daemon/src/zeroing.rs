//! Pageblocks that wait to be zeroed.
//!
//! Punching out gigabytes takes a second; in slices, nobody waits for it.

use std::{
    collections::VecDeque,
    io,
    time::{Duration, Instant},
};

use memtide_units::{Extent, ImageId};

/// Pageblocks punched out between two looks at the clock.
const SLICE: u32 = 4;
/// How long one turn takes.
const TURN: Duration = Duration::from_millis(2);

/// What waits, in order.
#[derive(Debug, Default)]
pub struct Zeroing {
    waiting: VecDeque<(ImageId, Extent)>,
}

/// What a turn has done.
#[derive(Debug)]
pub struct Turn {
    /// Zero now.
    pub done: Vec<(ImageId, Extent)>,
    /// Not zero, and not to be used again.
    pub failed: Vec<(ImageId, Extent, io::Error)>,
}

impl Zeroing {
    /// These, too.
    pub fn push(&mut self, image: ImageId, extents: impl IntoIterator<Item = Extent>) {
        self.waiting.extend(extents.into_iter().map(|extent| (image, extent)));
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Goes on for a moment.
    pub fn turn(&mut self, mut zero: impl FnMut(ImageId, Extent) -> io::Result<()>) -> Turn {
        let start = Instant::now();
        let mut turn = Turn { done: Vec::new(), failed: Vec::new() };
        while let Some((image, extent)) = self.waiting.pop_front() {
            let slice = Extent::new(extent.start, extent.count.min(SLICE));
            if let (Some(rest), true) = (slice.end(), extent.count > SLICE) {
                self.waiting.push_front((image, Extent::new(rest, extent.count - SLICE)));
            }
            match zero(image, slice) {
                Ok(()) => turn.done.push((image, slice)),
                Err(error) => turn.failed.push((image, slice, error)),
            }
            if start.elapsed() >= TURN {
                break;
            }
        }
        turn
    }
}

#[cfg(test)]
mod tests {
    use memtide_units::Pageblock;

    use super::*;

    #[test]
    fn a_long_run_is_done_in_slices_and_in_order() {
        let mut zeroing = Zeroing::default();
        zeroing.push(ImageId(1), [Extent::new(Pageblock(3), 9), Extent::new(Pageblock(20), 1)]);
        let mut slices = Vec::new();
        let turn = zeroing.turn(|_, extent| {
            slices.push(extent);
            std::thread::sleep(TURN);
            Ok(())
        });
        assert_eq!(turn.done.len(), 1);
        while !zeroing.is_empty() {
            let _ = zeroing.turn(|_, extent| {
                slices.push(extent);
                Err(io::ErrorKind::Other.into())
            });
        }
        let all: Vec<_> = slices.iter().map(|e| (e.start.0, e.count)).collect();
        assert_eq!(all, [(3, 4), (7, 4), (11, 1), (20, 1)]);
    }
}
