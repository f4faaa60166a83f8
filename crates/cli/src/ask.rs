//! Asking the daemon, with a progress bar for what takes longer than a moment.

use std::path::{Path, PathBuf};

use memtide_client::{Answer, paths, request};
use memtide_proto::{
    ControlRequest, Whom,
    control::{DcdStatus, Decision, Report, Status, TenantStatus},
};
use memtide_units::{ByteSize, OnlineZone};

use crate::{failure::Failure, progress::Progress};

/// The daemon's socket, as named or found.
pub fn socket(named: Option<PathBuf>) -> Result<PathBuf, Failure> {
    Ok(paths::find_socket(named)?)
}

pub fn status(socket: &Path) -> Result<Status, Failure> {
    match request(socket, ControlRequest::Status, &mut |_, _| ())? {
        Answer::Status(status) => Ok(status),
        other => Err(unexpected(&other)),
    }
}

pub fn tenants(socket: &Path) -> Result<Vec<TenantStatus>, Failure> {
    match request(socket, ControlRequest::Tenants, &mut |_, _| ())? {
        Answer::Tenants(tenants) => Ok(tenants),
        other => Err(unexpected(&other)),
    }
}

pub fn explain(socket: &Path, whom: Whom) -> Result<Vec<Decision>, Failure> {
    match request(socket, ControlRequest::Explain { whom }, &mut |_, _| ())? {
        Answer::Decisions(decisions) => Ok(decisions),
        other => Err(unexpected(&other)),
    }
}

pub fn devices(socket: &Path) -> Result<Vec<DcdStatus>, Failure> {
    match request(socket, ControlRequest::Devices, &mut |_, _| ())? {
        Answer::Devices(devices) => Ok(devices),
        other => Err(unexpected(&other)),
    }
}

pub fn accept(socket: &Path, node: String, what: String) -> Result<(), Failure> {
    match request(socket, ControlRequest::Accept { node, what }, &mut |_, _| ())? {
        Answer::Done(_) => Ok(()),
        other => Err(unexpected(&other)),
    }
}

pub fn add(
    socket: &Path,
    bytes: ByteSize,
    to: String,
    zone: Option<OnlineZone>,
) -> Result<ByteSize, Failure> {
    match request(socket, ControlRequest::Add { bytes, to, zone }, &mut |_, _| ())? {
        Answer::Done(bytes) => Ok(bytes),
        other => Err(unexpected(&other)),
    }
}

pub fn retire(socket: &Path, node: String, offset: ByteSize) -> Result<ByteSize, Failure> {
    match request(socket, ControlRequest::Retire { node, offset }, &mut |_, _| ())? {
        Answer::Done(bytes) => Ok(bytes),
        other => Err(unexpected(&other)),
    }
}

/// A give-back or a move.
pub fn report(socket: &Path, wish: ControlRequest, verb: &'static str) -> Result<Report, Failure> {
    let mut progress = Progress::of_bytes(verb);
    let answer = request(socket, wish, &mut |done, of| progress.show(done.0, of.0));
    progress.end();
    match answer? {
        Answer::Report(report) => Ok(report),
        other => Err(unexpected(&other)),
    }
}

fn unexpected(answer: &Answer) -> Failure {
    Failure::failed(format_args!("the daemon answered something else: {answer:?}"))
}
