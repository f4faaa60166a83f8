use alloc::vec::Vec;

use memtide_units::{PhysAddr, PhysRange};
use proptest::prelude::*;

use super::*;
use crate::window::{WINDOW_UNIT, tests::window};

const GIB: u64 = 1 << 30;

fn span(start: u64, bytes: u64) -> PhysRange {
    PhysRange::from_size(PhysAddr(start), bytes).unwrap()
}

/// A tree with System RAM of (start, size) in GiB.
fn with_ram(ram: &[(u64, u64)]) -> Tree {
    let mut tree = Tree::new(span(0, 1 << 46));
    for &(start, size) in ram {
        let ram = Resource::busy(span(start * GIB, size * GIB), Kind::SystemRam, "System RAM");
        tree.insert(tree.root(), ram).unwrap();
    }
    tree
}

fn public(placed: &PlacedWindow) -> PhysRange {
    match placed.fate {
        Fate::Placed { range, .. } => range,
        ref fate => panic!("not placed: {fate:?}"),
    }
}

fn ranges_of(placed: &PlacedWindow) -> Vec<PhysRange> {
    placed.territory.iter().map(|part| part.range).collect()
}

/// Win0 [4, 8) GiB, Win1 [8, 16) GiB, RAM from inside the first to 12 GiB: Win0 [4, 12) GiB, Win1
/// [12, 16) GiB.
#[test]
fn ram_across_two_windows_widens_the_first_and_trims_the_second() {
    let mut tree = with_ram(&[(5, 7)]);
    let windows = [window(4 * GIB, 4 * GIB, 1), window(8 * GIB, 8 * GIB, 1)];
    let placed = place_windows(&mut tree, &windows);
    tree.validate();
    assert_eq!(public(&placed[0]), span(4 * GIB, 8 * GIB));
    assert_eq!(public(&placed[1]), span(12 * GIB, 4 * GIB));
    assert!(matches!(placed[1].fate, Fate::Placed { trimmed_by: Some(0), .. }));
    // Linux gives the second decoder nothing; here it has its tail, and its head below the first.
    assert!(placed[0].kernel_resource.is_some());
    assert_eq!(placed[1].kernel_resource, None);
    assert_eq!(ranges_of(&placed[0]), [span(4 * GIB, 4 * GIB)]);
    assert_eq!(ranges_of(&placed[1]), [span(8 * GIB, 4 * GIB), span(12 * GIB, 4 * GIB)]);
    let Fate::Placed { resource, .. } = placed[1].fate else { unreachable!() };
    assert_eq!(placed[1].territory[1].resource, resource);
    assert_ne!(placed[1].territory[0].resource, resource);
}

/// RAM [4, 12) GiB, which the first window is wholly inside of: no partial overlap, so the window
/// goes into the RAM, and the second one grows around both.
#[test]
fn a_window_wholly_inside_ram_goes_into_it_and_the_next_grows_around() {
    let mut tree = with_ram(&[(4, 8)]);
    let windows = [window(4 * GIB, 4 * GIB, 1), window(8 * GIB, 8 * GIB, 1)];
    let placed = place_windows(&mut tree, &windows);
    tree.validate();
    assert_eq!(public(&placed[0]), span(4 * GIB, 4 * GIB));
    assert_eq!(public(&placed[1]), span(4 * GIB, 12 * GIB));
    assert_eq!(ranges_of(&placed[0]), [span(4 * GIB, 4 * GIB)]);
    assert_eq!(ranges_of(&placed[1]), [span(8 * GIB, 8 * GIB)]);
}

/// What Linux 6.12 printed in `/proc/iomem` of an emulated machine with windows at 0x590000000
/// (4 GiB) and 0x690000000 (2 GiB), when told `memmap=` of a reserved range.
#[test]
fn as_linux_6_12_placed_windows_around_reserved_ranges() {
    for (reserved, expected) in [
        (
            span(0x5_9000_0000, 5 * GIB),
            [
                (0, 0x5_9000_0000, 0x7_0fff_ffff, "CXL Window 1"),
                (1, 0x5_9000_0000, 0x6_cfff_ffff, "Reserved"),
                (2, 0x5_9000_0000, 0x6_8fff_ffff, "CXL Window 0"),
            ],
        ),
        (
            span(0x6_0000_0000, 4 * GIB),
            [
                (0, 0x5_9000_0000, 0x6_ffff_ffff, "CXL Window 0"),
                (1, 0x6_0000_0000, 0x6_ffff_ffff, "Reserved"),
                (0, 0x7_0000_0000, 0x7_0fff_ffff, "CXL Window 1"),
            ],
        ),
    ] {
        let mut tree = with_ram(&[]);
        tree.insert(tree.root(), Resource::open(reserved, Kind::Reserved, "Reserved")).unwrap();
        let windows = [window(0x5_9000_0000, 4 * GIB, 1), window(0x6_9000_0000, 2 * GIB, 1)];
        place_windows(&mut tree, &windows);
        let lines: Vec<_> = tree
            .resources()
            .map(|(depth, it)| (depth, it.range.start().0, it.range.last().0, &*it.name))
            .collect();
        assert_eq!(lines, expected);
    }
}

