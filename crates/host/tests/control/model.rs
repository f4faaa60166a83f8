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
            held: BTreeMap::new(),
            log: Vec::new(),
            dax_ids: BTreeSet::new(),
        };
        model.set(&format!("{MEMORY}/block_size_bytes"), "8000000");
        model.set(&format!("{MEMORY}/auto_online_blocks"), "offline");
        for number in 0..16 {
            model.add_block(number, 0, "online", "DMA32");
        }
        model.set("proc/zoneinfo", &zoneinfo());
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

    fn add_cxl(&self) {
        let host = "sys/devices/platform/ACPI0017:00/root0";
        self.device("root0", host, &[]);
        self.make(&format!("{host}/pci0000:0c"));
        self.link_to(&format!("{host}/dport12"), "../../../../pci0000:0c");
        let window = [
            ("devtype", "cxl_decoder_root"),
            ("cap_ram", "1"),
            ("interleave_ways", "1"),
            ("interleave_granularity", "256"),
            ("target_list", "12"),
            ("create_ram_region", "region0"),
            ("locked", "0"),
        ];
        self.device("decoder0.0", &format!("{host}/decoder0.0"), &window);
        self.set(&format!("{CXL}/decoder0.0/start"), &format!("{WINDOW:#x}"));
        self.set(&format!("{CXL}/decoder0.0/size"), &format!("{:#x}", 4 * GIB));
        let port = format!("{host}/port1");
        self.device("port1", &port, &[("decoders_committed", "0")]);
        self.link_to(&format!("{port}/uport"), "../../../../pci0000:0c");
        self.link_to(&format!("{port}/parent_dport"), "../../../../pci0000:0c");
        for number in 0..4 {
            self.decoder("port1", &port, 1, number, "cxl_decoder_switch");
        }
        for device in 0..2 {
            self.link_to(&format!("{port}/dport{device}"), &format!("../0000:0c:0{device}.0"));
            let memdev = format!("sys/devices/pci0000:0c/0000:0c:0{device}.0/0000:0d:0{device}.0");
            let memdev = format!("{memdev}/mem{device}");
            self.device(&format!("mem{device}"), &memdev, &[("ram/size", "0x40000000")]);
            self.link_to(&format!("{memdev}/driver"), "../cxl_mem");
            let number = 2 + device;
            let endpoint = format!("{port}/endpoint{number}");
            self.device(&format!("endpoint{number}"), &endpoint, &[("decoders_committed", "0")]);
            self.link_to(&format!("{endpoint}/uport"), &format!("../mem{device}"));
            self.link_to(&format!("{endpoint}/parent_dport"), &format!("../0000:0c:0{device}.0"));
            for index in 0..2 {
                let kind = "cxl_decoder_endpoint";
                self.decoder(&format!("endpoint{number}"), &endpoint, number, index, kind);
            }
        }
    }

    fn decoder(&self, _port: &str, folder: &str, port: u32, index: u32, kind: &str) {
        let name = format!("decoder{port}.{index}");
        let attributes =
            [("devtype", kind), ("start", "0x0"), ("size", "0x0"), ("locked", "0"), ("region", "")];
        self.device(&name, &format!("{folder}/{name}"), &attributes);
        if kind == "cxl_decoder_endpoint" {
            self.set(&format!("{CXL}/{name}/mode"), "none");
            self.set(&format!("{CXL}/{name}/dpa_size"), "0x0");
            self.set(&format!("{CXL}/{name}/dpa_resource"), "0xffffffffffffffff");
        } else {
            self.set(&format!("{CXL}/{name}/target_list"), "");
        }
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

    /// `state_store` of drivers/base/memory.c.
    fn block(&mut self, block: &str, value: &str) -> io::Result<()> {
        let number: u64 = block.trim_start_matches("memory").parse().unwrap();
        let folder = format!("{MEMORY}/{block}");
        if !self.root.exists(&folder) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let (now, _) = self.state(number);
        let zone = match value {
            "online" | "online_kernel" => "Normal",
            "online_movable" => "Movable",
            "offline" => "Normal Movable",
            _ => return Err(errno(EINVAL)),
        };
        let wanted = if value == "offline" { "offline" } else { "online" };
        if now == wanted {
            return Err(errno(EINVAL));
        }
        if let (Some(&error), "offline") = (self.held.get(&number), value) {
            return Err(errno(error));
        }
        self.set(&format!("{folder}/state"), wanted);
        self.set(&format!("{folder}/valid_zones"), zone);
        Ok(())
    }

    pub fn driver_of(&self, device: &str) -> Option<String> {
        self.root.link(format!("{DAX}/devices/{device}/driver"))
    }

    /// drivers/dax/bus.c and kmem.c.
    fn dax(&mut self, driver: &str, what: &str, device: &str) -> io::Result<()> {
        let id = (driver.to_owned(), device.to_owned());
        match what {
            "new_id" => {
                self.dax_ids.insert(id);
                if self.driver_of(device).is_none() {
                    self.bind_dax(driver, device);
                }
                Ok(())
            }
            "remove_id" => {
                self.dax_ids.remove(&id);
                Ok(())
            }
            "bind" => {
                // A CXL region's device is kmem's by its type.
                let fits = driver == "kmem" || self.dax_ids.contains(&id);
                if self.driver_of(device).is_some() || !fits {
                    return Err(errno(ENODEV));
                }
                self.bind_dax(driver, device);
                Ok(())
            }
            "unbind" if self.driver_of(device).as_deref() == Some(driver) => {
                self.unbind_dax(device);
                Ok(())
            }
            "unbind" => Err(errno(ENODEV)),
            _ => panic!("{what}"),
        }
    }

    pub fn blocks_of(&self, device: &str) -> std::ops::Range<u64> {
        let start = self.number(&format!("{DAX}/devices/{device}/resource"));
        let size = self.number(&format!("{DAX}/devices/{device}/size"));
        start / BLOCK..(start + size) / BLOCK
    }

    fn bind_dax(&self, driver: &str, device: &str) {
        self.link_to(&format!("{DAX}/devices/{device}/driver"), &format!("../{driver}"));
        if driver == "kmem" {
            let automatic = self.get(&format!("{MEMORY}/auto_online_blocks"));
            let (state, zones) = match automatic.as_str() {
                "offline" => ("offline", "Normal Movable"),
                "online_movable" => ("online", "Movable"),
                _ => ("online", "Normal"),
            };
            for number in self.blocks_of(device) {
                self.add_block(number, 1, state, zones);
            }
        }
    }

    /// Memory that is online stays for ever: the worst that can happen, so the model ends there.
    fn unbind_dax(&self, device: &str) {
        if self.driver_of(device).as_deref() == Some("kmem") {
            for number in self.blocks_of(device) {
                assert_eq!(self.state(number).0, "offline", "memory{number} leaked");
                fs::remove_dir_all(self.root.at(format!("{MEMORY}/memory{number}"))).unwrap();
            }
        }
        fs::remove_file(self.root.at(format!("{DAX}/devices/{device}/driver"))).unwrap();
    }

    /// drivers/cxl/core/region.c, for one region at a time.
    fn cxl(&mut self, device: &str, attribute: &str, value: &str) -> io::Result<()> {
        let file = format!("{CXL}/{device}/{attribute}");
        match attribute {
            "create_ram_region" => self.create(device, value),
            "delete_region" => self.delete(value),
            "mode" => {
                self.set(&file, value);
                Ok(())
            }
            "dpa_size" => self.dpa(device, value),
            "interleave_granularity" | "interleave_ways" => {
                if self.number(&format!("{CXL}/{device}/size")) != 0 {
                    return Err(errno(EBUSY));
                }
                self.set(&file, value);
                if attribute == "interleave_ways" {
                    for position in 0..value.parse::<u32>().unwrap() {
                        self.set(&format!("{CXL}/{device}/target{position}"), "");
                    }
                }
                Ok(())
            }
            "size" => self.size(device, value),
            "commit" => self.commit(device, value),
            target if target.starts_with("target") => self.target(device, target, value),
            _ => panic!("{attribute}"),
        }
    }

    fn create(&self, window: &str, name: &str) -> io::Result<()> {
        if self.get(&format!("{CXL}/{window}/create_ram_region")) != name {
            return Err(errno(EBUSY));
        }
        let folder = format!("sys/devices/platform/ACPI0017:00/root0/{window}/{name}");
        let attributes = [
            ("mode", "ram"),
            ("size", "0x0"),
            ("resource", "0xffffffffffffffff"),
            ("interleave_ways", "0"),
            ("interleave_granularity", "0"),
            ("commit", "0"),
        ];
        self.device(name, &folder, &attributes);
        self.set(&format!("{CXL}/{window}/create_ram_region"), "region1");
        Ok(())
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        let link = format!("{CXL}/{name}");
        if !self.root.exists(&link) {
            return Err(errno(ENODEV));
        }
        assert_eq!(self.get(&format!("{link}/commit")), "0", "deleted while committed");
        for number in [2, 3] {
            let file = format!("{CXL}/decoder{number}.0/region");
            assert_ne!(self.get(&file), name, "deleted with a target");
        }
        let folder = fs::canonicalize(self.root.at(&link)).unwrap();
        fs::remove_dir_all(folder).unwrap();
        fs::remove_file(self.root.at(&link)).unwrap();
        self.set(&format!("{CXL}/decoder0.0/create_ram_region"), name);
        Ok(())
    }

    fn dpa(&self, decoder: &str, value: &str) -> io::Result<()> {
        let of = |name| format!("{CXL}/{decoder}/{name}");
        let size = parse(value)?;
        if !self.get(&of("region")).is_empty() {
            return Err(errno(EBUSY));
        }
        if size == 0 {
            self.set(&of("dpa_size"), "0x0");
            self.set(&of("dpa_resource"), "0xffffffffffffffff");
            return Ok(());
        }
        if self.get(&of("mode")) != "ram" || self.number(&of("dpa_size")) != 0 {
            return Err(errno(EBUSY));
        }
        if size > GIB {
            return Err(errno(ENOSPC));
        }
        self.set(&of("dpa_size"), &format!("{size:#x}"));
        self.set(&of("dpa_resource"), "0x0");
        Ok(())
    }

    fn size(&self, region: &str, value: &str) -> io::Result<()> {
        let of = |name| format!("{CXL}/{region}/{name}");
        let size = parse(value)?;
        let ways = self.number(&of("interleave_ways"));
        if size == 0 {
            self.set(&of("size"), "0x0");
            self.set(&of("resource"), "0xffffffffffffffff");
            return Ok(());
        }
        if ways == 0 || self.number(&of("interleave_granularity")) == 0 {
            return Err(errno(ENXIO));
        }
        if !size.is_multiple_of(256 * MIB * ways) {
            return Err(errno(EINVAL));
        }
        self.set(&of("size"), &format!("{size:#x}"));
        self.set(&of("resource"), &format!("{WINDOW:#x}"));
        Ok(())
    }

    fn target(&self, region: &str, target: &str, decoder: &str) -> io::Result<()> {
        let of = |name: &str| format!("{CXL}/{region}/{name}");
        let before = self.get(&of(target));
        if decoder.is_empty() {
            if !before.is_empty() {
                self.set(&format!("{CXL}/{before}/region"), "");
            }
            self.set(&of(target), "");
            return Ok(());
        }
        if self.number(&of("size")) == 0 || !before.is_empty() {
            return Err(errno(ENXIO));
        }
        let each = self.number(&format!("{CXL}/{decoder}/dpa_size"));
        if each == 0 {
            return Err(errno(ENXIO));
        }
        if each * self.number(&of("interleave_ways")) != self.number(&of("size")) {
            return Err(errno(EINVAL));
        }
        self.set(&format!("{CXL}/{decoder}/region"), region);
        self.set(&of(target), decoder);
        Ok(())
    }

    fn commit(&self, region: &str, value: &str) -> io::Result<()> {
        let of = |name: &str| format!("{CXL}/{region}/{name}");
        if value == "1" {
            let ways = self.number(&of("interleave_ways"));
            let missing = |at| self.get(&of(&format!("target{at}"))).is_empty();
            if ways == 0 || (0..ways).any(missing) {
                return Err(errno(ENXIO));
            }
        } else if self.root.link(of("driver")).is_some() {
            self.region_driver("unbind", region)?;
        }
        self.set(&of("commit"), value);
        Ok(())
    }

    fn region_driver(&self, what: &str, region: &str) -> io::Result<()> {
        let folder = format!("{CXL}/{region}");
        let number = region.trim_start_matches("region");
        let device = format!("dax{number}.0");
        if what == "unbind" {
            self.unbind_dax(&device);
            fs::remove_file(self.root.at(format!("{DAX}/devices/{device}"))).unwrap();
            fs::remove_file(self.root.at(format!("{folder}/driver"))).unwrap();
            fs::remove_file(self.root.at(format!("{CXL}/dax_{region}"))).unwrap();
            fs::remove_dir_all(self.root.at(format!("{folder}/dax_{region}"))).unwrap();
            return Ok(());
        }
        if self.get(&format!("{folder}/commit")) != "1" {
            return Err(errno(ENXIO));
        }
        self.link_to(&format!("{folder}/driver"), "../cxl_region");
        let parent = format!("sys/devices/platform/ACPI0017:00/root0/decoder0.0/{region}");
        let dax_region = format!("{parent}/dax_{region}");
        self.device(&format!("dax_{region}"), &dax_region, &[]);
        let size = self.number(&format!("{folder}/size"));
        let attributes = [
            ("size", size.to_string()),
            ("align", "2097152".to_owned()),
            ("resource", format!("{WINDOW:#x}")),
            ("target_node", "1".to_owned()),
            ("numa_node", "0".to_owned()),
        ];
        for (attribute, value) in attributes {
            self.set(&format!("{dax_region}/{device}/{attribute}"), &value);
        }
        let target = Path::new("../../../..").join(&dax_region).join(&device);
        symlink(target, self.root.at(format!("{DAX}/devices/{device}"))).unwrap();
        self.bind_dax("kmem", &device);
        Ok(())
    }
}

impl Kernel for Model {
    fn root(&self) -> &Root {
        &self.root
    }

    fn write(&mut self, file: &str, value: &str, _limit: Duration) -> io::Result<()> {
        self.writes += 1;
        self.log.push(format!("{value} > {file}"));
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

/// As `kstrtoull` takes it.
fn parse(value: &str) -> io::Result<u64> {
    let number = match value.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => value.parse(),
    };
    number.map_err(|_| errno(EINVAL))
}

/// 2 GiB since boot on node 0, but for 8 MiB of holes; node 1 has nothing.
fn zoneinfo() -> String {
    let present = (2 * GIB - 8 * MIB) / 4096;
    format!(
        "Node 0, zone    DMA32\n  pages free     1000\n  min 10\n  low 12\n  high 14\n  \
         spanned {present}\n  present {present}\n  managed {present}\n  cma 0\n  pagesets\n  \
         start_pfn: 1\n"
    )
}
