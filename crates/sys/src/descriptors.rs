//! What the program has open that could write to its memory behind its back.
//!
//! Write protection does not stop transfers that hold pages by reference: io_uring, Linux AIO,
//! RDMA, VFIO, and reads from files opened with `O_DIRECT`. The open descriptors tell which of
//! them are possible. References: proc_pid_fd(5), proc_pid_fdinfo(5).

use std::{ops::ControlFlow, os::fd::OwnedFd};

use memtide_units::HoldReason;
use rustix::{fs::AtFlags, io::Errno};

use crate::proc_dir;

/// What could write to the program's memory without its page tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transfers {
    /// Nothing.
    None,
    /// Reads of files opened with `O_DIRECT`, for as long as the system call lasts.
    DirectReads,
    /// Something asynchronous: this.
    Asynchronous(HoldReason),
}

/// A way to look at the program's descriptors. The thread that uses it may have a descriptor table
/// of its own: `/proc/self` means the program's first thread.
#[derive(Debug)]
pub struct Descriptors {
    process: OwnedFd,
    fds: OwnedFd,
}

impl Descriptors {
    /// Opens it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open() -> Result<Self, Errno> {
        Ok(Self {
            process: proc_dir::open_dir("/proc/self")?,
            fds: proc_dir::open_dir("/proc/self/fd")?,
        })
    }

    /// How many descriptors are open (Linux 6.2 and later; 0 before). A cheap hint that something
    /// was opened or closed.
    ///
    /// # Errors
    /// The kernel's.
    pub fn count(&self) -> Result<u64, Errno> {
        let stat = rustix::fs::statat(&self.fds, "", AtFlags::EMPTY_PATH)?;
        Ok(u64::try_from(stat.st_size).unwrap_or(0))
    }

    /// What the program's open descriptors and AIO contexts make possible.
    ///
    /// # Errors
    /// The kernel's. `ENOENT` or `EACCES` when the program's first thread has ended.
    pub fn transfers(&self) -> Result<Transfers, Errno> {
        let mut found = Transfers::None;
        let mut failed = None;
        let mut seen = 0u32;
        proc_dir::numbered_entries(&self.fds, |fd| {
            seen += 1;
            match self.transfer_of(fd) {
                Ok(Transfers::None) => ControlFlow::Continue(()),
                Ok(Transfers::DirectReads) => {
                    found = Transfers::DirectReads;
                    ControlFlow::Continue(())
                }
                Ok(asynchronous) => {
                    found = asynchronous;
                    ControlFlow::Break(())
                }
                // Closed while we looked.
                Err(Errno::NOENT | Errno::BADF) => ControlFlow::Continue(()),
                Err(errno) => {
                    failed = Some(errno);
                    ControlFlow::Break(())
                }
            }
        })?;
        if let Some(errno) = failed {
            return Err(errno);
        }
        if !matches!(found, Transfers::Asynchronous(_)) && self.has_aio_context()? {
            found = Transfers::Asynchronous(HoldReason::LinuxAio);
        }
        Ok(found)
    }

    fn transfer_of(&self, fd: u32) -> Result<Transfers, Errno> {
        let mut name = [0u8; 16];
        let name = decimal(&mut name, fd);
        let mut target = [0u8; 128];
        let target = read_link(&self.fds, name, &mut target)?;
        if let Some(reason) = asynchronous_kind(target) {
            return Ok(Transfers::Asynchronous(reason));
        }
        // Sockets, pipes and the like ("kind:[inode]") cannot be opened with O_DIRECT to that
        // effect; only paths can.
        if !target.starts_with(b"/") {
            return Ok(Transfers::None);
        }
        let mut path = [0u8; 24];
        let path = join(&mut path, "fdinfo/", name);
        let mut text = [0u8; 128];
        let text = proc_dir::read_at(&self.process, path, &mut text)?;
        Ok(if has_direct_flag(text) { Transfers::DirectReads } else { Transfers::None })
    }

    /// Whether an AIO context of this process exists. The kernel maps its ring under the name
    /// `/[aio]`; with no AIO in use on the whole system there is no need to look.
    fn has_aio_context(&self) -> Result<bool, Errno> {
        let mut text = [0u8; 32];
        match proc_dir::read_at(rustix::fs::CWD, "/proc/sys/fs/aio-nr", &mut text) {
            Ok(b"0\n") | Err(Errno::NOENT) => return Ok(false),
            _ => {}
        }
        let maps = rustix::fs::openat(
            &self.process,
            "maps",
            rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )?;
        contains(maps, b"/[aio]")
    }
}

