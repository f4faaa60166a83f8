//! userfaultfd: faults of chosen ranges come to us.
//!
//! Two uses. A range registered for *missing* faults suspends a thread that touches a page which
//! is not there, until somebody maps one and wakes it: the first touch of a reservation. A range
//! registered for *write protection* suspends writers of protected pages: a live move.
//!
//! A userfaultfd that also handles faults from inside system calls needs a right: the capability
//! `CAP_SYS_PTRACE`, the sysctl `vm.unprivileged_userfaultfd`, or an open descriptor of
//! `/dev/userfaultfd`, which a privileged daemon may hand over. Anything less (the flag
//! `UFFD_USER_MODE_ONLY`) turns a `read(2)` into a protected page into `EFAULT`, so it is not used.
//!
//! References: userfaultfd(2), ioctl_userfaultfd(2), `include/uapi/linux/userfaultfd.h`.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    ioctl::{self, Opcode},
};

use crate::{AddrRange, Arena};

const API: u64 = 0xAA;
/// Works on shared memory and huge pages too (Linux 5.19).
const FEATURE_WP_HUGETLBFS_SHMEM: u64 = 1 << 12;
const FEATURE_PAGEFAULT_FLAG_WP: u64 = 1 << 0;
const REGISTER_MODE_MISSING: u64 = 1 << 0;
const REGISTER_MODE_WP: u64 = 1 << 1;
const WRITEPROTECT_MODE_WP: u64 = 1 << 0;
const EVENT_PAGEFAULT: u8 = 0x12;
const PAGEFAULT_FLAG_WP: u64 = 1 << 1;
const DEVICE: &str = "/dev/userfaultfd";

#[repr(C)]
#[derive(Clone, Copy)]
struct Range {
    start: u64,
    len: u64,
}

#[repr(C)]
struct ApiArg {
    api: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
struct RegisterArg {
    range: Range,
    mode: u64,
    ioctls: u64,
}

#[repr(C)]
struct WriteProtectArg {
    range: Range,
    mode: u64,
}

#[repr(C)]
struct ZeroPageArg {
    range: Range,
    mode: u64,
    zeropage: i64,
}

/// `struct uffd_msg`, as far as page faults go.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Message {
    event: u8,
    reserved: [u8; 7],
    flags: u64,
    address: u64,
    thread: u64,
}

const OP_NEW: Opcode = ioctl::opcode::none(0xAA, 0x00);
const OP_API: Opcode = ioctl::opcode::read_write::<ApiArg>(0xAA, 0x3F);
const OP_REGISTER: Opcode = ioctl::opcode::read_write::<RegisterArg>(0xAA, 0x00);
const OP_UNREGISTER: Opcode = ioctl::opcode::read::<Range>(0xAA, 0x01);
const OP_WAKE: Opcode = ioctl::opcode::read::<Range>(0xAA, 0x02);
const OP_ZEROPAGE: Opcode = ioctl::opcode::read_write::<ZeroPageArg>(0xAA, 0x04);
const OP_WRITEPROTECT: Opcode = ioctl::opcode::read_write::<WriteProtectArg>(0xAA, 0x06);

const _: () = {
    assert!(size_of::<Message>() == 32);
    assert!(OP_NEW == 0xAA00);
    assert!(OP_API == 0xC018_AA3F);
    assert!(OP_REGISTER == 0xC020_AA00);
    assert!(OP_UNREGISTER == 0x8010_AA01);
    assert!(OP_WAKE == 0x8010_AA02);
    assert!(OP_ZEROPAGE == 0xC020_AA04);
    assert!(OP_WRITEPROTECT == 0xC018_AA06);
};

/// Which right to a full userfaultfd is missing, as far as one can tell.
#[derive(Debug)]
#[non_exhaustive]
pub enum UffdError {
    /// Neither the capability, nor the sysctl, nor the device allows it.
    NotPermitted,
    /// The kernel has no userfaultfd (CONFIG_USERFAULTFD).
    Absent,
    /// The kernel's userfaultfd cannot write-protect shared memory (Linux before 5.19).
    TooOld {
        /// The features that the kernel has.
        features: u64,
    },
    /// Something else.
    Io(io::Error),
}

impl std::fmt::Display for UffdError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotPermitted => f.write_str(
                "userfaultfd is not permitted: it needs CAP_SYS_PTRACE, \
                 vm.unprivileged_userfaultfd=1, or access to /dev/userfaultfd",
            ),
            Self::Absent => f.write_str("this kernel has no userfaultfd"),
            Self::TooOld { features } => write!(
                f,
                "this kernel's userfaultfd cannot write-protect shared memory \
                 (Linux 5.19 or later is needed; it has features {features:#x})"
            ),
            Self::Io(error) => write!(f, "userfaultfd: {error}"),
        }
    }
}

