//! Unix sockets of packets or streams, with descriptors beside what is sent.
//!
//! Of sequenced packets (all functions that do not say otherwise):
//! One `send` is one packet is one `receive`. What does not fit is an error, never a part of a
//! packet: the kernel closes descriptors that find no room, and those already received are closed
//! when the error is made. Every descriptor made here closes on exec.
//!
//! References: unix(7), recvmsg(2), cmsg(3).

use std::{
    fmt, io,
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::fs::PermissionsExt,
    },
    path::Path,
    time::Duration,
};

use rustix::{
    fs::OFlags,
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
        SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
        SocketType, sockopt::Timeout,
    },
};

/// Most descriptors that one packet may carry.
pub const MAX_FDS: usize = 64;

/// Who is at the other end, as the kernel tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Its process number; 0 when it is not visible from here.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// One packet's length and descriptors; its bytes are in the buffer that the caller gave.
#[derive(Debug)]
pub struct Received {
    /// How many bytes. Zero when the other end has closed.
    pub bytes: usize,
    /// What came beside it.
    pub fds: Vec<OwnedFd>,
}

/// Why there is no packet.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReceiveError {
    /// The packet was larger than the buffer; it is lost.
    TooLarge,
    /// More descriptors than [`MAX_FDS`], or this process may open no more; all are closed.
    TooManyFds,
    /// The system call failed; [`Errno::AGAIN`] when a nonblocking socket has nothing.
    Io(Errno),
}

impl ReceiveError {
    /// Whether a nonblocking socket simply had nothing.
    #[must_use]
    pub fn would_block(&self) -> bool {
        matches!(self, Self::Io(Errno::AGAIN))
    }
}

impl fmt::Display for ReceiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => f.write_str("a packet larger than the protocol allows"),
            Self::TooManyFds => write!(f, "more than {MAX_FDS} descriptors, or no room for them"),
            Self::Io(error) => fmt::Display::fmt(&io::Error::from(*error), f),
        }
    }
}

impl std::error::Error for ReceiveError {}

fn address(path: &Path) -> io::Result<SocketAddrUnix> {
    SocketAddrUnix::new(path).map_err(|error| match error {
        Errno::NAMETOOLONG => io::Error::new(
            io::ErrorKind::InvalidInput,
            "the path of a socket has at most 107 bytes",
        ),
        other => other.into(),
    })
}

fn new_socket(kind: SocketType) -> Result<OwnedFd, Errno> {
    rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)
}

/// A nonblocking listener at `path`, whose file has `mode` before anybody can connect.
///
/// # Errors
/// Those of socket(2), bind(2) — [`io::ErrorKind::AddrInUse`] when the path exists —, chmod(2)
/// and listen(2).
pub fn listen(path: &Path, mode: u32, backlog: i32) -> io::Result<OwnedFd> {
    listen_as(SocketType::SEQPACKET, path, mode, backlog)
}

/// As [`listen`], for streams.
///
/// # Errors
/// Those of [`listen`].
pub fn listen_stream(path: &Path, mode: u32, backlog: i32) -> io::Result<OwnedFd> {
    listen_as(SocketType::STREAM, path, mode, backlog)
}

fn listen_as(kind: SocketType, path: &Path, mode: u32, backlog: i32) -> io::Result<OwnedFd> {
    let address = address(path)?;
    let socket = new_socket(kind)?;
    rustix::net::bind(&socket, &address)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    rustix::net::listen(&socket, backlog)?;
    set_nonblocking(socket.as_fd())?;
    Ok(socket)
}

/// The next connection, nonblocking.
///
/// # Errors
/// Those of accept4(2).
pub fn accept(listener: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    rustix::net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)
}

/// A blocking connection to `path`.
///
/// # Errors
/// Those of socket(2) and connect(2).
pub fn connect(path: &Path) -> io::Result<OwnedFd> {
    let address = address(path)?;
    let socket = new_socket(SocketType::SEQPACKET)?;
    rustix::net::connect(&socket, &address)?;
    Ok(socket)
}

/// As [`connect`], to one who must have room for it within `patience`: whoever is stopped, or hangs,
/// accepts nothing, and once as many as its backlog holds have tried, the next one waits. Sends over
/// it give up after the same time.
///
/// # Errors
/// Those of socket(2), setsockopt(2) and connect(2): [`io::ErrorKind::WouldBlock`] where there is no
/// room in time.
pub fn connect_within(path: &Path, patience: Duration) -> io::Result<OwnedFd> {
    connect_as(SocketType::SEQPACKET, path, patience)
}

