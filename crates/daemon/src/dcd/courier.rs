//! One thread that talks to one device.
//!
//! A device answers when it likes, and a fabric may be away for an hour. The daemon's loop waits
//! for neither: a courier connects, and again with growing pauses when the connection is lost;
//! carries orders there, one after the other, in the order in which they were given; and brings
//! back what was said. It decides nothing and remembers nothing.
//!
//! Every connection is a *session*, with a number. An order is for one session: after a
//! reconnect it is for the daemon to look at the device's list and to say anew what is to be done.
//! Records are brought in batches; the next comes when the daemon has said what of the last to
//! clear, so that no record is told twice, and none is cleared that was not heard.

use std::{
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        mpsc::{Receiver, Sender, TryRecvError},
    },
    time::Duration,
};

use memtide_cxl::{
    ReturnCode,
    command::{
        More, dynamic_capacity as dc,
        events::{self, Clear, ClearEventRecords, EventLog, EventRecords, GetEventRecords},
    },
};
use memtide_engine::dynamic_capacity::ChainId;
use memtide_fabric::{
    Address, Link, LinkError,
    wire::{Role, Welcome},
};
use memtide_units::{DcExtent, DpaRange};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};

use crate::daemon::StopHandle;

/// Between losing a connection and the first try to have another.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// Between two tries at most.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Extents asked for with one command; a device tells as many as its payload holds.
const EXTENTS_ASKED: u32 = 4096;
/// Extents told with one command: eight bytes and 24 for each in a payload of 4 KiB, which is what
/// devices take at least that take lists at all.
const EXTENTS_TOLD: usize = (4096 - 8) / 24;
/// Most extents that a device may say were accepted.
const EXTENTS_MAX: usize = 1 << 20;
/// Handles that one 0101h names at most.
const HANDLES_MAX: usize = 255;
/// How often a list is read again that changed while it was read.
const LIST_TRIES: usize = 8;

/// Something for the device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    /// 4802h.
    Answer { chain: ChainId, accepted: Vec<DpaRange> },
    /// 4803h.
    Release { released: Vec<DpaRange> },
    /// 4802h with nothing, for an offer of which it is not known whether it was answered so.
    RefuseOldest,
    /// 0101h of these.
    Clear { handles: Vec<u16> },
    /// The next records. After every [`Word::Records`], and when those are cleared.
    Read,
    /// 4801h.
    List,
}

/// Something from the device.
#[derive(Debug)]
pub(crate) enum Word {
    /// It is there.
    Connected(Box<Session>),
    /// It is not.
    Away { why: LinkError },
    /// It logged this.
    Records(EventRecords),
    /// It cleared these.
    Cleared { handles: Vec<u16> },
    /// It took an answer, or not.
    Answered { chain: ChainId, outcome: Result<(), LinkError> },
    /// It did not take a release.
    NotReleased { why: LinkError },
    /// What this host has accepted.
    Listed { accepted: Vec<DcExtent> },
}

/// A connection, and what the device said at its start.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) number: u64,
    pub(crate) welcome: Welcome,
    pub(crate) memory: OwnedFd,
    pub(crate) configuration: dc::Configuration,
    pub(crate) accepted: Vec<DcExtent>,
}

/// The daemon's end.
#[derive(Debug)]
pub(crate) struct Courier {
    orders: Option<Sender<(u64, Order)>>,
    words: Receiver<(u64, Word)>,
    wake: Arc<OwnedFd>,
}

impl Courier {
    /// Starts a thread that tries for ever, and wakes the daemon when it has something to say.
    ///
    /// # Errors
    /// The kernel's, when it gives no thread or descriptor.
    pub(crate) fn start(fabric: Address, host: u16, daemon: StopHandle) -> std::io::Result<Self> {
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let wake = Arc::new(wake);
        let (orders, orders_out) = std::sync::mpsc::channel();
        let (words_in, words) = std::sync::mpsc::channel();
        let ear = Arc::clone(&wake);
        let mut errand = Errand {
            fabric,
            host,
            daemon,
            orders: orders_out,
            words: words_in,
            wake: ear,
            session: 0,
            reading: false,
            overflow: None,
            ended: false,
        };
        std::thread::Builder::new().name("dcd".to_owned()).spawn(move || errand.run())?;
        Ok(Self { orders: Some(orders), words, wake })
    }

    /// Gives an order for a session. One whose session is over is dropped.
    pub(crate) fn order(&self, session: u64, order: Order) {
        if let Some(orders) = &self.orders {
            // The thread ends only with this end.
            let _ = orders.send((session, order));
            nudge(&self.wake);
        }
    }

    /// What has been said, and in which session, if there is something.
    pub(crate) fn hear(&self) -> Option<(u64, Word)> {
        self.words.try_recv().ok()
    }
}

