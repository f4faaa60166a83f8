//! One connection to a device: as one of its hosts, or as the fabric manager.
//!
//! Two ways to use it, on one socket:
//!
//! * [`Link::command`] and [`Link::exchange`] send a request and wait for its answer, as long as
//!   [`Link::set_patience`] says. For whoever has nothing else to do meanwhile.
//! * [`Link::begin`] sends a request, [`Link::finish`] looks whether the answer is there: for a
//!   loop that polls the descriptor and must not wait for a slow device.
//!
//! The device says at any time that its event log has something new. Whatever reads from the
//! socket notes it: [`Link::take_events_pending`]. A socket is readable only until it was read, so
//! a loop asks after everything that it did with the link, not only after it polled.
//!
//! An error of which [`LinkError::leaves_link_usable`] is false ends the link: what comes next
//! on the socket could belong to something that was given up.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use memtide_cxl::{
    Command, DecodeError, Opcode, Payload, ReturnCode,
    cci::{Kind, Message, TooLong},
};
use memtide_sys::memfd::{self, Pages};
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
};

use crate::{
    Address,
    channel::{Channel, Incoming},
    frame::{self, FrameError},
    wire::{FromFabric, Hello, MAX_FRAME_BYTES, MAX_NAME_BYTES, Role, ToFabric, VERSION, Welcome},
};

