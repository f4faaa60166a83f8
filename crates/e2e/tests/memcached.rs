//! memcached filled, moved, read back.

use std::{sync::Arc, time::Duration};

use memtide_e2e::{
    MIB, Pool, PoolSpec, Random, Tides, machine, needs, seconds,
    wire::{Memcached, connect_soon, free_port},
};
use rustix::process::Signal;

const LIMIT: Duration = Duration::from_secs(30);
const KEYS: u64 = 60_000;

/// The value of a key: its length and content follow from its number.
fn value(key: u64) -> Vec<u8> {
    let mut random = Random::new(key);
    let length = 16 + random.below(2000) as usize;
    (0..length.div_ceil(8)).flat_map(|_| random.next_u64().to_le_bytes()).take(length).collect()
}

#[test]
fn memcached_reads_back_what_was_stored_before_the_moves() {
    if !needs(&[("memcached", "memcached")]) {
        return;
    }
    let machine = machine();
    let pool = Arc::new(Pool::start(&machine, &PoolSpec::new(256, 768)));
    let port = free_port();
    let port_text = port.to_string();
    let user = if rustix::process::geteuid().is_root() { "root" } else { "" };
    let mut arguments = vec!["-p", &port_text, "-l", "127.0.0.1", "-U", "0", "-m", "200", "-M"];
    if !user.is_empty() {
        arguments.extend(["-u", user]);
    }
    let server = pool.run("memcached", &arguments);
    let mut client = Memcached::new(connect_soon(port, LIMIT));
    for key in 0..KEYS {
        client.set(&format!("key{key}"), &value(key));
    }
    assert!(pool.status().leased() > 48 * MIB, "memcached does not run on the pool");
    let tides = Tides::begin(&pool, machine.seed(), 512);
    let end = std::time::Instant::now() + seconds(6);
    let mut random = Random::new(machine.seed());
    while std::time::Instant::now() < end {
        for _ in 0..500 {
            let key = random.below(KEYS);
            assert_eq!(client.get(&format!("key{key}")).as_deref(), Some(&*value(key)), "{key}");
        }
    }
    let _ = tides.stop();
    for key in 0..KEYS {
        assert_eq!(client.get(&format!("key{key}")).as_deref(), Some(&*value(key)), "{key}");
    }
    for pid in pool.status().programs.iter().map(|p| p.pid) {
        if let Some(pid) = rustix::process::Pid::from_raw(pid.cast_signed()) {
            let _ = rustix::process::kill_process(pid, Signal::TERM);
        }
    }
    let _ = server.finish(LIMIT);
    pool.assert_all_free();
}
