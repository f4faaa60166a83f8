//! A daemon in a thread, and programs that do what a pager does, as far as the daemon can see.

#![allow(dead_code)]

pub mod fabric;

use std::{
    fs,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use memtide_daemon::{Config, Daemon, NodeConfig, StopHandle, Summary, config::TenantConfig};
use memtide_proto::{
    ControlReply, ControlRequest, FromProgram, Hello, HelloProgram, Lineage, MAX_PACKET_BYTES,
    NodeInfo, ToProgram, VERSION,
    codec::MAX_CHILDREN,
    control::{Report, Status},
    decode, encode,
    program::{Backing, OnFull},
};
use memtide_sys::{
    socket::Connection,
    token::{self, TokenMap},
};
use memtide_units::{
    ByteSize, Extent, ImageId, MemberId, NodeKind, PAGEBLOCK_BYTES, Pageblock, TokenId,
};

/// Longer than anything here may take.
pub const LONG: Duration = Duration::from_secs(20);

/// A daemon in a thread, in a directory of its own.
pub struct Pool {
    pub config: Config,
    /// What the daemons said beside their answers.
    pub notices: Arc<Mutex<Vec<String>>>,
    directory: PathBuf,
    running: Option<(StopHandle, JoinHandle<Summary>)>,
}

impl Pool {
    /// Of these many pageblocks near and far.
    pub fn start(near: u64, far: u64) -> Self {
        Self::with_tenants(near, far, Vec::new())
    }

    /// The same, for these tenants.
    pub fn with_tenants(near: u64, far: u64, tenants: Vec<TenantConfig>) -> Self {
        let node = |name: &str, kind, pageblocks| {
            NodeConfig::new(name, kind, ByteSize::from_pageblocks(pageblocks), Backing::Memfd)
        };
        let nodes = vec![node("near", NodeKind::Near, near), node("far", NodeKind::Far, far)];
        Self::with_nodes(nodes, tenants)
    }

    /// Of these nodes.
    pub fn with_nodes(nodes: Vec<NodeConfig>, tenants: Vec<TenantConfig>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("memtide-daemon-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).unwrap();
        let mut config = Config::new(directory.join("sock"), nodes).unwrap();
        config.tenants = tenants;
        let mut pool = Self { config, notices: Arc::default(), directory, running: None };
        pool.start_daemon();
        pool
    }

    pub fn start_daemon(&mut self) {
        let mut daemon = Daemon::bind(self.config.clone()).unwrap();
        let stop = daemon.stop_handle();
        let notices = Arc::clone(&self.notices);
        daemon.on_notice(move |notice| notices.lock().unwrap().push(notice.to_string()));
        let thread = std::thread::spawn(move || daemon.run().unwrap());
        self.running = Some((stop, thread));
    }

    pub fn stop_daemon(&mut self) -> Summary {
        let (stop, thread) = self.running.take().unwrap();
        stop.stop();
        thread.join().unwrap()
    }

    pub fn socket(&self) -> &Path {
        &self.config.socket
    }

    pub fn control(&self, request: ControlRequest) -> ControlReply {
        let connection = Connection::connect(self.socket()).unwrap();
        let hello = Hello::Control { version: VERSION, request };
        connection.send(&encode(&hello).unwrap(), &[]).unwrap();
        loop {
            let (packet, _) = next_packet(&connection).expect("an answer");
            match decode(&packet).unwrap() {
                ControlReply::Progress { .. } => {}
                reply => return reply,
            }
        }
    }

    pub fn status(&self) -> Status {
        let ControlReply::Status { status, more: false } = self.control(ControlRequest::Status)
        else {
            panic!("no status")
        };
        for node in &status.nodes {
            let leased = node.leased.0 + node.retired.0;
            let sum = node.free.0 + leased + node.isolated.0 + node.offline.0;
            assert_eq!(sum, node.size.0, "{node:?}");
        }
        status
    }

    pub fn give_back(&self, pageblocks: u64, from: &str) -> Report {
        let reply = self.control(ControlRequest::GiveBack {
            bytes: ByteSize::from_pageblocks(pageblocks),
            from: Some(from.to_owned()),
            deadline_ms: Some(300),
        });
        let ControlReply::Report { report, more: false } = reply else { panic!("{reply:?}") };
        report
    }

    /// Pageblocks leased on all nodes.
    pub fn leased(&self) -> u64 {
        self.status().nodes.iter().map(|node| node.leased.0 / PAGEBLOCK_BYTES).sum()
    }

    pub fn wait_until(&self, what: &str, condition: impl Fn(&Status) -> bool) {
        let start = Instant::now();
        loop {
            let status = self.status();
            if condition(&status) {
                return;
            }
            assert!(start.elapsed() < LONG, "waited for {what}: {status:#?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            stop.stop();
            let _ = thread.join();
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// The next packet, or that the daemon has closed.
pub fn next_packet(connection: &Connection) -> Option<(Vec<u8>, Vec<OwnedFd>)> {
    let start = Instant::now();
    let mut buffer = vec![0; MAX_PACKET_BYTES];
    while start.elapsed() < LONG {
        match connection.receive(&mut buffer) {
            Ok(Some((bytes, fds))) => return Some((buffer[..bytes].to_vec(), fds)),
            Ok(None) => std::thread::sleep(Duration::from_micros(200)),
            Err(_) => return None,
        }
    }
    panic!("the daemon says nothing");
}

/// A token and this process's mapping of it: the "process" dies when it is unmapped.
pub struct Life {
    pub id: TokenId,
    pub file: OwnedFd,
    map: Option<TokenMap>,
}

impl Life {
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = TokenId(NEXT.fetch_add(1, Ordering::Relaxed));
        let file = token::create().unwrap();
        let map = Some(token::map(file.as_fd()).unwrap());
        Self { id, file, map }
    }

    pub fn end(&mut self) {
        if let Some(map) = self.map.take() {
            map.unmap().unwrap();
        }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.end();
    }
}

/// A program that has joined.
pub struct Program {
    pub connection: Connection,
    pub member: MemberId,
    pub image: ImageId,
    pub nodes: Vec<NodeInfo>,
    pub files: Vec<OwnedFd>,
    pub life: Life,
    pub on_full: OnFull,
    pub wait_ms: u64,
}

pub fn hello(lineage: Lineage) -> Vec<u8> {
    hello_as(lineage, "")
}

pub fn hello_as(lineage: Lineage, label: &str) -> Vec<u8> {
    let pid = std::process::id();
    let (name, label) = ("test".to_owned(), label.to_owned());
    let hello = HelloProgram { version: VERSION, pid, name, label, lineage };
    encode(&Hello::Program(hello)).unwrap()
}

impl Program {
    pub fn join(socket: &Path) -> Self {
        Self::join_as(socket, "")
    }

    pub fn join_as(socket: &Path, label: &str) -> Self {
        let (connection, life) = Self::say_hello(socket, label);
        Self::welcomed(connection, life)
    }

    /// A first packet; what comes of it is to be seen.
    pub fn say_hello(socket: &Path, label: &str) -> (Connection, Life) {
        let connection = Connection::connect(socket).unwrap();
        let life = Life::new();
        let packet = hello_as(Lineage::Fresh { token: life.id }, label);
        connection.send(&packet, &[life.file.as_fd()]).unwrap();
        (connection, life)
    }

    pub fn join_as_child(socket: &Path, life: Life) -> Self {
        let connection = Connection::connect(socket).unwrap();
        connection.send(&hello(Lineage::Child { token: life.id }), &[]).unwrap();
        Self::welcomed(connection, life)
    }

    fn welcomed(connection: Connection, life: Life) -> Self {
        let (packet, mut files) = next_packet(&connection).expect("a welcome");
        let message = decode(&packet).unwrap();
        let ToProgram::Welcome { member, image, nodes, on_full, wait_ms, userfaultfd } = message
        else {
            panic!("{message:?}")
        };
        if userfaultfd {
            files.pop();
        }
        assert_eq!(files.len(), nodes.len());
        Self { connection, member, image, nodes, files, life, on_full, wait_ms }
    }

    /// Goes back to a (new) daemon, claiming this.
    pub fn come_back(&mut self, socket: &Path, leased: &[Extent]) -> Option<ToProgram> {
        self.come_back_with(socket, leased, &[], &[])
    }

    /// The same, started as this.
    pub fn come_back_as(
        &mut self,
        socket: &Path,
        leased: &[Extent],
        label: &str,
    ) -> Option<ToProgram> {
        self.say_that_it_is_back(socket, label);
        let (leased, shared) = (leased.to_vec(), vec![]);
        self.send(&FromProgram::Claim { leased, shared, children: vec![], last: true });
        self.hear()
    }

    /// The same, sharing some with children.
    pub fn come_back_with(
        &mut self,
        socket: &Path,
        leased: &[Extent],
        shared: &[Extent],
        children: &[Life],
    ) -> Option<ToProgram> {
        self.say_that_it_is_back(socket, "");
        for children in children.chunks(MAX_CHILDREN) {
            let (leased, shared) = (vec![], vec![]);
            let tokens = children.iter().map(|child| child.id).collect();
            let claim = FromProgram::Claim { leased, shared, children: tokens, last: false };
            let files: Vec<_> = children.iter().map(|child| child.file.as_fd()).collect();
            self.connection.send(&encode(&claim).unwrap(), &files).unwrap();
        }
        let (leased, shared) = (leased.to_vec(), shared.to_vec());
        self.send(&FromProgram::Claim { leased, shared, children: vec![], last: true });
        self.hear()
    }

    /// The first packet of one that comes back.
    pub fn say_that_it_is_back(&mut self, socket: &Path, label: &str) {
        self.connection = Connection::connect(socket).unwrap();
        let lineage = Lineage::Returning {
            token: self.life.id,
            member: self.member,
            image: self.image,
            committed: 0,
        };
        let packet = hello_as(lineage, label);
        let mut fds: Vec<BorrowedFd<'_>> = vec![self.life.file.as_fd()];
        fds.extend(self.files.iter().map(AsFd::as_fd));
        self.connection.send(&packet, &fds).unwrap();
    }

    pub fn send(&self, message: &FromProgram) {
        // The daemon may have closed already.
        let _ = self.connection.send(&encode(message).unwrap(), &[]);
    }

    pub fn hear(&self) -> Option<ToProgram> {
        next_packet(&self.connection).map(|(packet, _)| decode(&packet).unwrap())
    }

    pub fn hear_with_files(&self) -> (ToProgram, Vec<OwnedFd>) {
        let (packet, files) = next_packet(&self.connection).expect("a message");
        (decode(&packet).unwrap(), files)
    }

    pub fn ask_for(&self, count: u32) {
        self.send(&FromProgram::Lease { count, after: None });
    }

    pub fn lease(&self, count: u32) -> Vec<Extent> {
        self.ask_for(count);
        match self.hear() {
            Some(ToProgram::Grant { extents }) => extents,
            other => panic!("{other:?}"),
        }
    }

    fn place(&self, pageblock: Pageblock) -> (&OwnedFd, u64) {
        let node = self.nodes.iter().rposition(|node| node.first <= pageblock).unwrap();
        (&self.files[node], (pageblock.0 - self.nodes[node].first.0) * PAGEBLOCK_BYTES)
    }

    pub fn write(&self, pageblock: Pageblock, byte: u8) {
        let (file, offset) = self.place(pageblock);
        rustix_write(file, &[byte; 4096], offset);
    }

    pub fn read(&self, pageblock: Pageblock) -> u8 {
        let (file, offset) = self.place(pageblock);
        rustix_read(file, offset)
    }

    /// Says that it forks a child with this token.
    pub fn announce(&self, life: &Life) {
        let packet = encode(&FromProgram::ForkBegin { token: life.id }).unwrap();
        self.connection.send(&packet, &[life.file.as_fd()]).unwrap();
    }

    /// Announces a child and hears that it may come.
    pub fn fork(&self) -> Life {
        let life = Life::new();
        self.announce(&life);
        assert_eq!(self.hear(), Some(ToProgram::ForkReady));
        life
    }
}

fn rustix_write(file: &OwnedFd, bytes: &[u8], offset: u64) {
    use std::os::unix::fs::FileExt;
    fs::File::from(file.try_clone().unwrap()).write_all_at(bytes, offset).unwrap();
}

fn rustix_read(file: &OwnedFd, offset: u64) -> u8 {
    use std::os::unix::fs::FileExt;
    let mut byte = [0];
    fs::File::from(file.try_clone().unwrap()).read_exact_at(&mut byte, offset).unwrap();
    byte[0]
}

/// All pageblocks of these extents.
pub fn blocks(extents: &[Extent]) -> Vec<Pageblock> {
    extents.iter().copied().flat_map(Extent::iter).collect()
}
