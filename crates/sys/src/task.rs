//! The threads of this process, and what they are doing.
//!
//! `/proc/self/task/TID/syscall` tells, for a thread that sleeps, the system call it sleeps in and
//! its arguments; a thread on a processor is just "running". Reference: proc_pid_syscall(5).

use std::{ops::ControlFlow, os::fd::OwnedFd};

use rustix::io::Errno;

use crate::proc_dir;

/// What a thread was doing when looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Doing {
    /// On a processor, or about to be: in user mode or in the kernel, one cannot tell.
    Running,
    /// Blocked in the kernel outside a system call (a page fault).
    Faulting,
    /// Asleep in a system call.
    InSyscall {
        /// Its number.
        number: u64,
        /// Its arguments.
        args: [u64; 6],
    },
    /// It ended.
    Gone,
}

/// A way to look at the threads of this process.
#[derive(Debug)]
pub struct Tasks {
    dir: OwnedFd,
    me: u32,
}

impl Tasks {
    /// Opens it for the calling thread.
    ///
    /// # Errors
    /// The kernel's: /proc is not mounted, for example.
    pub fn open() -> Result<Self, Errno> {
        let me = rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs();
        Ok(Self { dir: proc_dir::open_dir("/proc/self/task")?, me })
    }

    /// The other threads of this process.
    ///
    /// # Errors
    /// The kernel's.
    pub fn others(&self, threads: &mut Vec<u32>) -> Result<(), Errno> {
        threads.clear();
        proc_dir::numbered_entries(&self.dir, |tid| {
            if tid != self.me {
                threads.push(tid);
            }
            ControlFlow::Continue(())
        })
    }

    /// What a thread is doing.
    ///
    /// # Errors
    /// The kernel's.
    pub fn doing(&self, thread: u32) -> Result<Doing, Errno> {
        let mut buffer = [0u8; 256];
        let mut path = [0u8; 24];
        let path = thread_path(&mut path, thread);
        match proc_dir::read_at(&self.dir, path, &mut buffer) {
            Ok(text) => Ok(parse(text)),
            Err(Errno::NOENT | Errno::SRCH) => Ok(Doing::Gone),
            Err(errno) => Err(errno),
        }
    }
}

/// `TID/syscall`, written without allocating.
fn thread_path(buffer: &mut [u8; 24], thread: u32) -> &str {
    use std::io::Write;
    let mut rest = &mut buffer[..];
    // A u32 and the suffix fit in 24 bytes.
    let _ = write!(rest, "{thread}/syscall");
    let left = rest.len();
    std::str::from_utf8(&buffer[..24 - left]).unwrap_or("")
}

fn parse(text: &[u8]) -> Doing {
    let Ok(text) = std::str::from_utf8(text) else { return Doing::Running };
    let mut words = text.split_ascii_whitespace();
    let number = match words.next() {
        None | Some("running") => return Doing::Running,
        Some("-1") => return Doing::Faulting,
        Some(word) => match word.parse() {
            Ok(number) => number,
            Err(_) => return Doing::Running,
        },
    };
    let mut args = [0; 6];
    for (arg, word) in args.iter_mut().zip(words) {
        *arg = u64::from_str_radix(word.trim_start_matches("0x"), 16).unwrap_or(0);
    }
    Doing::InSyscall { number, args }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel_are_understood() {
        assert_eq!(parse(b"running\n"), Doing::Running);
        assert_eq!(parse(b"-1 0x7ffc 0x7f00\n"), Doing::Faulting);
        assert_eq!(
            parse(b"202 0x7f10 0x80 0x2 0x0 0x0 0xffffffff 0x7ffd 0x7f\n"),
            Doing::InSyscall { number: 202, args: [0x7f10, 0x80, 2, 0, 0, 0xffff_ffff] }
        );
        assert_eq!(parse(b""), Doing::Running);
    }

    #[test]
    fn a_sleeping_thread_is_seen_asleep() {
        let (tid_out, tid_in) = std::sync::mpsc::channel();
        let (stop_out, stop_in) = std::sync::mpsc::channel::<()>();
        let sleeper = std::thread::spawn(move || {
            tid_out.send(rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs()).unwrap();
            let _ = stop_in.recv();
        });
        let tid = tid_in.recv().unwrap();
        let tasks = Tasks::open().unwrap();
        let mut others = Vec::new();
        tasks.others(&mut others).unwrap();
        assert!(others.contains(&tid));
        let asleep = (0..1000).any(|_| {
            std::thread::yield_now();
            matches!(tasks.doing(tid), Ok(Doing::InSyscall { number: 202, .. }))
        });
        assert!(asleep, "a thread waiting on a channel sleeps in futex (202)");
        drop(stop_out);
        sleeper.join().unwrap();
        assert_eq!(tasks.doing(tid), Ok(Doing::Gone));
    }
}
