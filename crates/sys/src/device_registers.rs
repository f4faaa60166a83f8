//! Registers of a PCI device, mapped from the file of one of its base addresses
//! (`/sys/bus/pci/devices/BDF/resourceN`).
//!
//! A register is not memory: each access is one bus transaction of the width that was asked for,
//! may have effects, and must neither be split, merged, repeated nor left out. So there are no Rust
//! references to them, only volatile loads and stores of 32 and 64 bits, each checked against the
//! mapping's bounds and its own alignment. A device that has been unplugged answers all ones;
//! nothing faults, because the mapping stays until it is dropped.
//!
//! Reference: kernel `Documentation/PCI/sysfs-pci.rst` (`resource0..N`).

use std::{ffi::c_void, os::fd::AsFd, ptr::NonNull};

use rustix::{
    io::Errno,
    mm::{MapFlags, ProtFlags, mmap, munmap},
};

/// An access that is not in the mapping, or not aligned to its own width.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfBounds {
    /// Where.
    pub offset: usize,
    /// Bytes.
    pub width: usize,
    /// Bytes that are mapped.
    pub mapped: usize,
}

impl std::fmt::Display for OutOfBounds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { offset, width, mapped } = self;
        write!(
            f,
            "a register of {width} bytes at {offset:#x}; expected a multiple of {width} with all \
             of it in {mapped:#x} bytes"
        )
    }
}

impl std::error::Error for OutOfBounds {}

/// Mapped registers.
#[derive(Debug)]
pub struct DeviceRegisters {
    start: NonNull<c_void>,
    length: usize,
}

// SAFETY: the mapping is not tied to a thread, and nobody else has the pointer.
unsafe impl Send for DeviceRegisters {}

impl DeviceRegisters {
    /// Maps the first `length` bytes of a device's resource.
    ///
    /// # Errors
    /// The kernel's: `EINVAL` for length 0, for more than the resource has, or where a driver has
    /// claimed it (`CONFIG_IO_STRICT_DEVMEM`); `EPERM` for who is not root.
    pub fn map(file: impl AsFd, length: usize) -> Result<Self, Errno> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice replaces nothing.
        let start =
            unsafe { mmap(std::ptr::null_mut(), length, protection, MapFlags::SHARED, file, 0)? };
        let start = NonNull::new(start).ok_or(Errno::INVAL)?;
        Ok(Self { start, length })
    }

    /// Bytes that are mapped.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Never: a mapping of nothing is refused.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Reads 32 bits.
    ///
    /// # Errors
    /// [`OutOfBounds`].
    pub fn read32(&self, offset: usize) -> Result<u32, OutOfBounds> {
        let register = self.at::<u32>(offset)?;
        // SAFETY: `at` has checked that all of it is mapped and aligned, and a register holds any
        // value; no reference to it exists.
        Ok(u32::from_le(unsafe { register.read_volatile() }))
    }

    /// Reads 64 bits.
    ///
    /// # Errors
    /// [`OutOfBounds`].
    pub fn read64(&self, offset: usize) -> Result<u64, OutOfBounds> {
        let register = self.at::<u64>(offset)?;
        // SAFETY: as in `read32`.
        Ok(u64::from_le(unsafe { register.read_volatile() }))
    }

    /// Writes 32 bits.
    ///
    /// # Errors
    /// [`OutOfBounds`].
    pub fn write32(&mut self, offset: usize, value: u32) -> Result<(), OutOfBounds> {
        let register = self.at::<u32>(offset)?;
        // SAFETY: as in `read32`; the mapping is writable, and `&mut self` keeps others of this
        // process away. What the device does upon it is the caller's business.
        unsafe { register.write_volatile(value.to_le()) };
        Ok(())
    }

    /// Writes 64 bits.
    ///
    /// # Errors
    /// [`OutOfBounds`].
    pub fn write64(&mut self, offset: usize, value: u64) -> Result<(), OutOfBounds> {
        let register = self.at::<u64>(offset)?;
        // SAFETY: as in `write32`.
        unsafe { register.write_volatile(value.to_le()) };
        Ok(())
    }

    fn at<T>(&self, offset: usize) -> Result<*mut T, OutOfBounds> {
        let width = size_of::<T>();
        let inside = offset.checked_add(width).is_some_and(|end| end <= self.length);
        if !inside || !offset.is_multiple_of(width) {
            return Err(OutOfBounds { offset, width, mapped: self.length });
        }
        // SAFETY: the offset lies in the mapping, which is one allocation.
        Ok(unsafe { self.start.as_ptr().byte_add(offset) }.cast())
    }
}

impl Drop for DeviceRegisters {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, all of it, and nobody has a pointer into it any more.
        let _ = unsafe { munmap(self.start.as_ptr(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registers(bytes: u64) -> DeviceRegisters {
        let file = rustix::fs::memfd_create("registers", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&file, bytes).unwrap();
        DeviceRegisters::map(&file, usize::try_from(bytes).unwrap()).unwrap()
    }

    #[test]
    fn what_is_written_is_read_in_little_endian() {
        let mut registers = registers(4096);
        registers.write64(8, 0x1122_3344_5566_7788).unwrap();
        assert_eq!(registers.read64(8), Ok(0x1122_3344_5566_7788));
        assert_eq!(registers.read32(8), Ok(0x5566_7788));
        registers.write32(12, 7).unwrap();
        assert_eq!(registers.read64(8), Ok(0x7_5566_7788));
    }

    #[test]
    fn nothing_outside_is_touched() {
        let mut registers = registers(4096);
        for offset in [4096, 4090, 2, usize::MAX - 3, usize::MAX] {
            assert!(registers.read32(offset).is_err(), "{offset:#x}");
            assert!(registers.write32(offset, 1).is_err(), "{offset:#x}");
        }
        for offset in [4092, 4, usize::MAX - 7] {
            assert!(registers.read64(offset).is_err(), "{offset:#x}");
            assert!(registers.write64(offset, 1).is_err(), "{offset:#x}");
        }
        assert_eq!(registers.read32(4092), Ok(0));
        assert_eq!(registers.read64(4088), Ok(0));
    }

    #[test]
    fn a_mapping_of_nothing_is_refused() {
        let file = rustix::fs::memfd_create("registers", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        assert_eq!(DeviceRegisters::map(&file, 0).err(), Some(Errno::INVAL));
    }
}
