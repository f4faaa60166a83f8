//! How memory is packed: what is free as a whole, and what compaction would have to move.

use memtide_units::PAGES_PER_PAGEBLOCK;
use serde::Serialize;

use super::FramesError;

/// How the taken frames lie in the pageblocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Packing {
    /// Pageblocks.
    pub pageblocks: u64,
    /// Frames that are not taken.
    pub free_frames: u64,
    /// Pageblocks in which nothing is taken.
    pub free_pageblocks: u64,
    /// Pageblocks that could be free: what the free frames fill, rounded down.
    pub possible: u64,
    /// The least number of frames to move so that as many are free as could be: what is taken in
    /// the emptiest ones. (No choice of so many pageblocks has less in it, and each frame in them
    /// must move; and there is room for all of it in the others.)
    pub moves: u64,
}

impl Packing {
    /// Of so many taken frames in each pageblock.
    #[must_use]
    pub fn of(taken: &[u64]) -> Self {
        let free = |taken: u64| PAGES_PER_PAGEBLOCK.saturating_sub(taken);
        let free_frames: u64 = taken.iter().copied().map(free).sum();
        let possible = free_frames / PAGES_PER_PAGEBLOCK;
        let emptiest = taken_of(taken);
        Self {
            pageblocks: taken.len() as u64,
            free_frames,
            free_pageblocks: taken.iter().filter(|&&taken| taken == 0).count() as u64,
            possible,
            moves: emptiest.iter().take(possible as usize).map(|&(_, taken)| taken).sum(),
        }
    }

    /// Reads what another allocator wrote: a line for each step, in it the free frames of each
    /// pageblock, with commas between.
    ///
    /// # Errors
    /// [`FramesError::Peer`] with the line that is something else.
    pub fn parse(text: &str) -> Result<Vec<Self>, FramesError> {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        lines.map(|(number, line)| Self::parse_line(number + 1, line)).collect()
    }

    fn parse_line(line: usize, text: &str) -> Result<Self, FramesError> {
        let taken = text.split(',').map(|cell| {
            let free = cell.trim().parse::<u64>().ok();
            free.and_then(|free| PAGES_PER_PAGEBLOCK.checked_sub(free)).ok_or_else(|| {
                FramesError::Peer { line, what: format!("{cell:?}; expected a number up to 512") }
            })
        });
        Ok(Self::of(&taken.collect::<Result<Vec<u64>, _>>()?))
    }
}

/// The pageblocks and what is taken of them, the emptiest first.
#[must_use]
pub fn taken_of(taken: &[u64]) -> Vec<(usize, u64)> {
    let mut sorted: Vec<(usize, u64)> = taken.iter().copied().enumerate().collect();
    sorted.sort_by_key(|&(_, taken)| taken);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_emptiest_pageblocks_move() {
        // 1536 taken of 3072: three could be free; one is, and the two next have 10 and 200.
        let packing = Packing::of(&[512, 10, 0, 512, 302, 200]);
        let expected = Packing {
            pageblocks: 6,
            free_frames: 1536,
            free_pageblocks: 1,
            possible: 3,
            moves: 210,
        };
        assert_eq!(packing, expected);
    }

    #[test]
    fn packed_memory_moves_nothing() {
        assert_eq!(Packing::of(&[512, 512, 0, 0]).moves, 0);
        assert_eq!(Packing::of(&[512, 511, 1]).moves, 1);
        assert_eq!(Packing::of(&[512, 511]).possible, 0);
        assert_eq!(Packing::of(&[]), Packing::default());
    }

    /// Against all choices of pageblocks.
    #[test]
    fn no_choice_moves_less() {
        let mut random = memtide_units::Random::new(7);
        for _ in 0..200 {
            let taken: Vec<u64> = (0..8).map(|_| random.below(513)).collect();
            let packing = Packing::of(&taken);
            let choices =
                (0_u32..1 << 8).filter(|set| u64::from(set.count_ones()) == packing.possible);
            let moves = |set: u32| -> u64 {
                (0..8).filter(|at| set >> at & 1 != 0).map(|at| taken[at as usize]).sum()
            };
            assert_eq!(choices.map(moves).min(), Some(packing.moves), "{taken:?}");
        }
    }

    #[test]
    fn a_peers_steps_are_read() {
        let steps = Packing::parse("512,0, 256\n\n0,0,512\n").unwrap();
        assert_eq!(steps, [Packing::of(&[0, 512, 256]), Packing::of(&[512, 512, 0])]);
        let error = Packing::parse("1,2\n3,x\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "line 2 of the peer's figures: \"x\"; expected a number up to 512"
        );
        assert!(Packing::parse("513").is_err());
    }
}
