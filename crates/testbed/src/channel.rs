//! A stream socket that is read in lines and in counted bytes, and never waits without a deadline.

use std::{
    io::{self, ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

/// Why nothing came or went.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The other side is gone.
    Closed,
    /// The deadline passed.
    Late,
}

pub(crate) struct Channel {
    stream: UnixStream,
    /// What was read and not yet asked for, from `taken` on.
    buffer: Vec<u8>,
    taken: usize,
}

/// The longest line that is waited for: more than any answer of QEMU's that tests ask for.
const LINE_BYTES_MAX: usize = 16 << 20;

impl Channel {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream, buffer: Vec::new(), taken: 0 }
    }

    /// A line without its end.
    pub(crate) fn line(&mut self, deadline: Instant) -> Result<String, Broken> {
        let mut searched = 0;
        loop {
            let rest = &self.buffer[self.taken..];
            if let Some(end) = rest[searched..].iter().position(|byte| *byte == b'\n') {
                let line = String::from_utf8_lossy(&rest[..searched + end]).into_owned();
                self.taken += searched + end + 1;
                return Ok(line.trim_end_matches('\r').to_owned());
            }
            searched = rest.len();
            if searched > LINE_BYTES_MAX {
                return Err(Broken::Closed);
            }
            self.fill(deadline)?;
        }
    }

    /// So many bytes.
    pub(crate) fn bytes(&mut self, count: usize, deadline: Instant) -> Result<Vec<u8>, Broken> {
        while self.buffer.len() - self.taken < count {
            self.fill(deadline)?;
        }
        let bytes = self.buffer[self.taken..self.taken + count].to_vec();
        self.taken += count;
        Ok(bytes)
    }

    pub(crate) fn send(&mut self, mut bytes: &[u8], deadline: Instant) -> Result<(), Broken> {
        while !bytes.is_empty() {
            // A timeout that cannot be set is one of zero, which `remaining` never gives.
            let _ = self.stream.set_write_timeout(Some(remaining(deadline)?));
            match self.stream.write(bytes) {
                Ok(0) => return Err(Broken::Closed),
                Ok(count) => bytes = &bytes[count..],
                Err(error) => passing(&error)?,
            }
        }
        Ok(())
    }

    fn fill(&mut self, deadline: Instant) -> Result<(), Broken> {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        let mut chunk = [0; 64 << 10];
        loop {
            let _ = self.stream.set_read_timeout(Some(remaining(deadline)?));
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(Broken::Closed),
                Ok(count) => {
                    self.buffer.extend_from_slice(&chunk[..count]);
                    return Ok(());
                }
                Err(error) => passing(&error)?,
            }
        }
    }
}

fn remaining(deadline: Instant) -> Result<Duration, Broken> {
    let remaining = deadline.saturating_duration_since(Instant::now());
    if remaining.is_zero() { Err(Broken::Late) } else { Ok(remaining) }
}

/// Whether an error goes away by trying again until the deadline.
fn passing(error: &io::Error) -> Result<(), Broken> {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => Ok(()),
        _ => Err(Broken::Closed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (UnixStream, Channel) {
        let (theirs, ours) = UnixStream::pair().expect("a pair of sockets");
        (theirs, Channel::new(ours))
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[test]
    fn lines_and_bytes_follow_each_other() {
        let (mut theirs, mut channel) = pair();
        theirs.write_all(b"one\r\n12").expect("sent");
        assert_eq!(channel.line(soon()).expect("a line"), "one");
        theirs.write_all(b"34\n56two\n").expect("sent");
        assert_eq!(channel.bytes(6, soon()).expect("bytes"), b"1234\n5");
        assert_eq!(channel.line(soon()).expect("a line"), "6two");
        assert_eq!(channel.bytes(0, soon()).expect("no bytes"), b"");
    }

    #[test]
    fn a_silent_peer_is_late_and_a_gone_one_closed() {
        let (theirs, mut channel) = pair();
        let soon_over = Instant::now() + Duration::from_millis(20);
        assert!(matches!(channel.line(soon_over), Err(Broken::Late)));
        assert!(matches!(channel.send(&[0; 8 << 20], soon_over), Err(Broken::Late)));
        drop(theirs);
        assert!(matches!(channel.bytes(1, soon()), Err(Broken::Closed)));
    }
}
