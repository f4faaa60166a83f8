//! Which devices a region gets where none are named.
//!
//! As many below each host bridge of the window, of those that have memory left, the first of the
//! kernel's order before the others. Whether some go together is seen only once they are arranged
//! and placed (turns below switches, decoders of ports, their order); so picks are tried one after
//! the other until one is legal. There are [`PICKS_MAX`] at most: a machine on which none of so
//! many fits needs somebody to name its devices.

use std::iter;

use memtide_units::ByteSize;

use super::{
    arrange::{self, Reached},
    capacity::Share,
    create_error::CreateError,
};
use crate::cxl::{Cxl, Decoder};

/// So many picks are tried.
pub(super) const PICKS_MAX: usize = 4096;

/// Devices that a region can be made of.
#[derive(Debug)]
pub(super) struct Candidates<'a> {
    /// Those below each target of the window, best first.
    turns: Vec<Vec<Reached<'a>>>,
    /// How many are needed below each.
    each: usize,
}

impl<'a> Candidates<'a> {
    /// Those below a window. Devices with `size` shared out over all ways go before those with
    /// less.
    ///
    /// # Errors
    /// [`CreateError::Arrange`] for ways that the window cannot have,
    /// [`CreateError::TooFewDevices`].
    pub(super) fn of(
        cxl: &'a Cxl,
        window: &Decoder,
        ways: Option<u32>,
        size: Option<ByteSize>,
    ) -> Result<Self, CreateError> {
        let (targets, window_ways) = arrange::interleave_of(window);
        let ways = ways.unwrap_or(window_ways);
        arrange::check_ways(window, ways)?;
        let each = (ways / window_ways) as usize;
        let wanted = size.unwrap_or_default().0 / u64::from(ways);
        let mut reasons = Vec::new();
        let mut enough = vec![Vec::new(); targets.len()];
        let mut less = enough.clone();
        for memdev in &cxl.memdevs {
            let Some(reached) = Reached::of(cxl, &memdev.name) else { continue };
            let bridge = reached.bridge();
            let Some(turn) = targets.iter().position(|&it| Some(it) == bridge) else { continue };
            match Share::of(cxl, &reached) {
                Ok(share) if share.free.0 == 0 => {
                    reasons.push(format!("{} has no volatile memory free", memdev.name));
                }
                Ok(share) if share.free.0 < wanted => less[turn].push(reached),
                Ok(_) => enough[turn].push(reached),
                Err(error) => reasons.push(error.to_string()),
            }
        }
        let turns: Vec<Vec<_>> = iter::zip(enough, less).map(|(a, b)| [a, b].concat()).collect();
        let found = turns.iter().map(|turn| turn.len().min(each)).sum();
        if found != ways as usize {
            let window = window.name.clone();
            return Err(CreateError::TooFewDevices { window, found, ways, reasons });
        }
        Ok(Self { turns, each })
    }

    /// Each way to pick the devices, the first of the list before the others.
    pub(super) fn picks(&self) -> impl Iterator<Item = Vec<Reached<'a>>> {
        let first: Vec<Vec<usize>> = vec![(0..self.each).collect(); self.turns.len()];
        let next = |picked: &Vec<Vec<usize>>| {
            let mut picked = picked.clone();
            let mut turns = iter::zip(&mut picked, &self.turns).rev();
            let is_new = turns.any(|(chosen, turn)| advance(chosen, turn.len()));
            is_new.then_some(picked)
        };
        iter::successors(Some(first), next).take(PICKS_MAX).map(|picked| {
            let of_turn = |(turn, chosen): (&Vec<Reached<'a>>, Vec<usize>)| {
                chosen.into_iter().map(|at| turn[at].clone()).collect::<Vec<_>>()
            };
            iter::zip(&self.turns, picked).flat_map(of_turn).collect()
        })
    }
}

/// The next choice of as many of `count` things, in lexicographic order; after the last one the
/// first again, and `false`.
fn advance(chosen: &mut [usize], count: usize) -> bool {
    let all = chosen.len();
    let Some(at) = (0..all).rev().find(|&at| chosen[at] + (all - at) < count) else {
        chosen.iter_mut().enumerate().for_each(|(at, it)| *it = at);
        return false;
    };
    let first = chosen[at] + 1;
    chosen[at..].iter_mut().enumerate().for_each(|(more, it)| *it = first + more);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_choice_comes_once_in_order() {
        for (each, count) in [(1, 1), (1, 4), (2, 2), (2, 5), (3, 6), (4, 8)] {
            let mut chosen: Vec<usize> = (0..each).collect();
            let mut seen = vec![chosen.clone()];
            while advance(&mut chosen, count) {
                seen.push(chosen.clone());
            }
            assert!(seen.is_sorted_by(|a, b| a < b), "{each} of {count}: {seen:?}");
            assert!(seen.iter().flatten().all(|&at| at < count));
            assert!(seen.iter().all(|chosen| chosen.is_sorted_by(|a, b| a < b)));
            // n! / (k! (n - k)!)
            let choices = (1..=each).fold(1, |all, k| all * (count - each + k) / k);
            assert_eq!(seen.len(), choices, "{each} of {count}");
            assert_eq!(chosen, seen[0]);
        }
    }
}
