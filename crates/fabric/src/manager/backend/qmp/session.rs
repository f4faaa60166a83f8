//! A connection to the guests' QEMUs: one command at a time, told to the guests before it counts;
//! and what is asked back from them, when their logs have room and there is no command.

use std::{
    collections::{BTreeMap, VecDeque},
    os::fd::{AsFd, BorrowedFd},
    time::Instant,
};

use memtide_cxl::{
    ReturnCode,
    command::HostId,
    manager::{Command, Reply},
};
use memtide_units::{DcExtent, DpaRange};
use rustix::event::PollFlags;

use super::{
    PATIENCE, QmpError,
    error::HearError,
    guests::Guests,
    lines::{Answer, Lines},
    log::Log,
    orders::{Order, What},
    shadow::{Shadow, Trial},
};
use crate::manager::backend::{Backend, BackendError, HostSays};

/// All guests of a device.
#[derive(Debug)]
pub(super) struct Session {
    guests: Guests,
    shadow: Shadow,
    work: Work,
    /// What a guest is being asked for, and until when QEMU may take to do it: while no guest is
    /// told what a command is.
    asking: Option<(Order, Instant)>,
    /// What agents said, and has not been played yet.
    heard: BTreeMap<HostId, Heard>,
    /// Whose QEMU said last that something could not be done, and what.
    complaint: Option<(u16, String)>,
}

/// Ranges that one host's agent may have answered, and nobody has looked at: more are forgotten.
const ANSWERED_MAX: usize = 4096;

/// What a guest's agent said.
#[derive(Debug, Default)]
struct Heard {
    /// What it has now.
    accepted: Option<Vec<DcExtent>>,
    /// What it has answered.
    answered: Vec<DpaRange>,
    /// What it has now, as it says, and cannot have as others stand: heard again when they change.
    disputed: Option<Vec<DcExtent>>,
    /// Why what it said last cannot be.
    complaint: Option<String>,
}

impl Heard {
    /// Only of what is offered now it is still worth knowing that it was answered: what is offered
    /// later is another offer, also of the same range.
    fn keep_answers_to(&mut self, offered: &[DpaRange]) {
        self.answered.retain(|range| offered.iter().any(|offer| offer.overlaps(*range)));
    }
}

/// What is done about the manager's command.
#[derive(Debug)]
enum Work {
    /// There is none.
    Idle,
    /// It waits for the guests' agents, or until what is being asked back is.
    Waiting(Command),
    /// A guest is told the first of these; it has so long to answer.
    Telling(Box<Trial>, VecDeque<Order>, Instant),
    /// It is done.
    Done(Reply),
}

impl Session {
    pub(super) fn new(guests: Vec<(Lines, String)>, shadow: Shadow) -> Result<Self, QmpError> {
        Ok(Self {
            guests: Guests::new(guests)?,
            shadow,
            work: Work::Idle,
            asking: None,
            heard: BTreeMap::new(),
            complaint: None,
        })
    }

    /// Begins what waits, once all guests are known and none is being asked for something. What
    /// guests are to be asked for waits for room in their logs.
    fn start(&mut self, command: Command) -> Result<Work, BackendError> {
        if self.shadow.unknown().is_some() || self.asking.is_some() {
            return Ok(Work::Waiting(command));
        }
        let now = Instant::now();
        let mut trial = self.shadow.try_command(&command)?;
        if let (Command::InitiateAdd(add), Err(ReturnCode::RETRY_REQUIRED)) =
            (&command, &trial.reply)
            && self.guests.has(add.host)
        {
            // As much is offered already as the log holds.
            self.guests.log(add.host).yield_room(now);
        }
        let orders = VecDeque::from(std::mem::take(&mut trial.orders)).into_iter();
        let (asks, orders): (VecDeque<Order>, VecDeque<Order>) =
            orders.partition(|order| order.what == What::Release);
        // What is offered and what is taken both make records.
        for order in &orders {
            let log = self.guests.log(HostId(order.host));
            if order.len() > log.room() {
                log.yield_room(now);
                return Ok(Work::Done(Err(ReturnCode::RETRY_REQUIRED)));
            }
        }
        for ask in asks {
            self.guests.log(HostId(ask.host)).ask(ask, now);
        }
        self.tell(Box::new(trial), orders)
    }

