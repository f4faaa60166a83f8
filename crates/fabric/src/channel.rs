//! One nonblocking connection of frames, with limits both ways.
//!
//! Nothing here waits. What the other end does not take is queued up to a limit; who exceeds it is
//! disconnected, and who has much waiting for him is not read from: the memory of a server is not
//! its clients' to fill. Of descriptors at most one is kept, for whoever expects it.

use std::{
    collections::VecDeque,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use memtide_sys::socket::{self, ReceiveError};
use rustix::{event::PollFlags, io::Errno};
use serde::Serialize;

use crate::frame::{self, FrameError, Frames};

/// Most bytes that wait for one connection.
pub const QUEUE_MAX_BYTES: usize = 8 << 20;
/// While more than this waits for it, nothing is read from it.
const QUEUE_HIGH_BYTES: usize = 1 << 20;
/// Bytes taken from the kernel at a time.
const READ_BYTES: usize = 64 << 10;

/// A frame on its way out.
#[derive(Debug)]
struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    /// Goes beside the first byte.
    fd: Option<OwnedFd>,
}

/// What a connection has for us.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A frame's body.
    Frame(Vec<u8>),
    /// Nothing now.
    Nothing,
    /// What is no frame; there will be no other.
    Garbage(FrameError),
    /// The other end is gone.
    Closed,
}

/// One connection.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
    frames: Frames,
    queue: VecDeque<Outgoing>,
    queued_bytes: usize,
    received: Option<OwnedFd>,
    standing: Standing,
}

/// How far a connection has come towards its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    /// It goes on.
    Open,
    /// What is queued goes out, nothing comes in.
    Closing,
    /// It is over.
    Broken,
}

impl Channel {
    /// Over a nonblocking stream, with incoming frames of at most `limit` bytes.
    #[must_use]
    pub const fn new(socket: OwnedFd, limit: usize) -> Self {
        Self {
            socket,
            frames: Frames::new(limit),
            queue: VecDeque::new(),
            queued_bytes: 0,
            received: None,
            standing: Standing::Open,
        }
    }

    /// From now on, incoming frames may be this long.
    pub const fn set_limit(&mut self, limit: usize) {
        self.frames.set_limit(limit);
    }

    /// The next frame, if one has come whole.
    pub fn receive(&mut self) -> Incoming {
        if self.standing != Standing::Open {
            return Incoming::Closed;
        }
        let mut buffer = [0; READ_BYTES];
        loop {
            match self.frames.next_frame() {
                Ok(Some(body)) => return Incoming::Frame(body),
                Ok(None) => {}
                Err(error) => return Incoming::Garbage(error),
            }
            match socket::receive(self.socket.as_fd(), &mut buffer) {
                Ok(got) if got.bytes == 0 => return Incoming::Closed,
                Ok(got) => {
                    let mut fds = got.fds.into_iter();
                    if let Some(fd) = fds.next() {
                        self.received = Some(fd);
                    }
                    if fds.next().is_some() {
                        return Incoming::Garbage(FrameError::TooManyDescriptors);
                    }
                    self.frames.push(&buffer[..got.bytes]);
                }
                Err(error) if error.would_block() => return Incoming::Nothing,
                Err(ReceiveError::TooManyFds) => {
                    return Incoming::Garbage(FrameError::TooManyDescriptors);
                }
                Err(_) => return Incoming::Closed,
            }
        }
    }

    /// The last descriptor that came beside a frame.
    pub const fn take_descriptor(&mut self) -> Option<OwnedFd> {
        self.received.take()
    }

    /// Queues a message, with a descriptor beside it. [`Channel::flush`] sends it.
    ///
    /// # Errors
    /// [`FrameError::TooLong`]; nothing is queued then.
    pub fn send<T: Serialize>(
        &mut self,
        message: &T,
        fd: Option<OwnedFd>,
    ) -> Result<(), FrameError> {
        let bytes = frame::encode(message)?;
        if self.standing != Standing::Open {
            return Ok(());
        }
        self.queued_bytes += bytes.len();
        if self.queued_bytes > QUEUE_MAX_BYTES {
            self.standing = Standing::Broken;
        } else {
            self.queue.push_back(Outgoing { bytes, sent: 0, fd });
        }
        Ok(())
    }

