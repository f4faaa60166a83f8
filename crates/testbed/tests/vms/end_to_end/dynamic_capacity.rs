//! A device with dynamic capacity, served by `memtide dcd serve` on a kernel that knows of no such
//! thing. At the other end is QEMU's device, told by QMP what to offer and to ask back.

use std::time::{Duration, Instant};

use memtide_testbed::{Background, Error, Guest, machines, ready};
use serde_json::{Value, json};

use super::kit::{self, BLOCK, GIB, LONG, MIB};

/// Where regions begin on the device: behind its static memory, one after the other.
const REGIONS: [u64; 2] = [GIB, 2 * GIB];

/// One of QMP's commands, with extents in a region: where in it, and how much.
fn tell(guest: &Guest, command: &str, region: usize, extents: &[(u64, u64)], more: Value) {
    let extents: Vec<Value> =
        extents.iter().map(|(offset, len)| json!({ "offset": offset, "len": len })).collect();
    let mut arguments = json!({
        "path": "/machine/peripheral/mem0", "host-id": 0, "region": region, "extents": extents,
    });
    for (key, value) in more.as_object().expect("an object") {
        arguments[key] = value.clone();
    }
    guest.qmp().execute(command, arguments).expect("QEMU does it");
}

/// Offers extents, as one chain.
pub fn add(guest: &Guest, region: usize, extents: &[(u64, u64)]) {
    let policy = json!({ "selection-policy": "prescriptive" });
    tell(guest, "cxl-add-dynamic-capacity", region, extents, policy);
}

/// Asks extents, or parts of them, back.
pub fn release(guest: &Guest, region: usize, extents: &[(u64, u64)]) {
    let policy = json!({ "removal-policy": "prescriptive" });
    tell(guest, "cxl-release-dynamic-capacity", region, extents, policy);
}

/// Begins to serve, and waits until it does.
fn serve<'a>(guest: &'a Guest, options: &str) -> Result<Background<'a>, Error> {
    let agent = guest.start(&format!("exec memtide dcd serve {options}"))?;
    agent.wait_for_output(LONG, "serving 0000:21:00.0")?;
    Ok(agent)
}

pub fn status(guest: &Guest) -> Value {
    kit::json(guest, "dcd status", 0)
}

/// What was accepted: where on the device, and how much; ascending.
fn accepted(status: &Value) -> Vec<(u64, u64)> {
    let groups = status["groups"].as_array().expect("groups");
    let extents = groups.iter().flat_map(|group| group["extents"].as_array().expect("extents"));
    let mut all: Vec<(u64, u64)> =
        extents.map(|extent| (kit::number(extent, "dpa"), kit::number(extent, "size"))).collect();
    all.sort_unstable();
    all
}

