//! What real guests of QEMU say (`data/README.md`), and what is known of QEMU's own test tables.

mod common;

use std::{fs, path::PathBuf};

use memtide_physmap::{
    acpi::{
        cedt::{Cedt, Record, Restrictions},
        hmat::{DataType, Hierarchy, Hmat, Locality, Proximity, Record as HmatRecord, Revision},
        slit::Slit,
        srat::{MemoryFlags, Presence, ProcessorId, Record as SratRecord, Srat},
    },
    cdat::{Cdat, EfiMemoryType, Record as CdatRecord, Sslbis},
    firmware_map::{MapEntry, MapType, MemmapOption, boot_log, memmap_options},
    interleave::{Place, RootDecoder, Route},
    iomem::{self, Visibility},
    performance::{Coordinate, Flit, Link},
};
use memtide_units::{PhysAddr, PhysRange};

const GIB: u64 = 1 << 30;

fn data(path: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    fs::read(folder.join(path)).unwrap()
}

fn text(path: &str) -> String {
    String::from_utf8(data(path)).unwrap()
}

fn range(start: u64, bytes: u64) -> PhysRange {
    PhysRange::from_size(PhysAddr(start), bytes).unwrap()
}

fn decoders(table: Cedt<'_>) -> Vec<RootDecoder> {
    table.decoders().map(|(_, decoder)| decoder.unwrap()).collect()
}

/// Ways, granularity and range of each window.
fn shapes(table: Cedt<'_>) -> Vec<(u8, u64, PhysRange)> {
    let shape = |decoder: &RootDecoder| {
        let dealt = decoder.interleave();
        (dealt.ways().count(), dealt.granularity().bytes(), decoder.range())
    };
    decoders(table).iter().map(shape).collect()
}

#[test]
fn one_window_over_two_host_bridges() {
    let bytes = data("interleave2/CEDT");
    let table = Cedt::parse(&bytes).unwrap();
    assert_eq!(table.table().checksum(), Ok(()));
    let bridges: Vec<_> = table
        .records()
        .filter_map(|record| match record.unwrap() {
            Record::HostBridge(bridge) => Some(bridge),
            _ => None,
        })
        .collect();
    let shown: Vec<_> = bridges.iter().map(|b| (b.uid, b.version, b.base, b.bytes)).collect();
    let bridge = |uid, base| (uid, 1, PhysAddr(base), 0x1_0000);
    assert_eq!(shown, [bridge(222, 0x5_8000_0000), bridge(12, 0x5_8001_0000)]);
    assert!(bridges.iter().all(|bridge| bridge.check().is_ok()));

    assert_eq!(shapes(table), [(2, 256, range(0x5_9000_0000, 4 * GIB))]);
    let window = table.windows().next().unwrap();
    assert!(window.targets.iter().eq([12, 222]));
    assert_eq!(window.restrictions.bits(), 0xf);
    assert!(!window.restrictions.contains(Restrictions::FIXED));
}

/// Linux made a region of the two devices: both have half of it.
#[test]
fn the_region_that_linux_made_is_dealt_to_both_devices() {
    let bytes = data("interleave2/CEDT");
    let window = decoders(Cedt::parse(&bytes).unwrap())[0];
    let map = text("interleave2/iomem");
    assert_eq!(iomem::visibility(&map), Visibility::Addresses);
    let line = |name| {
        let mut lines = iomem::lines(&map).map(Result::unwrap);
        lines.find(|line| line.name == name).unwrap()
    };
    assert_eq!((line("CXL Window 0").range, line("CXL Window 0").depth), (window.range(), 0));
    let region = line("region0");
    assert_eq!((region.range, region.depth), (range(0x5_9000_0000, 2 * GIB), 1));
    assert_eq!(line("System RAM (kmem)").depth, 3);

    let route = Route::new(window, region.range, &[], window.interleave()).unwrap();
    let first = Place { position: 0, offset: 0 };
    let last = Place { position: 1, offset: GIB - 1 };
    assert_eq!(route.locate(region.range.start()), Ok(first));
    assert_eq!(route.locate(region.range.last()), Ok(last));
    assert_eq!(route.address(last), Ok(region.range.last()));
}

