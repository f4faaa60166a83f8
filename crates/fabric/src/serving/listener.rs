//! Listening sockets.
//!
//! The file of a Unix socket outlives its server. A new server takes the place of one that nobody
//! answers on, and of nothing else: neither of a living server nor of another kind of file. Two
//! that start at once are kept apart by a lock on the directory.

use std::{
    fs, io,
    net::TcpListener,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::{FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use memtide_sys::socket;
use rustix::{
    fs::{FlockOperation, Mode, OFlags},
    io::Errno,
};

use crate::Address;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;
/// How long is waited for somebody else who is starting in the same directory.
const LOCK_TRIES: u32 = 200;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Why nobody can connect.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Somebody listens there.
    #[error("{address} is served by another process (pid {pid})")]
    AlreadyServed {
        /// Where.
        address: Address,
        /// Whose; 0 if it cannot be seen.
        pid: u32,
    },
    /// The system does not let us.
    #[error("cannot listen at {address}")]
    System {
        /// Where.
        address: Address,
        /// Why not.
        source: io::Error,
    },
}

/// A nonblocking listening socket. Its file goes when it does.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    address: Address,
    /// Which file is ours: another one at the same path is not removed.
    file: Option<(PathBuf, u64, u64)>,
}

impl Listener {
    /// Listens. A Unix socket is for this user alone.
    ///
    /// # Errors
    /// [`ListenError`]; nothing is left behind then.
    pub fn bind(address: &Address) -> Result<Self, ListenError> {
        let failed = |source| ListenError::System { address: address.clone(), source };
        match address {
            Address::Unix(path) => {
                let socket = bind_unix(path, address)?;
                let file = fs::symlink_metadata(path).map_err(failed)?;
                let file = Some((path.clone(), file.dev(), file.ino()));
                Ok(Self { socket, address: address.clone(), file })
            }
            Address::Tcp(text) => {
                let listener = TcpListener::bind(text).map_err(failed)?;
                listener.set_nonblocking(true).map_err(failed)?;
                let address = Address::Tcp(listener.local_addr().map_err(failed)?.to_string());
                Ok(Self { socket: listener.into(), address, file: None })
            }
        }
    }

    /// Where it is; with the port that the system chose, for one that asked for port 0.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// The next connection, nonblocking, or nothing.
    ///
    /// # Errors
    /// Those of accept4(2) that are about us, as too few descriptors.
    pub fn accept(&self) -> io::Result<Option<OwnedFd>> {
        loop {
            match socket::accept(self.socket.as_fd()) {
                Ok(fd) => {
                    if matches!(self.address, Address::Tcp(_)) {
                        // Answers are small and waited for. Without it they are only later.
                        let _ = rustix::net::sockopt::set_tcp_nodelay(&fd, true);
                    }
                    return Ok(Some(fd));
                }
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some((path, device, inode)) = &self.file {
            let is_ours = |file: fs::Metadata| (file.dev(), file.ino()) == (*device, *inode);
            if fs::symlink_metadata(path).is_ok_and(is_ours) {
                let _ = fs::remove_file(path);
            }
        }
    }
}

fn bind_unix(path: &Path, address: &Address) -> Result<OwnedFd, ListenError> {
    let failed = |source| ListenError::System { address: address.clone(), source };
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(parent.unwrap_or(Path::new(".")), flags, Mode::empty())
        .map_err(|errno| failed(errno.into()))?;
    for _ in 0..LOCK_TRIES {
        match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => std::thread::sleep(LOCK_PAUSE),
            _ => break,
        }
    }
    match socket::connect_stream(path, LOCK_PAUSE) {
        Ok(other) => {
            let pid = socket::peer(other.as_fd()).map_or(0, |peer| peer.pid);
            return Err(ListenError::AlreadyServed { address: address.clone(), pid });
        }
        // It listens, and is behind with accepting.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            return Err(ListenError::AlreadyServed { address: address.clone(), pid: 0 });
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            if fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket()) {
                fs::remove_file(path).map_err(failed)?;
            }
        }
        Err(_) => {}
    }
    socket::listen_stream(path, 0o600, BACKLOG).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &Path) -> Address {
        Address::Unix(path.to_owned())
    }

    #[test]
    fn a_dead_servers_place_is_taken_and_a_living_ones_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let mut first = Listener::bind(&at(&path)).unwrap();
        let error = Listener::bind(&at(&path)).unwrap_err();
        let own = std::process::id();
        assert!(matches!(error, ListenError::AlreadyServed { pid, .. } if pid == own), "{error}");
        // Dead: the file stays, nobody listens.
        first.file = None;
        drop(first);
        assert!(path.exists());
        let second = Listener::bind(&at(&path)).unwrap();
        drop(second);
        assert!(!path.exists());
    }

    #[test]
    fn only_sockets_are_removed_and_only_ones_own() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        fs::write(&path, "kept").unwrap();
        assert!(matches!(Listener::bind(&at(&path)), Err(ListenError::System { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"kept");
        fs::remove_file(&path).unwrap();
        let listener = Listener::bind(&at(&path)).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "another's").unwrap();
        drop(listener);
        assert!(path.exists());
    }

    #[test]
    fn a_port_that_the_system_chooses_is_told() {
        let listener = Listener::bind(&"tcp:127.0.0.1:0".parse().unwrap()).unwrap();
        assert!(listener.accept().unwrap().is_none());
        let connected = listener.address().connect(Duration::from_secs(1)).unwrap();
        while listener.accept().unwrap().is_none() {}
        drop(connected);
    }
}
