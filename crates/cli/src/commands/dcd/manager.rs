//! What `memtide dcd serve` tells a fabric manager: what this host has accepted, how much of it is
//! in use, and who holds what it is asked for.
//!
//! The device is served first. A turn of this comes after each look at the device, and waits for
//! nothing: connecting happens in a thread that ends in time, what the manager does not read is
//! queued up to a limit, and a manager that is gone is tried again at longer and longer intervals.
//! It is told everything anew then: first what this host has, once the device has been looked at
//! after the welcome. So a manager knows that what it had offered before is answered. Of what it
//! offers and asks back later it knows when it asks for a look at the device
//! ([`FromManager::Look`]): what it is told next names that look.

use std::{
    io,
    os::fd::OwnedFd,
    sync::mpsc::{self, Receiver, TryRecvError},
    thread,
    time::{Duration, Instant},
};

use memtide_fabric::{
    Address,
    channel::{Channel, Incoming},
    frame,
    wire::{
        FromManager, HeldBy, HostAnswer, MAX_FRAME_BYTES, MAX_HOLDERS, MAX_TOLD_EXTENTS, ToManager,
        VERSION,
    },
};
use memtide_host::{
    dcd::Report,
    give_back::answer::{Answer, Holder, Reason},
};
use memtide_units::{ByteSize, DcExtent, DpaRange, HoldReason};

/// Between two tries to connect, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// How long connecting may take, and being welcomed.
const PATIENCE: Duration = Duration::from_secs(5);
/// Frames that are taken of the manager in a turn: it does not keep this host from its device.
const FRAMES_A_TURN: usize = 16;
/// How often is looked how much is in use.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What this host has at this moment.
pub struct Has<'a> {
    /// All that is accepted.
    pub accepted: Vec<DcExtent>,
    /// What was offered and has been answered since the last turn.
    pub answered: Vec<DpaRange>,
    /// How much of it is in use.
    pub used: &'a dyn Fn() -> ByteSize,
}

enum Connection {
    /// Tried again later.
    Waiting(Instant),
    /// On its way.
    Connecting(Receiver<io::Result<OwnedFd>>),
    /// Not welcomed yet, which is waited for until then.
    Greeting(Channel, Instant),
    /// Welcomed; in the next turn, the device has been looked at since.
    Fresh(Channel),
    /// Told what this host has.
    Told(Channel),
}

/// What there is to say of a look at the device.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    /// It is asked for. The next turn comes after it.
    Due,
    /// Nothing.
    Told,
}

/// Tells a manager.
pub struct Teller {
    at: Address,
    host: String,
    serial: u64,
    connection: Connection,
    pause: Duration,
    /// Since when it is welcome.
    welcomed: Option<Instant>,
    /// What it was told last on this connection.
    accepted: Vec<DcExtent>,
    /// What it has not been told.
    answered: Vec<DpaRange>,
    /// The last look at the device that it asked for on this connection, and whether it has been
    /// told of one since.
    look: (u64, Look),
    uses: Option<(u64, u64)>,
    looked: Option<Instant>,
    answer: Option<HostAnswer>,
    answer_is_new: bool,
    /// What was said of a connection that did not come about.
    complaint: Option<String>,
}

impl Teller {
    /// Who tells the manager at this address what `host` has of the device of this serial number.
    pub fn new(at: Address, host: String, serial: u64) -> Self {
        Self {
            at,
            host,
            serial,
            connection: Connection::Waiting(Instant::now()),
            pause: PAUSES.0,
            welcomed: None,
            accepted: Vec::new(),
            answered: Vec::new(),
            look: (0, Look::Told),
            uses: None,
            looked: None,
            answer: None,
            answer_is_new: false,
            complaint: None,
        }
    }

    /// Something happened to the device.
    pub fn hear(&mut self, report: &Report) {
        let Report::AskedBack { asked, free, answer } = report else { return };
        let (asked, released) = (asked.0, free.0.min(asked.0));
        let holders = answer.iter().flat_map(|answer: &Answer| &answer.holders);
        self.answer = Some(HostAnswer {
            serial: self.serial,
            asked,
            released,
            remaining: asked - released,
            holders: holders.take(MAX_HOLDERS).map(held_by).collect(),
        });
        self.answer_is_new = true;
    }

