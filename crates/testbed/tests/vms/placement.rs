//! Programs on nodes of a real kernel: started near and far, adopted, moved to and fro while they
//! write, and found intact; what is held is named.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use memtide_testbed::{
    Background, Error, Guest, Initramfs, Machine, NumaNode, gib, machines, mib, needs, places,
    ready,
};
use serde_json::Value;

const LONG: Duration = Duration::from_secs(120);
const MIB: u64 = 1 << 20;

/// Runs a tool of this computer.
fn tool(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {complaint}");
}

/// The program of `programs/holder.c`.
fn holder() -> Result<PathBuf, Error> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/holder.c");
    let program = places::kept()?.join(format!("holder-{}", std::process::id()));
    let flags = ["-O2", "-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-o"];
    let compiler = env::var_os("CC").unwrap_or_else(|| "cc".into());
    tool(Command::new(compiler).args(flags).arg(&program).arg(source));
    Ok(program)
}

/// A guest with `memtide` and `holder`, in which the kernel moves nothing by itself.
fn boot(machine: Machine, others: &[PathBuf]) -> Result<Guest, Error> {
    let holder = holder()?;
    let mut initramfs = Initramfs::new()
        .program(memtide_e2e::memtide(), "/bin/memtide")
        .program(&holder, "/bin/holder");
    for program in others {
        let name = program.file_name().expect("a program").to_string_lossy().into_owned();
        initramfs = initramfs.program(program, &format!("/bin/{name}"));
    }
    let guest = Guest::boot_with(&machine.kernel_argument("numa_balancing=disable"), &initramfs);
    let _ = fs::remove_file(holder);
    guest
}

/// Runs `memtide adopt … --json`, which must end with this code.
fn adopt(guest: &Guest, pid: u32, words: &str, code: i32) -> Result<Value, Error> {
    let output = guest.run_within(LONG, &format!("memtide adopt {pid} {words} --json"))?;
    assert_eq!(output.status, code, "adopt {words}: {}{}", output.stdout, output.stderr);
    Ok(serde_json::from_str(&output.stdout).expect("JSON"))
}

/// Where the memory of a process is now, on node 0 and on node 1.
fn nodes(guest: &Guest, pid: u32) -> Result<[u64; 2], Error> {
    let answer = adopt(guest, pid, "--near node0-1 --dry-run", 0)?;
    Ok(["node0", "node1"].map(|name| {
        let nodes = answer["nodes"].as_array().expect("a list");
        let node = nodes.iter().find(|node| node["node"] == name);
        node.map_or(0, |node| node["before"].as_u64().expect("a number"))
    }))
}

fn number(answer: &Value, key: &str) -> u64 {
    answer[key].as_u64().unwrap_or_else(|| panic!("{key} of {answer}"))
}

/// Starts `holder` under `memtide run` with these words; its own process, and its number.
fn start<'g>(guest: &'g Guest, run: &str, holder: &str) -> Result<(Background<'g>, u32), Error> {
    let script = format!("exec memtide run {run} -- sh -c 'echo pid $$; exec holder {holder}'");
    let program = guest.start(&script)?;
    program.wait_for_output(LONG, "ready")?;
    let said = program.stdout()?;
    let pid = said.lines().find_map(|line| line.strip_prefix("pid ")?.parse().ok());
    Ok((program, pid.unwrap_or_else(|| panic!("no number: {said}"))))
}

/// Ends a holder; what it held must be as it should be. Returns what `memtide run` said.
fn intact(program: &Background) -> Result<String, Error> {
    program.signal("TERM")?;
    let output = program.wait(LONG)?;
    assert_eq!(output.status, 0, "{}{}", output.stdout, output.stderr);
    assert!(output.stdout.contains("intact "), "{}", output.stdout);
    Ok(output.stderr)
}

