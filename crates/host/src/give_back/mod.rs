//! Taking capacity back from a node that the kernel manages, block by block.
//!
//! A block leaves whole or not at all, and one page that cannot move keeps it. So the blocks are
//! tried in the order of what stands in the way ([`rank`]): free ones, then those of zone Movable
//! with the least in them, then those of a kernel zone without anything of the kernel's. Those
//! with the kernel's own data are not tried: the kernel would move everything else out of them,
//! only to find that out.
//!
//! Programs' pages are moved out first ([`vacate`]), which tells whose pages stay. Then the block
//! goes offline, and the kernel moves the rest. A block that does not go in its share of the time
//! is put into use again (by the kernel itself: it un-isolates the block), the others are tried,
//! and then those that may have become free, until enough came or the time is over.
//!
//! What will be tried can be seen before anything is changed ([`foresee`]).
//!
//! The last block of a node stays while a program is bound to that node alone: the kernel would
//! find no memory for it any more, and kill it.
//!
//! What left stays away: repeating the request takes more. What stays is as usable as before; the
//! answer says which blocks, and who holds them ([`answer`]).
//!
//! What the kernel does not show: who has pinned a page that no program's files account for.

pub mod answer;
pub mod foresee;
pub mod rank;
pub mod vacate;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use memtide_units::{ByteSize, NodeId};

use self::{
    answer::{Answer, Holder, Reason, Stayed},
    foresee::Foreseen,
    rank::{Candidate, Contents},
    vacate::{Left, Resident},
};
use crate::{
    BlockId, BlockState, ReadError, Root, Zone,
    online::BlockRefusal,
    plan::{Fault, Kernel, Refusal},
    processes::Bound,
};

/// What is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GiveBackWish {
    /// From which node.
    pub node: NodeId,
    /// How much; rounded up to whole blocks.
    pub bytes: ByteSize,
    /// How long to try.
    pub deadline: Duration,
}

/// Why no block was taken. Nothing was changed, but for what the error says.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GiveBackError {
    /// Something could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// No memory blocks.
    #[error("this kernel has no memory blocks (/sys/devices/system/memory): it cannot hot-plug")]
    NoHotPlug,
    /// No such node.
    #[error("node {}: no memory block belongs to it; expected one of {}", node.0, nodes(known))]
    NoNode {
        /// Which.
        node: NodeId,
        /// Those that are.
        known: Vec<NodeId>,
    },
    /// Nothing at all.
    #[error("size 0: expected at least one byte")]
    Nothing,
    /// Not allowed. No block was taken.
    #[error(
        "taking memory offline needs root and a writable /sys: run as root{}",
        if moved.0 == 0 {
            String::new()
        } else {
            format!(
                "; {moved} of programs' pages were moved to other nodes before that was known, and \
                 stay there"
            )
        }
    )]
    NotPermitted {
        /// What of programs' pages was moved all the same.
        moved: ByteSize,
    },
}

