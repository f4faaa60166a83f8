//! Steps in the wrong order, twice, and with numbers that do not fit: what is refused names field,
//! value and expectation, and has changed nothing.

use memtide_testbed::{Error, Guest, mib, ready};
use serde_json::Value;

use super::kit::{self, GIB, LONG};

/// These words are refused with this code, for a reason that says all of `parts`, and nothing has
/// changed.
#[track_caller]
fn refused(guest: &Guest, words: &str, code: i32, parts: &[&str]) {
    let before = kit::shown(guest);
    let output = kit::ends(guest, words, code);
    for part in parts {
        assert!(output.stderr.contains(part), "memtide {words}: no {part:?} in\n{}", output.stderr);
    }
    assert_eq!(kit::shown(guest), before, "memtide {words} was refused, and changed something");
}

/// These words have nothing to do, which is no failure.
#[track_caller]
fn nothing_to_do(guest: &Guest, words: &str, part: &str) {
    let before = kit::shown(guest);
    let output = kit::ends(guest, words, 0);
    assert!(output.stdout.contains(part), "memtide {words}: no {part:?} in\n{}", output.stdout);
    assert_eq!(
        kit::shown(guest),
        before,
        "memtide {words} had nothing to do, and changed something"
    );
}

#[test]
fn steps_out_of_order_change_nothing() -> Result<(), Error> {
    if !ready() {
        return Ok(());
    }
    let guest = kit::boot_cxl(&[])?;
    without_a_region(&guest);
    kit::region_of_one_gib(&guest)?;
    with_a_region_offline(&guest);
    kit::ends(&guest, "online --node node1 --zone movable", 0);
    with_memory_online(&guest)?;
    kit::ends(&guest, "offline --node node1", 0);
    nothing_to_do(&guest, "offline --node node1", "1GiB were offline already: blocks ");
    let answer = kit::json(&guest, "give-back 1GiB --from node1", 3);
    assert_eq!((kit::number(&answer, "returned"), kit::number(&answer, "remaining")), (0, GIB));
    kit::ends(&guest, "region destroy region0", 0);
    refused(&guest, "region destroy region0", 2, &["region region0: no such CXL region"]);
    kit::healthy(&guest)?;
    guest.powerdown()
}

fn without_a_region(guest: &Guest) {
    let none = "region region0: no such CXL region; expected one, but this machine has none";
    refused(guest, "region destroy region0", 2, &[none]);
    // One block less, and 256 MiB more, than there is.
    let size = ["size 896MiB: expected a multiple of 256MiB", "768MiB", "1GiB"];
    refused(guest, "region create --size 896M", 2, &size);
    let memory = "mem0 has 1GiB of volatile memory free: expected at least 1.2GiB";
    refused(guest, "region create --size 1280M", 2, &[memory]);
    let window = "window decoder0.7: no such root decoder; expected one of decoder0.0";
    refused(guest, "region create --window decoder0.7", 2, &[window]);
    let device = "device mem7: no such memory device; expected one of mem0";
    refused(guest, "region create --devices mem7", 2, &[device]);
    refused(guest, "region create --devices mem0,mem0", 2, &["device mem0 is named twice"]);
    let ways = "ways 2 and 1 devices: expected as many devices as ways";
    refused(guest, "region create --devices mem0 --ways 2", 2, &[ways]);
    refused(guest, "region create --ways 2", 2, &["1 devices below ", "2 are needed"]);
    let granularity = "granularity 300: expected a power of two from 256 to 16384";
    refused(guest, "region create --granularity 300", 2, &[granularity]);
    refused(guest, "region create --size 1X", 2, &["--size", "1X"]);
    let node = "node 1: no memory block belongs to it; expected one of node0";
    refused(guest, "give-back 1GiB --from node1", 2, &[node]);
    refused(guest, "online --node node1", 2, &["node1"]);
    refused(guest, "dax mode dax0.0 devdax", 2, &["dax0.0"]);
}

fn with_a_region_offline(guest: &Guest) {
    // A second one: the device has nothing left for it.
    let left = "mem0 has 0B of volatile memory free: expected at least 256MiB";
    refused(guest, "region create --devices mem0", 2, &[left]);
    refused(guest, "region create", 2, &["mem0"]);
    let more = "memory9999: expected one of /sys/devices/system/memory";
    refused(guest, "online 9999 --zone movable", 2, &[more]);
    refused(guest, "offline memory9999", 2, &[more]);
    // A block more than there is.
    refused(guest, "online --node node1 --size 1152M --zone movable", 2, &["1.1GiB", "1GiB"]);
    refused(guest, "online --node node1 --size 0 --zone movable", 2, &["0"]);
    nothing_to_do(guest, "offline --node node1", "1GiB were offline already");
}

