//! Where a lease lies in a zone.
//!
//! A program would have its lease in one piece, after the one it had before; the other leases
//! would have their neighbourhood whole; and a give-back would have the highest blocks empty, for
//! those leave first. So what follows the earlier lease is taken first. Then, while pageblocks are
//! missing:
//!
//! 1. Let 2^k be the smallest power of two that holds all that is missing. Look for a free run of
//!    2^k pageblocks at a multiple of 2^k. When there is none, half of that, and so on. Which run
//!    is the allocator's choice: one that is not part of a much larger one if it can be helped, and
//!    a low one.
//! 2. Go down from there as far as pageblocks are free, but fewer than 2^(k+1) steps, and take from
//!    there on what is missing, as far as pageblocks are free.
//!
//! So a lease is in one piece wherever there is an aligned place of its size, which the allocator
//! finds without looking through the node (a block of order 9 + k); leases of all lengths lie
//! close together, for a place is begun at its start; long runs are spared, and low blocks fill up
//! first. (What is larger than the largest order, 1 GiB, begins near some free run of that.)
//!
//! A run that is not all that was missing leaves nothing free beside it: when there is no aligned
//! run of 2^(k+1), there are fewer than that below an aligned one of 2^k. (But for those larger
//! than the largest order.)

use alloc::vec::Vec;

use memtide_frames::{Frame, Frames, Movability, Request};
use memtide_units::{Extent, Order, PAGES_PER_PAGEBLOCK, Pageblock};

use super::{BlockState, PageblockState, Pageblocks, pfn, zones::frames_zone};
use crate::onlining::OnlineZone;

impl Pageblocks {
    /// Takes `count` pageblocks of a zone, where as many are free, in as few runs as can be had
    /// cheaply: what follows `after` if that is free, then as the head of this file says. They are
    /// not counted yet.
    pub(super) fn take_runs(
        &self,
        zone: OnlineZone,
        count: u64,
        after: Option<Pageblock>,
        movability: Movability,
    ) -> Vec<Extent> {
        let frames = &self.frames();
        let what = What { frames, zone, movability };
        let mut left = count;
        let mut taken: Vec<Extent> = Vec::new();
        if let Some(follows) = after.and_then(|after| after.checked_add(1)) {
            let count = self.take_from(&what, follows, left);
            if count > 0 {
                taken.push(extent(follows, count));
            }
            left -= count;
        }
        let mut order = Order::MAX;
        while left > 0 {
            order = order.min(order_for(left));
            let Some((start, count)) = self.take_around(&what, order, left) else {
                assert!(order > Order::PAGEBLOCK, "free pageblocks cannot be found");
                order = Order::new(order.get() - 1).expect("smaller than one there is");
                continue;
            };
            taken.push(extent(start, count));
            left -= count;
        }
        taken
    }

    /// Takes up to `most` of the free pageblocks around a free block of this order, from the first
    /// of them on.
    fn take_around(&self, what: &What<'_>, order: Order, most: u64) -> Option<(Pageblock, u64)> {
        let request = Request::new(order, what.movability);
        let found = what.frames.take_in(frames_zone(what.zone), request).ok()?;
        let at = found.pfn().0 / PAGES_PER_PAGEBLOCK;
        let size = order.frames() / PAGES_PER_PAGEBLOCK;
        let is_free = |at: u64| {
            let at = Pageblock(at);
            self.zone(self.block_of(at)) == what.zone
                && self.state_by(what.frames, at) == PageblockState::Free
        };
        let lowest = self.first.0.max(at.saturating_sub(2 * size - 1));
        let mut start = at;
        while start > lowest && is_free(start - 1) {
            start -= 1;
        }
        let below = most.min(at - start);
        let here = (most - below).min(size);
        let before = self.take_from(what, Pageblock(start), below);
        assert_eq!(before, below, "free pageblocks cannot be taken");
        hold_first(found, here);
        let above = most - below - here;
        let after = self.take_from(what, Pageblock(at + here), above);
        Some((Pageblock(start), below + here + after))
    }

    /// Takes the free pageblocks from `start` on, `most` of them at most, and says how many.
    fn take_from(&self, what: &What<'_>, start: Pageblock, most: u64) -> u64 {
        let mut count = 0;
        while count < most {
            let at = start.0 + count;
            // The largest aligned block that is free, as far as one is wanted.
            let fits = (most - count).ilog2().min(at.trailing_zeros());
            let orders = (0..=fits).rev().filter_map(order_of);
            let taken = orders.filter_map(|order| self.take_at(what, Pageblock(at), order));
            match { taken }.next() {
                Some(taken) => count += taken,
                None => break,
            }
        }
        count
    }

    /// Takes the block of this order that starts here, if all of it is free, and says how many
    /// pageblocks that are.
    fn take_at(&self, what: &What<'_>, at: Pageblock, order: Order) -> Option<u64> {
        let count = order.frames() / PAGES_PER_PAGEBLOCK;
        let last = at.checked_add(count - 1)?;
        if !self.contains(at) || !self.contains(last) {
            return None;
        }
        // The allocator gives isolated ones to whoever names them.
        let mut blocks = self.block_of(at)..=self.block_of(last);
        let is_open = |block: u64| {
            self.block_state(block) == BlockState::Online && self.zone(block) == what.zone
        };
        if !blocks.all(is_open) {
            return None;
        }
        hold_first(what.frames.take_at(pfn(at), order, what.movability).ok()?, count);
        Some(count)
    }
}

/// What is taken, and whence.
struct What<'f> {
    frames: &'f Frames<'f>,
    zone: OnlineZone,
    movability: Movability,
}

/// Holds the first pageblocks of a block each by its number; the others go back.
fn hold_first(block: Frame<'_>, pageblocks: u64) {
    if pageblocks == 0 {
        return drop(block);
    }
    if block.order() == Order::PAGEBLOCK {
        block.into_number();
        return;
    }
    let (low, high) = block.split().expect("larger than a pageblock");
    let half = low.order().frames() / PAGES_PER_PAGEBLOCK;
    hold_first(low, pageblocks.min(half));
    hold_first(high, pageblocks.saturating_sub(half));
}

/// The smallest order that holds so many pageblocks, or the largest there is.
fn order_for(pageblocks: u64) -> Order {
    order_of(pageblocks.next_power_of_two().ilog2()).unwrap_or(Order::MAX)
}

/// The order of a block of 2^`above` pageblocks, if there is one.
fn order_of(above: u32) -> Option<Order> {
    let exponent = above + u32::from(Order::PAGEBLOCK.get());
    u8::try_from(exponent).ok().and_then(Order::new)
}

fn extent(start: Pageblock, count: u64) -> Extent {
    Extent::new(start, u32::try_from(count).expect("node sizes are bounded"))
}
