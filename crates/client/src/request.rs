//! Asking a daemon.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use memtide_proto::{
    CodecError, ControlReply, ControlRequest, Hello, MAX_PACKET_BYTES, Refused, VERSION,
    control::{DcdStatus, Decision, Report, Status, TenantStatus},
    decode, encode,
};
use memtide_sys::socket::{self, ReceiveError};
use memtide_units::ByteSize;
use rustix::event::{PollFd, PollFlags, Timespec};

/// How long a daemon may take for an answer that needs no work, or beyond a deadline.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a daemon answered.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Answer {
    /// To [`ControlRequest::Status`].
    Status(Status),
    /// To [`ControlRequest::Tenants`].
    Tenants(Vec<TenantStatus>),
    /// To [`ControlRequest::Explain`].
    Decisions(Vec<Decision>),
    /// To [`ControlRequest::Devices`].
    Devices(Vec<DcdStatus>),
    /// To a give-back or a move.
    Report(Report),
    /// To [`ControlRequest::Add`], [`ControlRequest::Retire`], [`ControlRequest::Accept`] and
    /// [`ControlRequest::Shutdown`].
    Done(ByteSize),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody listens there.
    #[error(
        "no memtide daemon at {}; start one with `memtide serve`, or name another with --socket",
        path.display()
    )]
    NoDaemon {
        /// Where.
        path: PathBuf,
    },
    /// There are several, and none was named.
    #[error(
        "several memtide daemons are running; name one with --socket: {}",
        paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    SeveralDaemons {
        /// Where.
        paths: Vec<PathBuf>,
    },
    /// This user may not connect.
    #[error(
        "user {user} may not connect to {}; its owner can allow that with `mode` in memtide.toml",
        path.display()
    )]
    NotAllowed {
        /// Where.
        path: PathBuf,
        /// Who.
        user: u32,
    },
    /// What is there is no daemon's socket.
    #[error("cannot connect to {}", path.display())]
    Connect {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The daemon does not do that; nothing changed.
    #[error("{0}")]
    Refused(Refused),
    /// The daemon ended in the middle.
    #[error("the daemon ended before it answered")]
    Closed,
    /// The daemon takes too long.
    #[error("the daemon did not answer within {} seconds", waited.as_secs())]
    Silent {
        /// How long it had.
        waited: Duration,
    },
    /// The daemon speaks another language.
    #[error("the daemon's answer is not understood; are both of the same version?")]
    Answer(#[source] CodecError),
    /// A system call failed.
    #[error("cannot talk to the daemon")]
    Io(#[source] io::Error),
}

impl ClientError {
    /// Whether it is the request that is at fault, not the circumstances.
    #[must_use]
    pub const fn is_usage(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::SeveralDaemons { .. })
    }
}

/// How long a daemon may take to have room for another connection when that is all that is asked.
const ROOM_WITHIN: Duration = Duration::from_millis(100);

/// Whether a daemon (or anybody at all) listens at this socket. One who has no room for another
/// connection does.
#[must_use]
pub fn is_served(path: &Path) -> bool {
    match socket::connect_within(path, ROOM_WITHIN) {
        Ok(_) => true,
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}

fn connect(path: &Path, patience: Duration) -> Result<OwnedFd, ClientError> {
    socket::connect_within(path, patience).map_err(|source| {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NoDaemon { path }
            }
            io::ErrorKind::PermissionDenied => {
                ClientError::NotAllowed { path, user: rustix::process::geteuid().as_raw() }
            }
            io::ErrorKind::WouldBlock => ClientError::Silent { waited: patience },
            _ => ClientError::Connect { path, source },
        }
    })
}

/// How long the daemon may take, for this request.
fn patience(request: &ControlRequest) -> Duration {
    match request {
        ControlRequest::GiveBack { deadline_ms, .. } | ControlRequest::Move { deadline_ms, .. } => {
            // Without one, the daemon's own holds, which is a day at most.
            let deadline =
                deadline_ms.map_or(Duration::from_secs(24 * 3600), Duration::from_millis);
            deadline.saturating_add(PATIENCE)
        }
        _ => PATIENCE,
    }
}

