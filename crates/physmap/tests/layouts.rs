//! Records that neither QEMU writes nor the `acpi_tables` crate builds, byte by byte as the
//! specifications have them; and the same with a byte too few.

mod common;

use memtide_physmap::{
    acpi::{
        TableError,
        cedt::{self, Cedt},
        error::Expected,
        hmat::{self, Hmat},
        srat::{Generic, Handle, Presence, Processor, ProcessorId, Record, Srat},
    },
    cdat::{self, Cdat},
    performance::Coordinate,
};
use memtide_units::PhysAddr;

/// Bytes of a record, field by field.
#[derive(Default, Clone)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    fn zeros(mut self, count: usize) -> Self {
        self.0.resize(self.0.len() + count, 0);
        self
    }
}

/// A record with its type and length in front, each in one byte.
fn srat_record(kind: u8, body: Bytes) -> Vec<u8> {
    [&[kind, body.0.len() as u8 + 2][..], &body.0].concat()
}

fn srat(records: &[Vec<u8>]) -> Vec<u8> {
    common::with_header(b"SRAT", 3, &[vec![0; 12], records.concat()].concat())
}

/// A record with its type and length in front, as CEDT and CDAT have it.
fn cxl_record(kind: u8, body: Bytes) -> Vec<u8> {
    [&[kind, 0][..], &(body.0.len() as u16 + 4).to_le_bytes(), &body.0].concat()
}

fn cedt(records: &[Vec<u8>]) -> Vec<u8> {
    common::with_header(b"CEDT", 1, &records.concat())
}

fn cdat(records: &[Vec<u8>]) -> Vec<u8> {
    let mut table = vec![0; 16];
    table.extend(records.concat());
    let length = table.len() as u32;
    table[..4].copy_from_slice(&length.to_le_bytes());
    (table[4], table[12]) = (1, 7);
    table[5] = table.iter().fold(0, |sum: u8, byte| sum.wrapping_sub(*byte));
    table
}

fn length_error(record: &'static str, length: u64, expected: Expected) -> TableError {
    TableError::Length { record, offset: 16, length, expected }
}

#[test]
fn srat_processors_of_all_kinds_and_generic_ports() {
    let x2apic = Bytes::default().u16(0).u32(3).u32(0x1_0000).u32(1).u32(0).u32(0);
    let gicc = Bytes::default().u32(2).u32(77).u32(0).u32(0);
    let bridge = Bytes::default().u8(0).u8(0).u32(9).bytes(b"ACPI0016").u32(222).u32(0);
    let port = bridge.u32(1).u32(0);
    let absent = Bytes::default().u8(0).u8(0).u32(8).bytes(b"ACPI0016").u32(7).zeros(12);
    let newer = Bytes::default().u8(0).u8(2).u32(9).zeros(24);
    let table = srat(&[
        srat_record(2, x2apic),
        srat_record(3, gicc),
        srat_record(6, port),
        srat_record(5, newer),
        // Not there, whatever it says.
        srat_record(6, absent),
    ]);
    let read: Vec<_> = Srat::parse(&table).unwrap().records().map(Result::unwrap).collect();
    let processor = |domain, id, presence| Record::Processor(Processor { domain, id, presence });
    let handle = Handle::Acpi { hid: *b"ACPI0016", uid: 222 };
    let generic = Generic { domain: 9, handle, presence: Presence::Enabled, flags: 1 };
    let domain = |uid| Srat::parse(&table).unwrap().host_bridge_domain(uid);
    assert_eq!((domain(222), domain(9), domain(7)), (Some(9), None, None));
    let unknown =
        Generic { domain: 9, handle: Handle::Unknown(2), presence: Presence::Disabled, flags: 0 };
    assert_eq!(
        read,
        [
            processor(3, ProcessorId::Apic(0x1_0000), Presence::Enabled),
            processor(2, ProcessorId::Uid(77), Presence::Disabled),
            Record::GenericPort(generic),
            Record::GenericInitiator(unknown),
            Record::GenericPort(Generic {
                domain: 8,
                handle: Handle::Acpi { hid: *b"ACPI0016", uid: 7 },
                presence: Presence::Disabled,
                flags: 0,
            }),
        ]
    );
}

