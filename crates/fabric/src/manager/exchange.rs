//! A manager's commands as opcodes and payloads, and payloads as replies.

use memtide_cxl::{
    Command as _, DecodeError, Opcode, Payload, ReturnCode,
    command::{
        events::{ClearEventRecords, EventRecords, GetEventRecords},
        fabric_manager::{
            AddReference, GetHostConfiguration, GetHostExtents, GetInfo, HostConfiguration,
            HostExtents, Info, InitiateAdd, InitiateRelease, ListTags, RemoveReference,
            SetConfiguration, Tags,
        },
    },
    manager::{Command, Reply, Response},
};

/// What a command is on the wire.
pub fn encode(command: &Command) -> (Opcode, Vec<u8>) {
    match command {
        Command::GetEventRecords(c) => (GetEventRecords::OPCODE, c.to_bytes()),
        Command::ClearEventRecords(c) => (ClearEventRecords::OPCODE, c.to_bytes()),
        Command::GetInfo(c) => (GetInfo::OPCODE, c.to_bytes()),
        Command::GetHostConfiguration(c) => (GetHostConfiguration::OPCODE, c.to_bytes()),
        Command::SetConfiguration(c) => (SetConfiguration::OPCODE, c.to_bytes()),
        Command::GetHostExtents(c) => (GetHostExtents::OPCODE, c.to_bytes()),
        Command::InitiateAdd(c) => (InitiateAdd::OPCODE, c.to_bytes()),
        Command::InitiateRelease(c) => (InitiateRelease::OPCODE, c.to_bytes()),
        Command::AddReference(c) => (AddReference::OPCODE, c.to_bytes()),
        Command::RemoveReference(c) => (RemoveReference::OPCODE, c.to_bytes()),
        Command::ListTags(c) => (ListTags::OPCODE, c.to_bytes()),
    }
}

/// What the device's answer to `opcode` means.
pub fn decode(opcode: Opcode, code: ReturnCode, payload: &[u8]) -> Result<Reply, DecodeError> {
    if code != ReturnCode::SUCCESS {
        return Ok(Err(code));
    }
    Ok(Ok(match opcode {
        Opcode::GET_EVENT_RECORDS => Response::EventRecords(EventRecords::decode(payload)?),
        Opcode::GET_DCD_INFO => Response::Info(Info::decode(payload)?),
        Opcode::GET_HOST_DC_REGION_CONFIGURATION => {
            Response::HostConfiguration(HostConfiguration::decode(payload)?)
        }
        Opcode::GET_DC_REGION_EXTENT_LISTS => Response::HostExtents(HostExtents::decode(payload)?),
        Opcode::DC_LIST_TAGS => Response::Tags(Tags::decode(payload)?),
        _ => {
            <()>::decode(payload)?;
            Response::Done
        }
    }))
}
