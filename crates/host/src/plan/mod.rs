//! Changing a machine: planned first, then carried out step by step, taken back when a step fails.
//!
//! The kernel's attributes take one value at a time, in an order that no error explains, and a
//! change that stops half-way leaves decoders, regions or blocks in states that the next attempt
//! stumbles over. So nothing is written before everything is known: whoever wants a change reads
//! the machine, checks what can be checked, and makes a [`Plan`], a list of typed [`Step`]s.
//! It can be shown (`--dry-run` prints each write as a shell would make it), and carried out.
//!
//! * Each step knows how it is taken back. When one fails, those before it are taken back in
//!   reverse order ([`undo`]), and the error says which step it was, what the kernel answered, and
//!   whether the machine is as it was. So it is when somebody stops it on the way (Ctrl-C).
//! * A plan is made from the machine as it is: what is so already is not in it, and the plan of
//!   what is done is empty. Repeating a request changes nothing.
//! * Unmaking goes forward where a device vanishes in between: what it was to take away from the
//!   device is gone with it, and cannot be put back. Such steps are passed over ([`WhenGone`]).
//! * What the kernel does by itself in between (a driver that binds to a device that appeared) is
//!   no error: binding what is bound is nothing to do.
//!
//! [`Kernel`] is what steps are carried out on: this machine ([`Live`]), or a model in a test
//! that refuses the N-th write.

mod kernel;
mod refusal;
mod run;
mod step;
mod undo;

pub use self::{
    kernel::{Kernel, Live, LiveError},
    refusal::{Fault, Refusal},
    run::{Progress, StepError, run},
    step::{Action, Condition, Step, WhenGone},
    undo::Undone,
};

/// What is to be done, in this order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
}

impl Plan {
    /// Nothing to do.
    #[must_use]
    pub const fn new() -> Self {
        Self { steps: Vec::new() }
    }

    /// Whether there is nothing to do: all is so already.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// One more step at the end.
    pub fn push(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// All steps of another plan at the end.
    pub fn append(&mut self, other: Self) {
        self.steps.extend(other.steps);
    }
}