fn nodes(known: &[NodeId]) -> String {
    known.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl Refusal for GiveBackError {
    fn fault(&self) -> Fault {
        match self {
            Self::Read(_) | Self::NoHotPlug | Self::NotPermitted { .. } => Fault::Machine,
            _ => Fault::Request,
        }
    }
}

/// A block gets at least so long, however many are to go.
const BLOCK_LEAST: Duration = Duration::from_millis(500);
/// The kernel gets at least so long, also when moving programs' pages has taken the block's share.
const WRITE_LEAST: Duration = Duration::from_millis(100);
/// Between two rounds over blocks that stayed.
const ROUND_PAUSE: Duration = Duration::from_millis(200);

/// Takes capacity back. `progress` is told bytes done, and of how many.
///
/// # Errors
/// [`GiveBackError`]; then nothing was changed.
pub fn give_back(
    kernel: &mut impl Kernel,
    wish: &GiveBackWish,
    progress: &mut dyn FnMut(ByteSize, ByteSize),
) -> Result<Answer, GiveBackError> {
    give_back_of(kernel, wish, |_| true, progress)
}

/// Takes capacity back, of these blocks of the node alone. More than they have of it is not tried.
///
/// # Errors
/// [`GiveBackError`]; then nothing was changed.
pub fn give_back_of(
    kernel: &mut impl Kernel,
    wish: &GiveBackWish,
    is_wanted: impl Fn(BlockId) -> bool,
    progress: &mut dyn FnMut(ByteSize, ByteSize),
) -> Result<Answer, GiveBackError> {
    let foreseen = Foreseen::read_of(kernel.root(), wish, is_wanted)?;
    // Before programs' pages are moved for nothing.
    let first = foreseen.tried.first().map(|candidate| candidate.block.attribute("state"));
    if first.is_some_and(|state| !kernel.root().may_write(state)) {
        return Err(GiveBackError::NotPermitted { moved: ByteSize(0) });
    }
    let Foreseen { tried, hopeless, block_bytes, wanted, at_most, bound } = foreseen;
    let mut work = Work {
        node: wish.node,
        end: Instant::now() + wish.deadline,
        block_bytes: block_bytes.0,
        wanted,
        at_most,
        bound,
        returned: 0,
        moved: ByteSize(0),
        stays: BTreeMap::new(),
    };
    let mut round = tried;
    loop {
        round = work.round(kernel, round, progress)?;
        let is_over = work.returned >= wanted.min(work.at_most) || round.is_empty();
        if is_over || Instant::now() + ROUND_PAUSE >= work.end {
            break;
        }
        kernel.pause(ROUND_PAUSE);
    }
    Ok(work.answer(round, hopeless))
}

/// A give-back under way.
struct Work {
    node: NodeId,
    end: Instant,
    block_bytes: u64,
    /// Blocks that are to leave.
    wanted: u64,
    /// Blocks that may: all of them, or all but the last.
    at_most: u64,
    /// For whom the last one stays.
    bound: Vec<Bound>,
    /// Blocks that have.
    returned: u64,
    /// What of programs' pages was moved.
    moved: ByteSize,
    /// Those that were tried and stayed, and what was found out about each the last time.
    stays: BTreeMap<BlockId, Stay>,
}

struct Stay {
    candidate: Candidate,
    left: Vec<Left>,
    refusal: BlockRefusal,
}

impl Work {
    /// Tries each block once. Returns those that may yet leave.
    fn round(
        &mut self,
        kernel: &mut impl Kernel,
        candidates: Vec<Candidate>,
        progress: &mut dyn FnMut(ByteSize, ByteSize),
    ) -> Result<Vec<Candidate>, GiveBackError> {
        let mut residents: Option<Vec<Resident>> = None;
        let mut again = Vec::new();
        let mut ahead = candidates.len() as u64;
        for candidate in candidates {
            if self.returned >= self.wanted.min(self.at_most) {
                break;
            }
            let share = self.share(ahead);
            ahead -= 1;
            let Some(share) = share else {
                again.push(candidate);
                continue;
            };
            let block_end = Instant::now() + share;
            let left = self.vacate(kernel.root(), &candidate, &mut residents, block_end);
            let share = block_end.saturating_duration_since(Instant::now()).max(WRITE_LEAST);
            let block = &candidate.block;
            let state = block.attribute("state");
            match kernel.write(&state, BlockState::Offline.name(), share) {
                Ok(()) => {
                    self.returned += 1;
                    self.stays.remove(&block.id);
                    progress(self.bytes(self.returned), self.bytes(self.wanted));
                }
                Err(error) => {
                    let refusal = BlockRefusal::of(block.id, block.zone(), &error);
                    if matches!(refusal, BlockRefusal::NotPermitted { .. }) && self.returned == 0 {
                        return Err(GiveBackError::NotPermitted { moved: self.moved });
                    }
                    if is_worth_another_try(&refusal) {
                        again.push(candidate.clone());
                    }
                    self.stays.insert(block.id, Stay { candidate, left, refusal });
                }
            }
        }
        Ok(again)
    }

    /// Moves programs' pages out of a block that has any. Who is on the node is looked at once a
    /// round.
    fn vacate(
        &mut self,
        root: &Root,
        candidate: &Candidate,
        residents: &mut Option<Vec<Resident>>,
        end: Instant,
    ) -> Vec<Left> {
        let bytes = match candidate.contents {
            Some(contents) if contents.movable.0 == 0 => return Vec::new(),
            Some(contents) => contents.movable,
            None => ByteSize(self.block_bytes),
        };
        let Some(to) = vacate::destination(root, self.node, bytes) else { return Vec::new() };
        let residents = residents.get_or_insert_with(|| vacate::residents(root, self.node, end));
        let vacated = vacate::vacate(root, residents, candidate.block.range, to, end);
        self.moved.0 = self.moved.0.saturating_add(vacated.moved.0);
        vacated.left
    }

    /// How long a block may take, with so many to come; `None` when the time is over.
    fn share(&self, ahead: u64) -> Option<Duration> {
        let left =
            self.end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
        let needed = (self.wanted - self.returned).min(ahead).max(1);
        // Twice its share: most blocks need far less.
        let share = left / u32::try_from(needed).unwrap_or(u32::MAX) * 2;
        Some(share.clamp(BLOCK_LEAST.min(left), left))
    }

    fn bytes(&self, blocks: u64) -> ByteSize {
        ByteSize(blocks.saturating_mul(self.block_bytes))
    }

    /// What is answered. If enough came, nobody is a holder. Of the blocks that may yet leave,
    /// those that were not even tried are for the next time.
    fn answer(self, may_leave: Vec<Candidate>, hopeless: Vec<Candidate>) -> Answer {
        let remaining = self.wanted - self.returned;
        let mut answer = Answer {
            requested: self.bytes(self.wanted),
            returned: self.bytes(self.returned),
            remaining: self.bytes(remaining),
            holders: Vec::new(),
            ask_again: false,
            blocks: Vec::new(),
        };
        if remaining == 0 {
            return answer;
        }
        // Only if it is for them that no more was taken.
        let bound = if self.returned < self.at_most { Vec::new() } else { self.bound };
        for bound in bound {
            let Bound { pid, name, tenant, bytes } = bound;
            let reason = Reason::BoundToNode;
            add_holder(&mut answer, Holder { tenant, image: 0, pid, name, bytes, reason });
        }
        let untried = may_leave.iter().filter(|it| !self.stays.contains_key(&it.block.id));
        for candidate in untried {
            answer.ask_again = true;
            answer.blocks.push(stayed(candidate, Reason::NotInTime, None));
        }
        for stay in self.stays.into_values() {
            answer.ask_again |= is_worth_another_try(&stay.refusal);
            add_stay(&mut answer, stay);
        }
        for candidate in hopeless {
            add_kernel(&mut answer, &candidate, None);
        }
        answer
    }
}

/// What another moment may change.
fn is_worth_another_try(refusal: &BlockRefusal) -> bool {
    match refusal {
        BlockRefusal::Unmovable { zone, .. } => *zone == Some(Zone::Movable),
        BlockRefusal::NotInTime { .. } | BlockRefusal::NoMemory { .. } => true,
        _ => false,
    }
}

/// A block that was tried: its holders are the programs whose pages would not go; where there are
/// none, somebody unknown, or the kernel.
fn add_stay(answer: &mut Answer, stay: Stay) {
    let Stay { candidate, left, refusal } = stay;
    if left.is_empty() {
        add_kernel(answer, &candidate, Some(refusal));
        return;
    }
    let first = Reason::Hold(left[0].reason);
    for left in left {
        let holder = Holder {
            tenant: left.tenant,
            image: 0,
            pid: left.pid,
            name: left.name,
            bytes: left.bytes,
            reason: Reason::Hold(left.reason),
        };
        add_holder(answer, holder);
    }
    answer.blocks.push(stayed(&candidate, first, Some(refusal)));
}

fn add_kernel(answer: &mut Answer, candidate: &Candidate, refusal: Option<BlockRefusal>) {
    let zone = candidate.block.zone();
    let contents = candidate.contents.unwrap_or_default();
    let block_bytes = u64::try_from(candidate.block.range.bytes()).unwrap_or(u64::MAX);
    let (reason, bytes) = match refusal {
        Some(BlockRefusal::NoMemory { .. }) => {
            (Reason::Hold(memtide_units::HoldReason::NoRoom), contents.to_move().0)
        }
        Some(BlockRefusal::NotInTime { .. }) => (Reason::NotInTime, contents.to_move().0),
        Some(BlockRefusal::Unmovable { .. }) | None => held(zone, contents),
        // Nobody holds it: its range has holes, its device left, somebody else was faster.
        Some(_) => {
            answer.blocks.push(stayed(candidate, Reason::Refused, refusal));
            return;
        }
    };
    // Where nothing may be seen, all of the block counts.
    let bytes = if candidate.contents.is_none() || bytes == 0 { block_bytes } else { bytes };
    add_holder(
        answer,
        Holder {
            tenant: "kernel".to_owned(),
            image: 0,
            pid: 0,
            name: "kernel".to_owned(),
            bytes: ByteSize(bytes),
            reason,
        },
    );
    answer.blocks.push(stayed(candidate, reason, refusal));
}

/// What keeps the kernel from emptying a block, and how much of it there is.
fn held(zone: Option<Zone>, contents: Contents) -> (Reason, u64) {
    match zone {
        Some(Zone::Movable) if contents.hugetlb.0 > 0 => (Reason::HugePages, contents.hugetlb.0),
        Some(Zone::Movable) => (Reason::Pinned, contents.to_move().0),
        _ => (Reason::KernelMemory, contents.unmovable().0),
    }
}

fn stayed(candidate: &Candidate, reason: Reason, kernel_says: Option<BlockRefusal>) -> Stayed {
    Stayed {
        block: candidate.block.id,
        zone: candidate.block.zone(),
        reason,
        contents: candidate.contents,
        kernel_says,
    }
}

/// One line for each process and reason.
fn add_holder(answer: &mut Answer, holder: Holder) {
    let same = |it: &&mut Holder| (it.pid, it.reason) == (holder.pid, holder.reason);
    match answer.holders.iter_mut().find(same) {
        Some(known) => known.bytes.0 = known.bytes.0.saturating_add(holder.bytes.0),
        None => answer.holders.push(holder),
    }
}
