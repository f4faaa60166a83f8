//! What is at the other end of a manager's command: a device, reached one way or another.
//!
//! A backend is given one command at a time and says, without ever waiting, whether the reply is
//! there. Connecting may wait (names are looked up, a peer must accept and greet), so it happens in
//! a thread of its own, [`Connecting`], which ends in time whatever the peer does; the service's
//! loop only hears how it went.

pub mod cci;
pub mod qmp;

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::mpsc::{self, Receiver, TryRecvError},
    time::{Duration, Instant},
};

use memtide_cxl::{
    DecodeError,
    cci::{Kind, Message},
    command::HostId,
    manager::{Command, DeviceName, Reply},
};
use memtide_units::{DcExtent, DpaRange};
use rustix::event::{EventfdFlags, PollFlags};

use self::qmp::QmpError;
use crate::{Address, Link, LinkError, wire::Role};

/// How long a device may take to answer.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Why a device is not connected any more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// The connection is over.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A connection to QEMU is over.
    #[error(transparent)]
    Qmp(#[from] QmpError),
    /// The switch before it, or the device, does not do as it should.
    #[error(transparent)]
    Switch(#[from] memtide_host::switch::SwitchError),
    /// This computer cannot serve one more.
    #[error("cannot have an event and a thread for it")]
    System(#[source] std::io::Error),
    /// The device answered what cannot be read.
    #[error("an answer cannot be read")]
    Answer(#[from] DecodeError),
    /// It did not answer.
    #[error("no answer within {waited:?}")]
    Late {
        /// How long was waited.
        waited: Duration,
    },
    /// The answer is to something else.
    #[error("an answer to another command")]
    OtherAnswer,
    /// Another device has its serial number, and hosts' agents could not tell which they mean.
    #[error("serial number {serial:#x} is that of device {device}, too; expected one of its own")]
    SameSerial {
        /// Which number.
        serial: u64,
        /// Who has it.
        device: DeviceName,
    },
}

/// What a host's agent says of a device, for a backend whose device does not tell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HostSays {
    /// It is connected, and will say what it has once it has looked at the device.
    Connected,
    /// What it has.
    Has {
        /// All that is accepted now.
        accepted: Vec<DcExtent>,
        /// What was offered and has been answered since it last said so.
        answered: Vec<DpaRange>,
        /// The last [`Backend::take_looks`] for which it has looked at the device before it said
        /// this; 0: none on its connection.
        looked: u64,
    },
}

/// A device that is connected.
pub trait Backend: Send {
    /// Its serial number, by which hosts' agents name it.
    fn serial(&self) -> u64;

    /// Gives it a command. There is none in flight.
    ///
    /// # Errors
    /// [`BackendError`]; the connection is over.
    fn begin(&mut self, command: &Command) -> Result<(), BackendError>;

    /// The reply, if it is there.
    ///
    /// # Errors
    /// [`BackendError`]; the connection is over.
    fn finish(&mut self) -> Result<Option<Reply>, BackendError>;

    /// Whether the event log has had something new since this was asked last.
    fn take_events_pending(&mut self) -> bool;

    /// What to wait for.
    fn descriptor(&self) -> (BorrowedFd<'_>, PollFlags);

    /// When the reply is late.
    fn due(&self) -> Option<Instant>;

    /// Whether it knows only what hosts' agents say: what each has when it has connected anew.
    fn hears_agents(&self) -> bool {
        false
    }

    /// A host's agent says something of this device. Most devices know it themselves.
    fn host_says(&mut self, _host: HostId, _says: HostSays) {}

    /// Which hosts' agents are to look at the device and to say, with these numbers, what they have
    /// then.
    fn take_looks(&mut self) -> Vec<(HostId, u64)> {
        Vec::new()
    }

    /// Why it does not answer, or did not do what it was told, for people.
    fn problem(&self) -> Option<String> {
        None
    }
}

/// How a device is connected.
pub trait Connector: Send + Sync {
    /// Connects; may wait, but not for ever.
    ///
    /// # Errors
    /// [`BackendError`].
    fn connect(&self) -> Result<Box<dyn Backend>, BackendError>;

    /// Where it is, for people.
    fn address(&self) -> String;
}

/// A device behind a fabric's socket.
#[derive(Debug)]
pub struct FabricConnector(pub Address);

impl Connector for FabricConnector {
    fn connect(&self) -> Result<Box<dyn Backend>, BackendError> {
        let link = Link::connect(&self.0, Role::Manager)?;
        Ok(Box::new(FabricBackend { link, next_tag: 0, asked: None }))
    }

    fn address(&self) -> String {
        self.0.to_string()
    }
}

struct FabricBackend {
    link: Link,
    next_tag: u8,
    /// What is in flight.
    asked: Option<Asked>,
}

struct Asked {
    command: Command,
    request: Message,
    /// When the answer is late.
    until: Instant,
}

impl Backend for FabricBackend {
    fn serial(&self) -> u64 {
        self.link.welcome().serial
    }

    fn begin(&mut self, command: &Command) -> Result<(), BackendError> {
        let opcode = command.opcode();
        let request = Message::request(self.next_tag, opcode, command.to_bytes());
        self.next_tag = self.next_tag.wrapping_add(1);
        let bytes = request.encode().map_err(|source| LinkError::TooLong { opcode, source })?;
        self.link.begin(&bytes)?;
        let until = Instant::now() + PATIENCE;
        self.asked = Some(Asked { command: command.clone(), request, until });
        Ok(())
    }

    fn finish(&mut self) -> Result<Option<Reply>, BackendError> {
        let Some(reply) = self.link.finish()? else {
            let late = self.asked.as_ref().is_some_and(|asked| asked.until <= Instant::now());
            return if late { Err(BackendError::Late { waited: PATIENCE }) } else { Ok(None) };
        };
        let reply = Message::decode(&reply)?;
        match (self.asked.take(), reply.kind) {
            (Some(asked), Kind::Response(outcome)) if reply.answers(&asked.request) => {
                Ok(Some(asked.command.reply(outcome.code, &reply.payload)?))
            }
            _ => Err(BackendError::OtherAnswer),
        }
    }

    fn take_events_pending(&mut self) -> bool {
        self.link.take_events_pending()
    }

    fn descriptor(&self) -> (BorrowedFd<'_>, PollFlags) {
        (self.link.as_fd(), self.link.interest())
    }

    fn due(&self) -> Option<Instant> {
        self.asked.as_ref().map(|asked| asked.until)
    }
}

/// What comes of connecting.
pub type Connected = Result<Box<dyn Backend>, BackendError>;

/// A connection on its way.
pub struct Connecting {
    result: Receiver<Connected>,
    /// Readable once the result is there.
    event: OwnedFd,
}

impl Connecting {
    /// Begins.
    ///
    /// # Errors
    /// Those of eventfd(2) and of starting a thread.
    pub fn start(connector: std::sync::Arc<dyn Connector>) -> std::io::Result<Self> {
        let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (sender, result) = mpsc::channel();
        let bell = event.try_clone()?;
        std::thread::Builder::new().name("connecting".to_owned()).spawn(move || {
            // Nobody may be listening any more.
            let _ = sender.send(connector.connect());
            let _ = rustix::io::write(&bell, &1u64.to_ne_bytes());
        })?;
        Ok(Self { result, event })
    }

    /// How it went, once it has.
    #[must_use]
    pub fn result(&self) -> Option<Connected> {
        match self.result.try_recv() {
            Ok(result) => Some(result),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(LinkError::Closed.into())),
        }
    }
}

impl AsFd for Connecting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}
