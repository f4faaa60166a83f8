//! Asking the daemon, with a progress bar for what takes longer than a moment.

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use memtide_client::{Answer, paths, request};
use memtide_proto::{
    ControlRequest,
    control::{Report, Status},
};
use memtide_units::ByteSize;

use crate::failure::Failure;

/// What takes longer shows its progress.
const MOMENT: Duration = Duration::from_secs(1);

/// The daemon's socket, as named or found.
pub fn socket(named: Option<PathBuf>) -> Result<PathBuf, Failure> {
    Ok(paths::find_socket(named)?)
}

pub fn status(socket: &Path) -> Result<Status, Failure> {
    match request(socket, ControlRequest::Status, &mut |_, _| ())? {
        Answer::Status(status) => Ok(status),
        other => Err(unexpected(&other)),
    }
}

pub fn add(socket: &Path, bytes: ByteSize, to: String) -> Result<ByteSize, Failure> {
    match request(socket, ControlRequest::Add { bytes, to }, &mut |_, _| ())? {
        Answer::Done(bytes) => Ok(bytes),
        other => Err(unexpected(&other)),
    }
}

/// A give-back or a move.
pub fn report(socket: &Path, wish: ControlRequest, verb: &'static str) -> Result<Report, Failure> {
    let mut progress = Progress::new(verb);
    let answer = request(socket, wish, &mut |done, of| progress.show(done, of));
    progress.end();
    match answer? {
        Answer::Report(report) => Ok(report),
        other => Err(unexpected(&other)),
    }
}

fn unexpected(answer: &Answer) -> Failure {
    Failure::failed(format_args!("the daemon answered something else: {answer:?}"))
}

/// A bar on a terminal; nothing elsewhere.
struct Progress {
    verb: &'static str,
    start: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    fn new(verb: &'static str) -> Self {
        Self { verb, start: Instant::now(), bar: None }
    }

    fn show(&mut self, done: ByteSize, of: ByteSize) {
        if self.bar.is_none() {
            if self.start.elapsed() < MOMENT || !std::io::stderr().is_terminal() {
                return;
            }
            let bar = ProgressBar::with_draw_target(Some(of.0), ProgressDrawTarget::stderr());
            let template = "{msg} [{bar:40}] {bytes} of {total_bytes}, {elapsed}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_message(self.verb);
            self.bar = Some(bar);
        }
        if let Some(bar) = &self.bar {
            bar.set_length(of.0);
            bar.set_position(done.0);
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
