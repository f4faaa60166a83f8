//! Machines that Linux 6.12 ran on, emulated: what firmware said and what `/proc/iomem` showed.
//!
//! Of each the map that memtide makes of firmware's tables is compared with the kernel's, every
//! difference has to be explained, and the kernel's own map has to leave room where it should.

use std::{collections::BTreeMap, num::NonZeroU32};

use memtide_physmap::{
    allocate::{Allocator, Errno, Holder, LinuxChoice, Media, Progress, RegionRequest},
    kernel_map::{Line, Rule, compare, tree_of},
    map::AddressMap,
    reconcile::{Conflict, Firmware, FirmwareRange, reconcile},
    window::{Arithmetic, Restrictions, Window},
};
use memtide_units::{PhysAddr, PhysRange};

const GIB: u64 = 1 << 30;

/// What the emulated board's firmware says of memory.
const MEMORY: [(u64, u64, &str); 9] = [
    (0x0, 0x9_fbff, "System RAM"),
    (0x9_fc00, 0x9_ffff, "Reserved"),
    (0xf_0000, 0xf_ffff, "Reserved"),
    (0x10_0000, 0x7ffd_cfff, "System RAM"),
    (0x7ffd_d000, 0x7fff_ffff, "Reserved"),
    (0xb000_0000, 0xbfff_ffff, "Reserved"),
    (0xfed1_c000, 0xfed1_ffff, "Reserved"),
    (0xfffc_0000, 0xffff_ffff, "Reserved"),
    (0xfd_0000_0000, 0xff_ffff_ffff, "Reserved"),
];

fn range(start: u64, last: u64) -> PhysRange {
    PhysRange::new(PhysAddr(start), PhysAddr(last)).unwrap()
}

fn window(base: u64, size: u64, targets: &[u32]) -> Window {
    Window {
        base,
        size,
        ways: NonZeroU32::new(targets.len() as u32),
        granularity: NonZeroU32::new(256),
        arithmetic: Arithmetic::Modulo,
        restrictions: Restrictions(0xf),
        targets: targets.to_vec(),
    }
}

fn one_window() -> Vec<Window> {
    vec![window(0x5_9000_0000, 4 * GIB, &[12])]
}

fn two_windows() -> Vec<Window> {
    vec![window(0x5_9000_0000, 4 * GIB, &[12]), window(0x6_9000_0000, 2 * GIB, &[222])]
}

fn lines(text: &str) -> Vec<Line> {
    let line = |line: &str| {
        let (span, name) = line.split_once(" : ").unwrap();
        let depth = (span.len() - span.trim_start().len()) / 2;
        let (start, last) = span.trim().split_once('-').unwrap();
        let [start, last] = [start, last].map(|hex| u64::from_str_radix(hex, 16).unwrap());
        (depth, range(start, last), name.to_owned())
    };
    text.lines().map(line).collect()
}

fn firmware(extra: &[(u64, u64, &str)], windows: Vec<Window>) -> Firmware {
    let memory = MEMORY.iter().chain(extra);
    let memory = memory.map(|&(start, last, name)| FirmwareRange::named(range(start, last), name));
    Firmware {
        top: PhysAddr((1 << 46) - 1),
        memory: memory.collect(),
        affinity: vec![],
        windows,
        decoders: vec![],
    }
}

/// How many differences there are by each rule; none without one.
fn rules(firmware: &Firmware, text: &str) -> BTreeMap<Rule, usize> {
    let map = reconcile(firmware).unwrap().map;
    map.tree.validate();
    let mut rules = BTreeMap::new();
    for difference in compare(&map, &lines(text)).unwrap() {
        assert_ne!(difference.rule, Rule::Unexplained, "{difference}");
        *rules.entry(difference.rule).or_default() += 1;
    }
    rules
}

/// Those that every machine has: the first MiB, and drivers'.
fn besides(mut rules: BTreeMap<Rule, usize>) -> Vec<(Rule, usize)> {
    assert_eq!(rules.remove(&Rule::FirstMib), Some(5), "page 0 cut off, a bus, ROMs");
    assert!(rules.remove(&Rule::Driver) > Some(5));
    assert_eq!(rules.remove(&Rule::KernelImage), Some(4));
    rules.into_iter().collect()
}

#[test]
fn a_region_and_its_memory_were_made_later() {
    let text = include_str!("machines/cxl-direct-region.iomem");
    let found = besides(rules(&firmware(&[], one_window()), text));
    assert_eq!(found, [(Rule::Provisioned, 3)]);
}

#[test]
fn two_windows_behind_a_switch_and_interleaved() {
    let text = include_str!("machines/two-windows.iomem");
    let found = besides(rules(&firmware(&[], two_windows()), text));
    assert!(matches!(found[..], [(Rule::Provisioned, 1..)]), "{found:?}");
    let text = include_str!("machines/cxl-switch.iomem");
    let found = besides(rules(&firmware(&[], one_window()), text));
    assert!(matches!(found[..], [(Rule::Provisioned, 1..)]), "{found:?}");
    let interleaved = vec![window(0x5_9000_0000, 4 * GIB, &[12, 222])];
    let text = include_str!("machines/cxl-interleave2.iomem");
    let found = besides(rules(&firmware(&[], interleaved), text));
    assert!(matches!(found[..], [(Rule::Provisioned, 1..)]), "{found:?}");
}

