//! The other end of a service's control socket: what `memtide fm` is made of.

use std::{
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use memtide_cxl::manager::{Report, Request};
use memtide_units::RequestId;
use rustix::{event::PollFd, io::Errno};

use crate::{
    Address,
    channel::{Channel, Incoming},
    control::{DeviceView, FromService, RequestView, ToService, VERSION},
    frame::{self, FrameError},
    link::timespec,
    wire::MAX_FRAME_BYTES,
};

/// How long the service may take for what it answers at once.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody is there.
    #[error("no fabric manager at {}; start one with: memtide fm serve", path.display())]
    NoService {
        /// Where.
        path: PathBuf,
    },
    /// It cannot be connected.
    #[error("cannot connect to the fabric manager at {}", path.display())]
    Connect {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It does not talk to us.
    #[error("the fabric manager refuses: {0}")]
    Refused(String),
    /// The request makes no sense; nothing was changed.
    #[error("{0}")]
    Declined(String),
    /// The request cannot be kept; why, and what that means.
    #[error("{0}")]
    Failed(String),
    /// It has ended.
    #[error("the fabric manager has ended the connection")]
    Closed,
    /// It says nothing.
    #[error("the fabric manager does not answer")]
    TimedOut,
    /// What it sent is no message, or one that does not belong here.
    #[error("the fabric manager said what is no answer")]
    Garbage(#[source] Option<FrameError>),
    /// Waiting failed.
    #[error("cannot wait for the fabric manager")]
    Poll(#[source] io::Error),
}

/// A connection that was welcomed.
#[derive(Debug)]
pub struct Client(Channel);

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let failed = |source: io::Error| {
            let path = path.to_owned();
            match source.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    ClientError::NoService { path }
                }
                _ => ClientError::Connect { path, source },
            }
        };
        let socket = Address::Unix(path.to_owned()).connect(PATIENCE).map_err(failed)?;
        let mut client = Self(Channel::new(socket, MAX_FRAME_BYTES));
        client.say(&ToService::Hello { version: VERSION })?;
        match client.hear_soon()? {
            FromService::Welcome { version: VERSION } => Ok(client),
            FromService::Refused(why) => Err(ClientError::Refused(why)),
            _ => Err(ClientError::Garbage(None)),
        }
    }

    /// Asks for something; its number.
    ///
    /// # Errors
    /// [`ClientError::Declined`], [`ClientError::Failed`], and what ends the connection.
    pub fn ask(&mut self, request: Request) -> Result<RequestId, ClientError> {
        self.say(&ToService::Ask(request))?;
        loop {
            match self.hear_soon()? {
                FromService::Accepted(id) => return Ok(id),
                FromService::Declined(why) => return Err(ClientError::Declined(why)),
                FromService::Failed(why) => return Err(ClientError::Failed(why)),
                // Of an earlier request that is still open.
                FromService::Report(_) => {}
                _ => return Err(ClientError::Garbage(None)),
            }
        }
    }

    /// What has become of a request that was asked here; waits until it is answered.
    ///
    /// # Errors
    /// What ends the connection; the request goes on without it.
    pub fn report(&mut self, id: RequestId) -> Result<Report, ClientError> {
        loop {
            match self.hear(None)? {
                FromService::Report(report) if report.id == id => return Ok(report),
                FromService::Report(_) => {}
                _ => return Err(ClientError::Garbage(None)),
            }
        }
    }

    /// Who has what.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn devices(&mut self) -> Result<Vec<DeviceView>, ClientError> {
        self.pages(ToService::Devices, device)
    }

    /// What was asked for.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn requests(&mut self) -> Result<Vec<RequestView>, ClientError> {
        self.pages(ToService::Requests, |message| match message {
            FromService::Request(view) => Some(view),
            _ => None,
        })
    }

    /// Who has what, and from now on [`Client::next_change`].
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn watch(&mut self) -> Result<Vec<DeviceView>, ClientError> {
        self.say(&ToService::Watch)?;
        match self.page(device)? {
            (list, None) => Ok(list),
            (_, Some(_)) => Err(ClientError::Garbage(None)),
        }
    }

    /// A device that has changed; waits for it, until `until` if that is given.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn next_change(&mut self, until: Option<Instant>) -> Result<DeviceView, ClientError> {
        match self.hear(until)? {
            FromService::Device(view) => Ok(view),
            _ => Err(ClientError::Garbage(None)),
        }
    }

    /// A list, page by page.
    fn pages<T>(
        &mut self,
        ask: impl Fn(u64) -> ToService,
        take: impl Fn(FromService) -> Option<T>,
    ) -> Result<Vec<T>, ClientError> {
        let (mut list, mut from) = (Vec::new(), 0);
        loop {
            self.say(&ask(from))?;
            let (page, next) = self.page(&take)?;
            list.extend(page);
            match next {
                None => return Ok(list),
                Some(next) if next > from => from = next,
                Some(_) => return Err(ClientError::Garbage(None)),
            }
        }
    }

    /// A list, and where it goes on.
    fn page<T>(
        &mut self,
        take: impl Fn(FromService) -> Option<T>,
    ) -> Result<(Vec<T>, Option<u64>), ClientError> {
        let mut list = Vec::new();
        loop {
            match self.hear_soon()? {
                FromService::End => return Ok((list, None)),
                FromService::Next(from) => return Ok((list, Some(from))),
                FromService::Report(_) => {}
                other => list.push(take(other).ok_or(ClientError::Garbage(None))?),
            }
        }
    }

    fn say(&mut self, message: &ToService) -> Result<(), ClientError> {
        self.0.send(message, None).map_err(|error| ClientError::Garbage(Some(error)))?;
        self.0.flush();
        Ok(())
    }

    fn hear_soon(&mut self) -> Result<FromService, ClientError> {
        self.hear(Some(Instant::now() + PATIENCE))
    }

    fn hear(&mut self, until: Option<Instant>) -> Result<FromService, ClientError> {
        loop {
            self.0.flush();
            match self.0.receive() {
                Incoming::Frame(body) => {
                    return frame::decode(&body).map_err(|error| ClientError::Garbage(Some(error)));
                }
                Incoming::Garbage(error) => return Err(ClientError::Garbage(Some(error))),
                Incoming::Closed => return Err(ClientError::Closed),
                Incoming::Nothing => {}
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(ClientError::TimedOut);
            }
            let mut fds = [PollFd::new(&self.0, self.0.interest())];
            match rustix::event::poll(&mut fds, left.map(timespec).as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(ClientError::Poll(errno.into())),
            }
        }
    }
}

fn device(message: FromService) -> Option<DeviceView> {
    match message {
        FromService::Device(view) => Some(view),
        _ => None,
    }
}