fn with_memory_online(guest: &Guest) -> Result<(), Error> {
    let online = "8 memory blocks (1GiB) of region0 are online: expected all of them offline";
    refused(guest, "region destroy region0", 2, &[online, "memtide offline "]);
    let there = "1GiB were online already, in zone Movable: blocks ";
    nothing_to_do(guest, "online --node node1 --zone movable", there);
    let there = "1GiB were online already, in zone Movable, not as asked for (zone kernel); take";
    nothing_to_do(guest, "online --node node1 --zone kernel", there);
    // Who may not write is told so before any page moves.
    guest.sh("mount -o remount,ro /sys")?;
    let denied = "needs root and a writable /sys: run as root\n";
    refused(guest, "give-back 256M --from node1", 1, &[denied]);
    guest.sh("mount -o remount,rw /sys")?;
    let foreseen = "echo offline > /sys/devices/system/memory/memory";
    nothing_to_do(guest, "give-back 256M --from node1 --dry-run", foreseen);
    // Without node 1 the kernel would kill what is bound to it.
    let bound =
        guest.start("exec memtide run --near node1 -- sh -c 'echo begun; exec sleep 1000'")?;
    bound.wait_for_output(LONG, "begun")?;
    guest.wait_until(LONG, "pidof sleep")?;
    refused(guest, "offline --node node1", 2, &["bound to it: sleep (pid "]);
    bound.signal("TERM")?;
    bound.wait(LONG)?;
    refused(guest, "give-back 0 --from node1", 2, &["size 0: expected at least one byte"]);
    refused(guest, "give-back 1GiB --from node9", 2, &["node 9: no memory block belongs to it"]);
    refused(guest, "give-back 1GiB --from nodeX --kernel", 2, &["--from nodeX: expected a node"]);
    refused(guest, "give-back -1 --from node1", 2, &["-1"]);
    // A block goes once; the second time there is nothing to do.
    let first = guest.sh("ls -d /sys/devices/system/node/node1/memory[0-9]* | head -n 1")?;
    let first = first.rsplit('/').next().expect("a name").to_owned();
    kit::ends(guest, &format!("offline {first}"), 0);
    nothing_to_do(guest, &format!("offline {first}"), "128MiB were offline already");
    assert_eq!(kit::blocks(guest, 1)?, "1 offline, 7 online Movable");
    // One block offline is no reason to take the region away from under the others.
    refused(guest, "region destroy region0", 2, &["7 memory blocks (896MiB) of region0"]);
    kit::ends(guest, &format!("online {first} --zone movable"), 0);
    // More than there is: all of it comes, and the rest is told.
    let answer = kit::json(guest, "give-back 2GiB --from node1 --deadline 100s", 3);
    let told = ["requested", "returned", "remaining"].map(|key| kit::number(&answer, key));
    assert_eq!(told, [2 * GIB, GIB, GIB], "{answer}");
    assert_eq!((&answer["ask_again"], &answer["holders"]), (&false.into(), &Value::Array(vec![])));
    kit::ends(guest, "online --node node1 --zone movable", 0);
    Ok(())
}

/// The device is unplugged while regions of it are made and unmade: each request is done, or
/// refused with words, and nothing of it remains.
#[test]
fn a_device_vanishes_while_regions_come_and_go() -> Result<(), Error> {
    if !ready() {
        return Ok(());
    }
    let guest = kit::boot_cxl(&[])?;
    let before = kit::shown(&guest);
    let turns = "while [ -e /sys/bus/cxl/devices/mem0 ]; do
            for words in 'region create' 'region destroy region0'; do
                said=$(memtide $words 2>&1); echo \"$? $words: $said\" | tr '\\n' ' '; echo
            done
        done";
    let turns = guest.start(turns)?;
    turns.wait_for_output(LONG, "0 region destroy")?;
    guest.qmp().device_del("mem0", LONG)?;
    let output = turns.wait(LONG)?;
    for line in output.stdout.lines() {
        let is_answer = ["0 ", "1 ", "2 "].iter().any(|code| line.starts_with(code));
        assert!(is_answer && !line.contains("panicked"), "{line}");
        // Refused with words, not with a number alone; and taken back, unless the device is gone
        // without which that cannot be.
        let is_whole = !line.contains("could not all be taken back") || line.contains(" is gone: ");
        assert!(line.starts_with("0 ") || line.len() > 60 && is_whole, "{line}");
    }
    // The last one may have been made just before, or be half unmade.
    guest.run_within(LONG, "memtide region destroy region0")?;
    guest.wait_until(LONG, "! ls -d /sys/bus/cxl/devices/mem*")?;
    assert_eq!(kit::blocks(&guest, 1)?, "");
    refused(&guest, "region create", 2, &["0 devices below ", "1 are needed"]);
    plug_in_again(&guest)?;
    assert_eq!(kit::memory(&kit::shown(&guest)), kit::memory(&before), "{}", output.stdout);
    kit::healthy(&guest)?;
    guest.powerdown()
}

