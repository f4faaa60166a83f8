//! Carrying a plan out.

use std::{io, time::Duration};

use super::{Action, Kernel, Plan, Undone, undo};

/// How often a condition is looked at that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A step that failed.
#[derive(Debug, thiserror::Error)]
#[error("step {number} of {of}, {action}, failed; {undone}")]
pub struct StepError {
    /// Which step, from 1.
    pub number: usize,
    /// Of so many.
    pub of: usize,
    /// What was to be done.
    pub action: Action,
    /// What has become of the steps before.
    pub undone: Undone,
    /// What the kernel answered; [`io::ErrorKind::Interrupted`] where it was not asked, for the
    /// change was wanted no more.
    pub source: io::Error,
}

/// Is told of each step that is done: which, from 1, and of how many.
pub type Progress<'a> = &'a mut dyn FnMut(usize, usize);

/// Carries a plan out, all of it or nothing; nothing, too, when it is stopped on the way.
///
/// # Errors
/// [`StepError`] when a step fails; those before it have been taken back, as it says.
pub fn run(
    kernel: &mut impl Kernel,
    plan: &Plan,
    progress: Progress<'_>,
) -> Result<(), Box<StepError>> {
    let of = plan.steps.len();
    for (done, step) in plan.steps.iter().enumerate() {
        let stopped = || Err(io::ErrorKind::Interrupted.into());
        let carried = if kernel.is_stopped() { stopped() } else { carry_out(kernel, &step.action) };
        if let Err(source) = carried {
            let undone = undo::undo(kernel, &plan.steps[..done]);
            let action = step.action.clone();
            return Err(Box::new(StepError { number: done + 1, of, action, undone, source }));
        }
        progress(done + 1, of);
    }
    Ok(())
}

/// Does one thing, unless the kernel has done it by itself.
pub(super) fn carry_out(kernel: &mut impl Kernel, action: &Action) -> io::Result<()> {
    if action.is_so(kernel.root()) {
        return Ok(());
    }
    match action {
        Action::WaitFor { file, condition, limit } => {
            let mut waited = Duration::ZERO;
            while !condition.holds(kernel.root(), file) {
                if waited >= *limit {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                kernel.pause(LOOK_EVERY);
                waited += LOOK_EVERY;
            }
            Ok(())
        }
        action => {
            let (file, value, limit) = action.as_write().expect("all others are writes");
            match kernel.write(&file, value, limit) {
                // The kernel was faster, between the look and the write.
                Err(_) if action.is_so(kernel.root()) => Ok(()),
                answer => answer,
            }
        }
    }
}
