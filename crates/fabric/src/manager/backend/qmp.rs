//! Devices of QEMU's guests, whose fabric manager one plays over QMP.
//!
//! **Problem.** QEMU's type-3 device has dynamic capacity for one host, its guest. Its QMP commands
//! `cxl-add-dynamic-capacity` and `cxl-release-dynamic-capacity` make the events by which a guest
//! is offered extents and asked for them, and that is all: nothing tells what the guest made of it,
//! nor what it has. A manager speaks the FM-API (5600h to 5608h) to a device that several hosts
//! share.
//!
//! **Idea.** Behind the sockets stands a *shadow*: a [`memtide_cxl::device::Device`] with the
//! regions that QEMU's devices have (read by `qom-get`), and a host for each guest. The manager's
//! commands go to the shadow. What they would put into a host's event log goes to that guest by
//! QMP; what the guest answers is said by the agent in it ([`ToManager::Extents`]) and played into
//! the shadow as the host's own answer.
//!
//! ```text
//!   manager ── 5604h ──▶ shadow ── event record ──▶ QMP ──▶ QEMU's device ── event ──▶ guest
//!      ▲                   ▲                                                             │
//!      └──── events ───────┘◀───────────── "these extents are accepted" ◀──── agent ─────┘
//! ```
//!
//! Every guest has a device, and memory behind it, of its own. The shadow counts a range that one
//! of them has as taken for all: so several guests share one pool of addresses, as the hosts of a
//! software fabric do, and what moves from one to another moves as capacity, never as data. Nothing
//! is overwritten for that: no guest ever sees memory that another one had. What a guest gets back
//! may hold what it wrote there itself.
//!
//! **Invariants.**
//! * QEMU is told first. A command whose QMP QEMU refuses has changed nothing in the shadow: it is
//!   tried on a copy. What is asked back changes nothing there: it is told as the guest's event log
//!   has room, in the order in which it was asked for.
//! * QEMU's event log never has more than it holds: its records are counted, and an agent is asked
//!   to look at its device after each command, and names the look when it has.
//! * What an agent says is applied in the order in which it came, after the QMP command that is on
//!   its way: an answer can overtake the reply to the command that it answers.
//! * Offers are answered in order. One is answered when the agent says so; when something of it is
//!   accepted; when a later one is; or when QEMU had made it before the agent connected, or was
//!   asked to look, and the agent then says what it has: all that its device had for it is done.
//! * Nothing waits. The socket is not blocking; who answers late, or garbage, is disconnected and
//!   tried again. What is read is bounded.
//!
//! **What cannot be known** without an agent in the guest is what the guest has. So until each has
//! spoken, commands are not answered: the device is "reading", with whose agent it waits for as its
//! problem. Requests are accepted as far as the manager knows enough, stay pending, and end at
//! their deadlines. Once an agent has spoken and is gone, what it said last holds: offers of up to 8
//! extents in all go out, and stay pending; more wait for an agent to make room in QEMU's log, which
//! is the device's problem then. A new connection, after a restart of the manager or because QEMU
//! was away, begins with a shadow of which nothing is known: the agents are sent away, come again,
//! and say what they have once they have answered all that was offered before. A connection is to
//! all guests of a device or to none.
//!
//! **What is refused.** Other block sizes and sharing, which the shadow does not have. Taking by
//! force, as long as QEMU refuses it (10.0: "Forced removal not supported yet"). Offers of more
//! than 8 extents: QEMU's event log holds no more. What is offered or taken and has no room there
//! now, because of what the guest was offered or asked for before, is refused with "retry required".
//!
//! [`ToManager::Extents`]: crate::wire::ToManager::Extents

mod adopt;
mod description;
mod error;
mod guests;
mod lines;
mod log;
mod orders;
mod session;
mod shadow;

use std::{
    fmt,
    path::PathBuf,
    str::FromStr,
    time::{Duration, Instant},
};

pub use self::error::QmpError;
use self::{description::Description, lines::Lines, session::Session, shadow::Shadow};
use super::{Backend, BackendError, Connector};

/// How long QEMU may take for one command.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most guests of one device: hosts of the shadow.
const GUESTS_MAX: usize = 16;

/// A device of each of several guests: `qmp:SOCKET,DEVICE[+SOCKET,DEVICE…]`, the first of host 0.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct QmpAddress(Vec<Guest>);

/// A guest's device.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Guest {
    /// QEMU's QMP socket.
    socket: PathBuf,
    /// The device's `id=`, or a QOM path.
    device: String,
}

/// A text that is no such address.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseQmpError {
    /// A part of it is not of the form.
    #[error("{0:?}; expected qmp:SOCKET,DEVICE[+SOCKET,DEVICE…], as qmp:/run/vm.qmp,mem0")]
    Form(String),
    /// More guests than a device has here.
    #[error("{guests} guests; expected {GUESTS_MAX} or fewer")]
    Guests {
        /// How many.
        guests: usize,
    },
    /// The same socket twice: QEMU speaks to one at a time.
    #[error("socket {} twice; expected each once", .0.display())]
    Twice(PathBuf),
}

impl FromStr for QmpAddress {
    type Err = ParseQmpError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = || ParseQmpError::Form(text.to_owned());
        let rest = text.strip_prefix("qmp:").ok_or_else(form)?;
        let mut guests: Vec<Guest> = Vec::new();
        for part in rest.split('+') {
            let (socket, device) = part.rsplit_once(',').ok_or_else(form)?;
            if socket.is_empty() || device.is_empty() {
                return Err(form());
            }
            let (socket, device) = (PathBuf::from(socket), device.to_owned());
            if guests.iter().any(|guest| guest.socket == socket) {
                return Err(ParseQmpError::Twice(socket));
            }
            guests.push(Guest { socket, device });
        }
        if guests.len() > GUESTS_MAX {
            return Err(ParseQmpError::Guests { guests: guests.len() });
        }
        Ok(Self(guests))
    }
}

impl fmt::Display for QmpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("qmp:")?;
        for (number, guest) in self.0.iter().enumerate() {
            let sign = if number == 0 { "" } else { "+" };
            write!(f, "{sign}{},{}", guest.socket.display(), guest.device)?;
        }
        Ok(())
    }
}

impl Guest {
    /// The device's place in QEMU's object model.
    fn path(&self) -> String {
        if self.device.starts_with('/') {
            self.device.clone()
        } else {
            format!("/machine/peripheral/{}", self.device)
        }
    }
}

/// Devices behind QMP sockets.
#[derive(Debug)]
pub struct QmpConnector(pub QmpAddress);

impl QmpConnector {
    fn open(&self) -> Result<Session, QmpError> {
        let mut guests = Vec::new();
        let mut first: Option<Description> = None;
        for guest in &self.0.0 {
            let until = Instant::now() + PATIENCE;
            let mut lines = Lines::connect(&guest.socket, until)?;
            lines.greet(until)?;
            let path = guest.path();
            let description = Description::read(&mut lines, &path, until)?;
            match &first {
                Some(first) => first.check_same(&description, &guest.device)?,
                None => first = Some(description),
            }
            guests.push((lines, path));
        }
        let description = first.ok_or(QmpError::Closed)?;
        let hosts = guests.len() as u16;
        Session::new(guests, Shadow::new(&description, hosts)?)
    }
}

impl Connector for QmpConnector {
    fn connect(&self) -> Result<Box<dyn Backend>, BackendError> {
        Ok(Box::new(self.open()?))
    }

    fn address(&self) -> String {
        self.0.to_string()
    }
}

#[cfg(test)]
mod tests;
