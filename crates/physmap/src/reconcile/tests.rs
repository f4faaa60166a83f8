use alloc::{format, string::ToString, vec};
use core::num::NonZeroU32;

use proptest::prelude::*;

use super::*;
use crate::{
    allocate::{Allocator, Holder, Media, Progress, RegionRequest},
    window::{WINDOW_UNIT, WindowError, tests::window},
};

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

fn span(start: u64, bytes: u64) -> PhysRange {
    PhysRange::from_size(PhysAddr(start), bytes).unwrap()
}

fn named(start: u64, bytes: u64, name: &str) -> FirmwareRange {
    FirmwareRange::named(span(start, bytes), name)
}

/// Windows [4, 8) and [8, 16) GiB and what the memory map says; the SRAT says all.
fn firmware(memory: &[FirmwareRange]) -> Firmware {
    let range = span(0, 1 << 40);
    Firmware {
        top: PhysAddr((1 << 46) - 1),
        memory: memory.to_vec(),
        affinity: vec![Affinity { range, domain: 0, presence: Presence::Present }],
        windows: vec![window(4 * GIB, 4 * GIB, 1), window(8 * GIB, 8 * GIB, 1)],
        decoders: vec![],
    }
}

fn said(firmware: &Firmware) -> Vec<String> {
    let done = reconcile(firmware).unwrap();
    done.map.tree.validate();
    done.conflicts.iter().map(ToString::to_string).collect()
}

#[test]
fn nothing_handed_over_is_no_conflict() {
    let all = firmware(&[named(0, 2 * GIB, "System RAM"), named(2 * GIB, GIB, "Reserved")]);
    assert_eq!(said(&all), [""; 0]);
}

#[test]
fn some_of_a_window_handed_over() {
    let all = firmware(&[named(4 * GIB, GIB, "System RAM")]);
    let expected = [
        "System RAM of the memory map (0x100000000-0x13fffffff) takes up a part of CXL Window 0 of \
         the CEDT (0x100000000-0x1ffffffff); the rest is free",
    ];
    assert_eq!(said(&all), expected);
}

#[test]
fn all_of_a_window_handed_over() {
    let all = firmware(&[named(4 * GIB, 4 * GIB, "Soft Reserved")]);
    let expected =
        ["Soft Reserved of the memory map (0x100000000-0x1ffffffff) takes up all of CXL Window 0 \
         of the CEDT (0x100000000-0x1ffffffff)"];
    assert_eq!(said(&all), expected);
}

#[test]
fn merged_with_the_next_window_it_widens_one_and_trims_the_other() {
    let done = reconcile(&firmware(&[named(5 * GIB, 7 * GIB, "System RAM")])).unwrap();
    let kinds = |conflict: &Conflict| match conflict {
        Conflict::Widened { window, resource, by } => {
            assert_eq!(*resource, span(4 * GIB, 8 * GIB));
            assert_eq!((&*window.name, by.range), ("CXL Window 0", span(5 * GIB, 7 * GIB)));
            "widened"
        }
        Conflict::Trimmed { window, left, by } => {
            assert_eq!(*left, span(12 * GIB, 4 * GIB));
            assert_eq!((&*window.name, &*by.name), ("CXL Window 1", "CXL Window 0"));
            "trimmed"
        }
        Conflict::HandedOver { extent: Extent::Some, .. } => "some",
        Conflict::Merged { windows, count: 2, .. } => {
            assert_eq!(windows.len(), 2);
            "merged"
        }
        other => panic!("{other}"),
    };
    let found: Vec<_> = done.conflicts.iter().map(kinds).collect();
    assert_eq!(found, ["widened", "trimmed", "some", "some", "merged"]);
    let text = done.conflicts.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        text[1],
        "the resource of CXL Window 1 of the CEDT (0x200000000-0x3ffffffff) is cut to \
         0x300000000-0x3ffffffff, as that of CXL Window 0 of the CEDT (0x100000000-0x1ffffffff) \
         grows into it; Linux gives its decoder nothing, here it has all that it decodes"
    );
}