#[test]
fn memory_nodes_and_plugged_memory() {
    let far = [(0x1_0000_0000, 0x1_3fff_ffff, "System RAM")];
    let text = include_str!("machines/hmat.iomem");
    assert_eq!(besides(rules(&firmware(&far, vec![]), text)), []);
    let text = include_str!("machines/virtio-mem.iomem");
    let found = besides(rules(&firmware(&[], vec![]), text));
    assert_eq!(found, [(Rule::Plugged, 1)]);
}

#[test]
fn memory_that_the_command_line_changed() {
    let text = include_str!("machines/plain-memmap.iomem");
    let found = besides(rules(&firmware(&[], vec![]), text));
    // One range of RAM became four ranges, the last one together with what was reserved.
    assert_eq!(found, [(Rule::MemoryChanged, 4)]);
}

/// `memmap=4G$0x600000000`: from inside one window into the next.
#[test]
fn windows_follow_what_was_reserved_across_them() {
    let text = include_str!("machines/reserved-across-windows.iomem");
    let reserved = [(0x6_0000_0000, 0x6_ffff_ffff, "Reserved")];
    let known = firmware(&reserved, two_windows());
    assert_eq!(besides(rules(&known, text)), [], "told of it, the maps are the same");
    let trimmed = |conflict: &Conflict| matches!(conflict, Conflict::Trimmed { .. });
    assert!(reconcile(&known).unwrap().conflicts.iter().any(trimmed));
    let found = besides(rules(&firmware(&[], two_windows()), text));
    assert_eq!(found, [(Rule::MemoryChanged, 1), (Rule::WindowFollows, 2)]);
    // The second decoder, to which Linux gives nothing, has its tail.
    let top = PhysAddr((1 << 46) - 1);
    let map = AddressMap::of_kernel(&lines(text), &two_windows(), top).unwrap();
    assert_eq!(map.windows[1].kernel_resource, None);
    let mut all = Allocator::new(map);
    all.validate();
    assert_eq!(all.linux_choice(1, 256 << 20), Ok(LinuxChoice::Crash));
    let program = RegionRequest { holder: Holder::Program, ..request("region0", 1, 256 << 20) };
    let given = all.allocate_region(&program).unwrap();
    assert_eq!(given, range(0x7_0000_0000, 0x7_0fff_ffff));
    all.validate();
}

/// `memmap=5G$0x590000000`: over all of one window and into the next. Linux put a region and its
/// memory into the first one all the same.
#[test]
fn a_window_inside_what_was_reserved() {
    let text = include_str!("machines/reserved-over-window.iomem");
    let reserved = [(0x5_9000_0000, 0x6_cfff_ffff, "Reserved")];
    let found = besides(rules(&firmware(&reserved, two_windows()), text));
    assert_eq!(found, [(Rule::Provisioned, 6)]);
}

fn request(name: &str, window: usize, size: u64) -> RegionRequest {
    RegionRequest {
        name: name.to_owned(),
        window,
        size,
        ways: NonZeroU32::new(1),
        granularity: NonZeroU32::new(256),
        media: Media::Ram,
        holder: Holder::Kernel,
        progress: Progress::Configured,
    }
}

/// The next region goes where the kernel would put it, behind the first one.
#[test]
fn a_running_machine_has_room_beside_its_region() {
    let text = include_str!("machines/cxl-direct-region.iomem");
    let top = PhysAddr((1 << 46) - 1);
    let map = AddressMap::of_kernel(&lines(text), &one_window(), top).unwrap();
    assert!(map.windows[0].kernel_resource.is_some());
    let mut all = Allocator::new(map);
    let error = all.allocate_region(&request("region1", 0, 4 * GIB)).unwrap_err();
    assert_eq!(error.errno(), Errno::Erange);
    assert_eq!(
        error.to_string(),
        "no 4GiB free in CXL Window 0, whose decoder decodes 0x590000000-0x68fffffff: the largest \
         gap is 0x5d0000000-0x68fffffff beside region0 0x590000000-0x5cfffffff; at most 3GiB would \
         fit"
    );
    let given = all.allocate_region(&request("region1", 0, 3 * GIB)).unwrap();
    assert_eq!(given, range(0x5_d000_0000, 0x6_8fff_ffff));
    let private = all.allocate_private("gpu0", GIB).unwrap();
    assert_eq!(private.last(), top);
    all.validate();
}

/// Whatever the lines are, they come back as they were.
#[test]
fn a_tree_of_lines_is_the_lines() {
    for text in [
        include_str!("machines/cxl-switch.iomem"),
        include_str!("machines/reserved-over-window.iomem"),
    ] {
        let lines = lines(text);
        let tree = tree_of(&lines).unwrap();
        tree.validate();
        let back = tree.resources().map(|(depth, it)| (depth, it.range, it.name.clone()));
        assert_eq!(back.collect::<Vec<_>>(), lines);
    }
}