/// Waits until so much is accepted, all of it is online, and none of it asked back.
#[track_caller]
fn settles_at(guest: &Guest, bytes: u64) -> Value {
    let deadline = Instant::now() + LONG;
    loop {
        let status = status(guest);
        let told = ["accepted", "online", "asked_back"].map(|key| kit::number(&status, key));
        if told == [bytes, bytes, 0] {
            // The kernel counts the same.
            let blocks = kit::blocks(guest, 1).expect("the guest lives");
            let count = bytes / BLOCK;
            let expected =
                if count == 0 { String::new() } else { format!("{count} online Movable") };
            assert_eq!(blocks, expected, "{status}");
            return status;
        }
        assert!(Instant::now() < deadline, "not {bytes} accepted and online: {status}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn boot(programs: &[std::path::PathBuf]) -> Result<Guest, Error> {
    kit::boot(machines::cxl_set_aside(), programs)
}

/// The device's own words on what it has given (4801h), as an agent that starts anew reads them.
fn adopted_by_another(guest: &Guest, agent: &Background<'_>) -> Result<Value, Error> {
    agent.signal("KILL")?;
    agent.wait(LONG)?;
    serve(guest, "")?;
    Ok(status(guest))
}

#[test]
fn extents_come_and_go() -> Result<(), Error> {
    if !ready() {
        return Ok(());
    }
    let guest = boot(&[])?;
    let listed = kit::json(&guest, "dcd list", 0);
    assert_eq!(listed[0]["device"], "0000:21:00.0", "{listed}");
    assert_eq!(listed[0]["window"], "0x110000000-0x20fffffff", "{listed}");
    let agent = serve(&guest, "")?;

    let second = kit::ends(&guest, "dcd serve", 1).stderr;
    assert!(second.contains("device 0000:21:00.0 is served already"), "{second}");

    // One; several in one chain, of which one is no whole block; one more in the other region.
    add(&guest, 0, &[(BLOCK, BLOCK)]);
    settles_at(&guest, BLOCK);
    add(&guest, 0, &[(2 * BLOCK, BLOCK), (4 * BLOCK, 2 * MIB), (6 * BLOCK, 2 * BLOCK)]);
    let status = settles_at(&guest, 4 * BLOCK);
    let in_first = |blocks: u64| REGIONS[0] + blocks * BLOCK;
    let expected = [(in_first(1), BLOCK), (in_first(2), BLOCK), (in_first(6), 2 * BLOCK)];
    assert_eq!(accepted(&status), expected);
    let said = agent.stdout()?;
    let refusal = "refused DPA 0x60000000+0x200000: DPA 0x60000000+0x200000; expected a multiple \
                   of 0x8000000, at both ends";
    assert!(said.contains(refusal), "{said}");
    add(&guest, 1, &[(0, BLOCK)]);
    settles_at(&guest, 5 * BLOCK);

    // Refused by policy; the next one is in order again.
    kit::ends(&guest, "dcd accept-policy none", 0);
    add(&guest, 1, &[(4 * BLOCK, BLOCK)]);
    agent.wait_for_output(LONG, "accept-policy is none")?;
    kit::ends(&guest, "dcd accept-policy all", 0);
    add(&guest, 1, &[(5 * BLOCK, BLOCK)]);
    let status = settles_at(&guest, 6 * BLOCK);
    let mut expected = expected.to_vec();
    expected.extend([(REGIONS[1], BLOCK), (REGIONS[1] + 5 * BLOCK, BLOCK)]);
    assert_eq!(accepted(&status), expected);

    // Part of an extent, several extents, all the rest.
    release(&guest, 0, &[(7 * BLOCK, BLOCK)]);
    settles_at(&guest, 5 * BLOCK);
    release(&guest, 1, &[(0, BLOCK), (5 * BLOCK, BLOCK)]);
    let status = settles_at(&guest, 3 * BLOCK);
    let rest = [(in_first(1), BLOCK), (in_first(2), BLOCK), (in_first(6), BLOCK)];
    assert_eq!(accepted(&status), rest);
    let again = adopted_by_another(&guest, &agent)?;
    assert_eq!(accepted(&again), rest, "the device says so, too");
    for (start, _) in rest {
        release(&guest, 0, &[(start - REGIONS[0], BLOCK)]);
    }
    settles_at(&guest, 0);
    assert!(!guest.sh("cat /proc/iomem")?.contains("kmem"), "nothing stays in the window");
    // What went can come again.
    add(&guest, 0, &[(0, 8 * BLOCK)]);
    settles_at(&guest, 8 * BLOCK);
    kit::healthy(&guest)?;
    guest.powerdown()
}

#[test]
fn a_program_lives_on_it_and_holds_it() -> Result<(), Error> {
    if !ready() {
        return Ok(());
    }
    let guest = boot(&[kit::program("holder")])?;
    let agent = serve(&guest, "--deadline 5s")?;
    add(&guest, 0, &[(0, 2 * BLOCK)]);
    settles_at(&guest, 2 * BLOCK);
    // Memory of the device is slow to emulate: few pages.
    let run = "memtide run --near node0 --far node1 --placement far-first --";
    let plain = guest.start(&format!("exec {run} holder plain 4"))?;
    plain.wait_for_output(LONG, "ready")?;
    let pages =
        "cat /proc/$(pidof holder)/numa_maps | grep -o 'N1=[0-9]*' | sort -t= -nk2 | tail -1";
    let there: u64 = guest.sh(pages)?.trim_start_matches("N1=").parse().expect("pages");
    assert!(there >= 1024, "all of the program lies on the device: {there} pages");

    // Its pages move; the whole extent goes while it runs.
    release(&guest, 0, &[(0, 2 * BLOCK)]);
    settles_at(&guest, 0);
    plain.signal("TERM")?;
    let output = plain.wait(LONG)?;
    assert!(output.stdout.contains("intact "), "{}{}", output.stdout, output.stderr);

    // Pages that a pipe holds do not: that block stays, the other goes, and the rest follows.
    add(&guest, 0, &[(0, 2 * BLOCK)]);
    settles_at(&guest, 2 * BLOCK);
    let pins = guest.start(&format!("exec {run} holder pins 4"))?;
    pins.wait_for_output(LONG, "ready")?;
    release(&guest, 0, &[(0, 2 * BLOCK)]);
    agent.wait_for_output(LONG, "holder (pid ")?;
    let said = agent.stdout()?;
    let line = said.lines().find(|line| line.contains("holder (pid ")).expect("just said");
    assert!(line.starts_with("asked for 256MiB back: 128MiB can go"), "{line}");
    let partly = status(&guest);
    let told = ["accepted", "asked_back"].map(|key| kit::number(&partly, key));
    assert_eq!(told, [BLOCK, BLOCK], "{partly}");
    pins.signal("TERM")?;
    let output = pins.wait(LONG)?;
    assert!(output.stdout.contains("intact "), "{}{}", output.stdout, output.stderr);
    settles_at(&guest, 0);
    kit::healthy(&guest)?;
    guest.powerdown()
}

#[test]
fn an_agent_that_is_killed_is_followed_by_one_that_goes_on() -> Result<(), Error> {
    if !ready() {
        return Ok(());
    }
    let guest = boot(&[])?;
    let mut agent = serve(&guest, "")?;
    // Somewhere in the middle of it, each time somewhere else. (Each step by itself, on a model of
    // both sides: `crates/host/tests/dcd`.)
    for delay in [0, 3, 7, 15] {
        add(&guest, 0, &[(0, 2 * BLOCK), (4 * BLOCK, BLOCK)]);
        guest.sh(&format!("usleep {}", 20_000 * delay))?;
        agent.signal("KILL")?;
        agent.wait(LONG)?;
        agent = serve(&guest, "")?;
        settles_at(&guest, 3 * BLOCK);
        release(&guest, 0, &[(0, 2 * BLOCK), (4 * BLOCK, BLOCK)]);
        guest.sh(&format!("usleep {}", 20_000 * delay))?;
        agent.signal("KILL")?;
        agent.wait(LONG)?;
        agent = serve(&guest, "")?;
        settles_at(&guest, 0);
    }
    // A refusal, too, is not answered twice.
    kit::ends(&guest, "dcd accept-policy none", 0);
    for delay in [0, 4] {
        add(&guest, 0, &[(0, BLOCK)]);
        guest.sh(&format!("usleep {}", 15_000 * delay))?;
        agent.signal("KILL")?;
        agent.wait(LONG)?;
        agent = serve(&guest, "--accept none")?;
        settles_at(&guest, 0);
    }
    kit::ends(&guest, "dcd accept-policy all", 0);
    add(&guest, 0, &[(0, BLOCK)]);
    settles_at(&guest, BLOCK);
    kit::healthy(&guest)?;
    guest.powerdown()
}

#[test]
fn a_log_that_overflows_loses_offers_but_not_the_agent() -> Result<(), Error> {
    if !ready() {
        return Ok(());
    }
    let guest = boot(&[])?;
    let agent = serve(&guest, "")?;
    agent.signal("STOP")?;
    // QEMU's log holds 8 records.
    for block in 0..6 {
        add(&guest, 0, &[(block * BLOCK, BLOCK)]);
        add(&guest, 1, &[(block * BLOCK, BLOCK)]);
    }
    agent.signal("CONT")?;
    agent.wait_for_output(LONG, "overflowed")?;
    let status = settles_at(&guest, 8 * BLOCK);
    assert_eq!(accepted(&status).len(), 8, "{status}");
    // The offers that nobody heard of are out of the way.
    add(&guest, 1, &[(7 * BLOCK, BLOCK)]);
    settles_at(&guest, 9 * BLOCK);
    kit::healthy(&guest)?;
    guest.powerdown()
}

#[test]
fn a_device_that_is_pulled_out_ends_its_agent_with_a_sentence() -> Result<(), Error> {
    if !ready() {
        return Ok(());
    }
    let guest = boot(&[])?;
    let agent = serve(&guest, "")?;
    add(&guest, 0, &[(0, BLOCK), (2 * BLOCK, BLOCK)]);
    settles_at(&guest, 2 * BLOCK);
    guest.qmp().device_del("mem0", LONG)?;
    let output = agent.wait(LONG)?;
    assert_eq!(output.status, 1, "{}{}", output.stdout, output.stderr);
    let sentence = "device 0000:21:00.0 has been taken out while it was served; the kernel still \
                    counts 256MiB of memory that is not there any more (34,36)";
    assert!(output.stderr.contains(sentence), "{}", output.stderr);
    assert!(output.stderr.contains("Nothing else was touched"), "{}", output.stderr);
    kit::healthy(&guest)?;
    guest.powerdown()
}

#[test]
fn a_kernel_that_was_not_started_for_it_is_told_how() -> Result<(), Error> {
    if !ready() {
        return Ok(());
    }
    let guest = kit::boot(machines::cxl_dynamic(), &[])?;
    let output = kit::ends(&guest, "dcd serve", 1);
    let parameter = "add to the kernel's command line: memmap=4096M%0x110000000+0xefffffff \
                     memhp_default_state=offline";
    assert!(output.stderr.contains(parameter), "{}", output.stderr);
    // Nothing was enabled, nothing decodes.
    let enable = "cat /sys/bus/pci/devices/0000:21:00.0/enable";
    assert_eq!(guest.sh(enable)?, "0");
    let output = kit::ends(&guest, "dcd serve --device 0000:ff:00.0", 2);
    assert!(output.stderr.contains("expected 0000:21:00.0"), "{}", output.stderr);
    // A driver of the kernel's goes before.
    guest.load_modules(&["cxl_pci"])?;
    guest.wait_until(LONG, "[ -e /sys/bus/pci/devices/0000:21:00.0/driver ]")?;
    let output = kit::ends(&guest, "dcd serve --device 0000:21:00.0", 1);
    let unbind = "take it away with: echo 0000:21:00.0 > /sys/bus/pci/drivers/cxl_pci/unbind";
    assert!(output.stderr.contains(unbind), "{}", output.stderr);
    let output = kit::ends(&guest, "dcd status", 1);
    assert!(output.stderr.contains("expected `memtide dcd serve`"), "{}", output.stderr);
    guest.powerdown()
}
