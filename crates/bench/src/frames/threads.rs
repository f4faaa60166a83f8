//! What the threads of a benchmark share.

use std::{
    io, mem,
    sync::{Barrier, Mutex, PoisonError},
    thread,
};

use memtide_sys::processor::{pin_to, processors};
use memtide_units::Random;

use super::FramesError;

/// Keeps the thread of this number on a processor of its own, if there are as many.
pub(super) fn pin(number: u16) -> Result<(), FramesError> {
    let processors = processors().map_err(io::Error::from)?;
    let processor = processors[usize::from(number) % processors.len()];
    Ok(pin_to(processor).map_err(io::Error::from)?)
}

/// Where the threads wait for each other, and what each has.
pub(super) struct Shared<T> {
    pub(super) barrier: Barrier,
    slots: Vec<Mutex<Vec<T>>>,
}

impl<T> Shared<T> {
    pub(super) fn new(threads: u16) -> Self {
        let mut slots = Vec::new();
        slots.resize_with(usize::from(threads), Mutex::default);
        Self { barrier: Barrier::new(usize::from(threads)), slots }
    }

    /// Hands over what the thread of this number has.
    pub(super) fn put(&self, number: u16, things: Vec<T>) {
        *self.slots[usize::from(number)].lock().unwrap_or_else(PoisonError::into_inner) = things;
    }

    /// Takes over what was put there, or was dealt to this number.
    pub(super) fn get(&self, number: u16) -> Vec<T> {
        let slot = &self.slots[usize::from(number)];
        mem::take(&mut *slot.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Shows all that was put there.
    pub(super) fn each(&self, mut look: impl FnMut(&T)) {
        for slot in &self.slots {
            slot.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(&mut look);
        }
    }

    /// Shuffles what all have, and deals it out evenly.
    pub(super) fn shuffle(&self, random: &mut Random) {
        let numbers = || 0..self.slots.len() as u16;
        let mut mine: Vec<Vec<T>> = numbers().map(|number| self.get(number)).collect();
        let mut all: Vec<T> = mine.iter_mut().flat_map(|things| things.drain(..)).collect();
        random.shuffle(&mut all);
        let share = all.len().div_ceil(self.slots.len());
        for (number, mut things) in numbers().zip(mine) {
            things.extend(all.drain(all.len().saturating_sub(share)..));
            self.put(number, things);
        }
    }
}

/// A thread that panics would leave the others waiting for it, for ever.
pub(super) struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shuffled_is_dealt_out_evenly() {
        let shared = Shared::new(3);
        for number in 0..3 {
            shared.put(number, (number * 4..number * 4 + 4).collect());
        }
        shared.shuffle(&mut Random::new(42));
        let mut seen = 0;
        shared.each(|_| seen += 1);
        assert_eq!(seen, 12);
        let mut all: Vec<Vec<u16>> = (0..3).map(|number| shared.get(number)).collect();
        assert!(all.iter().all(|things| things.len() == 4), "{all:?}");
        assert!(all[0].iter().any(|&thing| thing >= 4), "{all:?}");
        let mut all: Vec<u16> = all.drain(..).flatten().collect();
        all.sort_unstable();
        assert_eq!(all, (0..12).collect::<Vec<_>>());
    }
}