    /// Does what can be done now.
    pub fn turn(&mut self, has: Has<'_>, say: &mut dyn FnMut(Report)) {
        self.answered.extend(&has.answered);
        // What was answered before a manager connects stands in what it is told first.
        let surplus = self.answered.len().saturating_sub(MAX_TOLD_EXTENTS);
        self.answered.drain(..surplus);
        let now = Instant::now();
        let connection = std::mem::replace(&mut self.connection, Connection::Waiting(now));
        self.connection = match connection {
            Connection::Waiting(again) if again > now => Connection::Waiting(again),
            Connection::Waiting(_) => self.connect(),
            Connection::Connecting(result) => self.connected(result, say),
            Connection::Greeting(channel, until) => self.greeted(channel, until, say),
            Connection::Fresh(mut channel) => {
                self.tell_all(&mut channel, has, say);
                self.go_on(channel, say)
            }
            Connection::Told(mut channel) => {
                self.tell_changes(&mut channel, has, say);
                self.go_on(channel, say)
            }
        };
    }

    fn connect(&self) -> Connection {
        let (sender, result) = mpsc::channel();
        let at = self.at.clone();
        let connect = move || {
            // Nobody may be listening any more.
            let _ = sender.send(at.connect(PATIENCE));
        };
        match thread::Builder::new().name("connecting".to_owned()).spawn(connect) {
            Ok(_) => Connection::Connecting(result),
            Err(_) => Connection::Waiting(Instant::now() + self.pause),
        }
    }

    fn connected(
        &mut self,
        result: Receiver<io::Result<OwnedFd>>,
        say: &mut dyn FnMut(Report),
    ) -> Connection {
        match result.try_recv() {
            Ok(Ok(socket)) => {
                let mut channel = Channel::new(socket, MAX_FRAME_BYTES);
                let hello = ToManager::Hello { version: VERSION, host: self.host.clone() };
                send(&mut channel, &hello);
                Connection::Greeting(channel, Instant::now() + PATIENCE)
            }
            Ok(Err(error)) => self.lose(Some(error.to_string()), say),
            Err(TryRecvError::Empty) => Connection::Connecting(result),
            Err(TryRecvError::Disconnected) => self.lose(None, say),
        }
    }

    fn greeted(
        &mut self,
        mut channel: Channel,
        until: Instant,
        say: &mut dyn FnMut(Report),
    ) -> Connection {
        channel.flush();
        match channel.receive() {
            Incoming::Frame(body) => match frame::decode(&body) {
                Ok(FromManager::Welcome { version: VERSION }) => {
                    (self.welcomed, self.complaint) = (Some(Instant::now()), None);
                    let what = format!("telling the manager at {} as {}", self.at, self.host);
                    say(Report::Note { what });
                    Connection::Fresh(channel)
                }
                Ok(FromManager::Refused(why)) => self.lose(Some(why), say),
                Ok(FromManager::Welcome { version }) => {
                    let why = format!("it speaks version {version}; expected {VERSION}");
                    self.lose(Some(why), say)
                }
                _ => self.lose(Some("it speaks another language".to_owned()), say),
            },
            Incoming::Nothing if until > Instant::now() && !channel.is_over() => {
                Connection::Greeting(channel, until)
            }
            Incoming::Nothing => self.lose(Some("it does not answer".to_owned()), say),
            Incoming::Garbage(error) => self.lose(Some(error.to_string()), say),
            Incoming::Closed => self.lose(Some("it closed the connection".to_owned()), say),
        }
    }

    fn tell_all(&mut self, channel: &mut Channel, has: Has<'_>, say: &mut dyn FnMut(Report)) {
        (self.uses, self.looked) = (None, None);
        self.look = (0, Look::Told);
        self.tell_extents(channel, &has.accepted, say);
        self.tell_use(channel, &has);
        self.answer_is_new = self.answer.is_some();
        self.tell_answer(channel);
        self.accepted = has.accepted;
    }

    fn tell_changes(&mut self, channel: &mut Channel, has: Has<'_>, say: &mut dyn FnMut(Report)) {
        let is_asked = self.look.1 == Look::Due;
        if has.accepted != self.accepted || !self.answered.is_empty() || is_asked {
            self.look.1 = Look::Told;
            self.tell_extents(channel, &has.accepted, say);
        }
        self.tell_use(channel, &has);
        // After what is gone: the manager looks whether both agree.
        self.tell_answer(channel);
        self.accepted = has.accepted;
    }

    fn tell_extents(
        &mut self,
        channel: &mut Channel,
        accepted: &[DcExtent],
        say: &mut dyn FnMut(Report),
    ) {
        let answered = std::mem::take(&mut self.answered);
        let most = accepted.len().max(answered.len());
        if most > MAX_TOLD_EXTENTS {
            let what = format!(
                "the manager cannot be told of {most} extents; expected {MAX_TOLD_EXTENTS} or fewer"
            );
            return say(Report::Trouble { what });
        }
        let (serial, accepted, looked) = (self.serial, accepted.to_vec(), self.look.0);
        send(channel, &ToManager::Extents { serial, accepted, answered, looked });
    }