impl std::error::Error for UffdError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<Errno> for UffdError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::PERM | Errno::ACCESS => Self::NotPermitted,
            Errno::NOSYS => Self::Absent,
            other => Self::Io(other.into()),
        }
    }
}

/// A fault that waits for us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Where, rounded down to the page.
    pub address: usize,
    /// Whether a write-protected page was written to (else: a page was missing).
    pub write_protected: bool,
}

/// A userfaultfd of this process that handles faults of user and kernel mode.
#[derive(Debug)]
pub struct Uffd(OwnedFd);

impl Uffd {
    /// Opens one, trying in turn: the device descriptor that somebody handed over, the system
    /// call, the device itself.
    ///
    /// # Errors
    /// [`UffdError`] says which right or feature is missing.
    pub fn open(device: Option<BorrowedFd<'_>>) -> Result<Self, UffdError> {
        let fd = match device {
            Some(device) => Self::from_device(device)?,
            None => match Self::from_syscall() {
                Ok(fd) => fd,
                Err(Errno::PERM) => {
                    let flags = OFlags::RDWR | OFlags::CLOEXEC;
                    let device = match rustix::fs::open(DEVICE, flags, Mode::empty()) {
                        Ok(device) => device,
                        Err(Errno::NOENT) => return Err(UffdError::NotPermitted),
                        Err(errno) => return Err(errno.into()),
                    };
                    Self::from_device(device.as_fd())?
                }
                Err(errno) => return Err(errno.into()),
            },
        };
        let uffd = Self(fd);
        uffd.handshake()?;
        Ok(uffd)
    }

    fn from_syscall() -> Result<OwnedFd, Errno> {
        use rustix::mm::UserfaultfdFlags as Flags;
        // SAFETY: the descriptor stays inside `Uffd`, whose methods check every range.
        unsafe { rustix::mm::userfaultfd(Flags::CLOEXEC | Flags::NONBLOCK) }
    }

    fn from_device(device: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
        struct New;
        // SAFETY: USERFAULTFD_IOC_NEW takes open flags as its argument and returns a new
        // descriptor that nobody else owns.
        unsafe impl ioctl::Ioctl for New {
            type Output = OwnedFd;
            const IS_MUTATING: bool = false;
            fn opcode(&self) -> Opcode {
                OP_NEW
            }
            fn as_ptr(&mut self) -> *mut core::ffi::c_void {
                let flags = OFlags::CLOEXEC | OFlags::NONBLOCK;
                core::ptr::without_provenance_mut(flags.bits() as usize)
            }
            unsafe fn output_from_ptr(
                fd: ioctl::IoctlOutput,
                _: *mut core::ffi::c_void,
            ) -> rustix::io::Result<OwnedFd> {
                use std::os::fd::FromRawFd;
                // SAFETY: the kernel just made this descriptor for us.
                Ok(unsafe { OwnedFd::from_raw_fd(fd) })
            }
        }
        // SAFETY: see `New`.
        unsafe { ioctl::ioctl(device, New) }
    }

    fn handshake(&self) -> Result<(), UffdError> {
        let needed = FEATURE_WP_HUGETLBFS_SHMEM | FEATURE_PAGEFAULT_FLAG_WP;
        let mut arg = ApiArg { api: API, features: needed, ioctls: 0 };
        match self.call::<OP_API, _>(&mut arg) {
            Ok(()) => Ok(()),
            Err(Errno::INVAL) => Err(UffdError::TooOld { features: arg.features }),
            Err(errno) => Err(errno.into()),
        }
    }

    fn call<const OP: Opcode, T>(&self, arg: &mut T) -> Result<(), Errno> {
        // SAFETY: every opcode above is paired with the structure that the kernel expects for
        // it (sizes are asserted through the opcode), and the callers check the ranges.
        unsafe { ioctl::ioctl(&self.0, ioctl::Updater::<OP, T>::new(arg)) }
    }

    fn register(&self, range: AddrRange, mode: u64) -> Result<(), Errno> {
        let mut arg = RegisterArg { range: range.into(), mode, ioctls: 0 };
        self.call::<OP_REGISTER, _>(&mut arg)
    }

    /// Suspends threads that touch a page of `range` that is not there.
    ///
    /// # Errors
    /// The kernel's; `EINVAL` for a range outside `arena`.
    pub fn register_missing(&self, arena: &Arena, range: AddrRange) -> Result<(), Errno> {
        inside(arena, range)?;
        self.register(range, REGISTER_MODE_MISSING)
    }

