//! The mmap family on memory that memtide manages.
//!
//! A program that gets pool memory for its private anonymous mappings must not be able to tell:
//! what it frees is gone, what it gets is zero, parts may be unmapped, protected, moved and locked
//! as it likes. [`Calls`] has one method per call; each splits its range at the borders of the
//! arena, does the part inside here, and hands the rest to the kernel.
//!
//! * [`map`], [`unmap`], [`protect`], [`remap`], [`advise`], [`lock`]: the calls.
//! * [`erase`]: making pages read as zero, by what is behind them. [`mappings`]: protections.
//! * [`promise`]: asking the pool before memory becomes writable.
//! * [`managed`]: what is needed of the process's memory, as a trait, so that tests can run the
//!   calls without a pager.
//!
//! Rules that hold everywhere:
//! * A page that is not carved reads as zero once it is: freeing erases.
//! * Whoever holds the lock touches no memory that may be *reserved*: the first touch waits for
//!   the pager, and the pager for the lock.
//! * Where the kernel keeps something for a mapping that could not be kept through a move (another
//!   file, advice that lasts), its block is first made ordinary memory, which is never moved.

pub mod advise;
mod erase;
pub mod lock;
mod managed;
pub mod map;
mod mappings;
mod promise;
pub mod protect;
pub mod remap;
pub mod unmap;

#[cfg(feature = "stand-in")]
pub mod stand_in;

use memtide_sys::{AddrRange, Kernel};
use rustix::io::Errno;

use crate::space::PAGE;

pub use managed::{Content, Contents, Locked, Managed};

/// Whose call it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Caller {
    /// The program's: a page that it may not touch must fault.
    Program,
    /// The allocator's: it does not touch what it has given back, so blocks of one huge page may
    /// stay accessible as a whole.
    Allocator,
}

/// The mmap family over one process's memory.
#[derive(Clone, Copy, Debug)]
pub struct Calls<'a, M> {
    memory: &'a M,
    kernel: Kernel,
    caller: Caller,
}

impl<'a, M: Managed> Calls<'a, M> {
    /// Calls of `caller` on `memory`; `kernel` gets what is not memtide's.
    #[must_use]
    pub const fn new(memory: &'a M, kernel: Kernel, caller: Caller) -> Self {
        Self { memory, kernel, caller }
    }

    /// Cuts `range` at the borders of the arena, in ascending order.
    fn cut(&self, range: AddrRange) -> impl Iterator<Item = Part> + use<M> {
        let arena = self.memory.arena().range();
        let before = AddrRange::between(range.start, range.end().min(arena.start));
        let inside = range.intersection(arena);
        let after = AddrRange::between(range.start.max(arena.end()), range.end());
        [Part::Outside(before), Part::Inside(inside), Part::Outside(after)]
            .into_iter()
            .filter(|part| !part.range().is_empty())
    }
}

/// A part of a range, on one side of the arena's borders.
#[derive(Clone, Copy, Debug)]
enum Part {
    /// In the arena.
    Inside(AddrRange),
    /// The kernel's own.
    Outside(AddrRange),
}

impl Part {
    const fn range(self) -> AddrRange {
        match self {
            Self::Inside(range) | Self::Outside(range) => range,
        }
    }
}

/// The whole pages of `len` bytes from `start`, as the kernel rounds them.
fn pages(start: usize, len: usize) -> Result<AddrRange, Errno> {
    if !start.is_multiple_of(PAGE) {
        return Err(Errno::INVAL);
    }
    let len = len.checked_next_multiple_of(PAGE).ok_or(Errno::NOMEM)?;
    start.checked_add(len).ok_or(Errno::NOMEM)?;
    Ok(AddrRange::new(start, len))
}
