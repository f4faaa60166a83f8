//! What is said to a device and what it replies, as one type each.

use alloc::vec::Vec;

use crate::{
    DecodeError, Opcode, Payload, ReturnCode,
    command::{
        events::{ClearEventRecords, EventRecords, GetEventRecords},
        fabric_manager::{
            AddReference, GetHostConfiguration, GetHostExtents, GetInfo, HostConfiguration,
            HostExtents, Info, InitiateAdd, InitiateRelease, ListTags, RemoveReference,
            SetConfiguration, Tags,
        },
    },
};

/// A command that a manager gives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// 0100h.
    GetEventRecords(GetEventRecords),
    /// 0101h.
    ClearEventRecords(ClearEventRecords),
    /// 5600h.
    GetInfo(GetInfo),
    /// 5601h.
    GetHostConfiguration(GetHostConfiguration),
    /// 5602h.
    SetConfiguration(SetConfiguration),
    /// 5603h.
    GetHostExtents(GetHostExtents),
    /// 5604h.
    InitiateAdd(InitiateAdd),
    /// 5605h.
    InitiateRelease(InitiateRelease),
    /// 5606h.
    AddReference(AddReference),
    /// 5607h.
    RemoveReference(RemoveReference),
    /// 5608h.
    ListTags(ListTags),
}

/// What comes back with success.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Response {
    /// To 0100h.
    EventRecords(EventRecords),
    /// To 5600h.
    Info(Info),
    /// To 5601h.
    HostConfiguration(HostConfiguration),
    /// To 5603h.
    HostExtents(HostExtents),
    /// To 5608h.
    Tags(Tags),
    /// To all others.
    Done,
}

/// A reply: what comes back, or why not.
pub type Reply = Result<Response, ReturnCode>;

/// Does the same with a command of whichever kind; `_` is its own type.
macro_rules! each {
    ($command:expr, $inner:ident => $what:expr) => {
        match $command {
            Command::GetEventRecords($inner) => $what,
            Command::ClearEventRecords($inner) => $what,
            Command::GetInfo($inner) => $what,
            Command::GetHostConfiguration($inner) => $what,
            Command::SetConfiguration($inner) => $what,
            Command::GetHostExtents($inner) => $what,
            Command::InitiateAdd($inner) => $what,
            Command::InitiateRelease($inner) => $what,
            Command::AddReference($inner) => $what,
            Command::RemoveReference($inner) => $what,
            Command::ListTags($inner) => $what,
        }
    };
}

impl Command {
    /// Its number.
    #[must_use]
    pub const fn opcode(&self) -> Opcode {
        const fn of<C: crate::Command>(_: &C) -> Opcode {
            C::OPCODE
        }
        each!(self, command => of(command))
    }

    /// Its payload.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        each!(self, command => command.to_bytes())
    }

    /// The reply to it: a return code, and a payload that means something with success.
    ///
    /// # Errors
    /// The payload is none of this command's. Then the connection is to be given up.
    pub fn reply(&self, code: ReturnCode, payload: &[u8]) -> Result<Reply, DecodeError> {
        if code != ReturnCode::SUCCESS {
            return Ok(Err(code));
        }
        Ok(Ok(match self {
            Self::GetEventRecords(_) => Response::EventRecords(Payload::decode(payload)?),
            Self::GetInfo(_) => Response::Info(Payload::decode(payload)?),
            Self::GetHostConfiguration(_) => Response::HostConfiguration(Payload::decode(payload)?),
            Self::GetHostExtents(_) => Response::HostExtents(Payload::decode(payload)?),
            Self::ListTags(_) => Response::Tags(Payload::decode(payload)?),
            Self::ClearEventRecords(_)
            | Self::SetConfiguration(_)
            | Self::InitiateAdd(_)
            | Self::InitiateRelease(_)
            | Self::AddReference(_)
            | Self::RemoveReference(_) => {
                <()>::decode(payload)?;
                Response::Done
            }
        }))
    }
}
