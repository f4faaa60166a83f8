//! The rules, one test each.

mod accessed_by;
mod balance;
mod bench;
mod errors;
mod evacuate;
mod explain;
mod fork;
mod giveback;
mod lending;
mod mbind;
mod migrate_reason;
mod moves;
mod online;
mod policies;
mod promises;
mod queue;
mod recovery;
mod tenants;
mod want;
mod zones;
