//! Those who are connected: the loop's wait for them, who comes, what they say, who leaves.

use std::{
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use memtide_proto::MAX_PACKET_BYTES;
use memtide_sys::socket;
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
};

use super::{ConnectionId, Daemon, Guest, Role, RunError};
use crate::{
    connection::{Connection, Incoming},
    notice::Notice,
};

/// How long a connection may take to introduce itself.
const GREETING: Duration = Duration::from_secs(10);
/// After failing to accept a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Most packets taken from one connection before the others have their turn.
const PACKETS_A_TURN: usize = 64;

/// What happened.
pub(super) struct Ready {
    pub(super) stop: bool,
    pub(super) accept: bool,
    /// Connections that the other end has closed; something may be left to be read.
    pub(super) gone: Vec<ConnectionId>,
    pub(super) guests: Vec<ConnectionId>,
}

impl Daemon {
    pub(super) fn wait(&self) -> Result<Ready, RunError> {
        let mut fds = vec![PollFd::new(&self.stop.event, PollFlags::IN)];
        let listen = if self.accept_after.is_none() { PollFlags::IN } else { PollFlags::empty() };
        fds.push(PollFd::new(&self.listener, listen));
        for guest in self.guests.values() {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, guest.connection.wants_read());
            flags.set(PollFlags::OUT, guest.connection.wants_write());
            fds.push(PollFd::new(&guest.connection, flags));
        }
        let timeout = self.timeout().map(|wait| Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(wait.subsec_nanos()),
        });
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(RunError::Poll(errno.into())),
        }
        let is_ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        let ready = self.guests.keys().zip(&fds[2..]).filter(|(_, fd)| is_ready(fd));
        let (gone, guests): (Vec<_>, Vec<_>) =
            ready.partition(|(_, fd)| fd.revents().contains(PollFlags::HUP));
        let names =
            |guests: Vec<(&ConnectionId, _)>| guests.into_iter().map(|(id, _)| *id).collect();
        Ok(Ready {
            stop: is_ready(&fds[0]),
            accept: is_ready(&fds[1]),
            gone: names(gone),
            guests: names(guests),
        })
    }

    /// How long nothing needs to be done unless something happens.
    fn timeout(&self) -> Option<Duration> {
        if !self.zeroing.is_empty() {
            return Some(Duration::ZERO);
        }
        let now = Instant::now();
        let engine = self.engine.next_deadline().map(|at| self.start + at.0);
        let devices = self.dcd.next_deadline().map(|at| self.start + at.0);
        let greeting = self.guests.values().filter_map(|guest| match guest.role {
            Role::Greeting { until } => Some(until),
            _ => None,
        });
        [engine, devices, self.tokens.due(), self.look_at_awaited, self.accept_after]
            .into_iter()
            .flatten()
            .chain(greeting)
            .min()
            .map(|at| at.saturating_duration_since(now))
    }

    pub(super) fn accept(&mut self, now: Instant) {
        loop {
            match socket::accept(self.listener.as_fd()) {
                Ok(fd) => {
                    let Ok(peer) = socket::peer(fd.as_fd()) else { continue };
                    let connection = Connection::new(fd, peer);
                    let role = Role::Greeting { until: now + GREETING };
                    let guest = Guest { connection, role };
                    self.guests.insert(self.next_connection, guest);
                    self.next_connection += 1;
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(errno) => {
                    // Out of descriptors or memory: those who are connected go on.
                    self.notice(Notice::CannotAccept(errno.into()));
                    self.accept_after = Some(now + ACCEPT_PAUSE);
                    return;
                }
            }
        }
    }

    pub(super) fn serve(
        &mut self,
        id: ConnectionId,
        buffer: &mut [u8; MAX_PACKET_BYTES],
        now: Instant,
    ) {
        for _ in 0..PACKETS_A_TURN {
            let Some(guest) = self.guests.get_mut(&id) else { return };
            if !guest.connection.wants_read() {
                return;
            }
            match guest.connection.receive(buffer) {
                Incoming::Packet(bytes, fds) => self.packet(id, &buffer[..bytes], fds, now),
                Incoming::Nothing => return,
                Incoming::Garbage(error) => return self.garbage(id, &error.to_string()),
                Incoming::Closed => return guest.connection.abort(),
            }
        }
    }

    fn packet(&mut self, id: ConnectionId, packet: &[u8], fds: Vec<OwnedFd>, now: Instant) {
        match self.guests[&id].role {
            Role::Greeting { .. } => self.greeting(id, packet, fds, now),
            Role::Claiming(_) => self.claim_packet(id, packet, fds, now),
            Role::Program(member) => self.program_packet(id, member, packet, fds, now),
            // One request a connection; more is noise.
            Role::Control => self.garbage(id, "a second request on one connection"),
        }
    }

    pub(super) fn flush_all(&mut self, now: Instant) {
        loop {
            for guest in self.guests.values_mut() {
                guest.connection.flush();
            }
            // An end may bring about packets for others.
            if !self.end_over(now) {
                return;
            }
        }
    }

    /// Ends what is over; whether anything was.
    pub(super) fn end_over(&mut self, now: Instant) -> bool {
        let over = self.guests.iter().filter(|(_, guest)| guest.connection.is_over());
        let over: Vec<_> = over.map(|(id, _)| *id).collect();
        for id in &over {
            self.end(*id, now);
        }
        !over.is_empty()
    }

    fn end(&mut self, id: ConnectionId, now: Instant) {
        let Some(guest) = self.guests.remove(&id) else { return };
        match guest.role {
            Role::Program(member) => self.program_left(member, now),
            Role::Control => self.requests.retain(|_, asker| *asker != id),
            Role::Greeting { .. } | Role::Claiming(_) => {}
        }
    }
}
