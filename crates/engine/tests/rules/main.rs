//! The rules, one test each.

mod bench;
mod explain;
mod fork;
mod giveback;
mod lending;
mod moves;
mod policies;
mod queue;
mod recovery;
mod tenants;
