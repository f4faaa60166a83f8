//! Frames held by their number.
//!
//! The number of a frame can be copied, forgotten, made up, and given back twice. So the allocator
//! notes for each block that is held by its number that it is (one bit of *Held*, or a flag of the
//! entry), and takes the note away, by one atomic operation, when the number is turned into a
//! [`Frame`] again: of two that try, one is refused.

use memtide_units::{Order, Pfn};

use crate::{
    entry::State,
    error::FrameError,
    frame::Frame,
    frames::{Bitmap, Frames},
    layout::{FRAMES, PAGEBLOCK_ORDER},
    primitive::Ordering::*,
};

impl Frame<'_> {
    /// Holds the block by its number from now on. It does not go back by itself any more:
    /// [`Frames::adopt`] or [`crate::Core::give_number`] it.
    #[inline]
    pub fn into_number(self) -> (Pfn, Order) {
        let (home, index, order) = (self.home(), self.index(), self.exponent());
        let named = (self.pfn(), self.order());
        if order < PAGEBLOCK_ORDER {
            home.word(Bitmap::Held, index / 64).fetch_or(1 << (index % 64), AcqRel);
        } else {
            let pb = index / FRAMES;
            home.set_entry(pb, home.entry(pb).with_held(1));
        }
        self.forget();
        named
    }
}

impl<'m> Frames<'m> {
    /// The block that is held by this number, as a frame again.
    ///
    /// # Errors
    /// [`FrameError`] when nobody holds a block of that order under that number; so only one of
    /// several that try gets it.
    #[inline]
    pub fn adopt<'f>(&'f self, pfn: Pfn, order: Order) -> Result<Frame<'f>, FrameError> {
        let exponent = order.get();
        let last = pfn.checked_add(order.frames() - 1);
        let inside = last.is_some_and(|last| self.index(last).is_some());
        let Some(index) = self.index(pfn).filter(|_| inside) else {
            return Err(FrameError::Foreign { pfn, order, node: self.span() });
        };
        if !pfn.is_aligned(order) {
            return Err(FrameError::Unaligned { pfn, order });
        }
        if exponent < PAGEBLOCK_ORDER {
            self.adopt_block(index, order)?;
        } else {
            self.adopt_huge(index, order)?;
        }
        Ok(Frame::new(self, index, exponent))
    }

    /// Whether somebody holds a block of this order by this number.
    #[must_use]
    pub fn is_held(&self, pfn: Pfn, order: Order) -> bool {
        let Some(index) = self.index(pfn).filter(|_| pfn.is_aligned(order)) else { return false };
        if order.get() >= PAGEBLOCK_ORDER {
            let head = self.huge_at(index);
            return head.is_some_and(|head| head.is_held() && head.order() == order.get());
        }
        self.bit(Bitmap::Held, index) && self.order_at(index) == Some(order.get())
    }

    #[inline]
    fn adopt_block(&self, index: u64, order: Order) -> Result<(), FrameError> {
        let pfn = self.pfn(index);
        let (held, bit) = (self.word(Bitmap::Held, index / 64), 1 << (index % 64));
        if held.load(Relaxed) & bit == 0 {
            return Err(self.not_held(index, order));
        }
        // While it is held its order stays; and if it is not, the exchange below finds out.
        match self.held_order(index, order.get()) {
            Some(found) if found != order.get() => {
                Err(FrameError::WrongOrder { pfn, order, held: Self::order(found) })
            }
            None => Err(FrameError::NotHeld { pfn, order }),
            Some(_) if held.fetch_and(!bit, AcqRel) & bit == 0 => {
                Err(FrameError::NotHeld { pfn, order })
            }
            // The caller's number was not its own: the block was given back after the first look,
            // and somebody has taken another here and holds that.
            Some(_) if self.held_order(index, order.get()) != Some(order.get()) => {
                held.fetch_or(bit, AcqRel);
                Err(FrameError::NotHeld { pfn, order })
            }
            Some(_) => Ok(()),
        }
    }

    #[cold]
    fn not_held(&self, index: u64, order: Order) -> FrameError {
        let pfn = self.pfn(index);
        match self.huge_at(index).filter(|entry| entry.is_held()) {
            Some(entry) => FrameError::WrongOrder { pfn, order, held: Self::order(entry.order()) },
            None => FrameError::NotHeld { pfn, order },
        }
    }

    /// The order of a block that is held: quickly when it is the one that is expected to be 0.
    #[inline(always)]
    fn held_order(&self, index: u64, expected: u8) -> Option<u8> {
        if expected == 0 {
            // A block of two or more frames starts at an even number and goes on in this word.
            let tails = self.word(Bitmap::Tail, index / 64).load(Relaxed) >> (index % 64);
            if tails & 1 != 0 {
                // A hole.
                return None;
            }
            if index % 2 == 1 || tails >> 1 & 1 == 0 {
                return Some(0);
            }
        }
        self.order_at(index)
    }

    #[inline]
    fn adopt_huge(&self, index: u64, order: Order) -> Result<(), FrameError> {
        let pfn = self.pfn(index);
        let pb = index / FRAMES;
        let entry = self.entry(pb);
        if entry.state() != State::Head || !entry.is_held() {
            if let Some(found) = self.order_at(index)
                && self.bit(Bitmap::Held, index)
            {
                return Err(FrameError::WrongOrder { pfn, order, held: Self::order(found) });
            }
            return Err(FrameError::NotHeld { pfn, order });
        }
        if entry.order() != order.get() {
            let held = Self::order(entry.order());
            return Err(FrameError::WrongOrder { pfn, order, held });
        }
        if !self.exchange_entry(pb, entry, entry.with_held(0)) {
            return Err(FrameError::NotHeld { pfn, order });
        }
        Ok(())
    }
}
