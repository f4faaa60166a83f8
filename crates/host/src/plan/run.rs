//! Carrying a plan out.

use std::{io, time::Duration};

use rustix::io::Errno;

use super::{Action, Kernel, Plan, Step, Undone, WhenGone, undo};

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

/// Carries a plan out, all of it or nothing; nothing, too, when it is stopped on the way. Returns
/// the steps that were passed over, as their devices were gone.
///
/// # Errors
/// [`StepError`] when a step fails; those before it have been taken back, as it says.
pub fn run(
    kernel: &mut impl Kernel,
    plan: &Plan,
    progress: Progress<'_>,
) -> Result<Vec<Action>, Box<StepError>> {
    let of = plan.steps.len();
    let mut passed = Vec::new();
    let mut done: Vec<&Step> = Vec::new();
    for (number, step) in (1..).zip(&plan.steps) {
        let stopped = || Err(io::ErrorKind::Interrupted.into());
        let carried = if kernel.is_stopped() { stopped() } else { carry_out(kernel, &step.action) };
        match carried {
            Ok(()) => done.push(step),
            Err(error) if step.when_gone == WhenGone::Pass && is_gone(&error) => {
                passed.push(step.action.clone());
            }
            Err(source) => {
                let undone = undo::undo(kernel, &done);
                let action = step.action.clone();
                return Err(Box::new(StepError { number, of, action, undone, source }));
            }
        }
        progress(number, of);
    }
    Ok(passed)
}

/// Whether an attribute, or what is behind it, is there no more.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || Errno::from_io_error(error) == Some(Errno::NODEV)
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
