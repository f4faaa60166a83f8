//! The real binary as fabric, manager and hosts, each a process of its own.

use std::{
    fs,
    io::Write,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

const LONG: Duration = Duration::from_secs(30);

fn memtide(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_memtide"));
    command.args(arguments);
    command
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("an exit code")
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
}

/// A process that ends with the test; dropping it is `kill -9`.
struct Server(Child);

impl Server {
    fn start(mut command: Command, socket: &Path) -> Self {
        let child = command.stderr(Stdio::null()).spawn().unwrap();
        let server = Self(child);
        let until = Instant::now() + LONG;
        // A file that a killed one left behind is none.
        while UnixStream::connect(socket).is_err() && !is_packets(socket) {
            assert!(Instant::now() < until, "{command:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
        server
    }

    fn terminate(&mut self) -> i32 {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.0.wait().unwrap().code().unwrap_or(-1)
    }
}

/// Whether a daemon of programs listens there, which speaks packets.
fn is_packets(socket: &Path) -> bool {
    memtide_sys::socket::connect(socket).is_ok()
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Rack {
    directory: tempfile::TempDir,
}

impl Rack {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.at(name).display().to_string()
    }

    fn fabric(&self) -> Server {
        let command = memtide(&[
            "fabric",
            "serve",
            "--capacity",
            "1G",
            "--hosts",
            "2",
            "--socket",
            &self.text("fabric"),
        ]);
        Server::start(command, &self.at("fabric"))
    }

    fn manager(&self) -> Server {
        Server::start(self.manager_command(), &self.at("fm"))
    }

    fn manager_command(&self) -> Command {
        let device = format!("pool=unix:{}", self.text("fabric"));
        let agents = format!("unix:{}", self.text("agents"));
        memtide(&[
            "fm",
            "serve",
            "--device",
            &device,
            "--host",
            "h0=0",
            "--host",
            "h1=1",
            "--agents",
            &agents,
            "--socket",
            &self.text("fm"),
        ])
    }

    fn host(&self, number: u16) -> Server {
        let config = format!(
            "[[node]]\nname = \"near\"\nkind = \"near\"\nsize = \"256M\"\n[[node]]\n\
             name = \"pool\"\nkind = \"far\"\nstore = \"dcd\"\nfabric = \"unix:{}\"\n\
             host = {number}\nmanager = \"unix:{}\"\nhost_name = \"h{number}\"\n\
             shared_with = \"everybody\"\n",
            self.text("fabric"),
            self.text("agents")
        );
        let path = self.at(&format!("host{number}.toml"));
        fs::write(&path, config).unwrap();
        let socket = self.at(&format!("host{number}"));
        let mut command = memtide(&["serve", "--config"]);
        command.arg(&path).arg("--socket").arg(&socket);
        Server::start(command, &socket)
    }

    fn fm(&self, words: &[&str]) -> Output {
        let mut command = memtide(&["fm"]);
        command.args(words).arg("--socket").arg(self.at("fm")).output().unwrap()
    }

    fn devices(&self) -> serde_json::Value {
        json(&self.fm(&["list", "--json"]))
    }

    fn wait(&self, what: &str, is: impl Fn(&serde_json::Value) -> bool) {
        let until = Instant::now() + LONG;
        loop {
            let output = self.fm(&["list", "--json"]);
            if code(&output) == 0 && is(&json(&output)[0]) {
                return;
            }
            assert!(Instant::now() < until, "{what}: {} {}", out(&output), err(&output));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn ready(&self) {
        self.wait("the device and both agents", |device| {
            device["state"] == "ready"
                && device["hosts"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .all(|host| host["agent"] == "connected")
        });
    }
}

fn held(device: &serde_json::Value, host: usize) -> u64 {
    device["hosts"][host]["held"].as_u64().unwrap()
}

#[test]
fn what_makes_no_sense_serves_nothing() {
    let rack = Rack::new();
    let socket = rack.text("fabric");
    for (words, says) in [
        (&["--capacity", "100M"][..], "expected a multiple of 256MiB"),
        (&["--hosts", "0"], "hosts is 0; expected 1 to 255"),
        (&["--block", "3M"], "expected a power of two"),
        (&["--regions", "9"], "expected 1 to 8"),
        (&["--name", "a b"], "expected 1 to 64 letters"),
        (&["--tcp", "nowhere"], "expected"),
    ] {
        let output = memtide(&["fabric", "serve", "--socket", &socket]).args(words).output();
        let output = output.unwrap();
        assert_eq!(code(&output), 2, "{words:?}: {output:?}");
        assert!(err(&output).contains(says), "{words:?}: {}", err(&output));
        assert!(!rack.at("fabric").exists());
    }
    for (words, says) in [
        (&[][..], "no device"),
        (&["--device", "pool"], "expected NAME=ADDRESS"),
        (&["--device", "a=/x", "--host", "h"], "expected [DEVICE/]NAME=NUMBER"),
        (&["--device", "a=/x", "--host", "b/h=0"], "not among --device"),
        (&["--device", "a=/x", "--host", "h=0", "--host", "h=1"], "twice"),
        (&["--device", "a=/x", "--device", "a=/y"], "twice"),
        (&["--config", "/no/such/file"], "cannot read"),
    ] {
        let output = memtide(&["fm", "serve", "--socket", &rack.text("fm")]).args(words).output();
        let output = output.unwrap();
        assert_eq!(code(&output), 2, "{words:?}: {output:?}");
        assert!(err(&output).contains(says), "{words:?}: {}", err(&output));
    }
    let output = rack.fm(&["list"]);
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("start one with: memtide fm serve"), "{}", err(&output));
}

#[test]
fn a_second_server_does_not_take_the_place_of_a_living_one() {
    let rack = Rack::new();
    let mut fabric = rack.fabric();
    let output = memtide(&["fabric", "serve", "--socket", &rack.text("fabric")]).output().unwrap();
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains(&format!("(pid {})", fabric.0.id())), "{}", err(&output));
    assert_eq!(fabric.terminate(), 0);
    assert!(!rack.at("fabric").exists());
    let manager = rack.manager();
    let output = rack.manager_command().output().unwrap();
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("in use by another manager"), "{}", err(&output));
    drop(manager);
}

#[test]
fn requests_are_told_in_words_and_in_json() {
    let rack = Rack::new();
    let (_fabric, _manager) = (rack.fabric(), rack.manager());
    let (_one, _two) = (rack.host(0), rack.host(1));
    rack.ready();
    let output = rack.fm(&["add", "256M", "--host", "h0"]);
    assert_eq!(code(&output), 0, "{output:?}");
    assert_eq!(out(&output), "256MiB of 256MiB are with h0 now\n");
    let output = rack.fm(&["release", "128M", "--host", "h0", "--json"]);
    assert_eq!(code(&output), 0, "{output:?}");
    assert_eq!(json(&output)["returned"], 128 << 20);
    let output = rack.fm(&["move", "128M", "--from", "h0", "--to", "h1"]);
    assert_eq!(code(&output), 0, "{output:?}");
    let text = out(&rack.fm(&["show", "h1"]));
    assert!(text.contains("h1 (number 1): at least 0B, at most all, weight 1"), "{text}");
    assert!(text.contains("+128MiB"), "{text}");
    assert_eq!(code(&rack.fm(&["limits", "--host", "h1", "--maximum", "256M"])), 0);
    let output = rack.fm(&["add", "256M", "--host", "h1"]);
    assert_eq!(code(&output), 2, "{output:?}");
    assert!(err(&output).contains("the maximum of h1"), "{}", err(&output));
    for (words, says) in [
        (&["add", "1M", "--host", "h0"][..], "expected a multiple of"),
        (&["add", "2M", "--host", "nobody"], "expected one that is set up"),
        (&["cancel", "99"], "expected a request that is"),
        (&["show", "nothing"], "expected the name of a device or host"),
        (&["add", "--host", "h0"], "<SIZE"),
    ] {
        let output = rack.fm(words);
        assert_eq!(code(&output), 2, "{words:?}: {output:?}");
        assert!(err(&output).contains(says), "{words:?}: {}", err(&output));
    }
    let device = &rack.devices()[0];
    assert_eq!((held(device, 0), held(device, 1)), (0, 128 << 20));
    let output = rack.fm(&["watch", "--for", "100ms", "--json"]);
    assert_eq!(code(&output), 0, "{output:?}");
    let line: serde_json::Value =
        serde_json::from_str(out(&output).lines().next().unwrap()).unwrap();
    assert_eq!(line["device"]["hosts"][1]["held"], 128 << 20);
}

#[test]
fn each_party_may_be_killed_at_any_time_and_all_goes_on() {
    let rack = Rack::new();
    let mut fabric = Some(rack.fabric());
    let mut manager = Some(rack.manager());
    let mut hosts = [Some(rack.host(0)), Some(rack.host(1))];
    rack.ready();
    let mut random = memtide_units::Random::new(23);
    for round in 0..24 {
        let (from, to) = if round % 2 == 0 { ("h0", "h1") } else { ("h1", "h0") };
        let words: &[&str] = match random.below(3) {
            0 => &["add", "64M", "--host", from, "--deadline", "2s", "--rest", "drop"],
            1 => &["release", "32M", "--host", from, "--deadline", "2s"],
            _ => &["move", "32M", "--from", from, "--to", to, "--deadline", "2s"],
        };
        let mut command = memtide(&["fm"]);
        command.args(words).arg("--socket").arg(rack.at("fm"));
        let mut asking = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(random.below(30_000)));
        // kill -9, and again.
        match random.below(4) {
            0 => {
                drop(manager.take());
                manager = Some(rack.manager());
            }
            1 => {
                let host = random.below(2) as usize;
                drop(hosts[host].take());
                hosts[host] = Some(rack.host(host as u16));
            }
            2 if round % 5 == 0 => {
                // Its memory is gone with it: the hosts have nothing any more.
                drop(fabric.take());
                fabric = Some(rack.fabric());
            }
            _ => {}
        }
        // It ends, one way or another.
        let until = Instant::now() + LONG;
        while asking.try_wait().unwrap().is_none() {
            assert!(Instant::now() < until, "round {round}: {words:?} has no end");
            std::thread::sleep(Duration::from_millis(5));
        }
        rack.ready();
        let device = &rack.devices()[0];
        let (free, capacity) = (device["free"].as_u64().unwrap(), device["capacity"].as_u64());
        assert!(held(device, 0) + held(device, 1) + free <= capacity.unwrap(), "{device}");
        owners_are_apart(device);
    }
    // What is open is ended, and then nothing is lost: all of it can be had by one host.
    for request in json(&rack.fm(&["list", "--requests", "--json"])).as_array().unwrap() {
        if request["report"]["state"] == "Open" {
            let _ = rack.fm(&["cancel", &request["id"].to_string()]);
        }
    }
    for host in 0..2 {
        let has = held(&rack.devices()[0], host);
        if has > 0 {
            let (has, name) = (has.to_string(), format!("h{host}"));
            let output = rack.fm(&["release", &has, "--host", &name, "--deadline", "20s"]);
            assert_eq!(code(&output), 0, "{output:?}");
        }
    }
    rack.wait("all to be free", |device| device["free"] == device["capacity"]);
    let output = rack.fm(&["add", "1G", "--host", "h1"]);
    assert_eq!(code(&output), 0, "{output:?}");
    drop((manager, fabric));
}

/// That no byte is in two hosts' extents.
fn owners_are_apart(device: &serde_json::Value) {
    let mut ranges: Vec<(u64, u64)> = device["hosts"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|host| host["extents"].as_array().unwrap())
        .map(|extent| {
            let (start, length) = (&extent["range"]["start"], &extent["range"]["length"]);
            (start.as_u64().unwrap(), length.as_u64().unwrap())
        })
        .collect();
    ranges.sort_unstable();
    for two in ranges.windows(2) {
        assert!(two[0].0 + two[0].1 <= two[1].0, "{two:?}");
    }
}

#[test]
fn garbage_on_every_socket_harms_nobody() {
    let rack = Rack::new();
    let (_fabric, _manager) = (rack.fabric(), rack.manager());
    let (_one, _two) = (rack.host(0), rack.host(1));
    rack.ready();
    let mut random = memtide_units::Random::new(29);
    for _ in 0..60 {
        for name in ["fabric", "fm", "agents"] {
            let mut stream = UnixStream::connect(rack.at(name)).unwrap();
            let bytes: Vec<u8> = (0..random.below(300)).map(|_| random.below(256) as u8).collect();
            let _ = stream.write_all(&bytes);
        }
    }
    let output = rack.fm(&["add", "128M", "--host", "h1"]);
    assert_eq!(code(&output), 0, "{output:?}");
}
