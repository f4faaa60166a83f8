//! A device that is served: what it offers and asks back goes to the rules, what the rules say is
//! done to the device and to the kernel.
//!
//! ```text
//!   event records ──▶ Host (memtide_engine::dynamic_capacity) ──▶ effects
//!                                        │  4802h, 4803h ──▶ the device
//!                                        └─ blocks on- and offline ──▶ the kernel
//! ```
//!
//! **Nothing is remembered outside of the device and the kernel.** What was accepted is in the
//! device's list (4801h), which of it is memory in sysfs, which addresses it has in the decoders.
//! So an agent that was killed at any point is followed by one that reads all three and goes on:
//! memory that is missing under an accepted extent is added, memory without an extent is taken
//! away. Records stay in the device's log until what they ask for has been done, and so are found
//! again. What was asked back and stayed in part is not asked for by itself after a restart: the
//! device asks again.
//!
//! **One answer to each chain, in order.** An acceptance is sent before its records are cleared, a
//! refusal after: a chain that is found again with something of it in the device's list was
//! answered, and is cleared without another answer. So no answer is sent twice, which a device may
//! take badly (QEMU's ends, when nothing is pending). Where an answer comes too early, because an
//! older offer's records were lost, the older offer is refused first.
//!
//! **A give-back takes its time**, in which nothing else is done. The pool has the deadline, and who
//! asks it waits until he gives a silent one up; then the kernel has the deadline, for it is to empty
//! what the pool let go, however long that took; then pages are fetched back, for 10 s at most. What
//! did not go is asked for again by the rules, at longer and longer intervals.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use memtide_engine::dynamic_capacity::{
    DcExtent, DeviceConfig, DeviceId, DpaRange, Effect, GroupStatus, Host, Input, Limits, Notice,
    Tag,
};
use memtide_units::{ByteSize, NodeId};

use super::{
    decoder::Span, error::DcdError, log::Log, mailbox::Commands, memory::Memory, pool::Pool,
    report::Report, standing::Offers, stuck::Stuck, supply::Supplied,
};
use crate::plan::Kernel;

/// The one device of this host's rules.
pub(super) const DEVICE: DeviceId = DeviceId(0);
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
    /// How long a give-back may take: of the pool, and then of each node of the kernel's.
    pub deadline: Duration,
    /// A pool that is to have the capacity.
    pub pool: Option<Box<dyn Pool>>,
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
    pub(super) setup: Setup,
    started: Instant,
    /// What was in the device's list when this agent began.
    pub(super) recovered: BTreeSet<DpaRange>,
    pub(super) stuck: Stuck,
    pub(super) offers: Offers,
    pub(super) supplied: Option<Supplied>,
}

impl<C: Commands> Agent<C> {
    /// Takes up what was accepted earlier.
    ///
    /// # Errors
    /// [`DcdError`].
    pub fn start(
        commands: C,
        mut setup: Setup,
        kernel: &mut impl Kernel,
        say: Say<'_>,
    ) -> Result<Self, DcdError> {
        let pending_max = (commands.room().saturating_sub(8) / 24).min(100);
        let mut host = Host::new(Limits { pending_max, ..Limits::default() });
        host.add_device(DEVICE, setup.config.clone())?;
        let (log, started) = (Log::default(), Instant::now());
        let (recovered, stuck, offers) = (BTreeSet::new(), Stuck::default(), Offers::default());
        let supplied = setup.pool.take().map(Supplied::new);
        let mut agent =
            Self { commands, host, log, setup, started, recovered, stuck, offers, supplied };
        agent.look()?;
        let accepted = agent.extents()?;
        agent.recovered = accepted.iter().map(|extent| extent.range).collect();
        for span in agent.setup.spans.clone() {
            let accepted = accepted.clone();
            let probe = Input::Probe { device: DEVICE, decoder: span.dpa, accepted };
            agent.apply(probe, kernel, say)?;
        }
        agent.remove_orphans(kernel, say)?;
        agent.drain(kernel, say)?;
        agent.supply(kernel, say)?;
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
        self.try_stuck(kernel, say)?;
        self.supply(kernel, say)
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

    /// What a record names, as the rules know it: in which extents it lies, under which tag. It is
    /// what the record says, but for what was in the device's list at the start: a device that
    /// splits extents when a part is released lists the parts, and one that forgets tags when it is
    /// answered lists none (QEMU does both).
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
