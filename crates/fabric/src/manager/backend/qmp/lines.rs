//! QEMU's control socket (QEMU, `docs/interop/qmp-spec.rst`): JSON in lines, answers in order, and
//! events in between, which are nothing here.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    time::{Duration, Instant},
};

use memtide_sys::socket;
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
    net::SendFlags,
};
use serde_json::{Value, json};

use super::{PATIENCE, QmpError};

/// Longest line: answers that are asked for here are much shorter.
pub(super) const LINE_MAX_BYTES: usize = 1 << 20;
/// Taken from the kernel at a time.
const READ_BYTES: usize = 16 << 10;
/// How often, before somebody else has a turn.
const READS_A_TURN: usize = 16;
/// Of a line that is no message, so much is shown.
const SHOWN_CHARS: usize = 120;

/// An answer of QEMU's.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Answer {
    /// What a command returns.
    Return(Value),
    /// Why it does not.
    Error {
        /// Its class: `GenericError`, `DeviceNotFound`, …
        class: String,
        /// A sentence.
        description: String,
    },
}

/// A connection.
#[derive(Debug)]
pub(super) struct Lines {
    socket: OwnedFd,
    incoming: Vec<u8>,
    /// Where the next line begins there.
    begins: usize,
    /// Up to here it has no end.
    searched: usize,
    outgoing: Vec<u8>,
    /// The number of the last command.
    number: u64,
    closed: bool,
}

impl Lines {
    /// Connects; waits until then at most.
    pub(super) fn connect(path: &Path, until: Instant) -> Result<Self, QmpError> {
        let patience = until.saturating_duration_since(Instant::now());
        let socket = socket::connect_stream(path, patience.max(Duration::from_millis(1)))
            .map_err(QmpError::Socket)?;
        socket::set_nonblocking(socket.as_fd()).map_err(|error| QmpError::Socket(error.into()))?;
        Ok(Self::new(socket))
    }

    /// Over a nonblocking socket.
    pub(super) const fn new(socket: OwnedFd) -> Self {
        let incoming = Vec::new();
        let outgoing = Vec::new();
        Self { socket, incoming, begins: 0, searched: 0, outgoing, number: 0, closed: false }
    }

    /// Takes QEMU's greeting and leaves negotiation; waits until then at most.
    pub(super) fn greet(&mut self, until: Instant) -> Result<(), QmpError> {
        let message = |lines: &mut Self| lines.take().and_then(|()| lines.message());
        let greeting = self.wait("the greeting", until, message)?;
        if greeting.get("QMP").is_none() {
            return Err(QmpError::Line {
                line: shown(greeting.to_string().as_bytes()),
                expected: "QMP's greeting",
            });
        }
        self.ask("qmp_capabilities", &json!({}), until).map(|_| ())
    }

    /// Gives a command and waits for what it returns, until then at most.
    pub(super) fn ask(
        &mut self,
        command: &'static str,
        arguments: &Value,
        until: Instant,
    ) -> Result<Value, QmpError> {
        self.begin(command, arguments)?;
        match self.wait(command, until, Self::answer)? {
            Answer::Return(value) => Ok(value),
            Answer::Error { class, description } => {
                Err(QmpError::Refused { command, class, description })
            }
        }
    }

    /// Gives a command; there is none in flight.
    pub(super) fn begin(&mut self, command: &str, arguments: &Value) -> Result<(), QmpError> {
        self.number += 1;
        let line = json!({ "execute": command, "arguments": arguments, "id": self.number });
        self.outgoing.extend_from_slice(line.to_string().as_bytes());
        self.outgoing.push(b'\n');
        self.flush()
    }

    /// Sends what the socket takes.
    pub(super) fn flush(&mut self) -> Result<(), QmpError> {
        while !self.outgoing.is_empty() {
            match rustix::net::send(&self.socket, &self.outgoing, SendFlags::NOSIGNAL) {
                Ok(sent) => drop(self.outgoing.drain(..sent)),
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(QmpError::Closed),
                Err(error) => return Err(QmpError::Socket(error.into())),
            }
        }
        Ok(())
    }

