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
//! (`fetch`).
//!
//! So nothing need be remembered: an agent or a daemon that was killed finds two sums, and goes on
//! from there. What came back from the pool stays out of it as long as the device waits for more, so
//! that attempts add up.
//!
//! **What it refuses.** To take anything offline of a device whose pool does not answer: nobody can
//! say then what is held, and programs of the pool would be killed for memory that they were
//! promised. To fill a pool that is bound to another NUMA node.

use std::{
    collections::BTreeSet,
    fmt,
    time::{Duration, Instant},
};

use memtide_engine::dynamic_capacity::DpaRange;
use memtide_units::{ByteSize, NodeId};

use super::{
    agent::{Agent, Say},
    error::DcdError,
    fetch::{Fetched, fetch},
    mailbox::Commands,
    report::Report,
};
use crate::{
    BlockId, BlockState, MemoryBlocks,
    give_back::answer::{Answer, Holder},
    plan::Kernel,
};

/// How often the sums are compared.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long pages are fetched back after blocks have left.
const FETCH_LIMIT: Duration = Duration::from_secs(10);
/// What a pool counts in.
const UNIT: u64 = 2 << 20;
/// What of a node the kernel keeps: its watermarks (at most two thousandths of a movable zone, and
/// 512 KiB), and pages on the lists of processors.
const KEPT: u64 = 64;

/// Why a pool does not answer, or does not do it.
pub type PoolError = Box<dyn std::error::Error + Send + Sync>;

/// A pool's node is not where the device is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "its node has {}; expected numa = {}, the NUMA node of the device",
    has.map_or_else(|| "no numa".to_owned(), |numa| format!("numa = {}", numa.0)),
    device.0
)]
struct OtherNode {
    has: Option<NodeId>,
    device: NodeId,
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

/// A node of a pool, as whoever serves the device asks it.
pub trait Pool: fmt::Debug {
    /// What it has now.
    ///
    /// # Errors
    /// When it does not answer.
    fn state(&mut self) -> Result<PoolState, PoolError>;

    /// It has so much more.
    ///
    /// # Errors
    /// When it does not answer, or refuses; nothing has changed then.
    fn add(&mut self, bytes: ByteSize) -> Result<(), PoolError>;

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
fn may_leave(online: ByteSize, pool: ByteSize, asked: u64, block: u64) -> u64 {
    let without = |blocks: u64| ByteSize(online.0.saturating_sub(blocks.saturating_mul(block)));
    if pool.0 == 0 {
        return asked;
    }
    (0..=asked).rev().find(|&blocks| room(without(blocks)) >= pool).unwrap_or(0)
}

/// A pool that is kept supplied.
#[derive(Debug)]
pub(super) struct Supplied {
    pool: Box<dyn Pool>,
    due: Option<Instant>,
    /// What was said last of what does not work.
    complaint: Option<String>,
}

/// What the device's requests may take, as far as the pool is concerned.
#[derive(Debug, Default)]
pub(super) struct Allowed {
    /// At most so many blocks, if a pool says so.
    pub(super) blocks: Option<u64>,
    /// What the pool answers for the others.
    pub(super) answer: Option<Answer>,
}

impl Supplied {
    pub(super) fn new(pool: Box<dyn Pool>) -> Self {
        Self { pool, due: None, complaint: None }
    }

    /// Something may be there for it.
    pub(super) fn look_soon(&mut self) {
        self.due = None;
    }

    fn complain(&mut self, what: String, say: Say<'_>) {
        if self.complaint.as_ref() != Some(&what) {
            say(Report::Trouble { what: what.clone() });
            self.complaint = Some(what);
        }
    }
}

/// What of the device is online, where, and asked back.
struct Sums {
    online: ByteSize,
    asked: ByteSize,
    nodes: BTreeSet<NodeId>,
}

impl<C: Commands> Agent<C> {
    fn sums(&self, blocks: &MemoryBlocks) -> Sums {
        let groups = self.groups();
        let extents: Vec<DpaRange> =
            groups.iter().flat_map(|group| group.extents.iter().copied()).collect();
        let online = self.online_of(&extents, Some(blocks));
        let asked = groups.iter().map(|group| group.asked).fold(0, u64::saturating_add);
        Sums { online: online.bytes, asked: ByteSize(asked), nodes: online.nodes }
    }

