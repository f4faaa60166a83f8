//! Programs that know nothing of tenants, under quotas: one waits, one falls back, one is refused.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use memtide_e2e::{
    MIB, Pool, PoolSpec, Running, machine,
    machine::needs_root,
    needs,
    nobody::{as_nobody, readable_copies},
    report::Reason,
};
use rustix::process::Signal;

const LIMIT: Duration = Duration::from_secs(60);

/// Takes so many MiB, says so, and keeps them until its standard input ends.
const HOLD: &str = "
import sys
held = bytearray(int(sys.argv[1]) << 20)
print('HELD', flush=True)
sys.stdin.read()
";

/// Debian's, which every user can read, where there is one.
fn python() -> &'static str {
    let debians = "/usr/bin/python3";
    if Path::new(debians).is_file() { debians } else { "python3" }
}

fn needs_python() -> bool {
    needs(&[("python3", "python3")])
}

fn hold(pool: &Pool, label: &str, mib: u64) -> Running {
    pool.run_as(label, python(), &["-c", HOLD, &mib.to_string()])
}

fn end(mut program: Running) {
    program.close_stdin();
    program.finish(LIMIT).assert_success();
}

/// 160 MiB near and nothing else, for which programs wait.
const WAITS: &str = r#"
[[tenant]]
name = "waits"
label = "waits"
near = { max = "160M" }
far = { access = "denied" }
on_depletion = "wait"
wait = "10m"

[[tenant]]
name = "rest"
"#;

#[test]
fn a_program_waits_until_another_of_its_tenant_has_ended() {
    if !needs_python() {
        return;
    }
    let machine = machine();
    let spec = PoolSpec { tenants: WAITS, ..PoolSpec::new(512, 128) };
    let pool = Pool::start(&machine, &spec);
    let mut first = hold(&pool, "waits", 96);
    first.expect_line("HELD", LIMIT);
    let mut second = hold(&pool, "waits", 96);
    let waiting = pool
        .wait_for_tenant("waits", "a request that waits", LIMIT, |t| t.waiting.requests > 0)
        .waiting;
    assert!(waiting.bytes >= 94 * MIB, "{waiting:?}");
    // Another tenant does not wait for it.
    let mut other = hold(&pool, "other", 96);
    other.expect_line("HELD", LIMIT);
    end(other);
    // Longer than pagers wait for a daemon that has died.
    std::thread::sleep(Duration::from_secs(6));
    let tenant = pool.tenant("waits");
    assert_eq!(tenant.waiting.requests, 1, "{tenant:?}");
    assert!(tenant.used("near") <= 160 * MIB, "{tenant:?}");
    assert!(second.is_running());

    end(first);
    second.expect_line("HELD", LIMIT);
    let told = pool.explain("waits");
    let waited = told.iter().position(|d| d.outcome == "waits").expect("a decision to wait");
    let promised = |d: &&memtide_e2e::report::Decision| {
        d.outcome == "promised" && (d.pid, d.bytes) == (told[waited].pid, told[waited].bytes)
    };
    assert!(told[waited..].iter().any(|d| promised(&d)), "{told:#?}");
    assert!(!told[waited].because.is_empty(), "{told:#?}");
    end(second);
    pool.assert_all_free();
}

#[test]
fn a_program_that_waits_can_be_interrupted_and_killed() {
    if !needs_python() || !needs(&[("sort", "coreutils")]) {
        return;
    }
    let machine = machine();
    let spec = PoolSpec { tenants: WAITS, ..PoolSpec::new(512, 128) };
    let pool = Pool::start(&machine, &spec);
    let mut first = hold(&pool, "waits", 96);
    first.expect_line("HELD", LIMIT);
    // Not SIGINT: shells start what runs in the background with it ignored, and so it stays.
    for (signal, code) in [(Signal::USR1, 138), (Signal::TERM, 143)] {
        // It takes all of its buffer before it reads anything.
        let mut sort = pool.run_as("waits", "sort", &["-S", "96M"]);
        pool.wait_for_tenant("waits", "sort to wait", LIMIT, |t| t.waiting.requests > 0);
        assert!(sort.is_running());
        sort.signal(signal);
        assert_eq!(sort.finish(LIMIT).status.code(), Some(code));
        pool.wait_for_tenant("waits", "nobody to wait", LIMIT, |t| t.waiting.requests == 0);
    }
    // One that is killed outright leaves no request either, and the next in line is served.
    let doomed = pool.run_as("waits", "sort", &["-S", "96M"]);
    pool.wait_for_tenant("waits", "sort to wait", LIMIT, |t| t.waiting.requests > 0);
    let pid = pool.pid_of("sort");
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid.cast_signed()).expect("a process"),
        Signal::KILL,
    )
    .expect("it is there");
    assert!(!doomed.finish(LIMIT).status.success());
    let mut sort = pool.run_as("waits", "sort", &["-S", "96M"]);
    pool.wait_for_tenant("waits", "sort to wait", LIMIT, |t| t.waiting.requests > 0);
    end(first);
    sort.send("b\na");
    sort.close_stdin();
    let finished = sort.finish(LIMIT);
    finished.assert_success();
    assert_eq!(finished.stdout, "a\nb");
    pool.assert_all_free();
}

