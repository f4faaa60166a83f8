//! The fabric manager's service.

pub mod store;
