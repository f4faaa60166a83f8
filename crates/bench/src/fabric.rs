//! How fast capacity goes from one host of a fabric to another.
//!
//! A software fabric, a manager and two pools, all of them processes of their own. In each round
//! the same bytes go from host 1 to host 2 twice: unused, and full of memory that a program writes
//! to all the while. What no such move can beat is measured in the same round: a plain copy,
//! punching as much out of a file, and writing to the disk that the manager's store is on.
//!
//! # What is timed
//! From the operator's request to *usable*: the other host says that it has that much free. The
//! request is sent on a connection that is there, and the host is asked in the same way, at short
//! intervals: no process is started meanwhile. *Answered* is when the manager says that all is
//! done, which it does when that is on its disk.
//!
//! # What is what
//! * **The talk** is all that is not about bytes: messages of operator, manager, device and hosts,
//!   decisions of theirs, writes to the disk. It is the unused case, whole: nothing is copied
//!   there, and the holes that are punched have nothing in them.
//! * **The copying** is what the used case takes longer: orders to the program, copies, pages of
//!   the other node, pages of the device that are made empty. Messages that are needed because
//!   there is something to copy are in here, too: each is about a copy.
//! * **The machine's own** is the least that the copying could take: a plain copy of as many bytes
//!   between pages that are there, by one processor, and punching them out.
//!
//! The talk is told as a part of both. It does not grow with the bytes, so it is told with them.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use memtide_client::{Answer, request};
use memtide_cxl::manager::{
    Ending, Forcing, HostName, Place, Policy, Report, Request, Rest, State, What,
};
use memtide_fabric::manager::Client;
use memtide_proto::ControlRequest;
use memtide_sys::memfd::Pages;
use memtide_units::{ByteSize, Tag};
use serde::Serialize;

use crate::{
    give_back::{punch, seconds},
    limits::Limits,
    pool::{Pool, START_WITHIN, Writer},
    report::median,
};

/// How long capacity may take to arrive.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks whether it has: short against what is measured, long against a look.
const LOOK: Duration = Duration::from_micros(200);
/// Pageblocks of the plain copy: more than the processor's caches hold.
const COPIED: usize = 128;

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
    /// One small write to the disk that the manager's store is on.
    pub sync_s: f64,
    /// Asking a host for its status: how exact the times are at best.
    pub look_s: f64,
    /// From the operator's request until a host that had nothing can use the capacity.
    pub add_s: f64,
    /// Until another host can use what nobody used: the talk.
    pub unused_s: f64,
    /// Until the manager answers that it can.
    pub unused_answered_s: f64,
    /// Until another host can use what a program was writing to.
    pub occupied_s: f64,
    /// Until the manager answers that it can.
    pub occupied_answered_s: f64,
    /// A plain copy of as many bytes.
    pub copy_s: f64,
    /// Punching as much out of a file.
    pub punch_s: f64,
    /// What the used case takes longer than the unused one.
    pub copying_s: f64,
    /// The talk, as a part of the copying.
    pub overhead: f64,
    /// The talk, as a part of the plain copy and the punching.
    pub overhead_of_machine: f64,
}

impl FabricReport {
    /// The table that people read.
    #[must_use]
    pub fn table(&self) -> String {
        let time = |name: &str, seconds: f64| format!("{name:<34} {:>9.2} ms", seconds * 1e3);
        let rate = |name: &str, seconds: f64| {
            let rate = self.bytes as f64 / seconds / 1e9;
            format!("{}  {rate:>8.2} GB/s", time(name, seconds))
        };
        let part = |name: &str, part: f64| format!("{name:<34} {:>9.2} %", part * 100.0);
        let lines = [
            time("a write to the manager's disk", self.sync_s),
            time("asking a host", self.look_s),
            time("added to a host", self.add_s),
            time("to another host, unused: the talk", self.unused_s),
            time("  answered by the manager", self.unused_answered_s),
            rate("to another host, in use", self.occupied_s),
            time("  answered by the manager", self.occupied_answered_s),
            rate("  the copying", self.copying_s),
            rate("a plain copy of as much", self.copy_s),
            rate("punching out as much", self.punch_s),
            part("give-back, of a plain copy's speed", self.copy_s / self.occupied_s),
            part("the talk, of the copying", self.overhead),
            part("the talk, of plain copy and punch", self.overhead_of_machine),
        ];
        lines.map(|line| line + "\n").concat()
    }
}

/// What the rounds measured, each figure by itself.
#[derive(Default)]
struct Rounds {
    sync: Vec<f64>,
    look: Vec<f64>,
    add: Vec<f64>,
    unused: Vec<f64>,
    unused_answered: Vec<f64>,
    occupied: Vec<f64>,
    occupied_answered: Vec<f64>,
    copy: Vec<f64>,
    punch: Vec<f64>,
}

/// Measures.
///
/// # Errors
/// A process could not be started, or capacity did not arrive.
pub fn bench_fabric(
    options: &FabricOptions,
    mut progress: impl FnMut(u32, u32),
) -> io::Result<FabricReport> {
    let mut fabric = Fabric::start(options)?;
    let mut rounds = Rounds::default();
    for round in 0..options.rounds {
        progress(round, options.rounds);
        rounds.measure(&mut fabric)?;
    }
    progress(options.rounds, options.rounds);
    Ok(rounds.report(options.bytes))
}

