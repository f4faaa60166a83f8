//! A pool that has the capacity of a served device.
//!
//! **Problem.** What a device offers is memory of a NUMA node of the kernel's. Programs of a pool
//! whose node is bound to that NUMA node ([`PoolState::numa`]) can run on it; but the pool must know
//! when there is more of it, and give back its part before blocks of it leave.
//!
//! **Idea.** Sums, not events. Which block of the kernel's is behind which page of the pool is the
//! kernel's business, and changes. What counts is how much of the device is online, `O`, and how
//! much the pool has of it, `P`. The pool may have [`room`]`(O)`: all but a little that the kernel
//! keeps for itself. At every turn it is given what it may have more, and nothing that is asked
//! back. When the device asks for blocks, the pool is asked first for as much as it would have too
//! much without them; then as many blocks go as `P` leaves room for, whichever the kernel lets go
//! most easily; then what the kernel moved off the node on the way is fetched back to it
//! (`fetch`). `supply` does it.
//!
//! So nothing need be remembered: an agent or a daemon that was killed finds two sums, and goes on
//! from there. What came back from the pool stays out of it as long as the device waits for more, so
//! that attempts add up.
//!
//! **What it refuses.** To take anything offline of a device whose pool does not answer: nobody can
//! say then what is held, and programs of the pool would be killed for memory that they were
//! promised. To touch a pool that is bound to another NUMA node than the device's: nothing that it has
//! is the device's, so nothing is taken from it, nothing added, and nothing leaves.

use std::{fmt, time::Duration};

use memtide_units::{ByteSize, NodeId};

use crate::give_back::answer::Holder;

/// What a pool counts in.
pub(super) const UNIT: u64 = 2 << 20;
/// What of a node the kernel keeps: its watermarks (at most two thousandths of a movable zone, and
/// 512 KiB), and pages on the lists of processors.
const KEPT: u64 = 64;

/// Why a pool does not answer, or does not do it.
pub type PoolError = Box<dyn std::error::Error + Send + Sync>;

/// Why a pool's node does not grow. It is as it was then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AddError {
    /// It does not take so much. It may take less.
    #[error("{0}")]
    Refused(PoolError),
    /// It does not answer.
    #[error("{0}")]
    NoAnswer(PoolError),
}

/// A pool's node has more than it may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("it added {added} where {asked} were to be added; expected block = \"2M\" of it")]
pub(super) struct AddedMore {
    pub(super) asked: ByteSize,
    pub(super) added: ByteSize,
}

/// A pool's node is not where the device is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Misplaced {
    #[error(
        "its node has {}; expected numa = {}, the NUMA node of the device",
        has.map_or_else(|| "no numa".to_owned(), |numa| format!("numa = {}", numa.0)),
        device.0
    )]
    Elsewhere { has: Option<NodeId>, device: NodeId },
    #[error("the device has no NUMA node: expected a target_node of its dax devices")]
    NoNode,
}

/// What a pool's node has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PoolState {
    /// The NUMA node that it is bound to.
    pub numa: Option<NodeId>,
    /// What is online of it.
    pub online: ByteSize,
    /// The most that it may ever have.
    pub size: ByteSize,
}

impl PoolState {
    /// Whether it is where the device is. If not, what the node has is none of the device's.
    pub(super) fn check(&self, device: Option<NodeId>) -> Result<(), Misplaced> {
        let device = device.ok_or(Misplaced::NoNode)?;
        let has = self.numa;
        if has == Some(device) { Ok(()) } else { Err(Misplaced::Elsewhere { has, device }) }
    }
}

/// A node of a pool, as whoever serves the device asks it.
pub trait Pool: fmt::Debug {
    /// What it has now.
    ///
    /// # Errors
    /// When it does not answer.
    fn state(&mut self) -> Result<PoolState, PoolError>;

    /// It has so much more. How much that is: more than that, where it counts in larger pieces.
    ///
    /// # Errors
    /// [`AddError`].
    fn add(&mut self, bytes: ByteSize) -> Result<ByteSize, AddError>;

    /// Takes so much from it, as far as that goes within the deadline. Who holds the rest.
    ///
    /// # Errors
    /// When it does not answer, or refuses.
    fn give_back(&mut self, bytes: ByteSize, deadline: Duration) -> Result<Vec<Holder>, PoolError>;
}

/// What of so much that is online a pool may have.
#[must_use]
pub const fn room(online: ByteSize) -> ByteSize {
    let kept = (online.0 / KEPT).next_multiple_of(UNIT);
    ByteSize(online.0.saturating_sub(kept) / UNIT * UNIT)
}

/// How many of `asked` blocks may leave, of a device of which so much is online and a pool has so
/// much.
pub(super) fn may_leave(online: ByteSize, pool: ByteSize, asked: u64, block: u64) -> u64 {
    let without = |blocks: u64| ByteSize(online.0.saturating_sub(blocks.saturating_mul(block)));
    if pool.0 == 0 {
        return asked;
    }
    (0..=asked).rev().find(|&blocks| room(without(blocks)) >= pool).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const BLOCK: u64 = 128 * MIB;

    #[test]
    fn a_pool_has_all_but_what_the_kernel_keeps() {
        for (online, has) in [(0, 0), (1, 0), (128, 126), (512, 504), (1024, 1008), (65536, 64512)]
        {
            assert_eq!(room(ByteSize(online * MIB)), ByteSize(has * MIB), "{online}");
        }
    }

    #[test]
    fn as_many_blocks_leave_as_the_rest_has_room_for_the_pool() {
        let leave = |online: u64, pool: u64, asked| {
            may_leave(ByteSize(online * MIB), ByteSize(pool * MIB), asked, BLOCK)
        };
        // 504 of 512 are the pool's: none; with 378 one may go, with 252 two, with nothing all.
        assert_eq!([leave(512, 504, 4), leave(512, 380, 4), leave(512, 378, 4)], [0, 0, 1]);
        assert_eq!([leave(512, 252, 4), leave(512, 126, 4), leave(512, 2, 4)], [2, 3, 3]);
        assert_eq!([leave(512, 0, 4), leave(512, 0, 2), leave(512, 126, 1)], [4, 2, 1]);
        // More than there is, which must not be: nothing leaves.
        assert_eq!([leave(512, 600, 4), leave(512, 600, 0)], [0, 0]);
    }

    /// Whatever is asked, and whatever the pool holds on to: what it has left has room.
    #[test]
    fn nothing_leaves_that_the_pool_has() {
        let mut random = memtide_units::Random::new(7);
        for _ in 0..2000 {
            let blocks = random.below(9);
            let online = ByteSize(blocks * BLOCK);
            let asked = random.below(blocks + 1);
            let pool = ByteSize(random.below(room(online).0 / UNIT + 1) * UNIT);
            let leave = may_leave(online, pool, asked, BLOCK);
            let rest = |leave: u64| room(ByteSize(online.0 - leave * BLOCK));
            assert!(leave <= asked && rest(leave) >= pool, "{online} {pool} {asked}");
            assert!(leave == asked || rest(leave + 1) < pool, "{online} {pool} {asked}");
        }
    }
}