#[test]
fn a_program_falls_back_to_other_nodes_and_then_to_ordinary_memory() {
    if !needs_python() {
        return;
    }
    let machine = machine();
    let tenants = r#"
[[tenant]]
name = "falls"
label = "falls"
near = { max = "64M" }
far = { max = "96M" }
on_depletion = "fall-back"
"#;
    let pool = Pool::start(&machine, &PoolSpec { tenants, ..PoolSpec::new(256, 256) });
    let mut program = hold(&pool, "falls", 256);
    program.expect_line("HELD", LIMIT);
    let tenant = pool.tenant("falls");
    assert_eq!((tenant.used("near"), tenant.used("far")), (64 * MIB, 96 * MIB), "{tenant:?}");
    assert!(tenant.fell_back >= 90 * MIB, "{tenant:?}");
    let status = pool.wait_for("ordinary memory to be counted", LIMIT, |status| {
        status.programs.iter().any(|p| p.counters.overflow_bytes >= 90 * MIB)
    });
    assert!(status.programs.iter().all(|p| p.tenant == "falls"), "{status:?}");

    let told = pool.explain("falls");
    let reasons: Vec<&Reason> = told.iter().flat_map(|d| &d.because).collect();
    for (node, max) in [("near", 64), ("far", 96)] {
        let full = reasons.iter().find(|reason| {
            reason.rule == "maximum"
                && reason.node.as_deref() == Some(node)
                && (reason.amounts["used"], reason.amounts["max"]) == (max * MIB, max * MIB)
        });
        let full = full.unwrap_or_else(|| panic!("{node}: {told:#?}"));
        assert!(full.text.contains(&format!("{max}MiB")), "{full:?}");
    }
    assert!(told.iter().any(|d| d.outcome == "refused" && d.asked == "lease"), "{told:#?}");
    let text = pool.command(&["explain", &status.programs[0].pid.to_string()]).finish(LIMIT);
    assert!(text.stdout.contains("ordinary memory instead"), "{text:?}");
    end(program);
    pool.assert_all_free();
}

const FAILS: &str = r#"
[[tenant]]
name = "nobody"
uid = 65534
near = { max = "64M" }
far = { max = "32M" }
on_depletion = "fail"

[[tenant]]
name = "fails"
label = "fails"
near = { max = "64M" }
far = { max = "32M" }

[[tenant]]
name = "root"
uid = "root"
"#;

#[test]
fn a_program_is_refused_what_is_beyond_its_quota() {
    if !needs_python() {
        return;
    }
    let machine = machine();
    let pool = Pool::start(&machine, &PoolSpec { tenants: FAILS, ..PoolSpec::new(256, 256) });
    let finished = hold(&pool, "fails", 200).finish(LIMIT);
    assert_eq!(finished.status.code(), Some(1), "{finished:?}");
    assert!(finished.stderr.contains("MemoryError"), "{finished:?}");
    // The same under no quota, and less of it.
    for (label, mib) in [("none", 200), ("fails", 48)] {
        let mut program = hold(&pool, label, mib);
        program.expect_line("HELD", LIMIT);
        end(program);
    }
    // It is explained although the program has ended long ago.
    let told = pool.explain("fails");
    let refused = told.iter().find(|d| d.outcome == "refused" && d.bytes >= 200 * MIB);
    let refused = refused.unwrap_or_else(|| panic!("{told:#?}"));
    assert_eq!((refused.asked.as_str(), refused.program.as_str()), ("promise", "python3"));
    let most = refused.because.iter().find_map(|reason| reason.amounts.get("most"));
    assert_eq!(most, Some(&(96 * MIB)), "{refused:?}");
    let text = pool.command(&["explain", "--tenant", "fails"]).finish(LIMIT);
    assert!(text.stdout.contains("refused: ENOMEM"), "{text:?}");
    pool.assert_all_free();
}

