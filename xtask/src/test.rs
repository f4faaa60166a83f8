//! `cargo xtask test`: everything that proves the workspace, from a fresh machine on.

use std::process::Command;

use crate::{
    Options,
    shell::{self, Failure, cargo},
    vm::setup::setup,
};

/// Commands that the tests use, and the Debian packages that have them.
const NEEDED: [(&str, &str); 12] = [
    ("cc", "gcc"),
    ("c++", "g++"),
    ("make", "make"),
    ("nm", "binutils"),
    ("valgrind", "valgrind"),
    ("redis-server", "redis-server"),
    ("redis-cli", "redis-tools"),
    ("memcached", "memcached"),
    ("sqlite3", "sqlite3"),
    ("python3", "python3"),
    ("setpriv", "util-linux"),
    ("sort", "coreutils"),
];
/// Services that Debian starts when it installs them; the tests start their own.
const SERVICES: [&str; 2] = ["redis-server", "memcached"];

/// Installs what the tests need where it may, builds, and runs all tests.
pub fn test(_: &Options) -> Result<(), Failure> {
    get_ready()?;
    shell::build_release()?;
    // One run, so that the closing lines tell all failures, not the first.
    shell::run(&mut cargo(&["test", "--workspace", "--locked", "--no-fail-fast"]))
}

/// Commands, and what machines are booted with. What cannot be had is said: its tests skip.
fn get_ready() -> Result<(), Failure> {
    let missing = NEEDED.iter().filter(|(command, _)| !shell::is_installed(command));
    let packages: Vec<_> = missing.map(|(_, package)| *package).collect();
    let is_root = shell::output(Command::new("id").arg("-u"))?.starts_with(b"0\n");
    if is_root && shell::is_installed("apt-get") {
        if !packages.is_empty() {
            install(&packages)?;
        }
    } else if !packages.is_empty() {
        let packages = packages.join(" ");
        eprintln!("xtask: not all is built and tested without: apt-get install {packages}");
    }
    if let Err(why) = setup() {
        eprintln!("xtask: tests that boot machines may be skipped: {why}");
    }
    Ok(())
}

fn install(packages: &[&str]) -> Result<(), Failure> {
    let apt = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    shell::run(apt().args(["update", "-q"]))?;
    let mut install = apt();
    install.args(["install", "-q", "-y", "--no-install-recommends"]).args(packages);
    shell::run(&mut install)?;
    for service in SERVICES.iter().filter(|s| packages.contains(s)) {
        // Fails where no systemd runs, and then nothing was started.
        let _ = Command::new("systemctl").args(["disable", "--now", service]).output();
    }
    Ok(())
}
