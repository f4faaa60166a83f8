//! Who takes and gives, and what is held in between.

use memtide_frames::{
    CACHE_FRAMES, Core, Frame, Frames, Movability, Order, Pfn, Request, TakeError,
};
use serde::Serialize;

use super::FramesError;

/// What is held of a block.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// A token of the type system: given back at most once, so nothing is checked then.
    Owned,
    /// Its number, which anybody could make up: every check is made when it comes back. What
    /// LLFree's interface is.
    Number,
}

/// Whether a core keeps frames to itself for a while.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Caches {
    /// As many as it may.
    On,
    /// None: each call reaches what all cores share.
    Off,
}

/// How the benchmark calls the allocator.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Calls {
    /// Through a table of functions that the compiler cannot see through, as LLFree's benchmark
    /// calls its allocators.
    Indirect,
    /// As a program would, inlined where the compiler likes to.
    Direct,
}

/// A core, and what it takes again and again.
pub trait Hands {
    /// What is held of a block.
    type Held: Send;

    /// Takes a block.
    ///
    /// # Errors
    /// There is none.
    fn take(&mut self) -> Result<Self::Held, TakeError>;

    /// Gives one back.
    ///
    /// # Errors
    /// The allocator does not know it.
    fn give(&mut self, held: Self::Held) -> Result<(), FramesError>;
}

/// Blocks held as tokens.
pub struct Owning<'f> {
    core: Core<'f>,
    request: Request,
}

/// Blocks held by number.
pub struct Numbering<'f> {
    core: Core<'f>,
    request: Request,
}

/// The core of this number, with or without a cache. The benchmark asks for each once at a time.
pub(super) fn core<'f>(frames: &'f Frames<'f>, number: u16, caches: Caches) -> Core<'f> {
    let limit = match caches {
        Caches::On => CACHE_FRAMES,
        Caches::Off => 0,
    };
    frames.core_with_cache(number, limit).expect("a core that nobody has")
}

const fn request(order: Order) -> Request {
    Request::new(order, Movability::Movable)
}

impl<'f> Owning<'f> {
    /// A core of a node.
    #[must_use]
    pub fn new(frames: &'f Frames<'f>, number: u16, caches: Caches, order: Order) -> Self {
        Self { core: core(frames, number, caches), request: request(order) }
    }
}

impl<'f> Numbering<'f> {
    /// A core of a node.
    #[must_use]
    pub fn new(frames: &'f Frames<'f>, number: u16, caches: Caches, order: Order) -> Self {
        Self { core: core(frames, number, caches), request: request(order) }
    }
}

impl<'f> Hands for Owning<'f> {
    type Held = Frame<'f>;

    #[inline]
    fn take(&mut self) -> Result<Frame<'f>, TakeError> {
        self.core.take(self.request)
    }

    #[inline]
    fn give(&mut self, held: Frame<'f>) -> Result<(), FramesError> {
        Ok(self.core.give(held)?)
    }
}

impl Hands for Numbering<'_> {
    type Held = Pfn;

    #[inline]
    fn take(&mut self) -> Result<Pfn, TakeError> {
        self.core.take_number(self.request)
    }

    #[inline]
    fn give(&mut self, held: Pfn) -> Result<(), FramesError> {
        Ok(self.core.give_number(held, self.request.order)?)
    }
}
