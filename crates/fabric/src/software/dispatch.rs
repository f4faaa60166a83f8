//! Which of the device's commands a message is, for whom it may come from.

use memtide_cxl::{
    Command, Opcode, Payload,
    cci::Message,
    command::{
        HostId,
        dynamic_capacity::{AddResponse, GetConfiguration, GetExtentList, Release},
        events::{ClearEventRecords, GetEventRecords},
        fabric_manager::{
            AddReference, GetHostConfiguration, GetHostExtents, GetInfo, InitiateAdd,
            InitiateRelease, ListTags, RemoveReference, SetConfiguration,
        },
    },
    device::{Device, Refusal},
};

use crate::wire::Role;

/// Decodes a command, lets the device do it, and encodes what comes back.
struct Doing<'a> {
    device: &'a mut Device,
    payload: &'a [u8],
}

impl Doing<'_> {
    fn run<C: Command>(
        self,
        act: impl FnOnce(&mut Device, &C) -> Result<C::Response, Refusal>,
    ) -> Result<Vec<u8>, Refusal> {
        let command = C::decode(self.payload).map_err(Refusal::Decode)?;
        act(self.device, &command).map(|response| response.to_bytes())
    }
}

/// Does what a request says; the payload of the answer.
///
/// # Errors
/// [`Refusal`] says what is wrong, and with which return code it is answered.
pub fn dispatch(device: &mut Device, role: Role, request: &Message) -> Result<Vec<u8>, Refusal> {
    let Message { opcode, payload, .. } = request;
    let limit = device.limits().payload_bytes;
    if payload.len() > limit as usize {
        return Err(Refusal::PayloadLength { bytes: payload.len(), limit });
    }
    let doing = Doing { device, payload };
    match role {
        Role::Host(host) => of_host(doing, HostId(host), *opcode),
        Role::Manager => of_manager(doing, *opcode),
    }
}

fn of_host(doing: Doing<'_>, host: HostId, opcode: Opcode) -> Result<Vec<u8>, Refusal> {
    match opcode {
        Opcode::GET_EVENT_RECORDS => {
            doing.run::<GetEventRecords>(|device, c| device.host_events(host, c))
        }
        Opcode::CLEAR_EVENT_RECORDS => {
            doing.run::<ClearEventRecords>(|device, c| device.clear_host_events(host, c))
        }
        Opcode::GET_DC_CONFIGURATION => {
            doing.run::<GetConfiguration>(|device, c| device.configuration(host, c))
        }
        Opcode::GET_DC_EXTENT_LIST => {
            doing.run::<GetExtentList>(|device, c| device.extent_list(host, c))
        }
        Opcode::ADD_DC_RESPONSE => {
            doing.run::<AddResponse>(|device, c| device.add_response(host, c))
        }
        Opcode::RELEASE_DC => doing.run::<Release>(|device, c| device.release(host, c)),
        opcode => Err(Refusal::Command { opcode }),
    }
}

fn of_manager(doing: Doing<'_>, opcode: Opcode) -> Result<Vec<u8>, Refusal> {
    match opcode {
        Opcode::GET_EVENT_RECORDS => {
            doing.run::<GetEventRecords>(|device, c| Ok(device.manager_events(c)))
        }
        Opcode::CLEAR_EVENT_RECORDS => {
            doing.run::<ClearEventRecords>(|device, c| device.clear_manager_events(c))
        }
        Opcode::GET_DCD_INFO => doing.run::<GetInfo>(|device, _| Ok(device.info())),
        Opcode::GET_HOST_DC_REGION_CONFIGURATION => {
            doing.run::<GetHostConfiguration>(|device, c| device.host_configuration(c))
        }
        Opcode::SET_DC_REGION_CONFIGURATION => {
            doing.run::<SetConfiguration>(|device, c| device.set_configuration(c))
        }
        Opcode::GET_DC_REGION_EXTENT_LISTS => {
            doing.run::<GetHostExtents>(|device, c| device.host_extents(c))
        }
        Opcode::INITIATE_DC_ADD => doing.run::<InitiateAdd>(|device, c| device.initiate_add(c)),
        Opcode::INITIATE_DC_RELEASE => {
            doing.run::<InitiateRelease>(|device, c| device.initiate_release(c))
        }
        Opcode::DC_ADD_REFERENCE => doing.run::<AddReference>(|device, c| device.add_reference(c)),
        Opcode::DC_REMOVE_REFERENCE => {
            doing.run::<RemoveReference>(|device, c| device.remove_reference(c))
        }
        Opcode::DC_LIST_TAGS => doing.run::<ListTags>(|device, c| device.list_tags(c)),
        opcode => Err(Refusal::Command { opcode }),
    }
}
