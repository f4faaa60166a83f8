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
    pool::{AddError, AddedMore, Pool, PoolError, UNIT, may_leave, room},
    report::Report,
};
use crate::{
    BlockId, BlockState, MemoryBlocks, Root,
    give_back::answer::{Answer, Holder},
    plan::Kernel,
};

/// How long after the sums were even they are compared again.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest pause while they are not; each is twice the one before.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How long pages are fetched back after blocks have left.
const FETCH_LIMIT: Duration = Duration::from_secs(10);

/// A pool that is kept supplied.
#[derive(Debug)]
pub(super) struct Supplied {
    pool: Box<dyn Pool>,
    next: Next,
    /// That the sums cannot be evened, and that nothing leaves: each is tried again by itself.
    uneven: Complaint,
    stays: Complaint,
}

/// How the sums came out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    /// The pool has what it may have.
    Even,
    /// It had too much, and no longer has.
    Lowered,
    /// It has too much, or too little, or does not answer.
    Uneven,
}

/// When the sums are compared next.
///
/// Whoever asks the pool waits for it, up to the deadline, or until a daemon that is there and does
/// not answer is given up; and nobody else is served meanwhile. So the pause begins when that is
/// over, and grows as long as it is of no use. Having lowered the pool does not end that: it may be
/// the other half of raising it too much.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Next {
    due: Option<Instant>,
    pause: Duration,
}

impl Default for Next {
    fn default() -> Self {
        Self { due: None, pause: PAUSE_MIN }
    }
}

impl Next {
    fn is_due(&self, now: Instant) -> bool {
        self.due.is_none_or(|due| due <= now)
    }

    /// They were compared, and that is over now.
    fn after(&mut self, outcome: Outcome, now: Instant) {
        if outcome == Outcome::Even {
            self.pause = PAUSE_MIN;
        }
        self.due = Some(now + self.pause);
        if outcome == Outcome::Uneven {
            self.pause = (self.pause * 2).min(PAUSE_MAX);
        }
    }
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
        let (uneven, stays) = (Complaint::default(), Complaint::default());
        Self { pool, next: Next::default(), uneven, stays }
    }

    /// Something may be there for it, or is gone.
    pub(super) fn look_soon(&mut self) {
        self.next = Next::default();
    }
}

/// What of the device is online and asked back, and of which node it is.
struct Sums {
    online: ByteSize,
    asked: ByteSize,
    node: Option<NodeId>,
}

/// A pool has so much more, or as much of it as it takes: of what others have taken of its NUMA
/// node it can promise nothing to programs. Each try is half of the one before, so that what is
/// missing in the end is less than a unit, or what came free meanwhile.
fn grow(pool: &mut dyn Pool, bytes: ByteSize) -> Result<(), PoolError> {
    let (mut left, mut step, mut refusal) = (bytes.0, bytes.0, None);
    while step > 0 {
        let asked = ByteSize(step);
        match pool.add(asked) {
            Ok(added) if added > asked => return Err(Box::new(AddedMore { asked, added })),
            Ok(_) => left -= step,
            Err(AddError::Refused(why)) => refusal = Some(why),
            Err(AddError::NoAnswer(why)) => return Err(why),
        }
        let half = if step > UNIT { (step / 2).next_multiple_of(UNIT) } else { 0 };
        step = half.min(left);
    }
    match refusal {
        Some(why) if left == bytes.0 => Err(why),
        _ => Ok(()),
    }
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

    /// Compares the sums, if it is time for that: the pool gets what it may have more, and gives
    /// back what it has too much.
    pub(super) fn supply(
        &mut self,
        kernel: &mut impl Kernel,
        say: Say<'_>,
    ) -> Result<(), DcdError> {
        let now = Instant::now();
        if !self.supplied.as_ref().is_some_and(|supplied| supplied.next.is_due(now)) {
            return Ok(());
        }
        let sums = self.sums(kernel.root())?;
        let Some(mut supplied) = self.supplied.take() else { return Ok(()) };
        let balanced = self.balance(supplied.pool.as_mut(), &sums);
        let outcome = match balanced {
            Ok((outcome, changed)) => {
                if outcome != Outcome::Lowered {
                    supplied.uneven.settled();
                }
                changed.into_iter().for_each(say);
                outcome
            }
            Err(error) => {
                supplied.uneven.of(format!("the pool: {error}"), say);
                Outcome::Uneven
            }
        };
        supplied.next.after(outcome, Instant::now());
        self.supplied = Some(supplied);
        Ok(())
    }

    fn balance(
        &self,
        pool: &mut dyn Pool,
        sums: &Sums,
    ) -> Result<(Outcome, Option<Report>), PoolError> {
        let state = pool.state()?;
        state.check(sums.node)?;
        let (online, before) = (sums.online, state.online);
        let report = |bytes| (bytes != before).then_some(Report::Pooled { bytes, online });
        let may = room(online);
        if before > may {
            // Taken by force, or by others: what is not there must not be used, nor what the kernel
            // keeps. A page that is bound to a full node ends a program.
            pool.give_back(ByteSize(before.0 - may.0), self.setup.deadline)?;
            let bytes = pool.state()?.online;
            let outcome = if bytes > may { Outcome::Uneven } else { Outcome::Lowered };
            return Ok((outcome, report(bytes)));
        }
        let stays = ByteSize(online.0.saturating_sub(sums.asked.0));
        let most = room(stays).min(state.size);
        let more = ByteSize(most.0.saturating_sub(before.0) / UNIT * UNIT);
        if more.0 == 0 {
            return Ok((Outcome::Even, None));
        }
        grow(pool, more)?;
        let bytes = pool.state()?.online;
        let outcome = if bytes.0 < before.0 + more.0 { Outcome::Uneven } else { Outcome::Even };
        Ok((outcome, report(bytes)))
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
            let fetched = fetch(kernel.root(), node, Instant::now() + FETCH_LIMIT);
            let Fetched { moved, left, unseen } = fetched;
            if fetched == Fetched::default() {
                continue;
            }
            let mut what = format!("{moved} that the kernel had moved off {node} are back");
            if left.0 > 0 {
                what.push_str(&format!("; {left} of programs would not move"));
            }
            if unseen > 0 {
                what.push_str(&format!("; there was no time for {unseen} programs"));
            }
            say(Report::Note { what });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_until_the_sums_are_even() {
        let (mut next, mut now) = (Next::default(), Instant::now());
        assert!(next.is_due(now), "at the start");
        let mut wait = |next: &mut Next, outcome, seconds| {
            next.after(outcome, now);
            let pause = Duration::from_secs(seconds);
            assert!(!next.is_due(now + pause - Duration::from_millis(1)), "{outcome:?} {seconds}");
            now += pause;
            assert!(next.is_due(now), "{outcome:?} {seconds}");
        };
        wait(&mut next, Outcome::Even, 1);
        for seconds in [1, 2, 4, 8] {
            wait(&mut next, Outcome::Uneven, seconds);
        }
        // Too much was added, and comes back: that is no reason to add it again at once.
        wait(&mut next, Outcome::Lowered, 16);
        for seconds in [16, 32, 60, 60] {
            wait(&mut next, Outcome::Uneven, seconds);
        }
        wait(&mut next, Outcome::Lowered, 60);
        wait(&mut next, Outcome::Even, 1);
        wait(&mut next, Outcome::Lowered, 1);
        wait(&mut next, Outcome::Uneven, 1);
    }
}
