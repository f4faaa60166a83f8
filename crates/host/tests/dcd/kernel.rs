//! A kernel in a folder: a dax region over a window, `kmem`, memory blocks. It checks what the
//! kernel checks, and besides that no memory is online without an extent behind it.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    fs, io,
    os::unix::fs::symlink,
    rc::Rc,
    time::Duration,
};

use memtide_host::{Root, plan::Kernel};
use memtide_units::DpaRange;

use super::{device::State, killing::Killing};

pub const MIB: u64 = 1 << 20;
pub const BLOCK: u64 = 128 * MIB;
/// Where the window begins, and what of the device is there.
pub const WINDOW: u64 = 0x1_1000_0000;
pub const DPA: u64 = 1 << 30;
pub const BLOCKS: u64 = 8;

const REGION: &str = "sys/devices/platform/hmem.0";
const DAX: &str = "sys/bus/dax";
const MEMORY: &str = "sys/devices/system/memory";
const EBUSY: i32 = 16;
const EINVAL: i32 = 22;
const ENOMEM: i32 = 12;

/// One who serves has a kernel of its own over the same folder.
#[derive(Clone, Debug)]
pub struct Model {
    root: Root,
    device: Rc<RefCell<State>>,
    killing: Rc<Killing>,
    /// Blocks that do not go offline.
    pub held: Rc<RefCell<BTreeSet<u64>>>,
    /// Blocks that were taken by force while they were online, and still are.
    pub lost: Rc<RefCell<BTreeSet<u64>>>,
    /// After how many writes one is refused.
    pub refuse: Rc<Cell<Option<usize>>>,
}

fn refused(number: i32) -> io::Result<()> {
    Err(io::Error::from_raw_os_error(number))
}

impl Model {
    /// As the kernel starts: one dax device over the whole region, bound to kmem, offline.
    pub fn new(
        folder: &tempfile::TempDir,
        device: Rc<RefCell<State>>,
        killing: Rc<Killing>,
    ) -> Self {
        let root = Root::new(folder.path());
        let (held, lost, refuse) = (Rc::default(), Rc::default(), Rc::default());
        let model = Self { root, device, killing, held, lost, refuse };
        model.set(&format!("{MEMORY}/block_size_bytes"), "8000000");
        model.set(&format!("{REGION}/dax_region/size"), &(BLOCKS * BLOCK).to_string());
        model.set(&format!("{REGION}/dax_region/seed"), "dax0.0");
        fs::create_dir_all(model.root.at(format!("{DAX}/devices"))).unwrap();
        model.create();
        model.map("dax0.0", WINDOW, WINDOW + BLOCKS * BLOCK - 1).unwrap();
        model.bind("dax0.0");
        model
    }

    fn set(&self, path: &str, value: &str) {
        let path = self.root.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{value}\n")).unwrap();
    }

    fn get(&self, path: &str) -> String {
        fs::read_to_string(self.root.at(path)).unwrap_or_default().trim().to_owned()
    }

    fn devices(&self) -> Vec<String> {
        self.root.names(format!("{DAX}/devices")).unwrap()
    }

    fn create(&self) {
        let devices = self.devices();
        let is_free = |number: &usize| !devices.contains(&format!("dax0.{number}"));
        let name = format!("dax0.{}", (0..).find(is_free).unwrap());
        let target = format!("../../../devices/platform/hmem.0/{name}");
        self.set(&format!("{REGION}/{name}/align"), "2097152");
        self.set(&format!("{REGION}/{name}/target_node"), "1");
        symlink(target, self.root.at(format!("{DAX}/devices/{name}"))).unwrap();
        self.empty(&name);
    }

    fn empty(&self, name: &str) {
        let _ = fs::remove_dir_all(self.root.at(format!("{REGION}/{name}/mapping0")));
        self.set(&format!("{REGION}/{name}/size"), "0");
        self.set(&format!("{REGION}/{name}/resource"), &format!("{WINDOW:#x}"));
    }

    fn is_bound(&self, name: &str) -> bool {
        self.root.link(format!("{REGION}/{name}/driver")).is_some()
    }

    /// The first and last address of a device that has any.
    fn range(&self, name: &str) -> Option<(u64, u64)> {
        let number = |end| self.root.number(format!("{REGION}/{name}/mapping0/{end}")).unwrap();
        Some((number("start")?, number("end")?))
    }

    fn map(&self, name: &str, start: u64, last: u64) -> io::Result<()> {
        let overlaps = |other: &String| {
            self.range(other).is_some_and(|(first, end)| start <= end && first <= last)
        };
        if self.is_bound(name) || self.devices().iter().any(overlaps) {
            return refused(EBUSY);
        }
        if start < WINDOW || last >= WINDOW + BLOCKS * BLOCK || last <= start {
            return refused(EINVAL);
        }
        self.set(&format!("{REGION}/{name}/size"), &(last - start + 1).to_string());
        self.set(&format!("{REGION}/{name}/resource"), &format!("{start:#x}"));
        self.set(&format!("{REGION}/{name}/mapping0/start"), &format!("{start:#x}"));
        self.set(&format!("{REGION}/{name}/mapping0/end"), &format!("{last:#x}"));
        Ok(())
    }

