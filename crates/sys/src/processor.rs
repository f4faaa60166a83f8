//! The processors that a thread may run on.
//!
//! Reference: sched_setaffinity(2).

use rustix::{
    io::Errno,
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

/// The processors that the calling thread may run on, ascending.
///
/// # Errors
/// The kernel's; `EINVAL` on a machine with more processors than a set of the C library names.
pub fn processors() -> Result<Vec<usize>, Errno> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|&processor| set.is_set(processor)).collect())
}

/// Keeps the calling thread on one processor.
///
/// # Errors
/// `EINVAL` when there is no such processor, or the thread may not use it.
pub fn pin_to(processor: usize) -> Result<(), Errno> {
    if processor >= CpuSet::MAX_CPU {
        return Err(Errno::INVAL);
    }
    let mut set = CpuSet::new();
    set.set(processor);
    sched_setaffinity(None, &set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_has_one_processor() {
        let all = processors().unwrap();
        let last = *all.last().unwrap();
        let own = std::thread::spawn(move || {
            pin_to(last).unwrap();
            processors().unwrap()
        });
        assert_eq!(own.join().unwrap(), [last]);
        assert_eq!(processors().unwrap(), all);
        assert_eq!(pin_to(usize::MAX), Err(Errno::INVAL));
    }
}
