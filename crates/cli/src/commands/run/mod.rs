//! `memtide run`: a program in a pool, of its own or of others; or on nodes of the kernel's.
//!
//! A pool of its own is served by a thread of this process. When the program has ended but
//! others that it started live on (a daemon, a job in the background), a process of its own takes
//! the pool over, by the same way that a killed daemon is replaced, and ends with the last of
//! them.

mod child;
mod nodes;
mod own_pool;
mod reach;
mod report;
mod signals;
mod watch;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use memtide_client::{is_served, paths};

use crate::{
    arguments::{Memory, Run},
    ask,
    commands::doctor,
    failure::Failure,
    library,
    pool::Wish,
};

/// Where the program's memory comes from.
enum Place {
    /// A pool of its own, served at this socket.
    Own(PathBuf),
    /// The pool at this socket.
    Joined(PathBuf),
}

pub fn run(options: Run) -> Result<ExitCode, Failure> {
    if let Some(nodes) = nodes::Nodes::of(&options)? {
        return nodes::run(&options, nodes);
    }
    let library = library::find().map_err(Failure::Failed)?;
    let Run { store, on_full, .. } = options;
    let size = |memory| match memory {
        Some(Memory::Size(size)) => Some(size),
        _ => None,
    };
    let wish = Wish { near: size(options.near), far: size(options.far), store, on_full };
    match place(&options, &wish)? {
        Place::Joined(socket) => joined(&options, &library, &socket),
        Place::Own(_) if options.label.is_some() => Err(Failure::Usage(
            "--label is for the tenants of a pool that the program joins, but there is none at the \
             default socket; name one with --socket, or leave the label out"
                .to_owned(),
        )),
        Place::Own(socket) => {
            if let Some(missing) = doctor::missing_userfaultfd() {
                return Err(Failure::Failed(missing));
            }
            own_pool::run(&options, &library, wish.config(socket)?)
        }
    }
}

fn place(options: &Run, wish: &Wish) -> Result<Place, Failure> {
    let own = wish.names_a_size();
    let only_own = wish.store.is_some() || wish.on_full.is_some();
    Ok(match &options.socket {
        Some(socket) if own => Place::Own(absolute(socket)?),
        Some(_) if only_own => {
            return Err(Failure::Usage(
                "--store and --on-full describe a pool of the program's own, but --socket names \
                 one to join; give --near or --far as well, or leave them out"
                    .to_owned(),
            ));
        }
        Some(socket) => Place::Joined(absolute(socket)?),
        None if !own && !only_own && is_served(&paths::default_socket()) => {
            Place::Joined(paths::default_socket())
        }
        None => Place::Own(paths::private_socket(std::process::id())),
    })
}

/// The program may change its directory.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| {
        Failure::Usage(format!("the socket {:?} makes no path: {error}", path.display()))
    })
}

fn joined(options: &Run, library: &Path, socket: &Path) -> Result<ExitCode, Failure> {
    let before = ask::status(socket)?;
    if !before.grants_userfaultfd
        && let Some(missing) = doctor::missing_userfaultfd()
    {
        return Err(Failure::Failed(missing));
    }
    let program = reach::look(&options.command[0]);
    program.warn();
    let signals = signals::Forwarding::prepare()?;
    let label = options.label.as_deref();
    let ended = child::run(&options.command, library, socket, label, signals)?;
    if options.report {
        report::joined(&before, ask::status(socket).ok().as_ref());
    }
    Ok(ended.exit_code())
}
