//! A pool on a device with dynamic capacity, on a kernel that knows of no such thing: what the
//! device offers is a node of the pool, a real program runs on it, and what is asked back is asked
//! of the pool first. At the other end is QEMU's device.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use memtide_testbed::{Background, Error, Guest, machines, ready};
use serde_json::Value;

use super::{
    dynamic_capacity::{add, release, status},
    kit::{self, BLOCK, LONG, MIB},
    numa_nodes::{boot, intact, pages, serve, start},
};

/// Nothing of `far` is there at the start; near is where the machine's own memory is. Memory behind
/// an emulated CXL window is very slow, so programs are small.
const NODES: &str = r#"
[placement]
order = ["far", "near"]

[[node]]
name = "near"
kind = "near"
size = "128M"
numa = 0

[[node]]
name = "far"
kind = "far"
size = "2G"
numa = 1
online = "0"
"#;

/// What `holder pins` registers with an io_uring.
const REGISTERED: u64 = 16 * 4096;

/// Begins to serve the device, for the pool.
fn agent(guest: &Guest) -> Result<Background<'_>, Error> {
    let pool = "--pool /run/memtide/memtide.sock --pool-node far";
    let agent = guest.start(&format!("exec memtide dcd serve --deadline 20s {pool}"))?;
    agent.wait_for_output(LONG, "serving 0000:21:00.0")?;
    Ok(agent)
}

/// What is online of the pool's far node.
fn far(guest: &Guest) -> u64 {
    let pool = kit::json(guest, "status", 0);
    let node = &pool["nodes"][1];
    kit::number(node, "size") - kit::number(node, "offline")
}

/// Waits until so much of the device is accepted, and the pool has so much of it.
#[track_caller]
fn settles_at(guest: &Guest, accepted: u64, pool: u64, agent: &Background<'_>) -> Value {
    let deadline = Instant::now() + LONG;
    loop {
        let status = status(guest);
        if kit::number(&status, "accepted") == accepted && far(guest) == pool {
            return status;
        }
        let said = agent.stdout().unwrap_or_default();
        let pool_status = kit::json(guest, "status", 0);
        assert!(
            Instant::now() < deadline,
            "not {accepted} accepted and {pool} in the pool: {status}\n{pool_status}\n{said}"
        );
        std::thread::sleep(Duration::from_millis(300));
    }
}

fn bytes_on(pages: &BTreeMap<u16, u64>, numa: u16) -> u64 {
    pages.get(&numa).copied().unwrap_or(0)
}

#[test]
fn a_pool_grows_and_shrinks_with_a_device_while_a_program_runs_on_it() -> Result<(), Error> {
    if !ready() {
        return Ok(());
    }
    let guest = boot(machines::cxl_set_aside())?;
    // The NUMA node is not there yet, nor the device's agent.
    let _daemon = serve(&guest, NODES)?;
    assert_eq!(far(&guest), 0);
    let agent_of_device = agent(&guest)?;
    add(&guest, 0, &[(0, 4 * BLOCK)]);
    settles_at(&guest, 4 * BLOCK, 504 * MIB, &agent_of_device);

    // A program runs on it: its pages are the device's, but for those that it has registered with
    // an io_uring, which the kernel takes out of every movable zone.
    let (program, pid) = start(&guest, "pins 4")?;
    let (policy, on_device) = pages(&guest, pid, "far")?;
    assert_eq!((policy.as_str(), bytes_on(&on_device, 0)), ("bind:1", REGISTERED), "{on_device:?}");
    assert!(bytes_on(&on_device, 1) >= 4 * MIB - REGISTERED, "{on_device:?}");

    // All of it is asked back. What is pinned cannot move: one block stays for it, and the program
    // is named.
    release(&guest, 0, &[(0, 4 * BLOCK)]);
    agent_of_device.wait_for_output(LONG, "holder (pid ")?;
    let said = agent_of_device.stdout()?;
    let line = said.lines().find(|line| line.contains("holder (pid ")).expect("just said");
    assert!(line.starts_with("asked for 512MiB back: "), "{line}");
    let deadline = Instant::now() + LONG;
    while kit::number(&status(&guest), "accepted") > BLOCK {
        assert!(Instant::now() < deadline, "{}", agent_of_device.stdout()?);
        std::thread::sleep(Duration::from_millis(300));
    }
    assert_eq!(kit::number(&status(&guest), "accepted"), BLOCK, "the program has some of it");
    assert!(
        (2 * MIB..=126 * MIB).contains(&far(&guest)),
        "the pool has just that: {}",
        far(&guest)
    );
    let (_, on_device) = pages(&guest, pid, "far")?;
    assert!(bytes_on(&on_device, 1) > 0, "{on_device:?}");
    let away = bytes_on(&on_device, 0);
    assert_eq!(away, REGISTERED, "what the kernel moved away is back: {on_device:?}");

    // Whoever serves is killed, and the next one finds both sums.
    agent_of_device.signal("KILL")?;
    agent_of_device.wait(LONG)?;
    let next = agent(&guest)?;

    // The program ends with all that it wrote. A new agent has to be asked again.
    settles_at(&guest, BLOCK, 126 * MIB, &next);
    intact(&program)?;
    let extents = status(&guest);
    let groups = extents["groups"].as_array().expect("groups");
    for extent in groups.iter().flat_map(|group| group["extents"].as_array().expect("extents")) {
        let at = kit::number(extent, "dpa") - kit::GIB;
        release(&guest, 0, &[(at, kit::number(extent, "size"))]);
    }
    settles_at(&guest, 0, 0, &next);
    assert_eq!(kit::blocks(&guest, 1)?, "");

    // And again.
    add(&guest, 0, &[(BLOCK, BLOCK)]);
    settles_at(&guest, BLOCK, 126 * MIB, &next);
    kit::healthy(&guest)?;
    guest.powerdown()
}
