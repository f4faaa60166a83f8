//! As an ordinary user: it works, or it says what is missing and how to grant it; nothing
//! half-works.

use std::time::Duration;

use memtide_e2e::{
    Finished, Pool, PoolSpec, Running, machine,
    machine::needs_root,
    needs,
    nobody::{as_nobody, readable_copies},
};

const LIMIT: Duration = Duration::from_secs(60);

/// Either the program ran well, or memtide refused before it began, naming what is missing.
fn works_or_says_what_is_missing(finished: &Finished) -> bool {
    if finished.status.success() {
        finished.assert_pass();
        return true;
    }
    assert!(!finished.stdout.contains("READY"), "began, then failed: {finished:?}");
    let said = finished.stderr.to_lowercase();
    assert!(said.contains("userfaultfd"), "does not say what is missing: {finished:?}");
    assert!(
        said.contains("sysctl")
            || said.contains("chmod")
            || said.contains("setfacl")
            || said.contains("doctor"),
        "does not say how to grant it: {finished:?}"
    );
    false
}

#[test]
fn an_ordinary_user_alone() {
    if !needs_root() || !needs(&[("setpriv", "util-linux")]) {
        return;
    }
    let machine = machine();
    let (command, checksum) = readable_copies(&machine, "checksum");
    let mut run = as_nobody(&machine, &command);
    run.args(["run", "--near", "128M", "--far", "128M", "--"]).arg(&checksum);
    run.args(["--mib", "32", "--seconds", "1"]);
    let worked = works_or_says_what_is_missing(&Running::start(&mut run).finish(LIMIT));

    let mut doctor = as_nobody(&machine, &command);
    let told = Running::start(doctor.arg("doctor")).finish(LIMIT);
    let text = format!("{}{}", told.stdout, told.stderr);
    assert!(text.contains("userfaultfd"), "{told:?}");
    assert!(worked || !told.status.success(), "doctor finds nothing, but it did not work");
}

#[test]
fn an_ordinary_user_joins_the_pool_of_a_root_daemon() {
    if !needs_root() || !needs(&[("setpriv", "util-linux")]) {
        return;
    }
    let machine = machine();
    let (command, checksum) = readable_copies(&machine, "checksum");
    let pool = Pool::start(&machine, &PoolSpec::new(256, 256));
    let mut run = as_nobody(&machine, &command);
    run.args(["run", "--socket"]).arg(pool.socket()).arg("--").arg(&checksum);
    run.args(["--mib", "64", "--seconds", "4"]);
    let mut running = Running::start(&mut run);
    std::thread::sleep(Duration::from_millis(1500));
    if running.is_running() {
        let pid = pool.pid_of("checksum");
        let report = pool.move_memory(pid, "far", None);
        assert_eq!(report.remaining, 0, "{report:?}");
    }
    works_or_says_what_is_missing(&running.finish(LIMIT));

    // Whoever may connect may look; only root and the daemon's own user may change anything.
    let mut look = as_nobody(&machine, &command);
    Running::start(look.args(["status", "--socket"]).arg(pool.socket()))
        .finish(LIMIT)
        .assert_success();
    let mut take = as_nobody(&machine, &command);
    take.args(["give-back", "--socket"]).arg(pool.socket()).arg("64M");
    let finished = Running::start(&mut take).finish(LIMIT);
    assert_eq!(finished.status.code(), Some(2), "nobody took root's capacity: {finished:?}");
    assert!(finished.stderr.contains("65534"), "does not say who may not: {finished:?}");
    assert_eq!(pool.status().offline(), 0, "a refused request changed something");
    pool.assert_all_free();
}
