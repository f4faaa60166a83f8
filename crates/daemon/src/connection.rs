//! One connection: its packets in and out.
//!
//! Nothing here waits. What the other end does not take is queued up to a limit; who exceeds it
//! is disconnected, for the daemon's memory is not the program's to fill.

use std::{
    collections::VecDeque,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use memtide_proto::{MAX_PACKET_BYTES, encode};
use memtide_sys::socket::{self, Peer, ReceiveError};
use rustix::io::Errno;
use serde::Serialize;

/// Most bytes that wait for one connection.
pub const QUEUE_MAX_BYTES: usize = 16 << 20;
/// While more than this waits for it, nothing more is taken from it.
const QUEUE_HIGH_BYTES: usize = 1 << 20;

/// Most packets that are dropped unread at the end.
const DRAIN_MAX_PACKETS: usize = 256;

/// A packet on its way out.
#[derive(Debug)]
struct Outgoing {
    bytes: Vec<u8>,
    fds: Vec<Arc<OwnedFd>>,
}

/// What a connection has for us.
#[derive(Debug)]
pub enum Incoming {
    /// A packet: its length in the buffer, and its descriptors.
    Packet(usize, Vec<OwnedFd>),
    /// Nothing now.
    Nothing,
    /// It sent what is no packet of ours.
    Garbage(ReceiveError),
    /// The other end is gone.
    Closed,
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    peer: Peer,
    queue: VecDeque<Outgoing>,
    queued_bytes: usize,
    standing: Standing,
}

/// How far a connection has come towards its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    /// It goes on.
    Open,
    /// The other end has gone, but what it said before is still to be read.
    Deaf,
    /// What is queued goes out, nothing comes in.
    Closing,
    /// It is over.
    Broken,
}

impl Connection {
    /// Over this nonblocking socket.
    #[must_use]
    pub fn new(socket: OwnedFd, peer: Peer) -> Self {
        let queue = VecDeque::new();
        Self { socket, peer, queue, queued_bytes: 0, standing: Standing::Open }
    }

    /// Who is there.
    #[must_use]
    pub const fn peer(&self) -> Peer {
        self.peer
    }

    /// The next packet.
    pub fn receive(&mut self, buffer: &mut [u8; MAX_PACKET_BYTES]) -> Incoming {
        match socket::receive(self.socket.as_fd(), buffer) {
            Ok(received) if received.bytes == 0 => Incoming::Closed,
            Ok(received) => Incoming::Packet(received.bytes, received.fds),
            Err(error) if error.would_block() => Incoming::Nothing,
            Err(ReceiveError::Io(_)) => Incoming::Closed,
            Err(error) => Incoming::Garbage(error),
        }
    }

    /// Queues a message. [`Connection::flush`] sends it.
    pub fn send<T: Serialize>(&mut self, message: &T, fds: Vec<Arc<OwnedFd>>) {
        if self.standing != Standing::Open {
            return;
        }
        // The senders cut their lists; what does not fit all the same is a fault of this program.
        let bytes = encode(message).expect("messages of the daemon fit into packets");
        self.queued_bytes += bytes.len();
        if self.queued_bytes > QUEUE_MAX_BYTES {
            self.standing = Standing::Broken;
        } else {
            self.queue.push_back(Outgoing { bytes, fds });
        }
    }

    /// Sends as much as the other end takes.
    pub fn flush(&mut self) {
        while let Some(packet) = self.queue.front() {
            let fds: Vec<BorrowedFd<'_>> = packet.fds.iter().map(|fd| fd.as_fd()).collect();
            match socket::send(self.socket.as_fd(), &packet.bytes, &fds) {
                Ok(()) => {
                    self.queued_bytes -= packet.bytes.len();
                    self.queue.pop_front();
                }
                Err(Errno::AGAIN) => return,
                Err(_) => {
                    self.queue.clear();
                    self.queued_bytes = 0;
                    self.standing = match self.standing {
                        Standing::Open | Standing::Deaf => Standing::Deaf,
                        Standing::Closing | Standing::Broken => Standing::Broken,
                    };
                    return;
                }
            }
        }
        if self.standing == Standing::Closing {
            self.drain();
            self.standing = Standing::Broken;
        }
    }

    /// Takes and drops what has come: closing with something unread would let the other end
    /// learn of that before it learns what was said last.
    fn drain(&self) {
        let mut buffer = [0; 1];
        for _ in 0..DRAIN_MAX_PACKETS {
            match socket::receive(self.socket.as_fd(), &mut buffer) {
                Ok(received) if received.bytes == 0 => return,
                Err(ReceiveError::Io(_)) => return,
                Ok(_) | Err(_) => {}
            }
        }
    }

    /// Ends once what is queued has gone out.
    pub fn close(&mut self) {
        match self.standing {
            Standing::Open => self.standing = Standing::Closing,
            Standing::Deaf => self.standing = Standing::Broken,
            Standing::Closing | Standing::Broken => {}
        }
    }

    /// Ends now.
    pub fn abort(&mut self) {
        self.standing = Standing::Broken;
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.standing == Standing::Broken
    }

    /// Whether more is to be read from it.
    #[must_use]
    pub fn wants_read(&self) -> bool {
        let is_open = matches!(self.standing, Standing::Open | Standing::Deaf);
        is_open && self.queued_bytes <= QUEUE_HIGH_BYTES
    }

    /// Whether something waits to be sent.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        !self.queue.is_empty()
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Connection, OwnedFd) {
        let (a, b) = socket::pair().unwrap();
        socket::set_nonblocking(a.as_fd()).unwrap();
        let peer = socket::peer(a.as_fd()).unwrap();
        (Connection::new(a, peer), b)
    }

    #[test]
    fn what_was_said_before_the_end_is_still_read() {
        let (mut connection, other) = pair();
        socket::send(other.as_fd(), &[7], &[]).unwrap();
        drop(other);
        connection.send(&1u8, Vec::new());
        connection.flush();
        assert!(connection.wants_read() && !connection.is_over());
        let mut buffer = [0; MAX_PACKET_BYTES];
        assert!(matches!(connection.receive(&mut buffer), Incoming::Packet(1, _)));
        assert!(matches!(connection.receive(&mut buffer), Incoming::Closed));
    }

    #[test]
    fn who_does_not_read_is_disconnected_in_the_end() {
        let (mut connection, _other) = pair();
        let big = vec![0u8; 30_000];
        let mut sent = 0;
        while !connection.is_over() {
            connection.send(&big, Vec::new());
            connection.flush();
            sent += big.len();
            assert!(sent < 2 * QUEUE_MAX_BYTES);
        }
        assert!(sent > QUEUE_MAX_BYTES);
    }

    #[test]
    fn a_closing_connection_says_what_it_had_to_say() {
        let (mut connection, other) = pair();
        connection.send(&7u8, Vec::new());
        connection.close();
        connection.send(&8u8, Vec::new());
        assert!(!connection.is_over());
        connection.flush();
        assert!(connection.is_over());
        let mut buffer = [0; 4];
        assert_eq!(socket::receive(other.as_fd(), &mut buffer).unwrap().bytes, 1);
        assert_eq!(buffer[0], 7);
    }
}