/// How long an answer may take, unless [`Link::set_patience`] says otherwise. Devices answer in
/// microseconds; a fabric on a machine with too much to do is given this long.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Why a link is none, or a command not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// Nobody there, or nobody who accepts.
    #[error("cannot connect to {address}")]
    Connect {
        /// Where.
        address: Address,
        /// Why not.
        source: io::Error,
    },
    /// The fabric says no.
    #[error("the fabric refuses: {0}")]
    Refused(String),
    /// It speaks another version.
    #[error("the fabric speaks version {theirs} of the protocol; expected {VERSION}")]
    Version {
        /// Which.
        theirs: u16,
    },
    /// The welcome is not believable.
    #[error("the fabric's welcome: {field} is {value}; expected {expected}")]
    Welcome {
        /// Which field.
        field: &'static str,
        /// What it says.
        value: u64,
        /// What it may say.
        expected: &'static str,
    },
    /// A host's welcome on a Unix socket without the memory that belongs to it.
    #[error("the fabric gave no memory file of {capacity} bytes that nobody can shorten")]
    NoMemory {
        /// How long it should be.
        capacity: u64,
    },
    /// The fabric is gone, or a newer connection has taken this one's place.
    #[error("the fabric has ended the connection")]
    Closed,
    /// No answer in time.
    #[error("no answer within {waited:?}")]
    TimedOut {
        /// How long was waited.
        waited: Duration,
    },
    /// What came is no message.
    #[error("the fabric sent what is no message")]
    Frame(#[from] FrameError),
    /// A message that does not belong here.
    #[error("the fabric said {what} where {expected} belongs")]
    Unexpected {
        /// What came.
        what: &'static str,
        /// What should have.
        expected: &'static str,
    },
    /// Waiting failed.
    #[error("cannot wait for the fabric")]
    Poll(#[source] io::Error),
    /// A request is still unanswered; only one at a time.
    #[error("a command is still under way on this link")]
    InFlight,
    /// The device does not do it.
    #[error("{opcode}: {code}")]
    Device {
        /// What was asked.
        opcode: Opcode,
        /// What it answers.
        code: ReturnCode,
    },
    /// The device did it, but its answer cannot be read.
    #[error("{opcode}: the answer cannot be read")]
    Answer {
        /// What was asked.
        opcode: Opcode,
        /// Why.
        source: DecodeError,
    },
    /// A request that no message can carry.
    #[error("{opcode}")]
    TooLong {
        /// What was asked.
        opcode: Opcode,
        /// How long it is.
        source: TooLong,
    },
    /// The answer is not a CCI response to what was asked.
    #[error("{opcode}: the answer is of another command")]
    OtherAnswer {
        /// What was asked.
        opcode: Opcode,
    },
}

impl LinkError {
    /// Whether the link can still be used.
    #[must_use]
    pub const fn leaves_link_usable(&self) -> bool {
        matches!(
            self,
            Self::Device { .. } | Self::Answer { .. } | Self::TooLong { .. } | Self::InFlight
        )
    }
}

/// A connection that was welcomed.
#[derive(Debug)]
pub struct Link {
    channel: Channel,
    welcome: Welcome,
    memory: Option<OwnedFd>,
    patience: Duration,
    next_tag: u8,
    in_flight: bool,
    reply: Option<Vec<u8>>,
    events_pending: bool,
}

impl Link {
    /// Connects and is welcomed, within [`PATIENCE`].
    ///
    /// # Errors
    /// [`LinkError`], down to [`LinkError::NoMemory`].
    pub fn connect(address: &Address, role: Role) -> Result<Self, LinkError> {
        let until = Instant::now() + PATIENCE;
        let socket = address
            .connect(PATIENCE)
            .map_err(|source| LinkError::Connect { address: address.clone(), source })?;
        let mut channel = Channel::new(socket, MAX_FRAME_BYTES);
        channel.send(&ToFabric::Hello(Hello { version: VERSION, role }), None)?;
        let body = next(&mut channel, until, PATIENCE)?;
        let welcome = match frame::decode(&body)? {
            FromFabric::Welcome(welcome) => welcome,
            FromFabric::Refused(why) => return Err(LinkError::Refused(why)),
            other => return Err(unexpected(&other, "a welcome")),
        };
        check_welcome(&welcome)?;
        let carries_memory = matches!((role, address), (Role::Host(_), Address::Unix(_)));
        let memory = match channel.take_descriptor() {
            Some(file) if carries_memory => {
                let fits = memfd::is_ours(file.as_fd(), welcome.capacity, Pages::Small);
                Some(
                    fits.then_some(file)
                        .ok_or(LinkError::NoMemory { capacity: welcome.capacity })?,
                )
            }
            None if carries_memory => {
                return Err(LinkError::NoMemory { capacity: welcome.capacity });
            }
            _ => None,
        };
        Ok(Self {
            channel,
            welcome,
            memory,
            patience: PATIENCE,
            next_tag: 0,
            in_flight: false,
            reply: None,
            events_pending: false,
        })
    }

    /// What the fabric said of itself.
    #[must_use]
    pub const fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// A host's memory: a sparse file as long as the device, sealed against being shortened. What
    /// this host has not accepted reads as zeroes, and what is written there may vanish. Only on a
    /// Unix socket, and only for a host.
    #[must_use]
    pub fn memory(&self) -> Option<BorrowedFd<'_>> {
        self.memory.as_ref().map(AsFd::as_fd)
    }

    /// The same, to keep.
    pub const fn take_memory(&mut self) -> Option<OwnedFd> {
        self.memory.take()
    }

    /// How long an answer may take from now on.
    pub const fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Sends a command and waits for its answer.
    ///
    /// # Errors
    /// [`LinkError`]; [`LinkError::Device`] when the device says no.
    pub fn command<C: Command>(&mut self, command: &C) -> Result<C::Response, LinkError> {
        let opcode = C::OPCODE;
        let (code, payload) = self.raw(opcode, &command.to_bytes())?;
        if code != ReturnCode::SUCCESS {
            return Err(LinkError::Device { opcode, code });
        }
        C::Response::decode(&payload).map_err(|source| LinkError::Answer { opcode, source })
    }

    /// Sends any opcode with any payload; the device's code and what came with it.
    ///
    /// # Errors
    /// [`LinkError`]; a code other than success is none.
    pub fn raw(
        &mut self,
        opcode: Opcode,
        payload: &[u8],
    ) -> Result<(ReturnCode, Vec<u8>), LinkError> {
        let tag = self.next_tag;
        self.next_tag = tag.wrapping_add(1);
        let request = Message::request(tag, opcode, payload.to_vec());
        let bytes = request.encode().map_err(|source| LinkError::TooLong { opcode, source })?;
        let reply = Message::decode(&self.exchange(&bytes)?)
            .map_err(|source| LinkError::Answer { opcode, source })?;
        match reply.kind {
            Kind::Response(outcome) if reply.answers(&request) => Ok((outcome.code, reply.payload)),
            _ => Err(LinkError::OtherAnswer { opcode }),
        }
    }

    /// Sends a whole CCI message and waits for the one that answers it.
    ///
    /// # Errors
    /// [`LinkError`].
    pub fn exchange(&mut self, message: &[u8]) -> Result<Vec<u8>, LinkError> {
        let until = Instant::now() + self.patience;
        self.begin(message)?;
        loop {
            if let Some(reply) = self.finish()? {
                return Ok(reply);
            }
            wait(&self.channel, until, self.patience)?;
        }
    }

    /// Sends a whole CCI message, or as much of it as goes now; [`Link::finish`] goes on.
    ///
    /// # Errors
    /// [`LinkError::InFlight`]; [`LinkError::Frame`] for one that is too long.
    pub fn begin(&mut self, message: &[u8]) -> Result<(), LinkError> {
        if self.in_flight {
            return Err(LinkError::InFlight);
        }
        self.channel.send(&ToFabric::Command(message.to_vec()), None)?;
        self.in_flight = true;
        self.channel.flush();
        Ok(())
    }

    /// The answer to what was begun, if it is there. Never waits.
    ///
    /// # Errors
    /// [`LinkError`], when the link is over.
    pub fn finish(&mut self) -> Result<Option<Vec<u8>>, LinkError> {
        self.pump()?;
        let reply = self.reply.take();
        self.in_flight &= reply.is_none();
        Ok(reply)
    }

    /// Sends and takes what can be sent and taken without waiting.
    ///
    /// # Errors
    /// [`LinkError`], when the link is over.
    pub fn pump(&mut self) -> Result<(), LinkError> {
        self.channel.flush();
        loop {
            match self.channel.receive() {
                Incoming::Frame(body) => match frame::decode(&body)? {
                    FromFabric::EventsPending => self.events_pending = true,
                    FromFabric::Reply(reply) if self.in_flight && self.reply.is_none() => {
                        self.reply = Some(reply);
                    }
                    FromFabric::Refused(why) => return Err(LinkError::Refused(why)),
                    other => return Err(unexpected(&other, "the reply to a command")),
                },
                Incoming::Nothing if self.channel.is_over() => return Err(LinkError::Closed),
                Incoming::Nothing => return Ok(()),
                Incoming::Garbage(error) => return Err(error.into()),
                // What came before the end is still answered.
                Incoming::Closed if self.reply.is_some() => return Ok(()),
                Incoming::Closed => return Err(LinkError::Closed),
            }
        }
    }

    /// Whether the event log has had something new since this was asked last.
    pub const fn take_events_pending(&mut self) -> bool {
        std::mem::replace(&mut self.events_pending, false)
    }

    /// Whether a request is without its answer.
    #[must_use]
    pub const fn is_in_flight(&self) -> bool {
        self.in_flight
    }

    /// What to poll the descriptor for.
    #[must_use]
    pub fn interest(&self) -> PollFlags {
        self.channel.interest()
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

fn check_welcome(welcome: &Welcome) -> Result<(), LinkError> {
    let wrong = |field, value, expected| Err(LinkError::Welcome { field, value, expected });
    if welcome.version != VERSION {
        return Err(LinkError::Version { theirs: welcome.version });
    }
    if welcome.device.is_empty() || welcome.device.len() > MAX_NAME_BYTES {
        return wrong("length of the name", welcome.device.len() as u64, "1 to 64 bytes");
    }
    if welcome.capacity == 0 || i64::try_from(welcome.capacity).is_err() {
        return wrong("capacity", welcome.capacity, "1 to 2^63 - 1 bytes");
    }
    if welcome.hosts == 0 {
        return wrong("number of hosts", 0, "1 or more");
    }
    Ok(())
}

fn unexpected(message: &FromFabric, expected: &'static str) -> LinkError {
    let what = match message {
        FromFabric::Welcome(_) => "a welcome",
        FromFabric::Refused(_) => "a refusal",
        FromFabric::Reply(_) => "a reply",
        FromFabric::EventsPending => "that events are pending",
    };
    LinkError::Unexpected { what, expected }
}

/// The next frame, waited for.
fn next(channel: &mut Channel, until: Instant, patience: Duration) -> Result<Vec<u8>, LinkError> {
    loop {
        channel.flush();
        match channel.receive() {
            Incoming::Frame(body) => return Ok(body),
            Incoming::Nothing => wait(channel, until, patience)?,
            Incoming::Garbage(error) => return Err(error.into()),
            Incoming::Closed => return Err(LinkError::Closed),
        }
    }
}

/// Until something can be done with the channel.
fn wait(channel: &Channel, until: Instant, patience: Duration) -> Result<(), LinkError> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(LinkError::TimedOut { waited: patience });
    }
    let mut fds = [PollFd::new(channel, channel.interest())];
    match rustix::event::poll(&mut fds, Some(&timespec(left))) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(LinkError::Poll(errno.into())),
    }
}

/// As the kernel writes it.
pub(crate) fn timespec(wait: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(wait.subsec_nanos()),
    }
}

#[cfg(test)]
mod tests;