/// Whether what can be read from `file` contains `needle`.
fn contains(file: OwnedFd, needle: &[u8]) -> Result<bool, Errno> {
    let mut buffer = [0u8; 8192];
    let mut kept = 0;
    loop {
        let got = match rustix::io::read(&file, &mut buffer[kept..]) {
            Ok(0) => return Ok(false),
            Ok(got) => got,
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno),
        };
        let filled = kept + got;
        if buffer[..filled].windows(needle.len()).any(|window| window == needle) {
            return Ok(true);
        }
        kept = filled.min(needle.len() - 1);
        buffer.copy_within(filled - kept..filled, 0);
    }
}

fn asynchronous_kind(target: &[u8]) -> Option<HoldReason> {
    const KINDS: [(&[u8], HoldReason); 6] = [
        (b"anon_inode:[io_uring]", HoldReason::IoUring),
        (b"/dev/infiniband/", HoldReason::Rdma),
        (b"/dev/vfio", HoldReason::DeviceDma),
        (b"/dev/iommu", HoldReason::DeviceDma),
        (b"/dev/vhost", HoldReason::DeviceDma),
        (b"/dev/nvidia", HoldReason::DeviceDma),
    ];
    KINDS.iter().find(|(prefix, _)| target.starts_with(prefix)).map(|&(_, reason)| reason)
}

fn has_direct_flag(fdinfo: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(fdinfo) else { return false };
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|octal| u32::from_str_radix(octal.trim(), 8).ok());
    flags.is_some_and(|flags| flags & rustix::fs::OFlags::DIRECT.bits() != 0)
}

fn decimal(buffer: &mut [u8; 16], number: u32) -> &str {
    use std::io::Write;
    let mut rest = &mut buffer[..];
    // A u32 has at most ten digits.
    let _ = write!(rest, "{number}");
    let left = rest.len();
    std::str::from_utf8(&buffer[..16 - left]).unwrap_or("")
}

fn join<'b>(buffer: &'b mut [u8; 24], front: &str, back: &str) -> &'b str {
    let length = front.len() + back.len();
    buffer[..front.len()].copy_from_slice(front.as_bytes());
    buffer[front.len()..length].copy_from_slice(back.as_bytes());
    std::str::from_utf8(&buffer[..length]).unwrap_or("")
}

fn read_link<'b>(dir: &OwnedFd, name: &str, buffer: &'b mut [u8; 128]) -> Result<&'b [u8], Errno> {
    let length = rustix::fs::readlinkat_raw(dir, name, &mut buffer[..])?;
    Ok(&buffer[..length])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::OpenOptionsExt;

    #[test]
    fn a_file_opened_directly_is_noticed() {
        let descriptors = Descriptors::open().unwrap();
        let dir = std::env::current_dir().unwrap();
        let file = dir.join(format!("direct-{}.tmp", std::process::id()));
        std::fs::write(&file, [0; 4096]).unwrap();
        let before = descriptors.count().unwrap();
        let open = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(&file);
        std::fs::remove_file(&file).unwrap();
        let Ok(open) = open else {
            memtide_skip::skip("needs a file system with O_DIRECT");
            return;
        };
        assert_eq!(descriptors.transfers().unwrap(), Transfers::DirectReads);
        assert!(before == 0 || descriptors.count().unwrap() != before);
        drop(open);
    }

    #[test]
    fn names_of_asynchronous_devices_are_known() {
        assert_eq!(asynchronous_kind(b"anon_inode:[io_uring]"), Some(HoldReason::IoUring));
        assert_eq!(asynchronous_kind(b"/dev/infiniband/uverbs0"), Some(HoldReason::Rdma));
        assert_eq!(asynchronous_kind(b"/dev/vfio/12"), Some(HoldReason::DeviceDma));
        assert_eq!(asynchronous_kind(b"socket:[123]"), None);
    }

    #[test]
    fn flags_are_octal() {
        assert!(has_direct_flag(b"pos:\t0\nflags:\t0140000\nmnt_id:\t29\n"));
        assert!(!has_direct_flag(b"pos:\t0\nflags:\t0100000\nmnt_id:\t29\n"));
    }
}
