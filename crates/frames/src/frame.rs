//! Owned frames.
//!
//! A [`Frame`] is a block of 2^k frames that somebody has taken. It is not `Clone`, cannot be made
//! up, and giving it back consumes it: a block is never given back twice, whatever the threads do,
//! and no look at any memory is needed to be sure of it. One that is dropped goes back by itself.
//!
//! Who must keep plain numbers (page tables, a table that a guest fills) turns a frame into its
//! number ([`Frame::into_number`]). The allocator notes that, and [`Frames::adopt`] turns the
//! number into a frame again: exactly once. That note is an atomic exchange, and it is what
//! survives a crash (see [`crate::recover`]).

use core::{fmt, mem};

use memtide_units::{Order, Pfn};

use crate::frames::Frames;

/// A block of frames of a node, owned.
///
/// ```compile_fail
/// fn twice(frame: memtide_frames::Frame<'_>) {
///     drop(frame.clone());
/// }
/// ```
///
/// ```compile_fail
/// fn twice<'f>(core: &mut memtide_frames::Core<'f>, frame: memtide_frames::Frame<'f>) {
///     core.give(frame).unwrap();
///     core.give(frame).unwrap();
/// }
/// ```
#[must_use = "a frame that is dropped goes back to its node"]
pub struct Frame<'f> {
    home: &'f Frames<'f>,
    /// The number inside the node, and the order in the top byte.
    bits: u64,
}

const ORDER_SHIFT: u32 = 56;

impl<'f> Frame<'f> {
    #[inline(always)]
    pub(crate) const fn new(home: &'f Frames<'f>, index: u64, order: u8) -> Self {
        Self { home, bits: index | (order as u64) << ORDER_SHIFT }
    }

    /// Its number inside the node.
    #[inline(always)]
    pub(crate) const fn index(&self) -> u64 {
        self.bits & ((1 << ORDER_SHIFT) - 1)
    }

    #[inline(always)]
    pub(crate) const fn exponent(&self) -> u8 {
        (self.bits >> ORDER_SHIFT) as u8
    }

    #[inline(always)]
    pub(crate) const fn home(&self) -> &'f Frames<'f> {
        self.home
    }

    /// Ends the ownership without giving the block back: its place in the books is the caller's.
    #[inline(always)]
    pub(crate) fn forget(self) {
        mem::forget(self);
    }

    /// The number of its first frame.
    #[must_use]
    pub fn pfn(&self) -> Pfn {
        self.home.pfn(self.index())
    }

    /// Its order.
    #[must_use]
    pub fn order(&self) -> Order {
        Order::new(self.exponent()).expect("only orders are stored")
    }
}

impl Drop for Frame<'_> {
    fn drop(&mut self) {
        self.home.release(self.index(), self.exponent());
    }
}

impl fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.pfn(), self.order())
    }
}

/// The blocks of a run, owned one by one. What is not asked for goes back.
struct All<'f> {
    home: &'f Frames<'f>,
    index: u64,
    frames: u64,
}

impl<'f> Frame<'f> {
    pub(crate) fn all(
        home: &'f Frames<'f>,
        index: u64,
        frames: u64,
    ) -> impl Iterator<Item = Frame<'f>> {
        All { home, index, frames }
    }
}

impl<'f> Iterator for All<'f> {
    type Item = Frame<'f>;

    fn next(&mut self) -> Option<Frame<'f>> {
        let (index, order) = self.home.blocks(self.index, self.frames).next()?;
        (self.index, self.frames) = (index + (1 << order), self.frames - (1 << order));
        Some(Frame::new(self.home, index, order))
    }
}

impl Drop for All<'_> {
    fn drop(&mut self) {
        self.for_each(drop);
    }
}
