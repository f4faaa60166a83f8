//! Tokens follow forks, and nothing else: checked with real processes.

use std::{
    os::fd::AsFd,
    time::{Duration, Instant},
};

use memtide_sys::token;

/// Forks a child that holds whatever it inherited until killed.
fn fork_pausing_child() -> libc::pid_t {
    // SAFETY: the child makes only async-signal-safe calls.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        loop {
            // SAFETY: pause(2) has no preconditions.
            unsafe { libc::pause() };
        }
    }
    pid
}

fn kill_and_wait(pid: libc::pid_t) {
    // SAFETY: plain system calls on a child of this process.
    unsafe {
        assert_eq!(libc::kill(pid, libc::SIGKILL), 0);
        assert_eq!(libc::waitpid(pid, std::ptr::null_mut(), 0), pid);
    }
}

/// Soon, not at once: the other test may have forked meanwhile.
fn await_gone(token: &std::os::fd::OwnedFd) {
    let start = Instant::now();
    while !token::is_gone(token.as_fd()).unwrap() {
        assert!(start.elapsed() < Duration::from_secs(5));
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_token_is_gone_when_the_last_that_inherited_it_is() {
    let token = token::create().unwrap();
    let map = token::map(token.as_fd()).unwrap();
    let child = fork_pausing_child();
    map.unmap().unwrap();
    assert!(!token::is_gone(token.as_fd()).unwrap(), "the child maps it");
    kill_and_wait(child);
    await_gone(&token);
}

#[test]
fn exec_drops_a_token() {
    use std::os::unix::process::CommandExt;
    let token = token::create().unwrap();
    let fd = token.try_clone().unwrap();
    let mut command = std::process::Command::new("sleep");
    // SAFETY: the closure makes one system call and allocates nothing.
    unsafe {
        command.arg("60").pre_exec(move || {
            token::map(fd.as_fd())?;
            Ok(())
        });
    }
    let mut child = command.spawn().unwrap();
    // spawn returns once exec has happened.
    await_gone(&token);
    child.kill().unwrap();
    child.wait().unwrap();
}
