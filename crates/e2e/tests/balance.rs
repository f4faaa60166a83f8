//! Memory goes from a host that does not use it to one whose programs lack it, and nobody asks.
//!
//! A fabric, its manager and two hosts, each a process of its own.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use memtide_e2e::{MIB, Machine, Pool, Running, machine, memtide};

const LIMIT: Duration = Duration::from_secs(60);
const CAPACITY_MIB: u64 = 512;
/// What host 1 is guaranteed.
const MINIMUM_MIB: u64 = 128;

/// The device and the manager.
struct Rack {
    directory: PathBuf,
    _servers: [Running; 2],
}

/// What the manager says of both hosts: MiB that they have, and want.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Shares {
    held: [u64; 2],
    wants: [u64; 2],
}

impl Rack {
    fn start(machine: &Machine) -> Self {
        let directory = machine.directory().to_owned();
        let at = |name: &str| directory.join(name).display().to_string();
        let capacity = format!("{CAPACITY_MIB}M");
        let mut fabric = Command::new(memtide());
        fabric.args(["fabric", "serve", "--capacity", &capacity, "--hosts", "2"]);
        let fabric = Running::start(fabric.args(["--socket", &at("fabric")]));
        let config = format!(
            "socket = {:?}\nagents = [\"unix:{}\"]\nstore = {:?}\n[timing]\nsettle = \"1s\"\n\
             [[device]]\nname = \"pool\"\naddress = \"unix:{}\"\nhosts = [\n\
             {{ name = \"h1\", number = 0, minimum = \"{MINIMUM_MIB}MiB\" }},\n\
             {{ name = \"h2\", number = 1 }},\n]\n",
            at("fm"),
            at("agents"),
            at("store"),
            at("fabric")
        );
        fs::write(at("fm.toml"), config).expect("writing fm.toml");
        let mut manager = Command::new(memtide());
        let manager = Running::start(manager.args(["fm", "serve", "--config", &at("fm.toml")]));
        Self { directory, _servers: [fabric, manager] }
    }

    /// The `[[node]]` tables of a host, the device's with these fields besides.
    fn nodes(&self, host: u16, near_mib: u64, more: &str) -> String {
        let at = |name: &str| self.directory.join(name).display().to_string();
        format!(
            "[[node]]\nname = \"near\"\nkind = \"near\"\nsize = \"{near_mib}M\"\n\
             [[node]]\nname = \"dcd0\"\nkind = \"far\"\nstore = \"dcd\"\nwindow = \"1G\"\n\
             fabric = \"unix:{}\"\nhost = {host}\nshared_with = \"everybody\"\n\
             manager = \"unix:{}\"\nhost_name = \"h{}\"\n{more}",
            at("fabric"),
            at("agents"),
            host + 1
        )
    }

    fn fm(&self, words: &[&str]) -> memtide_e2e::Finished {
        let mut command = Command::new(memtide());
        command.arg("fm").args(words).arg("--socket").arg(self.directory.join("fm"));
        Running::start(&mut command).finish(LIMIT)
    }

    /// What the manager says, once it and the device are there.
    fn shares(&self) -> Option<Shares> {
        let answer = self.fm(&["list", "--json"]);
        if !answer.status.success() {
            return None;
        }
        let json: serde_json::Value = serde_json::from_str(&answer.stdout).expect("JSON");
        let hosts = &json[0]["hosts"];
        let mib = |host: usize, what: &str| Some(hosts[host][what].as_u64()? / MIB);
        Some(Shares {
            held: [mib(0, "held")?, mib(1, "held")?],
            wants: [mib(0, "wants")?, mib(1, "wants")?],
        })
    }