#[test]
fn a_program_starts_near_is_adopted_to_far_and_back_and_stays_intact() -> Result<(), Error> {
    if !ready() {
        return Ok(());
    }
    let guest = boot(machines::near_far(), &[])?;
    let (program, pid) = start(&guest, "--near node0 --far node1 --report", "plain 64")?;
    let policies = guest.sh(&format!("cut -d ' ' -f 2 /proc/{pid}/numa_maps | sort -u"))?;
    assert_eq!(policies, "bind=static|balancing:0-1", "its policy, and no other");
    let [near, far] = nodes(&guest, pid)?;
    assert!(near > 64 * MIB && far == 0, "near first: {near} and {far}");

    for (to, from, there) in [("node1", 0, 1), ("node0", 1, 0), ("node1", 0, 1)] {
        let before = nodes(&guest, pid)?;
        let answer = adopt(&guest, pid, &format!("--to {to}"), 0)?;
        assert_eq!(number(&answer, "remaining"), 0, "{answer}");
        assert!(number(&answer, "moved") >= 64 * MIB, "{answer}");
        let after = nodes(&guest, pid)?;
        assert!(after[there] > 64 * MIB && after[from] < before[from], "{before:?} {after:?}");
    }
    // There is room near: all of it comes up.
    let answer = adopt(&guest, pid, "--near node0 --far node1", 0)?;
    assert!(number(&answer, "moved") >= 64 * MIB, "{answer}");
    let report = intact(&program)?;
    assert!(report.contains("memtide: node0 (near): 6"), "{report}");
    assert!(report.contains("memtide: node1 (far): 6"), "{report}");

    for (placement, expected) in [("far-first", 0..=4), ("interleave", 45..=55)] {
        let words = format!("--near node0 --far node1 --placement {placement}");
        let (program, pid) = start(&guest, &words, "plain 64")?;
        let [near, far] = nodes(&guest, pid)?;
        let percent = near * 100 / (near + far);
        assert!(expected.contains(&percent), "{placement}: {near} near, {far} far");
        intact(&program)?;
    }
    guest.write("/sys/kernel/mm/mempolicy/weighted_interleave/node0", "3")?;
    guest.write("/sys/kernel/mm/mempolicy/weighted_interleave/node1", "1")?;
    let words = "--near node0 --far node1 --placement weighted --report";
    let (program, pid) = start(&guest, words, "plain 64")?;
    let [near, far] = nodes(&guest, pid)?;
    assert!((70..=80).contains(&(near * 100 / (near + far))), "{near} near, {far} far");
    let report = intact(&program)?;
    assert!(report.contains("memtide: node0 has weight 3"), "{report}");

    // Where the kernel may, it brings near what is used there.
    guest.write("/proc/sys/kernel/numa_balancing", "2")?;
    let (program, pid) = start(&guest, "--near node0 --far node1", "plain 32")?;
    adopt(&guest, pid, "--to node1", 0)?;
    let back = format!("grep -q 'anon=.* N0=[0-9][0-9][0-9][0-9]' /proc/{pid}/numa_maps");
    guest.wait_until(LONG, &back)?;
    intact(&program)?;
    guest.powerdown()
}

