//! redis-server under redis-benchmark with BGSAVE in between, while blocks move: the digest of the
//! data is the same before and after, and the same as an unmanaged redis finds in the dump.

use std::{
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use memtide_e2e::{
    MIB, Pool, PoolSpec, Running, Tides, machine,
    machine::output_of,
    needs, seconds,
    wire::{connect_soon, free_port},
};

const LIMIT: Duration = Duration::from_secs(60);
const NEEDS: [(&str, &str); 3] = [
    ("redis-server", "redis-server"),
    ("redis-cli", "redis-tools"),
    ("redis-benchmark", "redis-tools"),
];

fn cli(port: u16, arguments: &[&str]) -> String {
    let port = port.to_string();
    output_of(Command::new("redis-cli").args(["-p", &port]).args(arguments)).trim().to_owned()
}

fn benchmark(port: u16, requests: u64) {
    let (port, requests) = (port.to_string(), requests.to_string());
    let mut command = Command::new("redis-benchmark");
    command.args(["-p", &port, "-n", &requests, "-r", "200000", "-d", "200", "-q"]);
    command.args(["-P", "8", "-t", "set,get,incr,lpush,hset,zadd"]);
    Running::start(&mut command).finish(Duration::from_secs(300)).assert_success();
}

fn save_in_background(port: u16) {
    let last = cli(port, &["LASTSAVE"]);
    assert!(cli(port, &["BGSAVE"]).contains("saving started"));
    let deadline = Instant::now() + LIMIT;
    // LASTSAVE counts seconds.
    while cli(port, &["INFO", "persistence"]).contains("rdb_bgsave_in_progress:1") {
        assert!(Instant::now() < deadline, "BGSAVE does not end (last save {last})");
        std::thread::sleep(Duration::from_millis(50));
    }
    let info = cli(port, &["INFO", "persistence"]);
    assert!(info.contains("rdb_last_bgsave_status:ok"), "{info}");
}

fn arguments(port: &str, directory: &Path) -> Vec<String> {
    let mut list: Vec<String> =
        ["--port", port, "--save", "", "--enable-debug-command", "yes", "--dir"]
            .map(str::to_owned)
            .into();
    list.push(directory.to_str().expect("a path of text").to_owned());
    list
}

#[test]
fn redis_keeps_its_data_through_moves_and_snapshots() {
    if !needs(&NEEDS) {
        return;
    }
    let machine = machine();
    let pool = Arc::new(Pool::start(&machine, &PoolSpec::new(512, 1024)));
    let port = free_port();
    let list = arguments(&port.to_string(), machine.directory());
    let list: Vec<&str> = list.iter().map(String::as_str).collect();
    let server = pool.run("redis-server", &list);
    drop(connect_soon(port, LIMIT));

    benchmark(port, 100_000);
    let digest = cli(port, &["DEBUG", "DIGEST"]);
    assert!(pool.status().leased() > 16 * MIB, "redis does not run on the pool");

    // Standing still, while its memory moves and is snapshotted.
    let tides = Tides::begin(&pool, machine.seed(), 512);
    let end = Instant::now() + seconds(4);
    while Instant::now() < end {
        assert_eq!(cli(port, &["DEBUG", "DIGEST"]), digest, "seed {}", machine.seed());
        save_in_background(port);
    }
    // Under load.
    let end = Instant::now() + seconds(6);
    while Instant::now() < end {
        let load = std::thread::spawn(move || benchmark(port, 30_000));
        save_in_background(port);
        load.join().expect("redis-benchmark");
    }
    let digest = cli(port, &["DEBUG", "DIGEST"]);
    save_in_background(port);
    let _ = tides.stop();
    assert_eq!(cli(port, &["DEBUG", "DIGEST"]), digest);
    let _ =
        Command::new("redis-cli").args(["-p", &port.to_string(), "SHUTDOWN", "NOSAVE"]).output();
    server.finish(LIMIT).assert_success();
    pool.assert_all_free();

    // What the snapshotting child wrote, as an unmanaged redis reads it.
    let port = free_port();
    let list = arguments(&port.to_string(), machine.directory());
    let _plain = Running::start(Command::new("redis-server").args(list));
    drop(connect_soon(port, LIMIT));
    let deadline = Instant::now() + LIMIT;
    while !cli(port, &["PING"]).contains("PONG") {
        assert!(Instant::now() < deadline, "the unmanaged redis does not load the dump");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(cli(port, &["DEBUG", "DIGEST"]), digest);
}
