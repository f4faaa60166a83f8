//! The connection to the daemon.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    time::Duration,
};

use memtide_proto::{CodecError, FromProgram, Hello, MAX_PACKET_BYTES, ToProgram, codec};
use memtide_sys::socket::{self, ReceiveError};
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::Timespec,
    io::Errno,
};

/// Why the connection is of no use any more.
#[derive(Debug)]
pub enum LinkError {
    /// The daemon closed it, or it broke.
    Io(io::Error),
    /// It does not speak our language.
    Codec(CodecError),
}

impl std::fmt::Display for LinkError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::Codec(error) => write!(f, "{error}"),
        }
    }
}

impl From<io::Error> for LinkError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<CodecError> for LinkError {
    fn from(error: CodecError) -> Self {
        Self::Codec(error)
    }
}

/// How long a full socket is waited for.
const SEND_WAIT_S: i64 = 2;
/// How long room for one more connection is waited for: touches wait meanwhile.
const CONNECT_WAIT: Duration = Duration::from_millis(100);

/// A connection to the daemon.
#[derive(Debug)]
pub struct Link {
    connection: OwnedFd,
    buffer: Vec<u8>,
}

impl Link {
    /// Connects and says hello.
    ///
    /// # Errors
    /// Nobody listens there or takes connections, or the hello cannot be sent.
    pub fn connect(
        socket: &Path,
        hello: &Hello,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<Self, LinkError> {
        let connection = socket::connect_within(socket, CONNECT_WAIT)?;
        socket::set_nonblocking(connection.as_fd()).map_err(io::Error::from)?;
        let link = Self { connection, buffer: vec![0; MAX_PACKET_BYTES] };
        link.send_packet(&codec::encode(hello)?, descriptors)?;
        Ok(link)
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn send(
        &self,
        message: &FromProgram,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), LinkError> {
        self.send_packet(&codec::encode(message)?, descriptors)
    }

    /// Sends a packet; a daemon that does not read for [`SEND_WAIT_S`] seconds counts as gone.
    fn send_packet(&self, packet: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), LinkError> {
        for _ in 0..2 {
            match socket::send(self.connection.as_fd(), packet, descriptors) {
                Ok(()) => return Ok(()),
                Err(Errno::AGAIN) => {
                    let ready = PollFd::new(&self.connection, PollFlags::OUT);
                    let timeout = Timespec { tv_sec: SEND_WAIT_S, tv_nsec: 0 };
                    poll(&mut [ready], Some(&timeout)).map_err(io::Error::from)?;
                }
                Err(errno) => return Err(io::Error::from(errno).into()),
            }
        }
        Err(io::Error::from(Errno::TIMEDOUT).into())
    }

    /// Takes the next message, if there is one.
    ///
    /// # Errors
    /// The connection is gone, or what came is no message.
    pub fn receive(&mut self) -> Result<Option<(ToProgram, Vec<OwnedFd>)>, LinkError> {
        match socket::receive(self.connection.as_fd(), &mut self.buffer) {
            Ok(received) if received.bytes == 0 => {
                Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())
            }
            Ok(received) => {
                let message = codec::decode(&self.buffer[..received.bytes])?;
                Ok(Some((message, received.fds)))
            }
            Err(error) if error.would_block() => Ok(None),
            Err(ReceiveError::Io(errno)) => Err(io::Error::from(errno).into()),
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error).into()),
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use memtide_proto::{ControlRequest, VERSION};

    use super::*;

    /// A daemon that is stopped, and whose backlog those fill who try again and again.
    #[test]
    fn who_takes_no_connections_is_not_waited_for() {
        let name = format!("memtide-link-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _listener = socket::listen(&path, 0o600, 1).unwrap();
        let hello = Hello::Control { version: VERSION, request: ControlRequest::Status };
        let links: Vec<_> = (0..8).map(|_| Link::connect(&path, &hello, &[])).collect();
        assert!(links[0].is_ok(), "{links:?}");
        let full = links.into_iter().find_map(Result::err).expect("no room for eight");
        assert!(matches!(&full, LinkError::Io(why) if why.kind() == io::ErrorKind::WouldBlock));
        std::fs::remove_file(&path).unwrap();
    }
}
