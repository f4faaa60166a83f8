//! The rules, one test each.

mod balance;
mod bench;
mod errors;
mod evacuate;
mod explain;
mod fork;
mod giveback;
mod lending;
mod mbind;
mod moves;
mod online;
mod policies;
mod promises;
mod queue;
mod recovery;
mod tenants;
mod want;
