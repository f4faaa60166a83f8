//! One manager and two guests, each with `memtide dcd serve` on a stock kernel: capacity goes to
//! one, is used, and goes to the other.
//!
//! At the other end is QEMU's device. It has one host, so each guest has a device of its own; the
//! manager's shadow of them (`memtide_fabric`, `backend::qmp`) counts what one guest has as taken
//! for both.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use memtide_testbed::{Background, Error, Guest, Initramfs, machines, ready};
use serde_json::{Value, json};

use super::kit::{self, BLOCK, GIB, LONG};

/// `memtide fm serve` on this computer; dropped, it is killed.
struct Manager {
    child: Child,
    folder: PathBuf,
}

impl Manager {
    /// For two guests whose control sockets are in the folder.
    fn start(folder: &Path, agents: &str) -> Self {
        let device = format!("pool=qmp:{0}/0.qmp,mem0+{0}/1.qmp,mem0", folder.display());
        let log = || File::options().create(true).append(true).open(folder.join("log")).unwrap();
        let child = Command::new(memtide_e2e::memtide())
            .args(["fm", "serve", "--device", &device, "--host", "h1=0", "--host", "h2=1"])
            .args(["--agents", agents, "--socket"])
            .arg(folder.join("fm"))
            .stdin(Stdio::null())
            .stdout(log())
            .stderr(log())
            .spawn()
            .expect("memtide starts");
        let manager = Self { child, folder: folder.to_owned() };
        manager.wait("it listens", || folder.join("fm").exists().then_some(()));
        manager
    }

