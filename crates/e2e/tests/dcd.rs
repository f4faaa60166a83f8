//! Two hosts share a device: each a daemon with real programs, the device behind a socket.

use std::{
    thread::JoinHandle,
    time::{Duration, Instant},
};

use memtide_cxl::command::{
    HostId, Sanitize,
    fabric_manager::{Force, GetHostExtents, InitiateAdd, InitiateRelease, Removal, Selection},
};
use memtide_e2e::{MIB, Machine, Pool, machine};
use memtide_fabric::{
    Address, Link,
    serving::StopHandle,
    software::{Config, Fabric},
    wire::Role,
};
use memtide_units::{ByteSize, DcExtent, Tag};

const LIMIT: Duration = Duration::from_secs(60);
const CAPACITY_MIB: u64 = 512;

/// The device, and who hands out its capacity.
struct Shared {
    address: Address,
    manager: Link,
    running: Option<(StopHandle, JoinHandle<()>)>,
}

impl Shared {
    fn start(machine: &Machine) -> Self {
        let address = Address::Unix(machine.directory().join("fabric.sock"));
        let capacity = ByteSize(CAPACITY_MIB * MIB);
        let config = Config { capacity, ..Config::default() };
        let mut fabric = Fabric::bind(config, std::slice::from_ref(&address)).unwrap();
        let stop = fabric.stop_handle();
        let thread = std::thread::spawn(move || fabric.run().unwrap());
        let manager = Link::connect(&address, Role::Manager).unwrap();
        Self { address, manager, running: Some((stop, thread)) }
    }

    /// The `[[node]]` tables of a host.
    fn nodes(&self, host: u16, near_mib: u64) -> String {
        format!(
            "[[node]]\nname = \"near\"\nkind = \"near\"\nsize = \"{near_mib}M\"\n\
             [[node]]\nname = \"dcd0\"\nkind = \"far\"\nstore = \"dcd\"\nwindow = \"1G\"\n\
             fabric = \"{}\"\nhost = {host}\nshared_with = \"everybody\"\n",
            self.address
        )
    }

    fn extents(&mut self, host: u16) -> Vec<DcExtent> {
        let query = GetHostExtents { host: HostId(host), count: 1000, start: 0 };
        self.manager.command(&query).unwrap().extents
    }

    fn held_mib(&mut self, host: u16) -> u64 {
        self.extents(host).iter().map(|extent| extent.range.length / MIB).sum()
    }

