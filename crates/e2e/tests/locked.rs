//! Locked memory stays where it is, and its holder is named.

use std::time::Duration;

use memtide_e2e::{MIB, Pool, PoolSpec, machine, machine::needs_root};

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn locked_memory_is_a_holder_until_it_is_unlocked() {
    if !needs_root() {
        return; // RLIMIT_MEMLOCK
    }
    let machine = machine();
    let pool = Pool::start(&machine, &PoolSpec::new(256, 512));
    let mut filler = pool.run_proof("filler", &[]);
    filler.ask("fill 32", LIMIT);
    filler.ask("locked 24", LIMIT);
    let pid = pool.pid_of("filler");
    let locked = pool.status().pinned("memory-lock");
    assert!((24 * MIB..=96 * MIB).contains(&locked), "{locked} bytes locked");

    let report = pool.give_back(256, "near", "3s");
    assert!(report.remaining > 0 && report.held("memory-lock") > 0, "{report:?}");
    assert!(report.holders.iter().all(|h| h.pid == pid && h.name == "filler"), "{report:?}");
    assert!(!report.ask_again, "asking again will not unlock it: {report:?}");
    filler.ask("verify", LIMIT);

    filler.ask("unlock", LIMIT);
    let report = pool.give_back(256, "near", "20s");
    assert_eq!(report.held("memory-lock"), 0, "{report:?}");
    let status = pool.wait_for("near to be empty", LIMIT, |s| s.node("near").offline == 256 * MIB);
    assert_eq!(status.node("near").leased, 0);
    filler.ask("verify", LIMIT);
    filler.send("quit");
    filler.finish(LIMIT).assert_pass();
    pool.add(256, "near");
    pool.assert_all_free();
}
