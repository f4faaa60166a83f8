//! Keeping a pool supplied: the sums of [`super::pool`], compared when it is time, and evened.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use memtide_engine::dynamic_capacity::DpaRange;
use memtide_units::{ByteSize, NodeId};

use super::{
    agent::{Agent, Say},
    error::DcdError,
    fetch::{Fetched, fetch},
    mailbox::Commands,
    pool::{Pool, PoolError, may_leave, room},
    report::Report,
};
use crate::{
    BlockId, BlockState, MemoryBlocks, Root,
    give_back::answer::{Answer, Holder},
    plan::Kernel,
};

/// How often the sums are compared.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long pages are fetched back after blocks have left.
const FETCH_LIMIT: Duration = Duration::from_secs(10);

/// A pool that is kept supplied.
#[derive(Debug)]
pub(super) struct Supplied {
    pool: Box<dyn Pool>,
    due: Option<Instant>,
    /// That the sums cannot be evened, and that nothing leaves: each is tried again by itself.
    uneven: Complaint,
    stays: Complaint,
}

/// What was said last of what does not work: it is said once, until it works.
#[derive(Debug, Default)]
struct Complaint(Option<String>);

impl Complaint {
    fn of(&mut self, what: String, say: Say<'_>) {
        if self.0.as_ref() != Some(&what) {
            say(Report::Trouble { what: what.clone() });
            self.0 = Some(what);
        }
    }

    fn settled(&mut self) {
        self.0 = None;
    }
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
        Self { pool, due: None, uneven: Complaint::default(), stays: Complaint::default() }
    }

    /// Something may be there for it, or is gone.
    pub(super) fn look_soon(&mut self) {
        self.due = None;
    }
}

/// What of the device is online and asked back, and of which node it is.
struct Sums {
    online: ByteSize,
    asked: ByteSize,
    node: Option<NodeId>,
}

impl<C: Commands> Agent<C> {
    fn sums(&self, root: &Root) -> Result<Sums, DcdError> {
        let blocks = MemoryBlocks::read(root)?.ok_or(DcdError::NoHotPlug)?;
        let groups = self.groups();
        let extents: Vec<DpaRange> =
            groups.iter().flat_map(|group| group.extents.iter().copied()).collect();
        let online = self.online_of(&extents, Some(&blocks)).bytes;
        let asked = groups.iter().map(|group| group.asked).fold(0, u64::saturating_add);
        let node = self.setup.memory.region().node(root)?;
        Ok(Sums { online, asked: ByteSize(asked), node })
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
        let sums = self.sums(kernel.root())?;
        let Some(mut supplied) = self.supplied.take() else { return Ok(()) };
        supplied.due = Some(now + LOOK_EVERY);
        match self.balance(&mut supplied, &sums) {
            Ok(changed) => {
                supplied.uneven.settled();
                changed.into_iter().for_each(say);
            }
            Err(error) => supplied.uneven.of(format!("the pool: {error}"), say),
        }
        self.supplied = Some(supplied);
        Ok(())
    }

    fn balance(&self, supplied: &mut Supplied, sums: &Sums) -> Result<Option<Report>, PoolError> {
        let state = supplied.pool.state()?;
        state.check(sums.node)?;
        let (online, pool) = (sums.online, state.online);
        let may = room(online);
        if pool > may {
            // Taken by force, or by others: what is not there must not be used, nor what the kernel
            // keeps. A page that is bound to a full node ends a program.
            let much = ByteSize(pool.0 - may.0);
            supplied.pool.give_back(much, self.setup.deadline)?;
            let bytes = supplied.pool.state()?.online;
            return Ok((bytes != pool).then_some(Report::Pooled { bytes, online }));
        }
        let stays = ByteSize(online.0.saturating_sub(sums.asked.0));
        let most = room(stays).min(state.size);
        if most <= pool {
            return Ok(None);
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
        let sums = self.sums(kernel.root())?;
        let Some(mut supplied) = self.supplied.take() else { return Ok(Allowed::default()) };
        let is_online = |block: &&BlockId| {
            blocks.blocks.get(block).is_some_and(|block| block.state == BlockState::Online)
        };
        let count = asked.iter().filter(is_online).count() as u64;
        let shrunk = self.shrink(&mut supplied, &sums, count);
        let (leave, holders) = match shrunk {
            Ok(shrunk) => {
                supplied.stays.settled();
                shrunk
            }
            Err(error) => {
                let what = format!("the pool: {error}; nothing leaves without it");
                supplied.stays.of(what, say);
                (0, Vec::new())
            }
        };
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
        sums: &Sums,
        asked: u64,
    ) -> Result<(u64, Vec<Holder>), PoolError> {
        let block = self.setup.memory.block_bytes();
        let state = supplied.pool.state()?;
        state.check(sums.node)?;
        let (online, pool) = (sums.online, state.online);
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
