//! The rules, one test each.

mod bench;
mod fork;
mod giveback;
mod lending;
mod moves;
mod recovery;
