//! A pool whose nodes lie on NUMA nodes of the kernel's: real programs' pages come from there,
//! whoever touches them, and go from one to the other when the pool moves them.

use std::collections::BTreeMap;

use memtide_testbed::{Background, Error, Guest, Initramfs, Machine, machines, ready};

use super::kit::{self, LONG, MIB};

/// A guest with `memtide`, the library that it puts into programs, and `holder`.
pub fn boot(machine: Machine) -> Result<Guest, Error> {
    let initramfs = Initramfs::new()
        .program(memtide_e2e::memtide(), "/bin/memtide")
        .program(memtide_e2e::library(), "/lib/memtide/libmemtide_preload.so")
        .program(kit::program("holder"), "/bin/holder");
    Guest::boot_with(&machine.kernel_argument("numa_balancing=disable"), &initramfs)
}

/// Starts a daemon of these `[[node]]` tables; its socket is the usual one.
pub fn serve<'g>(guest: &'g Guest, nodes: &str) -> Result<Background<'g>, Error> {
    guest.write("/etc/memtide.toml", format!("on_full = \"fail\"\n{nodes}"))?;
    let daemon = guest.start("exec memtide serve --config /etc/memtide.toml")?;
    guest.wait_until(LONG, "memtide status")?;
    Ok(daemon)
}

/// Starts `holder` on the pool; itself, and its process number.
pub fn start<'g>(guest: &'g Guest, holder: &str) -> Result<(Background<'g>, u32), Error> {
    let script = format!("exec memtide run -- sh -c 'echo pid $$; exec holder {holder}'");
    let program = guest.start(&script)?;
    program.wait_for_output(LONG, "ready")?;
    let said = program.stdout()?;
    let pid = said.lines().find_map(|line| line.strip_prefix("pid ")?.parse().ok());
    Ok((program, pid.unwrap_or_else(|| panic!("no number: {said}"))))
}

/// Ends a holder; what it held must be as it should be.
pub fn intact(program: &Background<'_>) -> Result<(), Error> {
    program.signal("TERM")?;
    let output = program.wait(LONG)?;
    assert_eq!(output.status, 0, "{}{}", output.stdout, output.stderr);
    assert!(output.stdout.contains("intact "), "{}", output.stdout);
    Ok(())
}

/// What `/proc/PID/numa_maps` says of a node of the pool: its policies, and its bytes on each NUMA
/// node.
pub fn pages(guest: &Guest, pid: u32, node: &str) -> Result<(String, BTreeMap<u16, u64>), Error> {
    let maps = guest.sh(&format!("grep memfd:memtide-{node} /proc/{pid}/numa_maps || true"))?;
    let mut policies: Vec<&str> = Vec::new();
    let mut bytes: BTreeMap<u16, u64> = BTreeMap::new();
    for line in maps.lines() {
        policies.extend(line.split(' ').nth(1));
        for word in line.split(' ') {
            let count = word.strip_prefix('N').and_then(|word| word.split_once('='));
            let Some((numa, count)) = count else { continue };
            if let (Ok(numa), Ok(count)) = (numa.parse(), count.parse::<u64>()) {
                *bytes.entry(numa).or_default() += count * 4096;
            }
        }
    }
    policies.sort_unstable();
    policies.dedup();
    Ok((policies.join(" "), bytes))
}

const NODES: &str = r#"
[[node]]
name = "near"
kind = "near"
size = "256M"
numa = 0

[[node]]
name = "far"
kind = "far"
size = "256M"
numa = 1
"#;

#[test]
fn a_programs_pages_are_on_the_numa_node_of_its_pools_node() -> Result<(), Error> {
    if !ready() {
        return Ok(());
    }
    let guest = boot(machines::near_far())?;

    // What is not there is refused, before anything is served.
    let far = |from: &str, to: &str| format!("on_full = \"fail\"\n{}", NODES.replace(from, to));
    let of_far = |size: &str| format!("kind = \"far\"\nsize = \"{size}\"");
    guest.write("/etc/memtide.toml", far(&of_far("256M"), &of_far("2G")))?;
    let refused = kit::ends(&guest, "serve --config /etc/memtide.toml", 1).stderr;
    let why = "nodes far: 2GiB are more than NUMA node 1 has to give now; expected at most";
    assert!(refused.contains(why), "{refused}");
    guest.write("/etc/memtide.toml", far("numa = 1", "numa = 5"))?;
    let refused = kit::ends(&guest, "serve --config /etc/memtide.toml", 1).stderr;
    let why = "numa of node far is 5, which has no memory; expected one of 0-1";
    assert!(refused.contains(why), "{refused}");

    let _daemon = serve(&guest, NODES)?;
    let status = kit::json(&guest, "status", 0);
    let numa = |node: usize| status["nodes"][node]["numa"].as_u64();
    assert_eq!([numa(0), numa(1)], [Some(0), Some(1)], "{status}");
    let checks = kit::ends(&guest, "doctor", 0).stdout;
    assert!(checks.contains("NUMA nodes: node0 has ") && checks.contains("node1 has "), "{checks}");

    // All processors are of node 0: what is far comes from node 1 all the same, whoever touches it.
    let (program, pid) = start(&guest, "plain 64")?;
    let (policy, near) = pages(&guest, pid, "near")?;
    assert_eq!((policy.as_str(), near.contains_key(&1)), ("bind:0", false), "{near:?}");
    assert!(near[&0] >= 64 * MIB, "{near:?}");
    for (to, from, numa) in [("far", "near", 1), ("near", "far", 0), ("far", "near", 1)] {
        let moved = kit::json(&guest, &format!("move --pid {pid} --to {to}"), 0);
        assert_eq!(kit::number(&moved, "remaining"), 0, "{moved}");
        let (policy, there) = pages(&guest, pid, to)?;
        assert_eq!(policy, format!("bind:{numa}"), "{there:?}");
        let numas: Vec<u16> = there.keys().copied().collect();
        assert_eq!(numas, [numa], "{there:?}");
        assert!(there[&numa] >= 64 * MIB, "{there:?}");
        let (_, left) = pages(&guest, pid, from)?;
        assert!(left.values().sum::<u64>() < MIB, "{left:?}");
    }
    // The kernel counts the same: shared memory of node 1, but for what processors have not told.
    let shmem = "awk '/Shmem:/ {print $4}' /sys/devices/system/node/node1/meminfo";
    let far: u64 = guest.sh(shmem)?.parse().expect("KiB");
    assert!((60 << 10..96 << 10).contains(&far), "{far} KiB");
    intact(&program)?;
    guest.wait_until(LONG, &format!("[ $({shmem}) -lt 1024 ]"))?;
    kit::healthy(&guest)?;
    guest.powerdown()
}
