//! The manager's connection: one command at a time, which may be lost, carried out twice, or
//! answered to nobody.

use memtide_cxl::{
    command::events::{EventLog, GetEventRecords},
    device::{Device, Refusal},
    manager::{Command, Reply, Response},
};

/// Where a command is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Link {
    /// No connection.
    Down,
    /// Nothing is under way.
    Idle,
    /// To the device.
    Asked(Command),
    /// Back.
    Replied(Reply),
}

/// The device does what it is told.
pub fn execute(device: &mut Device, command: &Command) -> Reply {
    let done = |result: Result<(), Refusal>| result.map(|()| Response::Done);
    let reply = match command {
        Command::GetEventRecords(GetEventRecords { log: EventLog::DynamicCapacity }) => {
            let ask = GetEventRecords { log: EventLog::DynamicCapacity };
            Ok(Response::EventRecords(device.manager_events(&ask)))
        }
        Command::GetEventRecords(other) => panic!("nobody needs {other:?}"),
        Command::ClearEventRecords(what) => done(device.clear_manager_events(what)),
        Command::GetInfo(_) => Ok(Response::Info(device.info())),
        Command::GetHostConfiguration(what) => {
            device.host_configuration(what).map(Response::HostConfiguration)
        }
        Command::SetConfiguration(what) => done(device.set_configuration(what)),
        Command::GetHostExtents(what) => device.host_extents(what).map(Response::HostExtents),
        Command::InitiateAdd(what) => done(device.initiate_add(what)),
        Command::InitiateRelease(what) => done(device.initiate_release(what)),
        Command::AddReference(what) => done(device.add_reference(what)),
        Command::RemoveReference(what) => done(device.remove_reference(what)),
        Command::ListTags(what) => device.list_tags(what).map(Response::Tags),
    };
    through_bytes(command, reply.map_err(|why| why.code()))
}

/// What is said passes as bytes, both ways.
fn through_bytes(command: &Command, reply: Reply) -> Reply {
    use memtide_cxl::{Payload, ReturnCode};
    let bytes = match &reply {
        Err(code) => return command.reply(*code, &[]).expect("a refusal has no payload"),
        Ok(Response::EventRecords(what)) => what.to_bytes(),
        Ok(Response::Info(what)) => what.to_bytes(),
        Ok(Response::HostConfiguration(what)) => what.to_bytes(),
        Ok(Response::HostExtents(what)) => what.to_bytes(),
        Ok(Response::Tags(what)) => what.to_bytes(),
        Ok(Response::Done) => Vec::new(),
    };
    let again = command.reply(ReturnCode::SUCCESS, &bytes).expect("it was just encoded");
    assert_eq!(again, reply, "{command:?}");
    again
}
