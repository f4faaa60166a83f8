//! A device behind a switch that this machine manages: commands go through the switch's mailbox in
//! tunnels (CXL 3.1, 7.6.7.3.1).
//!
//! Registers cannot be waited for: somebody has to look at them again and again. That is a thread of
//! the device's own, which has the mailbox ([`memtide_host::switch`]) and never more than one
//! command; the service's loop gives it one and goes on. An eventfd says that the answer is there.
//!
//! ```text
//!   loop ── begin ──▶ channel ──▶ thread ── 5300h ──▶ switch ──▶ device
//!     ◀── finish ──── channel, eventfd ◀──┘
//! ```
//!
//! A user-space process hears no interrupt of the switch's either, so the thread asks for event
//! records now and then, and leaves them in the log for the manager to read. A device without such
//! a log may have changed at any time: the manager reads it anew, less often.
//!
//! Pages are as long as the way allows: a mailbox can be smaller than what a manager asks for, and a
//! device with longer messages than the mailbox is told to keep them short (0004h). What a manager has
//! to say and does not fit, it is refused as the device would.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError},
    },
    thread,
    time::{Duration, Instant},
};

use memtide_cxl::{
    Command as _, Opcode, Payload, ReturnCode,
    command::{
        events::{EventLog, EventRecords, GetEventRecords},
        identify::Identify,
    },
    manager::{Command, Reply},
    tunnel::Route,
};
use memtide_host::{
    Root,
    switch::{PortAddress, SwitchError, SwitchMailbox},
};
use rustix::event::{EventfdFlags, PollFlags};

use super::{Backend, BackendError, Connector, PATIENCE};
use crate::LinkError;

/// How often a device is asked for event records.
const EVENTS_EVERY: Duration = Duration::from_millis(200);
/// How often a device without a log is read anew.
const NO_LOG_EVERY: Duration = Duration::from_secs(5);

/// How long connecting waits for who had the mailbox before: as long as a command takes, and more.
const BEFORE: Duration = Duration::from_secs(4);
/// Between two looks whether he is gone.
const PAUSE: Duration = Duration::from_millis(2);

/// What the answers with lists have around their lists, and how long a member is: 5603h and 5608h.
const EXTENTS_AROUND: usize = 24;
const EXTENT_BYTES: usize = 40;
const TAGS_AROUND: usize = 16;
const TAG_BYTES: usize = 84;

/// A device behind a port of a switch.
#[derive(Debug)]
pub struct CciConnector {
    root: Root,
    address: PortAddress,
    /// The last connection's thread has the other end for as long as it runs.
    before: Mutex<Weak<()>>,
}

impl CciConnector {
    /// Behind a switch of this machine.
    #[must_use]
    pub fn new(address: PortAddress) -> Self {
        Self::on(Root::live(), address)
    }

    /// Behind a switch of the machine in this folder.
    #[must_use]
    pub const fn on(root: Root, address: PortAddress) -> Self {
        Self { root, address, before: Mutex::new(Weak::new()) }
    }

    /// Waits until the last connection's thread has ended: what it was about to do would come after
    /// what is decided now.
    fn wait_for(before: &Weak<()>) {
        let end = Instant::now() + BEFORE;
        while before.strong_count() > 0 && Instant::now() < end {
            thread::sleep(PAUSE);
        }
    }
}