impl Drop for Courier {
    fn drop(&mut self) {
        self.orders = None;
        nudge(&self.wake);
    }
}

fn nudge(wake: &OwnedFd) {
    // An eventfd takes at least one event; then it is readable, which is all that is needed.
    let _ = rustix::io::write(wake, &1u64.to_ne_bytes());
}

/// The thread's end.
struct Errand {
    fabric: Address,
    host: u16,
    daemon: StopHandle,
    orders: Receiver<(u64, Order)>,
    words: Sender<(u64, Word)>,
    wake: Arc<OwnedFd>,
    session: u64,
    /// Records were brought that the daemon has not looked through yet.
    reading: bool,
    /// Lost records that were told of in this session.
    overflow: Option<events::Overflow>,
    ended: bool,
}

impl Errand {
    fn run(&mut self) {
        let mut pause = PAUSE_MIN;
        while !self.ended {
            self.session += 1;
            (self.reading, self.overflow) = (false, None);
            let mut connected = false;
            match self.serve(&mut connected) {
                Ok(()) => return,
                Err(why) => self.say(Word::Away { why }),
            }
            pause = if connected { PAUSE_MIN } else { (pause * 2).min(PAUSE_MAX) };
            let until = std::time::Instant::now() + pause;
            while !self.ended && std::time::Instant::now() < until {
                let left = until.saturating_duration_since(std::time::Instant::now());
                self.wait(None, Some(left));
                // Orders of a session that is over.
                while self.next_order().is_some() {}
            }
        }
    }

    fn say(&self, word: Word) {
        if self.words.send((self.session, word)).is_ok() {
            self.daemon.wake();
        }
    }

    /// One session; `Ok` when the daemon has ended.
    fn serve(&mut self, connected: &mut bool) -> Result<(), LinkError> {
        let mut link = Link::connect(&self.fabric, Role::Host(self.host))?;
        let configuration = link.command(&dc::GetConfiguration { count: 8, start: 0 })?;
        let accepted = list(&mut link)?;
        let capacity = link.welcome().capacity;
        let memory = link.take_memory().ok_or(LinkError::NoMemory { capacity })?;
        let (number, welcome) = (self.session, link.welcome().clone());
        *connected = true;
        let session = Session { number, welcome, memory, configuration, accepted };
        self.say(Word::Connected(Box::new(session)));
        self.read(&mut link)?;
        loop {
            while let Some((session, order)) = self.next_order() {
                if session == self.session {
                    self.carry(&mut link, order)?;
                }
            }
            if self.ended {
                return Ok(());
            }
            link.pump()?;
            if link.take_events_pending() {
                self.read(&mut link)?;
                continue;
            }
            self.wait(Some(&link), None);
        }
    }

    fn carry(&mut self, link: &mut Link, order: Order) -> Result<(), LinkError> {
        match order {
            Order::Answer { chain, accepted } => {
                let outcome = answer(link, &accepted)?;
                self.say(Word::Answered { chain, outcome });
            }
            Order::Release { released } => {
                // Each is complete by itself: what one has is not kept back by another.
                for part in released.chunks(EXTENTS_TOLD) {
                    let command = dc::Release { more: More::Last, released: part.to_vec() };
                    if let Err(why) = usable(link.command(&command))? {
                        self.say(Word::NotReleased { why });
                    }
                }
            }
            Order::RefuseOldest => {
                // That there is none is as well: the answer after it shows.
                let _ = answer(link, &[])?;
            }
            Order::Clear { handles } => {
                for part in handles.chunks(HANDLES_MAX) {
                    let what = Clear::Handles(part.to_vec());
                    let log = EventLog::DynamicCapacity;
                    link.command(&ClearEventRecords { log, what })?;
                    self.say(Word::Cleared { handles: part.to_vec() });
                }
            }
            Order::Read => {
                self.reading = false;
                self.read(link)?;
            }
            Order::List => {
                let accepted = list(link)?;
                self.say(Word::Listed { accepted });
            }
        }
        Ok(())
    }

    /// Brings the next records, unless the daemon is still busy with others.
    fn read(&mut self, link: &mut Link) -> Result<(), LinkError> {
        if self.reading {
            return Ok(());
        }
        let log = EventLog::DynamicCapacity;
        let records: EventRecords = link.command(&GetEventRecords { log })?;
        // Until the log is cleared the device says again how many it has lost.
        let lost = records.overflow != self.overflow && records.overflow.is_some();
        self.overflow = records.overflow;
        if lost || !records.records.is_empty() {
            self.reading = true;
            self.say(Word::Records(records));
        }
        Ok(())
    }

    fn next_order(&mut self) -> Option<(u64, Order)> {
        match self.orders.try_recv() {
            Ok(order) => Some(order),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => {
                self.ended = true;
                None
            }
        }
    }

