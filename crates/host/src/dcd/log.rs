//! The device's event log and its list of extents, read whole.
//!
//! Records come in batches as large as the mailbox, the oldest first, and come again until they are
//! cleared, oldest first. Those of a chain that has not ended stay: an agent that is killed finds
//! the chain whole again. Only where they keep others from coming are they cleared.
//!
//! A new agent finds records that the list of extents, read after them, has overtaken; those it
//! passes over ([`outdated`]), as far as they come in the device's first answer: it gives more only
//! once those are cleared.
//!
//! Records that a full log lost are lost, but what they told of is not: what was accepted stands in
//! the list (4801h), and a release is asked for again by whoever wants it. An offer of which nobody
//! has a record is what the device waits for before it takes an answer to a later one
//! ([`Log::doubt`]).

use std::collections::{BTreeMap, BTreeSet};

use memtide_cxl::{
    command::{
        More as Follows,
        dynamic_capacity::GetExtentList,
        events::{
            Clear, ClearEventRecords, DynamicCapacityEvent, DynamicCapacityEventKind as Kind,
            EventBody, EventLog, EventRecord, GetEventRecords,
        },
    },
    outdated,
};
use memtide_engine::dynamic_capacity::{DcExtent, Input, More};

use super::{
    agent::{Agent, DEVICE, Say},
    error::DcdError,
    mailbox::{CommandError, Commands},
    report::Report,
    standing::Chain,
};
use crate::plan::Kernel;

/// Handles in one 0101h.
const HANDLES_MAX: usize = 255;
/// How often a list is read that changes meanwhile.
const READS_MAX: usize = 16;
/// More extents than this a device is not asked for.
const EXTENTS_MAX: usize = 65_536;

/// Records that are in the device's log and were handled.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Log {
    /// Their handles, the oldest first.
    handled: Vec<u16>,
    /// How many of them are from before the chain that has not ended; all without one.
    before_chain: Option<usize>,
    /// Records that were there before the list was read, and say nothing after it.
    outdated: BTreeSet<u16>,
    /// Whether the device has been asked before.
    was_read: bool,
    /// Whether this agent has accepted anything.
    was_in_order: bool,
    /// Whether records may have been lost since an offer was last accepted.
    overflowed: bool,
    /// Whether the records that are handled now may be older than those that were lost.
    overflows_now: bool,
}

impl Log {
    /// Whether the device may wait for the answer to an offer that nobody here has heard of: before
    /// anything was accepted by this agent, for the one before it may have been killed; and after
    /// records were lost.
    pub(super) const fn doubt(&self) -> bool {
        !self.was_in_order || self.overflowed
    }

    /// An offer was accepted: no older one waits. Newer ones may, of those that were lost now.
    pub(super) const fn accepted(&mut self) {
        self.was_in_order = true;
        self.overflowed = self.overflows_now;
    }
}

impl<C: Commands> Agent<C> {
    /// Looks at what is in the log before the list is read: as many records as come at once.
    pub(super) fn look(&mut self) -> Result<(), DcdError> {
        let answer = self.commands.ask(&GetEventRecords { log: EventLog::DynamicCapacity })?;
        self.log.outdated = outdated(&answer.records);
        Ok(())
    }

    /// Reads and handles records until there are no more that are new.
    pub(super) fn drain(&mut self, kernel: &mut impl Kernel, say: Say<'_>) -> Result<(), DcdError> {
        self.log.overflows_now = false;
        loop {
            let answer = self.commands.ask(&GetEventRecords { log: EventLog::DynamicCapacity })?;
            if let (Some(overflow), false) = (answer.overflow, self.log.overflows_now) {
                (self.log.overflowed, self.log.overflows_now) = (true, true);
                say(Report::Overflow { count: overflow.count });
            }
            let is_new = |record: &&EventRecord| !self.log.handled.contains(&record.handle);
            let new: Vec<EventRecord> = answer.records.iter().filter(is_new).copied().collect();
            if new.is_empty() {
                if answer.records.is_empty() || answer.more == Follows::Last {
                    break;
                }
                // What is known keeps the rest from coming.
                self.clear_records(say)?;
                continue;
            }
            let answered = if self.log.was_read { BTreeSet::new() } else { self.answered(&new) };
            for record in new {
                self.handle(record, answered.contains(&record.handle), kernel, say)?;
            }
            self.clear_ended(say)?;
        }
        self.log.was_read = true;
        Ok(())
    }

