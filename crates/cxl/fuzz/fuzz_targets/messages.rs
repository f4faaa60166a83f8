//! Bytes that libFuzzer makes up, decoded as every message, as they are and with the counts that
//! their length allows: nothing panics, what decodes comes back the same from its own bytes, and
//! nothing makes room for what is not there.
//!
//! ```text
//! cd crates/cxl
//! cargo +nightly fuzz run --sanitizer none messages -- -max_len=1024 -max_total_time=60 \
//!     -rss_limit_mb=256
//! ```
//!
//! (There is no unsafe code for a sanitizer to watch.)
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/codecs/every.rs"]
mod every;

fuzz_target!(|bytes: &[u8]| every::decode_with_counts(bytes));