impl Rounds {
    fn measure(&mut self, fabric: &mut Fabric) -> io::Result<()> {
        let bytes = fabric.bytes;
        let copied = Limits::new(COPIED, Pages::Small)?;
        self.copy.push(bytes.0 as f64 / copied.plain_copy()?);
        drop(copied);
        self.punch.push(punch(bytes, Pages::Small)?);
        self.sync.push(fabric.sync()?);
        self.look.push(seconds(|| fabric.free(2).map(drop))?);
        self.add.push(fabric.add()?.usable);
        let unused = fabric.relocate(1, 2)?;
        self.unused.push(unused.usable);
        self.unused_answered.push(unused.answered);
        fabric.relocate(2, 1)?;
        let mut writer = Writer::start(fabric.host(1), bytes, 1000)?;
        writer.mark()?;
        let occupied = fabric.relocate(1, 2)?;
        self.occupied.push(occupied.usable);
        self.occupied_answered.push(occupied.answered);
        if writer.mark()?.lost > 0 {
            return Err(io::Error::other("a write was lost"));
        }
        drop(writer);
        fabric.release(2)
    }

    fn report(&self, bytes: ByteSize) -> FabricReport {
        let (unused_s, occupied_s) = (median(&self.unused), median(&self.occupied));
        let (copy_s, punch_s) = (median(&self.copy), median(&self.punch));
        let copying_s = (occupied_s - unused_s).max(f64::MIN_POSITIVE);
        FabricReport {
            bytes: bytes.0,
            sync_s: median(&self.sync),
            look_s: median(&self.look),
            add_s: median(&self.add),
            unused_s,
            unused_answered_s: median(&self.unused_answered),
            occupied_s,
            occupied_answered_s: median(&self.occupied_answered),
            copy_s,
            punch_s,
            copying_s,
            overhead: unused_s / copying_s,
            overhead_of_machine: unused_s / (copy_s + punch_s),
        }
    }
}

/// Everything that takes part.
struct Fabric {
    operator: Client,
    hosts: [Pool; 2],
    bytes: ByteSize,
    /// The manager, then the device: in the order in which they end.
    _servers: [Server; 2],
    folder: Folder,
}

/// How long a request took; in seconds.
struct Times {
    /// Until the capacity could be used where it was to go.
    usable: f64,
    /// Until the manager said so.
    answered: f64,
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
        let operator = Client::connect(&folder.0.join("fm")).map_err(io::Error::other)?;
        Ok(Self { operator, hosts, bytes: *bytes, _servers: [manager, device], folder })
    }

    fn host(&self, number: usize) -> &Pool {
        &self.hosts[number - 1]
    }

    fn add(&mut self) -> io::Result<Times> {
        let request = Request::Add {
            to: place(1),
            size: self.bytes.0,
            tag: Tag::NULL,
            policy: Policy::Free,
            rest: Rest::Stand,
            deadline: Some(PATIENCE),
        };
        self.timed(request, 1)
    }

    /// All that one host has goes to another.
    fn relocate(&mut self, from: usize, to: usize) -> io::Result<Times> {
        let request = Request::Move {
            from: place(from),
            to: name(to),
            size: self.bytes.0,
            rest: Rest::Stand,
            deadline: Some(PATIENCE),
        };
        self.timed(request, to)
    }

    /// A host gives all back.
    fn release(&mut self, host: usize) -> io::Result<()> {
        let request = Request::Release {
            from: place(host),
            what: What::Size(self.bytes.0),
            forcing: Forcing::Never,
            rest: Rest::Stand,
            deadline: Some(PATIENCE),
        };
        let id = self.operator.ask(request).map_err(io::Error::other)?;
        let report = self.operator.report(id).map_err(io::Error::other)?;
        is_done(&report)
    }

    /// How long it takes until a host can use what the manager was asked to bring there.
    fn timed(&mut self, request: Request, to: usize) -> io::Result<Times> {
        let start = Instant::now();
        let id = self.operator.ask(request).map_err(io::Error::other)?;
        while self.free(to)? < self.bytes {
            if start.elapsed() > PATIENCE {
                return Err(io::Error::other(format!("nothing arrived at host {to}")));
            }
            thread::sleep(LOOK);
        }
        let usable = start.elapsed().as_secs_f64();
        let report = self.operator.report(id).map_err(io::Error::other)?;
        let answered = start.elapsed().as_secs_f64();
        is_done(&report)?;
        Ok(Times { usable, answered })
    }

    /// What a host has of the device and nobody uses.
    fn free(&self, host: usize) -> io::Result<ByteSize> {
        let socket = &self.host(host).socket;
        let answer = request(socket, ControlRequest::Status, &mut |_, _| ());
        let Answer::Status(status) = answer.map_err(io::Error::other)? else {
            return Err(io::Error::other("the daemon does not tell its status"));
        };
        let pool = status.nodes.iter().find(|node| node.name == "pool");
        Ok(pool.map_or(ByteSize(0), |node| node.free))
    }

    /// A small write to a file beside the manager's store, until it is on the disk.
    fn sync(&self) -> io::Result<f64> {
        let path = self.folder.0.join("sync");
        fs::write(&path, [0; 4096])?;
        let file = fs::File::options().write(true).open(&path)?;
        file.sync_all()?;
        seconds(|| {
            std::os::unix::fs::FileExt::write_all_at(&file, &[1; 4096], 0)?;
            file.sync_data()
        })
    }
}

fn name(host: usize) -> HostName {
    format!("h{host}").parse().expect("a short word")
}

fn place(host: usize) -> Place {
    Place { host: name(host), device: None, region: None }
}

fn is_done(report: &Report) -> io::Result<()> {
    match report.state {
        State::Ended(Ending::Done) => Ok(()),
        _ => Err(io::Error::other(format!("the manager did not do all: {report:?}"))),
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
