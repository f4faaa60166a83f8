//! Bytes that lie: valid tables with bytes changed, cut off, put in and repeated, and bytes made up
//! altogether. Nothing may come of them but answers and errors.

mod common;

use std::{fs, path::PathBuf};

use memtide_physmap::acpi::{TableError, cedt::Cedt, hmat::Hmat, slit::Slit};
use proptest::prelude::*;

/// All tables and texts of the guests.
fn seeds() -> Vec<Vec<u8>> {
    let mut folders = vec![PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data")];
    let mut seeds = Vec::new();
    while let Some(folder) = folders.pop() {
        let mut paths: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        for path in paths {
            if path.is_dir() {
                folders.push(path);
            } else {
                seeds.push(fs::read(path).unwrap());
            }
        }
    }
    assert!(seeds.len() > 10, "{}", seeds.len());
    seeds
}

/// A thing that is done to a table.
#[derive(Debug, Clone)]
enum Mutation {
    Set(prop::sample::Index, u8),
    Flip(prop::sample::Index, u8),
    /// The numbers at the edges, where lengths and counts are.
    Number(prop::sample::Index, u64, usize),
    Cut(prop::sample::Index),
    Repeat(prop::sample::Index, prop::sample::Index),
    /// The table's own length, as it then is.
    Length,
}

fn mutation() -> impl Strategy<Value = Mutation> {
    use Mutation::*;
    let index = any::<prop::sample::Index>;
    let edges = [0, 1, 4, 8, 0x7f, 0xff, 0xffff, 0x8000_0000, 0xffff_ffff, 1 << 32, u64::MAX];
    prop_oneof![
        (index(), any::<u8>()).prop_map(|(at, byte)| Set(at, byte)),
        (index(), 0_u8..8).prop_map(|(at, bit)| Flip(at, bit)),
        (index(), prop::sample::select(edges.to_vec()), 0_usize..4)
            .prop_map(|(at, number, size)| Number(at, number, 1 << size)),
        index().prop_map(Cut),
        (index(), index()).prop_map(|(from, to)| Repeat(from, to)),
        Just(Length),
    ]
}

fn mutate(bytes: &mut Vec<u8>, mutation: &Mutation) {
    if bytes.is_empty() {
        return;
    }
    let length = bytes.len();
    match mutation {
        Mutation::Set(at, byte) => bytes[at.index(length)] = *byte,
        Mutation::Flip(at, bit) => bytes[at.index(length)] ^= 1 << bit,
        Mutation::Number(at, number, size) => {
            let places = bytes[at.index(length)..].iter_mut().take(*size);
            places.zip(number.to_le_bytes()).for_each(|(place, byte)| *place = byte);
        }
        Mutation::Cut(at) => bytes.truncate(at.index(length)),
        Mutation::Repeat(from, to) => {
            let (from, to) = (from.index(length), to.index(length));
            let piece = bytes[from.min(to)..from.max(to)].to_vec();
            bytes.splice(to..to, piece);
        }
        Mutation::Length if length >= 8 => {
            bytes[4..8].copy_from_slice(&(length as u32).to_le_bytes());
        }
        Mutation::Length => {}
    }
}

#[test]
fn the_seeds_themselves_and_every_beginning_of_them() {
    for seed in seeds() {
        common::walk(&seed);
        if seed.len() <= 1000 {
            (0..seed.len()).for_each(|end| common::walk(&seed[..end]));
        }
    }
}

#[test]
fn every_byte_of_the_tables_with_every_value() {
    for mut seed in seeds().into_iter().filter(|seed| seed.len() < 300) {
        for at in 0..seed.len() {
            let was = seed[at];
            for byte in 0..=255 {
                seed[at] = byte;
                common::walk(&seed);
            }
            seed[at] = was;
        }
    }
}

#[test]
fn a_matrix_of_all_domains_there_can_be_is_refused() {
    let mut record = vec![0; 32];
    (record[0], record[4]) = (1, 32);
    record[12..20].fill(0xff);
    let table = common::with_header(b"HMAT", 2, &[&[0; 4][..], &record].concat());
    let read = Hmat::parse(&table).unwrap();
    let all: Vec<_> = read.records().collect();
    let needed = 32 + 4 * u64::from(u32::MAX);
    assert_eq!(
        all,
        [Err(TableError::Truncated { record: "locality", offset: 40, needed, present: 32 })]
    );
    for side in [3_u64, 1 << 32, u64::MAX] {
        let table = common::with_header(b"SLIT", 1, &[&side.to_le_bytes()[..], &[10; 8]].concat());
        let error = Slit::parse(&table).unwrap_err();
        assert!(matches!(error, TableError::Truncated { record: "SLIT", .. }), "{error}");
    }
}

#[test]
fn windows_that_cannot_be_are_refused_by_field() {
    let refused = |at: usize, value: u8| {
        let mut record = vec![0; 52];
        (record[0], record[2]) = (1, 52);
        // 4 GiB at 4 GiB, four ways of 256 bytes.
        (record[12], record[20], record[24]) = (1, 1, 2);
        record[at] = value;
        let table = common::with_header(b"CEDT", 1, &record);
        let read = Cedt::parse(&table).unwrap();
        let (_, decoder) = read.decoders().next().unwrap();
        decoder.map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(refused(5, 1), Ok(()));
    for (at, value, expected) in [
        (8, 1, "base is 0x100000001: expected a multiple of 256 MiB"),
        (19, 1, "size is 0x101000000: expected a multiple of 256 MiB"),
        (20, 0, "size is 0x0: expected some bytes, below 2^64 at the end"),
        (24, 5, "ways is 0x5: expected 0 to 4 or 8 to 10"),
        (25, 2, "arithmetic is 0x2: expected 0 (modulo) or 1 (XOR)"),
        (28, 7, "granularity is 0x7: expected 0 to 6"),
        (31, 1, "granularity is 0x1000000: expected 0 to 6"),
        (25, 1, "granularity is 0x0: expected a granularity that a CXIMS record is there for"),
    ] {
        assert_eq!(refused(at, value), Err(format!("CFMWS at 0x24: {expected}")));
    }
    let short = "CFMWS at 0x24 has length 52: expected 68 or more";
    assert_eq!(refused(24, 3), Err(short.to_owned()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn mutated_tables(
        seed in prop::sample::select(seeds()),
        mutations in prop::collection::vec(mutation(), 1..12),
    ) {
        let mut bytes = seed;
        for mutation in &mutations {
            mutate(&mut bytes, mutation);
            bytes.truncate(8192);
        }
        common::walk(&bytes);
    }

    #[test]
    fn made_up_records_behind_a_right_header(
        signature in prop::sample::select(common::SIGNATURES.as_slice()),
        revision in 0_u8..4,
        bytes in prop::collection::vec(prop_oneof![Just(0), 0_u8..64, any::<u8>()], 0..400),
    ) {
        common::walk(&common::with_header(signature, revision, &bytes));
    }
}
