//! `cargo xtask demo fabric`: a device that two hosts share, on this machine.
//!
//! A software fabric, a manager, and two hosts: each a pool of its own with a near node and what the
//! manager gives it of the device. On host 1 GNU sort works with more memory than is near. While it
//! runs, all of the device's memory is asked back from host 1 for host 2: what sort does not use
//! comes at once, and a program on host 2 uses it; who holds the rest is told. When sort has ended,
//! the rest follows by itself. What sort wrote must be what it writes without memtide.
//!
//! In the end there is a picture of who held what when.

mod picture;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{
    Options,
    shell::{self, Failure, describe, start_failure},
    sorting::{LINES, Running, sort, write_lines},
};

/// How long anything may take to be there.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the demonstration.
pub fn demo(options: &Options) -> Result<(), Failure> {
    let built = match options.get("--bin") {
        Some(directory) => PathBuf::from(directory),
        None => shell::build_release()?,
    };
    let picture =
        options.get("--picture").map_or_else(|| shell::target().join("fabric.svg"), PathBuf::from);
    let directory = std::env::temp_dir().join(format!("memtide-fabric-{}", std::process::id()));
    shell::create_directory(&directory)?;
    let demo = Demo { memtide: built.join("memtide"), directory };
    let outcome = demo.show(&picture);
    let _ = fs::remove_dir_all(&demo.directory);
    outcome
}

struct Demo {
    memtide: PathBuf,
    directory: PathBuf,
}

