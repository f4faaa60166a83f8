//! Capacity that comes and goes without a pause, and a check of every answer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{MIB, Pool, Random};

/// What the tides did.
#[derive(Clone, Copy, Default, Debug)]
pub struct Tally {
    /// Give-backs asked for.
    pub give_backs: u64,
    /// MiB that came back.
    pub returned_mib: u64,
    /// MiB put back.
    pub added_mib: u64,
    /// Moves asked for.
    pub moves: u64,
    /// MiB that the daemon says were moved, all in all.
    pub moved_mib: u64,
}

/// Gives back, adds and moves in the background until [`Tides::stop`].
pub struct Tides {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Tally>>,
}

impl Tides {
    /// Begins. At no time more than `out_mib_max` MiB are out of the pool, so that what the
    /// programs need always has room.
    ///
    /// # Panics
    /// The background thread, if an answer is not consistent; [`Tides::stop`] passes that on.
    #[must_use]
    pub fn begin(pool: &Arc<Pool>, seed: u64, out_mib_max: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (pool, asked) = (Arc::clone(pool), Arc::clone(&stop));
        let thread = thread::Builder::new()
            .name(format!("tides seed {seed}"))
            .spawn(move || {
                let mut ebb =
                    Ebb { pool: &pool, random: Random::new(seed), tally: Tally::default() };
                while !asked.load(Ordering::Relaxed) {
                    ebb.step(out_mib_max);
                }
                ebb.settle()
            })
            .expect("starting a thread");
        Self { stop, thread: Some(thread) }
    }

    /// Ends: everything is put back.
    ///
    /// # Panics
    /// If any answer was wrong, or nothing was moved at all.
    #[must_use]
    pub fn stop(mut self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let tally = match self.thread.take().expect("stopped once").join() {
            Ok(tally) => tally,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        crate::machine::loud(&format!("{tally:?}"));
        assert!(tally.moved_mib > 0, "nothing was moved: the test proved nothing");
        tally
    }
}

impl Drop for Tides {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Ebb<'a> {
    pool: &'a Pool,
    random: Random,
    tally: Tally,
}

impl Ebb<'_> {
    fn step(&mut self, out_mib_max: u64) {
        let status = self.pool.status();
        let node = &status.nodes[self.random.below(status.nodes.len() as u64) as usize];
        let name = node.name.clone();
        let mib = 2 + self.random.below((node.size / MIB / 3).max(1));
        match self.random.below(4) {
            0 if status.offline() / MIB + mib <= out_mib_max => {
                let report = self.pool.give_back(mib, &name, "5s");
                self.tally.give_backs += 1;
                self.tally.returned_mib += report.returned / MIB;
            }
            0 | 1 if node.offline > 0 => {
                let mib = mib.min(node.offline / MIB);
                self.pool.add(mib, &name);
                self.tally.added_mib += mib;
            }
            _ => self.move_somebody(&status, &name, mib),
        }
        thread::sleep(Duration::from_millis(self.random.below(20)));
    }

    fn move_somebody(&mut self, status: &crate::report::Status, to: &str, mib: u64) {
        if status.programs.is_empty() {
            return;
        }
        let who = &status.programs[self.random.below(status.programs.len() as u64) as usize];
        let (pid, size) = (who.pid.to_string(), format!("{mib}M"));
        let mut arguments = vec!["move", "--pid", &pid, "--to", to, "--json"];
        if self.random.below(3) > 0 {
            arguments.push(&size);
        }
        let finished = self.pool.command(&arguments).finish(Duration::from_secs(90));
        self.tally.moves += 1;
        match finished.status.code() {
            Some(0 | 3) => {
                let report: crate::report::Report = serde_json::from_str(&finished.stdout)
                    .unwrap_or_else(|e| panic!("{e}: {finished:?}"));
                report.consistent(finished.status.code()).unwrap_or_else(|e| panic!("{e}"));
            }
            // The program may have ended since the status was taken, or be executing another, which
            // joins under the same process number a moment later.
            code => assert!(
                code == Some(2) && finished.stderr.contains("expected a program of this pool"),
                "{finished:?}"
            ),
        }
    }

    fn settle(mut self) -> Tally {
        let status = self.pool.status();
        self.tally.moved_mib = status.moved_bytes / MIB;
        for node in status.nodes.iter().filter(|n| n.offline > 0) {
            self.pool.add(node.offline / MIB, &node.name);
        }
        self.tally
    }
}