#[test]
fn ram_over_all_of_a_later_window_deletes_it() {
    let mut tree = with_ram(&[(5, 11)]);
    let windows =
        [4, 8, 12, 20].map(|start| window(start * GIB, if start == 20 { GIB } else { 4 * GIB }, 1));
    let placed = place_windows(&mut tree, &windows);
    tree.validate();
    assert_eq!(public(&placed[0]), span(4 * GIB, 12 * GIB));
    for deleted in &placed[1..3] {
        assert_eq!(deleted.fate, Fate::Deleted { by: 0 });
        assert_eq!(deleted.kernel_resource, None);
        assert_eq!(ranges_of(deleted), [deleted.decoder.unwrap()]);
    }
    assert_eq!(placed[3].name(), "CXL Window 3");
    assert_eq!(public(&placed[3]), span(20 * GIB, GIB));
}

#[test]
fn bad_windows_are_left_out_and_counted_as_linux_counts() {
    let mut tree = with_ram(&[]);
    let windows = [
        window(4 * GIB + 1, GIB, 1),
        window(4 * GIB, 0, 1),
        window(4 * GIB, 4 * GIB, 1),
        window(6 * GIB, 4 * GIB, 1),
        window(5 * GIB, GIB, 1),
        window(1 << 50, GIB, 1),
        window(20 * GIB, GIB, 1),
    ];
    let placed = place_windows(&mut tree, &windows);
    tree.validate();
    let numbers: Vec<_> = placed.iter().map(|placed| placed.number).collect();
    let expected = [None, Some(0), Some(1), Some(2), Some(3), Some(4), Some(5)];
    assert_eq!(numbers, expected);
    assert_eq!(placed[0].fate, Fate::Refused(WindowError::Base(PhysAddr(4 * GIB + 1))));
    assert_eq!(placed[1].fate, Fate::Refused(WindowError::Empty));
    assert_eq!(placed[3].fate, Fate::Overlaps { other: 2 });
    assert_eq!(placed[3].territory, []);
    assert_eq!(placed[4].fate, Fate::Nested { within: 2 });
    assert_eq!(placed[4].kernel_resource, placed[2].kernel_resource);
    assert_eq!(ranges_of(&placed[4]), [span(5 * GIB, GIB)]);
    assert!(matches!(placed[5].fate, Fate::Rejected(InsertError::Outside { .. })));
    assert_eq!(public(&placed[6]), span(20 * GIB, GIB));
    assert_eq!(tree.len(), 2);
}

#[test]
fn a_window_may_grow_downwards_and_around_another() {
    let mut tree = with_ram(&[(3, 2)]);
    let around = Resource::open(span(0, 10 * GIB), Kind::Device, "bus");
    tree.insert(tree.root(), around).unwrap();
    let windows = [window(4 * GIB, 2 * GIB, 1), window(8 * GIB, 8 * GIB, 1)];
    let placed = place_windows(&mut tree, &windows);
    tree.validate();
    assert_eq!(public(&placed[0]), span(3 * GIB, 3 * GIB));
    assert_eq!(public(&placed[1]), span(0, 16 * GIB));
    assert_eq!(ranges_of(&placed[0]), [span(4 * GIB, 2 * GIB)], "its own, the inner one");
    assert_eq!(ranges_of(&placed[1]), [span(8 * GIB, 8 * GIB)]);
}

proptest! {
    /// Whatever firmware does, a decoder that is not left out has exactly what it decodes, each
    /// part in a public window; and windows in the tree are what the fates say.
    #[test]
    fn territories_are_what_decoders_decode(
        ram in prop::collection::vec((0u64..60, 1u64..12), 0..6),
        spans in prop::collection::vec((0u64..60, 0u64..12), 0..7),
    ) {
        let mut tree = with_ram(&[]);
        for (start, size) in ram {
            let range = span(start * WINDOW_UNIT / 2, size * WINDOW_UNIT / 2);
            let _ = tree.insert(tree.root(), Resource::busy(range, Kind::SystemRam, "System RAM"));
        }
        let all: Vec<_> = spans
            .iter()
            .map(|&(at, size)| window(at * WINDOW_UNIT, size * WINDOW_UNIT, 1))
            .collect();
        let placed = place_windows(&mut tree, &all);
        tree.validate();
        let publics = placed.iter().filter(|it| matches!(it.fate, Fate::Placed { .. })).count();
        let inside = tree.resources().filter(|(_, it)| it.kind == Kind::CxlWindow).count();
        prop_assert_eq!(publics, inside);
        for it in &placed {
            let left_out = matches!(
                it.fate, Fate::Refused(_) | Fate::Overlaps { .. } | Fate::Rejected(_));
            let decodes = it.decoder.filter(|_| !left_out);
            prop_assert_eq!(ranges::union(ranges_of(it)), decodes.into_iter().collect::<Vec<_>>());
            for part in &it.territory {
                let public = tree.get(part.resource).unwrap();
                prop_assert_eq!(public.kind, Kind::CxlWindow);
                prop_assert!(public.range.contains(part.range));
            }
            if let Some(paired) = it.kernel_resource {
                let paired = tree.get(paired).unwrap();
                prop_assert!(paired.range.contains(it.decoder.unwrap()));
            }
        }
    }
}
