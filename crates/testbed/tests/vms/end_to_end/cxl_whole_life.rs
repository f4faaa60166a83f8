//! A CXL device's whole life: region, memory, a program that lives in it, and out again.

use memtide_testbed::{Error, Guest, ready};

use super::{
    kit::{self, GIB, LONG, MIB},
    redis::{self, Redis},
};

/// How much of a process lies on node 1.
fn far(guest: &Guest, pid: u32) -> u64 {
    let answer = kit::json(guest, &format!("adopt {pid} --near node0-1 --dry-run"), 0);
    let nodes = answer["nodes"].as_array().expect("a list");
    let far = nodes.iter().find(|node| node["node"] == "node1");
    far.map_or(0, |far| kit::number(far, "before"))
}

#[test]
fn redis_lives_on_a_cxl_device_and_outlives_it() -> Result<(), Error> {
    if !ready() {
        return Ok(());
    }
    let Some(programs) = redis::programs() else { return Ok(()) };
    let guest = kit::boot_cxl(&programs)?;
    let before = kit::shown(&guest);
    kit::region_of_one_gib(&guest)?;
    kit::ends(&guest, "online --node node1 --zone movable", 0);
    assert_eq!(kit::blocks(&guest, 1)?, "8 online Movable");

    // An emulated device is some hundred times slower than memory: the server is filled while it is
    // near, and then its memory goes to the device, all of it.
    let redis = Redis::start(&guest, "memtide run --near node0 --far node1 --")?;
    let pid = redis.pid()?;
    kit::json(&guest, &format!("adopt {pid} --to node1"), 0);
    assert!(far(&guest, pid) > 20 * MIB, "its memory is on the device: {}", far(&guest, pid));
    redis.serves()?;
    let turns = redis.turns()?;
    let answer = kit::json(&guest, "give-back 1GiB --from node1 --deadline 200s", 0);
    let came = ["requested", "returned", "remaining"].map(|key| kit::number(&answer, key));
    assert_eq!(came, [GIB, GIB, 0], "{answer}");
    assert_eq!(answer["holders"].as_array().map(Vec::len), Some(0), "{answer}");
    assert_eq!(kit::blocks(&guest, 1)?, "8 offline");
    assert!(redis.turns()? > turns, "it served meanwhile");
    assert_eq!(redis.pid()?, pid, "the same process");
    assert_eq!(guest.run(&format!("grep -q N1= /proc/{pid}/numa_maps"))?.status, 1, "all is near");
    redis.is_right()?;

    kit::ends(&guest, "region destroy region0", 0);
    assert_eq!(kit::blocks(&guest, 1)?, "");
    assert_eq!(guest.run("grep region0 /proc/iomem")?.status, 1);
    let after = kit::shown(&guest);
    assert_eq!(kit::memory(&after), kit::memory(&before), "as if it had never been");
    guest.qmp().device_del("mem0", LONG)?;
    guest.wait_until(LONG, "! ls -d /sys/bus/cxl/devices/mem*")?;
    redis.serves()?;
    redis.is_right()?;
    redis.end()?;
    kit::healthy(&guest)?;
    guest.powerdown()
}