    /// Offers free capacity to a host.
    fn add(&mut self, host: u16, mib: u64) {
        let add = InitiateAdd {
            host: HostId(host),
            selection: Selection::Free,
            region: 0,
            length: mib * MIB,
            tag: Tag::NULL,
            extents: Vec::new(),
        };
        // What was released may still be being overwritten.
        let start = Instant::now();
        while let Err(error) = self.manager.command(&add) {
            assert!(start.elapsed() < LIMIT, "{error}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks a host for all that it has.
    fn ask_for_all(&mut self, host: u16) {
        let extents = self.extents(host);
        let release = InitiateRelease {
            host: HostId(host),
            removal: Removal::Prescriptive,
            force: Force::Ask,
            sanitize: Sanitize::OnRelease,
            length: 0,
            tag: Tag::NULL,
            extents,
        };
        self.manager.command(&release).unwrap();
    }

    /// Takes from a host all that it has, by force.
    fn take_all(&mut self, host: u16) {
        let extents = self.extents(host);
        let release = InitiateRelease {
            host: HostId(host),
            removal: Removal::Prescriptive,
            force: Force::Take,
            sanitize: Sanitize::OnRelease,
            length: 0,
            tag: Tag::NULL,
            extents,
        };
        self.manager.command(&release).unwrap();
    }

    fn wait_until_held(&mut self, host: u16, what: &str, fits: impl Fn(u64) -> bool) -> u64 {
        let start = Instant::now();
        loop {
            let held = self.held_mib(host);
            if fits(held) {
                return held;
            }
            assert!(start.elapsed() < LIMIT, "host {host} holds {held} MiB; expected {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            stop.stop();
            let _ = thread.join();
        }
    }
}

fn wait_for_size(pool: &Pool, mib: u64) {
    pool.wait_for("capacity", LIMIT, |status| status.nodes[1].size == mib * MIB);
}

/// What is leased of the device once what programs had in stock, and did not want, has gone back.
fn settled(pool: &Pool) -> u64 {
    let start = Instant::now();
    let mut before = pool.status().nodes[1].leased;
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let now = pool.status().nodes[1].leased;
        if now == before {
            return now;
        }
        assert!(start.elapsed() < LIMIT, "{now} bytes are leased, a second ago {before}");
        before = now;
    }
}

#[test]
fn capacity_goes_from_a_host_that_can_give_it_to_another_while_programs_run() {
    let machine = machine();
    let mut shared = Shared::start(&machine);
    let one = Pool::start_beside(&machine, "one", &shared.nodes(0, 64));
    let two = Pool::start_beside(&machine, "two", &shared.nodes(1, 16));
    shared.add(0, CAPACITY_MIB);
    wait_for_size(&one, CAPACITY_MIB);

    // A real program on host 1: more than fits near, where another makes room then.
    let mut early = one.run_proof("filler", &[]);
    early.ask("fill 40", LIMIT);
    let mut program = one.run_proof("filler", &[]);
    program.ask("fill 128", LIMIT);
    early.send("quit");
    early.finish(LIMIT).assert_pass();
    let pid = one.pid_of("filler");
    let used = one.wait_for("room near", LIMIT, |status| {
        status.programs.len() == 1 && status.nodes[0].free > 32 * MIB
    });
    let before = used.nodes[1].leased / MIB;
    assert!((64..256).contains(&before), "{used:#?}");

    // All of it is asked back: what is free goes, what fits near is moved, the rest is named.
    shared.ask_for_all(0);
    let stays = shared.wait_until_held(0, "less", |mib| mib + 16 <= before);
    assert!(stays > 0, "the program's memory does not fit near");
    let start = Instant::now();
    let answer = loop {
        let device = one.devices().remove(0);
        if let Some(answer) = device.answer.filter(|answer| answer.remaining > 0) {
            break answer;
        }
        assert!(start.elapsed() < LIMIT, "no answer names what stays");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(answer.asked, answer.released + answer.remaining, "{answer:?}");
    assert!(answer.holders.iter().any(|holder| holder.pid == pid), "{answer:?}");
    program.ask("verify", LIMIT);

    // Host 2 has at once what came: zeroed (the program checks what it writes, and reads zero
    // from what it did not), and used.
    let first = CAPACITY_MIB - before;
    shared.add(1, first);
    wait_for_size(&two, first);
    let mut other = two.run_proof("filler", &[]);
    other.ask(&format!("fill {}", first - 32), LIMIT);
    two.wait_for("use", LIMIT, |status| status.nodes[1].leased > (first - 128) * MIB);
    other.ask("verify", LIMIT);
    program.ask("verify", LIMIT);

    // Host 1's program ends: the rest follows by itself.
    program.send("quit");
    program.finish(LIMIT).assert_pass();
    shared.wait_until_held(0, "nothing", |mib| mib == 0);
    wait_for_size(&one, 0);
    shared.add(1, CAPACITY_MIB - first);
    wait_for_size(&two, CAPACITY_MIB);
    other.ask("rewrite", LIMIT);
    other.ask("verify", LIMIT);
    other.send("quit");
    other.finish(LIMIT).assert_pass();
}

#[test]
fn a_host_is_killed_and_its_program_keeps_its_memory() {
    let machine = machine();
    let mut shared = Shared::start(&machine);
    let mut one = Pool::start_beside(&machine, "one", &shared.nodes(0, 16));
    shared.add(0, 256);
    wait_for_size(&one, 256);
    let mut program = one.run_proof("filler", &[]);
    program.ask("fill 128", LIMIT);
    let before = settled(&one);
    assert!(before > 64 * MIB);
    one.kill_daemon();
    program.ask("rewrite", LIMIT);
    one.start_daemon();
    one.wait_for("the program to come back", LIMIT, |status| {
        status.programs.iter().any(|program| program.connected)
    });
    assert_eq!(settled(&one), before);
    assert_eq!(shared.held_mib(0), 256);
    program.ask("verify", LIMIT);
    program.ask("fill 32", LIMIT);
    program.ask("verify", LIMIT);
    program.send("quit");
    program.finish(LIMIT).assert_pass();
    one.wait_for("everything to be free", LIMIT, |status| status.leased() == 0);
}

#[test]
fn memory_that_is_taken_by_force_is_a_clear_end_for_who_touches_it() {
    let machine = machine();
    let mut shared = Shared::start(&machine);
    let one = Pool::start_beside(&machine, "one", &shared.nodes(0, 16));
    shared.add(0, 256);
    wait_for_size(&one, 256);
    let mut program = one.run_proof("filler", &[]);
    program.ask("fill 128", LIMIT);
    shared.take_all(0);
    wait_for_size(&one, 0);
    program.send("verify");
    let ended = program.finish(LIMIT);
    assert!(!ended.status.success(), "{ended:?}");
    assert!(
        ended.stderr.contains("are lost, and what was in them: bad, or without a device"),
        "{ended:?}"
    );
    // Others are served as before.
    let mut next = one.run_proof("filler", &[]);
    next.ask("fill 8", LIMIT);
    next.send("quit");
    next.finish(LIMIT).assert_pass();
}

#[test]
fn a_program_that_gives_up_what_was_lost_has_fresh_memory() {
    let machine = machine();
    let mut shared = Shared::start(&machine);
    let one = Pool::start_beside(&machine, "one", &shared.nodes(0, 16));
    shared.add(0, 256);
    wait_for_size(&one, 256);
    let mut program = one.run_proof("loser", &[]);
    program.ask("fill 100", LIMIT);
    program.ask("heap 100", LIMIT);
    shared.take_all(0);
    wait_for_size(&one, 0);
    program.ask("lost", LIMIT);
    program.ask("reheap", LIMIT);
    program.ask("reuse", LIMIT);
    // What comes anew is used anew.
    shared.add(0, 256);
    wait_for_size(&one, 256);
    program.ask("fill 64", LIMIT);
    one.wait_for("use", LIMIT, |status| status.nodes[1].leased > 32 * MIB);
    program.send("quit");
    program.finish(LIMIT).assert_pass();
}
