//! `memtide move`.

use std::process::ExitCode;

use memtide_proto::ControlRequest;

use crate::{
    arguments::Move,
    ask,
    commands::give_back::{milliseconds, tell},
    failure::Failure,
};

pub fn move_memory(options: Move) -> Result<ExitCode, Failure> {
    let socket = ask::socket(options.socket.socket)?;
    let wish = ControlRequest::Move {
        pid: options.pid,
        to: options.to,
        bytes: options.size,
        deadline_ms: options.deadline.map(milliseconds),
    };
    let report = ask::report(&socket, wish, "moving")?;
    tell(&report, "moved", options.json)
}
