//! Which process is which: a process number alone may name another one later.
//!
//! References: proc_pid_stat(5).

use std::{fs, io};

/// When a process started, in clock ticks since boot. With the number of the process and the
/// boot it names a process uniquely; it does not change at exec.
///
/// # Errors
/// [`io::ErrorKind::NotFound`] when there is no such process.
pub fn start_time(pid: u32) -> io::Result<u64> {
    let (state, start) = stat(pid)?;
    // A zombie has given up its memory, and only waits to be waited for.
    if matches!(state, b'Z' | b'X') { Err(io::ErrorKind::NotFound.into()) } else { Ok(start) }
}

fn stat(pid: u32) -> io::Result<(u8, u64)> {
    let text = fs::read(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may itself hold parentheses and blanks: count from the last one.
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let after = text.iter().rposition(|&byte| byte == b')').ok_or_else(invalid)? + 1;
    let fields: Vec<&[u8]> =
        text[after..].split(|&byte| byte == b' ').filter(|field| !field.is_empty()).collect();
    let state = fields.first().and_then(|field| field.first()).ok_or_else(invalid)?;
    // Field 22 of the file; the first after the name is field 3.
    let start = fields
        .get(19)
        .and_then(|field| std::str::from_utf8(field).ok())
        .and_then(|field| field.parse().ok())
        .ok_or_else(invalid)?;
    Ok((*state, start))
}

/// Whether the process that started then still lives.
#[must_use]
pub fn is_alive(pid: u32, started: u64) -> bool {
    start_time(pid).is_ok_and(|start| start == started)
}

/// The name of this boot of the machine.
///
/// # Errors
/// When /proc is not mounted.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_started_once() {
        let pid = std::process::id();
        let start = start_time(pid).unwrap();
        assert!(is_alive(pid, start));
        assert!(!is_alive(pid, start + 1));
    }

    #[test]
    fn a_process_that_ended_is_not_alive_even_unwaited_for() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        let start = stat(pid).unwrap().1;
        for _ in 0..1000 {
            if !is_alive(pid, start) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert!(!is_alive(pid, start));
        child.wait().unwrap();
        assert_eq!(start_time(pid).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn the_boot_has_a_name() {
        assert_eq!(boot_id().unwrap().len(), 36);
    }
}
