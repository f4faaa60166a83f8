//! What `memtide dcd serve` says to a pool that has the device's capacity: status, add and
//! give-back, as an operator would.
//!
//! A node of a pool has one device. Whoever serves compares what is online of *his* device with what
//! the node has: a second one would take for too much what the first has added, and both would empty
//! and fill it without end. So a node is locked for as long as somebody serves for it, by a file
//! named after socket and node, as a device is.

use std::{
    fmt,
    fs::File,
    path::{Path, PathBuf},
    time::Duration,
};

use memtide_client::{Answer, ClientError, paths, request};
use memtide_host::{
    dcd::{AddError, Pool, PoolError, PoolState},
    give_back::answer::{Holder, Reason},
};
use memtide_proto::{ControlRequest, control};
use memtide_units::ByteSize;

use super::control::lock;
use crate::{
    arguments::DcdServe,
    failure::{Failure, chain},
};

/// A node of a daemon's pool.
#[derive(Debug)]
struct Daemon {
    socket: PathBuf,
    node: String,
    /// Keeps another device away.
    _lock: File,
}

/// The pool that the options name, if they do.
pub fn of(options: &DcdServe) -> Result<Option<Box<dyn Pool>>, Failure> {
    let (Some(socket), Some(node)) = (&options.pool, &options.pool_node) else { return Ok(None) };
    let lock = only_for(&paths::runtime_directory(), socket, node)?;
    Ok(Some(Box::new(Daemon { socket: socket.clone(), node: node.clone(), _lock: lock })))
}

/// Locks a node, in the directory where sockets of devices are.
fn only_for(directory: &Path, socket: &Path, node: &str) -> Result<File, Failure> {
    let socket = whole(socket);
    lock(&directory.join(lock_name(&socket, node)))?.ok_or_else(|| {
        Failure::Failed(format!(
            "node {node} of the pool at {} has the capacity of another device already: expected \
             one `memtide dcd serve` for one node of a pool",
            socket.display()
        ))
    })
}

/// The path of a socket, the same however it is written. The daemon need not be there yet, but its
/// directory should.
fn whole(socket: &Path) -> PathBuf {
    let path = std::path::absolute(socket).unwrap_or_else(|_| socket.to_owned());
    let to_come = || Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?));
    path.canonicalize().ok().or_else(to_come).unwrap_or_else(|| path.clone())
}

/// A name for a file, another for each socket and node. A node's name has no `@`.
fn lock_name(socket: &Path, node: &str) -> String {
    let escape = |text: &str| text.replace('%', "%25").replace('/', "%2F").replace('@', "%40");
    format!("dcd-pool-{}@{}.lock", escape(&socket.to_string_lossy()), escape(node))
}

/// Why a pool is of no use.
#[derive(Debug)]
enum Trouble {
    /// The daemon does not answer, or refuses.
    Daemon(ClientError),
    /// It has no such node.
    NoNode { name: String, nodes: Vec<String> },
    /// It answers something else than it was asked.
    Answer,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Daemon(error) => f.write_str(&chain(error)),
            Self::NoNode { name, nodes } => {
                write!(f, "it has no node {name:?}; expected one of {}", nodes.join(", "))
            }
            Self::Answer => f.write_str("its daemon answers something else than it was asked"),
        }
    }
}

impl std::error::Error for Trouble {}

impl Daemon {
    fn ask(&self, what: ControlRequest) -> Result<Answer, Trouble> {
        request(&self.socket, what, &mut |_, _| ()).map_err(Trouble::Daemon)
    }
}

impl Pool for Daemon {
    fn state(&mut self) -> Result<PoolState, PoolError> {
        let Answer::Status(status) = self.ask(ControlRequest::Status)? else {
            return Err(Trouble::Answer.into());
        };
        let Some(node) = status.nodes.iter().find(|node| node.name == self.node) else {
            let nodes = status.nodes.into_iter().map(|node| node.name).collect();
            return Err(Trouble::NoNode { name: self.node.clone(), nodes }.into());
        };
        let online = ByteSize(node.size.0.saturating_sub(node.offline.0));
        Ok(PoolState { numa: node.numa, online, size: node.size })
    }

