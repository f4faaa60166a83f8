//! How fast capacity goes from one host of a fabric to another.
//!
//! A software fabric, a manager and two pools, all of them processes of their own. In each round the
//! same bytes go from host 1 to host 2 twice: unused, which is what the talk costs, and full of
//! memory that a program writes to all the while, which must be copied away first.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use memtide_units::ByteSize;
use serde::Serialize;

use crate::{
    give_back::seconds,
    pool::{Pool, START_WITHIN, Writer},
    report::median,
};

/// What to measure.
#[derive(Clone, Debug)]
pub struct FabricOptions {
    /// The `memtide` command.
    pub memtide: PathBuf,
    /// Bytes that go from host to host.
    pub bytes: ByteSize,
    /// How often.
    pub rounds: u32,
}

/// What was found; medians, in seconds.
#[derive(Clone, Debug, Serialize)]
pub struct FabricReport {
    /// How much went from host to host.
    pub bytes: u64,
    /// Asking the manager for its list: what no request can beat.
    pub command_s: f64,
    /// From the operator's request until a host that had nothing can use the capacity.
    pub add_s: f64,
    /// Until another host can use what nobody used.
    pub unused_s: f64,
    /// Until another host can use what a program was writing to.
    pub occupied_s: f64,
    /// The talk, as a part of the time that the copying takes.
    pub overhead: f64,
}

impl FabricReport {
    /// The table that people read.
    #[must_use]
    pub fn table(&self) -> String {
        let rate = |seconds: f64| self.bytes as f64 / seconds / 1e9;
        format!(
            "the command alone              {:>9.2} ms\n\
             added to a host                {:>9.2} ms\n\
             to another host, unused        {:>9.2} ms  {:>8.2} GB/s\n\
             to another host, in use        {:>9.2} ms  {:>8.2} GB/s\n\
             the talk, of the copying time  {:>9.2} %\n",
            self.command_s * 1e3,
            self.add_s * 1e3,
            self.unused_s * 1e3,
            rate(self.unused_s),
            self.occupied_s * 1e3,
            rate(self.occupied_s),
            self.overhead * 100.0,
        )
    }
}

/// Measures.
///
/// # Errors
/// A process could not be started, or capacity did not arrive.
pub fn bench_fabric(
    options: &FabricOptions,
    mut progress: impl FnMut(u32, u32),
) -> io::Result<FabricReport> {
    let fabric = Fabric::start(options)?;
    let bytes = options.bytes;
    let mut rounds: [Vec<f64>; 4] = Default::default();
    for round in 0..options.rounds {
        progress(round, options.rounds);
        rounds[0].push(seconds(|| fabric.manage(&["list"]))?);
        rounds[1].push(fabric.timed(&["add", "--host", "h1"], 1)?);
        rounds[2].push(fabric.timed(&["move", "--from", "h1", "--to", "h2"], 2)?);
        fabric.timed(&["move", "--from", "h2", "--to", "h1"], 1)?;
        let mut writer = Writer::start(fabric.host(1), bytes, 1000)?;
        writer.mark()?;
        rounds[3].push(fabric.timed(&["move", "--from", "h1", "--to", "h2"], 2)?);
        if writer.mark()?.lost > 0 {
            return Err(io::Error::other("a write was lost"));
        }
        drop(writer);
        fabric.manage(&["release", &bytes.0.to_string(), "--host", "h2"])?;
    }
    progress(options.rounds, options.rounds);
    let [command_s, add_s, unused_s, occupied_s] = rounds.map(|round| median(&round));
    let copying = (occupied_s - unused_s).max(f64::MIN_POSITIVE);
    let overhead = (unused_s - command_s).max(0.0) / copying;
    Ok(FabricReport { bytes: bytes.0, command_s, add_s, unused_s, occupied_s, overhead })
}

/// Everything that takes part.
struct Fabric {
    hosts: [Pool; 2],
    memtide: PathBuf,
    bytes: ByteSize,
    /// The manager, then the device: in the order in which they end.
    _servers: [Server; 2],
    folder: Folder,
}