    /// Asks the next guest for something, if nothing else is told and there is room in its log.
    fn ask_back(&mut self) -> Result<(), QmpError> {
        if self.asking.is_some() || matches!(self.work, Work::Telling(..)) {
            return Ok(());
        }
        let shadow = &self.shadow;
        let now = Instant::now();
        let ask = |(host, log): (HostId, &mut Log)| log.next_ask(now, || shadow.held(host));
        let order = self.guests.logs().find_map(ask);
        if let Some(order) = order {
            self.guests.tell(&order)?;
            self.asking = Some((order, now + PATIENCE));
        }
        Ok(())
    }

    /// QEMU answered what a guest is asked for. What it refuses is not asked for; the manager asks
    /// again.
    fn asked(&mut self, order: &Order, answer: Answer) -> Result<(), QmpError> {
        self.note_answer(order, &answer)?;
        let log = self.guests.log(HostId(order.host));
        match answer {
            Answer::Return(_) => log.is_told(order),
            Answer::Error { .. } => log.is_not_told(),
        }
        Ok(())
    }

    /// Tells a guest the next thing; when all are told, it counts.
    fn tell(&mut self, trial: Box<Trial>, orders: VecDeque<Order>) -> Result<Work, BackendError> {
        let Some(order) = orders.front() else {
            let Trial { shadow, reply, .. } = *trial;
            self.shadow = shadow;
            self.hear_again();
            return Ok(Work::Done(reply));
        };
        self.guests.tell(order)?;
        Ok(Work::Telling(trial, orders, Instant::now() + PATIENCE))
    }

    /// QEMU answered what is part of a command.
    fn told(
        &mut self,
        trial: Box<Trial>,
        mut orders: VecDeque<Order>,
        answer: Answer,
    ) -> Result<Work, BackendError> {
        let Some(order) = orders.pop_front() else { return Ok(Work::Idle) };
        self.note_answer(&order, &answer)?;
        let log = self.guests.log(HostId(order.host));
        match answer {
            Answer::Return(_) => {
                log.is_told(&order);
                self.tell(trial, orders)
            }
            Answer::Error { class, .. } => {
                log.is_not_told();
                // What is there already or not yet may be otherwise soon: the guest's agent tells.
                let never = class == "CommandNotFound" || order.what == What::Take;
                let code = if never { ReturnCode::UNSUPPORTED } else { ReturnCode::RETRY_REQUIRED };
                Ok(Work::Done(Err(code)))
            }
        }
    }

    /// What people are to know of an answer of QEMU's.
    fn note_answer(&mut self, order: &Order, answer: &Answer) -> Result<(), QmpError> {
        match answer {
            Answer::Return(_) => self.forget_complaint(order.host),
            Answer::Error { class, description } if class == "DeviceNotFound" => {
                return Err(QmpError::Unplugged(description.clone()));
            }
            Answer::Error { description, .. } => {
                let complaint = format!("QEMU refused {}: {description}", order.command());
                self.complaint = Some((order.host, complaint));
            }
        }
        Ok(())
    }

    /// What a guest's QEMU did not do was of what is over now.
    fn forget_complaint(&mut self, host: u16) {
        self.complaint.take_if(|(of, _)| *of == host);
    }

    /// Plays what agents said into the shadow.
    fn listen(&mut self) -> Result<(), QmpError> {
        loop {
            let mut changed = Vec::new();
            for (&host, heard) in &mut self.heard {
                let Some(accepted) = heard.accepted.take() else { continue };
                match self.shadow.hear(host, &accepted, &heard.answered) {
                    Ok(()) => {
                        heard.answered.clear();
                        self.guests.log(host).keep_offers(&self.shadow.offered(host));
                        (heard.disputed, heard.complaint) = (None, None);
                        changed.push(host);
                    }
                    Err(HearError::Unasked { range }) => {
                        return Err(QmpError::Unasked { host: host.0, range });
                    }
                    Err(error) => {
                        heard.keep_answers_to(&self.shadow.offered(host));
                        heard.complaint = Some(format!("the agent of {host}: {error}"));
                        let may_be_yet =
                            matches!(error, HearError::Refused(_) | HearError::Claimed { .. });
                        heard.disputed = may_be_yet.then_some(accepted);
                    }
                }
            }
            if changed.is_empty() {
                return Ok(());
            }
            changed.into_iter().for_each(|host| self.forget_complaint(host.0));
            self.hear_again();
        }
    }

    /// Something has changed: what could not be may be now.
    fn hear_again(&mut self) {
        for heard in self.heard.values_mut() {
            heard.accepted = heard.accepted.take().or_else(|| heard.disputed.take());
        }
    }