/// The device is unplugged between the making of its region and the onlining of its memory.
#[test]
fn a_device_vanishes_before_its_memory_is_online() -> Result<(), Error> {
    if !ready() {
        return Ok(());
    }
    let guest = kit::boot_cxl(&[])?;
    let before = kit::shown(&guest);
    kit::region_of_one_gib(&guest)?;
    let list = "cd /sys/devices/system/node/node1 && ls -d memory[0-9]* | sort -V | tr '\\n' ','";
    let blocks = guest.sh(list)?;
    let blocks = blocks.trim_end_matches(',');
    guest.qmp().device_del("mem0", LONG)?;
    guest.wait_until(LONG, "! ls -d /sys/bus/cxl/devices/mem*")?;
    let first = blocks.split(',').next().expect("one at least");
    let gone = format!("there is no {first}: expected one of /sys/devices/system/memory");
    refused(&guest, &format!("online {blocks} --zone movable"), 2, &[&gone]);
    refused(&guest, &format!("offline {blocks}"), 2, &[&gone]);
    refused(&guest, "online --node node1 --zone movable", 2, &["node1"]);
    refused(&guest, "give-back 1GiB --from node1", 2, &["node 1: no memory block belongs to it"]);
    // The region has outlived its device, and can be taken away.
    kit::ends(&guest, "region destroy region0", 0);
    plug_in_again(&guest)?;
    assert_eq!(kit::memory(&kit::shown(&guest)), kit::memory(&before));
    kit::healthy(&guest)?;
    guest.powerdown()
}

/// The device is pulled out while its memory is online. The kernel keeps the blocks, with nothing
/// behind them; once offline, they must not come back.
#[test]
fn a_device_vanishes_under_its_memory() -> Result<(), Error> {
    if !ready() {
        return Ok(());
    }
    let guest = kit::boot_cxl(&[])?;
    kit::region_of_one_gib(&guest)?;
    kit::ends(&guest, "online --node node1 --zone movable", 0);
    guest.qmp().device_del("mem0", LONG)?;
    guest.wait_until(LONG, "! ls -d /sys/bus/cxl/devices/mem*")?;
    assert_eq!(kit::blocks(&guest, 1)?, "8 online Movable");
    let answer = kit::json(&guest, "give-back 1GiB --from node1", 0);
    assert_eq!(kit::number(&answer, "returned"), GIB, "{answer}");
    let gone = "was taken out while its memory was online, and nothing is behind memory";
    refused(&guest, "online --node node1 --zone movable", 2, &[gone]);
    let shown = guest.sh("memtide topology")?;
    assert!(shown.contains("their device was taken out"), "{shown}");
    kit::ends(&guest, "region destroy region0", 0);
    refused(&guest, "online --node node1 --zone movable", 2, &[gone]);

    // Another device is not in their way, nor they in its.
    guest.qmp().add_cxl_device("mem9", "hb0-p0", mib(1024), 1)?;
    guest.wait_until(LONG, "ls -d /sys/bus/cxl/devices/endpoint*")?;
    let made = kit::json(&guest, "region create", 0);
    let first = kit::number(&made, "start") / kit::BLOCK;
    kit::wait_for_blocks(&guest, 1, 16)?;
    refused(&guest, "online --node node1 --zone movable", 2, &[gone]);
    kit::ends(&guest, &format!("online {first}-{} --zone movable", first + 7), 0);
    assert_eq!(kit::blocks(&guest, 1)?, "8 offline, 8 online Movable");
    kit::healthy(&guest)?;
    guest.powerdown()
}

/// The same device in the same port: all can be done with it that could be before.
fn plug_in_again(guest: &Guest) -> Result<(), Error> {
    guest.qmp().add_cxl_device("mem9", "hb0-p0", mib(1024), 1)?;
    guest.wait_until(LONG, "ls -d /sys/bus/cxl/devices/endpoint*")?;
    kit::region_of_one_gib(guest)?;
    kit::ends(guest, "online --node node1 --zone movable", 0);
    kit::ends(guest, "offline --node node1", 0);
    kit::ends(guest, "region destroy region0", 0);
    Ok(())
}
