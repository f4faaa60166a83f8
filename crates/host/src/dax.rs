//! Dax devices: ranges of memory that a program maps whole (`device_dax`), or that the kernel has
//! taken as memory of a node (`kmem`) (`/sys/bus/dax`).
//!
//! A device lies in a *dax region*, which its parent provides: a CXL region, a range that
//! firmware set aside (hmem), a persistent-memory namespace. The device may consist of several
//! physical ranges (`mappingN`); the driver decides what it is good for ([`DaxMode`]).

use std::{fmt, path::Path};

use memtide_units::{ByteSize, NodeId, PhysAddr, PhysRange};

use crate::{ReadError, Root};

/// Where the devices are.
pub const DEVICES: &str = "sys/bus/dax/devices";
/// Where their drivers are.
pub const DRIVERS: &str = "sys/bus/dax/drivers";

/// More ranges than this a device does not have: limits what a made-up tree can make us read.
const MAPPINGS_MAX: usize = 4096;

/// What a device is good for: its driver.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum DaxMode {
    /// Programs map `/dev/daxX.Y` (driver `device_dax`).
    Devdax,
    /// Memory of a node (driver `kmem`).
    SystemRam,
}

impl DaxMode {
    /// As on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Devdax => "devdax",
            Self::SystemRam => "system-ram",
        }
    }

    /// Its driver on the dax bus.
    #[must_use]
    pub const fn driver(self) -> &'static str {
        match self {
            Self::Devdax => "device_dax",
            Self::SystemRam => "kmem",
        }
    }

    fn of_driver(driver: &str) -> Option<Self> {
        [Self::Devdax, Self::SystemRam].into_iter().find(|mode| mode.driver() == driver)
    }
}

impl fmt::Display for DaxMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DaxDevice {
    /// Its name: `dax0.0`.
    pub name: String,
    /// The folder of its region's parent, such as `region0` or `hmem.1`, where it can be known.
    pub parent: Option<String>,
    /// All of it.
    pub size: ByteSize,
    /// What mappings of it must be aligned to, and the ranges it consists of.
    pub align: ByteSize,
    /// Its physical ranges, in the order of the device. Empty for who may not see them (they are
    /// root's).
    pub ranges: Vec<PhysRange>,
    /// Which of its modes it is in; `None` without a driver.
    pub mode: Option<DaxMode>,
    /// The node that its memory belongs to or would: -1 in the kernel is `None`.
    pub target_node: Option<NodeId>,
    /// The online node nearest to it: where programs that map it should run.
    pub numa_node: Option<NodeId>,
}

impl DaxDevice {
    /// The attribute of this name, below the root.
    #[must_use]
    pub fn attribute(&self, name: &str) -> String {
        format!("{DEVICES}/{}/{name}", self.name)
    }
}

/// All devices, in the order of their numbers.
///
/// # Errors
/// [`ReadError`] when an attribute cannot be read or makes no sense.
pub fn read(root: &Root) -> Result<Vec<DaxDevice>, ReadError> {
    let mut devices = Vec::new();
    for name in root.names(DEVICES)? {
        if let Some(device) = read_device(root, name)? {
            devices.push(device);
        }
    }
    Ok(devices)
}

/// The device of this name; `None` if it is gone by now.
fn read_device(root: &Root, name: String) -> Result<Option<DaxDevice>, ReadError> {
    let folder = format!("{DEVICES}/{name}");
    let Some(size) = root.number(format!("{folder}/size"))? else { return Ok(None) };
    let align = root.number(format!("{folder}/align"))?.unwrap_or(0);
    let driver = root.link(format!("{folder}/driver"));
    Ok(Some(DaxDevice {
        parent: parent_of(root, &name),
        size: ByteSize(size),
        align: ByteSize(align),
        ranges: read_ranges(root, &folder, size)?,
        mode: driver.as_deref().and_then(DaxMode::of_driver),
        target_node: read_node(root, &folder, "target_node")?,
        numa_node: read_node(root, &folder, "numa_node")?,
        name,
    }))
}

/// The mappings; on kernels without them (before 5.10) the one range from `resource` on.
fn read_ranges(root: &Root, folder: &str, size: u64) -> Result<Vec<PhysRange>, ReadError> {
    let mut ranges = Vec::new();
    for number in 0..MAPPINGS_MAX {
        let mapping = format!("{folder}/mapping{number}");
        let start = read_address(root, &format!("{mapping}/start"))?;
        let last = read_address(root, &format!("{mapping}/end"))?;
        let (Some(start), Some(last)) = (start, last) else { break };
        let range = PhysRange::new(start, last).ok_or_else(|| ReadError::Value {
            path: root.at(format!("{mapping}/end")),
            value: last.to_string(),
            expected: "an address that is not below start",
        })?;
        ranges.push(range);
    }
    if ranges.is_empty() {
        let start = read_address(root, &format!("{folder}/resource"))?;
        ranges.extend(start.and_then(|start| PhysRange::from_size(start, size)));
    }
    Ok(ranges)
}

