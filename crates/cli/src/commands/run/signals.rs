//! Signals go through to the program.
//!
//! What a terminal sends (Ctrl-C, Ctrl-Z, a new window size) it sends to the whole process group,
//! the program included: that is not sent again. What somebody sends to this process is meant for
//! the program. A signal that was ignored when this process started stays so: `nohup memtide run`
//! works.

use std::io;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use signal_hook::{
    consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2, SIGWINCH},
    iterator::{SignalsInfo, exfiltrator::origin::WithOrigin},
    low_level::{emulate_default_handler, siginfo::Cause},
};

use crate::failure::Failure;

const FORWARDED: [i32; 9] =
    [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT, SIGTSTP];

/// Signals that are caught, and kept until there is a program.
pub struct Forwarding(SignalsInfo<WithOrigin>);

impl Forwarding {
    /// Catches signals from now on.
    pub fn prepare() -> Result<Self, Failure> {
        let ignored = ignored_signals().unwrap_or(0);
        let caught = FORWARDED.into_iter().filter(|signal| ignored & (1 << (signal - 1)) == 0);
        Ok(Self(SignalsInfo::with_exfiltrator(caught, WithOrigin::default())?))
    }

    /// Sends them to this child from now on.
    pub fn begin(mut self, child: u32) -> Result<(), Failure> {
        let pid = i32::try_from(child).ok().and_then(Pid::from_raw).expect("a child has a number");
        // Names the child even when it has ended and its number names another.
        let target = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(target) => target,
            Err(errno) => return Err(io::Error::from(errno).into()),
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for origin in self.0.forever() {
                let from_terminal = matches!(origin.cause, Cause::Kernel);
                let signal = Signal::from_named_raw(origin.signal);
                if let (Some(signal), true) = (signal, !from_terminal || origin.signal == SIGCONT) {
                    let _ = pidfd_send_signal(&target, signal);
                }
                if origin.signal == SIGTSTP {
                    // The shell waits for this process to stop, not for the program.
                    let _ = emulate_default_handler(SIGTSTP);
                }
            }
        })?;
        Ok(())
    }
}

/// The set of signals that this process ignores, bit n−1 for signal n.
fn ignored_signals() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}
