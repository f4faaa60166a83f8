//! A part of a CXL device's memory is for the kernel, and the kernel has put something there: the
//! rest comes back, and the answer says which blocks do not, and why.

use memtide_testbed::{Error, Guest, ready};
use serde_json::Value;

use super::kit::{self, BLOCK, GIB, LONG};

/// Files whose inodes and directory entries lie on node 1.
const FILES: &str = "mkdir /tmp/many && cd /tmp/many && seq 1 3000 | xargs touch";

fn give_back(guest: &Guest, words: &str, code: i32) -> Value {
    let answer = kit::json(guest, &format!("give-back {words} --from node1"), code);
    let told = ["returned", "remaining"].map(|key| kit::number(&answer, key));
    assert_eq!(told[0] + told[1], kit::number(&answer, "requested"), "{answer}");
    answer
}

#[test]
fn what_the_kernel_holds_stays_and_is_named() -> Result<(), Error> {
    if !ready() {
        return Ok(());
    }
    let guest = kit::boot_cxl(&[kit::program("holder")])?;
    kit::region_of_one_gib(&guest)?;
    kit::ends(&guest, "online --node node1 --size 256M --zone kernel", 0);
    kit::ends(&guest, "online --node node1 --zone movable", 0);
    assert_eq!(kit::blocks(&guest, 1)?, "6 online Movable, 2 online Normal");
    // What is in the one zone does not change to the other while it is online.
    let first = "cd /sys/devices/system/node/node1 && ls -d memory[0-9]* | sort -V | head -n 1";
    let refused = kit::ends(&guest, &format!("online {} --zone movable", guest.sh(first)?), 2);
    assert!(refused.stderr.contains("is online in zone Normal"), "{}", refused.stderr);

    let run = "memtide run --near node0 --far node1 --placement far-first -- holder plain 4";
    let holder = guest.start(&format!("exec {run}"))?;
    holder.wait_for_output(LONG, "ready")?;
    guest.run_within(LONG, &format!("memtide run --near node1 -- sh -c '{FILES}'"))?;
    let slab = "awk '/SUnreclaim|SReclaimable/ {sum += $4} END {print sum}' \
                /sys/devices/system/node/node1/meminfo";
    let slab: u64 = guest.sh(slab)?.parse().expect("KiB");
    assert!(slab > 1024, "the kernel's memory is there: {slab} KiB");

    let answer = give_back(&guest, "1GiB --deadline 120s", 3);
    let (returned, remaining) =
        (kit::number(&answer, "returned"), kit::number(&answer, "remaining"));
    assert!(returned >= 6 * BLOCK && remaining >= BLOCK, "{answer}");
    let stays = answer["blocks"].as_array().expect("a list");
    assert_eq!(stays.len() as u64 * BLOCK, remaining, "{answer}");
    for stay in stays {
        let told = (&stay["zone"], &stay["reason"]);
        assert_eq!(told, (&"Normal".into(), &"kernel-memory".into()), "{answer}");
        let held = ["slab", "page_tables", "kernel"].map(|key| kit::number(&stay["contents"], key));
        assert!(held.iter().sum::<u64>() > 0, "{answer}");
    }
    let holders = answer["holders"].as_array().expect("a list");
    assert_eq!(holders.len(), 1, "{answer}");
    let who = ["tenant", "name", "reason"].map(|key| holders[0][key].as_str().unwrap_or_default());
    assert_eq!(who, ["kernel", "kernel", "kernel-memory"], "{answer}");
    assert_eq!(answer["ask_again"], false, "nothing changes by itself");
    let left = format!("{} online Normal", remaining / BLOCK);
    let blocks = kit::blocks(&guest, 1)?;
    assert_eq!(blocks, format!("{} offline, {left}", returned / BLOCK));
    let text = kit::ends(&guest, "give-back 128M --from node1", 3).stdout;
    assert!(
        text.contains("(Normal) stays: the kernel's own data, which cannot be moved"),
        "{text}"
    );

    // The region cannot go from under it; what remains of it is as usable as before.
    let refused = kit::ends(&guest, "region destroy region0", 2);
    assert!(refused.stderr.contains("of region0 are online"), "{}", refused.stderr);
    assert_eq!(guest.sh("ls /tmp/many | wc -l")?, "3000");
    assert_eq!(kit::blocks(&guest, 1)?, blocks);
    holder.signal("TERM")?;
    let output = holder.wait(LONG)?;
    assert!(output.stdout.contains("intact "), "{}{}", output.stdout, output.stderr);
    assert_eq!(kit::number(&answer, "requested"), GIB);
    kit::healthy(&guest)?;
    guest.powerdown()
}
