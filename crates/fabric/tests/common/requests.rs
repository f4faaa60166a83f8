//! Requests to a manager, as tests make them.

use std::time::Duration;

use memtide_cxl::manager::{Forcing, Place, Policy, Request, Rest, What};
use memtide_units::Tag;

pub fn place(host: &str) -> Place {
    Place { host: host.parse().unwrap(), device: None, region: None }
}

pub fn add(host: &str, size: u64, rest: Rest, deadline: Option<Duration>) -> Request {
    let (to, tag, policy) = (place(host), Tag::NULL, Policy::Free);
    Request::Add { to, size, tag, policy, rest, deadline }
}

pub fn release(host: &str, size: u64, forcing: Forcing, rest: Rest, deadline: Duration) -> Request {
    let (from, what, deadline) = (place(host), What::Size(size), Some(deadline));
    Request::Release { from, what, forcing, rest, deadline }
}
