//! `memtide fm`.
//!
//! * [`serve`]: the service. [`ask`]: what changes something, and its report.
//! * [`scan`]: what there is to be managed.
//! * [`show`]: who has what. [`watch`]: and when that changes.

mod ask;
mod scan;
mod serve;
mod show;
mod watch;

use std::{env, path::PathBuf, process::ExitCode};

use memtide_client::paths;
use memtide_fabric::manager::{Client, ClientError};

use crate::{
    arguments::{FmSocket, FmWhat},
    failure::{Failure, chain},
};

/// Names the socket when the command line does not.
const SOCKET_VARIABLE: &str = "MEMTIDE_FM_SOCKET";

pub fn fm(what: FmWhat) -> Result<ExitCode, Failure> {
    match what {
        FmWhat::Serve(options) => serve::serve(options),
        FmWhat::Scan(options) => scan::scan(&options),
        FmWhat::List(options) => show::list(&options),
        FmWhat::Show(options) => show::show(&options),
        FmWhat::Watch(options) => watch::watch(&options),
        FmWhat::Add(options) => ask::add(options),
        FmWhat::Release(options) => ask::release(options),
        FmWhat::Move(options) => ask::move_capacity(options),
        FmWhat::Limits(options) => ask::limits(options),
        FmWhat::Keep(options) => ask::keep(options),
        FmWhat::Forget(options) => ask::forget(options),
        FmWhat::Cancel(options) => ask::cancel(options),
    }
}

/// Where the manager is, as named or usual.
fn socket(named: Option<PathBuf>) -> PathBuf {
    named
        .or_else(|| env::var_os(SOCKET_VARIABLE).map(PathBuf::from))
        .unwrap_or_else(|| paths::runtime_directory().join("fm.sock"))
}

fn connect(options: &FmSocket) -> Result<Client, Failure> {
    Client::connect(&socket(options.socket.clone())).map_err(failure)
}

fn failure(error: ClientError) -> Failure {
    match error {
        ClientError::Declined(why) => Failure::Usage(why),
        other => Failure::Failed(chain(&other)),
    }
}
