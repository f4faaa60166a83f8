//! Taking back what was done.

use std::{fmt, io};

use super::{Action, Kernel, Step, run};

/// What has become of the steps before the one that failed.
#[derive(Debug, Default)]
pub struct Undone {
    /// What could not be done to take something back, and why not. Empty if the machine is as it
    /// was.
    pub failed: Vec<(Action, io::Error)>,
}

impl fmt::Display for Undone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.failed.is_empty() {
            return f.write_str("what was done before it has been taken back");
        }
        f.write_str("what was done before it could not all be taken back:")?;
        for (action, error) in &self.failed {
            write!(f, "\n  {action}: {error}")?;
        }
        Ok(())
    }
}

/// Takes steps back, the last one first. Goes on when one cannot be: the more is as it was, the
/// better.
pub(super) fn undo(kernel: &mut impl Kernel, done: &[&Step]) -> Undone {
    let mut undone = Undone::default();
    for action in done.iter().rev().filter_map(|step| step.undo.as_ref()) {
        if let Err(error) = run::carry_out(kernel, action) {
            undone.failed.push((action.clone(), error));
        }
    }
    undone
}
