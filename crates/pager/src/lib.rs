//! pager

#![forbid(unsafe_code)]

pub mod space;
