//! The state, and the way an input takes through it.

use alloc::vec::Vec;

use memtide_units::{Instant, RequestId};

use super::{
    config::{Config, ConfigError},
    input::{Input, InputError},
    journal::{Key, Value},
    output::Output,
    report::Report,
    request::{Request, RequestError},
    status::DeviceStatus,
};

/// The manager of some devices.
#[derive(Clone, Debug)]
pub struct Manager {
    config: Config,
}

impl Manager {
    /// A manager that knows of nothing but how it is set up.
    ///
    /// # Errors
    /// [`ConfigError`] says what is wrong.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        Ok(Self { config })
    }

    /// A manager that goes on where another one was cut off; `journal` is all that was durable.
    /// Time goes on from the same origin. What belongs to hosts or devices that are no longer set
    /// up is ended: the answers come with the first input.
    ///
    /// # Errors
    /// [`ConfigError`] says what is wrong.
    pub fn restore(
        config: Config,
        journal: impl IntoIterator<Item = (Key, Value)>,
    ) -> Result<Self, ConfigError> {
        let _ = journal;
        Self::new(config)
    }

    /// An operator asks for something. The same id again with the same request changes nothing, and
    /// is answered once more if it was answered. Ids from 2^63 on are the manager's own.
    ///
    /// # Errors
    /// [`RequestError`]; then nothing changed.
    pub fn request(
        &mut self,
        now: Instant,
        id: RequestId,
        request: Request,
    ) -> Result<Vec<Output>, RequestError> {
        let _ = (now, id, request);
        Ok(Vec::new())
    }

    /// Something happened at this time; what is to be done about it, in this order. A time before
    /// that of an earlier input counts as that one's.
    ///
    /// # Errors
    /// [`InputError`] when the caller says what cannot be; then nothing changed.
    pub fn handle(&mut self, now: Instant, input: Input) -> Result<Vec<Output>, InputError> {
        let _ = (now, input);
        Ok(Vec::new())
    }

    /// The next time at which something happens by itself: [`Input::Tick`] is due then.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        None
    }

    /// What has become of a request, if it is known.
    #[must_use]
    pub fn report(&self, id: RequestId) -> Option<Report> {
        let _ = id;
        None
    }

    /// All requests that are known, with what was asked, by id.
    pub fn requests(&self) -> impl Iterator<Item = (RequestId, &Request, Report)> {
        core::iter::empty()
    }

    /// All devices, by name.
    #[must_use]
    pub fn devices(&self) -> Vec<DeviceStatus> {
        let _ = &self.config;
        Vec::new()
    }
}
