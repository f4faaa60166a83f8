//! A number of calls on one thread, for a tool that counts instructions.
//!
//! `cargo xtask instructions` runs this under valgrind, once with N calls and once with 2 N: the
//! difference is what N calls cost, and starting up drops out. Vectors are of one size in both.

use std::hint::black_box;

use memtide_frames::Order;
use memtide_units::Random;

use super::{
    FramesError,
    hands::{By, Caches, Hands, Numbering, Owning},
    node::Node,
};

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Counted {
    /// Take one and give it back, again and again.
    Repeat,
    /// Take all, and no more.
    Take,
    /// Take all, then give all back, the last first.
    Bulk,
    /// Take all and shuffle it.
    Shuffle,
    /// Take all, shuffle it, give all back.
    Rand,
}

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct CountOptions {
    /// What.
    pub what: Counted,
    /// With blocks of which order.
    pub order: Order,
    /// Held by what.
    pub by: By,
    /// With or without caches.
    pub caches: Caches,
    /// How often.
    pub calls: usize,
    /// How often at most, in all runs that are compared.
    pub calls_max: usize,
    /// Frames of the node.
    pub frames: u64,
}

/// Does it, on a node that is otherwise free.
///
/// # Errors
/// [`FramesError`]: the sizes make no sense, or the allocator refused what it should not.
pub fn count(options: &CountOptions) -> Result<(), FramesError> {
    let node = Node::new(options.frames, 1)?;
    let frames = &node.frames()?;
    let CountOptions { order, caches, .. } = *options;
    match options.by {
        By::Owned => with(&mut Owning::new(frames, 0, caches, order), options),
        By::Number => with(&mut Numbering::new(frames, 0, caches, order), options),
    }
}

fn with<H: Hands>(hands: &mut H, options: &CountOptions) -> Result<(), FramesError> {
    if options.what == Counted::Repeat {
        for _ in 0..options.calls {
            let block = hands.take()?;
            hands.give(black_box(block))?;
        }
        return Ok(());
    }
    let mut held = Vec::with_capacity(options.calls_max.max(options.calls));
    for _ in 0..options.calls {
        held.push(hands.take()?);
    }
    if matches!(options.what, Counted::Shuffle | Counted::Rand) {
        Random::new(42).shuffle(&mut held);
    }
    if matches!(options.what, Counted::Bulk | Counted::Rand) {
        while let Some(block) = held.pop() {
            hands.give(block)?;
        }
    }
    // What is still held stays: giving it back would count.
    held.into_iter().for_each(std::mem::forget);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_calls_are_made() {
        use Counted::{Bulk, Rand, Repeat, Shuffle, Take};
        for what in [Repeat, Take, Bulk, Shuffle, Rand] {
            for (by, caches) in [(By::Owned, Caches::On), (By::Number, Caches::Off)] {
                let (order, calls, calls_max, frames) = (Order::FRAME, 1000, 2000, 1 << 15);
                let options = CountOptions { what, order, by, caches, calls, calls_max, frames };
                count(&options).unwrap();
            }
        }
    }
}