#[test]
fn two_windows_of_one_host_bridge_each() {
    let bytes = data("two-windows/CEDT");
    let table = Cedt::parse(&bytes).unwrap();
    assert_eq!(
        shapes(table),
        [(1, 256, range(0x5_9000_0000, 4 * GIB)), (1, 256, range(0x6_9000_0000, 2 * GIB))]
    );
    let targets: Vec<_> = table.windows().map(|window| window.targets.get(0)).collect();
    assert_eq!(targets, [Some(12), Some(222)]);
}

/// QEMU's tests/data/acpi/x86/q35/CEDT.cxl: what it is known to say, put together here.
#[test]
fn cedt_cxl_of_184_bytes() {
    let chbs = |uid: u32, base: u64| {
        let mut record = vec![0; 32];
        record[2] = 32;
        record[4..8].copy_from_slice(&uid.to_le_bytes());
        record[8] = 1;
        record[16..24].copy_from_slice(&base.to_le_bytes());
        record[24..32].copy_from_slice(&0x1_0000_u64.to_le_bytes());
        record
    };
    let cfmws = |base: u64, size: u64, eiw: u8, eig: u8, targets: &[u32]| {
        let mut record = vec![0; 36];
        record[0] = 1;
        record[2] = 36 + 4 * targets.len() as u8;
        record[8..16].copy_from_slice(&base.to_le_bytes());
        record[16..24].copy_from_slice(&size.to_le_bytes());
        (record[24], record[28], record[32]) = (eiw, eig, 0xf);
        targets.iter().for_each(|uid| record.extend(uid.to_le_bytes()));
        record
    };
    let records = [
        chbs(52, 0x1_0000_0000),
        chbs(53, 0x1_0001_0000),
        cfmws(0x1_1000_0000, 4 * GIB, 0, 5, &[52]),
        cfmws(0x2_1000_0000, 4 * GIB, 1, 5, &[52, 53]),
    ];
    let bytes = common::with_header(b"CEDT", 1, &records.concat());
    assert_eq!(bytes.len(), 184);
    let table = Cedt::parse(&bytes).unwrap();
    assert_eq!(table.table().checksum(), Ok(()));
    assert_eq!(table.records().filter(Result::is_ok).count(), 4);
    assert_eq!(
        shapes(table),
        [(1, 256, range(0x1_1000_0000, 4 * GIB)), (2, 8192, range(0x2_1000_0000, 4 * GIB))]
    );
}

