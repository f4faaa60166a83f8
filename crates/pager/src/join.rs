//! Joining a daemon: hello and welcome.

use std::{
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use memtide_proto::{
    Hello, HelloProgram, Lineage, Refused, ToProgram, VERSION,
    program::{NodeInfo, OnFull},
};
use memtide_units::{ImageId, MemberId, TokenId};
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::Timespec,
};

use crate::{
    link::{Link, LinkError},
    pager::Identity,
};

/// Longest wait for a daemon's welcome at the start, when nothing depends on the pager yet.
pub const FIRST_WAIT: Duration = Duration::from_secs(15);
/// Longest wait for it when coming back: first touches and forks wait as long.
pub const RETURN_WAIT: Duration = Duration::from_secs(1);

/// Longest that an answer is waited for, whatever the daemon says.
const ANSWER_MOST: Duration = Duration::from_secs(25 * 60 * 60);

/// What the daemon said when it let us in.
#[derive(Debug)]
pub struct Welcome {
    /// Who we are.
    pub member: MemberId,
    /// Whose.
    pub image: ImageId,
    /// The nodes.
    pub nodes: Vec<NodeInfo>,
    /// What to do when the pool is full.
    pub on_full: OnFull,
    /// How long promises and leases may take.
    pub wait: Duration,
    /// The nodes' files.
    pub files: Vec<OwnedFd>,
    /// An open /dev/userfaultfd.
    pub userfaultfd: Option<OwnedFd>,
}

/// Why the daemon did not let us in.
#[derive(Debug)]
pub enum JoinError {
    /// The connection failed.
    Link(LinkError),
    /// It refused.
    Refused(Refused),
    /// It did not answer in time.
    Silent,
    /// It answered something else.
    Unexpected,
}

impl std::fmt::Display for JoinError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Link(error) => write!(f, "{error}"),
            Self::Refused(refused) => write!(f, "refused: {refused}"),
            Self::Silent => f.write_str("no answer"),
            Self::Unexpected => f.write_str("an answer that does not belong there"),
        }
    }
}

impl From<LinkError> for JoinError {
    fn from(error: LinkError) -> Self {
        Self::Link(error)
    }
}

/// The hello of a process with this lineage that was started as `label`.
pub fn hello(lineage: Lineage, label: &str) -> Hello {
    let name = std::fs::read_to_string("/proc/self/comm").unwrap_or_default();
    Hello::Program(HelloProgram {
        version: VERSION,
        pid: std::process::id(),
        name: name.trim_end().to_owned(),
        label: label.to_owned(),
        lineage,
    })
}

/// The hello of a process that another daemon served.
pub fn returning(identity: &Identity, label: &str, committed: u64) -> Hello {
    let Identity { token, member, image, .. } = *identity;
    hello(Lineage::Returning { token, member, image, committed }, label)
}

/// Waits for the welcome.
///
/// # Errors
/// [`JoinError`] when there is none.
pub fn welcome(link: &mut Link, wait: Duration) -> Result<Welcome, JoinError> {
    let timeout = Timespec {
        tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(wait.subsec_nanos()),
    };
    let (message, mut files) = loop {
        if let Some(received) = link.receive()? {
            break received;
        }
        let ready = PollFd::from_borrowed_fd(link.as_fd(), PollFlags::IN);
        match poll(&mut [ready], Some(&timeout)) {
            Ok(0) => return Err(JoinError::Silent),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(LinkError::Io(errno.into()).into()),
        }
    };
    match message {
        ToProgram::Welcome { member, image, nodes, on_full, wait_ms, userfaultfd } => {
            let userfaultfd = if userfaultfd { files.pop() } else { None };
            let wait = Duration::from_millis(wait_ms).min(ANSWER_MOST);
            Ok(Welcome { member, image, nodes, on_full, wait, files, userfaultfd })
        }
        ToProgram::Refused(refused) => Err(JoinError::Refused(refused)),
        _ => Err(JoinError::Unexpected),
    }
}

/// A name that nobody else uses.
///
/// # Panics
/// When the kernel has no random numbers to give.
#[must_use]
pub fn random_token() -> TokenId {
    let mut bytes = [0u8; 8];
    let got = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty());
    assert_eq!(got, Ok(8), "getrandom gives eight bytes at once");
    TokenId(u64::from_ne_bytes(bytes))
}
