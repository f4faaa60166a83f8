//! QEMU, as far as a manager sees it: a QMP socket, and a device of which only its guest knows what
//! became of an offer.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Write},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use memtide_units::DpaRange;
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;
/// Static memory, and so where the first region begins.
pub const BASE: u64 = 1 << 30;
/// Dynamic capacity, in two regions.
pub const SIZE: u64 = 1 << 30;

/// How it behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manners {
    Good,
    /// It reads, and says nothing.
    Silent,
    /// It answers with what is no JSON.
    Garbage,
    /// It answers somebody else.
    OtherId,
    /// A line without an end.
    Endless,
    /// Events, as fast as they are read, and no answer.
    Events,
}

#[derive(Debug)]
pub struct Device {
    pub serial: u64,
    pub manners: Manners,
    /// Chains that the guest has not answered.
    pub pending: VecDeque<Vec<DpaRange>>,
    pub accepted: Vec<DpaRange>,
    /// What the guest was asked for.
    pub asked: VecDeque<DpaRange>,
    /// All commands that were given.
    pub told: Vec<Value>,
    streams: Vec<UnixStream>,
}

pub struct Qemu {
    pub path: PathBuf,
    device: Arc<Mutex<Device>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Qemu {
    pub fn start(path: &Path, serial: u64) -> Self {
        let device = Device {
            serial,
            manners: Manners::Good,
            pending: VecDeque::new(),
            accepted: Vec::new(),
            asked: VecDeque::new(),
            told: Vec::new(),
            streams: Vec::new(),
        };
        let device = Arc::new(Mutex::new(device));
        let stop = Arc::new(AtomicBool::new(false));
        let listener = UnixListener::bind(path).unwrap();
        let (known, ends) = (Arc::clone(&device), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ends.load(Ordering::SeqCst) {
                    return;
                }
                let stream = stream.unwrap();
                known.lock().unwrap().streams.push(stream.try_clone().unwrap());
                serve(stream, &known);
            }
        });
        Self { path: path.to_owned(), device, stop, thread: Some(thread) }
    }

    pub fn device(&self) -> MutexGuard<'_, Device> {
        self.device.lock().unwrap()
    }

    /// Whoever is connected is no more.
    pub fn disconnect(&self) {
        for stream in self.device().streams.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.disconnect();
        let _ = UnixStream::connect(&self.path);
        self.disconnect();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn serve(mut stream: UnixStream, device: &Mutex<Device>) {
    let greeting = json!({ "QMP": { "version": { "qemu": { "major": 10 } }, "capabilities": [] } });
    if writeln!(stream, "{greeting}").is_err() {
        return;
    }
    let reader = BufReader::new(stream.try_clone().unwrap());
    for line in reader.lines() {
        let Ok(line) = line else { return };
        let request: Value = serde_json::from_str(&line).unwrap();
        // QEMU answers before its guest does anything.
        let mut device = device.lock().unwrap();
        let (answer, manners) = (device.answer(&request), device.manners);
        if manners != Manners::Good {
            drop(device);
            misbehave(&mut stream, manners);
            continue;
        }
        let event = json!({ "event": "RTC_CHANGE", "data": {} });
        if stream.write_all(format!("{event}\n{answer}\n").as_bytes()).is_err() {
            return;
        }
    }
}

/// Who is disconnected for that reads no more; the next line tells.
fn misbehave(stream: &mut UnixStream, manners: Manners) {
    let said = match manners {
        Manners::Good | Manners::Silent => return,
        Manners::Garbage => "what?\n".to_owned(),
        Manners::OtherId => format!("{}\n", json!({ "return": {}, "id": 12345 })),
        Manners::Endless => "x".repeat(3 << 20),
        Manners::Events => {
            let events = "{\"event\": \"STOP\"}\n".repeat(1 << 10);
            while stream.write_all(events.as_bytes()).is_ok() {}
            return;
        }
    };
    let _ = stream.write_all(said.as_bytes());
}

impl Device {
    /// Those in its event log: what the guest has done something about it has taken out.
    pub fn records(&self) -> usize {
        self.pending.iter().flatten().count() + self.asked.len()
    }

    fn answer(&mut self, request: &Value) -> Value {
        let arguments = &request["arguments"];
        let command = request["execute"].as_str().unwrap();
        let done = match command {
            "qmp_capabilities" => Ok(json!({})),
            "qom-get" => self.property(
                arguments["path"].as_str().unwrap(),
                arguments["property"].as_str().unwrap(),
            ),
            "cxl-add-dynamic-capacity" | "cxl-release-dynamic-capacity" => {
                self.told.push(request.clone());
                self.change(command, arguments)
            }
            _ => Err(("CommandNotFound", "no such command")),
        };
        match done {
            Ok(value) => json!({ "return": value, "id": request["id"] }),
            Err((class, desc)) => {
                json!({ "error": { "class": class, "desc": desc }, "id": request["id"] })
            }
        }
    }

    fn property(&self, path: &str, property: &str) -> Result<Value, (&'static str, &'static str)> {
        match (path, property) {
            ("/machine/peripheral/mem0", "sn") => Ok(json!(self.serial)),
            ("/machine/peripheral/mem0", "num-dc-regions") => Ok(json!(2)),
            ("/machine/peripheral/mem0", "volatile-memdev") => Ok(json!("/objects/ram")),
            ("/machine/peripheral/mem0", "persistent-memdev") => Ok(json!("")),
            ("/machine/peripheral/mem0", "volatile-dc-memdev") => Ok(json!("/objects/dc")),
            ("/objects/ram", "size") => Ok(json!(BASE)),
            ("/objects/dc", "size") => Ok(json!(SIZE)),
            _ => Err(("GenericError", "no such object or property")),
        }
    }

    fn change(
        &mut self,
        command: &str,
        arguments: &Value,
    ) -> Result<Value, (&'static str, &'static str)> {
        if arguments["path"] != "/machine/peripheral/mem0" {
            return Err(("DeviceNotFound", "no such device"));
        }
        let region = BASE + arguments["region"].as_u64().unwrap() * (SIZE / 2);
        let extents = arguments["extents"].as_array().unwrap().iter().map(|extent| {
            let offset = extent["offset"].as_u64().unwrap();
            DpaRange::new(region + offset, extent["len"].as_u64().unwrap())
        });
        let extents: Vec<DpaRange> = extents.collect();
        let records = self.records() + extents.len();
        assert!(records <= 8, "QEMU's log holds 8 records, these are {records}: {arguments}");
        assert!(extents.iter().all(|extent| extent.is_aligned(2 * MIB) && extent.length > 0));
        let mut pending = self.pending.iter().flatten();
        let is_pending = pending.any(|range| extents.iter().any(|e| e.overlaps(*range)));
        let has = |extent: &DpaRange| self.accepted.iter().any(|held| held.overlaps(*extent));
        if command == "cxl-add-dynamic-capacity" {
            assert_eq!(arguments["selection-policy"], "prescriptive");
            if is_pending {
                return Err(("GenericError", "cannot add DPA again while still pending"));
            }
            if extents.iter().any(has) {
                return Err(("GenericError", "cannot add DPA already accessible to the same LD"));
            }
            self.pending.push_back(extents);
            return Ok(json!({}));
        }
        assert_eq!(arguments["removal-policy"], "prescriptive");
        if arguments["forced-removal"] == true {
            return Err(("GenericError", "Forced removal not supported yet"));
        }
        if is_pending {
            return Err(("GenericError", "cannot release extent with pending DPA range"));
        }
        if !extents.iter().all(has) {
            return Err(("GenericError", "cannot release extent with non-existing DPA range"));
        }
        self.asked.extend(extents);
        Ok(json!({}))
    }
}
