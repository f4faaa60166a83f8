//! A device that is served: what it offers and asks back goes to the rules, what the rules say is
//! done to the device and to the kernel.
//!
//! ```text
//!   event records ──▶ Host (memtide_engine::dynamic_capacity) ──▶ effects
//!                                                                │  4802h, 4803h ──▶ the device
//!                                                                └─ blocks on- and offline ──▶ kernel
//! ```
//!
//! **Nothing is remembered outside of the device and the kernel.** What was accepted is in the
//! device's list (4801h), which of it is memory in sysfs, which addresses it has in the decoders. So an
//! agent that was killed at any point is followed by one that reads all three and goes on: memory that
//! is missing under an accepted extent is added, memory without an extent is taken away. Records stay
//! in the device's log until what they ask for has been done, and so are found again. What was asked
//! back and stayed in part is not asked for by itself after a restart: the device asks again.
//!
//! **One answer to each chain, in order.** An acceptance is sent before its records are cleared, a
//! refusal after: a chain that is found again with something of it in the device's list was answered,
//! and is cleared without another answer. So no answer is sent twice, which a device may take badly
//! (QEMU's ends, when nothing is pending). Where an answer comes too early, because an older offer's
//! records were lost, the older offer is refused first.
//!
//! **A give-back takes its time**, at most the deadline, in which nothing else is done. What did not go
//! is asked for again by the rules, at longer and longer intervals.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use memtide_cxl::{
    ReturnCode,
    command::dynamic_capacity::{AddResponse, Release},
};
use memtide_engine::dynamic_capacity::{
    DcExtent, DeviceConfig, DeviceId, DpaRange, Effect, GroupStatus, Host, Input, Limits, Notice,
    Outcome, Tag,
};
use memtide_units::{ByteSize, NodeId, PhysRange};

use super::{
    decoder::Span,
    error::DcdError,
    log::Log,
    mailbox::{CommandError, Commands},
    memory::Memory,
    report::Report,
};
use crate::{
    BlockId, BlockState, MemoryBlocks,
    give_back::{self, GiveBackWish, answer::Answer, vacate},
    plan::Kernel,
};

/// The one device of this host's rules.
pub(super) const DEVICE: DeviceId = DeviceId(0);
/// More offers without records than this are not refused to get at one.
const FORGOTTEN_MAX: usize = 64;
/// How long is looked for programs that lost memory.
const LOOK_LIMIT: Duration = Duration::from_secs(5);

/// Which offers are accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AcceptPolicy {
    /// All that can be used.
    All,
    /// None.
    None,
}

/// What a device is served with.
#[derive(Debug)]
pub struct Setup {
    /// Its address, for messages.
    pub name: String,
    /// Its regions, and in which parts it takes capacity back.
    pub config: DeviceConfig,
    /// Its decoders.
    pub spans: Vec<Span>,
    /// The kernel's side of the addresses.
    pub memory: Memory,
    /// Which offers are accepted.
    pub policy: AcceptPolicy,
    /// How long a give-back may take.
    pub deadline: Duration,
}

/// What of something is in use.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Online {
    /// How much.
    pub bytes: ByteSize,
    /// On which nodes of the kernel's.
    pub nodes: BTreeSet<NodeId>,
}

/// Tells somebody what happened.
pub type Say<'a> = &'a mut dyn FnMut(Report);

/// A device that is served.
#[derive(Debug)]
pub struct Agent<C> {
    pub(super) commands: C,
    pub(super) host: Host,
    pub(super) log: Log,
    setup: Setup,
    started: Instant,
    /// What was in the device's list when this agent began.
    pub(super) recovered: BTreeSet<DpaRange>,
    /// What is to be released and could not be taken from the kernel.
    stuck: Vec<DpaRange>,
}

