//! Which files a capture has: these, and no others.
//!
//! A `*` stands for any characters of one name. A link that a pattern names is taken as a link;
//! one on the way is taken and followed, so that `sys/bus/cxl/devices/mem*/serial` brings the
//! link of each device and the file where it really is. A slash at the end stands for a folder of
//! which nothing but that it is there goes out.

/// Whether a file may go to a stranger.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Secret {
    /// It says what kind of machine it is.
    No,
    /// It says which one: a serial number, a UUID.
    Identifies,
}

/// One pattern.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pattern {
    /// Below the root, without a slash at its start.
    pub path: &'static str,
    /// Whether it identifies.
    pub secret: Secret,
}

/// Of which some lines are left out.
pub(super) const IOMEM: &str = "proc/iomem";
/// Of which most is left out.
pub(super) const CMDLINE: &str = "proc/cmdline";
/// Of which firmware's map of memory is taken.
pub(super) use crate::memory_groups::BOOT_PARAMS;
/// Of which one line is taken.
pub(super) const CPUINFO: &str = "proc/cpuinfo";

const fn open(path: &'static str) -> Pattern {
    Pattern { path, secret: Secret::No }
}

const fn identifies(path: &'static str) -> Pattern {
    Pattern { path, secret: Secret::Identifies }
}

/// All patterns.
pub const PATTERNS: &[Pattern] = &[
    open(IOMEM),
    open(CMDLINE),
    open(CPUINFO),
    open("proc/zoneinfo"),
    open("proc/sys/kernel/osrelease"),
    // What firmware says.
    open("sys/firmware/acpi/tables/CEDT"),
    open("sys/firmware/acpi/tables/SRAT"),
    open("sys/firmware/acpi/tables/HMAT"),
    open("sys/firmware/acpi/tables/SLIT"),
    open("sys/firmware/memmap/*/start"),
    open("sys/firmware/memmap/*/end"),
    open("sys/firmware/memmap/*/type"),
    open(BOOT_PARAMS),
    // Nodes and tiers.
    open("sys/devices/system/node/possible"),
    open("sys/devices/system/node/online"),
    open("sys/devices/system/node/has_*"),
    open("sys/devices/system/node/node*/cpulist"),
    open("sys/devices/system/node/node*/meminfo"),
    open("sys/devices/system/node/node*/distance"),
    open("sys/devices/system/node/node*/access*/initiators/node*"),
    open("sys/devices/system/node/node*/access*/initiators/read_*"),
    open("sys/devices/system/node/node*/access*/initiators/write_*"),
    open("sys/devices/system/node/node*/memory_side_cache/index*/*"),
    open("sys/devices/system/node/node*/memory_failure/*"),
    open("sys/devices/virtual/memory_tiering/memory_tier*/nodelist"),
    // Memory blocks, and how they come online.
    open("sys/devices/system/memory/block_size_bytes"),
    open("sys/devices/system/memory/auto_online_blocks"),
    open("sys/devices/system/memory/memory*/phys_index"),
    open("sys/devices/system/memory/memory*/state"),
    open("sys/devices/system/memory/memory*/valid_zones"),
    open("sys/devices/system/memory/memory*/node*"),
    open("sys/module/memory_hotplug/parameters/*"),
    // CXL.
    open("sys/bus/cxl/devices/*/devtype"),
    open("sys/bus/cxl/devices/*/driver"),
    open("sys/bus/cxl/devices/root*/uport"),
    open("sys/bus/cxl/devices/root*/dport*"),
    open("sys/bus/cxl/devices/port*/uport"),
    open("sys/bus/cxl/devices/port*/dport*"),
    open("sys/bus/cxl/devices/port*/parent_dport"),
    open("sys/bus/cxl/devices/port*/decoders_committed"),
    open("sys/bus/cxl/devices/endpoint*/uport"),
    open("sys/bus/cxl/devices/endpoint*/parent_dport"),
    open("sys/bus/cxl/devices/endpoint*/decoders_committed"),
    open("sys/bus/cxl/devices/endpoint*/CDAT"),
    open("sys/bus/cxl/devices/decoder*/start"),
    open("sys/bus/cxl/devices/decoder*/size"),
    open("sys/bus/cxl/devices/decoder*/locked"),
    open("sys/bus/cxl/devices/decoder*/interleave_*"),
    open("sys/bus/cxl/devices/decoder*/target_list"),
    open("sys/bus/cxl/devices/decoder*/target_type"),
    open("sys/bus/cxl/devices/decoder*/cap_*"),
    open("sys/bus/cxl/devices/decoder*/qos_class"),
    open("sys/bus/cxl/devices/decoder*/create_*_region"),
    open("sys/bus/cxl/devices/decoder*/mode"),
    open("sys/bus/cxl/devices/decoder*/region"),
    open("sys/bus/cxl/devices/decoder*/dpa_*"),
    open("sys/bus/cxl/devices/mem*/firmware_version"),
    open("sys/bus/cxl/devices/mem*/payload_max"),
    open("sys/bus/cxl/devices/mem*/label_storage_size"),
    open("sys/bus/cxl/devices/mem*/numa_node"),
    open("sys/bus/cxl/devices/mem*/ram/*"),
    open("sys/bus/cxl/devices/mem*/pmem/*"),
    open("sys/bus/cxl/devices/mem*/security/state"),
    identifies("sys/bus/cxl/devices/mem*/serial"),
    open("sys/bus/cxl/devices/region*/resource"),
    open("sys/bus/cxl/devices/region*/size"),
    open("sys/bus/cxl/devices/region*/interleave_*"),
    open("sys/bus/cxl/devices/region*/mode"),
    open("sys/bus/cxl/devices/region*/commit"),
    open("sys/bus/cxl/devices/region*/target*"),
    open("sys/bus/cxl/devices/region*/access*/read_*"),
    open("sys/bus/cxl/devices/region*/access*/write_*"),
    identifies("sys/bus/cxl/devices/region*/uuid"),
    // Dax devices and virtio-mem.
    open("sys/bus/dax/devices/dax*/size"),
    open("sys/bus/dax/devices/dax*/align"),
    open("sys/bus/dax/devices/dax*/resource"),
    open("sys/bus/dax/devices/dax*/target_node"),
    open("sys/bus/dax/devices/dax*/numa_node"),
    open("sys/bus/dax/devices/dax*/memmap_on_memory"),
    open("sys/bus/dax/devices/dax*/driver"),
    open("sys/bus/dax/devices/dax*/mapping*/start"),
    open("sys/bus/dax/devices/dax*/mapping*/end"),
    open("sys/bus/dax/drivers/*/"),
    open("sys/bus/virtio/devices/virtio*/device"),
    open("sys/bus/virtio/devices/virtio*/driver"),
];
