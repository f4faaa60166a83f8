//! Builds, packages and long tests.
fn main() {}