    fn wait_for(&self, what: &str, is: impl Fn(Shares) -> bool) -> Shares {
        let start = Instant::now();
        loop {
            let shares = self.shares();
            if let Some(shares) = shares.filter(|shares| is(*shares)) {
                return shares;
            }
            assert!(start.elapsed() < LIMIT, "{what}: {shares:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// That for so long nothing goes to and fro.
    fn rests(&self, time: Duration) -> Shares {
        let first = self.shares().expect("it is there");
        let start = Instant::now();
        while start.elapsed() < time {
            let shares = self.shares().expect("it is there");
            assert_eq!(shares.held, first.held, "after {:?}", start.elapsed());
            std::thread::sleep(Duration::from_millis(100));
        }
        first
    }
}

fn tenant(on_depletion: &str) -> String {
    format!("[[tenant]]\nname = \"everybody\"\n{on_depletion}\n")
}

#[test]
fn who_waits_gets_what_another_host_does_not_use() {
    let machine = machine();
    let rack = Rack::start(&machine);
    let one = Pool::start_beside(&machine, "one", &rack.nodes(0, 16, ""));
    let waits = tenant("on_depletion = \"wait\"\nwait = \"8s\"");
    let two = rack.nodes(1, 64, "wants = \"automatic\"\n") + &waits;
    let two = Pool::start_beside(&machine, "two", &two);
    rack.wait_for("both hosts", |shares| shares.held == [0, 0]);
    let all = format!("{CAPACITY_MIB}M");
    rack.fm(&["add", &all, "--host", "h1", "--rest", "stand"]);
    rack.wait_for("all to be with h1", |shares| shares.held == [CAPACITY_MIB, 0]);

    // A program on host 1 uses some of it.
    let mut early = one.run_proof("filler", &[]);
    early.ask("fill 64", LIMIT);
    one.wait_for("use", LIMIT, |status| status.nodes[1].leased > 0);

    // On host 2 a program waits: there is no more. It comes.
    let mut holds = two.run_proof("filler", &[]);
    holds.ask("fill 40", LIMIT);
    let mut program = two.run_proof("filler", &[]);
    let start = Instant::now();
    program.ask("fill 40", LIMIT);
    let shares = rack.shares().expect("it is there");
    assert!(shares.held[1] >= 16, "{shares:?}");
    eprintln!("it went on after {:?}: {shares:?}", start.elapsed());
    let shares = rack.wait_for("h2 to be content", |shares| shares.wants == [0, 0]);
    assert!(shares.held[0] >= CAPACITY_MIB / 2, "no more went than was of use: {shares:?}");
    assert_eq!(rack.rests(Duration::from_secs(3)).wants, [0, 0]);

    // It takes whatever it can get: host 1 keeps what it uses, and what it is guaranteed.
    program.ask("exhaust 600", Duration::from_secs(120));
    let shares = rack.shares().expect("it is there");
    assert!(shares.held[0] >= MINIMUM_MIB, "{shares:?}");
    assert!(shares.held[1] >= CAPACITY_MIB / 2, "{shares:?}");
    early.ask("verify", LIMIT);
    program.ask("verify", LIMIT);
    holds.ask("verify", LIMIT);

    // What it was refused is forgotten, and when it has ended nobody wants anything.
    rack.wait_for("no more to be wanted", |shares| shares.wants == [0, 0]);
    for mut running in [early, holds, program] {
        running.send("quit");
        running.finish(LIMIT).assert_pass();
    }
    rack.rests(Duration::from_secs(3));
}

#[test]
fn who_falls_back_is_given_more_for_what_it_asks_next() {
    let machine = machine();
    let rack = Rack::start(&machine);
    let one = Pool::start_beside(&machine, "one", &rack.nodes(0, 16, ""));
    // No more than 96 MiB, whatever its programs lack.
    let two = rack.nodes(1, 16, "wants = \"96M\"\n");
    let two = Pool::start_beside(&machine, "two", &two);
    rack.wait_for("both hosts", |shares| shares.held == [0, 0]);
    let all = format!("{CAPACITY_MIB}M");
    rack.fm(&["add", &all, "--host", "h1", "--rest", "stand"]);
    rack.wait_for("all to be with h1", |shares| shares.held == [CAPACITY_MIB, 0]);
    let mut program = two.run_proof("filler", &[]);
    program.ask("fill 48", LIMIT);
    rack.wait_for("some to be with h2", |shares| shares.held[1] >= 64);
    two.wait_for("capacity", LIMIT, |status| status.nodes[1].size >= 64 * MIB);
    program.ask("fill 120", LIMIT);
    two.wait_for("use", LIMIT, |status| status.nodes[1].leased >= 32 * MIB);
    program.ask("verify", LIMIT);
    let shares = rack.wait_for("no more to be wanted", |shares| shares.wants == [0, 0]);
    assert!(shares.held[1] <= 96, "{shares:?}");
    assert_eq!(shares.held[0] + shares.held[1], CAPACITY_MIB, "{shares:?}");
    rack.rests(Duration::from_secs(3));
    program.send("quit");
    program.finish(LIMIT).assert_pass();
    drop(one);
}
