//! A connection to the guests' QEMUs: one command at a time, told to the guests before it counts.

use std::{
    collections::{BTreeMap, VecDeque},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Instant,
};

use memtide_cxl::{
    ReturnCode,
    command::HostId,
    manager::{Command, Reply},
};
use memtide_units::{DcExtent, DpaRange};
use rustix::event::{PollFlags, epoll};

use super::{
    PATIENCE, QmpError,
    error::HearError,
    lines::{Answer, Lines},
    orders::{Order, What},
    shadow::{Shadow, Trial},
};
use crate::manager::backend::{Backend, BackendError, HostSays};

/// All guests of a device.
#[derive(Debug)]
pub(super) struct Session {
    guests: Vec<Guest>,
    /// Readable when one of the sockets is.
    sockets: OwnedFd,
    shadow: Shadow,
    work: Work,
    /// What agents said, and has not been played yet.
    heard: BTreeMap<HostId, Heard>,
    /// What QEMU said last that could not be done.
    complaint: Option<String>,
    /// Why the connection is over, which nobody has been told yet.
    failed: Option<BackendError>,
}

#[derive(Debug)]
struct Guest {
    lines: Lines,
    /// Where the device is in QEMU's object model.
    path: String,
    /// What the socket is waited for.
    armed: PollFlags,
}

/// Ranges that one host's agent may have answered, and nobody has looked at: more are forgotten.
const ANSWERED_MAX: usize = 4096;

/// What a guest's agent said.
#[derive(Debug, Default)]
struct Heard {
    /// What its next word settles: what was offered when it connected.
    settles: Vec<DpaRange>,
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
    /// It waits for the guests' agents.
    Waiting(Command),
    /// A guest is told the first of these; it has so long to answer.
    Telling(Box<Trial>, VecDeque<Order>, Instant),
    /// It is done.
    Done(Reply),
}

impl Session {
    pub(super) fn new(guests: Vec<(Lines, String)>, shadow: Shadow) -> Result<Self, QmpError> {
        let socket = |error: rustix::io::Errno| QmpError::Socket(error.into());
        let sockets = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(socket)?;
        let mut all = Vec::new();
        for (number, (lines, path)) in guests.into_iter().enumerate() {
            let data = epoll::EventData::new_u64(number as u64);
            epoll::add(&sockets, &lines, data, epoll::EventFlags::IN).map_err(socket)?;
            all.push(Guest { lines, path, armed: PollFlags::IN });
        }
        let (work, heard) = (Work::Idle, BTreeMap::new());
        Ok(Self { guests: all, sockets, shadow, work, heard, complaint: None, failed: None })
    }

    /// Waits for what is waited for, and no more.
    fn arm(&mut self) -> Result<(), QmpError> {
        for (number, guest) in self.guests.iter_mut().enumerate() {
            let interest = guest.lines.interest();
            if interest == guest.armed {
                continue;
            }
            let mut flags = epoll::EventFlags::IN;
            flags.set(epoll::EventFlags::OUT, interest.contains(PollFlags::OUT));
            let data = epoll::EventData::new_u64(number as u64);
            let changed = epoll::modify(&self.sockets, &guest.lines, data, flags);
            changed.map_err(|error| QmpError::Socket(error.into()))?;
            guest.armed = interest;
        }
        Ok(())
    }

    /// Begins what waits, once all guests are known.
    fn start(&mut self, command: Command) -> Result<Work, BackendError> {
        if self.shadow.unknown().is_some() {
            return Ok(Work::Waiting(command));
        }
        let trial = self.shadow.try_command(&command)?;
        let orders: VecDeque<Order> = trial.orders.iter().cloned().collect();
        self.tell(Box::new(trial), orders)
    }

    /// Tells a guest the next thing; when all are told, it counts.
    fn tell(&mut self, trial: Box<Trial>, orders: VecDeque<Order>) -> Result<Work, BackendError> {
        let Some(order) = orders.front() else {
            let Trial { shadow, reply, .. } = *trial;
            self.shadow = shadow;
            self.hear_again();
            return Ok(Work::Done(reply));
        };
        let guest = &mut self.guests[usize::from(order.host)];
        guest.lines.begin(order.command(), &order.arguments(&guest.path))?;
        Ok(Work::Telling(trial, orders, Instant::now() + PATIENCE))
    }

    /// QEMU answered.
    fn told(
        &mut self,
        trial: Box<Trial>,
        mut orders: VecDeque<Order>,
        answer: Answer,
    ) -> Result<Work, BackendError> {
        let Some(order) = orders.pop_front() else { return Ok(Work::Idle) };
        match answer {
            Answer::Return(_) => {
                self.complaint = None;
                self.tell(trial, orders)
            }
            Answer::Error { class, description } if class == "DeviceNotFound" => {
                Err(QmpError::Unplugged(description).into())
            }
            Answer::Error { class, description } => {
                // What is there already or not yet may be otherwise soon: the guest's agent tells.
                let never = class == "CommandNotFound" || order.what == What::Take;
                let code = if never { ReturnCode::UNSUPPORTED } else { ReturnCode::RETRY_REQUIRED };
                let command = order.command();
                self.complaint = Some(format!("QEMU refused {command}: {description}"));
                // What was not offered has not been answered.
                for (&host, heard) in &mut self.heard {
                    let offered = self.shadow.offered(host);
                    heard.settles.retain(|range| offered.contains(range));
                }
                Ok(Work::Done(Err(code)))
            }
        }
    }

