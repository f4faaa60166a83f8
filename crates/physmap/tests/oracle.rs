//! Tables built by the `acpi_tables` crate, which virtual machine monitors use, and read here.
//!
//! In its version 0.2.1 CHBS (27 bytes that say 32), RDPAS (17 that say 16) and SRAT's RINTC (16
//! that say 20) are tables that lie, and have to be refused; host bridges are held against QEMU's
//! tables instead (`guests.rs`). `cxl_type_3_memory` sets the bit of type 2 and is not
//! used here.

use acpi_tables::{Aml, cedt as build, hmat as build_hmat, slit as build_slit, srat as build_srat};
use memtide_physmap::acpi::{
    Table, TableError,
    cedt::{Cedt, Record, Restrictions},
    error::Expected,
    hmat::{Associativity, DataType, Hierarchy, Hmat, Proximity, WritePolicy},
    hmat::{Record as HmatRecord, Revision},
    slit::Slit,
    srat::{
        Generic, Handle, Memory, MemoryFlags, Presence, Processor, ProcessorId,
        Record as SratRecord, Srat,
    },
};
use memtide_units::{PhysAddr, PhysRange};

const OEM: ([u8; 6], [u8; 8], u32) = (*b"MEMTID", *b"TABLES__", 1);

fn bytes(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

fn check(table: Table<'_>) {
    assert_eq!(table.checksum(), Ok(()));
    assert_eq!(table.oem(), Ok(*b"MEMTID"));
    assert_eq!(table.revision(), 1);
}

fn empty_cedt() -> build::CEDT {
    build::CEDT::new(OEM.0, OEM.1, OEM.2)
}

fn range(start: u64, bytes: u64) -> PhysRange {
    PhysRange::from_size(PhysAddr(start), bytes).unwrap()
}

fn records(table: &Cedt<'_>) -> usize {
    table.records().map(Result::unwrap).count()
}

#[test]
fn cedt_windows_of_all_ways_and_granularities() {
    use build::{InterleaveGranularity as G, InterleaveWays as W};
    let granularities = [
        G::Granularity256b,
        G::Granularity512b,
        G::Granularity1kb,
        G::Granularity2kb,
        G::Granularity4kb,
        G::Granularity8kb,
        G::Granularity16kb,
    ];
    let ways = [
        (W::Ways1, 1),
        (W::Ways2, 2),
        (W::Ways4, 4),
        (W::Ways8, 8),
        (W::Ways16, 16),
        (W::Ways3, 3),
        (W::Ways6, 6),
        (W::Ways12, 12),
    ];
    let mut table = empty_cedt();
    for (row, granularity) in granularities.into_iter().enumerate() {
        for (column, (ways, count)) in ways.into_iter().enumerate() {
            let base = (row * 8 + column) as u64 * (16 << 30);
            let modulo = build::InterleaveArithmetic::Modulo;
            let mut window =
                build::CxlFixedMemory::new(base, 12 << 30, modulo, granularity, ways, 7)
                    .volatile()
                    .fixed_configuration();
            (0..count).for_each(|uid: u32| window.add_target((100 + uid).to_le_bytes()));
            table.add_fixed_memory(window);
        }
    }
    let bytes = bytes(&table);
    let read = Cedt::parse(&bytes).unwrap();
    check(read.table());
    assert_eq!(records(&read), 56);
    for (n, (window, decoder)) in read.decoders().enumerate() {
        let count = ways[n % 8].1;
        assert_eq!(window.range(), Some(range(n as u64 * (16 << 30), 12 << 30)));
        assert_eq!(window.restrictions, Restrictions::VOLATILE | Restrictions::FIXED);
        assert_eq!((window.qtg, window.arithmetic), (7, 0));
        assert!(window.targets.iter().eq(100..100 + count));
        let decoder = decoder.unwrap();
        assert_eq!(u32::from(decoder.interleave().ways().count()), count);
        // Anything fits into a window of one way: the smallest granularity.
        let shown = if count == 1 { 256 } else { 256 << (n / 8) };
        assert_eq!(decoder.interleave().granularity().bytes(), shown);
        assert_eq!(Some(decoder.range()), window.range());
    }
}

#[test]
fn cedt_xor_windows_find_the_maps_of_their_granularity() {
    use build::{InterleaveGranularity as G, XorInterleaveMath};
    let mut table = empty_cedt();
    for (granularity, maps) in [
        (G::Granularity256b, &[0x202_0900_u64, 0x404_1200][..]),
        (G::Granularity512b, &[0x1200, 0x2400]),
    ] {
        let mut math = XorInterleaveMath::new(granularity);
        maps.iter().for_each(|map| math.add_xormap(*map));
        table.add_xor_interleave_math(math);
    }
    let xor = build::InterleaveArithmetic::ModuloXor;
    for granularity in [G::Granularity256b, G::Granularity512b, G::Granularity1kb] {
        let ways = build::InterleaveWays::Ways4;
        let mut window = build::CxlFixedMemory::new(0, 1 << 30, xor, granularity, ways, 0);
        (0..4_u32).for_each(|uid| window.add_target(uid.to_le_bytes()));
        table.add_fixed_memory(window);
    }
    let bytes = bytes(&table);
    let read = Cedt::parse(&bytes).unwrap();
    assert_eq!(records(&read), 5);
    let windows: Vec<_> = read.decoders().collect();
    let maps = |n: usize| windows[n].1.unwrap().xor_maps().to_vec();
    assert_eq!(maps(0), [0x202_0900, 0x404_1200]);
    assert_eq!(maps(1), [0x1200, 0x2400]);
    assert_eq!(
        windows[2].1,
        Err(TableError::Value {
            record: "CFMWS",
            offset: windows[2].0.offset(),
            field: "granularity",
            value: 2,
            expected: "a granularity that a CXIMS record is there for",
        })
    );
}

#[test]
fn cedt_records_that_the_crate_writes_too_short_are_refused() {
    let mut table = empty_cedt();
    table.add_host_bridge(build::CxlHostBridge::new(7, build::CxlVersion::Cxl2, 0x5_8000_0000));
    let host_bridge = bytes(&table);
    let lies = TableError::Truncated { record: "CEDT", offset: 0, needed: 68, present: 63 };
    assert_eq!(Cedt::parse(&host_bridge), Err(lies));

    let mut table = empty_cedt();
    let io = build::ProtocolType::CxlIo;
    table.add_port_association(build::PortAssociation::new(1, 2, 3, 4, io, 0x1234));
    let association = bytes(&table);
    let read = Cedt::parse(&association).unwrap();
    assert_eq!(
        read.records().collect::<Vec<_>>(),
        [Err(TableError::Length {
            record: "RDPAS",
            offset: 36,
            length: 16,
            expected: Expected::AtLeast(17),
        })]
    );
    // With the length that it has, the fields are where ACPICA has them too.
    let mut right = association;
    (right[4], right[38]) = (53, 17);
    let read = Cedt::parse(&right).unwrap();
    let Ok(Record::PortAssociation(rdpas)) = read.records().next().unwrap() else { panic!() };
    assert_eq!((rdpas.segment, rdpas.bdf, rdpas.protocol), (1, 0x021c, 0));
    assert_eq!(rdpas.base, PhysAddr(0x1234));
}

#[test]
fn srat_memory_initiators_and_what_is_not_known() {
    use build_srat::{GenericInitiator, Handle as Name, MemoryAffinity, SRAT};
    let mut table = SRAT::new(OEM.0, OEM.1, OEM.2);
    table.add_memory_affinity(MemoryAffinity::new(0, 0, 0xa_0000).enabled());
    table.add_memory_affinity(
        MemoryAffinity::new(1, 1 << 32, 4 << 30).enabled().hotpluggable().nonvolatile(),
    );
    table.add_memory_affinity(MemoryAffinity::new(2, 0, 0));
    let bridge = Name::new_acpi(*b"ACPI0016", 12_u32.to_le_bytes());
    table.add_generic_initiator(GenericInitiator::new(0x1_0002, bridge).enabled());
    let device = Name::new_pci(0x102, 0x0d, 3, 4);
    table.add_generic_initiator(GenericInitiator::new(5, device).architectural());
    let mut bytes = bytes(&table);
    // Type 7 is of another kind of machine.
    bytes.extend([7, 6, 0, 0, 0, 0]);
    bytes[4] += 6;
    bytes[9] = bytes[9].wrapping_sub(6 + 7 + 6);
    let read = Srat::parse(&bytes).unwrap();
    check(read.table());

    let memory = |domain, base, bytes, flags| {
        SratRecord::Memory(Memory { domain, base: PhysAddr(base), bytes, flags })
    };
    let generic = |domain, handle, presence, flags| {
        SratRecord::GenericInitiator(Generic { domain, handle, presence, flags })
    };
    let all: Vec<_> = read.records().map(Result::unwrap).collect();
    let SratRecord::Unknown(unknown) = all[5] else { panic!("{:?}", all[5]) };
    assert_eq!((unknown.kind, unknown.length, unknown.offset), (7, 6, 48 + 3 * 40 + 2 * 32));
    let most = MemoryFlags::ENABLED | MemoryFlags::HOT_PLUGGABLE | MemoryFlags::NON_VOLATILE;
    assert_eq!(
        all[..5],
        [
            memory(0, 0, 0xa_0000, MemoryFlags::ENABLED),
            memory(1, 1 << 32, 4 << 30, most),
            memory(2, 0, 0, MemoryFlags::empty()),
            generic(0x1_0002, Handle::Acpi { hid: *b"ACPI0016", uid: 12 }, Presence::Enabled, 1),
            generic(5, Handle::Pci { segment: 0x102, bdf: 0x0d1c }, Presence::Disabled, 2),
        ]
    );
    let enabled: Vec<_> = read.memory().collect();
    assert_eq!(enabled, [(0, range(0, 0xa_0000)), (1, range(1 << 32, 4 << 30))]);
}

#[test]
fn srat_of_revision_1_has_8_bits_of_domain() {
    use build_srat::{MemoryAffinity, SRAT};
    let mut table = SRAT::new(OEM.0, OEM.1, OEM.2);
    table.add_memory_affinity(MemoryAffinity::new(0x1234_5607, 0, 4096).enabled());
    let mut bytes = bytes(&table);
    // A processor: low bits 0x07, high bits 0x563412; APIC 9; enabled.
    bytes.extend([0, 16, 0x07, 9, 1, 0, 0, 0, 0, 0x56, 0x34, 0x12, 0, 0, 0, 0]);
    let length = bytes.len() as u32;
    bytes[4..8].copy_from_slice(&length.to_le_bytes());
    for (revision, domain) in [(1, 7), (2, 0x1234_5607), (3, 0x1234_5607)] {
        bytes[8] = revision;
        let read = Srat::parse(&bytes).unwrap();
        assert_eq!(read.memory().next(), Some((domain, range(0, 4096))), "revision {revision}");
        let processor = read.records().nth(1).unwrap().unwrap();
        let (id, presence) = (ProcessorId::Apic(9), Presence::Enabled);
        assert_eq!(processor, SratRecord::Processor(Processor { domain, id, presence }));
    }
}

#[test]
fn hmat_matrices_caches_and_attachments() {
    use build_hmat as b;
    let mut table = b::HMAT::new(OEM.0, OEM.1, OEM.2);
    table.add_memory_proximity(b::MemoryProximityDomain::new(0x42, 0x37));
    let mut matrix = b::SystemLocality::new(
        b::LocalityType::Memory,
        b::DataType::ReadLatency,
        b::MinTransferSize::Size64b,
        1000,
        2,
        2,
    );
    for (index, domain) in [(0, 0x100), (1, 0x101)] {
        matrix.set_initiator_value(index, domain);
        matrix.set_target_value(index, domain + 0x1000);
    }
    matrix.set_entry_value(0, 0, 80);
    matrix.set_entry_value(0, 1, 250);
    matrix.set_entry_value(1, 0, 0);
    table.add_system_locality(matrix);
    let mut cache = b::MemorySideCache::new(
        0x37,
        16 << 30,
        b::CacheLevel::Two,
        b::CacheLevel::One,
        b::Associativity::DirectMapped,
        b::WritePolicy::Writethrough,
        64,
    );
    cache.add_smbios_handle(0x1100);
    cache.add_smbios_handle(0x1101);
    table.add_memory_side_cache(cache);
    let bytes = bytes(&table);
    let read = Hmat::parse(&bytes).unwrap();
    check(read.table());
    assert_eq!(read.revision(), Revision::One);
    let all: Vec<_> = read.records().map(Result::unwrap).collect();
    assert_eq!(all[0], HmatRecord::Proximity(Proximity { initiator: Some(0x42), memory: 0x37 }));

    let HmatRecord::Locality(locality) = all[1] else { panic!("{:?}", all[1]) };
    assert_eq!(locality.hierarchy, Hierarchy::Memory);
    assert_eq!(locality.data_type, Ok(DataType::ReadLatency));
    assert_eq!((locality.min_transfer, locality.base_unit), (1, 1000));
    assert!(locality.initiators.iter().eq([0x100, 0x101]));
    assert!(locality.targets.iter().eq([0x1100, 0x1101]));
    assert!(locality.entries.iter().eq([80, 250, 0, 0xffff]));
    assert_eq!(locality.between(0x100, 0x1101), Some(25_000));
    assert_eq!(locality.between(0x101, 0x1100), None);
    assert_eq!(locality.between(0x101, 0x1101), None);
    assert_eq!(locality.between(0x102, 0x1101), None);

    let HmatRecord::SideCache(cache) = all[2] else { panic!("{:?}", all[2]) };
    assert_eq!((cache.memory, cache.bytes, cache.address_mode), (0x37, 16 << 30, 0));
    let what = cache.attributes;
    assert_eq!((what.levels(), what.level(), what.line_bytes()), (2, 1, 64));
    assert_eq!(what.associativity(), Associativity::DirectMapped);
    assert_eq!(what.write_policy(), WritePolicy::WriteThrough);
    assert!(cache.smbios_handles.iter().eq([0x1100, 0x1101]));
}

#[test]
fn slit_distances() {
    let mut table = build_slit::SLIT::new(OEM.0, OEM.1, OEM.2, 4);
    for from in 0..4 {
        for to in 0..from {
            table.set_distance(from, to, (16 * from + to) as u8);
        }
    }
    let bytes = bytes(&table);
    let read = Slit::parse(&bytes).unwrap();
    check(read.table());
    assert_eq!((read.localities(), read.check()), (4, Ok(())));
    assert_eq!(read.distance(2, 2), Some(10));
    assert_eq!((read.distance(3, 1), read.distance(1, 3)), (Some(49), Some(49)));
    assert_eq!((read.distance(4, 0), read.distance(0, 4)), (None, None));

    // As the crate makes it: ten everywhere.
    let bytes = crate::bytes(&build_slit::SLIT::new(OEM.0, OEM.1, OEM.2, 2));
    let error = Slit::parse(&bytes).unwrap().check().unwrap_err().to_string();
    assert_eq!(error, "SLIT at 0x0: distance is 0xa: expected more than 10 between two domains");
}