    fn tell_use(&mut self, channel: &mut Channel, has: &Has<'_>) {
        let now = Instant::now();
        let is_same = has.accepted == self.accepted && self.uses.is_some();
        if is_same && self.looked.is_some_and(|looked| now < looked + LOOK_EVERY) {
            return;
        }
        self.looked = Some(now);
        let accepted = has.accepted.iter().fold(0_u64, |sum, e| sum.saturating_add(e.range.length));
        let used = (has.used)().0.min(accepted);
        if self.uses != Some((accepted, used)) {
            self.uses = Some((accepted, used));
            send(channel, &ToManager::Uses { serial: self.serial, accepted, used });
        }
    }

    fn tell_answer(&mut self, channel: &mut Channel) {
        if let (Some(answer), true) = (&self.answer, self.answer_is_new) {
            self.answer_is_new = false;
            send(channel, &ToManager::Answer(answer.clone()));
        }
    }

    /// Hears some of what the manager says, if the connection is still there.
    fn go_on(&mut self, mut channel: Channel, say: &mut dyn FnMut(Report)) -> Connection {
        channel.flush();
        for _ in 0..FRAMES_A_TURN {
            match channel.receive() {
                Incoming::Frame(body) => match frame::decode(&body) {
                    Ok(FromManager::Taken { serial, extents }) if serial == self.serial => {
                        let bytes: u64 = extents
                            .iter()
                            .fold(0, |sum, extent| sum.saturating_add(extent.range.length));
                        let what = format!("the manager took {} by force", ByteSize(bytes));
                        say(Report::Note { what });
                    }
                    Ok(FromManager::Look { serial, number }) if serial == self.serial => {
                        self.look = (number, Look::Due);
                    }
                    Ok(FromManager::Taken { .. } | FromManager::Look { .. }) => {}
                    Ok(FromManager::Refused(why)) => return self.lose(Some(why), say),
                    _ => return self.lose(Some("it speaks another language".to_owned()), say),
                },
                Incoming::Nothing if !channel.is_over() => return Connection::Told(channel),
                Incoming::Garbage(error) => return self.lose(Some(error.to_string()), say),
                Incoming::Nothing | Incoming::Closed => {
                    return self.lose(Some("it closed the connection".to_owned()), say);
                }
            }
        }
        Connection::Told(channel)
    }

    /// The connection is over, or did not come about; that is said when it is something new.
    fn lose(&mut self, why: Option<String>, say: &mut dyn FnMut(Report)) -> Connection {
        if let Some(why) = why.filter(|why| self.complaint.as_ref() != Some(why)) {
            let what = format!("no manager at {}: {why}; it is tried again", self.at);
            say(Report::Note { what });
            self.complaint = Some(why);
        }
        let now = Instant::now();
        // A manager that welcomes and then ends it is not tried again at once for ever.
        if self.welcomed.take().is_some_and(|since| now >= since + PAUSES.1) {
            self.pause = PAUSES.0;
        }
        let again = now + self.pause;
        self.pause = (self.pause * 2).min(PAUSES.1);
        Connection::Waiting(again)
    }
}

/// Queues a message, and sends what the other end takes.
fn send(channel: &mut Channel, message: &ToManager) {
    // All are made to fit into a frame.
    let _ = channel.send(message, None);
    channel.flush();
}

fn held_by(holder: &Holder) -> HeldBy {
    let held_by = HeldBy {
        tenant: Some(holder.tenant.clone()),
        program: Some(holder.name.clone()),
        pid: (holder.pid != 0).then_some(holder.pid),
        bytes: holder.bytes.0,
        reason: reason(holder.reason),
    };
    // A control group may have as long a path as whoever made it likes.
    held_by.shortened()
}

/// The nearest of the reasons that a manager knows.
const fn reason(reason: Reason) -> HoldReason {
    match reason {
        Reason::Hold(reason) => reason,
        Reason::Pinned => HoldReason::LongTermPin,
        Reason::NotInTime => HoldReason::Moving,
        Reason::HugePages => HoldReason::NoRoom,
        Reason::BoundToNode => HoldReason::NoMigration,
        Reason::KernelMemory | Reason::Refused => HoldReason::MoveFailed,
    }
}

#[cfg(test)]
mod tests;