    /// Until there is an order, or something of the device, or the time is up.
    fn wait(&self, link: Option<&Link>, limit: Option<Duration>) {
        let mut fds = vec![PollFd::new(&*self.wake, PollFlags::IN)];
        fds.extend(link.map(|link| PollFd::from_borrowed_fd(link.as_fd(), link.interest())));
        let limit = limit.map(|limit| Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(limit.subsec_nanos()),
        });
        // Errors (EINTR) and timeouts alike: look what there is.
        let _ = rustix::event::poll(&mut fds, limit.as_ref());
        let _ = rustix::io::read(&*self.wake, &mut [0; 8]);
    }
}

/// Answers the oldest offer, with as many commands as it takes. All are sent, so that the chain
/// ends whatever comes of its parts; the first refusal is the outcome.
fn answer(link: &mut Link, accepted: &[DpaRange]) -> Result<Result<(), LinkError>, LinkError> {
    let mut outcome = Ok(());
    for command in answers(accepted) {
        outcome = outcome.and(usable(link.command(&command))?);
    }
    Ok(outcome)
}

/// The same; the last, or only, command may be empty.
fn answers(accepted: &[DpaRange]) -> impl Iterator<Item = dc::AddResponse> {
    let count = accepted.len().div_ceil(EXTENTS_TOLD).max(1);
    (1..=count).map(move |number| {
        let from = (number - 1) * EXTENTS_TOLD;
        let to = accepted.len().min(from + EXTENTS_TOLD);
        let more = if number == count { More::Last } else { More::Follows };
        dc::AddResponse { more, accepted: accepted[from..to].to_vec() }
    })
}

/// What a device refuses is an outcome; what ends the link is not.
fn usable<T>(result: Result<T, LinkError>) -> Result<Result<T, LinkError>, LinkError> {
    match result {
        Err(error) if !error.leaves_link_usable() => Err(error),
        other => Ok(other),
    }
}

/// All that this host has accepted, as of one moment. A list that is cut short would read as a
/// loss, so there is none then.
fn list(link: &mut Link) -> Result<Vec<DcExtent>, LinkError> {
    for _ in 0..LIST_TRIES {
        if let Some(extents) = list_once(link)? {
            return Ok(extents);
        }
    }
    Err(no_list("one that changes whenever it is read"))
}

/// The same; nothing if it changed meanwhile.
fn list_once(link: &mut Link) -> Result<Option<Vec<DcExtent>>, LinkError> {
    let mut extents = Vec::new();
    let mut generation = None;
    loop {
        let start = u32::try_from(extents.len()).expect("no more than EXTENTS_MAX");
        let part = link.command(&dc::GetExtentList { count: EXTENTS_ASKED, start })?;
        let total = part.total as usize;
        if *generation.get_or_insert(part.generation) != part.generation {
            return Ok(None);
        }
        if total > EXTENTS_MAX {
            return Err(no_list("one of more than a million extents"));
        }
        let nothing = part.extents.is_empty();
        extents.extend(part.extents);
        match extents.len() {
            all if all >= total => return Ok(Some(extents)),
            _ if nothing => return Err(no_list("one that ends before its end")),
            _ => {}
        }
    }
}

const fn no_list(what: &'static str) -> LinkError {
    LinkError::Unexpected { what, expected: "a list of accepted extents" }
}

/// What a record tells of dynamic capacity.
pub(crate) fn event(record: &events::EventRecord) -> Option<events::DynamicCapacityEvent> {
    match record.body {
        events::EventBody::DynamicCapacity(event) => Some(event),
        events::EventBody::Other(_) => None,
    }
}

/// Whether a device may have refused an answer as it is not that of the oldest offer.
pub(crate) fn is_out_of_order(why: &LinkError) -> bool {
    matches!(why, LinkError::Device { code: ReturnCode::INVALID_INPUT, .. })
}

#[cfg(test)]
mod tests {
    use memtide_cxl::Payload;

    use super::*;

    #[test]
    fn every_answer_fits_into_a_small_payload_and_the_last_ends_the_chain() {
        for count in [0, 1, EXTENTS_TOLD, EXTENTS_TOLD + 1, 4096] {
            let all: Vec<DpaRange> = (0..count as u64).map(|n| DpaRange::new(2 * n, 1)).collect();
            let commands: Vec<_> = answers(&all).collect();
            assert!(commands.iter().all(|command| command.to_bytes().len() <= 4096));
            let (last, before) = commands.split_last().unwrap();
            assert_eq!(last.more, More::Last);
            assert!(before.iter().all(|part| part.more == More::Follows));
            let told: Vec<_> = commands.iter().flat_map(|part| part.accepted.clone()).collect();
            assert_eq!(told, all);
        }
        let released = vec![DpaRange::new(0, 1); EXTENTS_TOLD];
        let release = dc::Release { more: More::Last, released };
        assert!(release.to_bytes().len() <= 4096);
    }
}