/// A stream to `path`, which must accept it within `patience`. It blocks, and its sends give up
/// after the same time; a nonblocking one ([`set_nonblocking`]) does neither.
///
/// # Errors
/// Those of socket(2), setsockopt(2) and connect(2): [`io::ErrorKind::WouldBlock`] where nobody
/// accepts in time.
pub fn connect_stream(path: &Path, patience: Duration) -> io::Result<OwnedFd> {
    connect_as(SocketType::STREAM, path, patience)
}

fn connect_as(kind: SocketType, path: &Path, patience: Duration) -> io::Result<OwnedFd> {
    let address = address(path)?;
    let socket = new_socket(kind)?;
    // Connecting to a Unix socket waits for room in its backlog as long as sending may take.
    rustix::net::sockopt::set_socket_timeout(&socket, Timeout::Send, Some(patience))?;
    rustix::net::connect(&socket, &address)?;
    Ok(socket)
}

/// Two connected, blocking ends.
///
/// # Errors
/// Those of socketpair(2).
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Makes `send` and `receive` return [`Errno::AGAIN`] rather than wait.
///
/// # Errors
/// Those of fcntl(2).
pub fn set_nonblocking(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = rustix::fs::fcntl_getfl(socket)?;
    rustix::fs::fcntl_setfl(socket, flags | OFlags::NONBLOCK)
}

/// Sends one packet, with descriptors beside it. Never raises SIGPIPE.
///
/// # Errors
/// Those of sendmsg(2); [`Errno::INVAL`] for more than [`MAX_FDS`] descriptors.
pub fn send(socket: BorrowedFd<'_>, packet: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let sent = send_some(socket, packet, fds)?;
    assert_eq!(sent, packet.len(), "a sequenced packet is sent whole or not at all");
    Ok(())
}

/// Sends the start of `bytes` over a stream, as much as there is room for and at least one byte,
/// with descriptors beside the first. Never raises SIGPIPE. How many bytes were sent.
///
/// # Errors
/// Those of [`send`].
pub fn send_some(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fits = fds.len() <= MAX_FDS
        && (fds.is_empty() || control.push(SendAncillaryMessage::ScmRights(fds)));
    if !fits {
        return Err(Errno::INVAL);
    }
    rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)
    })
}

/// Receives one packet, or what a stream has of bytes, into `buffer`, with at most [`MAX_FDS`]
/// descriptors.
///
/// # Errors
/// [`ReceiveError`]; nothing of the packet is left behind.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<Received, ReceiveError> {
    receive_with(socket, buffer, RecvFlags::empty())
}

fn receive_with(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    flags: RecvFlags,
) -> Result<Received, ReceiveError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let result = rustix::io::retry_on_intr(|| {
        let mut parts = [IoSliceMut::new(buffer)];
        rustix::net::recvmsg(socket, &mut parts, &mut control, flags | RecvFlags::CMSG_CLOEXEC)
    })
    .map_err(ReceiveError::Io)?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if result.flags.contains(ReturnFlags::CTRUNC) || fds.len() > MAX_FDS {
        return Err(ReceiveError::TooManyFds);
    }
    if result.flags.contains(ReturnFlags::TRUNC) {
        return Err(ReceiveError::TooLarge);
    }
    Ok(Received { bytes: result.bytes, fds })
}

/// The program's end of a connection: sending waits for room, receiving never waits.
#[derive(Debug)]
pub struct Connection(OwnedFd);

impl Connection {
    /// Connects to `path`.
    ///
    /// # Errors
    /// Those of socket(2) and connect(2).
    pub fn connect(path: &Path) -> io::Result<Self> {
        connect(path).map(Self)
    }

    /// Sends one packet; waits while the other end is behind.
    ///
    /// # Errors
    /// Those of [`send`].
    pub fn send(&self, packet: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        Ok(send(self.0.as_fd(), packet, fds)?)
    }

