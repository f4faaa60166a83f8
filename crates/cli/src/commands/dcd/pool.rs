//! What `memtide dcd serve` says to a pool that has the device's capacity: status, add and
//! give-back, as an operator would.

use std::{fmt, path::PathBuf, time::Duration};

use memtide_client::{Answer, ClientError, request};
use memtide_host::{
    dcd::{Pool, PoolError, PoolState},
    give_back::answer::{Holder, Reason},
};
use memtide_proto::{ControlRequest, control};
use memtide_units::ByteSize;

use crate::{arguments::DcdServe, failure::chain};

/// A node of a daemon's pool.
#[derive(Debug)]
struct Daemon {
    socket: PathBuf,
    node: String,
}

/// The pool that the options name, if they do.
pub fn of(options: &DcdServe) -> Option<Box<dyn Pool>> {
    let (socket, node) = (options.pool.clone()?, options.pool_node.clone()?);
    Some(Box::new(Daemon { socket, node }))
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

    fn add(&mut self, bytes: ByteSize) -> Result<(), PoolError> {
        self.ask(ControlRequest::Add { bytes, to: self.node.clone(), zone: None })?;
        Ok(())
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

fn held(holder: control::Holder) -> Holder {
    let control::Holder { tenant, image, pid, name, bytes, reason } = holder;
    Holder { tenant, image: image.0, pid, name, bytes, reason: Reason::Hold(reason) }
}