    /// Makes `range` one that can be write-protected.
    ///
    /// # Errors
    /// The kernel's; `EINVAL` for a range outside `arena`.
    pub fn register_write_protect(&self, arena: &Arena, range: AddrRange) -> Result<(), Errno> {
        inside(arena, range)?;
        self.register(range, REGISTER_MODE_WP)
    }

    /// Lets the kernel handle faults of `range` again, and wakes who waits there.
    ///
    /// # Errors
    /// The kernel's; `EINVAL` for a range outside `arena`.
    pub fn unregister(&self, arena: &Arena, range: AddrRange) -> Result<(), Errno> {
        inside(arena, range)?;
        self.call::<OP_UNREGISTER, _>(&mut Range::from(range))
    }

    /// Suspends writers of `range` from now on. When it returns, no writer that came before can
    /// still write: the kernel has flushed all TLBs.
    ///
    /// # Errors
    /// The kernel's; `EINVAL` for a range outside `arena`.
    pub fn protect(&self, arena: &Arena, range: AddrRange) -> Result<(), Errno> {
        inside(arena, range)?;
        let mut arg = WriteProtectArg { range: range.into(), mode: WRITEPROTECT_MODE_WP };
        self.again(|| self.call::<OP_WRITEPROTECT, _>(&mut arg))
    }

    /// Lifts [`Uffd::protect`] and wakes who waits there.
    ///
    /// # Errors
    /// The kernel's; `EINVAL` for a range outside `arena`.
    pub fn unprotect(&self, arena: &Arena, range: AddrRange) -> Result<(), Errno> {
        inside(arena, range)?;
        let mut arg = WriteProtectArg { range: range.into(), mode: 0 };
        self.again(|| self.call::<OP_WRITEPROTECT, _>(&mut arg))
    }

    /// Wakes threads that wait in `range`; they look again at what is mapped there.
    ///
    /// # Errors
    /// The kernel's.
    pub fn wake(&self, range: AddrRange) -> Result<(), Errno> {
        self.call::<OP_WAKE, _>(&mut Range::from(range))
    }

    /// Puts zero pages under `range`, which is registered for missing faults, and wakes.
    /// A page that is there already is left alone.
    ///
    /// # Errors
    /// The kernel's; `EINVAL` for a range outside `arena`.
    pub fn fill_zero(&self, arena: &Arena, range: AddrRange) -> Result<(), Errno> {
        inside(arena, range)?;
        let mut arg = ZeroPageArg { range: range.into(), mode: 0, zeropage: 0 };
        match self.again(|| self.call::<OP_ZEROPAGE, _>(&mut arg)) {
            Err(Errno::EXIST) => self.wake(range),
            other => other,
        }
    }

    /// Repeats a call that lost a race with a change of mappings (`EAGAIN`).
    fn again(&self, mut call: impl FnMut() -> Result<(), Errno>) -> Result<(), Errno> {
        loop {
            match call() {
                Err(Errno::AGAIN) => std::hint::spin_loop(),
                other => return other,
            }
        }
    }

    /// Takes faults that wait, at most as many as fit; an empty result means that none does.
    ///
    /// # Errors
    /// The kernel's.
    pub fn read(&self, faults: &mut Vec<Fault>) -> Result<(), Errno> {
        const AT_ONCE: usize = 32;
        let mut buffer = [0u8; 32 * AT_ONCE];
        let got = match rustix::io::read(&self.0, &mut buffer[..]) {
            Ok(got) => got,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(errno) => return Err(errno),
        };
        for raw in buffer[..got].chunks_exact(32) {
            if raw[0] != EVENT_PAGEFAULT {
                continue;
            }
            let word = |at: usize| {
                let mut bytes = [0u8; 8];
                bytes.copy_from_slice(&raw[at..at + 8]);
                u64::from_ne_bytes(bytes)
            };
            faults.push(Fault {
                address: word(16) as usize & !4095,
                write_protected: word(8) & PAGEFAULT_FLAG_WP != 0,
            });
        }
        Ok(())
    }
}

impl AsFd for Uffd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<AddrRange> for Range {
    fn from(range: AddrRange) -> Self {
        Self { start: range.start as u64, len: range.len as u64 }
    }
}

fn inside(arena: &Arena, range: AddrRange) -> Result<(), Errno> {
    if arena.contains_range(range) { Ok(()) } else { Err(Errno::INVAL) }
}