#[test]
fn two_nodes_with_hmat_their_processors_and_memory() {
    let bytes = data("hmat/SRAT");
    let table = Srat::parse(&bytes).unwrap();
    assert_eq!(table.table().checksum(), Ok(()));
    let memory: Vec<_> = table.memory().collect();
    assert_eq!(
        memory,
        [
            (0, range(0, 0xa_0000)),
            (0, range(0x10_0000, 2 * GIB - 0x10_0000)),
            (1, range(4 * GIB, GIB)),
            (1, range(5 * GIB, 0x4_4000_0000)),
        ]
    );
    let mut processors = Vec::new();
    let mut pluggable = Vec::new();
    for record in table.records() {
        match record.unwrap() {
            SratRecord::Processor(processor) => processors.push(processor),
            SratRecord::Memory(memory) if memory.flags.contains(MemoryFlags::HOT_PLUGGABLE) => {
                pluggable.push(memory.domain);
            }
            SratRecord::Memory(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(pluggable, [1]);
    let processors: Vec<_> = processors.iter().map(|p| (p.id, p.domain, p.presence)).collect();
    let processor = |apic| (ProcessorId::Apic(apic), 0, Presence::Enabled);
    assert_eq!(processors, [processor(0), processor(1)]);
}

#[test]
fn latencies_and_bandwidths_as_given_on_the_command_line() {
    let bytes = data("hmat/HMAT");
    let table = Hmat::parse(&bytes).unwrap();
    assert_eq!((table.table().checksum(), table.revision()), (Ok(()), Revision::Two));
    let mut attached = Vec::new();
    let mut matrices: Vec<Locality<'_>> = Vec::new();
    for record in table.records() {
        match record.unwrap() {
            HmatRecord::Proximity(proximity) => attached.push(proximity),
            HmatRecord::Locality(locality) => matrices.push(locality),
            other => panic!("{other:?}"),
        }
    }
    let to_0 = |memory| Proximity { initiator: Some(0), memory };
    assert_eq!(attached, [to_0(0), to_0(1)]);
    let read: Vec<_> = matrices
        .iter()
        .map(|m| (m.hierarchy, m.data_type, m.between(0, 0), m.between(0, 1)))
        .collect();
    assert_eq!(
        read,
        [
            (Hierarchy::Memory, Ok(DataType::AccessLatency), Some(80), Some(250)),
            (Hierarchy::Memory, Ok(DataType::AccessBandwidth), Some(40_960), Some(20_480)),
        ]
    );
}

#[test]
fn distances_as_given_on_the_command_line() {
    let bytes = data("hmat/SLIT");
    let table = Slit::parse(&bytes).unwrap();
    assert_eq!((table.table().checksum(), table.check()), (Ok(()), Ok(())));
    let row = |from| [table.distance(from, 0), table.distance(from, 1)];
    assert_eq!([row(0), row(1)], [[Some(10), Some(30)], [Some(30), Some(10)]]);
}

#[test]
fn what_a_device_says_of_itself() {
    let bytes = data("switch/CDAT.endpoint");
    let table = Cdat::parse(&bytes).unwrap();
    assert_eq!((table.checksum(), table.revision(), table.sequence()), (Ok(()), 2, 0));
    let mut localities = Vec::new();
    for record in table.records() {
        match record.unwrap() {
            CdatRecord::Memory(memory) => {
                assert_eq!((memory.handle, memory.flags.bits()), (0, 0));
                assert_eq!((memory.base, memory.bytes), (PhysAddr(0), GIB));
            }
            CdatRecord::Locality(locality) => {
                assert_eq!((locality.handle, locality.hierarchy), (0, Hierarchy::Memory));
                localities.push((locality.data_type.unwrap(), locality.value()));
            }
            CdatRecord::EfiMemory(efi) => {
                assert_eq!((efi.handle, efi.offset, efi.bytes), (0, 0, GIB));
                assert_eq!(efi.memory_type, EfiMemoryType::SpecificPurpose);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        localities,
        [
            (DataType::ReadLatency, Some(150)),
            (DataType::WriteLatency, Some(250)),
            (DataType::ReadBandwidth, Some(16_000)),
            (DataType::WriteBandwidth, Some(16_000)),
        ]
    );
}

#[test]
fn what_a_switch_says_of_itself() {
    let bytes = data("switch/CDAT.switch");
    let table = Cdat::parse(&bytes).unwrap();
    assert_eq!(table.checksum(), Ok(()));
    let read: Vec<_> = table
        .records()
        .map(|record| match record.unwrap() {
            CdatRecord::Switch(switch) => switch,
            other => panic!("{other:?}"),
        })
        .collect();
    let ways = |switch: Sslbis<'_>| -> Vec<_> {
        switch.entries().map(|entry| (entry.downstream(), entry.value)).collect()
    };
    assert_eq!(read[0].data_type, Ok(DataType::AccessLatency));
    assert_eq!(ways(read[0]), [(Some(0), Some(150)), (Some(1), Some(150))]);
    assert_eq!(read[1].data_type, Ok(DataType::AccessBandwidth));
    assert_eq!(ways(read[1]), [(Some(0), Some(16_384)), (Some(1), Some(16_384))]);
    assert_eq!(read.len(), 2);
}

/// A region over both devices of a switch, as Linux computed it (`access0` of the region's node).
///
/// Linux 6.12 adds the picoseconds of the links to the nanoseconds of everything else: two links of
/// 32 GT/s make 34000 of its latency, and 34 of ours.
#[test]
fn a_path_from_processors_through_a_switch_to_two_devices() {
    let (srat, hmat) = (data("generic-port/SRAT"), data("generic-port/HMAT"));
    let (switch, device) = (data("switch/CDAT.switch"), data("switch/CDAT.endpoint"));
    let linux = text("generic-port/access0");
    let linux = |name: &str| -> Option<u32> {
        let mut lines = linux.lines().filter_map(|line| line.split_once(' '));
        lines.find(|(key, _)| *key == name).and_then(|(_, value)| value.parse().ok())
    };
    let domain = Srat::parse(&srat).unwrap().host_bridge_domain(12).unwrap();
    assert_eq!(domain, 1);
    let bridge = Coordinate::from_hmat(Hmat::parse(&hmat).unwrap(), 0, domain);
    let switch = Cdat::parse(&switch).unwrap();
    let device = Coordinate::of_device(Cdat::parse(&device).unwrap(), 0);
    let link = Link { mega_transfers_per_s: 32_000, lanes: 16, flit: Flit::Bytes68 }.coordinate();
    let region = |link: Coordinate| {
        let below = |port| Coordinate::of_switch(switch, port).through(link).through(device);
        bridge.through(link).through(below(0).beside(below(1)))
    };
    let path = region(link);
    assert_eq!((path.read_latency_ns, path.write_latency_ns), (Some(454), Some(554)));
    assert_eq!(path.read_mb_per_s, linux("read_bandwidth"));
    assert_eq!(path.write_mb_per_s, linux("write_bandwidth"));

    let picoseconds = Some(17_000);
    assert_eq!(link.read_latency_ns, picoseconds.map(|ps| ps / 1000));
    let as_linux =
        Coordinate { read_latency_ns: picoseconds, write_latency_ns: picoseconds, ..link };
    assert_eq!(region(as_linux).read_latency_ns, linux("read_latency"));
    assert_eq!(region(as_linux).write_latency_ns, linux("write_latency"));
}

#[test]
fn tables_say_nothing_of_what_they_do_not_know() {
    let (hmat, switch, device) =
        (data("hmat/HMAT"), data("switch/CDAT.switch"), data("switch/CDAT.endpoint"));
    let hmat = Hmat::parse(&hmat).unwrap();
    assert_eq!(Coordinate::from_hmat(hmat, 1, 0), Coordinate::UNKNOWN);
    assert_eq!(Coordinate::from_hmat(hmat, 0, 2), Coordinate::UNKNOWN);
    let (switch, device) = (Cdat::parse(&switch).unwrap(), Cdat::parse(&device).unwrap());
    assert_eq!(Coordinate::of_switch(switch, 2), Coordinate::UNKNOWN);
    assert_eq!(Coordinate::of_device(switch, 0), Coordinate::UNKNOWN);
    assert_eq!(Coordinate::of_device(device, 1), Coordinate::UNKNOWN);
    assert_eq!(Coordinate::of_switch(device, 0), Coordinate::UNKNOWN);
}

/// What the boot log says of firmware, changed by the command line, is the kernel's map.
#[test]
fn memmap_changes_what_firmware_said() {
    let log = text("memmap/dmesg");
    let firmware: Vec<_> = boot_log(&log).map(Result::unwrap).collect();
    assert_eq!(firmware.len(), 9);
    let entry = |start, bytes, kind| MapEntry { range: range(start, bytes), kind };
    assert_eq!(firmware[0], entry(0, 0x9_fc00, MapType::SystemRam));
    assert_eq!(firmware[3], entry(0x10_0000, 0x7fed_d000, MapType::SystemRam));
    assert_eq!(firmware[8], entry(0xfd_0000_0000, 3 << 32, MapType::Reserved));

    let line = text("memmap/cmdline");
    let options: Vec<_> = memmap_options(&line).map(Result::unwrap).collect();
    let persistent = entry(GIB, GIB / 2, MapType::PersistentLegacy);
    let reserved = range(0x7000_0000, GIB / 4);
    assert_eq!(
        options,
        [
            MemmapOption::Set(persistent),
            MemmapOption::Change { range: reserved, from: Some(1), to: Some(2) },
        ]
    );
    let map = text("memmap/iomem");
    let named = |start: u64| {
        let mut lines = iomem::lines(&map).map(Result::unwrap);
        lines.find(|line| line.range.start() == PhysAddr(start)).unwrap()
    };
    let line = named(GIB);
    assert_eq!((line.range, MapType::named(line.name)), (persistent.range, persistent.kind));
    assert_eq!(named(0x7000_0000).name, "Reserved");
    assert!(named(0x7000_0000).range.contains(reserved));
}