impl Connector for CciConnector {
    fn connect(&self) -> Result<Box<dyn Backend>, BackendError> {
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        Self::wait_for(&before);
        let mut mailbox = SwitchMailbox::open(&self.root, self.address.function())?;
        let route = self.address.route().clone();
        let identity = mailbox.ask_through(&route, &Identify)?;
        mailbox.bound_answers(&route, identity.message_log2_max)?;
        let serial = identity.serial;
        // Said here, where it is a sentence; the manager reads it again.
        mailbox.dynamic_capacity(&route)?;
        let room = route.room(mailbox.room());
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let bell =
            rustix::event::eventfd(0, flags).map_err(|error| BackendError::System(error.into()))?;
        let (commands, to_do) = mpsc::channel();
        let (done, answers) = mpsc::channel();
        let events = Arc::new(AtomicBool::new(false));
        let running = Arc::new(());
        *before = Arc::downgrade(&running);
        let abandoned = Arc::new(AtomicBool::new(false));
        mailbox.give_up_when(Arc::clone(&abandoned));
        let worker = Worker {
            _running: running,
            mailbox,
            route,
            to_do,
            done,
            bell: bell.try_clone().map_err(BackendError::System)?,
            events: Arc::clone(&events),
        };
        thread::Builder::new()
            .name("switch".to_owned())
            .spawn(move || worker.work())
            .map_err(BackendError::System)?;
        Ok(Box::new(CciBackend {
            serial,
            room,
            commands,
            answers,
            bell,
            events,
            abandoned,
            asked: None,
        }))
    }

    fn address(&self) -> String {
        format!("cci:{}", self.address)
    }
}

/// What comes of a command: the device's code and payload.
type Answer = Result<(ReturnCode, Vec<u8>), SwitchError>;

struct CciBackend {
    serial: u64,
    /// The longest payload that gets through.
    room: usize,
    commands: Sender<(Opcode, Vec<u8>)>,
    answers: Receiver<Answer>,
    /// Readable once there is an answer, or an event.
    bell: OwnedFd,
    /// Set by the thread, taken by the loop. Nothing else is published by it, so any order will do;
    /// who saw it late would see it set again at the next look.
    events: Arc<AtomicBool>,
    /// Nobody wants what the thread has not done yet.
    abandoned: Arc<AtomicBool>,
    /// What is in flight, and when its answer is late.
    asked: Option<(Command, Instant)>,
}

impl Backend for CciBackend {
    fn serial(&self) -> u64 {
        self.serial
    }

    fn begin(&mut self, command: &Command) -> Result<(), BackendError> {
        let command = fitting(command, self.room);
        let sent = self.commands.send((command.opcode(), command.to_bytes()));
        self.asked = Some((command, Instant::now() + PATIENCE));
        // A thread that has ended left the reason behind.
        sent.or_else(|_| self.finish().map(|_| ()))
    }

    fn finish(&mut self) -> Result<Option<Reply>, BackendError> {
        // Nothing to read is nothing new; who rings afterwards is heard the next time.
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
        match self.answers.try_recv() {
            Ok(answer) => {
                let (code, payload) = answer?;
                let Some((command, _)) = self.asked.take() else {
                    return Err(BackendError::OtherAnswer);
                };
                Ok(Some(command.reply(code, &payload)?))
            }
            Err(TryRecvError::Disconnected) => Err(LinkError::Closed.into()),
            Err(TryRecvError::Empty) => {
                let late = self.due().is_some_and(|until| until <= Instant::now());
                if late { Err(BackendError::Late { waited: PATIENCE }) } else { Ok(None) }
            }
        }
    }

    fn take_events_pending(&mut self) -> bool {
        self.events.swap(false, Ordering::Relaxed)
    }

    fn descriptor(&self) -> (BorrowedFd<'_>, PollFlags) {
        (self.bell.as_fd(), PollFlags::IN)
    }

    fn due(&self) -> Option<Instant> {
        self.asked.as_ref().map(|&(_, until)| until)
    }
}

impl Drop for CciBackend {
    fn drop(&mut self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }
}

/// The same command, for an answer that gets through: lists come in pages, of one member at least.
fn fitting(command: &Command, room: usize) -> Command {
    let page = |asked: u32, around: usize, each: usize| {
        let fit = room.saturating_sub(around) / each;
        asked.min(u32::try_from(fit).unwrap_or(u32::MAX)).max(1)
    };
    let mut command = command.clone();
    match &mut command {
        Command::GetHostExtents(get) => get.count = page(get.count, EXTENTS_AROUND, EXTENT_BYTES),
        Command::ListTags(list) => list.count = page(list.count, TAGS_AROUND, TAG_BYTES),
        _ => {}
    }
    command
}

