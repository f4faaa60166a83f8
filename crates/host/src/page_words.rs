//! Files with a 64-bit word for each page: `/proc/PID/pagemap`, `/proc/kpageflags`
//! (Documentation/admin-guide/mm/pagemap.rst).

use std::{fs::File, io, os::unix::fs::FileExt};

const WORD_BYTES: usize = 8;

/// The words of `count` pages from the page of number `first` on: fewer where the file ends.
pub(crate) fn read(file: &File, first: u64, count: usize) -> io::Result<Vec<u64>> {
    let too_many = || io::Error::from(io::ErrorKind::InvalidInput);
    let offset = first.checked_mul(WORD_BYTES as u64).ok_or_else(too_many)?;
    let mut words = vec![[0; WORD_BYTES]; count];
    let buffer = words.as_flattened_mut();
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(got) => filled += got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    words.truncate(filled / WORD_BYTES);
    Ok(words.into_iter().map(u64::from_ne_bytes).collect())
}
