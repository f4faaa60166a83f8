//! Reading small files and directories of /proc without allocating.
//!
//! `std::fs::read_dir` goes through libc's `opendir`, which allocates from the program's
//! allocator; a pager must not, so directories are read with the raw system call here.

use std::{
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    fs::{Mode, OFlags, RawDir},
    io::Errno,
};

/// Opens a directory.
///
/// # Errors
/// The kernel's.
pub fn open_dir(path: &str) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Calls `each` with every entry of `dir` whose name is a number, until it says stop.
///
/// # Errors
/// The kernel's.
pub fn numbered_entries(
    dir: impl AsFd,
    mut each: impl FnMut(u32) -> std::ops::ControlFlow<()>,
) -> Result<(), Errno> {
    rustix::fs::seek(&dir, rustix::fs::SeekFrom::Start(0))?;
    let mut buffer = [MaybeUninit::<u8>::uninit(); 4096];
    let mut entries = RawDir::new(dir.as_fd(), &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let number = entry.file_name().to_str().ok().and_then(|name| name.parse().ok());
        if let Some(number) = number
            && each(number).is_break()
        {
            break;
        }
    }
    Ok(())
}

/// Reads a file below `dir` into `buffer`, as much as fits, and returns what was read.
///
/// # Errors
/// The kernel's.
pub fn read_at<'b>(dir: impl AsFd, path: &str, buffer: &'b mut [u8]) -> Result<&'b [u8], Errno> {
    let file = rustix::fs::openat(dir, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut length = 0;
    while length < buffer.len() {
        match rustix::io::read(&file, &mut buffer[length..]) {
            Ok(0) => break,
            Ok(got) => length += got,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(&buffer[..length])
}