    /// Takes the next packet if one is there: its length in `buffer`, and its descriptors.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] when the other end has closed; [`ReceiveError`].
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<(usize, Vec<OwnedFd>)>> {
        match receive_with(self.0.as_fd(), buffer, RecvFlags::DONTWAIT) {
            Ok(Received { bytes: 0, .. }) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(received) => Ok(Some((received.bytes, received.fds))),
            Err(ReceiveError::Io(Errno::AGAIN)) => Ok(None),
            Err(ReceiveError::Io(error)) => Err(error.into()),
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Connection {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

/// Who connected this socket (for an accepted one) or listens (for a connected one).
///
/// # Errors
/// Those of getsockopt(2).
pub fn peer(socket: BorrowedFd<'_>) -> io::Result<Peer> {
    // Not rustix's: its process number cannot be 0, which is what the kernel says of a peer
    // outside this process-number namespace.
    let mut credentials = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: SO_PEERCRED writes at most `length` bytes, the size of the ucred pointed to.
    let status = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut credentials).cast(),
            &raw mut length,
        )
    };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Peer {
        pid: u32::try_from(credentials.pid).unwrap_or(0),
        uid: credentials.uid,
        gid: credentials.gid,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_and_its_descriptors_arrive_together() {
        let (a, b) = pair().unwrap();
        send(a.as_fd(), b"hello", &[a.as_fd(), b.as_fd()]).unwrap();
        let mut buffer = [0; 16];
        let got = receive(b.as_fd(), &mut buffer).unwrap();
        assert_eq!(&buffer[..got.bytes], b"hello");
        assert_eq!(got.fds.len(), 2);
        for fd in &got.fds {
            let flags = rustix::io::fcntl_getfd(fd).unwrap();
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        }
    }

    #[test]
    fn a_packet_that_does_not_fit_is_an_error_and_the_next_is_not() {
        let (a, b) = pair().unwrap();
        send(a.as_fd(), &[7; 100], &[]).unwrap();
        send(a.as_fd(), &[8; 10], &[]).unwrap();
        let mut buffer = [0; 16];
        assert!(matches!(receive(b.as_fd(), &mut buffer), Err(ReceiveError::TooLarge)));
        assert_eq!(receive(b.as_fd(), &mut buffer).unwrap().bytes, 10);
    }

    #[test]
    fn a_stream_brings_a_descriptor_with_the_bytes_that_it_was_sent_beside() {
        let directory = std::env::temp_dir().join(format!("memtide-sys-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("stream");
        let listener = listen_stream(&path, 0o600, 4).unwrap();
        let client = connect_stream(&path, Duration::from_secs(1)).unwrap();
        let server = accept(listener.as_fd()).unwrap();
        assert_eq!(send_some(server.as_fd(), b"before", &[]), Ok(6));
        assert_eq!(send_some(server.as_fd(), b"with", &[listener.as_fd()]), Ok(4));
        let mut buffer = [0; 64];
        let (mut bytes, mut fds) = (0, 0);
        while bytes < 10 {
            let got = receive(client.as_fd(), &mut buffer).unwrap();
            bytes += got.bytes;
            fds += got.fds.len();
        }
        assert_eq!((bytes, fds), (10, 1));
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn who_has_no_room_for_a_connection_is_not_waited_for() {
        let directory = std::env::temp_dir().join(format!("memtide-full-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("packets");
        let _listener = listen(&path, 0o600, 1).unwrap();
        let patience = Duration::from_millis(50);
        let connections: Vec<_> = (0..8).map(|_| connect_within(&path, patience)).collect();
        assert!(connections[0].is_ok(), "{connections:?}");
        let error = connections.into_iter().find_map(Result::err).expect("no room for eight");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn too_many_descriptors_are_refused_by_the_sender() {
        let (a, _b) = pair().unwrap();
        let fds = vec![a.as_fd(); MAX_FDS + 1];
        assert_eq!(send(a.as_fd(), b"x", &fds), Err(Errno::INVAL));
    }

    #[test]
    fn a_closed_end_reads_as_nothing() {
        let (a, b) = pair().unwrap();
        drop(a);
        assert_eq!(receive(b.as_fd(), &mut [0; 4]).unwrap().bytes, 0);
        assert_eq!(send(b.as_fd(), b"x", &[]), Err(Errno::PIPE));
    }

    #[test]
    fn a_connection_receives_without_waiting() {
        let (a, b) = pair().unwrap();
        let (a, b) = (Connection::from(a), Connection::from(b));
        let mut buffer = [0; 4];
        assert!(b.receive(&mut buffer).unwrap().is_none());
        a.send(b"x", &[]).unwrap();
        assert_eq!(b.receive(&mut buffer).unwrap().unwrap().0, 1);
        drop(a);
        let error = b.receive(&mut buffer).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_nonblocking_end_without_packets_says_so() {
        let (a, b) = pair().unwrap();
        set_nonblocking(b.as_fd()).unwrap();
        assert!(receive(b.as_fd(), &mut [0; 4]).unwrap_err().would_block());
        drop(a);
    }

    #[test]
    fn the_peer_of_a_pair_is_this_process() {
        let (a, _b) = pair().unwrap();
        assert_eq!(peer(a.as_fd()).unwrap().pid, std::process::id());
    }

    #[test]
    fn a_path_that_is_too_long_is_explained() {
        let path = format!("/tmp/{}", "x".repeat(200));
        let error = connect(Path::new(&path)).unwrap_err();
        assert!(error.to_string().contains("107"), "{error}");
    }
}