    /// Plays what agents said into the shadow.
    fn listen(&mut self) -> Result<(), QmpError> {
        loop {
            let mut changed = false;
            for (&host, heard) in &mut self.heard {
                let Some(accepted) = heard.accepted.take() else { continue };
                match self.shadow.hear(host, &accepted, &heard.answered) {
                    Ok(()) => {
                        heard.answered.clear();
                        (heard.disputed, heard.complaint) = (None, None);
                        changed = true;
                    }
                    Err(HearError::Unasked { range }) => {
                        return Err(QmpError::Unasked { host: host.0, range });
                    }
                    Err(error) => {
                        heard.keep_answers_to(&self.shadow.offered(host));
                        heard.complaint = Some(format!("the agent of {host}: {error}"));
                        let may_be_yet = matches!(error, HearError::Refused(_));
                        heard.disputed = may_be_yet.then_some(accepted);
                    }
                }
            }
            if !changed {
                return Ok(());
            }
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

    /// What a guest may have been offered by now.
    fn maybe_offered(&self, host: HostId) -> Vec<DpaRange> {
        let mut offered = self.shadow.offered(host);
        if let Work::Telling(trial, orders, _) = &self.work {
            let is_its = |order: &Order| order.host == host.0 && order.what == What::Add;
            if !orders.iter().skip(1).any(is_its) {
                offered.extend(trial.shadow.offered(host));
            }
        }
        offered
    }

    /// What came on the sockets. Only the guest that was asked may answer.
    fn read(&mut self) -> Result<Option<Answer>, BackendError> {
        let asked = match &self.work {
            Work::Telling(_, orders, _) => orders.front().map(|order| usize::from(order.host)),
            _ => None,
        };
        let mut found = None;
        for (number, guest) in self.guests.iter_mut().enumerate() {
            let Some(answer) = guest.lines.answer()? else { continue };
            if asked != Some(number) || found.is_some() {
                return Err(BackendError::OtherAnswer);
            }
            found = Some(answer);
        }
        Ok(found)
    }
}

impl Session {
    /// Does what can be done now.
    fn advance(&mut self) -> Result<(), BackendError> {
        let answer = self.read()?;
        self.work = match (std::mem::replace(&mut self.work, Work::Idle), answer) {
            (Work::Telling(trial, orders, _), Some(answer)) => self.told(trial, orders, answer)?,
            (Work::Telling(_, orders, until), None) if until <= Instant::now() => {
                let command = orders.front().map_or("a command", Order::command);
                return Err(QmpError::Late { command, waited: PATIENCE }.into());
            }
            (work, _) => work,
        };
        // What happens after a reply was made is told after it: the manager takes a log that was
        // empty then for empty.
        if matches!(self.work, Work::Idle | Work::Waiting(_)) {
            self.listen()?;
        }
        self.work = match std::mem::replace(&mut self.work, Work::Idle) {
            Work::Waiting(command) => self.start(command)?,
            work => work,
        };
        Ok(self.arm()?)
    }
}

impl Backend for Session {
    fn serial(&self) -> u64 {
        self.shadow.serial()
    }

    fn begin(&mut self, command: &Command) -> Result<(), BackendError> {
        self.listen()?;
        self.work = self.start(command.clone())?;
        self.arm()?;
        Ok(())
    }

    fn finish(&mut self) -> Result<Option<Reply>, BackendError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
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
        (self.sockets.as_fd(), PollFlags::IN)
    }

    fn due(&self) -> Option<Instant> {
        match &self.work {
            _ if self.failed.is_some() => Some(Instant::now()),
            Work::Done(_) => Some(Instant::now()),
            Work::Telling(_, _, until) => Some(*until),
            Work::Idle | Work::Waiting(_) => {
                let is_heard = self.heard.values().any(|heard| heard.accepted.is_some());
                is_heard.then(Instant::now)
            }
        }
    }

    fn hears_agents(&self) -> bool {
        true
    }

    fn host_says(&mut self, host: HostId, says: HostSays) {
        match says {
            HostSays::Connected => {
                // An offer that QEMU has made by now may have been answered by now.
                self.failed = self.failed.take().or_else(|| self.advance().err());
                let settles = self.maybe_offered(host);
                self.heard.entry(host).or_default().settles = settles;
            }
            HostSays::Has { accepted, answered } => {
                let heard = self.heard.entry(host).or_default();
                (heard.accepted, heard.disputed) = (Some(accepted), None);
                heard.answered.extend(std::mem::take(&mut heard.settles));
                heard.answered.extend(answered);
                heard.answered.truncate(ANSWERED_MAX);
            }
        }
    }

    fn problem(&self) -> Option<String> {
        let waits = |host| {
            format!("no agent of host {host} has said yet what it has accepted; expected one")
        };
        let said = self.heard.values().find_map(|heard| heard.complaint.clone());
        said.or_else(|| self.shadow.unknown().map(waits)).or_else(|| self.complaint.clone())
    }
}