#[test]
fn what_is_held_is_named_and_what_a_fork_shares_is_left() -> Result<(), Error> {
    if !ready() {
        return Ok(());
    }
    let guest = boot(machines::near_far(), &[])?;
    let (program, pid) = start(&guest, "--near node0 --far node1 --report", "pins 32")?;
    let answer = adopt(&guest, pid, "--to node1", 3)?;
    let held: Vec<(&str, u64)> = answer["holders"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|holder| {
            assert_eq!((&holder["pid"], &holder["name"]), (&pid.into(), &"holder".into()));
            (holder["reason"].as_str().expect("a reason"), number(holder, "bytes"))
        })
        .collect();
    assert_eq!(held, [("io-uring", 16 * 4096), ("pipe", 16 * 4096)], "{answer}");
    assert_eq!(number(&answer, "remaining"), 32 * 4096);
    assert!(number(&answer, "moved") >= 32 * MIB - 32 * 4096, "{answer}");
    let text = guest.run(&format!("memtide adopt {pid} --to node1"))?.stdout;
    assert!(text.contains("  64KiB: registered with an io_uring"), "{text}");
    let report = intact(&program)?;
    let pinned = "has 64KiB that cannot be moved: registered with an io_uring";
    assert!(report.contains(pinned), "{report}");

    let (program, pid) = start(&guest, "--near node0 --far node1", "fork 32")?;
    let answer = adopt(&guest, pid, "--to node1", 0)?;
    // The parent wrote the first half, which is its own since; the other half is its child's, too.
    assert!((16 * MIB..20 * MIB).contains(&number(&answer, "moved")), "{answer}");
    assert!(number(&answer, "shared") >= 16 * MIB, "{answer}");
    let answer = adopt(&guest, pid, "--to node1 --shared", 0)?;
    assert!(number(&answer, "moved") >= 16 * MIB, "{answer}");
    assert_eq!(number(&answer, "shared"), 0, "{answer}");
    intact(&program)?;

    // Huge pages of the pool move as well: the kernel makes more where the other node has none
    // (alloc_hugetlb_folio_nodemask).
    let pool = "/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages";
    guest.write(pool, "8")?;
    let (program, pid) = start(&guest, "--near node0 --far node1", "hugetlb 16")?;
    let answer = adopt(&guest, pid, "--to node1", 0)?;
    assert!((16 * MIB..18 * MIB).contains(&number(&answer, "moved")), "{answer}");
    assert!(nodes(&guest, pid)?[1] > 16 * MIB, "{answer}");
    intact(&program)?;

    // A program that ends while it is moved is no failure.
    let (program, pid) = start(&guest, "--near node0 --far node1", "plain 256")?;
    let script = format!(
        "memtide adopt {pid} --to node1 --json >/tmp/answer & adopt=$!
        until grep -q 'anon=.* N1=[0-9][0-9][0-9][0-9]' /proc/{pid}/numa_maps; do :; done
        kill -9 {pid}; wait $adopt || exit; cat /tmp/answer"
    );
    let output = guest.run_within(LONG, &script)?;
    assert!(output.status == 0, "{}{}", output.stdout, output.stderr);
    let answer: Value = serde_json::from_str(&output.stdout).expect("JSON");
    assert!(["whole", "with-program"].contains(&answer["ended"].as_str().expect("a word")));
    assert!((1..260 * MIB).contains(&number(&answer, "moved")), "{answer}");
    assert_eq!(program.wait(LONG)?.status, 128 + 9);
    guest.powerdown()
}

#[test]
fn near_is_filled_first_and_a_full_node_takes_no_more() -> Result<(), Error> {
    if !ready() {
        return Ok(());
    }
    let machine = Machine::new("small-near", mib(1536))
        .node(NumaNode::near(0..2, mib(768)))
        .node(NumaNode::far(mib(768)).distance(30));
    let guest = boot(machine, &[])?;
    let (program, pid) = start(&guest, "--near node0 --far node1", "plain 800")?;
    let [near, far] = nodes(&guest, pid)?;
    assert!(near > 300 * MIB && far > 100 * MIB, "near until full, then far: {near}, {far}");
    // Far has no room for all of it: partly done, and the reason is told.
    let answer = adopt(&guest, pid, "--to node1", 3)?;
    assert_eq!(answer["holders"][0]["reason"], "no-room", "{answer}");
    assert_eq!(
        number(&answer, "moved") + number(&answer, "remaining"),
        number(&answer, "requested")
    );
    // With no time there is nothing to be done, and one may ask again.
    let answer = adopt(&guest, pid, "--to node0 --deadline 0s", 3)?;
    assert_eq!((&answer["ended"], &answer["ask_again"]), (&"deadline".into(), &true.into()));
    assert_eq!(number(&answer, "moved"), 0);
    intact(&program)?;
    guest.powerdown()
}

