//! A write that ends in time, though the kernel would stay at it for ever.
//!
//! Taking a memory block offline is one write to sysfs, during which the kernel moves pages away
//! and retries for as long as it takes: a page that a device has pinned keeps it there for ever,
//! and nobody else can take any block on- or offline meanwhile. What makes it give up is a signal
//! to the very thread (`offline_pages` in mm/memory_hotplug.c: "signal backoff"), upon which it
//! puts the block back into use and answers EINTR. So a timer sends such a signal, whose handler
//! does nothing. A thread that has the signal blocked (masks are inherited, also by programs) would
//! not be interrupted: it lets it through meanwhile.
//!
//! Reference: timer_create(2), `SIGEV_THREAD_ID`.

use std::{
    io,
    marker::PhantomData,
    mem::MaybeUninit,
    os::fd::AsFd,
    ptr,
    sync::OnceLock,
    time::{Duration, Instant},
};

/// How often the signal is sent again once the time is over: the first may come before the thread
/// is in the kernel.
const AGAIN_EVERY: Duration = Duration::from_millis(50);

/// Writes to a file in one call, and gives up after `limit`.
///
/// Other signals, and their handlers, do not end the write: it is begun again.
///
/// # Errors
/// The kernel's; [`io::ErrorKind::TimedOut`] when the time is over.
pub fn write_within(file: impl AsFd, bytes: &[u8], limit: Duration) -> io::Result<usize> {
    let deadline = Instant::now() + limit;
    let signal = interrupting_signal()?;
    // Closed again only when no timer sends any more.
    let _open = LetThrough::new(signal);
    let _timer = Timer::start(signal, limit)?;
    loop {
        match rustix::io::write(&file, bytes) {
            Ok(written) => return Ok(written),
            Err(rustix::io::Errno::INTR) if Instant::now() < deadline => {}
            Err(rustix::io::Errno::INTR) => return Err(io::ErrorKind::TimedOut.into()),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Interrupts system calls of the thread that started it, from some moment on, until it is
/// dropped.
struct Timer(libc::timer_t);

impl Timer {
    fn start(signal: i32, limit: Duration) -> io::Result<Self> {
        // SAFETY: a sigevent is plain data, for which all zeroes is a value.
        let mut event: libc::sigevent = unsafe { MaybeUninit::zeroed().assume_init() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = signal;
        event.sigev_notify_thread_id = rustix::thread::gettid().as_raw_nonzero().get();
        let mut id: libc::timer_t = ptr::null_mut();
        // SAFETY: both point to values of ours that outlive the call.
        check(unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut id) })?;
        let timer = Self(id);
        // A time of zero would disarm it.
        let first = timespec(limit.max(Duration::from_nanos(1)));
        let times = libc::itimerspec { it_interval: timespec(AGAIN_EVERY), it_value: first };
        // SAFETY: the timer is ours; `times` outlives the call; the old times are not wanted.
        check(unsafe { libc::timer_settime(timer.0, 0, &raw const times, ptr::null_mut()) })?;
        Ok(timer)
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // SAFETY: the timer is ours, and nobody uses it any more.
        unsafe { libc::timer_delete(self.0) };
    }
}

/// Lets a signal through to the thread that made it, until it is dropped.
struct LetThrough {
    before: libc::sigset_t,
    /// Signal masks belong to threads: not `Send`.
    not_send: PhantomData<*const ()>,
}

impl LetThrough {
    fn new(signal: i32) -> Self {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        let mut before = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: `sigemptyset` initialises the set, to which a signal that exists is added;
        // `pthread_sigmask` reads it and initialises `before`. None fails for these arguments.
        let before = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            libc::sigaddset(set.as_mut_ptr(), signal);
            libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), before.as_mut_ptr());
            before.assume_init()
        };
        Self { before, not_send: PhantomData }
    }
}

impl Drop for LetThrough {
    fn drop(&mut self) {
        // SAFETY: `before` is a set that the kernel gave us; the old one is not wanted.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, ptr::null_mut());
        }
    }
}

fn timespec(time: Duration) -> libc::timespec {
    let seconds = libc::time_t::try_from(time.as_secs()).unwrap_or(libc::time_t::MAX);
    // SAFETY: a timespec is plain data; some targets have padding in it.
    let mut spec: libc::timespec = unsafe { MaybeUninit::zeroed().assume_init() };
    spec.tv_sec = seconds;
    spec.tv_nsec = time.subsec_nanos().into();
    spec
}

/// The signal, with a handler that does nothing. Installed once a process.
fn interrupting_signal() -> io::Result<i32> {
    static INSTALLED: OnceLock<i32> = OnceLock::new();
    if let Some(&signal) = INSTALLED.get() {
        return Ok(signal);
    }
    let signal = libc::SIGRTMIN() + 7;
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: a sigaction is plain data, for which all zeroes is a value: no flags (above all not
    // SA_RESTART), no mask.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
    // SAFETY: the handler does nothing, and so is safe at any point of any thread.
    check(unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) })?;
    Ok(*INSTALLED.get_or_init(|| signal))
}

fn check(answer: libc::c_int) -> io::Result<()> {
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_blocks_ends_in_time() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        rustix::pipe::fcntl_setpipe_size(&writer, 4096).unwrap();
        let limit = Duration::from_millis(60);
        assert_eq!(write_within(&writer, &[7; 4096], limit).unwrap(), 4096);
        let start = Instant::now();
        let error = write_within(&writer, b"more", limit).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(start.elapsed() >= limit);
        drop(reader);
    }

    #[test]
    fn it_ends_in_time_where_all_signals_are_blocked() {
        let thread = std::thread::spawn(|| {
            let _blocked = crate::signals::SignalsBlocked::new();
            let (_reader, writer) = rustix::pipe::pipe().unwrap();
            rustix::pipe::fcntl_setpipe_size(&writer, 4096).unwrap();
            rustix::io::write(&writer, &[7; 4096]).unwrap();
            write_within(&writer, b"more", Duration::from_millis(60)).unwrap_err().kind()
        });
        let start = Instant::now();
        while !thread.is_finished() && start.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(thread.is_finished(), "still writing");
        assert_eq!(thread.join().unwrap(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn no_signal_comes_after_the_write() {
        let (_reader, writer) = rustix::pipe::pipe().unwrap();
        write_within(&writer, b"now", Duration::from_millis(20)).unwrap();
        let pause = rustix::thread::Timespec { tv_sec: 0, tv_nsec: 60_000_000 };
        let rest = rustix::thread::nanosleep(&pause);
        assert!(matches!(rest, rustix::thread::NanosleepRelativeResult::Ok));
    }

    #[test]
    fn what_the_kernel_refuses_is_passed_on() {
        let (reader, _writer) = rustix::pipe::pipe().unwrap();
        let error = write_within(&reader, b"no", Duration::from_secs(1)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    }
}