/// An address, unless it is not for us to see.
fn read_address(root: &Root, path: &str) -> Result<Option<PhysAddr>, ReadError> {
    match root.number(path) {
        Ok(number) => Ok(number.map(PhysAddr)),
        Err(ReadError::Io { source, .. })
            if source.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// A node, or -1.
fn read_node(root: &Root, folder: &str, name: &str) -> Result<Option<NodeId>, ReadError> {
    let path = format!("{folder}/{name}");
    match root.text(&path)? {
        None => Ok(None),
        Some(text) if text == "-1" => Ok(None),
        Some(text) => match text.parse() {
            Ok(node) => Ok(Some(NodeId(node))),
            Err(_) => Err(ReadError::Value {
                path: root.at(path),
                value: text,
                expected: "the number of a node, or -1",
            }),
        },
    }
}

/// Who provides the device's region: the folder above the device, behind the bus's link to it.
fn parent_of(root: &Root, name: &str) -> Option<String> {
    let target = root.target(format!("{DEVICES}/{name}")).ok()?;
    let mut folders = target.parent().into_iter().flat_map(Path::ancestors).filter_map(|folder| {
        let name = folder.file_name()?.to_str()?;
        Some(name.to_owned())
    });
    // A CXL region has a device of its own kind in between: region0/dax_region0/dax0.0.
    folders.find(|folder| !folder.starts_with("dax_region"))
}

/// Processes, by number and name, that have the device's file open or mapped: those whose memory
/// it is would lose it with the device (`kill_dev_dax`). A mapping outlives its descriptor, so both
/// are looked at. Of processes that end meanwhile, or are not ours to look at, nothing is known.
pub(crate) fn users(root: &Root, device: &str) -> Result<Vec<(u32, String)>, ReadError> {
    let path = format!("/dev/{device}");
    let mut by = Vec::new();
    for name in root.names("proc")? {
        let Ok(pid) = name.parse::<u32>() else { continue };
        let files = root.names(format!("proc/{pid}/fd")).unwrap_or_default();
        let is_it = |file: &String| {
            root.target(format!("proc/{pid}/fd/{file}"))
                .is_ok_and(|target| target.to_string_lossy() == path)
        };
        let maps = || root.text(format!("proc/{pid}/maps")).ok().flatten().unwrap_or_default();
        if files.iter().any(is_it) || maps().lines().any(|line| line.ends_with(&path)) {
            let name = root.text(format!("proc/{pid}/comm")).ok().flatten().unwrap_or_default();
            by.push((pid, name.replace(char::is_control, "?")));
        }
    }
    Ok(by)
}

/// `database (pid 77) has`, for a message.
pub(crate) fn have(users: &[(u32, String)]) -> String {
    let name = |(pid, name): &(u32, String)| format!("{name} (pid {pid})");
    let names: Vec<String> = users.iter().map(name).collect();
    format!("{} {}", names.join(", "), if users.len() == 1 { "has" } else { "have" })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, path::PathBuf};

    use super::*;

    fn write(root: &Root, path: impl AsRef<Path>, text: &str) {
        let path = root.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }

    fn dax0_0() -> (tempfile::TempDir, Root, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let device = PathBuf::from("sys/devices/platform/ACPI0017:00/root0/decoder0.0/region0")
            .join("dax_region0/dax0.0");
        for (name, value) in [
            ("size", "1073741824"),
            ("align", "2097152"),
            ("resource", "0x190000000"),
            ("target_node", "1"),
            ("numa_node", "-1"),
            ("mapping0/start", "0x190000000"),
            ("mapping0/end", "0x1cfffffff"),
        ] {
            write(&root, device.join(name), value);
        }
        fs::create_dir_all(root.at(DEVICES)).unwrap();
        fs::create_dir_all(root.at(DRIVERS).join("kmem")).unwrap();
        symlink(Path::new("../../../..").join(&device), root.at(DEVICES).join("dax0.0")).unwrap();
        symlink("/sys/bus/dax/drivers/kmem", root.at(device.join("driver"))).unwrap();
        (folder, root, device)
    }

    #[test]
    fn a_device_of_a_cxl_region_is_read() {
        let (_folder, root, _) = dax0_0();
        let devices = read(&root).unwrap();
        let [device] = devices.as_slice() else { panic!("{devices:?}") };
        assert_eq!((device.name.as_str(), device.parent.as_deref()), ("dax0.0", Some("region0")));
        assert_eq!((device.size, device.align), (ByteSize(1 << 30), ByteSize(2 << 20)));
        assert_eq!(device.mode, Some(DaxMode::SystemRam));
        assert_eq!((device.target_node, device.numa_node), (Some(NodeId(1)), None));
        let range = PhysRange::new(PhysAddr(0x1_9000_0000), PhysAddr(0x1_cfff_ffff)).unwrap();
        assert_eq!(device.ranges, [range]);
    }

    #[test]
    fn without_mappings_the_resource_says_where() {
        let (_folder, root, device) = dax0_0();
        fs::remove_dir_all(root.at(device.join("mapping0"))).unwrap();
        let range = PhysRange::new(PhysAddr(0x1_9000_0000), PhysAddr(0x1_cfff_ffff)).unwrap();
        assert_eq!(read(&root).unwrap()[0].ranges, [range]);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let (_folder, root, device) = dax0_0();
        write(&root, device.join("mapping0/end"), "0x1");
        assert!(read(&root).unwrap_err().to_string().contains("mapping0/end"));
        let (_folder, root, device) = dax0_0();
        write(&root, device.join("target_node"), "70000");
        assert!(read(&root).unwrap_err().to_string().contains("target_node"));
    }
}
