//! Why there is no plan.

use std::error::Error;

/// An error of planning; nothing was changed.
pub trait Refusal: Error + Sized + 'static {
    /// What would have to be different.
    fn fault(&self) -> Fault;
}

/// What would have to be different.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// What was asked for: it makes no sense on this machine.
    Request,
    /// The machine: what it shows could not be read, or contradicts itself.
    Machine,
}