#[test]
fn srat_records_too_short_cost_only_themselves() {
    for (kind, name, least) in [
        (0, "processor", 16),
        (1, "memory", 40),
        (2, "x2APIC processor", 24),
        (3, "GICC processor", 18),
        (5, "generic initiator", 32),
        (6, "generic port", 32),
    ] {
        let short = srat_record(kind, Bytes::default().zeros(least - 3));
        let right = srat_record(kind, Bytes::default().zeros(least - 2));
        let table = srat(&[short, right]);
        let read: Vec<_> = Srat::parse(&table).unwrap().records().collect();
        let expected = Expected::AtLeast(least as u64);
        let length = least as u64 - 1;
        let error = TableError::Length { record: name, offset: 48, length, expected };
        assert_eq!((read[0], read[1].is_ok(), read.len()), (Err(error), true, 2));
    }
}

#[test]
fn cedt_host_bridges_that_linux_does_not_use() {
    let chbs = |version: u32, base: u64, bytes: u64| {
        let body = Bytes::default().u32(5).u32(version).u32(0).u64(base).u64(bytes);
        let table = cedt(&[cxl_record(0, body)]);
        let read = Cedt::parse(&table).unwrap();
        let Some(Ok(cedt::Record::HostBridge(chbs))) = read.records().next() else { panic!() };
        assert_eq!((chbs.uid, chbs.version, chbs.base), (5, version, PhysAddr(base)));
        chbs.check().map_err(|error| error.to_string())
    };
    assert_eq!(chbs(0, 0x1000, 0x2000), Ok(()));
    assert_eq!(chbs(1, 0x1000, 0x1_0000), Ok(()));
    let wrong = |what: &str| Err(format!("CHBS at 0x24: {what}"));
    assert_eq!(chbs(0, 0x1000, 0x1_0000), wrong("length is 0x10000: expected 0x2000, for CXL 1.1"));
    assert_eq!(chbs(1, 0x1000, 0x2000), wrong("length is 0x2000: expected 0x10000, for CXL 2.0"));
    assert_eq!(chbs(1, 0, 0x1_0000), wrong("base is 0x0: expected an address"));
}

/// A window of `eiw`, and room for `targets`.
fn window(eiw: u8, arithmetic: u8, eig: u32, targets: u32) -> Vec<u8> {
    let head = Bytes::default().u32(0).u64(0).u64(12 << 30).u8(eiw).u8(arithmetic).u16(0);
    let body = (0..targets).fold(head.u32(eig).u16(4).u16(0), Bytes::u32);
    cxl_record(1, body)
}

#[test]
fn cedt_windows_may_be_longer_than_their_targets() {
    let table = cedt(&[window(8, 0, 0, 5)]);
    let read = Cedt::parse(&table).unwrap();
    let (window, decoder) = read.decoders().next().unwrap();
    assert_eq!(window.targets.len(), 5);
    assert!(window.targets.first(3).iter().eq(0..3));
    assert_eq!(decoder.unwrap().interleave().ways().count(), 3);
}

#[test]
fn cedt_maps_that_do_not_fit_are_refused() {
    let maps = |eig: u8, count: u8, maps: &[u64]| {
        let head = Bytes::default().u16(0).u8(eig).u8(count);
        cxl_record(2, maps.iter().fold(head, |bytes, map| bytes.u64(*map)))
    };
    let decode = |maps: Vec<u8>| {
        let table = cedt(&[window(10, 1, 1, 12), maps]);
        let read = Cedt::parse(&table).unwrap();
        let (_, decoder) = read.decoders().next().unwrap();
        decoder.map(|decoder| decoder.xor_maps().to_vec()).map_err(|error| error.to_string())
    };
    let at = 36 + 36 + 48;
    let wrong = |what: &str| Err(format!("CXIMS at {at:#x}: {what}"));
    assert_eq!(decode(maps(1, 2, &[0x1200, 0x2400])), Ok(vec![0x1200, 0x2400]));
    assert_eq!(decode(maps(1, 3, &[0x1200, 0x2400, 0])), Ok(vec![0x1200, 0x2400]));
    let few = "map count is 0x1: expected one for each bit of the ways";
    assert_eq!(decode(maps(1, 1, &[0x1200])), wrong(few));
    let low =
        "map is 0x2500: expected a map whose lowest bit is its own bit of the target's number";
    assert_eq!(decode(maps(1, 2, &[0x1200, 0x2500])), wrong(low));

    // Of two records for a granularity the last counts.
    let twice = [maps(1, 2, &[0x1200, 0x2400]), maps(1, 2, &[0x200, 0x400])];
    assert_eq!(decode(twice.concat()), Ok(vec![0x200, 0x400]));

    // A count that is not true is no record at all: then there are no maps.
    let table = cedt(&[maps(1, 3, &[0x1200, 0x2400])]);
    let read: Vec<_> = Cedt::parse(&table).unwrap().records().collect();
    let error = TableError::Truncated { record: "CXIMS", offset: 36, needed: 32, present: 24 };
    assert_eq!(read, [Err(error)]);
}