#[test]
fn a_node_without_memory_is_used_once_it_has_some() -> Result<(), Error> {
    if !ready() {
        return Ok(());
    }
    let guest = boot(machines::virtio_mem(), &[])?;
    let run = "memtide run --near node0 --far node1";
    let refused = guest.run(&format!("{run} --placement far-first -- echo started"))?;
    assert_eq!((refused.status, &*refused.stdout), (2, ""), "{}", refused.stderr);
    assert!(refused.stderr.contains("none of the nodes 1 has memory"), "{}", refused.stderr);

    let wait = "until [ -e /tmp/go ]; do sleep 0.1; done; echo pid $$; exec holder plain 64";
    let script = format!("exec {run} --placement interleave -- sh -c '{wait}'");
    let program = guest.start(&script)?;
    guest.qmp().request_memory("vm0", gib(1))?;
    guest.wait_until(LONG, "grep -q 1 /sys/devices/system/node/has_memory")?;
    let free = "awk '/MemFree/ {print $4}' /sys/devices/system/node/node1/meminfo";
    guest.wait_until(LONG, &format!("[ $({free}) -gt 200000 ]"))?;
    guest.sh("touch /tmp/go")?;
    program.wait_for_output(LONG, "ready")?;
    let said = program.stdout()?;
    let pid = said.lines().find_map(|line| line.strip_prefix("pid ")?.parse().ok());
    let [near, far] = nodes(&guest, pid.expect("a number"))?;
    assert!((45..=60).contains(&(near * 100 / (near + far))), "{near} near, {far} far");
    let warned = intact(&program)?;
    assert!(warned.contains("these nodes have no memory yet: 1;"), "{warned}");
    guest.powerdown()
}

#[test]
fn redis_serves_while_its_memory_goes_far_and_comes_back() -> Result<(), Error> {
    if !ready() {
        return Ok(());
    }
    let redis = ["redis-server", "redis-cli", "redis-benchmark"].map(places::which);
    let [Some(server), Some(client), Some(load)] = redis else {
        needs::skip("needs redis-server, redis-cli and redis-benchmark (apt-get install redis)");
        return Ok(());
    };
    let guest = boot(machines::near_far(), &[server, client, load])?;
    guest.sh("ip link set lo up")?;
    let options = "--save '' --enable-debug-command yes --daemonize no --dir /tmp";
    let run = "exec memtide run --near node0 --far node1 --report --";
    let program = guest.start(&format!("{run} redis-server {options}"))?;
    guest.wait_until(LONG, "redis-cli ping | grep PONG")?;
    guest.sh("redis-cli debug populate 30000 key 1000")?;
    let pid: u32 = guest.sh("pidof redis-server")?.parse().expect("a number");
    let digest = guest.sh("redis-cli debug digest")?;
    assert!(nodes(&guest, pid)?[0] > 30 * MIB);
    let busy = guest.start("exec redis-benchmark -q -n 200000 -t get,ping -c 4")?;
    for (to, there) in [("node1", 1), ("node0", 0)] {
        let answer = adopt(&guest, pid, &format!("--to {to} --deadline 60s"), 0)?;
        assert!(number(&answer, "moved") > 30 * MIB, "{answer}");
        assert!(nodes(&guest, pid)?[there] > 30 * MIB);
        assert_eq!(guest.sh("redis-cli debug digest")?, digest, "after it went to {to}");
    }
    busy.signal("TERM")?;
    guest.sh("redis-cli shutdown nosave")?;
    let output = program.wait(LONG)?;
    assert_eq!(output.status, 0, "{}", output.stderr);
    let far = output.stderr.lines().find_map(|line| line.strip_prefix("memtide: node1 (far): "));
    assert!(far.is_some_and(|far| far.contains("MiB")), "{}", output.stderr);
    guest.powerdown()
}