    /// What the socket is waited for.
    pub(super) fn interest(&self) -> PollFlags {
        if self.outgoing.is_empty() { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT }
    }

    /// The answer to the last command, if it is there, among what has come. Only so much of that
    /// is taken at a time: who talks without end is heard again in the next turn.
    pub(super) fn answer(&mut self) -> Result<Option<Answer>, QmpError> {
        self.flush()?;
        self.take()?;
        while let Some(mut message) = self.message()? {
            if message.get("event").is_some() {
                continue;
            }
            let is_ours = message.get("id").and_then(Value::as_u64) == Some(self.number);
            let text = |error: &Value, key: &str| {
                error.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
            };
            let answer = match (message.get("error"), is_ours) {
                (Some(error), true) => Some(Answer::Error {
                    class: text(error, "class"),
                    description: text(error, "desc"),
                }),
                (None, true) => message.get_mut("return").map(|value| Answer::Return(value.take())),
                (_, false) => None,
            };
            let line = || shown(message.to_string().as_bytes());
            let expected = "an answer to the last command";
            return answer.map(Some).ok_or_else(|| QmpError::Line { line: line(), expected });
        }
        Ok(None)
    }

    /// The next message of what was taken, if that has it whole.
    fn message(&mut self) -> Result<Option<Value>, QmpError> {
        if let Some(line) = self.line() {
            let message = serde_json::from_slice(line).ok().filter(Value::is_object);
            let expected = "an object of JSON";
            let error = || QmpError::Line { line: shown(line), expected };
            return message.map(Some).ok_or_else(error);
        }
        if self.incoming.len() - self.begins > LINE_MAX_BYTES {
            return Err(QmpError::TooLong);
        }
        if self.closed { Err(QmpError::Closed) } else { Ok(None) }
    }

    fn line(&mut self) -> Option<&[u8]> {
        let end = self.incoming[self.searched..].iter().position(|&byte| byte == b'\n');
        let Some(end) = end.map(|end| self.searched + end + 1) else {
            self.searched = self.incoming.len();
            return None;
        };
        let begins = std::mem::replace(&mut self.begins, end);
        self.searched = end;
        Some(&self.incoming[begins..end])
    }

    /// Takes what has come, up to a limit.
    fn take(&mut self) -> Result<(), QmpError> {
        self.incoming.drain(..self.begins);
        self.searched -= std::mem::take(&mut self.begins);
        for _ in 0..READS_A_TURN {
            if self.closed || !self.read()? {
                break;
            }
        }
        Ok(())
    }

    /// Takes some bytes; whether there were some.
    fn read(&mut self) -> Result<bool, QmpError> {
        let mut buffer = [0; READ_BYTES];
        match rustix::io::read(&self.socket, &mut buffer) {
            Ok(0) => {
                self.closed = true;
                Ok(true)
            }
            Ok(count) => {
                self.incoming.extend_from_slice(&buffer[..count]);
                Ok(true)
            }
            Err(Errno::AGAIN) => Ok(false),
            Err(Errno::INTR) => Ok(true),
            Err(Errno::CONNRESET) => Err(QmpError::Closed),
            Err(error) => Err(QmpError::Socket(error.into())),
        }
    }

    /// Waits for something, until then at most: for the thread that connects.
    fn wait<T>(
        &mut self,
        command: &'static str,
        until: Instant,
        look: impl Fn(&mut Self) -> Result<Option<T>, QmpError>,
    ) -> Result<T, QmpError> {
        loop {
            if let Some(found) = look(self)? {
                return Ok(found);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(QmpError::Late { command, waited: PATIENCE });
            }
            let limit = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            let mut fds = [PollFd::from_borrowed_fd(self.socket.as_fd(), self.interest())];
            match rustix::event::poll(&mut fds, Some(&limit)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(QmpError::Socket(io::Error::from(error))),
            }
        }
    }
}

impl AsFd for Lines {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The beginning of a line, for people.
fn shown(line: &[u8]) -> String {
    String::from_utf8_lossy(line).trim_end().chars().take(SHOWN_CHARS).collect()
}

#[cfg(test)]
mod tests;
