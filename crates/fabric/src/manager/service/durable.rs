//! What the manager decides is carried out, and nothing before what it rests on is durable.
//!
//! The manager's outputs come in an order: what is to be kept, then what to do. Not all that is
//! kept must be on the disk at once ([`Store::hold`](crate::manager::store::Store::hold)), for a
//! device says again what it said. So two rules say when it must: nothing is done that rests on the
//! journal before all of that is durable ([`rests_on_journal`]), and what no device says again is
//! durable when the device's log is cleared of it ([`is_never_said_again`]). Whatever cannot be
//! made durable has not happened: the service goes on from what is, as its successor would.

use std::time::{Duration, Instant};

use memtide_cxl::manager::{self, Command, Key, Manager, Output, Record};

use super::{Notice, RunError, Service};
use crate::wire::FromManager;

/// How long changes on which nothing rests yet wait for the next that must be durable.
const HOLD: Duration = Duration::from_millis(100);

/// Until a store is tried again that could not be read.
pub(super) const STORE_PAUSE: Duration = Duration::from_millis(500);

impl Service {
    /// Makes durable what is held; otherwise starts over, and says that what rests on it is not to
    /// be done.
    pub(super) fn settle(&mut self) -> Result<bool, RunError> {
        self.settle_by = None;
        match self.store.settle() {
            Ok(()) => Ok(true),
            Err(error) => {
                self.notice(Notice::Store(error));
                self.start_over()?;
                Ok(false)
            }
        }
    }

    /// In this order, and nothing after what could not be made durable. The journal becomes durable
    /// when something comes that rests on it, however much later, and in any case after a while.
    pub(super) fn carry_out(&mut self, outputs: Vec<Output>) -> Result<(), RunError> {
        for output in outputs {
            if rests_on_journal(&output) && !self.settle()? {
                return Ok(());
            }
            match output {
                Output::Journal(records) => {
                    // A device does not say again who had something.
                    let is_urgent = records.iter().any(is_never_said_again);
                    self.store.hold(records);
                    if is_urgent {
                        if !self.settle()? {
                            return Ok(());
                        }
                    } else {
                        self.settle_by.get_or_insert_with(|| Instant::now() + HOLD);
                    }
                }
                Output::Command { device, command } => {
                    if let Err(change) = self.devices.begin(&device, &command) {
                        self.hear(device, change);
                    }
                }
                Output::Answer(report) => self.answer(report),
                Output::Taken { host, device, extents } => {
                    let agent = self.agent_of.get(&host);
                    if let (Some(id), Some(serial)) = (agent, self.devices.serial(&device)) {
                        self.hub.send(*id, &FromManager::Taken { serial, extents }, None);
                    }
                }
                Output::Note { device, notice } => self.notice(Notice::Device { device, notice }),
            }
        }
        Ok(())
    }

    /// Goes on from what is durable, as a successor would: what this manager knows besides may be
    /// what could not be kept.
    pub(super) fn start_over(&mut self) -> Result<(), RunError> {
        self.started_over += 1;
        self.inputs.clear();
        self.store.forget_held();
        self.settle_by = None;
        self.devices.disconnect_all(Instant::now());
        // They come again and say everything anew.
        for (id, host) in std::mem::take(&mut self.agents) {
            self.hub.end(id);
            self.agent_of.remove(&host);
        }
        self.changed = true;
        match self.store.load() {
            Ok(kept) => {
                let config = self.config.manager.clone();
                self.manager = Manager::restore(config, self.clock.now(), kept)?;
                self.suspended = None;
                self.answer_what_ended();
            }
            Err(error) => {
                if self.suspended.is_none() {
                    self.notice(Notice::Store(error));
                }
                self.suspended = Some(Instant::now() + STORE_PAUSE);
            }
        }
        Ok(())
    }

    /// What ended in what is durable is not answered by a restored manager.
    fn answer_what_ended(&mut self) {
        for (id, asker) in self.askers.clone() {
            match self.manager.report(id) {
                Some(report) if report.state == manager::State::Open => {}
                Some(report) => self.answer(report),
                None => {
                    self.askers.remove(&id);
                    self.hub.end(asker);
                }
            }
        }
    }
}

/// Whether a device that is read anew would not tell this: whose data is in what is free.
const fn is_never_said_again(record: &Record) -> bool {
    matches!(record, Record { key: Key::Unsanitized(..), value: Some(_) })
}

/// Whether something must not be done before what was journalled before it is durable. Reading does
/// not rest on it: what is journalled of what a device says is only what it will say again, or is
/// durable at once ([`is_never_said_again`]). Nor does clearing its log: whoever starts again reads
/// everything, and not the log.
const fn rests_on_journal(output: &Output) -> bool {
    match output {
        Output::Journal(_) | Output::Note { .. } => false,
        Output::Answer(_) | Output::Taken { .. } => true,
        Output::Command { command, .. } => match command {
            Command::GetEventRecords(_)
            | Command::ClearEventRecords(_)
            | Command::GetInfo(_)
            | Command::GetHostConfiguration(_)
            | Command::GetHostExtents(_)
            | Command::ListTags(_) => false,
            Command::SetConfiguration(_)
            | Command::InitiateAdd(_)
            | Command::InitiateRelease(_)
            | Command::AddReference(_)
            | Command::RemoveReference(_) => true,
        },
    }
}

#[cfg(test)]
mod tests;
