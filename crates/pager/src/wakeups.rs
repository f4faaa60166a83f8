//! Threads that sleep on a futex in memory that was moved.
//!
//! A futex without `FUTEX_PRIVATE_FLAG` in a shared file mapping is named by file and offset. A
//! thread that went to sleep before the move sleeps on the old name; wake-ups after the move use
//! the new one and would miss it. After each batch, and again a few times later (a thread may have
//! been on its way to sleep), the pager looks which threads sleep on an address of a moved block
//! and wakes those words by their old name. Who is woken without need looks at the word again:
//! futex(2) says that this may always happen.

use std::time::{Duration, Instant};

use memtide_sys::{AddrRange, Arena, Doing, HugePages, Populate, Prot, Sharing, Tasks};
use memtide_units::Pageblock;

use crate::{nodes::Nodes, pager::Pager, space::BLOCK};

/// When to look again after a move.
const LOOKS: [Duration; 4] = [
    Duration::from_millis(1),
    Duration::from_millis(10),
    Duration::from_millis(100),
    Duration::from_secs(1),
];

#[derive(Clone, Copy, Debug)]
struct Moved {
    from: Pageblock,
    range: AddrRange,
    at: Instant,
    looks: usize,
}

/// Blocks that were moved a moment ago.
#[derive(Debug, Default)]
pub struct Wakeups(Vec<Moved>);

impl Wakeups {
    /// A block was moved away from `from`.
    pub(crate) fn moved(&mut self, from: Pageblock, range: AddrRange, at: Instant) {
        self.0.push(Moved { from, range, at, looks: 0 });
    }

    /// When to look next.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.iter().map(|moved| moved.at + LOOKS[moved.looks]).min()
    }

    /// Looks once, whatever the time.
    pub(crate) fn scan_now(
        &self,
        tasks: &Tasks,
        nodes: &Nodes,
        alias: &Arena,
        threads: &mut Vec<u32>,
    ) {
        if self.0.is_empty() || tasks.others(threads).is_err() {
            return;
        }
        for &thread in threads.iter() {
            let Ok(doing) = tasks.doing(thread) else { continue };
            let Some(word) = sleeps_on(doing) else { continue };
            for moved in self.0.iter().filter(|moved| moved.range.contains(word)) {
                wake(moved.from, word - moved.range.start, nodes, alias);
            }
        }
    }

    fn counted(&mut self, now: Instant) {
        for moved in &mut self.0 {
            while moved.looks < LOOKS.len() && moved.at + LOOKS[moved.looks] <= now {
                moved.looks += 1;
            }
        }
        self.0.retain(|moved| moved.looks < LOOKS.len());
    }
}

/// The word that a thread sleeps on, if it sleeps in a futex that is not private.
fn sleeps_on(doing: Doing) -> Option<usize> {
    const FUTEX: u64 = libc::SYS_futex as u64;
    match doing {
        Doing::InSyscall { number: FUTEX, args } => {
            let operation = args[1] as i32;
            let command = operation & libc::FUTEX_CMD_MASK;
            let waits = matches!(
                command,
                libc::FUTEX_WAIT | libc::FUTEX_WAIT_BITSET | libc::FUTEX_WAIT_REQUEUE_PI
            );
            (waits && operation & libc::FUTEX_PRIVATE_FLAG == 0).then_some(args[0] as usize)
        }
        _ => None,
    }
}

/// Wakes who sleeps on the word at `offset` of a pageblock, by way of a mapping of it.
fn wake(pageblock: Pageblock, offset: usize, nodes: &Nodes, alias: &Arena) {
    let Some(place) = nodes.place(pageblock) else { return };
    let range = AddrRange::new(alias.range().start, BLOCK);
    let how = (Sharing::Shared, Populate::OnTouch, HugePages::Default);
    let prot = Prot::READ_WRITE;
    if alias.map_file(range, place.file, place.offset, prot, how).is_ok() {
        let _ = alias.wake_shared_futex(range.start + offset);
        let _ = alias.reserve_again(range);
    }
}

impl Pager {
    pub(crate) fn wake_sleepers(&mut self) {
        self.wakeups.scan_now(&self.tasks, &self.nodes, &self.alias, &mut self.scratch.threads);
        self.wakeups.counted(Instant::now());
    }
}