impl Demo {
    fn show(&self, picture: &Path) -> Result<(), Failure> {
        let (lines, plain, sorted) = (self.at("lines"), self.at("plain"), self.at("sorted"));
        println!("# {LINES} random lines to sort");
        write_lines(&lines)?;
        shell::run(&mut sort(Command::new("sort"), &lines, &plain))?;

        println!("\n# a device of 2 GiB, a manager, two hosts");
        let _fabric = self.serve("fabric", &self.fabric())?;
        let _manager = self.serve("fm", &self.manager())?;
        let _one = self.serve("h1", &self.host(0, "h1")?)?;
        let _two = self.serve("h2", &self.host(1, "h2")?)?;
        self.wait_for("the device and both agents", |text| {
            text.contains(": ready")
                && text.lines().filter(|line| line.ends_with("  connected")).count() == 2
        })?;
        let watch = self.watch()?;

        println!("\n# host 1 gets 1 GiB, and sort runs on it");
        self.fm(&["add", "1G", "--host", "h1"])?;
        let mut running = self.run_sort("h1", &lines, &sorted)?;
        thread::sleep(Duration::from_millis(2500));
        self.fm(&["list"])?;

        println!("\n# all of it is wanted for host 2, while sort runs");
        self.fm(&["move", "1G", "--from", "h1", "--to", "h2", "--deadline", "3s"])?;
        self.fm(&["list"])?;

        println!("\n# host 2 uses what it got at once");
        let second = self.at("second");
        self.run_sort("h2", &lines, &second)?.finish()?;

        println!("\n# sort on host 1 ends, and the rest follows by itself");
        running.finish()?;
        self.wait_for("the rest", |text| {
            text.lines().any(|line| line.trim_start().starts_with("h1") && has_nothing(line))
        })?;
        self.fm(&["list"])?;
        for result in [&sorted, &second] {
            if shell::read(&plain)? != shell::read(result)? {
                return Err(Failure::wrong("sort wrote something else under memtide"));
            }
        }
        println!("# both sorts wrote what sort writes without memtide");
        drop(watch);
        picture::draw(&self.at("watched"), picture)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.memtide);
        command.args(words);
        command
    }

    fn fabric(&self) -> Vec<String> {
        let socket = self.at("fabric");
        ["fabric", "serve", "--capacity", "2G", "--hosts", "2", "--socket"]
            .map(str::to_owned)
            .into_iter()
            .chain([socket.display().to_string()])
            .collect()
    }

    fn manager(&self) -> Vec<String> {
        let device = format!("pool=unix:{}", self.at("fabric").display());
        let agents = format!("unix:{}", self.at("agents").display());
        let socket = self.at("fm").display().to_string();
        [
            "fm", "serve", "--device", &device, "--host", "h1=0", "--host", "h2=1", "--agents",
            &agents, "--socket", &socket,
        ]
        .map(str::to_owned)
        .to_vec()
    }

    fn host(&self, number: u16, name: &str) -> Result<Vec<String>, Failure> {
        let (fabric, agents) = (self.at("fabric"), self.at("agents"));
        // What sort was promised and has not touched may leave with the device's memory: what it needs
        // more then is ordinary memory.
        let text = format!(
            "on_full = \"fallback\"\n\n[[node]]\nname = \"near\"\nkind = \"near\"\nsize = \"256M\"\n\n\
             [[node]]\nname = \"pool\"\nkind = \"far\"\nstore = \"dcd\"\nfabric = \"unix:{}\"\n\
             host = {number}\nmanager = \"unix:{}\"\nhost_name = \"{name}\"\n\
             shared_with = \"everybody\"\n",
            fabric.display(),
            agents.display()
        );
        let path = self.at(&format!("{name}.toml"));
        fs::write(&path, text).map_err(|source| Failure::File { path: path.clone(), source })?;
        let (config, socket) = (path.display().to_string(), self.at(name).display().to_string());
        Ok(["serve", "--config", &config, "--socket", &socket].map(str::to_owned).to_vec())
    }

    /// Starts a server and waits for its socket.
    fn serve(&self, socket: &str, words: &[String]) -> Result<Running, Failure> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut command = self.command(&words);
        println!("$ {} &", describe(&command));
        let child = command.spawn().map_err(|source| start_failure(&command, source))?;
        let running = Running(child);
        let (path, end) = (self.at(socket), Instant::now() + PATIENCE);
        while !path.exists() {
            if Instant::now() > end {
                return Err(Failure::wrong(format!("{} did not appear", path.display())));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(running)
    }

    /// Notes who has what, in the background.
    fn watch(&self) -> Result<Running, Failure> {
        let path = self.at("watched");
        let file = File::create(&path).map_err(|source| Failure::File { path, source })?;
        let mut command = self.command(&["fm", "watch", "--json", "--socket"]);
        command.arg(self.at("fm")).stdout(file);
        let child = command.spawn().map_err(|source| start_failure(&command, source))?;
        Ok(Running(child))
    }

    /// Runs a request, and prints what comes of it. Partly done is an answer, too.
    fn fm(&self, words: &[&str]) -> Result<(), Failure> {
        let mut command = self.command(&["fm"]);
        command.args(words).arg("--socket").arg(self.at("fm"));
        println!("$ {}", describe(&command));
        let status = command.status().map_err(|source| start_failure(&command, source))?;
        match status.code() {
            Some(0 | 3) => Ok(()),
            _ => Err(Failure::Ended { program: "memtide fm".to_owned(), status }),
        }
    }

    /// Until `memtide fm list` says so.
    fn wait_for(&self, what: &str, is: impl Fn(&str) -> bool) -> Result<(), Failure> {
        let end = Instant::now() + PATIENCE;
        loop {
            let mut command = self.command(&["fm", "list", "--socket"]);
            let text = shell::output(command.arg(self.at("fm")))?;
            let text = String::from_utf8_lossy(&text);
            if is(&text) {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(Failure::wrong(format!("{what} did not come:\n{text}")));
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn run_sort(&self, host: &str, from: &Path, to: &Path) -> Result<Running, Failure> {
        let mut command = self.command(&["run", "--socket"]);
        command.arg(self.at(host)).args(["--", "sort"]);
        let mut command = sort(command, from, to);
        println!("$ {} &", describe(&command));
        let child = command.stdin(Stdio::null()).spawn();
        Ok(Running(child.map_err(|source| start_failure(&command, source))?))
    }
}

/// Whether a line of `memtide fm list` says that the host has nothing.
fn has_nothing(line: &str) -> bool {
    line.split_whitespace().nth(1) == Some("0B")
}