#[test]
fn hmat_attachments_have_one_length_and_may_name_nobody() {
    let proximity = |length: u32, flags: u16| {
        let head = Bytes::default().u32(0).u16(0).u16(0).u32(length).u16(flags).u16(0);
        let body = head.u32(1).u32(2).zeros(length as usize - 20);
        let table = common::with_header(b"HMAT", 2, &body.0);
        Hmat::parse(&table).unwrap().records().next().unwrap().map(|record| match record {
            hmat::Record::Proximity(proximity) => (proximity.initiator, proximity.memory),
            other => panic!("{other:?}"),
        })
    };
    assert_eq!(proximity(40, 1), Ok((Some(1), 2)));
    assert_eq!(proximity(40, 2), Ok((None, 2)));
    for length in [39, 41] {
        let expected = Expected::Exactly(40);
        let record = "proximity domain";
        let length_error =
            TableError::Length { record, offset: 40, length: length.into(), expected };
        assert_eq!(proximity(length, 1), Err(length_error));
    }
}

#[test]
fn hmat_of_an_unknown_revision_means_nothing() {
    for revision in [0, 3, 255] {
        let table = common::with_header(b"HMAT", revision, &[0; 4]);
        assert_eq!(
            Hmat::parse(&table),
            Err(TableError::Value {
                record: "HMAT",
                offset: 0,
                field: "revision",
                value: revision.into(),
                expected: "1 or 2",
            })
        );
    }
}

#[test]
fn cdat_of_everything_there_is() {
    let dsmas = Bytes::default().u8(1).u8(0b0111_1100).u16(0).u64(1 << 28).u64(1 << 30);
    let dslbis = Bytes::default().u8(1).u8(2).u8(9).u8(0).u64(1000).u16(5).u16(6).u16(7).u16(0);
    let dsmscis = Bytes::default().u8(1).zeros(3).u64(1 << 20).u32(0x40_1111);
    let dsis = Bytes::default().u8(1).u8(1).u16(0);
    let dsemts = Bytes::default().u8(1).u8(2).u16(0).u64(4096).u64(8192);
    let sslbis = Bytes::default().u8(4).zeros(3).u64(10).u16(0xffff).u16(0x100).u16(3).u16(0);
    let table = cdat(&[
        cxl_record(0, dsmas),
        cxl_record(1, dslbis),
        cxl_record(2, dsmscis),
        cxl_record(3, dsis),
        cxl_record(4, dsemts),
        cxl_record(5, sslbis),
        cxl_record(6, Bytes::default()),
    ]);
    let read = Cdat::parse(&table).unwrap();
    assert_eq!((read.checksum(), read.revision(), read.sequence()), (Ok(()), 1, 7));
    let mut records = read.records().map(Result::unwrap);
    let mut next = || records.next().unwrap();

    let cdat::Record::Memory(memory) = next() else { panic!() };
    assert_eq!((memory.handle, memory.base, memory.bytes), (1, PhysAddr(1 << 28), 1 << 30));
    assert!(memory.flags.contains(cdat::MemoryFlags::SHARABLE | cdat::MemoryFlags::READ_ONLY));
    assert_eq!(memory.flags.iter_names().count(), 5);

    let cdat::Record::Locality(locality) = next() else { panic!() };
    assert_eq!((locality.hierarchy, locality.data_type), (hmat::Hierarchy::Cache(2), Err(9)));
    assert_eq!((locality.entries, locality.value()), ([5, 6, 7], None));

    let cdat::Record::SideCache(cache) = next() else { panic!() };
    let what = cache.attributes;
    assert_eq!((cache.handle, cache.bytes, what.line_bytes()), (1, 1 << 20, 64));
    assert_eq!((what.levels(), what.level()), (1, 1));
    assert_eq!(what.associativity(), hmat::Associativity::DirectMapped);
    assert_eq!(what.write_policy(), hmat::WritePolicy::WriteBack);

    let cdat::Record::Initiator(initiator) = next() else { panic!() };
    assert_eq!((initiator.flags, initiator.handle), (1, 1));

    let cdat::Record::EfiMemory(efi) = next() else { panic!() };
    assert_eq!((efi.handle, efi.memory_type), (1, cdat::EfiMemoryType::Reserved));
    assert_eq!((efi.offset, efi.bytes), (4096, 8192));

    let cdat::Record::Switch(switch) = next() else { panic!() };
    assert_eq!(switch.data_type, Ok(hmat::DataType::ReadBandwidth));
    let ways: Vec<_> = switch.entries().map(|way| (way.downstream(), way.value)).collect();
    assert_eq!(ways, [(None, Some(30))]);

    let cdat::Record::Unknown(unknown) = next() else { panic!() };
    assert_eq!((unknown.kind, unknown.length), (6, 4));
    assert_eq!(unknown.offset + 4, table.len());
}