    fn add(&mut self, bytes: ByteSize) -> Result<ByteSize, AddError> {
        added(self.ask(ControlRequest::Add { bytes, to: self.node.clone(), zone: None }))
    }

    fn give_back(&mut self, bytes: ByteSize, deadline: Duration) -> Result<Vec<Holder>, PoolError> {
        let from = Some(self.node.clone());
        let deadline_ms = Some(u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX));
        match self.ask(ControlRequest::GiveBack { bytes, from, deadline_ms })? {
            Answer::Report(report) => Ok(report.holders.into_iter().map(held).collect()),
            _ => Err(Trouble::Answer.into()),
        }
    }
}

/// What a daemon says of an add: with a refusal it is as it was, and less may do.
fn added(answer: Result<Answer, Trouble>) -> Result<ByteSize, AddError> {
    match answer {
        Ok(Answer::Done(added)) => Ok(added),
        Ok(_) => Err(AddError::NoAnswer(Trouble::Answer.into())),
        Err(why @ Trouble::Daemon(ClientError::Refused(_))) => Err(AddError::Refused(why.into())),
        Err(why) => Err(AddError::NoAnswer(why.into())),
    }
}

fn held(holder: control::Holder) -> Holder {
    let control::Holder { tenant, image, pid, name, bytes, reason } = holder;
    Holder { tenant, image: image.0, pid, name, bytes, reason: Reason::Hold(reason) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_of_a_pool_is_for_one_device() {
        let folder = tempfile::tempdir().unwrap();
        let pool = folder.path().join("run");
        std::fs::create_dir(&pool).unwrap();
        let take = |socket: &Path, node| only_for(folder.path(), socket, node);
        let socket = pool.join("memtide.sock");
        let first = take(&socket, "far").unwrap();
        let Err(Failure::Failed(why)) = take(&socket, "far") else { panic!("no refusal") };
        assert!(why.starts_with("node far of the pool at "), "{why}");
        assert!(why.ends_with("expected one `memtide dcd serve` for one node of a pool"), "{why}");
        // However it is written, and whether or not the daemon is there.
        assert!(take(&pool.join("../run/memtide.sock"), "far").is_err());
        std::fs::write(&socket, "").unwrap();
        std::os::unix::fs::symlink(&socket, folder.path().join("link")).unwrap();
        assert!(take(&folder.path().join("link"), "far").is_err());
        // Others are none of its business.
        let _others =
            [take(&socket, "near").unwrap(), take(&pool.join("other.sock"), "far").unwrap()];
        drop(first);
        take(&socket, "far").unwrap();
    }

    #[test]
    fn only_a_daemon_that_refuses_may_take_less() {
        let bytes = ByteSize(2 << 20);
        assert_eq!(added(Ok(Answer::Done(bytes))).unwrap(), bytes);
        let refused = memtide_proto::Refused {
            field: "size".to_owned(),
            value: "512MiB".to_owned(),
            expected: "at most 404MiB".to_owned(),
        };
        let error = added(Err(Trouble::Daemon(ClientError::Refused(refused)))).unwrap_err();
        assert!(matches!(error, AddError::Refused(_)), "{error}");
        assert_eq!(error.to_string(), "size is \"512MiB\"; expected at most 404MiB");
        for answer in [Ok(Answer::Tenants(Vec::new())), Err(Trouble::Daemon(ClientError::Closed))] {
            assert!(matches!(added(answer).unwrap_err(), AddError::NoAnswer(_)));
        }
    }

    #[test]
    fn a_lock_is_a_file_in_its_directory() {
        let name = lock_name(Path::new("/run/a%2Fb@c/x.sock"), "../far");
        assert_eq!(name, "dcd-pool-%2Frun%2Fa%252Fb%40c%2Fx.sock@..%2Ffar.lock");
    }
}