#[test]
fn a_window_swallowed_whole() {
    let found = said(&firmware(&[named(5 * GIB, 11 * GIB, "System RAM")]));
    assert!(
        found.iter().any(|it| it.starts_with("CXL Window 1 of the CEDT (0x200000000-")
            && it.contains("has no resource of its own")),
        "{found:?}"
    );
}

#[test]
fn widened_by_what_lies_beside() {
    let found = said(&firmware(&[named(3 * GIB, 2 * GIB, "ACPI Tables")]));
    let expected = [
        "the resource of CXL Window 0 of the CEDT (0x100000000-0x1ffffffff) grows to \
         0xc0000000-0x1ffffffff to cover ACPI Tables of the memory map (0xc0000000-0x13fffffff); \
         only what the decoder decodes is used",
        "ACPI Tables of the memory map (0xc0000000-0x13fffffff) takes up a part of CXL Window 0 \
         of the CEDT (0x100000000-0x1ffffffff); the rest is free",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_window_inside_memory_and_inside_a_reservation() {
    let found = said(&firmware(&[named(4 * GIB, 5 * GIB, "System RAM")]));
    assert!(found.iter().any(|it| it.contains("Linux places regions there, we do not")));
    let found = said(&firmware(&[named(4 * GIB, 5 * GIB, "Reserved")]));
    assert!(found.iter().any(|it| it.contains("Linux places regions there, and so do we")));
}

#[test]
fn bad_windows_are_named_with_what_is_wrong() {
    let mut all = firmware(&[]);
    all.windows.extend([
        window(20 * GIB + 4096, GIB, 1),
        window(7 * GIB, 2 * GIB, 1),
        window(20 * GIB, 0, 1),
        window(20 * GIB, 1000, 1),
        window(20 * GIB, GIB, 7),
        window(9 * GIB, GIB, 1),
        window(1 << 46, GIB, 1),
        window(20 * GIB, GIB + 512 * MIB, 4),
    ]);
    let done = reconcile(&all).unwrap();
    let bad = |window, base, size, error| Conflict::BadWindow { window, base, size, error };
    let base = 20 * GIB + 4096;
    assert_eq!(done.conflicts[0], bad(2, base, GIB, WindowError::Base(PhysAddr(base))));
    let text: Vec<_> = done.conflicts.iter().map(ToString::to_string).collect();
    for (at, part) in [
        (0, "window 2 of the CEDT (base 0x500001000, size 0x40000000) is left out: its base"),
        (1, "is left out: it overlaps CXL Window 0 of the CEDT"),
        (2, "is left out: its size is 0"),
        (3, "is left out: its size 0x3e8 (1000B) is not a multiple of 256MiB"),
        (4, "is left out: its number of ways is not one of 1, 2, 3, 4, 6, 8, 12 and 16"),
        (5, "lies inside CXL Window 1 of the CEDT"),
        (6, "is left out: 0x400000000000-0x40003fffffff is not inside"),
        (7, "is not a multiple of 1GiB, its unit, and does not begin at 0"),
    ] {
        assert!(text[at].contains(part), "{at}: {}", text[at]);
    }
    // What was left out but may be decoded is set aside.
    assert_eq!(done.map.set_aside[0], span(7 * GIB, 3 * GIB));
    assert_eq!(done.map.set_aside[1], span(20 * GIB, GIB + 4096), "as the table has it");
}

/// CFMWS 0–2 GiB, decoders 0–3 GiB, 12 ways.
#[test]
fn the_low_memory_hole_is_as_it_is_meant() {
    let decoder =
        |bytes, ways| ProgrammedDecoder { name: "decoder2.0".into(), range: span(0, bytes), ways };
    let mut all = firmware(&[]);
    all.windows = vec![window(0, 2 * GIB, 12)];
    all.decoders = vec![decoder(3 * GIB, 12)];
    let expected =
        ["CXL Window 0 of the CEDT (0x0-0x7fffffff) ends at the low memory hole, decoder2.0 \
         as firmware programmed it (0x0-0xbfffffff) goes on behind: as it is meant"];
    assert_eq!(said(&all), expected, "and its odd size is none");
    for wrong in [decoder(3 * GIB, 16), decoder(3 * GIB, 0), decoder(3 * GIB + 256 * MIB, 12)] {
        all.decoders = vec![wrong];
        let found = reconcile(&all).unwrap().conflicts;
        assert!(matches!(found[..], [Conflict::DecoderBeyond { .. }]), "{found:?}");
    }
    // Only at 0.
    all.windows = vec![window(GIB, 2 * GIB, 12)];
    let range = span(GIB, 3 * GIB);
    all.decoders = vec![ProgrammedDecoder { range, ..decoder(GIB, 12) }];
    let found = reconcile(&all).unwrap().conflicts;
    assert!(
        matches!(found[..], [Conflict::OddSize { .. }, Conflict::DecoderBeyond { .. }]),
        "{found:?}"
    );
    all.windows = vec![];
    let found = reconcile(&all).unwrap().conflicts;
    assert!(matches!(found[..], [Conflict::DecoderOutside { .. }]), "{found:?}");
}

#[test]
fn a_low_memory_hole_is_below_4_gib() {
    assert!(hole::is_low_memory_hole(span(0, 2 * GIB), span(0, 3 * GIB), 12));
    assert!(!hole::is_low_memory_hole(span(0, 5 * GIB), span(0, 6 * GIB), 12));
    assert!(!hole::is_low_memory_hole(span(0, 3 * GIB), span(0, 3 * GIB), 12));
}

#[test]
fn what_the_srat_leaves_out_linux_extends_or_makes_up() {
    let mut all = firmware(&[named(0, GIB, "System RAM")]);
    let domain = |start, bytes, domain| Affinity {
        range: span(start, bytes),
        domain,
        presence: Presence::Present,
    };
    all.affinity = vec![domain(GIB / 2, 4 * GIB, 3), domain(4 * GIB, GIB, 5)];
    let expected = [
        "domain 3 of the SRAT (0x20000000-0x11fffffff) overlaps domain 5 of the SRAT \
         (0x100000000-0x13fffffff)",
        "the SRAT does not say to which node 0x140000000-0x1ffffffff of CXL Window 0 of the CEDT \
         (0x100000000-0x1ffffffff) belongs; Linux extends domain 3",
        "the SRAT does not say to which node 0x200000000-0x3ffffffff of CXL Window 1 of the CEDT \
         (0x200000000-0x3ffffffff) belongs; Linux makes up a new domain",
        "the SRAT does not say to which node 0x0-0x1fffffff of System RAM of the memory map \
         (0x0-0x3fffffff) belongs",
    ];
    assert_eq!(said(&all), expected);
}

#[test]
fn memory_that_may_come_is_set_aside_from_private_users() {
    let mut all = firmware(&[]);
    let range = span((1 << 46) - GIB, GIB);
    all.affinity.push(Affinity { range, domain: 1, presence: Presence::HotPluggable });
    let mut allocator = Allocator::new(reconcile(&all).unwrap().map);
    let given = allocator.allocate_private("gpu0", GIB).unwrap();
    assert_eq!(given, span((1 << 46) - 2 * GIB, GIB));
}

#[test]
fn soft_reserved_is_of_cxl_where_regions_are_and_of_hmem_elsewhere() {
    use soft_reserved::Server::{Cxl, Hmem};
    let memory = [
        named(4 * GIB, GIB, "Soft Reserved"),
        named(6 * GIB, 2 * GIB, "Soft Reserved"),
        named(32 * GIB, GIB, "Soft Reserved"),
    ];
    let mut done = reconcile(&firmware(&memory)).unwrap();
    let before = done.conflicts.len();
    let servers = done.settle_soft_reserved(&[span(4 * GIB, GIB), span(6 * GIB, GIB)]);
    let expected = [
        (span(4 * GIB, GIB), Cxl),
        (span(6 * GIB, GIB), Cxl),
        (span(7 * GIB, GIB), Hmem),
        (span(32 * GIB, GIB), Hmem),
    ];
    assert_eq!(servers, expected);
    assert_eq!(done.conflicts.len(), before + 1);
    assert_eq!(
        done.conflicts[before].to_string(),
        "regions have 0x180000000-0x1bfffffff of Soft Reserved of the memory map \
         (0x180000000-0x1ffffffff); the rest, 0x1c0000000-0x1ffffffff, is for the hmem driver"
    );
}

#[test]
fn tables_without_end_are_refused() {
    let mut all = firmware(&[]);
    all.windows = vec![window(0, 0, 1); MAX_WINDOWS + 1];
    let error = reconcile(&all).unwrap_err();
    assert_eq!(error.to_string(), "513 windows; at most 512 are taken");
    all.windows.pop();
    let done = reconcile(&all).unwrap();
    assert_eq!((done.conflicts.len(), done.more_conflicts), (MAX_WINDOWS, 0));
}

/// The most contradictory tables that are taken: every window inside another, with memory in it.
#[test]
fn the_worst_tables_take_bounded_room() {
    let mut all = firmware(&[]);
    let base = 1 << 40;
    let nested = |at| window(base, (MAX_WINDOWS as u64 - at) * WINDOW_UNIT, 1);
    all.windows = (0..MAX_WINDOWS as u64).map(nested).collect();
    let memory = |at| named(base + at * 8192, 4096, "System RAM");
    all.memory = (0..MAX_MEMORY as u64).map(memory).collect();
    let done = reconcile(&all).unwrap();
    done.map.tree.validate();
    assert_eq!(done.conflicts.len(), conflict::MAX_CONFLICTS);
    assert!(done.more_conflicts > 1_000_000);
}

proptest! {
    /// Whatever firmware says: no address of its memory is lost from the map, nor given out.
    #[test]
    fn nothing_that_firmware_handed_over_is_given_out(
        memory in prop::collection::vec((0u64..160, 1u64..40, 0usize..4), 0..8),
        spans in prop::collection::vec((0u64..80, 0u64..12, 0u32..5), 0..5),
        domains in prop::collection::vec((0u64..160, 1u64..40, 0u32..3), 0..4),
    ) {
        const NAMES: [&str; 4] =
            ["System RAM", "Soft Reserved", "ACPI Tables", "Persistent Memory"];
        const HALF: u64 = WINDOW_UNIT / 2;
        let range = |at: u64, more: u64| span(at * HALF, more * HALF);
        let memory: Vec<_> = memory
            .iter()
            .map(|&(at, more, name)| FirmwareRange::named(range(at, more), NAMES[name]))
            .collect();
        let all = Firmware {
            top: PhysAddr(256 * HALF - 1),
            memory: memory.clone(),
            affinity: domains
                .iter()
                .map(|&(at, more, domain)| {
                    let presence = match domain {
                        2 => Presence::HotPluggable,
                        _ => Presence::Present,
                    };
                    Affinity { range: range(at, more), domain, presence }
                })
                .collect(),
            windows: spans
                .iter()
                .map(|&(at, size, ways)| window(at * WINDOW_UNIT, size * WINDOW_UNIT, ways))
                .collect(),
            decoders: vec![],
        };
        let done = reconcile(&all).unwrap();
        done.map.tree.validate();
        let in_map = done.map.tree.resources().map(|(_, it)| it);
        let in_map = in_map.filter(|it| it.kind != Kind::CxlWindow);
        let in_map = ranges::union(in_map.map(|it| it.range));
        prop_assert_eq!(&in_map, &ranges::union(memory.iter().map(|it| it.range)));
        let mut allocator = Allocator::new(done.map);
        let mut made = 0;
        for at in 0..all.windows.len() {
            while made < 40 {
                made += 1;
                let size = allocator.largest_region(at, NonZeroU32::MIN).unwrap_or(0);
                let request = RegionRequest {
                    name: made.to_string(),
                    window: at,
                    size: size.min(2 * WINDOW_UNIT),
                    ways: NonZeroU32::new(1),
                    granularity: NonZeroU32::new(256),
                    media: Media::Ram,
                    holder: Holder::Program,
                    progress: Progress::Configured,
                };
                if size == 0 || allocator.allocate_region(&request).is_err() {
                    break;
                }
            }
        }
        while made < 60 && allocator.allocate_private(&format!("gpu{made}"), 3 * HALF).is_ok() {
            made += 1;
        }
        allocator.validate();
        for (_, owner) in allocator.owners() {
            prop_assert!(!in_map.iter().any(|taken| taken.overlaps(owner.range)));
        }
    }
}
