//! `memtide serve`.

use std::process::ExitCode;

use memtide_client::paths;
use memtide_daemon::{Config, Daemon, NodeConfig, StopHandle};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::{
    arguments::Serve,
    failure::{Failure, chain},
    pool::Wish,
};

pub fn serve(options: Serve) -> Result<ExitCode, Failure> {
    let config = read_config(&options)?;
    paths::prepare_directory_of(&config.socket)?;
    raise_descriptor_limit();
    let mut daemon = Daemon::bind(config)?;
    if options.until_idle {
        daemon.end_when_idle();
    } else {
        announce(daemon.config());
        daemon.on_notice(|notice| eprintln!("memtide: {notice}"));
    }
    stop_on_signals(daemon.stop_handle())?;
    daemon.run().map_err(|error| Failure::Failed(chain(&error)))?;
    if let (Some(state), true) = (daemon.config().state.clone(), options.until_idle) {
        drop(daemon);
        // The pool is no more.
        let _ = std::fs::remove_file(state);
    }
    Ok(ExitCode::SUCCESS)
}

fn read_config(options: &Serve) -> Result<Config, Failure> {
    let socket = options.socket.clone().unwrap_or_else(paths::default_socket);
    let Some(path) = &options.config else {
        let Serve { near, far, store, on_full, .. } = *options;
        let wish = Wish { near, far, store, on_full };
        if !wish.names_a_size() {
            return Err(Failure::Usage(
                "what to serve? Give --config FILE, or --near SIZE and --far SIZE".to_owned(),
            ));
        }
        return wish.config(socket);
    };
    let config = Config::read(path, &socket)?;
    if options.until_idle {
        // Written for this one reader.
        let _ = std::fs::remove_file(path);
    }
    Ok(config)
}

fn announce(config: &Config) {
    let nodes: Vec<String> = config.nodes.iter().map(announced).collect();
    eprintln!("memtide: serving {} at {}", nodes.join(", "), config.socket.display());
}

fn announced(node: &NodeConfig) -> String {
    match &node.dcd {
        Some(dcd) => format!("{} of {}", node.name, dcd.fabric),
        None => format!("{} {}", node.name, node.size),
    }
}

/// Every image takes a descriptor per node, every program and child a few more.
fn raise_descriptor_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Without it, fewer programs fit; that is said when it happens.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

fn stop_on_signals(stop: StopHandle) -> Result<(), Failure> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for _ in signals.forever() {
            stop.stop();
        }
    })?;
    Ok(())
}