impl<C: Commands> Agent<C> {
    /// Takes up what was accepted earlier.
    ///
    /// # Errors
    /// [`DcdError`].
    pub fn start(
        commands: C,
        setup: Setup,
        kernel: &mut impl Kernel,
        say: Say<'_>,
    ) -> Result<Self, DcdError> {
        let pending_max = (commands.room().saturating_sub(8) / 24).min(100);
        let mut host = Host::new(Limits { pending_max, ..Limits::default() });
        host.add_device(DEVICE, setup.config.clone())?;
        let (log, started) = (Log::default(), Instant::now());
        let (recovered, stuck) = (BTreeSet::new(), Vec::new());
        let mut agent = Self { commands, host, log, setup, started, recovered, stuck };
        let accepted = agent.extents()?;
        agent.recovered = accepted.iter().map(|extent| extent.range).collect();
        for span in agent.setup.spans.clone() {
            let accepted = accepted.clone();
            let probe = Input::Probe { device: DEVICE, decoder: span.dpa, accepted };
            agent.apply(probe, kernel, say)?;
        }
        agent.remove_orphans(kernel, say)?;
        agent.drain(kernel, say)?;
        Ok(agent)
    }

    /// Looks for what there is to do, and does it.
    ///
    /// # Errors
    /// [`DcdError`]; the device cannot be served any more.
    pub fn step(&mut self, kernel: &mut impl Kernel, say: Say<'_>) -> Result<(), DcdError> {
        if self.commands.has_records()? {
            self.drain(kernel, say)?;
        }
        if self.host.next_deadline().is_some_and(|due| due <= self.now()) {
            self.apply(Input::Tick, kernel, say)?;
        }
        Ok(())
    }

    /// Which offers are accepted from now on.
    pub const fn set_policy(&mut self, policy: AcceptPolicy) {
        self.setup.policy = policy;
    }

    /// What it is served with.
    #[must_use]
    pub const fn setup(&self) -> &Setup {
        &self.setup
    }

    /// What is accepted.
    #[must_use]
    pub fn groups(&self) -> Vec<GroupStatus> {
        self.host.groups()
    }

    /// How much of extents is online at this moment, and on which nodes.
    #[must_use]
    pub fn online_of(&self, extents: &[DpaRange], blocks: Option<&MemoryBlocks>) -> Online {
        let of_extents = self.blocks_of(extents);
        let known = of_extents.keys().filter_map(|block| blocks?.blocks.get(block));
        let mut online = Online::default();
        for block in known.filter(|block| block.state == BlockState::Online) {
            online.bytes.0 += self.setup.memory.block_bytes();
            online.nodes.extend(block.nodes.iter().copied());
        }
        online
    }

    fn now(&self) -> memtide_units::Instant {
        memtide_units::Instant(self.started.elapsed())
    }