    fn blocks(&self, name: &str) -> std::ops::Range<u64> {
        self.range(name).map_or(0..0, |(start, last)| start / BLOCK..(last + 1) / BLOCK)
    }

    /// Somebody has put a block online by himself.
    pub fn put_online(&self, block: u64) {
        self.set(&format!("{MEMORY}/memory{block}/state"), "online");
    }

    fn bind(&self, name: &str) {
        symlink("kmem", self.root.at(format!("{REGION}/{name}/driver"))).unwrap();
        for block in self.blocks(name) {
            let folder = format!("{MEMORY}/memory{block}");
            self.set(&format!("{folder}/phys_index"), &format!("{block:08x}"));
            self.set(&format!("{folder}/state"), "offline");
            self.set(&format!("{folder}/valid_zones"), "Normal Movable");
            fs::create_dir_all(self.root.at(format!("{folder}/node1"))).unwrap();
        }
    }

    fn unbind(&self, name: &str) {
        for block in self.blocks(name) {
            let folder = format!("{MEMORY}/memory{block}");
            let state = self.get(&format!("{folder}/state"));
            assert_eq!(state, "offline", "taken from kmem with memory that can never be removed");
            fs::remove_dir_all(self.root.at(folder)).unwrap();
        }
        fs::remove_file(self.root.at(format!("{REGION}/{name}/driver"))).unwrap();
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        if self.is_bound(name) || self.range(name).is_some() || name == "dax0.0" {
            return refused(EBUSY);
        }
        fs::remove_file(self.root.at(format!("{DAX}/devices/{name}"))).unwrap();
        fs::remove_dir_all(self.root.at(format!("{REGION}/{name}"))).unwrap();
        Ok(())
    }

    fn block(&self, block: u64, value: &str) -> io::Result<()> {
        let folder = format!("{MEMORY}/memory{block}");
        let before = self.get(&format!("{folder}/state"));
        let (state, zones) = match value {
            "online_movable" => ("online", "Movable"),
            "offline" => ("offline", "Normal Movable"),
            other => panic!("{other} is not expected"),
        };
        if before == state {
            return refused(EINVAL);
        }
        if state == "offline" && self.held.borrow().contains(&block) {
            return refused(EBUSY);
        }
        self.set(&format!("{folder}/state"), state);
        self.set(&format!("{folder}/valid_zones"), zones);
        self.check();
        Ok(())
    }

    /// Blocks that are online, as addresses of the device.
    pub fn online(&self) -> Vec<DpaRange> {
        let first = WINDOW / BLOCK;
        let is_online =
            |block: &u64| self.get(&format!("{MEMORY}/memory{block}/state")) == "online";
        let online = (first..first + BLOCKS).filter(is_online);
        online.map(|block| DpaRange::new(DPA + (block - first) * BLOCK, BLOCK)).collect()
    }

    /// Blocks that the kernel knows of.
    pub fn known(&self) -> usize {
        self.root.names(MEMORY).unwrap().iter().filter(|name| name.starts_with("memory")).count()
    }

    /// The device takes it by force, whatever is in it.
    pub fn lose(&self, range: DpaRange) {
        self.device.borrow_mut().take(range);
        let online = self.online().into_iter().filter(|block| range.contains(*block));
        self.lost.borrow_mut().extend(online.map(|block| block.start));
    }

    /// No memory is online without an extent behind it, but what was taken by force.
    pub fn check(&self) {
        let (device, online) = (self.device.borrow(), self.online());
        let with_extent = |block: &DpaRange| device.accepted.contains(block);
        let mut lost = self.lost.borrow_mut();
        lost.retain(|&at| online.iter().any(|block| block.start == at && !with_extent(block)));
        for block in online.iter().filter(|block| !with_extent(block)) {
            assert!(lost.contains(&block.start), "{block} is online, and nothing behind it");
        }
    }

    fn apply(&self, file: &str, value: &str) -> io::Result<()> {
        let parts: Vec<&str> = file.split('/').collect();
        match parts[..] {
            [.., "dax_region", "create"] => self.create(),
            [.., "dax_region", "delete"] => return self.delete(value),
            [.., "devices", name, "mapping"] => {
                let number = |text| u64::from_str_radix(text, 16).unwrap();
                let (start, last) = value.split_once('-').unwrap();
                return self.map(name, number(start), number(last));
            }
            [.., "devices", name, "size"] => {
                assert_eq!(value, "0");
                if self.is_bound(name) {
                    return refused(EBUSY);
                }
                self.empty(name);
            }
            [.., "kmem", "bind"] => self.bind(value),
            [.., "kmem", "unbind"] => self.unbind(value),
            [.., block, "state"] => {
                return self.block(block["memory".len()..].parse().unwrap(), value);
            }
            _ => panic!("{file} is not expected"),
        }
        Ok(())
    }
}

impl Kernel for Model {
    fn root(&self) -> &Root {
        &self.root
    }

    fn write(&mut self, file: &str, value: &str, _: Duration) -> io::Result<()> {
        self.killing.step();
        match self.refuse.take() {
            Some(0) => return refused(ENOMEM),
            left => self.refuse.set(left.map(|left| left - 1)),
        }
        let done = self.apply(file, value);
        self.killing.step();
        done
    }

    fn pause(&mut self, _: Duration) {}
}
