//! Memory policies: which nodes a request may be placed on, and in which order.
//!
//! As Linux's set_mempolicy(2) and mbind(2) have them, and three that Linux does not: EXMEM (only
//! extended memory, else fail), its opposite, and near whoever accesses it. What is an error there
//! is an error here, with the same number and words beside it.
//!
//! * [`policy`]: the policies, and why one is refused.
//! * [`mod@candidates`]: where a request may go, best first.
//! * `accessed_by`: the same by what it costs those who will access it.
//! * [`interleave`]: how many pageblocks go to which node in turn.
//! * [`weights`]: weights by hand, or by bandwidth.

mod accessed_by;
pub mod candidates;
pub mod interleave;
pub mod policy;
pub mod weights;

pub use self::{
    candidates::{Candidates, candidates},
    interleave::Turn,
    policy::{ACCESSORS_MAX, Errno, Extended, MemPolicy, Mode, PolicyError},
    weights::{WeightError, Weighting, Weights},
};