/// What a cache before memory does is not what memory does.
#[test]
fn numbers_of_caches_are_not_those_of_memory() {
    let latency = |hierarchy: u8, value: u16| {
        let head = Bytes::default().u8(0).u8(hierarchy).u8(0).u8(0);
        cxl_record(1, head.u64(1000).u16(value).zeros(6))
    };
    let table = cdat(&[latency(0, 100), latency(1, 5)]);
    let device = Coordinate::of_device(Cdat::parse(&table).unwrap(), 0);
    assert_eq!(device.read_latency_ns, Some(100));

    let matrix = |hierarchy: u8, value: u16| {
        let head = Bytes::default().u16(1).u16(0).u32(42).u8(hierarchy).u8(0).u16(0);
        head.u32(1).u32(1).u32(0).u64(1000).u32(0).u32(1).u16(value).0
    };
    let table = [vec![0; 4], matrix(0, 80), matrix(2, 9)].concat();
    let table = common::with_header(b"HMAT", 2, &table);
    let node = Coordinate::from_hmat(Hmat::parse(&table).unwrap(), 0, 1);
    assert_eq!((node.read_latency_ns, node.write_latency_ns), (Some(80), Some(80)));
    assert_eq!((node.read_mb_per_s, node.write_mb_per_s), (None, None));
}

/// A number for all ports, and then others for some.
#[test]
fn ways_to_any_port_are_ways_to_each() {
    let ways = |kind: u8, ways: &[[u16; 3]]| {
        let head = Bytes::default().u8(kind).zeros(3).u64(1000);
        let add = |bytes: Bytes, [x, y, value]: &[u16; 3]| bytes.u16(*x).u16(*y).u16(*value).u16(0);
        cxl_record(5, ways.iter().fold(head, add))
    };
    let (any, up) = (cdat::ANY_PORT, cdat::UPSTREAM_PORT);
    let table = cdat(&[ways(0, &[[up, any, 100], [up, 3, 70]]), ways(4, &[[any, any, 8]])]);
    let read = Cdat::parse(&table).unwrap();
    let numbers = |port| {
        let way = Coordinate::of_switch(read, port);
        (way.read_latency_ns, way.write_latency_ns, way.read_mb_per_s, way.write_mb_per_s)
    };
    assert_eq!(numbers(0), (Some(100), Some(100), Some(8000), None));
    assert_eq!(numbers(3), (Some(70), Some(70), Some(8000), None));
}

#[test]
fn cdat_records_of_other_lengths_are_refused() {
    for (kind, name, length) in
        [(0, "DSMAS", 24), (1, "DSLBIS", 24), (2, "DSMSCIS", 20), (3, "DSIS", 8), (4, "DSEMTS", 24)]
    {
        for wrong in [length - 1, length + 1] {
            let table = cdat(&[cxl_record(kind, Bytes::default().zeros(wrong - 4))]);
            let read: Vec<_> = Cdat::parse(&table).unwrap().records().collect();
            let expected = Expected::Exactly(length as u64);
            assert_eq!(read, [Err(length_error(name, wrong as u64, expected))]);
        }
    }
    for wrong in [4, 15, 16, 20, 25] {
        let table = cdat(&[cxl_record(5, Bytes::default().zeros(wrong - 4))]);
        let read: Vec<_> = Cdat::parse(&table).unwrap().records().collect();
        let expected = Expected::ListOf { head: 16, element: 8 };
        assert_eq!(read, [Err(length_error("SSLBIS", wrong as u64, expected))]);
    }
}

#[test]
fn cdat_whose_length_is_not_true_is_refused() {
    let mut table = cdat(&[]);
    assert!(Cdat::parse(&table).is_ok());
    table[0] = 17;
    let long = TableError::Truncated { record: "CDAT", offset: 0, needed: 17, present: 16 };
    assert_eq!(Cdat::parse(&table), Err(long));
    table[0] = 15;
    let expected = Expected::AtLeast(16);
    let short = TableError::Length { record: "CDAT", offset: 0, length: 15, expected };
    assert_eq!(Cdat::parse(&table), Err(short));
    assert!(matches!(Cdat::parse(&[]), Err(TableError::Truncated { .. })));
}
