//! The address map of captured machines: windows where QEMU was told to put them, and a kernel that
//! made of the tables what we make of them.

use std::{fs, path::PathBuf};

use memtide_host::{
    address_map::{self, MachineMap},
    capture::{self, Opened},
};
use memtide_physmap::kernel_map::Rule;

fn open(machine: &str) -> Opened {
    let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    capture::open(&data.join(format!("{machine}.tar.gz"))).unwrap()
}

fn read(machine: &str) -> MachineMap {
    let map = address_map::read(open(machine).root()).unwrap();
    assert!(map.notes.is_empty(), "{machine}: {:?}", map.notes);
    assert_eq!(map.top.0, (1 << 40) - 1, "{machine}");
    map
}

/// Differences with one of these rules, in words.
fn differences(map: &MachineMap, rules: &[Rule]) -> Vec<String> {
    let all = map.differences.iter().filter(|difference| rules.contains(&difference.rule));
    all.map(ToString::to_string).collect()
}

const OF_MEMORY: [Rule; 6] = [
    Rule::MemoryChanged,
    Rule::WindowFollows,
    Rule::NoCxlDriver,
    Rule::SoftReservedApart,
    Rule::ReservedWidened,
    Rule::Unexplained,
];

#[test]
fn on_machines_as_they_boot_the_maps_are_the_same() {
    for machine in [
        "cxl-direct-unbound",
        "cxl-direct-region",
        "cxl-switch",
        "cxl-interleave2",
        "two-windows",
        "hmat",
        "virtio-mem",
        "virtio-mem-offline",
    ] {
        let map = read(machine);
        let found = differences(&map, &OF_MEMORY);
        assert!(found.is_empty(), "{machine}: {found:#?}");
    }
}

#[test]
fn windows_are_where_qemu_was_told_to_put_them() {
    let map = read("two-windows");
    let windows: Vec<String> = map
        .reconciled
        .map
        .windows
        .iter()
        .map(|window| {
            let (range, ways) = (window.decoder.unwrap(), window.window.ways.unwrap());
            format!("{} {range} {ways} {:?}", window.name(), window.window.targets)
        })
        .collect();
    assert_eq!(
        windows,
        [
            "CXL Window 0 0x590000000-0x68fffffff 1 [12]",
            "CXL Window 1 0x690000000-0x70fffffff 1 [222]",
        ]
    );
    let map = read("cxl-interleave2");
    let [window] = map.reconciled.map.windows.as_slice() else { panic!() };
    assert_eq!(
        (window.window.ways.unwrap().get(), window.window.targets.as_slice()),
        (2, &[12, 222][..])
    );
    assert_eq!(window.window.granularity.unwrap().get(), 256);
}

#[test]
fn what_a_memmap_option_changes_is_told_and_explained() {
    let map = read("plain-memmap");
    let found = differences(&map, &OF_MEMORY);
    assert!(!found.is_empty() && differences(&map, &[Rule::Unexplained]).is_empty(), "{found:#?}");
    assert!(found.iter().any(|one| one.contains("Persistent Memory (legacy)")), "{found:#?}");
}

#[test]
fn windows_over_reserved_memory_are_widened_and_trimmed_as_linux_did() {
    let map = read("physmap-partial");
    assert_eq!(
        differences(&map, &OF_MEMORY),
        [
            "CXL Window 0 0x590000000-0x68fffffff is CXL Window 0 0x590000000-0x6ffffffff in the \
             kernel's map: the window follows the changed map of memory",
            "Reserved 0x600000000-0x6ffffffff is only in the kernel's map: the command line or \
             early boot code changed the map of memory",
            "CXL Window 1 0x690000000-0x70fffffff is CXL Window 1 0x700000000-0x70fffffff in the \
             kernel's map: the window follows the changed map of memory",
        ]
    );
    let map = read("physmap-covered");
    assert!(differences(&map, &[Rule::Unexplained]).is_empty());
    let around = map
        .map()
        .windows
        .iter()
        .filter_map(|window| map.map().owner_around(window.territory.first()?.resource));
    assert_eq!(around.count(), 0, "what is merely reserved keeps windows free");
}

#[test]
fn broken_tables_are_notes_and_the_rest_counts() {
    let opened = open("two-windows");
    let cedt = opened.root().at("sys/firmware/acpi/tables/CEDT");
    let whole = fs::read(&cedt).unwrap();
    for cut in 0..whole.len() {
        fs::write(&cedt, &whole[..cut]).unwrap();
        let map = address_map::read(opened.root()).unwrap();
        let note = map.notes.iter().any(|note| note.starts_with("CEDT: "));
        assert!(note, "{cut} bytes: {:?}", map.notes);
    }
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 0xff;
        fs::write(&cedt, &changed).unwrap();
        address_map::read(opened.root()).unwrap();
    }
    fs::write(&cedt, &whole).unwrap();
    fs::write(opened.root().at("sys/firmware/memmap/0/start"), "0xfffffffff\n").unwrap();
    fs::write(opened.root().at("proc/iomem"), "100-1ff : a\n  0-3 : b\n").unwrap();
    let notes = address_map::read(opened.root()).unwrap().notes.join("\n");
    assert!(
        notes.contains("/sys/firmware/memmap: ") && notes.contains("/proc/iomem: line 2"),
        "{notes}"
    );
}

#[test]
fn without_addresses_the_map_is_firmwares_and_says_so() {
    let opened = open("hmat");
    let iomem = opened.root().at("proc/iomem");
    let text = fs::read_to_string(&iomem).unwrap();
    let hidden: String = text
        .lines()
        .map(|line| {
            let (range, name) = line.split_once(" : ").unwrap();
            let indent = &range[..range.len() - range.trim_start().len()];
            format!("{indent}00000000-00000000 : {name}\n")
        })
        .collect();
    fs::write(&iomem, hidden).unwrap();
    let map = address_map::read(opened.root()).unwrap();
    assert!(map.kernel.is_none() && map.differences.is_empty());
    assert_eq!(map.notes, ["only root sees the addresses in /proc/iomem"]);
    assert!(map.map().tree.len() > 3);
}