    #[cfg(test)]
    pub(super) const fn shadow(&self) -> &Shadow {
        &self.shadow
    }

    /// What a guest is told now, and until when QEMU may take for it.
    fn telling(&self) -> Option<(&Order, Instant)> {
        match &self.work {
            Work::Telling(_, orders, until) => orders.front().map(|order| (order, *until)),
            _ => self.asking.as_ref().map(|(order, until)| (order, *until)),
        }
    }

    /// QEMU answered.
    fn answered(&mut self, answer: Answer) -> Result<(), BackendError> {
        match std::mem::replace(&mut self.work, Work::Idle) {
            Work::Telling(trial, orders, _) => self.work = self.told(trial, orders, answer)?,
            work => {
                self.work = work;
                if let Some((order, _)) = self.asking.take() {
                    self.asked(&order, answer)?;
                }
            }
        }
        Ok(())
    }

    /// Does what can be done now.
    fn advance(&mut self) -> Result<(), BackendError> {
        let asked = self.telling().map(|(order, _)| order.host);
        match self.guests.answer(asked)? {
            Some(answer) => self.answered(answer)?,
            None => {
                if let Some((order, _)) = self.telling().filter(|(_, at)| *at <= Instant::now()) {
                    let command = order.command();
                    return Err(QmpError::Late { command, waited: PATIENCE }.into());
                }
            }
        }
        // What happens after a reply was made is told after it: the manager takes a log that was
        // empty then for empty.
        if matches!(self.work, Work::Idle | Work::Waiting(_)) {
            self.listen()?;
        }
        self.work = match std::mem::replace(&mut self.work, Work::Idle) {
            Work::Waiting(command) => self.start(command)?,
            work => work,
        };
        self.ask_back()?;
        Ok(self.guests.arm()?)
    }
}

impl Backend for Session {
    fn serial(&self) -> u64 {
        self.shadow.serial()
    }

    fn begin(&mut self, command: &Command) -> Result<(), BackendError> {
        self.listen()?;
        self.work = self.start(command.clone())?;
        self.ask_back()?;
        Ok(self.guests.arm()?)
    }

    fn finish(&mut self) -> Result<Option<Reply>, BackendError> {
        self.advance()?;
        match std::mem::replace(&mut self.work, Work::Idle) {
            Work::Done(reply) => Ok(Some(reply)),
            work => {
                self.work = work;
                Ok(None)
            }
        }
    }

    fn take_events_pending(&mut self) -> bool {
        self.shadow.take_events_pending()
    }

    fn descriptor(&self) -> (BorrowedFd<'_>, PollFlags) {
        (self.guests.as_fd(), PollFlags::IN)
    }

    fn due(&self) -> Option<Instant> {
        let now = match &self.work {
            Work::Done(_) => true,
            Work::Telling(..) => false,
            Work::Idle | Work::Waiting(_) => {
                self.heard.values().any(|heard| heard.accepted.is_some())
            }
        };
        let later = self.telling().map_or_else(|| self.guests.due(), |(_, until)| Some(until));
        now.then(Instant::now).or(later)
    }

    fn hears_agents(&self) -> bool {
        true
    }

    fn host_says(&mut self, host: HostId, says: HostSays) {
        if !self.guests.has(host) {
            return;
        }
        let log = self.guests.log(host);
        match says {
            HostSays::Connected => log.is_greeted(),
            HostSays::Has { accepted, answered, looked } => {
                let heard = self.heard.entry(host).or_default();
                (heard.accepted, heard.disputed) = (Some(accepted), None);
                heard.answered.extend(log.is_seen(looked));
                heard.answered.extend(answered);
                heard.answered.truncate(ANSWERED_MAX);
            }
        }
    }

    fn take_looks(&mut self) -> Vec<(HostId, u64)> {
        self.guests.logs().filter_map(|(host, log)| Some((host, log.take_look()?))).collect()
    }

    fn problem(&self) -> Option<String> {
        let waits = |host| {
            format!("no agent of host {host} has said yet what it has accepted; expected one")
        };
        let is_full =
            |host| format!("no room in the event log of {host}; expected its agent to look at it");
        let said = self.heard.values().find_map(|heard| heard.complaint.clone());
        said.or_else(|| self.shadow.unknown().map(waits))
            .or_else(|| self.complaint.as_ref().map(|(_, complaint)| complaint.clone()))
            .or_else(|| self.guests.lacks_room().map(is_full))
    }
}

#[cfg(test)]
mod tests;