    /// Sends as much as the other end takes.
    pub fn flush(&mut self) {
        if self.standing == Standing::Broken {
            return;
        }
        while let Some(frame) = self.queue.front_mut() {
            let fds: Vec<BorrowedFd<'_>> = frame.fd.iter().map(AsFd::as_fd).collect();
            match socket::send_some(self.socket.as_fd(), &frame.bytes[frame.sent..], &fds) {
                Ok(sent) => {
                    frame.sent += sent;
                    frame.fd = None;
                    if frame.sent == frame.bytes.len() {
                        self.queued_bytes -= frame.bytes.len();
                        self.queue.pop_front();
                    }
                }
                Err(Errno::AGAIN) => return,
                Err(_) => return self.abort(),
            }
        }
        if self.standing == Standing::Closing {
            self.drain();
            self.standing = Standing::Broken;
        }
    }

    /// Takes and drops what has come: closing with something unread would let the other end learn
    /// of that before it learns what was said last.
    fn drain(&self) {
        let mut buffer = [0; 4096];
        for _ in 0..64 {
            match socket::receive(self.socket.as_fd(), &mut buffer) {
                Ok(got) if got.bytes > 0 => {}
                _ => return,
            }
        }
    }

    /// Ends once what is queued has gone out.
    pub fn close(&mut self) {
        if self.standing == Standing::Open {
            self.standing = Standing::Closing;
        }
    }

    /// Ends now.
    pub fn abort(&mut self) {
        self.standing = Standing::Broken;
        self.queue.clear();
        self.queued_bytes = 0;
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.standing == Standing::Broken
    }

    /// Whether nothing waits to be sent.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    /// What to wait for.
    #[must_use]
    pub fn interest(&self) -> PollFlags {
        let mut flags = PollFlags::empty();
        let reads = self.standing == Standing::Open && self.queued_bytes <= QUEUE_HIGH_BYTES;
        flags.set(PollFlags::IN, reads);
        flags.set(PollFlags::OUT, !self.queue.is_empty());
        flags
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::wire::{FromFabric, MAX_FRAME_BYTES};

    fn pair() -> (Channel, Channel) {
        let (a, b) = UnixStream::pair().unwrap();
        let channel = |stream: UnixStream| {
            stream.set_nonblocking(true).unwrap();
            Channel::new(stream.into(), MAX_FRAME_BYTES)
        };
        (channel(a), channel(b))
    }

    #[test]
    fn a_large_frame_goes_out_in_pieces_and_arrives_whole() {
        let (mut a, mut b) = pair();
        let message = FromFabric::Reply(vec![7; 1 << 20]);
        a.send(&message, None).unwrap();
        a.send(&FromFabric::EventsPending, None).unwrap();
        let mut got = Vec::new();
        while got.len() < 2 {
            a.flush();
            if let Incoming::Frame(body) = b.receive() {
                got.push(frame::decode::<FromFabric>(&body).unwrap());
            }
        }
        assert_eq!(got, [message, FromFabric::EventsPending]);
        assert_eq!(b.receive(), Incoming::Nothing);
        drop(a);
        assert_eq!(b.receive(), Incoming::Closed);
    }

    #[test]
    fn who_does_not_read_is_disconnected_in_the_end() {
        let (mut a, _b) = pair();
        let mut sent = 0;
        while !a.is_over() {
            a.send(&FromFabric::Reply(vec![0; 30_000]), None).unwrap();
            a.flush();
            sent += 30_000;
            assert!(sent < 2 * QUEUE_MAX_BYTES);
            let reads = a.interest().contains(PollFlags::IN);
            assert!(reads || sent > QUEUE_HIGH_BYTES);
        }
        assert!(sent > QUEUE_MAX_BYTES);
    }

    #[test]
    fn a_closing_connection_says_what_it_had_to_say() {
        let (mut a, mut b) = pair();
        a.send(&FromFabric::EventsPending, None).unwrap();
        a.close();
        a.send(&FromFabric::Reply(Vec::new()), None).unwrap();
        a.flush();
        assert!(a.is_over());
        assert!(matches!(b.receive(), Incoming::Frame(body) if body.len() == 1));
    }

    #[test]
    fn many_descriptors_are_garbage() {
        let (a, mut b) = pair();
        let fd = a.as_fd();
        socket::send_some(fd, &[0], &[fd, fd]).unwrap();
        assert_eq!(b.receive(), Incoming::Garbage(FrameError::TooManyDescriptors));
    }
}
