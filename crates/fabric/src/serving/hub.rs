//! All connections of a server, waited for together.
//!
//! Who connects has a moment to introduce himself; of those who have not, only so many are kept,
//! and the newest come first: idle connections keep nobody out. Whoever has been introduced is
//! limited by the server, which knows how many there can be. A turn takes few frames of each
//! connection, so that one who talks much does not keep others waiting, and what is left is
//! remembered, for the descriptor of a connection whose bytes were read is not ready again.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::fd::BorrowedFd,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags},
    io::Errno,
};
use serde::Serialize;

use super::{Listener, Stop};
use crate::{
    Address,
    channel::{Channel, Incoming},
    link::timespec,
};

/// How long a connection may take to introduce itself.
pub const GREETING: Duration = Duration::from_secs(10);
/// Most connections that have not introduced themselves.
pub const STRANGERS_MAX: usize = 64;
/// Longest frame of a stranger.
pub const STRANGER_FRAME_BYTES: usize = 1024;
/// Frames that are taken of a connection before others have their turn.
pub const FRAMES_A_TURN: usize = 16;
/// After failing to accept a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The name of a connection; none is used twice.
pub type GuestId = u64;

#[derive(Debug)]
struct Guest {
    channel: Channel,
    /// Until when it has to introduce itself.
    stranger_until: Option<Instant>,
    /// The listener that it came in by.
    listener: usize,
}

/// All connections.
#[derive(Debug)]
pub struct Hub {
    listeners: Vec<Listener>,
    guests: BTreeMap<GuestId, Guest>,
    /// Those that may have frames here already.
    eager: BTreeSet<GuestId>,
    next: GuestId,
    accept_after: Option<Instant>,
    stop: Stop,
}

/// What there is to do.
#[derive(Debug, Default)]
pub struct Ready {
    /// Connections to receive from.
    pub guests: Vec<GuestId>,
    /// Of the descriptors that the server waits for besides: which are ready.
    pub others: Vec<usize>,
    /// No connection could be accepted, and why.
    pub accept_error: Option<io::Error>,
}

impl Hub {
    /// Nobody has connected yet.
    #[must_use]
    pub const fn new(listeners: Vec<Listener>, stop: Stop) -> Self {
        Self {
            listeners,
            guests: BTreeMap::new(),
            eager: BTreeSet::new(),
            next: 1,
            accept_after: None,
            stop,
        }
    }

    /// What it listens at.
    pub fn listeners(&self) -> impl Iterator<Item = &Listener> {
        self.listeners.iter()
    }

