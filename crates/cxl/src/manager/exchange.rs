//! What is said to a device and what it replies, as one type each.

use crate::{
    ReturnCode,
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