#[test]
fn a_user_is_held_to_its_quota_whatever_it_calls_itself() {
    if !needs_root() || !needs(&[("setpriv", "util-linux")]) {
        return;
    }
    let machine = machine();
    let (memtide, filler) = readable_copies(&machine, "filler");
    let pool = Pool::start(&machine, &PoolSpec { tenants: FAILS, ..PoolSpec::new(256, 256) });
    let mut run = as_nobody(&machine, &memtide);
    run.args(["run", "--socket"]).arg(pool.socket()).args(["--label", "root", "--"]).arg(&filler);
    let mut filler = Running::start(&mut run);
    filler.expect_line("READY", LIMIT);
    let held = filler.ask("exhaust 256", LIMIT);
    let held: u64 = held.rsplit('=').next().and_then(|n| n.parse().ok()).expect("… now=N");
    assert!((32..=96).contains(&held), "{held} MiB of 96");
    let tenant = pool.tenant("nobody");
    assert!(tenant.used("near") <= 64 * MIB && tenant.used("far") <= 32 * MIB, "{tenant:?}");
    let told = pool.explain("nobody");
    assert!(told.iter().any(|d| d.outcome == "refused" && d.asked == "promise"), "{told:#?}");
    filler.send("quit");
    filler.finish(LIMIT).assert_pass();
    pool.assert_all_free();
}

#[test]
fn a_program_that_no_tenant_is_for_runs_on_ordinary_memory_and_says_so() {
    let machine = machine();
    let tenants = "\n[[tenant]]\nname = \"web\"\nlabel = \"web\"\n";
    let pool = Pool::start(&machine, &PoolSpec { tenants, ..PoolSpec::new(64, 64) });
    let finished = pool.run_as("batch", "sh", &["-c", "echo ran"]).finish(LIMIT);
    finished.assert_success();
    assert_eq!(finished.stdout, "ran");
    assert!(finished.stderr.contains("label batch"), "{finished:?}");
    assert!(finished.stderr.contains("[[tenant]]"), "{finished:?}");
    let mut required = pool.run_command("sh", &["-c", "echo ran"]);
    let refused = Running::start(required.env("MEMTIDE_REQUIRED", "1")).finish(LIMIT);
    assert!(!refused.status.success() && refused.stdout.is_empty(), "{refused:?}");
    // It is explained, although no tenant is for it.
    let text = pool.command(&["explain"]).finish(LIMIT);
    assert!(text.stdout.contains("(pid ") && text.stdout.contains(", no tenant)"), "{text:?}");
    assert!(text.stdout.contains("asked to be let in"), "{text:?}");
    assert!(text.stdout.contains("label batch"), "{text:?}");
    let served = pool.run_as("web", "sh", &["-c", "echo ran"]).finish(LIMIT);
    assert_eq!((&*served.stdout, &*served.stderr), ("ran", ""));
}

#[test]
fn what_is_guaranteed_is_there_when_others_have_taken_all_else() {
    if !needs_python() {
        return;
    }
    let machine = machine();
    let tenants = r#"
[[tenant]]
name = "sure"
label = "sure"
near = { min = "160M" }
far = { access = "denied" }

[[tenant]]
name = "greedy"
on_depletion = "fall-back"
"#;
    let pool = Pool::start(&machine, &PoolSpec { tenants, ..PoolSpec::new(256, 64) });
    let mut greedy = hold(&pool, "greedy", 512);
    greedy.expect_line("HELD", LIMIT);
    let free = pool.status().node("near").free;
    assert_eq!(free, 160 * MIB, "what is guaranteed is held free, and no more");
    let begun = Instant::now();
    let mut sure = hold(&pool, "sure", 96);
    sure.expect_line("HELD", LIMIT);
    assert!(pool.tenant("sure").used("near") >= 96 * MIB);
    assert!(begun.elapsed() < LIMIT);
    let status = pool.status();
    let sure_program = status.programs.iter().find(|p| p.tenant == "sure").expect("it runs");
    assert_eq!(sure_program.counters.overflow_bytes, 0);
    end(greedy);
    end(sure);
    pool.assert_all_free();
}
