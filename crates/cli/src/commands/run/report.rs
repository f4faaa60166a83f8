//! `memtide run --report`: what happened, on standard error.

use memtide_daemon::Summary;
use memtide_proto::control::Status;

/// After a program in a pool of its own.
pub fn own(summary: &Summary) {
    for node in &summary.nodes {
        eprintln!(
            "memtide: node {}: {} of {} used at most",
            node.name, node.leased_peak, node.size
        );
    }
    eprintln!(
        "memtide: {} processes, {} moved, {} given back",
        summary.joined, summary.moved, summary.returned
    );
    if summary.overflow_peak.0 > 0 {
        eprintln!("memtide: {} of ordinary memory, for want of room", summary.overflow_peak);
    }
}

/// After a program in a pool that it joined.
pub fn joined(before: &Status, after: Option<&Status>) {
    let Some(after) = after else {
        eprintln!("memtide: the pool's daemon has ended");
        return;
    };
    let moved = after.moved_bytes.0.saturating_sub(before.moved_bytes.0);
    eprintln!(
        "memtide: {} moved in the pool of pid {} meanwhile",
        memtide_units::ByteSize(moved),
        after.pid
    );
}
