//! A machine in a folder, whose attributes behave as the kernel's do.
//!
//! One host bridge with two root ports and a device of 1 GiB behind each, one window of 4 GiB at
//! 64 GiB; 2 GiB since boot on node 0. What the kernel checks when it is written to, the model
//! checks, with the same errors: so a plan in the wrong order fails here as it does there.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use memtide_host::{Root, plan::Kernel};

mod cxl;
mod machine;
mod memory;

pub const MIB: u64 = 1 << 20;
pub const GIB: u64 = 1 << 30;
pub const BLOCK: u64 = 128 * MIB;
pub const WINDOW: u64 = 64 * GIB;

const EBUSY: i32 = 16;
const EINVAL: i32 = 22;
const ENODEV: i32 = 19;
const ENXIO: i32 = 6;
const ENOSPC: i32 = 28;

const CXL: &str = "sys/bus/cxl/devices";
const MEMORY: &str = "sys/devices/system/memory";
const DAX: &str = "sys/bus/dax";

pub struct Model {
    folder: tempfile::TempDir,
    root: Root,
    /// Writes so far.
    pub writes: usize,
    /// Which write fails, from 1, and how.
    pub fail: Option<(usize, i32)>,
    /// After how many writes nobody wants any more.
    pub stop: Option<usize>,
    /// Before which write, from 1, which memory device leaves.
    pub vanishes: Option<(usize, u32)>,
    /// Blocks that cannot be taken offline, with the error.
    pub held: BTreeMap<u64, i32>,
    /// Each write that was tried.
    pub log: Vec<String>,
    dax_ids: BTreeSet<(String, String)>,
}

fn errno(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

impl Model {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let model = Self {
            folder,
            root,
            writes: 0,
            fail: None,
            stop: None,
            vanishes: None,
            held: BTreeMap::new(),
            log: Vec::new(),
            dax_ids: BTreeSet::new(),
        };
        model.set(&format!("{MEMORY}/block_size_bytes"), "8000000");
        model.set(&format!("{MEMORY}/auto_online_blocks"), "offline");
        for number in 0..16 {
            model.add_block(number, 0, "online", "DMA32");
        }
        model.set("proc/zoneinfo", &machine::zoneinfo());
        model.set("proc/cmdline", "console=ttyS0");
        model.set("proc/cpuinfo", "flags\t\t: fpu clflush");
        model.set("sys/kernel/marker", "nothing");
        model.add_cxl();
        for driver in ["kmem", "device_dax"] {
            model.make(&format!("{DAX}/drivers/{driver}"));
        }
        model.make(&format!("{DAX}/devices"));
        model.make("sys/bus/cxl/drivers/cxl_region");
        model
    }

    /// A device with attributes, and the bus's link to it.
    fn device(&self, name: &str, folder: &str, attributes: &[(&str, &str)]) {
        self.make(folder);
        for (attribute, value) in attributes {
            self.set(&format!("{folder}/{attribute}"), value);
        }
        self.make(CXL);
        let target = Path::new("../../../..").join(folder);
        symlink(target, self.root.at(format!("{CXL}/{name}"))).unwrap();
    }

    fn link_to(&self, path: &str, target: &str) {
        let path = self.root.at(path);
        let _ = fs::remove_file(&path);
        symlink(target, path).unwrap();
    }

    fn make(&self, folder: &str) {
        fs::create_dir_all(self.root.at(folder)).unwrap();
    }

    pub fn set(&self, path: &str, value: &str) {
        let path = self.root.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{value}\n")).unwrap();
    }

    pub fn get(&self, path: &str) -> String {
        self.root.text(path).unwrap().unwrap_or_default()
    }

    pub fn number(&self, path: &str) -> u64 {
        self.root.number(path).unwrap().unwrap_or(0)
    }

    pub fn add_block(&self, number: u64, node: u16, state: &str, zones: &str) {
        let folder = format!("{MEMORY}/memory{number}");
        self.set(&format!("{folder}/phys_index"), &format!("{number:08x}"));
        self.set(&format!("{folder}/state"), state);
        self.set(&format!("{folder}/valid_zones"), zones);
        self.make(&format!("{folder}/node{node}"));
    }

    pub fn state(&self, number: u64) -> (String, String) {
        let of = |name| self.get(&format!("{MEMORY}/memory{number}/{name}"));
        (of("state"), of("valid_zones"))
    }

    /// Everything that can be read, by path.
    pub fn snapshot(&self) -> BTreeMap<PathBuf, String> {
        let mut all = BTreeMap::new();
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(self.folder.path()).unwrap().to_owned();
                if path.is_symlink() {
                    all.insert(name, fs::read_link(&path).unwrap().display().to_string());
                } else if path.is_dir() {
                    all.insert(name, "folder".to_owned());
                    folders.push(path);
                } else {
                    // A mode without memory of the device means nothing.
                    let text = if path.ends_with("mode") {
                        String::new()
                    } else {
                        String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned()
                    };
                    all.insert(name, text);
                }
            }
        }
        all
    }

    fn apply(&mut self, file: &str, value: &str) -> io::Result<()> {
        let parts: Vec<&str> = file.split('/').collect();
        match parts.as_slice() {
            ["sys", "devices", "system", "memory", "auto_online_blocks"] => {
                self.set(file, value);
                Ok(())
            }
            ["sys", "devices", "system", "memory", block, "state"] => self.block(block, value),
            ["sys", "bus", "dax", "drivers", driver, what] => self.dax(driver, what, value),
            ["sys", "bus", "cxl", "drivers", "cxl_region", what] => self.region_driver(what, value),
            ["sys", "bus", "cxl", "devices", device, attribute] => {
                if !self.root.exists(file) && *attribute != "delete_region" {
                    return Err(io::ErrorKind::NotFound.into());
                }
                self.cxl(device, attribute, value)
            }
            _ => panic!("no such attribute: {file}"),
        }
    }
}

impl Kernel for Model {
    fn root(&self) -> &Root {
        &self.root
    }

    fn write(&mut self, file: &str, value: &str, _limit: Duration) -> io::Result<()> {
        self.writes += 1;
        self.log.push(format!("{value} > {file}"));
        if let Some((_, device)) = self.vanishes.filter(|(number, _)| *number == self.writes) {
            self.vanish(device);
        }
        match self.fail {
            Some((number, error)) if number == self.writes => Err(errno(error)),
            _ => self.apply(file, value),
        }
    }

    fn pause(&mut self, _time: Duration) {}

    fn is_stopped(&self) -> bool {
        self.stop.is_some_and(|after| self.writes >= after)
    }
}