    /// What ends it.
    #[must_use]
    pub const fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Waits until something can be done, for one of us or of `others`, or it is `until`. Sends
    /// what can be sent, accepts who comes, ends who is over.
    ///
    /// # Errors
    /// Those of poll(2).
    pub fn wait(
        &mut self,
        others: &[(BorrowedFd<'_>, PollFlags)],
        until: Option<Instant>,
    ) -> io::Result<Ready> {
        for guest in self.guests.values_mut() {
            guest.channel.flush();
        }
        self.end_over(Instant::now());
        let (guests, others) = self.poll(others, until)?;
        let now = Instant::now();
        self.eager.extend(guests);
        let accept_error = if self.accept_after.is_none_or(|after| after <= now) {
            self.accept(now).err()
        } else {
            None
        };
        if accept_error.is_some() {
            self.accept_after = Some(now + ACCEPT_PAUSE);
        }
        let wants_read =
            |id: &&GuestId| self.guests.get(id).is_some_and(|guest| reads(&guest.channel));
        let guests = self.eager.iter().filter(wants_read).copied().collect();
        Ok(Ready { guests, others, accept_error })
    }

    fn poll(
        &self,
        others: &[(BorrowedFd<'_>, PollFlags)],
        until: Option<Instant>,
    ) -> io::Result<(Vec<GuestId>, Vec<usize>)> {
        let now = Instant::now();
        let mut fds = vec![PollFd::new(&self.stop, PollFlags::IN)];
        let paused = self.accept_after.filter(|after| *after > now);
        let listen = if paused.is_some() { PollFlags::empty() } else { PollFlags::IN };
        fds.extend(self.listeners.iter().map(|listener| PollFd::new(listener, listen)));
        fds.extend(others.iter().map(|(fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)));
        let first_guest = fds.len();
        fds.extend(
            self.guests.values().map(|guest| PollFd::new(&guest.channel, guest.channel.interest())),
        );
        let strangers = self.guests.values().filter_map(|guest| guest.stranger_until);
        let is_eager = |id: &GuestId| self.guests.get(id).is_some_and(|g| reads(&g.channel));
        let eager = self.eager.iter().any(is_eager).then_some(now);
        let until = strangers.chain(until).chain(eager).chain(paused).min();
        let timeout = until.map(|at| timespec(at.saturating_duration_since(now)));
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok((Vec::new(), Vec::new())),
            Err(errno) => return Err(errno.into()),
        }
        let is_ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        let guests = self.guests.keys().zip(&fds[first_guest..]);
        let guests = guests.filter(|(_, fd)| is_ready(fd)).map(|(id, _)| *id).collect();
        let others = &fds[first_guest - others.len()..first_guest];
        let others = others.iter().enumerate().filter(|(_, fd)| is_ready(fd));
        Ok((guests, others.map(|(at, _)| at).collect()))
    }

    fn accept(&mut self, now: Instant) -> io::Result<()> {
        self.accept_after = None;
        for (number, listener) in self.listeners.iter().enumerate() {
            // As many as may stay: a flood of them does not keep the others waiting.
            for _ in 0..STRANGERS_MAX {
                let Some(socket) = listener.accept()? else { break };
                let strangers = self.guests.iter().filter(|(_, guest)| guest.is_stranger());
                let oldest = strangers.clone().map(|(id, _)| *id).next();
                if strangers.count() >= STRANGERS_MAX {
                    self.guests.remove(&oldest.expect("there are many"));
                }
                let channel = Channel::new(socket, STRANGER_FRAME_BYTES);
                let stranger_until = Some(now + GREETING);
                let guest = Guest { channel, stranger_until, listener: number };
                self.guests.insert(self.next, guest);
                self.eager.insert(self.next);
                self.next += 1;
            }
        }
        Ok(())
    }

    fn end_over(&mut self, now: Instant) {
        self.guests.retain(|_, guest| {
            let late = guest.stranger_until.is_some_and(|until| until <= now);
            !guest.channel.is_over() && !late
        });
        self.eager.retain(|id| self.guests.contains_key(id));
    }

    /// The next frame of a connection. Call it up to [`FRAMES_A_TURN`] times in a turn, until
    /// there is none. Garbage and an end are said once; the connection is gone then.
    pub fn receive(&mut self, id: GuestId) -> Incoming {
        let Some(guest) = self.guests.get_mut(&id) else { return Incoming::Nothing };
        if !reads(&guest.channel) {
            return Incoming::Nothing;
        }
        let incoming = guest.channel.receive();
        match incoming {
            Incoming::Frame(_) => {
                // Nobody sends descriptors to a server.
                drop(guest.channel.take_descriptor());
            }
            Incoming::Nothing => {
                self.eager.remove(&id);
            }
            Incoming::Garbage(_) | Incoming::Closed => self.end(id),
        }
        incoming
    }

    /// It has introduced itself; from now on its frames may be of this length.
    pub fn introduced(&mut self, id: GuestId, limit: usize) {
        if let Some(guest) = self.guests.get_mut(&id) {
            guest.stranger_until = None;
            guest.channel.set_limit(limit);
        }
    }

    /// Queues a message, with a descriptor beside it. A connection for which too much waits, or
    /// that is gone, does not get it.
    pub fn send<T: Serialize>(
        &mut self,
        id: GuestId,
        message: &T,
        fd: Option<std::os::fd::OwnedFd>,
    ) {
        if let Some(guest) = self.guests.get_mut(&id) {
            match guest.channel.send(message, fd) {
                Ok(()) => guest.channel.flush(),
                // It waits for an answer that cannot be given: better to know.
                Err(_) => guest.channel.abort(),
            }
        }
    }

    /// By which listener it came in, and what that listens at; if it is connected.
    #[must_use]
    pub fn came_by(&self, id: GuestId) -> Option<(usize, &Address)> {
        let listener = self.guests.get(&id)?.listener;
        Some((listener, self.listeners[listener].address()))
    }

    /// Whether all that was sent to it is on its way.
    #[must_use]
    pub fn is_idle(&self, id: GuestId) -> bool {
        self.guests.get(&id).is_none_or(|guest| guest.channel.is_idle())
    }

    /// Whether it is connected.
    #[must_use]
    pub fn has(&self, id: GuestId) -> bool {
        self.guests.get(&id).is_some_and(|guest| !guest.channel.is_over())
    }

    /// Ends a connection once it has been told what it was sent.
    pub fn close(&mut self, id: GuestId) {
        if let Some(guest) = self.guests.get_mut(&id) {
            // A last deadline: who does not read is not waited for.
            guest.stranger_until = Some(Instant::now() + GREETING);
            guest.channel.close();
            guest.channel.flush();
        }
    }

    /// Ends a connection now.
    pub fn end(&mut self, id: GuestId) {
        self.guests.remove(&id);
        self.eager.remove(&id);
    }
}

impl Guest {
    const fn is_stranger(&self) -> bool {
        self.stranger_until.is_some()
    }
}

fn reads(channel: &Channel) -> bool {
    channel.interest().contains(PollFlags::IN)
}