/// Asks the daemon at `path`; `on_progress` hears how many bytes are done, and of how many.
///
/// # Errors
/// [`ClientError`].
pub fn request(
    path: &Path,
    request: ControlRequest,
    on_progress: &mut dyn FnMut(ByteSize, ByteSize),
) -> Result<Answer, ClientError> {
    let socket = connect(path, PATIENCE)?;
    let waited = patience(&request);
    let until = Instant::now() + waited;
    let hello = Hello::Control { version: VERSION, request };
    let packet = encode(&hello).map_err(ClientError::Answer)?;
    socket::send(socket.as_fd(), &packet, &[]).map_err(|errno| ClientError::Io(errno.into()))?;
    let mut answer: Option<Answer> = None;
    loop {
        let reply = receive(&socket, until).map_err(|error| match error {
            ClientError::Silent { .. } => ClientError::Silent { waited },
            other => other,
        })?;
        let (part, more) = match reply {
            ControlReply::Progress { done, of } => {
                on_progress(done, of);
                continue;
            }
            ControlReply::Refused(why) => return Err(ClientError::Refused(why)),
            ControlReply::Done { bytes } => (Answer::Done(bytes), false),
            ControlReply::Status { status, more } => (Answer::Status(status), more),
            ControlReply::Tenants { tenants, more } => (Answer::Tenants(tenants), more),
            ControlReply::Decisions { decisions, more } => (Answer::Decisions(decisions), more),
            ControlReply::Devices { device, more } => {
                (Answer::Devices(device.into_iter().collect()), more)
            }
            ControlReply::Report { report, more } => (Answer::Report(report), more),
        };
        let whole = match answer.take() {
            None => part,
            Some(before) => join(before, part),
        };
        if !more {
            return Ok(whole);
        }
        answer = Some(whole);
    }
}

/// Two parts of one answer.
fn join(before: Answer, part: Answer) -> Answer {
    match (before, part) {
        (Answer::Status(mut all), Answer::Status(part)) => {
            all.programs.extend(part.programs);
            Answer::Status(all)
        }
        (Answer::Tenants(mut all), Answer::Tenants(part)) => {
            all.extend(part);
            Answer::Tenants(all)
        }
        (Answer::Decisions(mut all), Answer::Decisions(part)) => {
            all.extend(part);
            Answer::Decisions(all)
        }
        (Answer::Devices(mut all), Answer::Devices(part)) => {
            for device in part {
                match all.last_mut() {
                    Some(last) if last.node == device.node => last.extents.extend(device.extents),
                    _ => all.push(device),
                }
            }
            Answer::Devices(all)
        }
        (Answer::Report(mut all), Answer::Report(part)) => {
            all.holders.extend(part.holders);
            Answer::Report(all)
        }
        (_, part) => part,
    }
}

fn receive(socket: &OwnedFd, until: Instant) -> Result<ControlReply, ClientError> {
    let left = until.saturating_duration_since(Instant::now());
    let timeout = Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(left.subsec_nanos()),
    };
    let ready = rustix::io::retry_on_intr(|| {
        rustix::event::poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&timeout))
    });
    if ready.map_err(|errno| ClientError::Io(errno.into()))? == 0 {
        return Err(ClientError::Silent { waited: Duration::ZERO });
    }
    let mut buffer = vec![0; MAX_PACKET_BYTES];
    match socket::receive(socket.as_fd(), &mut buffer) {
        Ok(received) if received.bytes == 0 => Err(ClientError::Closed),
        Ok(received) => decode(&buffer[..received.bytes]).map_err(ClientError::Answer),
        Err(ReceiveError::Io(rustix::io::Errno::CONNRESET)) => Err(ClientError::Closed),
        Err(ReceiveError::Io(errno)) => Err(ClientError::Io(errno.into())),
        Err(error) => Err(ClientError::Io(io::Error::new(io::ErrorKind::InvalidData, error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_there_is_explained() {
        let path = Path::new("/nonexistent/memtide.sock");
        let error = request(path, ControlRequest::Status, &mut |_, _| ()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("no memtide daemon at /nonexistent/memtide.sock"), "{text}");
        assert!(text.contains("memtide serve"), "{text}");
    }

    #[test]
    fn a_daemon_that_is_stopped_is_there_and_silent() {
        let path = std::env::temp_dir().join(format!("memtide-stopped-{}", std::process::id()));
        let _listener = socket::listen(&path, 0o600, 1).unwrap();
        let patience = Duration::from_millis(50);
        // As those have left who gave up.
        let waiting: Vec<_> = (0..8).map_while(|_| connect(&path, patience).ok()).collect();
        assert!((1..8).contains(&waiting.len()), "{}", waiting.len());
        let error = connect(&path, patience).unwrap_err();
        assert!(matches!(error, ClientError::Silent { waited } if waited == patience), "{error:?}");
        assert!(is_served(&path));
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_daemon_that_ends_in_the_middle_is_noticed() {
        let path = std::env::temp_dir().join(format!("memtide-client-{}", std::process::id()));
        let listener = socket::listen(&path, 0o600, 8).unwrap();
        let server = std::thread::spawn(move || {
            loop {
                if let Ok(connection) = socket::accept(listener.as_fd()) {
                    break drop(connection);
                }
            }
        });
        let error = request(&path, ControlRequest::Status, &mut |_, _| ()).unwrap_err();
        assert!(matches!(error, ClientError::Closed | ClientError::Io(_)), "{error:?}");
        server.join().unwrap();
        std::fs::remove_file(&path).unwrap();
    }
}
