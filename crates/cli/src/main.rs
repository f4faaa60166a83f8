//! The memtide command.
fn main() {}
