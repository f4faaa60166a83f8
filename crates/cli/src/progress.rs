//! How far something is that takes longer than a moment.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What takes longer shows its progress.
const MOMENT: Duration = Duration::from_secs(1);

/// A bar on a terminal; nothing elsewhere.
pub struct Progress {
    verb: &'static str,
    template: &'static str,
    start: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Of something that counts bytes.
    pub fn of_bytes(verb: &'static str) -> Self {
        Self::new(verb, "{msg} [{bar:40}] {bytes} of {total_bytes}, {elapsed}")
    }

    /// Of something that counts steps.
    pub fn of_steps(verb: &'static str) -> Self {
        Self::new(verb, "{msg} [{bar:40}] {pos} of {len}, {elapsed}")
    }

    fn new(verb: &'static str, template: &'static str) -> Self {
        Self { verb, template, start: Instant::now(), bar: None }
    }

    /// So much is done.
    pub fn show(&mut self, done: u64, of: u64) {
        if self.bar.is_none() {
            if self.start.elapsed() < MOMENT || !std::io::stderr().is_terminal() {
                return;
            }
            let bar = ProgressBar::with_draw_target(Some(of), ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template(self.template) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_message(self.verb);
            self.bar = Some(bar);
        }
        if let Some(bar) = &self.bar {
            bar.set_length(of);
            bar.set_position(done);
        }
    }

    /// It is over.
    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