    /// Tells the rules something, and does what they say, in its order.
    pub(super) fn apply(
        &mut self,
        input: Input,
        kernel: &mut impl Kernel,
        say: Say<'_>,
    ) -> Result<(), DcdError> {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            for effect in self.host.handle(self.now(), input)? {
                inputs.extend(self.carry_out(effect, kernel, say)?);
            }
        }
        Ok(())
    }

    /// Does one thing; what the rules are to be told of it.
    fn carry_out(
        &mut self,
        effect: Effect,
        kernel: &mut impl Kernel,
        say: Say<'_>,
    ) -> Result<Option<Input>, DcdError> {
        match effect {
            Effect::AddResponse { device, chain, accepted } => {
                let outcome = self.answer(accepted, say)?;
                return Ok(Some(Input::Answered { device, chain, outcome }));
            }
            Effect::Reclaim { device, ranges } => {
                let free = self.reclaim(&ranges, kernel, say)?;
                return Ok(Some(Input::Reclaimed { device, free }));
            }
            Effect::ReleaseDc { released, .. } => self.release(&released, say)?,
            Effect::Surface { group, tag, extents, .. } => {
                self.add(&extents, kernel, say)?;
                let bytes = ByteSize(extents.iter().map(|extent| extent.length).sum());
                let node = self.node_of(&extents, kernel)?;
                say(Report::Online { group, tag, bytes, node: node.map(|node| node.0) });
            }
            Effect::Keep { ranges, .. } => self.add(&ranges, kernel, say)?,
            Effect::Withdrawn { extents, .. } => self.withdraw(&extents, kernel, say)?,
            Effect::Lost { extents, .. } => self.lost(extents, kernel, say),
            Effect::Note { notice, .. } => say(Self::notice(notice)),
        }
        Ok(None)
    }

    /// One answer to the oldest chain. A refusal is sent once its records are cleared.
    fn answer(&mut self, accepted: Vec<DpaRange>, say: Say<'_>) -> Result<Outcome, DcdError> {
        let is_wanted = self.setup.policy == AcceptPolicy::All;
        if !is_wanted {
            for &range in &accepted {
                let why = "accept-policy is none".to_owned();
                say(Report::Refused { range, why });
            }
        }
        let outcome = if is_wanted { Outcome::Taken } else { Outcome::Rejected };
        let accepted = if is_wanted { accepted } else { Vec::new() };
        if accepted.is_empty() {
            self.clear_records(say)?;
        }
        let more = memtide_cxl::command::More::Last;
        let response = AddResponse { more, accepted };
        let mut forgotten = 0;
        loop {
            match self.commands.ask(&response) {
                Ok(()) => {
                    if !response.accepted.is_empty() {
                        self.log.accepted();
                    }
                    return Ok(outcome);
                }
                Err(CommandError::Refused { code, .. })
                    if is_out_of_order(code)
                        && !response.accepted.is_empty()
                        && self.log.doubt()
                        && forgotten < FORGOTTEN_MAX =>
                {
                    forgotten += 1;
                    self.refuse_oldest(say)?;
                }
                Err(error @ CommandError::Refused { .. }) => {
                    say(Report::Trouble { what: error.to_string() });
                    return Ok(Outcome::Rejected);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The device waits for an answer to an older offer, of which nobody has a record any more. There
    /// is at least one offer that waits: the one that was to be answered.
    fn refuse_oldest(&mut self, say: Say<'_>) -> Result<(), DcdError> {
        let more = memtide_cxl::command::More::Last;
        match self.commands.ask(&AddResponse { more, accepted: Vec::new() }) {
            Ok(()) => say(Report::Note {
                what: "an older offer, whose records were lost, was refused".to_owned(),
            }),
            Err(error @ CommandError::Refused { .. }) => {
                say(Report::Trouble { what: error.to_string() });
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Takes memory away that nobody uses any more. Where the kernel refuses that, it is not given back.
    fn withdraw(
        &mut self,
        extents: &[DpaRange],
        kernel: &mut impl Kernel,
        say: Say<'_>,
    ) -> Result<(), DcdError> {
        for &extent in extents {
            for range in self.physical(&[extent]) {
                match self.setup.memory.remove(kernel, range) {
                    Err(error @ DcdError::Memory { .. }) => {
                        say(Report::Trouble { what: chain(&error) });
                        self.stuck.push(extent);
                    }
                    removed => removed?,
                }
            }
        }
        Ok(())
    }

    /// Gives capacity back that nobody uses, in as many commands as it takes.
    fn release(&mut self, released: &[DpaRange], say: Say<'_>) -> Result<(), DcdError> {
        let stuck = std::mem::take(&mut self.stuck);
        let is_gone = |range: &&DpaRange| !stuck.iter().any(|stuck| stuck.overlaps(**range));
        let released: Vec<DpaRange> = released.iter().filter(is_gone).copied().collect();
        let at_once = (self.commands.room().saturating_sub(8) / 24).max(1);
        for part in released.chunks(at_once) {
            let more = memtide_cxl::command::More::Last;
            match self.commands.ask(&Release { more, released: part.to_vec() }) {
                Ok(()) => {
                    let bytes = ByteSize(part.iter().map(|range| range.length).sum());
                    say(Report::Released { ranges: part.to_vec(), bytes });
                }
                Err(CommandError::Refused { opcode, code }) => {
                    let what = CommandError::Refused { opcode, code }.to_string();
                    say(Report::Trouble { what });
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Makes memory of extents. Where the kernel refuses, they stay unused, and that is said.
    fn add(
        &self,
        extents: &[DpaRange],
        kernel: &mut impl Kernel,
        say: Say<'_>,
    ) -> Result<(), DcdError> {
        for range in self.physical(extents) {
            match self.setup.memory.add(kernel, range) {
                Err(error @ DcdError::Memory { .. }) => {
                    say(Report::Trouble { what: chain(&error) });
                }
                added => added?,
            }
        }
        Ok(())
    }

    /// Empties what is asked back, as far as that goes within the deadline; what nobody uses then.
    fn reclaim(
        &self,
        ranges: &[DpaRange],
        kernel: &mut impl Kernel,
        say: Say<'_>,
    ) -> Result<Vec<DpaRange>, DcdError> {
        let blocks = self.blocks_of(ranges);
        let answer = self.give_back(&blocks, kernel, say)?;
        let now = MemoryBlocks::read(kernel.root())?.ok_or(DcdError::NoHotPlug)?;
        let is_free = |block: &BlockId| {
            now.blocks.get(block).is_none_or(|block| block.state == BlockState::Offline)
        };
        let free: Vec<DpaRange> =
            blocks.iter().filter(|(block, _)| is_free(block)).map(|(_, &range)| range).collect();
        let bytes = |ranges: &[DpaRange]| ByteSize(ranges.iter().map(|range| range.length).sum());
        let (asked, can_go) = (bytes(ranges), bytes(&free));
        say(Report::AskedBack { asked, free: can_go, answer });
        Ok(free)
    }

    fn give_back(
        &self,
        blocks: &BTreeMap<BlockId, DpaRange>,
        kernel: &mut impl Kernel,
        say: Say<'_>,
    ) -> Result<Option<Answer>, DcdError> {
        let now = MemoryBlocks::read(kernel.root())?.ok_or(DcdError::NoHotPlug)?;
        let mut of_nodes: BTreeMap<NodeId, u64> = BTreeMap::new();
        for block in blocks.keys().filter_map(|block| now.blocks.get(block)) {
            if let (BlockState::Online, Some(node)) = (block.state, block.node()) {
                *of_nodes.entry(node).or_default() += now.block_bytes;
            }
        }
        let mut said: Option<Answer> = None;
        for (node, bytes) in of_nodes {
            let (bytes, deadline) = (ByteSize(bytes), self.setup.deadline);
            let wish = GiveBackWish { node, bytes, deadline };
            let is_wanted = |block| blocks.contains_key(&block);
            match give_back::give_back_of(kernel, &wish, is_wanted, &mut |_, _| {}) {
                Ok(answer) => said = Some(join(said, answer)),
                Err(error) => say(Report::Trouble { what: chain(&error) }),
            }
        }
        Ok(said)
    }

    fn lost(&self, ranges: Vec<DpaRange>, kernel: &mut impl Kernel, say: Say<'_>) {
        let node = self.node_of(&ranges, kernel).ok().flatten();
        let end = Instant::now() + LOOK_LIMIT;
        let residents = node.map(|node| vacate::residents(kernel.root(), node, end));
        let programs = residents.into_iter().flatten().map(|resident| {
            format!("{} (pid {})", resident.program.name(), resident.program.pid())
        });
        let programs = programs.collect();
        let blocks = crate::memory_blocks::list(self.blocks_of(&ranges).into_keys());
        say(Report::Lost { ranges, programs, blocks });
    }

    /// Memory of the decoders behind which there is no extent: an agent was killed before it could
    /// take it away. What is in use is not touched.
    fn remove_orphans(&self, kernel: &mut impl Kernel, say: Say<'_>) -> Result<(), DcdError> {
        let held: Vec<PhysRange> =
            self.host.groups().iter().flat_map(|group| self.physical(&group.extents)).collect();
        for piece in self.setup.memory.pieces(kernel.root())? {
            let is_ours = self.setup.spans.iter().any(|span| span.physical().contains(piece.range));
            if !is_ours || held.iter().any(|range| range.contains(piece.range)) {
                continue;
            }
            match self.setup.memory.remove(kernel, piece.range) {
                Ok(()) => say(Report::Note {
                    what: format!("{} had no extent behind it, and is gone", piece.range),
                }),
                Err(error @ DcdError::Memory { .. }) => say(Report::Trouble {
                    what: format!("no extent is behind it any more: {}", chain(&error)),
                }),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Where extents are; those outside of all decoders are nowhere.
    fn physical(&self, extents: &[DpaRange]) -> Vec<PhysRange> {
        let at =
            |range: &DpaRange| self.setup.spans.iter().find_map(|span| span.to_physical(*range));
        extents.iter().filter_map(at).collect()
    }

    /// The blocks of extents, with what of the device each is.
    fn blocks_of(&self, extents: &[DpaRange]) -> BTreeMap<BlockId, DpaRange> {
        let memory = &self.setup.memory;
        let blocks = self.physical(extents).into_iter().flat_map(|range| memory.blocks_in(range));
        blocks
            .filter_map(|block| {
                let of_device = self.setup.spans.iter().find_map(|span| span.to_device(block))?;
                Some((memory.block_of(block), of_device))
            })
            .collect()
    }

    fn node_of(
        &self,
        extents: &[DpaRange],
        kernel: &mut impl Kernel,
    ) -> Result<Option<NodeId>, DcdError> {
        let blocks = MemoryBlocks::read(kernel.root())?.ok_or(DcdError::NoHotPlug)?;
        let of_extents = self.blocks_of(extents);
        Ok(of_extents.keys().find_map(|block| blocks.blocks.get(block)?.node()))
    }

    fn notice(notice: Notice) -> Report {
        match notice {
            Notice::Refused { extent, why } => {
                Report::Refused { range: extent.range, why: why.to_string() }
            }
            Notice::NotReleased { range, why, .. } => {
                Report::Refused { range, why: why.to_string() }
            }
            Notice::Again { extent: DcExtent { range, .. } } => {
                Report::Note { what: format!("{range} was offered again, and is kept") }
            }
            Notice::AnswerRejected { chain } => {
                Report::Note { what: format!("nothing of {chain} was taken") }
            }
            Notice::Deferred { bytes, .. } => Report::Note {
                what: format!("{} stays for now, and is tried again", ByteSize(bytes)),
            },
            other => Report::Note { what: format!("{other:?}") },
        }
    }

    /// What a record names, as the rules know it: in which extents it lies, under which tag. It is what
    /// the record says, but for what was in the device's list at the start: a device that splits extents
    /// when a part is released lists the parts, and one that forgets tags when it is answered lists none
    /// (QEMU does both).
    pub(super) fn known_as(&self, range: DpaRange, tag: Tag) -> Vec<(DpaRange, Tag)> {
        let mut parts: Vec<(DpaRange, Tag)> = Vec::new();
        for group in self.host.groups() {
            let is_meant = |extent: &&DpaRange| {
                let was_listed = || self.recovered.iter().any(|listed| listed.contains(**extent));
                group.tag == tag || group.tag.is_null() && was_listed()
            };
            let extents = group.extents.iter().filter(is_meant);
            let common = extents.filter_map(|extent| intersection(*extent, range));
            parts.extend(common.map(|part| (part, group.tag)));
        }
        parts.sort_unstable();
        let bytes: u64 = parts.iter().map(|(part, _)| part.length).sum();
        // Extents do not overlap: all of it is held if as much of it is held.
        if bytes == range.length && !parts.is_empty() { parts } else { vec![(range, tag)] }
    }
}

fn intersection(extent: DpaRange, range: DpaRange) -> Option<DpaRange> {
    let start = extent.start.max(range.start);
    let end = extent.end().min(range.end());
    let length = u64::try_from(end.checked_sub(u128::from(start))?).ok()?;
    (length > 0).then_some(DpaRange::new(start, length))
}

/// What a device says of the right answer at the wrong time: invalid input (CXL 3.1, 8.2.9.9.9.3);
/// QEMU says that the address is none.
const fn is_out_of_order(code: ReturnCode) -> bool {
    matches!(code, ReturnCode::INVALID_INPUT | ReturnCode::INVALID_PHYSICAL_ADDRESS)
}

/// Two answers as one.
fn join(said: Option<Answer>, mut answer: Answer) -> Answer {
    let Some(before) = said else { return answer };
    let sum = |a: ByteSize, b: ByteSize| ByteSize(a.0.saturating_add(b.0));
    answer.requested = sum(answer.requested, before.requested);
    answer.returned = sum(answer.returned, before.returned);
    answer.remaining = sum(answer.remaining, before.remaining);
    answer.holders.splice(..0, before.holders);
    answer.blocks.splice(..0, before.blocks);
    answer.ask_again |= before.ask_again;
    answer
}

/// What happened, and why.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