    /// Compares the sums, if it is time for that: the pool gets what it may have more.
    pub(super) fn supply(
        &mut self,
        kernel: &mut impl Kernel,
        say: Say<'_>,
    ) -> Result<(), DcdError> {
        let now = Instant::now();
        let is_due = |supplied: &Supplied| supplied.due.is_none_or(|due| due <= now);
        if !self.supplied.as_ref().is_some_and(is_due) {
            return Ok(());
        }
        let blocks = MemoryBlocks::read(kernel.root())?.ok_or(DcdError::NoHotPlug)?;
        let sums = self.sums(&blocks);
        let Some(mut supplied) = self.supplied.take() else { return Ok(()) };
        supplied.due = Some(now + LOOK_EVERY);
        match self.balance(&mut supplied, &sums) {
            Ok(changed) => {
                supplied.complaint = None;
                changed.into_iter().for_each(say);
            }
            Err(error) => supplied.complain(format!("the pool: {error}"), say),
        }
        self.supplied = Some(supplied);
        Ok(())
    }

    fn balance(&self, supplied: &mut Supplied, sums: &Sums) -> Result<Option<Report>, PoolError> {
        let state = supplied.pool.state()?;
        let (online, pool) = (sums.online, state.online);
        if pool > online {
            // Taken by force, or by others: what is not there must not be used.
            let much = ByteSize(pool.0 - online.0);
            supplied.pool.give_back(much, self.setup.deadline)?;
            let bytes = supplied.pool.state()?.online;
            return Ok((bytes != pool).then_some(Report::Pooled { bytes, online }));
        }
        let stays = ByteSize(online.0.saturating_sub(sums.asked.0));
        let most = room(stays).min(state.size);
        if most <= pool {
            return Ok(None);
        }
        if let Some(node) = sums.nodes.iter().find(|node| Some(**node) != state.numa) {
            return Err(Box::new(OtherNode { has: state.numa, device: *node }));
        }
        supplied.pool.add(ByteSize(most.0 - pool.0))?;
        let bytes = supplied.pool.state()?.online;
        Ok(Some(Report::Pooled { bytes, online }))
    }

    /// Asks the pool for its part of blocks that are asked back; how many of them may leave.
    pub(super) fn shrink_pool(
        &mut self,
        asked: &BTreeSet<BlockId>,
        kernel: &mut impl Kernel,
        say: Say<'_>,
    ) -> Result<Allowed, DcdError> {
        if self.supplied.is_none() {
            return Ok(Allowed::default());
        }
        let blocks = MemoryBlocks::read(kernel.root())?.ok_or(DcdError::NoHotPlug)?;
        let Some(mut supplied) = self.supplied.take() else { return Ok(Allowed::default()) };
        let is_online = |block: &&BlockId| {
            blocks.blocks.get(block).is_some_and(|block| block.state == BlockState::Online)
        };
        let count = asked.iter().filter(is_online).count() as u64;
        let online = self.sums(&blocks).online;
        let shrunk = self.shrink(&mut supplied, online, count);
        let (leave, holders) = shrunk.unwrap_or_else(|error| {
            supplied.complain(format!("the pool: {error}; nothing leaves without it"), say);
            (0, Vec::new())
        });
        self.supplied = Some(supplied);
        let bytes = ByteSize((count - leave).saturating_mul(self.setup.memory.block_bytes()));
        let answer = (leave < count).then(|| Answer {
            requested: bytes,
            returned: ByteSize(0),
            remaining: bytes,
            holders,
            ask_again: true,
            blocks: Vec::new(),
        });
        Ok(Allowed { blocks: Some(leave), answer })
    }

    fn shrink(
        &self,
        supplied: &mut Supplied,
        online: ByteSize,
        asked: u64,
    ) -> Result<(u64, Vec<Holder>), PoolError> {
        let block = self.setup.memory.block_bytes();
        let pool = supplied.pool.state()?.online;
        let rest = ByteSize(online.0.saturating_sub(asked.saturating_mul(block)));
        let too_much = ByteSize(pool.0.saturating_sub(room(rest).0));
        if asked == 0 || too_much.0 == 0 {
            return Ok((asked, Vec::new()));
        }
        let holders = supplied.pool.give_back(too_much, self.setup.deadline)?;
        let pool = supplied.pool.state()?.online;
        Ok((may_leave(online, pool, asked, block), holders))
    }

    /// After blocks have left: what of the pool the kernel moved off their node comes back.
    pub(super) fn fetch_pool(&self, kernel: &impl Kernel, nodes: &BTreeSet<NodeId>, say: Say<'_>) {
        if self.supplied.is_none() {
            return;
        }
        for &node in nodes {
            let Fetched { moved, left } = fetch(kernel.root(), node, Instant::now() + FETCH_LIMIT);
            if moved.0 > 0 || left.0 > 0 {
                let left =
                    if left.0 > 0 { format!("; {left} would not move") } else { String::new() };
                say(Report::Note {
                    what: format!("{moved} that the kernel had moved off {node} are back{left}"),
                });
            }
        }
    }
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
