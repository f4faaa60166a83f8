//! Hosts' agents: what they say of themselves.

use memtide_cxl::manager::{DeviceName, Holder, HostAnswer, HostName, Input};

use super::{Notice, RunError, Service};
use crate::{
    frame,
    manager::backend::HostSays,
    serving::GuestId,
    wire::{self, FromManager, HeldBy, MAX_AGENT_FRAME_BYTES, MAX_HOLDERS, ToManager, VERSION},
};

impl Service {
    pub(super) fn agent_says(&mut self, id: GuestId, body: &[u8]) -> Result<(), RunError> {
        let message = match frame::decode(body) {
            Ok(message) => message,
            Err(error) => {
                self.garbage(id, error);
                return Ok(());
            }
        };
        match (message, self.agents.get(&id).cloned()) {
            (ToManager::Hello { version, host }, None) => self.agent_hello(id, version, &host),
            (ToManager::Hello { .. }, Some(_)) | (_, None) => {
                self.misplaced(id);
                Ok(())
            }
            (ToManager::Wants { bytes }, Some(host)) => {
                self.believe_agent(host.clone(), Input::HostWants { host, bytes })
            }
            (ToManager::Uses { serial, used, .. }, Some(host)) => {
                let Some(device) = self.device_of(&host, serial) else { return Ok(()) };
                self.believe_agent(host.clone(), Input::HostUses { host, device, used })
            }
            (ToManager::Extents { serial, accepted, answered, looked }, Some(host)) => {
                self.agent_has(&host, serial, HostSays::Has { accepted, answered, looked });
                Ok(())
            }
            (ToManager::Answer(answer), Some(host)) => {
                let Some(device) = self.device_of(&host, answer.serial) else { return Ok(()) };
                let answer = believed(answer);
                self.believe_agent(host.clone(), Input::HostAnswer { host, device, answer })
            }
        }
    }

    fn agent_hello(&mut self, id: GuestId, version: u16, host: &str) -> Result<(), RunError> {
        if version != VERSION {
            self.refuse_agent(id, format!("version {version}; expected {VERSION}"));
            return Ok(());
        }
        if self.suspended.is_some() {
            self.refuse_agent(id, "the store can neither be written nor read".to_owned());
            return Ok(());
        }
        let host: HostName = match host.parse() {
            Ok(host) => host,
            Err(error) => {
                self.refuse_agent(id, format!("{error}"));
                return Ok(());
            }
        };
        let started_over = self.started_over;
        if let Err(error) = self.input(Input::HostUp { host: host.clone() })? {
            self.refuse_agent(id, error.to_string());
            return Ok(());
        }
        if self.started_over != started_over {
            // The manager that heard of it is gone.
            self.refuse_agent(id, "the store could not be written; come again".to_owned());
            return Ok(());
        }
        self.hub.introduced(id, MAX_AGENT_FRAME_BYTES);
        self.hub.send(id, &FromManager::Welcome { version: VERSION }, None);
        // A newer connection takes the place of an older one.
        let what = match self.agent_of.insert(host.clone(), id) {
            Some(older) => {
                self.agents.remove(&older);
                self.hub.end(older);
                "connected again; its older connection is ended"
            }
            None => "connected",
        };
        self.agents.insert(id, host.clone());
        self.agent_is_there(&host);
        self.notice(Notice::Agent { host, what });
        Ok(())
    }

    fn refuse_agent(&mut self, id: GuestId, why: String) {
        self.hub.send(id, &FromManager::Refused(why.clone()), None);
        self.hub.close(id);
        self.notice(Notice::Refused(why));
    }

    fn device_of(&mut self, host: &HostName, serial: u64) -> Option<DeviceName> {
        let device = self.devices.by_serial(serial).cloned();
        if device.is_none() {
            let why =
                format!("it speaks of a device of serial number {serial:#x}, which is not here");
            self.notice(Notice::Ignored { host: host.clone(), why });
        }
        device
    }

    fn believe_agent(&mut self, host: HostName, input: Input) -> Result<(), RunError> {
        if let Err(error) = self.input(input)? {
            self.notice(Notice::Ignored { host, why: error.to_string() });
        }
        Ok(())
    }
}

/// What is passed on of an answer: bounded, whatever it says.
fn believed(answer: wire::HostAnswer) -> HostAnswer {
    let wire::HostAnswer { asked, released, remaining, holders, .. } = answer;
    let holder = |holder: HeldBy| {
        let HeldBy { tenant, program, pid, bytes, reason } = holder.shortened();
        Holder { tenant, program, pid, bytes, reason }
    };
    let holders = holders.into_iter().take(MAX_HOLDERS).map(holder).collect();
    HostAnswer { asked, released, remaining, holders }
}
