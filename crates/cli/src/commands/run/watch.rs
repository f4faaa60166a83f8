//! What a program and its children have on which node while they run, for `--report`.
//!
//! The kernel keeps no such record, and tells nothing of those that have ended. So one looks again
//! and again, but for no more than a fifth of the time (each look walks the page tables of all of
//! them); what came and went between two looks was not seen, and the report says so.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::mpsc::{self, RecvTimeoutError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use memtide_host::{
    Root,
    processes::{Holder, Program, Reason, family, on_nodes},
};
use memtide_sys::numa::NodeSet;
use memtide_units::{ByteSize, NodeId};

/// Time between two looks, at least.
const PAUSE: Duration = Duration::from_millis(100);
/// How much longer the pause is than the look.
const PAUSE_TO_LOOK: u32 = 4;

/// What was seen.
#[derive(Debug, Default)]
pub struct Seen {
    looks: u64,
    processes: BTreeSet<u32>,
    /// The most of all of them together, on each node.
    most: BTreeMap<NodeId, ByteSize>,
    /// The most that each had pinned, its name, and by what.
    pinned: BTreeMap<u32, (String, ByteSize, Holder)>,
}

/// A watch that has not begun.
pub struct Watch(Root);

/// A watch under way.
pub struct Watching {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<Seen>,
}

impl Watch {
    /// On the processes of this machine.
    pub fn prepare(root: Root) -> Self {
        Self(root)
    }

    /// Looks at this process and its family from now on.
    pub fn begin(self, pid: u32) -> io::Result<Watching> {
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::Builder::new().name("watch".to_owned()).spawn(move || {
            let mut seen = Seen::default();
            let mut known = BTreeSet::from([pid]);
            loop {
                let start = Instant::now();
                known = family(&self.0, &known);
                known.insert(pid);
                seen.look(&self.0, &known);
                let pause = PAUSE.max(start.elapsed() * PAUSE_TO_LOOK);
                if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                    return seen;
                }
            }
        })?;
        Ok(Watching { stop, thread })
    }
}

impl Watching {
    /// Ends it.
    pub fn end(self) -> Seen {
        drop(self.stop);
        match self.thread.join() {
            Ok(seen) => seen,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl Seen {
    fn look(&mut self, root: &Root, pids: &BTreeSet<u32>) {
        let mut now: BTreeMap<NodeId, u64> = BTreeMap::new();
        for &pid in pids {
            // Who has ended, or may not be looked at, is not seen.
            let Ok(program) = Program::find(root, pid) else { continue };
            let Ok(maps) = program.numa_maps() else { continue };
            for (node, bytes) in on_nodes(&maps) {
                let sum = now.entry(node).or_default();
                *sum = sum.saturating_add(bytes.0);
            }
            self.processes.insert(pid);
            let pinned = program.pinned().unwrap_or_default();
            if pinned > self.pinned.get(&pid).map_or(ByteSize(0), |(_, bytes, _)| *bytes) {
                let by = program.holders().likely();
                self.pinned.insert(pid, (program.name().to_owned(), pinned, by));
            }
        }
        for (node, bytes) in now {
            let most = self.most.entry(node).or_default();
            *most = ByteSize(most.0.max(bytes));
        }
        self.looks += 1;
    }

    /// Says on standard error what was seen.
    pub fn tell(&self, near: &NodeSet, far: &NodeSet) {
        for line in self.lines(near, far) {
            eprintln!("memtide: {line}");
        }
    }

    fn lines(&self, near: &NodeSet, far: &NodeSet) -> Vec<String> {
        let which = |node| match node {
            _ if near.contains(node) => "near",
            _ if far.contains(node) => "far",
            _ => "neither near nor far: shared files and libraries, mostly",
        };
        let mut lines: Vec<String> = self
            .most
            .iter()
            .map(|(&node, bytes)| format!("{node} ({}): {bytes} used at most", which(node)))
            .collect();
        for (pid, (name, bytes, by)) in &self.pinned {
            let reason = Reason::Held(*by);
            lines.push(format!("{name} (pid {pid}) has {bytes} that cannot be moved: {reason}"));
        }
        let count = self.processes.len();
        lines.push(format!("{count} processes seen, in {} looks", self.looks));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_seen_with_its_memory() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let watching = Watch::prepare(Root::live()).begin(child.id()).unwrap();
        std::thread::sleep(3 * PAUSE);
        let seen = watching.end();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(seen.looks >= 2 && seen.processes.contains(&child.id()), "{seen:?}");
        let node = *seen.most.keys().next().expect("it has memory");
        let near = NodeSet::only(node).unwrap();
        let lines = seen.lines(&near, &NodeSet::EMPTY);
        assert!(lines[0].starts_with(&format!("{node} (near): ")), "{lines:?}");
        let lines = seen.lines(&NodeSet::EMPTY, &near);
        assert!(lines[0].starts_with(&format!("{node} (far): ")), "{lines:?}");
    }

    #[test]
    fn who_pinned_memory_is_named() {
        let pinned = BTreeMap::from([(7, ("db".to_owned(), ByteSize(1 << 20), Holder::IoUring))]);
        let seen = Seen { pinned, ..Seen::default() };
        let lines = seen.lines(&NodeSet::EMPTY, &NodeSet::EMPTY);
        assert_eq!(
            lines[0],
            "db (pid 7) has 1MiB that cannot be moved: registered with an io_uring, which holds it"
        );
    }
}
