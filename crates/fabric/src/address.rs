//! Where a socket is.

use std::{
    fmt, io,
    net::{TcpStream, ToSocketAddrs},
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    str::FromStr,
    time::{Duration, Instant},
};

use memtide_sys::socket;

/// A Unix socket's path, or a host and port.
///
/// Written `unix:PATH`, or an absolute path alone, or `tcp:HOST:PORT` (`tcp:[::1]:7000`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Address {
    /// On this machine. The only kind that can carry memory.
    Unix(PathBuf),
    /// Anywhere: `HOST:PORT`. Nothing is encrypted, and nobody is asked who he is.
    Tcp(String),
}

/// A text that is no address.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseAddressError {
    /// It starts like none.
    #[error("address {0:?}; expected unix:PATH, /PATH or tcp:HOST:PORT")]
    Form(String),
    /// It has no port.
    #[error("address {0:?}; expected a port from 0 to 65535 at its end, as tcp:127.0.0.1:7000")]
    Port(String),
}

impl FromStr for Address {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(rest) = text.strip_prefix("tcp:") {
            let (host, port) =
                rest.rsplit_once(':').ok_or_else(|| ParseAddressError::Port(text.to_owned()))?;
            if host.is_empty() {
                return Err(ParseAddressError::Form(text.to_owned()));
            }
            port.parse::<u16>().map_err(|_| ParseAddressError::Port(text.to_owned()))?;
            return Ok(Self::Tcp(rest.to_owned()));
        }
        let path = match text.strip_prefix("unix:") {
            Some(path) if !path.is_empty() => path,
            None if text.starts_with('/') => text,
            _ => return Err(ParseAddressError::Form(text.to_owned())),
        };
        Ok(Self::Unix(PathBuf::from(path)))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

impl Address {
    /// A nonblocking connection, made within `patience`.
    ///
    /// # Errors
    /// Those of connect(2) and of looking up a name; [`io::ErrorKind::TimedOut`].
    pub fn connect(&self, patience: Duration) -> io::Result<OwnedFd> {
        let fd = match self {
            Self::Unix(path) => match socket::connect_stream(path, patience) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                other => other?,
            },
            Self::Tcp(address) => connect_tcp(address, patience)?,
        };
        socket::set_nonblocking(fd.as_fd())?;
        Ok(fd)
    }
}

fn connect_tcp(address: &str, patience: Duration) -> io::Result<OwnedFd> {
    let until = Instant::now() + patience;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in address.to_socket_addrs()? {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match TcpStream::connect_timeout(&address, left) {
            Ok(stream) => {
                // Requests are small and wait for their answers.
                stream.set_nodelay(true)?;
                return Ok(stream.into());
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_written_as_it_is_read() {
        for (text, shown) in [
            ("unix:/run/f.sock", "unix:/run/f.sock"),
            ("/run/f.sock", "unix:/run/f.sock"),
            ("unix:here", "unix:here"),
            ("tcp:localhost:7000", "tcp:localhost:7000"),
            ("tcp:[::1]:0", "tcp:[::1]:0"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), shown);
            assert_eq!(shown.parse(), Ok(address));
        }
    }

    #[test]
    fn what_is_no_address_is_told_what_one_looks_like() {
        for text in ["", "unix:", "here", "tcp:", "tcp::80", "http://x", "tcp"] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains("expected") && error.contains("tcp:"), "{text}: {error}");
        }
        for text in ["tcp:host", "tcp:host:", "tcp:host:65536", "tcp:host:x"] {
            assert_eq!(
                text.parse::<Address>(),
                Err(ParseAddressError::Port(text.to_owned())),
                "{text}"
            );
        }
    }
}
