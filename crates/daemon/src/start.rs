//! What a daemon needs before it can begin: nodes in numbers, a socket that nobody else serves.

use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};

use memtide_engine as engine;
use memtide_store::{Backing, StoreError};
use memtide_sys::socket;
use memtide_units::{ImageId, Pageblock};
use rustix::{
    fs::{FlockOperation, Mode, OFlags},
    io::Errno,
};

use crate::{
    config::Config,
    dcd,
    state::{NodeState, State, StateError},
};

/// How long the programs of an earlier daemon have to come back.
const RECOVERY: Duration = Duration::from_secs(10);
/// The same, when some of them share memory with each other.
const RECOVERY_SHARED: Duration = Duration::from_secs(60);
/// How long it is tried whether another daemon serves an address.
const CONNECT_WAIT: Duration = Duration::from_millis(100);

/// Why there is no daemon.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another one is there.
    #[error("the socket {} is already served by pid {pid}", path.display())]
    AlreadyServed {
        /// Where.
        path: PathBuf,
        /// By whom.
        pid: u32,
    },
    /// The socket cannot be made.
    #[error("cannot listen at {}", path.display())]
    Listen {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The machine lacks what the nodes are to be made of.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What an earlier daemon left is of no use.
    #[error(transparent)]
    State(#[from] StateError),
    /// The engine does not take the configuration.
    #[error("the nodes make no pool: {0}")]
    Engine(#[from] engine::ConfigError),
    /// A system call failed.
    #[error("cannot {what}")]
    System {
        /// Do what.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
}

pub(crate) fn backing(backing: memtide_proto::program::Backing) -> Backing {
    use memtide_proto::program::Backing as Wire;
    match backing {
        Wire::Memfd => Backing::Memfd,
        Wire::MemfdThp => Backing::MemfdThp,
        Wire::Hugetlb => Backing::Hugetlb,
        Wire::Dcd => Backing::Dcd,
    }
}

/// Nodes lie one after the other, each at the start of a block.
pub(crate) fn first_pageblocks(config: &Config) -> Vec<Pageblock> {
    let mut next = 0;
    config
        .nodes
        .iter()
        .map(|node| {
            let first = Pageblock(next);
            next += node.size.pageblocks_ceil();
            first
        })
        .collect()
}

pub(crate) fn fresh_nodes(config: &Config) -> Vec<NodeState> {
    config
        .nodes
        .iter()
        .zip(first_pageblocks(config))
        .map(|(node, first)| {
            let pageblocks = node.size.pageblocks_ceil();
            // What a device gives, and more than `online` says, comes later.
            let online = node.online_at_start().pageblocks_ceil();
            let rest = Pageblock(first.0 + online);
            let offline = dcd::takeover::whole(rest, pageblocks - online);
            let (retired, zones) = (Vec::new(), Vec::new());
            let (name, zone) = (node.name.clone(), node.zone);
            let (online, numa) = (node.numa.and_then(|it| it.online), node.numa.map(|it| it.node));
            NodeState { name, pageblocks, offline, retired, zone, zones, numa, online }
        })
        .collect()
}

pub(crate) fn engine_config(
    config: &Config,
    firsts: &[Pageblock],
    left: &State,
    until: Option<memtide_units::Instant>,
) -> engine::Config {
    let mut made = config.rulebook(firsts, &left.nodes);
    made.next_image = ImageId(left.next_image);
    let images: std::collections::BTreeSet<_> = left.members.iter().map(|m| m.image).collect();
    // Giving up on one of several that share memory could hand out what is still his.
    let shared = images.len() < left.members.len();
    let usual = if shared { RECOVERY_SHARED } else { RECOVERY };
    made.awaited = engine::Awaited {
        members: left.members.iter().map(|member| member.member).collect(),
        until: until.unwrap_or(memtide_units::Instant(usual)),
    };
    made
}

pub(crate) fn open_device() -> Option<OwnedFd> {
    rustix::fs::open("/dev/userfaultfd", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).ok()
}

pub(crate) fn file_of(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    fs::symlink_metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// Takes the place of a daemon that died, but not of one that lives.
pub(crate) fn listen(path: &Path, mode: u32) -> Result<OwnedFd, BindError> {
    let failed = |source| BindError::Listen { path: path.to_owned(), source };
    let parent = path.parent().unwrap_or(Path::new("/"));
    // Two that start at once must not both take the place of the dead one.
    let directory = rustix::fs::open(
        parent,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|errno| failed(errno.into()))?;
    for _ in 0..200 {
        match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => std::thread::sleep(Duration::from_millis(10)),
            _ => break,
        }
    }
    // One that is there and takes no more connections keeps its address, as `listen` will say.
    match socket::connect_within(path, CONNECT_WAIT) {
        Ok(other) => {
            let pid = socket::peer(other.as_fd()).map_or(0, |peer| peer.pid);
            return Err(BindError::AlreadyServed { path: path.to_owned(), pid });
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            use std::os::unix::fs::FileTypeExt;
            // Nobody listens; but only a socket is ours to remove.
            if fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket()) {
                fs::remove_file(path).map_err(failed)?;
            }
        }
        Err(_) => {}
    }
    socket::listen(path, mode, 128).map_err(failed)
}