    /// Records of chains that an agent before this one has answered: something of each is in the
    /// list that was read at the start. (Chains of which nothing was accepted were cleared first.)
    fn answered(&self, records: &[EventRecord]) -> BTreeSet<u16> {
        let mut answered = BTreeSet::new();
        let mut chain: BTreeMap<u16, bool> = BTreeMap::new();
        for record in records {
            let EventBody::DynamicCapacity(event) = record.body else { continue };
            if event.kind != Kind::Add {
                continue;
            }
            let is_held = self.recovered.iter().any(|held| held.contains(event.extent.range));
            chain.insert(record.handle, is_held);
            if event.more == Follows::Last {
                if chain.values().any(|&is_held| is_held) {
                    answered.extend(chain.keys());
                }
                chain.clear();
            }
        }
        answered
    }

    fn handle(
        &mut self,
        record: EventRecord,
        was_answered: bool,
        kernel: &mut impl Kernel,
        say: Say<'_>,
    ) -> Result<(), DcdError> {
        let before = self.log.handled.len();
        self.log.handled.push(record.handle);
        if self.log.outdated.remove(&record.handle) {
            return Ok(());
        }
        let EventBody::DynamicCapacity(event) = record.body else { return Ok(()) };
        let DynamicCapacityEvent { kind, extent, .. } = event;
        let more = if event.more == Follows::Follows { More::Follows } else { More::Last };
        let chain = if more == More::Follows { Chain::GoesOn } else { Chain::Ends };
        match kind {
            Kind::Add if was_answered => self.offers.push(extent.range, chain),
            Kind::Add => {
                self.offers.push(extent.range, chain);
                let chain = self.log.before_chain.take().unwrap_or(before);
                if more == More::Follows {
                    self.log.before_chain = Some(chain);
                }
                self.apply(Input::Add { device: DEVICE, extent, more }, kernel, say)?;
            }
            Kind::Release => {
                let parts = self.known_as(extent.range, extent.tag);
                let last = parts.len() - 1;
                for (number, (range, tag)) in parts.into_iter().enumerate() {
                    let more = if number < last { More::Follows } else { more };
                    let input = Input::Release { device: DEVICE, range, tag, more };
                    self.apply(input, kernel, say)?;
                }
            }
            Kind::ForcedRelease => {
                for (range, tag) in self.known_as(extent.range, extent.tag) {
                    let input = Input::ForcedRelease { device: DEVICE, range, tag };
                    self.apply(input, kernel, say)?;
                }
            }
            Kind::RegionConfigurationUpdated => say(Report::Note {
                what: format!("region {} was configured anew: restart this agent", event.region),
            }),
            Kind::AddResponse | Kind::CapacityReleased => {}
        }
        Ok(())
    }

    /// Clears what was handled, but not a chain that has not ended.
    fn clear_ended(&mut self, say: Say<'_>) -> Result<(), DcdError> {
        let count = self.log.before_chain.unwrap_or(self.log.handled.len());
        self.clear_first(count, say)
    }

    /// Clears all that was handled.
    pub(super) fn clear_records(&mut self, say: Say<'_>) -> Result<(), DcdError> {
        self.clear_first(self.log.handled.len(), say)
    }

    fn clear_first(&mut self, count: usize, say: Say<'_>) -> Result<(), DcdError> {
        let handles: Vec<u16> = self.log.handled.drain(..count).collect();
        self.log.before_chain = self.log.before_chain.map(|before| before.saturating_sub(count));
        for part in handles.chunks(HANDLES_MAX) {
            let what = Clear::Handles(part.to_vec());
            let log = EventLog::DynamicCapacity;
            match self.commands.ask(&ClearEventRecords { log, what }) {
                Ok(()) => {}
                // Somebody else cleared them, or the device forgot them.
                Err(error @ CommandError::Refused { .. }) => {
                    say(Report::Trouble { what: error.to_string() });
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The device's list, all of one generation. A device may tell of more than the total, as
    /// extents of no bytes (QEMU: offers that have no answer yet); those are nothing.
    pub(super) fn extents(&mut self) -> Result<Vec<DcExtent>, DcdError> {
        let room = self.commands.room().saturating_sub(16) / 40;
        let count = u32::try_from(room.max(1)).unwrap_or(u32::MAX);
        let mut extents: Vec<DcExtent> = Vec::new();
        let mut generation = None;
        let mut reads = 0;
        loop {
            let start = u32::try_from(extents.len()).unwrap_or(u32::MAX);
            let list = self.commands.ask(&GetExtentList { count, start })?;
            let was = generation.replace(list.generation);
            if was.is_some_and(|was| was != list.generation) && reads < READS_MAX {
                reads += 1;
                extents.clear();
                generation = None;
                continue;
            }
            let total = usize::try_from(list.total).unwrap_or(usize::MAX).min(EXTENTS_MAX);
            let before = extents.len();
            extents.extend(list.extents.into_iter().filter(|extent| extent.range.length > 0));
            extents.truncate(total);
            if extents.len() >= total || extents.len() == before {
                return Ok(extents);
            }
        }
    }
}
