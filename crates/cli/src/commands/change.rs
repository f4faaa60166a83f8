//! What all commands do that change this machine: show their plan, or carry it out.

use std::{
    fmt::Display,
    io,
    sync::{Arc, atomic::AtomicBool},
};

use memtide_host::{
    Root,
    capture::Opened,
    plan::{self, Action, Fault, Live, Plan, Refusal, StepError},
};
use serde::Serialize;
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};

use crate::{
    arguments::Change,
    failure::{self, Failure},
    machine, output,
    progress::Progress,
};

/// The exit code of a process that was told twice to end.
const STOPPED: i32 = 1;

/// What came of it, in JSON: what the command says of it, and the writes.
#[derive(Serialize)]
struct Answer<'a, T: Serialize> {
    dry_run: bool,
    #[serde(flatten)]
    told: &'a T,
    steps: Vec<String>,
    /// Steps that were passed over, as their devices were gone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    passed: Vec<String>,
}

/// The machine that is to be changed, or planned for.
pub fn machine(change: &Change) -> Result<Opened, Failure> {
    let machine = machine::at(&change.root)?;
    if !machine.root().is_live() && !change.dry_run {
        return Err(Failure::Usage(format!(
            "--root {}: expected --dry-run with it, for only this machine can be changed",
            change.root.display()
        )));
    }
    Ok(machine)
}

/// Carries the plan out, unless it is only to be shown; then tells what was done.
///
/// `why` says what the kernel's answer to a step means.
pub fn carry_out<T: Serialize, W: Display>(
    root: &Root,
    change: &Change,
    plan: &Plan,
    (told, text): (&T, &str),
    why: impl Fn(&StepError) -> W,
) -> Result<(), Failure> {
    let mut passed = Vec::new();
    if !change.dry_run && !plan.is_empty() {
        let mut kernel = Live::new(root).map_err(Failure::failed)?.stopped_by(on_signals()?);
        let mut progress = Progress::of_steps("writing");
        let done = plan::run(&mut kernel, plan, &mut |done, of| {
            progress.show(done as u64, of as u64);
        });
        progress.end();
        let actions = done.map_err(|error| refused(&error, &why(&error)))?;
        passed.extend(actions.iter().map(ToString::to_string));
    }
    let steps = || plan.steps.iter().map(|step| step.action.to_string());
    if change.json {
        let (dry_run, steps) = (change.dry_run, steps().collect());
        return output::json(&Answer { dry_run, told, steps, passed });
    }
    if change.dry_run {
        let lines: String = steps().map(|line| line + "\n").collect();
        return output::text(&format!(
            "{lines}# {}",
            text.replace('\n', "\n# ").trim_end_matches("# ")
        ));
    }
    let passed = passed
        .iter()
        .map(|step| format!("passed over, for its device is gone meanwhile: {step}\n"));
    output::text(&passed.chain([text.to_owned()]).collect::<String>())
}

/// Is set when this process is asked to end. The second time it ends at once.
fn on_signals() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, STOPPED, Arc::clone(&stop))?;
        flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

/// Which step, what the kernel answered, what that means, and what became of the rest.
fn refused(error: &StepError, why: &impl Display) -> Failure {
    if error.source.kind() == io::ErrorKind::Interrupted {
        return Failure::failed(format_args!(
            "stopped before step {} of {}, {}; {}",
            error.number, error.of, error.action, error.undone
        ));
    }
    let what = match &error.action {
        action @ Action::WaitFor { .. } => format!("{action}: it did not happen in time"),
        action => format!("{action}: {}", error.source),
    };
    Failure::failed(format_args!(
        "step {} of {} failed: {what}\n  {why}\n  {}",
        error.number, error.of, error.undone
    ))
}

/// Why there is no plan: the request makes no sense, or the machine could not be read.
pub fn no_plan(error: &impl Refusal) -> Failure {
    let message = failure::chain(error);
    match error.fault() {
        Fault::Request => Failure::Usage(message),
        Fault::Machine => Failure::Failed(message),
    }
}
