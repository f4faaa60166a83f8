//! The real binary: exit codes, JSON, messages.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use common::{code, err, json, out};

mod common;

const LONG: Duration = Duration::from_secs(20);
const MIB: u64 = 1 << 20;

/// A directory of the test's own, in which everything happens.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("memtide-cli-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The command, with this as its runtime directory.
    fn memtide(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_memtide"));
        command.args(arguments).env("XDG_RUNTIME_DIR", &self.0).env_remove("MEMTIDE_SOCKET");
        // Nothing here needs the real one: any library that every program has anyway.
        command.env("MEMTIDE_PRELOAD", some_library());
        command
    }

    fn output(&self, arguments: &[&str]) -> Output {
        self.memtide(arguments).output().unwrap()
    }

    /// A daemon at the default socket.
    fn serve(&self, arguments: &[&str]) -> Served {
        let mut command = self.memtide(&["serve"]);
        let child = command.args(arguments).stderr(Stdio::piped()).spawn().unwrap();
        let served = Served(child);
        let start = Instant::now();
        while !self.output(&["status"]).status.success() {
            assert!(start.elapsed() < LONG, "the daemon does not answer");
            std::thread::sleep(Duration::from_millis(5));
        }
        served
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The C library of this very process.
fn some_library() -> String {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let paths = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
    paths.into_iter().find(|path| path.contains("/libc.so")).unwrap().to_owned()
}

struct Served(Child);

impl Served {
    fn signal(&self, name: &str) {
        signal(self.0.id(), name);
    }

    fn end(mut self) -> String {
        self.signal("TERM");
        let status = self.0.wait().unwrap();
        assert_eq!(status.code(), Some(0));
        let mut text = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(status.unwrap().success());
}

#[test]
fn a_pool_is_served_looked_at_taken_from_and_added_to() {
    let directory = Directory::new();
    let served = directory.serve(&["--near", "64M", "--far", "128M"]);
    let status = json(&directory.output(&["status", "--json"]));
    assert_eq!(status["pid"], served.0.id());
    assert_eq!(status["nodes"][0]["name"], "near");
    assert_eq!(status["nodes"][1]["free"], 128 * MIB);

    let whole = directory.output(&["give-back", "64M", "--from", "far", "--json"]);
    assert_eq!(code(&whole), 0);
    assert_eq!(
        out(&whole),
        "{\"requested\":67108864,\"returned\":67108864,\"remaining\":0,\"holders\":[],\
         \"ask_again\":false}\n"
    );
    let part = directory.output(&["give-back", "1G", "--from", "far"]);
    assert_eq!(code(&part), 3);
    assert!(out(&part).starts_with("64MiB of 1GiB came back; 960MiB remain"), "{part:?}");

    let text = out(&directory.output(&["status"]));
    assert!(text.contains("OFFLINE") && text.contains("128MiB"), "{text}");

    let added = directory.output(&["add", "64M", "--to", "far", "--zone", "movable"]);
    assert_eq!(out(&added), "64MiB are back on node far, in zone movable\n");
    let added = directory.output(&["add", "64M", "--to", "far", "--json"]);
    assert_eq!((code(&added), json(&added)["added"].as_u64()), (0, Some(64 * MIB)));
    let text = out(&directory.output(&["status"]));
    let zones = "far: 64MiB kernel (64MiB free), 64MiB movable (64MiB free)\n";
    assert!(text.contains(zones) && !text.contains("\nnear: "), "{text}");
    let status = json(&directory.output(&["status", "--json"]));
    let movable = serde_json::json!({"zone": "movable", "online": 64 * MIB, "free": 64 * MIB});
    assert_eq!(status["nodes"][1]["zones"][1], movable);
    let told = served.end();
    assert!(told.contains("serving near 64MiB, far 128MiB at"), "{told}");
    // Nothing is left but the zones, for the next one.
    let left = fs::read_dir(directory.path("memtide")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["memtide.sock.state"]);
    let served = directory.serve(&["--near", "64M", "--far", "128M"]);
    let status = json(&directory.output(&["status", "--json"]));
    assert_eq!(status["nodes"][1]["zones"][1], movable);
    served.end();
}

#[test]
fn a_pool_leaves_nothing_behind() {
    let directory = Directory::new();
    directory.serve(&["--near", "64M", "--far", "128M"]).end();
    let left: Vec<_> = fs::read_dir(directory.path("memtide")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn nonsense_is_refused_with_what_was_expected() {
    let directory = Directory::new();
    let _served = directory.serve(&["--near", "64M", "--far", "64M"]);
    let before = out(&directory.output(&["status", "--json"]));
    for (arguments, said) in [
        (&["give-back"][..], "<SIZE>"),
        (&["give-back", "12X"], "12X"),
        (&["give-back", "-1G"], "-1G"),
        (&["give-back", "64M", "--form", "far"], "--form"),
        (&["give-back", "1.5G"], "expected bytes or one of K, M, G, T, P"),
        (&["give-back", "0"], "size is \"0B\"; expected more than nothing"),
        (&["give-back", "99999999P"], "is larger than 2^64 bytes"),
        (&["give-back", "64M", "--from", "nah"], "from is \"nah\"; expected one of the nodes near"),
        (&["give-back", "64M", "--deadline", "soon"], "expected a duration such as 30s"),
        (&["give-back", "64M", "--deadline", "25h"], "at most 24h"),
        (&["add", "64M"], "--to <NODE>"),
        (&["add", "64M", "--to", "nah"], "to is \"nah\""),
        (
            &["add", "64M", "--to", "near", "--zone", "normal"],
            "[possible values: kernel, movable, prefer-movable, exmem]",
        ),
        (
            &["add", "64M", "--to", "near", "--zone", "exmem"],
            "expected one that node near, in kernel, may have: kernel, movable, prefer-movable",
        ),
        (&["add", "64M", "--to", "near"], "expected at most the 0B that have left node near"),
        (&["retire", "64M"], "--on <NODE>"),
        (&["retire", "1M", "--on", "nah"], "node is \"nah\"; expected one of the nodes near"),
        (
            &["retire", "64M", "--on", "near"],
            "offset is \"64MiB\"; expected less than the 64MiB of node near",
        ),
        (&["move", "--pid", "x", "--to", "far"], "invalid value 'x' for '--pid"),
        (&["move", "--pid", "1", "--to", "nah"], "to is \"nah\""),
        (&["move", "--pid", "1", "--to", "far"], "pid is \"1\"; expected a program of this pool"),
        (&["frobnicate"], "frobnicate"),
        (&["run"], "<CMD>"),
        (&["run", "--near", "4Q", "--", "true"], "4Q"),
        (&["run", "--near", "0", "--", "true"], "size of node near"),
        (&["run", "--store", "disk", "--near", "4M", "--", "true"], "memfd-thp"),
        (&["run", "--socket", "/x", "--store", "memfd", "--", "true"], "--near or --far"),
        (&["serve"], "--config FILE"),
        (&["serve", "--near", "1P"], "at most 64TiB"),
    ] {
        let output = directory.output(arguments);
        assert_eq!(code(&output), 2, "{arguments:?}: {output:?}");
        assert!(err(&output).contains(said), "{arguments:?}: {}", err(&output));
        assert!(output.stdout.is_empty());
    }
    assert_eq!(before, out(&directory.output(&["status", "--json"])), "nothing changed");
}

#[test]
fn no_daemon_is_explained() {
    let directory = Directory::new();
    for arguments in [&["status"][..], &["give-back", "1M"], &["add", "1M", "--to", "near"]] {
        let output = directory.output(arguments);
        assert_eq!(code(&output), 1);
        assert!(err(&output).contains("no memtide daemon at"), "{output:?}");
        assert!(err(&output).contains("memtide/memtide.sock; start one with `memtide serve`"));
    }
    let file = directory.path("file");
    fs::write(&file, "").unwrap();
    let output = directory.output(&["status", "--socket", file.to_str().unwrap()]);
    assert_eq!(code(&output), 1);
    let long = format!("/tmp/{}", "x".repeat(200));
    let output = directory.output(&["status", "--socket", &long]);
    assert!(err(&output).contains("107 bytes"), "{output:?}");
}

#[test]
fn a_second_daemon_is_refused_and_a_dead_one_is_replaced() {
    let directory = Directory::new();
    let mut served = directory.serve(&["--near", "64M"]);
    let pid = served.0.id();
    let second = directory.output(&["serve", "--near", "64M"]);
    assert_eq!(code(&second), 1);
    assert!(err(&second).contains(&format!("already served by pid {pid}")), "{second:?}");
    served.0.kill().unwrap();
    served.0.wait().unwrap();
    assert!(directory.path("memtide/memtide.sock").exists(), "left behind");
    directory.serve(&["--near", "64M"]).end();
}

#[test]
fn what_is_no_socket_is_not_removed() {
    let directory = Directory::new();
    let file = directory.path("precious");
    fs::write(&file, "data").unwrap();
    let output = directory.output(&["serve", "--near", "64M", "--socket", file.to_str().unwrap()]);
    assert_eq!(code(&output), 1);
    assert_eq!(fs::read_to_string(&file).unwrap(), "data");
}

#[test]
fn capacity_that_left_stays_away_from_a_killed_daemons_successor() {
    let directory = Directory::new();
    let served = directory.serve(&["--near", "64M", "--far", "64M"]);
    assert_eq!(code(&directory.output(&["give-back", "32M", "--from", "far"])), 0);
    served.signal("KILL");
    drop(served);
    let _served = directory.serve(&["--near", "64M", "--far", "64M"]);
    let status = json(&directory.output(&["status", "--json"]));
    assert_eq!(status["nodes"][1]["offline"], 32 * MIB);
}

#[test]
fn a_file_is_checked_and_served() {
    let directory = Directory::new();
    let file = directory.path("memtide.toml");
    let socket = directory.path("my.sock");
    let text = format!(
        "socket = {socket:?}\nmode = 0o640\n\n[[node]]\nname = \"near\"\nkind = \"near\"\n\
         size = \"32M\"\n"
    );
    fs::write(&file, &text).unwrap();
    let name = file.to_str().unwrap();
    let good = directory.output(&["check", name]);
    assert_eq!(code(&good), 0);
    assert!(out(&good).contains("good: near 32MiB at"), "{good:?}");

    let mut served = Served(directory.memtide(&["serve", "--config", name]).spawn().unwrap());
    let start = Instant::now();
    while !socket.exists() {
        assert!(start.elapsed() < LONG);
        std::thread::sleep(Duration::from_millis(5));
    }
    let socket_name = socket.to_str().unwrap();
    assert_eq!(code(&directory.output(&["status", "--socket", socket_name])), 0);
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&socket).unwrap());
    assert_eq!(mode & 0o777, 0o640);
    served.0.kill().unwrap();

    fs::write(&file, text.replace("32M", "33")).unwrap();
    for command in ["check", "serve"] {
        let arguments =
            if command == "check" { vec!["check", name] } else { vec!["serve", "--config", name] };
        let bad = directory.output(&arguments);
        assert_eq!(code(&bad), 2);
        let expected = ":7: size of node near \"33\" is not a whole number of blocks; expected a \
                        multiple of 2MiB";
        assert!(err(&bad).contains(expected), "{bad:?}");
    }
    assert_eq!(code(&directory.output(&["check", "/no/such/file"])), 2);
}

#[test]
fn doctor_names_what_is_missing_and_what_grants_it() {
    let directory = Directory::new();
    let output = directory.output(&["doctor", "--json"]);
    let doctor = json(&output);
    assert_eq!(code(&output) == 0, doctor["works"] == true);
    for check in doctor["checks"].as_array().unwrap() {
        assert!(check["why"].as_str().is_some_and(|why| !why.is_empty()), "{check}");
        assert!(
            check["verdict"] == "ok" || check["grant"].is_string() || check["name"] == "kernel",
            "{check}"
        );
    }
    let mut lacking = directory.memtide(&["doctor"]);
    let output = lacking.env("MEMTIDE_PRELOAD", "/nowhere.so").output().unwrap();
    assert_eq!(code(&output), 1);
    assert!(out(&output).contains("MISSING  preload library"), "{output:?}");
    assert!(out(&output).contains("cargo build"), "{output:?}");
}

#[test]
fn manuals_and_completions_come_from_the_same_definitions() {
    let directory = Directory::new();
    let manuals = directory.path("man");
    fs::create_dir(&manuals).unwrap();
    let output = directory.output(&["man", "--output", manuals.to_str().unwrap()]);
    assert_eq!(code(&output), 0, "{output:?}");
    assert!(manuals.join("memtide-give-back.1").exists());
    assert!(out(&directory.output(&["man"])).contains(".TH memtide 1"));
    for shell in ["bash", "zsh", "fish"] {
        let output = directory.output(&["completions", shell]);
        assert!(out(&output).contains("give-back"), "{shell}");
    }
    assert_eq!(code(&directory.output(&["completions", "tcsh"])), 2);
}

#[test]
fn a_reader_that_has_had_enough_is_no_error() {
    let directory = Directory::new();
    let mut child = directory
        .memtide(&["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((code(&output), err(&output)), (0, String::new()));
}

#[test]
fn an_idle_daemon_uses_no_processor() {
    let directory = Directory::new();
    let served = directory.serve(&["--near", "64M"]);
    let ticks = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let switches = |pid: u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    std::thread::sleep(Duration::from_millis(100));
    let before = (ticks(served.0.id()), switches(served.0.id()));
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(before, (ticks(served.0.id()), switches(served.0.id())));
}

/// Whether programs may run in pools here; they may not without rights to userfaultfd.
fn can_run(directory: &Directory) -> bool {
    let works = directory.output(&["doctor"]).status.success();
    works || memtide_skip::skip("needs rights that it has not: see `memtide doctor`")
}

fn run(directory: &Directory, words: &[&str]) -> Command {
    let mut arguments = vec!["run", "--near", "64M", "--"];
    arguments.extend(words);
    directory.memtide(&arguments)
}

#[test]
fn run_ends_as_its_program_ends() {
    let directory = Directory::new();
    if !can_run(&directory) {
        return;
    }
    for (script, expected) in [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 137)] {
        let output = run(&directory, &["sh", "-c", script]).output().unwrap();
        assert_eq!(code(&output), expected, "{output:?}");
    }
    let missing = run(&directory, &["/no/such/program"]).output().unwrap();
    assert_eq!(code(&missing), 127);
    assert!(err(&missing).contains("cannot run /no/such/program"));
    let forbidden = run(&directory, &["/dev/null"]).output().unwrap();
    assert_eq!(code(&forbidden), 126);
    let left: Vec<_> = fs::read_dir(directory.path("memtide")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn run_sets_what_the_library_needs_and_keeps_the_rest() {
    let directory = Directory::new();
    if !can_run(&directory) {
        return;
    }
    let library = Path::new(&some_library()).canonicalize().unwrap();
    let mut command = run(&directory, &["sh", "-c", "echo $LD_PRELOAD $MEMTIDE_SOCKET $OTHER"]);
    let output = command.env("LD_PRELOAD", &library).env("OTHER", "kept").output().unwrap();
    let text = out(&output);
    let words: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(words[0], library.to_str().unwrap());
    assert!(words[1].contains("memtide/memtide-run-"), "{text}");
    assert_eq!(words[2], "kept");
    // The library here is not the real one.
    assert!(err(&output).contains("never joined its pool"), "{output:?}");
}

#[test]
fn a_library_that_is_not_there_is_said_before_anything_runs() {
    let directory = Directory::new();
    let mut command = run(&directory, &["touch", directory.path("ran").to_str().unwrap()]);
    let output = command.env("MEMTIDE_PRELOAD", "/nowhere.so").output().unwrap();
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("is not at /nowhere.so"), "{output:?}");
    assert!(!directory.path("ran").exists());
}

#[test]
fn signals_reach_the_program_and_ignored_ones_stay_ignored() {
    let directory = Directory::new();
    if !can_run(&directory) {
        return;
    }
    let ready = directory.path("ready");
    let script = format!(
        "trap 'exit 9' TERM; trap 'exit 8' USR1; touch {}; while :; do sleep 0.02; done",
        ready.display()
    );
    for (name, expected) in [("TERM", 9), ("USR1", 8)] {
        let mut child =
            run(&directory, &["sh", "-c", &script]).stderr(Stdio::null()).spawn().unwrap();
        let start = Instant::now();
        while !ready.exists() {
            assert!(start.elapsed() < LONG);
            std::thread::sleep(Duration::from_millis(5));
        }
        signal(child.id(), name);
        assert_eq!(child.wait().unwrap().code(), Some(expected));
        fs::remove_file(&ready).unwrap();
    }
    let binary = env!("CARGO_BIN_EXE_memtide");
    let script =
        format!("trap '' HUP; exec {binary} run --near 64M -- grep SigIgn /proc/self/status");
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).env("XDG_RUNTIME_DIR", &directory.0);
    let output = shell.env("MEMTIDE_PRELOAD", some_library()).output().unwrap();
    let text = out(&output);
    let mask = text.split_whitespace().nth(1).and_then(|m| u64::from_str_radix(m, 16).ok());
    assert_eq!(mask.map(|mask| mask & 1), Some(1), "{output:?}");
}

#[test]
fn the_only_private_pool_is_found_and_several_are_listed() {
    let directory = Directory::new();
    if !can_run(&directory) {
        return;
    }
    let start = |directory: &Directory| {
        let mut command = run(directory, &["sleep", "60"]);
        command.stderr(Stdio::null()).spawn().unwrap()
    };
    let mut first = start(&directory);
    let socket =
        |child: &Child| directory.path(&format!("memtide/memtide-run-{}.sock", child.id()));
    let begin = Instant::now();
    // The socket is there before anybody listens.
    let wait_for = |path: PathBuf| {
        let asked = ["status", "--socket", path.to_str().unwrap()];
        while !directory.output(&asked).status.success() {
            assert!(begin.elapsed() < LONG);
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    wait_for(socket(&first));
    assert_eq!(json(&directory.output(&["status", "--json"]))["pid"], first.id());
    let mut second = start(&directory);
    wait_for(socket(&second));
    let output = directory.output(&["status"]);
    assert_eq!(code(&output), 2);
    assert!(err(&output).contains(socket(&first).to_str().unwrap()), "{output:?}");
    assert!(err(&output).contains(socket(&second).to_str().unwrap()), "{output:?}");
    for child in [&mut first, &mut second] {
        signal(child.id(), "TERM");
        assert_eq!(child.wait().unwrap().code(), Some(128 + 15));
    }
}

#[test]
fn run_joins_the_pool_that_is_named_or_served() {
    let directory = Directory::new();
    if !can_run(&directory) {
        return;
    }
    let served = directory.serve(&["--near", "64M"]);
    let default = directory.path("memtide/memtide.sock");
    for arguments in [
        &["run", "--", "sh", "-c", "echo $MEMTIDE_SOCKET"][..],
        &["run", "--socket", default.to_str().unwrap(), "--", "sh", "-c", "echo $MEMTIDE_SOCKET"],
    ] {
        let output = directory.output(arguments);
        assert_eq!(out(&output).trim(), default.to_str().unwrap(), "{output:?}");
    }
    served.end();
    let output = directory.output(&["run", "--socket", default.to_str().unwrap(), "--", "true"]);
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("no memtide daemon at"), "{output:?}");
}

#[test]
fn frames_are_measured() {
    let directory = Directory::new();
    let (peer, frag) = (directory.path("peer.csv"), directory.path("frag.csv"));
    fs::write(&peer, "alloc,x,order,get_avg,put_avg\nother,1,0,40,60\n").unwrap();
    fs::write(&frag, "0,256,512\n").unwrap();
    let smoke = ["bench", "frames", "all", "--memory", "256M", "--iterations", "1"];
    let small = ["--threads", "1,2", "--largest", "1G"];
    let run = |more: &[&str]| directory.output(&[&smoke[..], &small[..], more].concat());

    let found = json(&run(&["--json"]));
    assert_eq!(found["speed"]["rows"].as_array().unwrap().len(), 3 * 2 * 2 * 4);
    assert!(found["speed"]["rows"][0]["pair_ns"]["median"].as_f64().unwrap() > 0.0);
    assert_eq!(found["frag"][0]["steps"].as_array().unwrap().len(), 8);
    assert_eq!(found["scale"][0]["frames"], 1 << 18);

    let csv = directory.path("ours.csv");
    let [peer, frag, csv] = [&peer, &frag, &csv].map(|path| path.to_str().unwrap());
    let peer = format!("rand={peer}");
    let text = run(&["--peer-csv", &peer, "--peer-frag", frag, "--csv", csv]);
    assert!(out(&text).contains("PEER PAIR") && out(&text).contains("100.00"), "{text:?}");
    assert!(out(&text).contains("PEER MOVES") && out(&text).contains("TAKE_AT"), "{text:?}");
    assert_eq!(fs::read_to_string(csv).unwrap().lines().count(), 1 + 3 * 2 * 2 * 4);
}

#[test]
fn the_simulator_is_measured() {
    let directory = Directory::new();
    let smoke = ["bench", "sim", "--rounds", "1", "--accesses", "1000000"];
    let found = json(&directory.output(&[&smoke[..], &["--json"]].concat()));
    assert_eq!(found["rows"].as_array().unwrap().len(), 3 * 3);
    assert_eq!(found["rows"][0]["of_limit"], 1.0);
    assert!(found["rows"][8]["per_second"]["median"].as_f64().unwrap() > 0.0);
    let text = directory.output(&smoke);
    assert!(out(&text).contains("plain loop") && out(&text).contains("OF LIMIT"), "{text:?}");
}

#[test]
fn nonsense_about_frames_is_refused() {
    let directory = Directory::new();
    for (arguments, said) in [
        (&["--order", "19"][..], "expected an order from 0 to 18"),
        (&["--threads", "0"], "0 is not in 1..=1024"),
        (&["--memory", "0"], "memory is \"0B\"; expected more than nothing"),
        (&["--memory", "1P"], "expected 2^35 at most"),
        (&["--peer-csv", "x.csv"], "expected bulk=FILE, repeat=FILE or rand=FILE"),
        (&["bulk", "--order", "18", "--memory", "1G"], "leave none of order 18"),
    ] {
        let output = directory.output(&[&["bench", "frames"], arguments].concat());
        assert_eq!(code(&output), 2, "{arguments:?}: {output:?}");
        assert!(err(&output).contains(said), "{arguments:?}: {}", err(&output));
    }
}

const TENANTS: &str = r#"
[[node]]
name = "near"
kind = "near"
size = "64M"

[[tenant]]
name = "db"
uid = [4000000000]
near = { min = "8M", max = "32M", pinned_max = "2M" }
weight = 4
on_depletion = "wait"
wait = "2m"

[[tenant]]
name = "rest"
near = { max = "16M" }
policy = "bind"
nodes = "near"
"#;

#[test]
fn tenants_are_told_and_explained() {
    let directory = Directory::new();
    let file = directory.path("memtide.toml");
    fs::write(&file, TENANTS).unwrap();
    let file = file.to_str().unwrap();
    let good = directory.output(&["check", file]);
    assert!(out(&good).contains("good: near 64MiB at") && out(&good).contains("for db, rest"));
    assert!(!out(&good).contains("accessed by"));
    let accessor = "[[accessor]]\nname = \"cpu\"\nnodes.near = { read_latency_ns = 100 }\n";
    let with_accessor = directory.path("accessors.toml");
    fs::write(&with_accessor, format!("{TENANTS}{accessor}")).unwrap();
    let good = directory.output(&["check", with_accessor.to_str().unwrap()]);
    assert!(out(&good).ends_with(", accessed by cpu, for db, rest\n"), "{good:?}");
    let _served = directory.serve(&["--config", file]);

    let told = json(&directory.output(&["tenants", "--json"]));
    assert_eq!(told[0]["name"], "db");
    assert_eq!(told[0]["who"][0], "uid 4000000000");
    assert_eq!(
        (told[0]["on_depletion"].as_str(), told[0]["wait_ms"].as_u64()),
        (Some("wait"), Some(120_000))
    );
    let near = &told[0]["kinds"][0];
    assert_eq!((near["kind"].as_str(), near["used"].as_u64()), (Some("near"), Some(0)));
    assert_eq!((near["min"].as_u64(), near["max"].as_u64()), (Some(8 * MIB), Some(32 * MIB)));
    assert_eq!(near["pinned_max"].as_u64(), Some(2 * MIB));
    assert!(told[1]["kinds"][1]["max"].is_null());
    let text = out(&directory.output(&["tenants"]));
    assert!(text.contains("waits 2m") && text.contains("bind near"), "{text}");

    let nothing = directory.output(&["explain"]);
    assert_eq!((code(&nothing), &*out(&nothing)), (0, "nothing has been decided yet\n"));
    assert_eq!(out(&directory.output(&["explain", "--tenant", "db", "--json"])), "[]\n");
    for (arguments, expected) in [
        (&["explain", "--tenant", "cache"][..], "one of the tenants db, rest"),
        (&["explain", "1"], "a program of this pool, or one that ended lately"),
        (&["explain", "1", "--tenant", "db"], "cannot be used with"),
    ] {
        let refused = directory.output(arguments);
        assert_eq!(code(&refused), 2, "{refused:?}");
        assert!(err(&refused).contains(expected), "{refused:?}");
    }
}

#[test]
fn a_label_needs_a_pool_to_join_and_looks_like_one() {
    let directory = Directory::new();
    for (arguments, expected) in [
        (&["run", "--label", "a b", "--", "true"][..], "1 to 64 letters, digits, dots, - and _"),
        (&["run", "--label", "web", "--", "true"], "a pool that the program joins"),
        (&["run", "--label", "web", "--near", "64M", "--", "true"], "cannot be used with"),
    ] {
        let refused = directory.output(arguments);
        assert_eq!(code(&refused), 2, "{refused:?}");
        assert!(err(&refused).contains(expected), "{refused:?}");
    }
}

#[test]
fn a_label_reaches_the_program() {
    let directory = Directory::new();
    let _served = directory.serve(&["--near", "64M"]);
    let print = ["--", "sh", "-c", "echo $MEMTIDE_LABEL"];
    let told = directory.output(&[&["run", "--label", "web"][..], &print].concat());
    // Without userfaultfd nothing runs; that is said elsewhere.
    if code(&told) == 0 {
        assert_eq!(out(&told), "web\n");
    }
}
