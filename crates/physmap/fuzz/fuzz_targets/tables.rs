//! The walk of `tests/hostile.rs`, over bytes that libFuzzer makes up.
//!
//! ```text
//! cd crates/physmap
//! mkdir -p fuzz/corpus/tables
//! cargo +nightly fuzz run --sanitizer none tables fuzz/corpus/tables tests/data \
//!     -- -max_len=4096 -max_total_time=60
//! ```
//!
//! (There is no unsafe code for a sanitizer to watch. What libFuzzer finds goes to the first
//! folder; the tables in the second are what it starts from.)
//!
//! The bytes are read as they are; and, the first as a choice, behind a header that is right.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/common/mod.rs"]
mod common;

fuzz_target!(|bytes: &[u8]| {
    common::walk(bytes);
    if let Some((choice, rest)) = bytes.split_first() {
        let signature = common::SIGNATURES[usize::from(*choice) % common::SIGNATURES.len()];
        common::walk(&common::with_header(signature, choice >> 2 & 3, rest));
    }
});
