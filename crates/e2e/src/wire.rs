//! Small clients: memcached's text protocol, and packets of anything.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::fd::OwnedFd,
    path::Path,
    time::{Duration, Instant},
};

use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketType, connect, send, socket};

/// Connects to a port of this machine as soon as somebody listens there.
///
/// # Panics
/// If nobody does in time.
#[must_use]
pub fn connect_soon(port: u16, within: Duration) -> TcpStream {
    let deadline = Instant::now() + within;
    loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => {
                let limit = Some(Duration::from_secs(30));
                stream.set_read_timeout(limit).expect("setting a time-out");
                stream.set_write_timeout(limit).expect("setting a time-out");
                return stream;
            }
            Err(e) if Instant::now() > deadline => panic!("port {port}: {e}"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// A port of this machine that nobody used a moment ago.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("binding to any port");
    listener.local_addr().expect("its address").port()
}

/// A memcached client.
#[derive(Debug)]
pub struct Memcached(BufReader<TcpStream>);

impl Memcached {
    /// Over this connection.
    #[must_use]
    pub fn new(stream: TcpStream) -> Self {
        Self(BufReader::new(stream))
    }

    /// Stores a value.
    ///
    /// # Panics
    /// If the server does not answer `STORED`.
    pub fn set(&mut self, key: &str, value: &[u8]) {
        let mut request = format!("set {key} 0 0 {}\r\n", value.len()).into_bytes();
        request.extend_from_slice(value);
        request.extend_from_slice(b"\r\n");
        self.0.get_mut().write_all(&request).expect("memcached: writing");
        let answer = self.line();
        assert_eq!(answer, "STORED", "set {key}");
    }

    /// Fetches a value.
    ///
    /// # Panics
    /// If the server breaks the protocol.
    pub fn get(&mut self, key: &str) -> Option<Vec<u8>> {
        self.0
            .get_mut()
            .write_all(format!("get {key}\r\n").as_bytes())
            .expect("memcached: writing");
        let head = self.line();
        if head == "END" {
            return None;
        }
        let length: usize =
            head.rsplit(' ').next().and_then(|n| n.parse().ok()).expect("VALUE key flags length");
        let mut value = vec![0; length + 2];
        self.0.read_exact(&mut value).expect("memcached: reading");
        value.truncate(length);
        assert_eq!(self.line(), "END");
        Some(value)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("memcached: reading");
        line.trim_end().to_owned()
    }
}

/// Connects to a memtide socket and sends these packets, whatever they are.
///
/// Errors are of no interest: a daemon may close the connection at any time. The connection is
/// returned, so that the caller may keep it open and silent.
///
/// # Panics
/// If the daemon does not accept connections.
#[must_use]
pub fn send_packets(path: &Path, packets: &[Vec<u8>]) -> OwnedFd {
    let socket = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).expect("a socket");
    let address = SocketAddrUnix::new(path).expect("a socket address");
    connect(&socket, &address).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    for packet in packets {
        if send(&socket, packet, SendFlags::NOSIGNAL | SendFlags::DONTWAIT).is_err() {
            break;
        }
    }
    socket
}
