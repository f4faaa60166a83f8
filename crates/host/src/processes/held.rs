//! Who may hold pages of a process by reference, as far as its descriptors tell.
//!
//! The kernel says that a page is held, never by whom. The process's own descriptors tell what may
//! be at work, from the surest to the vaguest:
//!
//! * an io_uring with registered buffers names them, address by address
//!   (`__io_uring_show_fdinfo` in io_uring/fdinfo.c);
//! * an open RDMA or VFIO device pins what was registered with it, where, it does not say;
//! * a pipe may have been given pages (vmsplice(2)), until somebody reads them.
//!
//! What none of these explains is under I/O (O_DIRECT, Linux AIO), or held by the kernel.

use std::ops::Range;

/// What may hold a page.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Holder {
    /// Registered as a buffer of an io_uring.
    IoUring,
    /// An RDMA device is open.
    Rdma,
    /// A device that reads and writes memory itself (VFIO, vhost, a GPU) is open.
    DeviceDma,
    /// A pipe is open, which may have been given it.
    Pipe,
    /// Nothing that a descriptor tells of.
    Unknown,
}

/// What a process has open that may hold its pages.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Holders {
    /// Addresses that are registered with io_urings.
    buffers: Vec<Range<u64>>,
    devices: Vec<Holder>,
}

/// Names of descriptors, and what they may hold.
const KINDS: [(&str, Holder); 7] = [
    ("/dev/infiniband/", Holder::Rdma),
    ("/dev/vfio", Holder::DeviceDma),
    ("/dev/iommu", Holder::DeviceDma),
    ("/dev/vhost", Holder::DeviceDma),
    ("/dev/nvidia", Holder::DeviceDma),
    ("/dev/dri/", Holder::DeviceDma),
    ("pipe:[", Holder::Pipe),
];
/// What an io_uring is called.
pub(super) const IO_URING: &str = "anon_inode:[io_uring]";
/// The kernel takes 16,384 buffers for a ring (`IORING_MAX_REG_BUFFERS`).
const BUFFERS_MOST: usize = 1 << 14;

impl Holders {
    /// Takes a descriptor into account by the target of its link in `/proc/PID/fd`.
    pub fn add_descriptor(&mut self, target: &str) {
        let kind = KINDS.iter().find(|(name, _)| target.starts_with(name));
        if let Some(&(_, holder)) = kind
            && !self.devices.contains(&holder)
        {
            self.devices.push(holder);
            self.devices.sort_unstable();
        }
    }

    /// Takes an io_uring into account by its `/proc/PID/fdinfo`.
    pub fn add_io_uring(&mut self, fdinfo: &str) {
        let lines = fdinfo.lines().skip_while(|line| !line.starts_with("UserBufs:"));
        for line in lines.skip(1).take(BUFFERS_MOST) {
            // "    0: 0x7f0000000000/4096", "    1: <none>"; anything else is the next list.
            let Some((index, buffer)) = line.trim_start().split_once(": ") else { break };
            if index.is_empty() || !index.bytes().all(|byte| byte.is_ascii_digit()) {
                break;
            }
            self.buffers.extend(range(buffer));
        }
    }

    /// What most likely holds pages, if any are held and nobody says which.
    #[must_use]
    pub fn likely(&self) -> Holder {
        if self.buffers.is_empty() {
            self.devices.first().copied().unwrap_or(Holder::Unknown)
        } else {
            Holder::IoUring
        }
    }

    /// What most likely holds the page of `bytes` at an address.
    #[must_use]
    pub fn of(&self, address: u64, bytes: u64) -> Holder {
        let page = address..address.saturating_add(bytes);
        let has = |buffer: &&Range<u64>| buffer.start < page.end && page.start < buffer.end;
        if self.buffers.iter().any(|buffer| has(&buffer)) {
            return Holder::IoUring;
        }
        self.devices.first().copied().unwrap_or(Holder::Unknown)
    }
}

fn range(text: &str) -> Option<Range<u64>> {
    let (address, length) = text.trim().split_once('/')?;
    let start = u64::from_str_radix(address.strip_prefix("0x")?, 16).ok()?;
    Some(start..start.checked_add(length.parse().ok()?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FDINFO: &str = "\
pos:\t0
SqMask:\t0x7
UserFiles:\t1
    0: socket
UserBufs:\t3
    0: 0x7f0000001800/8192
    1: <none>
    2: 0x7f0000100000/4096
PollList:
    3: 0x1000/4096
";

    #[test]
    fn registered_buffers_are_found_page_by_page() {
        let mut holders = Holders::default();
        holders.add_io_uring(FDINFO);
        assert_eq!(
            holders.buffers,
            [0x7f00_0000_1800..0x7f00_0000_3800, 0x7f00_0010_0000..0x7f00_0010_1000]
        );
        let of = |address| holders.of(address, 4096);
        assert_eq!(of(0x7f00_0000_0000), Holder::Unknown);
        assert_eq!(of(0x7f00_0000_1000), Holder::IoUring);
        assert_eq!(of(0x7f00_0000_3000), Holder::IoUring);
        assert_eq!(of(0x7f00_0000_4000), Holder::Unknown);
        assert_eq!(of(0x1000), Holder::Unknown);
        assert_eq!(holders.of(0x7f00_0000_0000, 2 << 20), Holder::IoUring);
    }

    #[test]
    fn the_surest_holder_is_named() {
        let mut holders = Holders::default();
        assert_eq!(holders.of(0, 4096), Holder::Unknown);
        for (target, then) in [
            ("/home/x/pipe:[1]", Holder::Unknown),
            ("pipe:[4711]", Holder::Pipe),
            ("/dev/vfio/12", Holder::DeviceDma),
            ("/dev/infiniband/uverbs0", Holder::Rdma),
            ("/dev/null", Holder::Rdma),
        ] {
            holders.add_descriptor(target);
            assert_eq!(holders.of(0, 4096), then, "{target}");
            assert_eq!(holders.likely(), then, "{target}");
        }
    }

    #[test]
    fn nonsense_is_no_buffer() {
        for text in [
            "UserBufs:\t9\n 0: 0xffffffffffffffff/4096",
            "UserBufs:\n 0: 12/4",
            "UserBufs:\nx: 0x1/4",
            "UserBufs:",
            "0: 0x1000/4096",
        ] {
            let mut holders = Holders::default();
            holders.add_io_uring(text);
            assert_eq!(holders.buffers, [], "{text}");
        }
    }
}
