//! Everything that can be asked of bytes, asked: shared by tests and the fuzz target.
//!
//! What comes out is not looked at, except where two answers have to agree: this is about bytes
//! that lie, and nothing must come of them but answers and errors.

#![allow(dead_code)]

use memtide_physmap::{
    acpi::{
        cedt::{self, Cedt},
        hmat::{self, Hmat},
        slit::Slit,
        srat::{self, Srat},
    },
    cdat::{self, Cdat},
    firmware_map,
    interleave::{RootDecoder, Route},
    iomem,
    performance::Coordinate,
};

/// Reads `bytes` as every table and every text.
pub fn walk(bytes: &[u8]) {
    cedt(bytes);
    srat(bytes);
    hmat(bytes);
    slit(bytes);
    cdat(bytes);
    text(&String::from_utf8_lossy(bytes));
}

/// The names that tables start with, for those who make bytes up.
pub const SIGNATURES: [&[u8; 4]; 4] = [b"CEDT", b"SRAT", b"HMAT", b"SLIT"];

/// `bytes` with a header that is read: so that what lies behind it is.
pub fn with_header(signature: &[u8; 4], revision: u8, bytes: &[u8]) -> Vec<u8> {
    let mut table = vec![0; 36];
    table[..4].copy_from_slice(signature);
    table[4..8].copy_from_slice(&(36 + bytes.len() as u32).to_le_bytes());
    table[8] = revision;
    table.extend_from_slice(bytes);
    right_sum(&mut table);
    table
}

/// Makes the bytes of an ACPI table add up to zero.
pub fn right_sum(table: &mut [u8]) {
    table[9] = 0;
    table[9] = table.iter().fold(0, |sum: u8, byte| sum.wrapping_sub(*byte));
}

fn cedt(bytes: &[u8]) {
    let Ok(table) = Cedt::parse(bytes) else { return };
    assert!(table.table().bytes().len() <= bytes.len());
    let _ = (table.table().checksum(), table.table().oem());
    // A record has four bytes or more.
    assert!(table.records().count() <= bytes.len() / 4 + 1);
    for record in table.records() {
        match record {
            Ok(cedt::Record::HostBridge(chbs)) => drop(chbs.check()),
            Ok(cedt::Record::XorMaps(cxims)) => drop(cxims.maps.iter().max()),
            Err(error) => drop(error.to_string()),
            _ => {}
        }
    }
    for (window, decoder) in table.decoders() {
        let _ = (window.range(), window.offset(), window.targets.iter().max());
        let Ok(decoder) = decoder else { continue };
        let range = decoder.range();
        for address in [range.start(), range.last()] {
            let target = decoder.target(address).unwrap();
            assert!(window.targets.get(target.into()).is_some());
        }
        region(decoder);
    }
}

/// A region of all that the window has, at a device below each host bridge.
fn region(window: RootDecoder) {
    let device = window.interleave();
    let Ok(route) = Route::new(window, window.range(), &[], device) else { return };
    for address in [window.range().start(), window.range().last()] {
        let place = route.locate(address).unwrap();
        assert_eq!(route.address(place), Ok(address));
        assert!(route.targets(place.position).unwrap().eq([place.position]));
    }
}

fn srat(bytes: &[u8]) {
    let Ok(table) = Srat::parse(bytes) else { return };
    for record in table.records() {
        match record {
            Ok(srat::Record::Memory(memory)) => drop(memory.range()),
            Err(error) => drop(error.to_string()),
            _ => {}
        }
    }
    assert!(table.memory().count() <= bytes.len() / 40);
    let _ = table.host_bridge_domain(0);
}

fn hmat(bytes: &[u8]) {
    let Ok(table) = Hmat::parse(bytes) else { return };
    let _ = Coordinate::from_hmat(table, 0, 1);
    for record in table.records() {
        match record {
            Ok(hmat::Record::Locality(locality)) => {
                let (rows, columns) = (locality.initiators.len(), locality.targets.len());
                assert_eq!(locality.entries.len(), rows * columns);
                for (row, initiator) in locality.initiators.iter().enumerate().take(8) {
                    for column in 0..columns.min(8) {
                        assert!(locality.entry(row, column).is_some());
                        let _ = locality.value(row, column);
                    }
                    let _ = locality.between(initiator, 0);
                }
                assert_eq!((locality.entry(rows, 0), locality.entry(0, columns)), (None, None));
            }
            Ok(hmat::Record::SideCache(cache)) => {
                let what = cache.attributes;
                let _ = (what.level(), what.levels(), what.associativity(), what.write_policy());
                let _ = (what.line_bytes(), cache.smbios_handles.iter().count());
            }
            Err(error) => drop(error.to_string()),
            _ => {}
        }
    }
}

fn slit(bytes: &[u8]) {
    let Ok(table) = Slit::parse(bytes) else { return };
    let side = table.localities();
    assert!(side * side <= bytes.len());
    assert_eq!(table.distance(side, 0), None);
    if let Some(last) = side.checked_sub(1) {
        assert!(table.distance(last, last).is_some());
    }
    let _ = table.check();
}

fn cdat(bytes: &[u8]) {
    let Ok(table) = Cdat::parse(bytes) else { return };
    let _ = (table.checksum(), table.revision(), table.sequence());
    let _ = Coordinate::of_device(table, 0).through(Coordinate::of_switch(table, 0));
    for record in table.records() {
        match record {
            Ok(cdat::Record::Locality(locality)) => drop(locality.value()),
            Ok(cdat::Record::Switch(switch)) => {
                assert!(switch.entries().all(|entry| entry.downstream() != Some(cdat::ANY_PORT)));
            }
            Err(error) => drop(error.to_string()),
            _ => {}
        }
    }
}

fn text(text: &str) {
    for line in iomem::lines(text) {
        match line {
            Ok(line) => assert!(line.depth <= iomem::DEPTH_MAX),
            Err(error) => drop(error.to_string()),
        }
    }
    let _ = iomem::visibility(text);
    for entry in firmware_map::boot_log(text) {
        let _ = entry.map_err(|error| error.to_string());
    }
    for option in firmware_map::memmap_options(text) {
        let _ = option.map_err(|error| error.to_string());
    }
    let _ = firmware_map::MapEntry::from_sysfs(text, text, text);
}