impl Fabric {
    fn start(options: &FabricOptions) -> io::Result<Self> {
        let FabricOptions { memtide, bytes, .. } = options;
        let folder = Folder::create()?;
        let at = |name: &str| folder.0.join(name).display().to_string();
        let capacity = (bytes.0 * 2).next_multiple_of(256 << 20).to_string();
        let device = ["fabric", "serve", "--capacity", &capacity, "--hosts", "2", "--socket"];
        let device = Server::start(memtide, &device, &folder.0.join("device"))?;
        let (address, agents) = (format!("device=unix:{}", at("device")), at("agents"));
        let manager = ["fm", "serve", "--device", &address, "--host", "h1=0", "--host", "h2=1"];
        let agents_of = ["--agents", &format!("unix:{agents}"), "--socket"];
        let manager = [&manager[..], &agents_of[..]].concat();
        let manager = Server::start(memtide, &manager, &folder.0.join("fm"))?;
        let host = |number: u16| -> io::Result<Pool> {
            let config = folder.0.join(format!("h{number}.toml"));
            // The program's memory, and what it keeps besides, moves there.
            let near = ByteSize(bytes.0 * 2);
            fs::write(&config, configuration(number, near, &at("device"), &agents))?;
            let config = config.display().to_string();
            Pool::serve(memtide, folder.0.join(format!("h{number}")), &["--config", &config])
        };
        let hosts = [host(1)?, host(2)?];
        let (memtide, bytes) = (memtide.clone(), *bytes);
        Ok(Self { hosts, memtide, bytes, _servers: [manager, device], folder })
    }

    fn host(&self, number: usize) -> &Pool {
        &self.hosts[number - 1]
    }

    /// Lets the manager do something, in full.
    fn manage(&self, words: &[&str]) -> io::Result<()> {
        let mut command = Command::new(&self.memtide);
        command.arg("fm").args(words).arg("--socket").arg(self.folder.0.join("fm"));
        let output = command.output()?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let also = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(io::Error::other(format!("memtide fm {words:?}: {}: {said}{also}", output.status)))
    }

    /// Seconds until a host can use what the manager was asked to bring there.
    fn timed(&self, words: &[&str], to: usize) -> io::Result<f64> {
        let bytes = self.bytes.0.to_string();
        let words = [words, &[bytes.as_str(), "--deadline", "60s"]].concat();
        let start = Instant::now();
        self.manage(&words)?;
        let until = start + Duration::from_secs(60);
        loop {
            let status = self.host(to).memtide(&["status", "--json"])?;
            let there = start.elapsed().as_secs_f64();
            let free = status["nodes"].as_array().map_or(0, |nodes| {
                let pool = nodes.iter().find(|node| node["name"] == "pool");
                pool.and_then(|node| node["free"].as_u64()).unwrap_or(0)
            });
            if free >= self.bytes.0 {
                return Ok(there);
            }
            if Instant::now() > until {
                return Err(io::Error::other(format!("memtide fm {words:?}: nothing arrived")));
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A host whose programs use the device first.
fn configuration(number: u16, near: ByteSize, device: &str, agents: &str) -> String {
    format!(
        "on_full = \"fallback\"\n\n[placement]\norder = [\"pool\", \"near\"]\n\n\
         [[node]]\nname = \"near\"\nkind = \"near\"\nsize = \"{near}\"\n\n\
         [[node]]\nname = \"pool\"\nkind = \"far\"\nstore = \"dcd\"\nfabric = \"unix:{device}\"\n\
         host = {}\nmanager = \"unix:{agents}\"\nhost_name = \"h{number}\"\n\
         shared_with = \"everybody\"\n",
        number - 1
    )
}

/// A process that serves at a socket until it is dropped.
struct Server(Child);

impl Server {
    fn start(memtide: &Path, words: &[&str], socket: &Path) -> io::Result<Self> {
        let mut command = Command::new(memtide);
        let quiet = command.args(words).arg(socket).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Self(quiet.spawn()?);
        let until = Instant::now() + START_WITHIN;
        while !socket.exists() {
            if Instant::now() > until {
                return Err(io::Error::other(format!("memtide {words:?} does not serve")));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder that is gone afterwards.
struct Folder(PathBuf);

impl Folder {
    fn create() -> io::Result<Self> {
        let path =
            std::env::temp_dir().join(format!("memtide-bench-fabric-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
