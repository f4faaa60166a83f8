//! The walk of `tests/against_a_model.rs`, through operations that libFuzzer makes up.
//!
//! ```text
//! cd crates/frames
//! cargo +nightly fuzz run --sanitizer none frames -- -max_len=1024 -len_control=0 -max_total_time=60
//! ```
//!
//! (There is no unsafe code for a sanitizer to watch. `MEMTIDE_TRACE=1` prints the operations of
//! a case that fails.)
//!
//! Each 8 bytes are a record: the first the shape of the node, the others operations.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/common/mod.rs"]
mod common;

fuzz_target!(|bytes: &[u8]| {
    let records: Vec<[u16; 4]> = bytes
        .chunks_exact(8)
        .map(|record| {
            std::array::from_fn(|n| u16::from_le_bytes([record[2 * n], record[2 * n + 1]]))
        })
        .collect();
    common::run(&records);
});
