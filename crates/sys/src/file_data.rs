//! Which parts of a sparse file hold data.
//!
//! `lseek(SEEK_HOLE)` looks for the next hole however far it is, which in a large file full of data
//! is far too far for a question about 2 MiB. cachestat(2) (Linux 6.5) counts the pages of a range
//! instead, those in swap too; halving a range that is neither empty nor full finds the borders.
//! Where the kernel does not have it, `lseek` answers.

use std::os::fd::{AsFd, AsRawFd};

use rustix::{fs::SeekFrom, io::Errno};

const PAGE: u64 = 4096;
/// The same on every architecture; the libc crate does not have it.
const SYS_CACHESTAT: libc::c_long = 451;

#[repr(C)]
struct Range {
    offset: u64,
    length: u64,
}

/// `struct cachestat`; numbers of pages.
#[repr(C)]
#[derive(Default)]
struct Counts {
    cached: u64,
    dirty: u64,
    writeback: u64,
    /// Of shared memory: in swap.
    evicted: u64,
    recently_evicted: u64,
}

const _: () = assert!(size_of::<Counts>() == 40);

/// The parts of `file`, a memfd, between `start` and `end` that hold data, in order; the rest are
/// holes, which read as zero and take no memory. Both are multiples of 4096.
///
/// # Errors
/// The kernel's.
pub fn data_ranges(
    file: impl AsFd,
    start: u64,
    end: u64,
    ranges: &mut Vec<(u64, u64)>,
) -> Result<(), Errno> {
    ranges.clear();
    match halve(&file, start, end, ranges) {
        Err(Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
            ranges.clear();
            seek(&file, start, end, ranges)
        }
        other => other,
    }
}

fn halve(
    file: &impl AsFd,
    start: u64,
    end: u64,
    ranges: &mut Vec<(u64, u64)>,
) -> Result<(), Errno> {
    let pages = (end - start) / PAGE;
    let held = pages_held(file, start, end - start)?;
    if held == 0 || pages == 0 {
        return Ok(());
    }
    if held >= pages {
        match ranges.last_mut() {
            Some(last) if last.1 == start => last.1 = end,
            _ => ranges.push((start, end)),
        }
        return Ok(());
    }
    let middle = start + pages / 2 * PAGE;
    halve(file, start, middle, ranges)?;
    halve(file, middle, end, ranges)
}

/// Pages of a range that are in memory or in swap.
fn pages_held(file: &impl AsFd, offset: u64, length: u64) -> Result<u64, Errno> {
    let range = Range { offset, length };
    let mut counts = Counts::default();
    // SAFETY: cachestat reads the range, writes the counts (size asserted above), and takes no
    // flags.
    let result = unsafe {
        libc::syscall(SYS_CACHESTAT, file.as_fd().as_raw_fd(), &raw const range, &raw mut counts, 0)
    };
    if result == 0 {
        Ok(counts.cached + counts.evicted)
    } else {
        let code = std::io::Error::last_os_error().raw_os_error();
        Err(Errno::from_raw_os_error(code.unwrap_or(libc::EIO)))
    }
}

fn seek(file: &impl AsFd, start: u64, end: u64, ranges: &mut Vec<(u64, u64)>) -> Result<(), Errno> {
    let mut at = start;
    while at < end {
        let data = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(data) if data < end => data,
            Ok(_) | Err(Errno::NXIO) => break,
            Err(errno) => return Err(errno),
        };
        let hole = rustix::fs::seek(file, SeekFrom::Hole(data))?.min(end);
        ranges.push((data, hole));
        at = hole;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memfd::{self, Pages};

    #[test]
    fn both_ways_find_the_same_data() {
        let file = memfd::create("data", 4 << 20, Pages::Small).unwrap();
        for page in [0u64, 1, 2, 100, 300, 301, 511, 512, 1023] {
            rustix::io::pwrite(&file, &[1; 10], page * PAGE).unwrap();
        }
        let (start, end) = (0, 2 << 20);
        let (mut counted, mut sought) = (Vec::new(), Vec::new());
        data_ranges(&file, start, end, &mut counted).unwrap();
        seek(&file, start, end, &mut sought).unwrap();
        let pages = |from: u64, to: u64| (from * PAGE, to * PAGE);
        assert_eq!(counted, [pages(0, 3), pages(100, 101), pages(300, 302), pages(511, 512)]);
        assert_eq!(counted, sought);
        data_ranges(&file, 2 << 20, 4 << 20, &mut counted).unwrap();
        assert_eq!(counted, [pages(512, 513), pages(1023, 1024)]);
    }
}
