//! Commands as bytes: which ones a host may give, which ones the manager, and what comes back.

use alloc::vec::Vec;

use super::{Device, Refusal};
use crate::{
    Command, Opcode, Payload, ReturnCode,
    cci::Message,
    command::{
        HostId,
        fabric_manager::GetInfo,
        identify::{Identify, IdentifyMemoryDevice},
    },
};

/// What comes back for a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// How it went.
    pub code: ReturnCode,
    /// What was asked for; empty if it was refused.
    pub payload: Vec<u8>,
    /// Why it was refused: what a device cannot say on the wire.
    pub refusal: Option<Refusal>,
}

impl Reply {
    /// The response to this request.
    #[must_use]
    pub fn into_message(self, request: &Message) -> Message {
        Message::response(request, self.code, self.payload)
    }
}

impl From<Result<Vec<u8>, Refusal>> for Reply {
    fn from(done: Result<Vec<u8>, Refusal>) -> Self {
        match done {
            Ok(payload) => Self { code: ReturnCode::SUCCESS, payload, refusal: None },
            Err(why) => Self { code: why.code(), payload: Vec::new(), refusal: Some(why) },
        }
    }
}

impl Device {
    /// What a host says through its mailbox: 0001h, 0100h, 0101h, 4000h, 4800h to 4803h.
    pub fn host(&mut self, host: HostId, opcode: Opcode, payload: &[u8]) -> Reply {
        let done = self.check_payload(payload).and_then(|()| match opcode {
            Opcode::IDENTIFY => self.run(payload, |device, &Identify| Ok(device.identity())),
            Opcode::IDENTIFY_MEMORY_DEVICE => {
                self.run(payload, |device, &IdentifyMemoryDevice| Ok(device.memory_device()))
            }
            Opcode::GET_EVENT_RECORDS => self.run(payload, |device, c| device.host_events(host, c)),
            Opcode::CLEAR_EVENT_RECORDS => {
                self.run(payload, |device, c| device.clear_host_events(host, c))
            }
            Opcode::GET_DC_CONFIGURATION => {
                self.run(payload, |device, c| device.configuration(host, c))
            }
            Opcode::GET_DC_EXTENT_LIST => {
                self.run(payload, |device, c| device.extent_list(host, c))
            }
            Opcode::ADD_DC_RESPONSE => self.run(payload, |device, c| device.add_response(host, c)),
            Opcode::RELEASE_DC => self.run(payload, |device, c| device.release(host, c)),
            _ => Err(Refusal::Command { opcode }),
        });
        if matches!(done, Err(Refusal::Decode(_) | Refusal::PayloadLength { .. })) {
            self.lose_part(host, opcode);
        }
        done.into()
    }

    /// What the manager says: 0001h, 0100h, 0101h, 5600h to 5608h.
    pub fn manager(&mut self, opcode: Opcode, payload: &[u8]) -> Reply {
        let done = self.check_payload(payload).and_then(|()| match opcode {
            Opcode::IDENTIFY => self.run(payload, |device, &Identify| Ok(device.identity())),
            Opcode::GET_EVENT_RECORDS => {
                self.run(payload, |device, c| Ok(device.manager_events(c)))
            }
            Opcode::CLEAR_EVENT_RECORDS => self.run(payload, Self::clear_manager_events),
            Opcode::GET_DCD_INFO => self.run(payload, |device, &GetInfo| Ok(device.info())),
            Opcode::GET_HOST_DC_REGION_CONFIGURATION => {
                self.run(payload, |device, c| device.host_configuration(c))
            }
            Opcode::SET_DC_REGION_CONFIGURATION => self.run(payload, Self::set_configuration),
            Opcode::GET_DC_REGION_EXTENT_LISTS => {
                self.run(payload, |device, c| device.host_extents(c))
            }
            Opcode::INITIATE_DC_ADD => self.run(payload, Self::initiate_add),
            Opcode::INITIATE_DC_RELEASE => self.run(payload, Self::initiate_release),
            Opcode::DC_ADD_REFERENCE => self.run(payload, Self::add_reference),
            Opcode::DC_REMOVE_REFERENCE => self.run(payload, Self::remove_reference),
            Opcode::DC_LIST_TAGS => self.run(payload, |device, c| device.list_tags(c)),
            _ => Err(Refusal::Command { opcode }),
        });
        done.into()
    }

    fn run<C: Command>(
        &mut self,
        payload: &[u8],
        command: impl FnOnce(&mut Self, &C) -> Result<C::Response, Refusal>,
    ) -> Result<Vec<u8>, Refusal> {
        let request = C::decode(payload)?;
        Ok(command(self, &request)?.to_bytes())
    }

    fn check_payload(&self, payload: &[u8]) -> Result<(), Refusal> {
        let (bytes, limit) = (payload.len(), self.limits.payload_bytes);
        if bytes > limit as usize { Err(Refusal::PayloadLength { bytes, limit }) } else { Ok(()) }
    }

    /// A part of a chain could not be read: what was told before is not all.
    fn lose_part(&mut self, host: HostId, opcode: Opcode) {
        if let Some(host) = self.hosts.get_mut(usize::from(host.0)) {
            match opcode {
                Opcode::ADD_DC_RESPONSE => host.answer.interrupt(),
                Opcode::RELEASE_DC => host.release.interrupt(),
                _ => {}
            }
        }
    }
}