    /// An operator's command, which must end with this code; what it prints.
    #[track_caller]
    fn fm(&self, words: &str, code: i32) -> String {
        let output = Command::new(memtide_e2e::memtide())
            .arg("fm")
            .args(words.split(' '))
            .arg("--socket")
            .arg(self.folder.join("fm"))
            .output()
            .expect("memtide starts");
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let stderr = String::from_utf8_lossy(&output.stderr);
        let log = self.log();
        assert_eq!(output.status.code(), Some(code), "fm {words}: {stdout}{stderr}\n{log}");
        stdout
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    #[track_caller]
    fn wait<T>(&self, what: &str, look: impl Fn() -> Option<T>) -> T {
        let until = Instant::now() + LONG;
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(Instant::now() < until, "waiting until {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn list(&self) -> Value {
        serde_json::from_str(&self.fm("list --json", 0)).expect("JSON")
    }

    /// Waits until the device is read, and hosts have this much.
    #[track_caller]
    fn settles_at(&self, held: [u64; 2]) -> Value {
        self.wait(&format!("hosts have {held:?}"), || {
            let list = self.list();
            let device = &list[0];
            let hosts = [0, 1].map(|host| device["hosts"][host]["held"].as_u64());
            (device["state"] == "ready" && hosts == held.map(Some)).then(|| list.clone())
        })
    }

    fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
        fs::remove_file(self.folder.join("fm")).expect("it was there");
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A guest in a network of its own, with a control socket for the manager.
fn boot(folder: &Path, number: usize, programs: &[PathBuf]) -> Result<Guest, Error> {
    let machine = machines::cxl_set_aside()
        .kernel_argument("numa_balancing=disable")
        .user_network()
        .control(folder.join(format!("{number}.qmp")));
    let memtide = memtide_e2e::memtide();
    let mut initramfs = Initramfs::new().module("virtio_net").program(memtide, "/bin/memtide");
    for program in programs {
        let name = program.file_name().expect("a program").to_string_lossy().into_owned();
        initramfs = initramfs.program(program, &format!("/bin/{name}"));
    }
    let guest = Guest::boot_with(&machine, &initramfs)?;
    guest.load_modules(&["virtio_net"])?;
    guest.wait_until(LONG, "[ -e /sys/class/net/eth0 ]")?;
    guest.sh("ip address add 10.0.2.15/24 dev eth0 && ip link set eth0 up")?;
    Ok(guest)
}

/// Begins to serve a guest's device.
fn serve<'a>(guest: &'a Guest, port: u16, name: &str) -> Result<Background<'a>, Error> {
    let manager = format!("--manager tcp:10.0.2.2:{port} --host-name {name}");
    let agent = guest.start(&format!("exec memtide dcd serve --deadline 5s {manager}"))?;
    agent
        .wait_for_output(LONG, &format!("telling the manager at tcp:10.0.2.2:{port} as {name}"))?;
    Ok(agent)
}

#[track_caller]
fn has_online(guest: &Guest, bytes: u64) {
    let status = kit::json(guest, "dcd status", 0);
    let told = ["accepted", "online"].map(|key| kit::number(&status, key));
    assert_eq!(told, [bytes, bytes], "{status}");
    let blocks = match bytes / BLOCK {
        0 => String::new(),
        count => format!("{count} online Movable"),
    };
    assert_eq!(kit::blocks(guest, 1).expect("the guest lives"), blocks, "the kernel agrees");
}

#[test]
fn capacity_goes_to_one_guest_and_on_to_the_other() -> Result<(), Error> {
    if !ready() {
        return Ok(());
    }
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let programs = [kit::program("holder")];
    let guests = [boot(folder, 0, &programs)?, boot(folder, 1, &programs)?];
    let port = {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        free.local_addr().expect("it has one").port()
    };
    let agents = format!("tcp:127.0.0.1:{port}");
    let mut manager = Manager::start(folder, &agents);

    // Nobody has said what the guests have: it is not known, and that is said.
    let waits = "no agent of host 0 has said yet what it has accepted";
    manager.wait("it is read", || manager.fm("list", 0).contains(waits).then_some(()));
    let _first = serve(&guests[0], port, "h1")?;
    let waits = "no agent of host 1 has said yet what it has accepted";
    manager.wait("one is known", || manager.fm("list", 0).contains(waits).then_some(()));
    let _second = serve(&guests[1], port, "h2")?;
    manager.settles_at([0, 0]);

    // To one; a program lies on it, and cannot be moved in part.
    manager.fm("add 512M --host h1 --deadline 120s", 0);
    manager.settles_at([4 * BLOCK, 0]);
    has_online(&guests[0], 4 * BLOCK);
    let run = "exec memtide run --near node0 --far node1 --placement far-first --";
    let pins = guests[0].start(&format!("{run} holder pins 4"))?;
    pins.wait_for_output(LONG, "ready")?;

    // On to the other: what can go, and who holds the rest.
    let said = manager.fm("move 512M --from h1 --to h2 --deadline 120s", 3);
    assert!(said.contains("holder (pid "), "{said}\n{}", manager.log());
    let list = manager.wait("what came is with the other", || {
        let list = manager.list();
        let held = |host: usize| list[0]["hosts"][host]["held"].as_u64().unwrap_or(0);
        (held(1) > 0 && held(0) + held(1) == 4 * BLOCK).then(|| list.clone())
    });
    let moved = list[0]["hosts"][1]["held"].as_u64().expect("a number");
    assert!((BLOCK..4 * BLOCK).contains(&moved), "{list}");
    has_online(&guests[1], moved);

    // A manager that is killed finds all of it again, from what the agents say.
    manager.kill();
    manager = Manager::start(folder, &agents);
    manager.settles_at([4 * BLOCK - moved, moved]);

    // The program ends with all that it wrote, and the rest follows by itself.
    pins.signal("TERM")?;
    let output = pins.wait(LONG)?;
    assert!(output.stdout.contains("intact "), "{}{}", output.stdout, output.stderr);
    manager.settles_at([0, 4 * BLOCK]);
    has_online(&guests[0], 0);
    has_online(&guests[1], 4 * BLOCK);
    let plain = guests[1].start(&format!("{run} holder plain 4"))?;
    plain.wait_for_output(LONG, "ready")?;
    plain.signal("TERM")?;
    let output = plain.wait(LONG)?;
    assert!(output.stdout.contains("intact "), "{}{}", output.stdout, output.stderr);

    // More than the pool has is nobody's, and force is not QEMU's to use.
    let said = manager.fm(&format!("add {}M --host h1 --deadline 120s", GIB >> 19), 3);
    assert!(said.contains("512MiB not to be had"), "{said}");
    manager.settles_at([12 * BLOCK, 4 * BLOCK]);
    let forced = guests[1].qmp().execute(
        "cxl-release-dynamic-capacity",
        json!({
            "path": "/machine/peripheral/mem0", "host-id": 0, "region": 0,
            "removal-policy": "prescriptive", "forced-removal": true,
            "extents": [{ "offset": 0, "len": 4 * BLOCK }],
        }),
    );
    let refused = forced.expect_err("QEMU 10.0 does not").to_string();
    assert!(refused.contains("Forced removal not supported yet"), "{refused}");
    for guest in guests {
        kit::healthy(&guest)?;
        guest.powerdown()?;
    }
    Ok(())
}