/// Who has the mailbox.
struct Worker {
    _running: Arc<()>,
    mailbox: SwitchMailbox,
    route: Route,
    to_do: Receiver<(Opcode, Vec<u8>)>,
    done: Sender<Answer>,
    bell: OwnedFd,
    events: Arc<AtomicBool>,
}

impl Worker {
    /// Until nobody wants it any more, or something fails.
    fn work(mut self) {
        let mut look = Instant::now() + EVENTS_EVERY;
        loop {
            let patience = look.saturating_duration_since(Instant::now());
            match self.to_do.recv_timeout(patience) {
                Ok((opcode, payload)) => {
                    let answer = self.carry(opcode, payload);
                    let failed = answer.is_err();
                    if self.done.send(answer).is_err() || failed {
                        break;
                    }
                    self.ring();
                }
                Err(RecvTimeoutError::Timeout) => match self.look() {
                    Ok(pause) => look = Instant::now() + pause,
                    Err(error) => {
                        // Nobody may want to know any more.
                        let _ = self.done.send(Err(error));
                        break;
                    }
                },
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
        // Whoever hears it finds the channel as it is to be: with the reason in it, and closed.
        let bell = self.bell;
        drop(self.done);
        ring(&bell);
    }

    fn carry(&mut self, opcode: Opcode, payload: Vec<u8>) -> Answer {
        match self.mailbox.send(&self.route, opcode, payload) {
            // As a device refuses what its own mailbox has no room for.
            Err(SwitchError::TooLong { .. }) => {
                Ok((ReturnCode::INVALID_PAYLOAD_LENGTH, Vec::new()))
            }
            answer => answer,
        }
    }

    /// Whether there is anything in the log; returns when to look again.
    fn look(&mut self) -> Result<Duration, SwitchError> {
        let get = GetEventRecords { log: EventLog::DynamicCapacity };
        let opcode = GetEventRecords::OPCODE;
        let (code, payload) = self.mailbox.send(&self.route, opcode, get.to_bytes())?;
        let (pending, pause) = match code {
            // What cannot be read, the manager finds out itself.
            ReturnCode::SUCCESS => {
                let is_new = |got: EventRecords| !got.records.is_empty() || got.overflow.is_some();
                (EventRecords::decode(&payload).map_or(true, is_new), EVENTS_EVERY)
            }
            ReturnCode::RETRY_REQUIRED | ReturnCode::BUSY => (false, EVENTS_EVERY),
            _ => (true, NO_LOG_EVERY),
        };
        if pending {
            self.events.store(true, Ordering::Relaxed);
            self.ring();
        }
        Ok(pause)
    }

    fn ring(&self) {
        ring(&self.bell);
    }
}

/// Full, it is readable as it should be.
fn ring(bell: &OwnedFd) {
    let _ = rustix::io::write(bell, &1u64.to_ne_bytes());
}

#[cfg(test)]
mod tests {
    use memtide_cxl::command::{
        HostId,
        fabric_manager::{GetHostExtents, GetInfo, ListTags},
    };

    use super::*;

    #[test]
    fn pages_are_as_long_as_the_way_allows() {
        let extents =
            |count| Command::GetHostExtents(GetHostExtents { host: HostId(1), count, start: 7 });
        let tags = |count| Command::ListTags(ListTags { start: 7, count });
        for (room, of_extents, of_tags) in
            [(0, 1, 1), (240, 5, 2), (496, 11, 5), (2032, 32, 24), (65519, 32, 32)]
        {
            assert_eq!(fitting(&extents(32), room), extents(of_extents), "{room}");
            assert_eq!(fitting(&tags(32), room), tags(of_tags), "{room}");
        }
        let info = Command::GetInfo(GetInfo);
        assert_eq!(fitting(&info, 0), info);
    }
}
