//! The moves of one answer, kept within what may be spent and what has room.
//!
//! A move takes from the budget, makes room where the page leaves and takes room where it comes,
//! in order, as the trait's contract counts it. What does not fit is not planned, so that no
//! policy can ask for more than it may.

use alloc::vec::Vec;

use super::{Budget, Move, Page, Tier, TierState};

/// Moves being collected.
pub(super) struct Plan {
    free: Vec<u32>,
    left: u32,
    moves: Vec<Move>,
}

impl Plan {
    /// No moves yet.
    pub(super) fn new(tiers: &[TierState], budget: Budget) -> Self {
        let free = tiers.iter().map(|tier| tier.free).collect();
        Self { free, left: budget.moves, moves: Vec::new() }
    }

    /// How many more moves may be asked for.
    pub(super) fn left(&self) -> u32 {
        self.left
    }

    /// How many pages a tier has room for, as planned.
    pub(super) fn free(&self, tier: Tier) -> u32 {
        self.free.get(usize::from(tier)).copied().unwrap_or(0)
    }

    /// The first tier below the fastest that has room.
    pub(super) fn below(&self) -> Option<Tier> {
        let at = self.free.iter().skip(1).position(|&free| free > 0)?;
        Some(at as Tier + 1)
    }

    /// Plans a move, if it may be asked for and has room; whether it did.
    pub(super) fn put(&mut self, page: Page, from: Tier, to: Tier) -> bool {
        if self.left == 0 || from == to || self.free(to) == 0 {
            return false;
        }
        self.left -= 1;
        self.free[usize::from(to)] -= 1;
        self.free[usize::from(from)] += 1;
        self.moves.push(Move { page, to });
        true
    }

    /// Plans the move of a page from the fastest tier to the first below that has room.
    pub(super) fn demote(&mut self, page: Page) -> bool {
        self.below().is_some_and(|to| self.put(page, 0, to))
    }

    /// The moves.
    pub(super) fn finish(self) -> Vec<Move> {
        self.moves
    }
}
