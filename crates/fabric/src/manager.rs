//! The fabric manager's service.

pub mod backend;
mod exchange;
pub mod store;
