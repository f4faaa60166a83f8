//! Garbage on the socket never disturbs the daemon, and nonsense on the command line changes
//! nothing, names the field, and ends with exit code 2.

use std::time::Duration;

use memtide_e2e::{Pool, PoolSpec, Random, machine, wire::send_packets};

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn garbage_on_the_socket_disturbs_nobody() {
    let machine = machine();
    let mut pool = Pool::start(&machine, &PoolSpec::new(128, 128));
    let mut filler = pool.run_proof("filler", &[]);
    filler.ask("fill 32", LIMIT);
    let before = pool.status();
    let mut random = Random::new(machine.seed());
    let mut silent = Vec::new();
    for round in 0..400_u64 {
        // Noise, and noise behind the first bytes of real messages.
        let packets = (0..random.below(6))
            .map(|_| {
                let length = random.below(if round % 50 == 0 { 60_000 } else { 200 }) as usize;
                let mut packet: Vec<u8> = (0..length).map(|_| random.next_u64() as u8).collect();
                if let Some(first) = packet.first_mut() {
                    *first %= 4;
                }
                if let Some(second) = packet.get_mut(1) {
                    *second %= 3;
                }
                packet
            })
            .collect::<Vec<_>>();
        let socket = send_packets(pool.socket(), &packets);
        if round % 8 == 0 {
            silent.push(socket); // connected, and says nothing more
        }
    }
    assert!(pool.daemon_lives());
    let after = pool.status();
    for (was, is) in before.nodes.iter().zip(&after.nodes) {
        assert_eq!((was.leased, was.offline), (is.leased, is.offline));
    }
    filler.ask("fill 32", LIMIT);
    filler.ask("verify", LIMIT);
    drop(silent);
    filler.send("quit");
    filler.finish(LIMIT).assert_pass();
    pool.assert_all_free();
}

#[test]
fn nonsense_on_the_command_line_is_refused_and_changes_nothing() {
    let machine = machine();
    let pool = Pool::start(&machine, &PoolSpec::new(128, 128));
    let before = format!("{:?}", pool.status().nodes);
    let cases: &[(&[&str], &str)] = &[
        (&["give-back", "12X"], "12X"),
        (&["give-back", "-1G"], "-1G"),
        (&["give-back", "64M", "--from", "nowhere"], "nowhere"),
        (&["give-back", "64M", "--deadline", "soon"], "soon"),
        (&["add", "64M", "--to", "nowhere"], "nowhere"),
        (&["move", "--pid", "notapid", "--to", "far"], "notapid"),
        (&["move", "--pid", "1", "--to", "nowhere"], "nowhere"),
    ];
    for (arguments, named) in cases {
        let finished = pool.command(arguments).finish(LIMIT);
        assert_eq!(finished.status.code(), Some(2), "{finished:?}");
        assert!(finished.stderr.contains(named), "does not name {named}: {finished:?}");
    }
    assert_eq!(before, format!("{:?}", pool.status().nodes));
}
