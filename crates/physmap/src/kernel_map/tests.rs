use alloc::{format, string::ToString, vec, vec::Vec};
use core::num::NonZeroU32;

use proptest::prelude::*;

use super::*;
use crate::{
    allocate::{Allocator, Holder, Media, Progress, RegionRequest},
    window::{WINDOW_UNIT, tests::window},
};

fn range(start: u64, last: u64) -> PhysRange {
    PhysRange::new(PhysAddr(start), PhysAddr(last)).unwrap()
}

fn line(depth: usize, start: u64, last: u64, name: &str) -> Line {
    (depth, range(start, last), name.to_string())
}

fn map(resources: &[(u64, u64, &str)]) -> AddressMap {
    let mut tree = Tree::new(range(0, u64::MAX));
    for &(start, last, name) in resources {
        let resource = Resource::open(range(start, last), Kind::of_name(name), name);
        tree.insert(tree.root(), resource).unwrap();
    }
    AddressMap { tree, windows: vec![], set_aside: vec![] }
}

const M: u64 = 1 << 20;

fn rules(ours: &[(u64, u64, &str)], kernel: &[Line]) -> Vec<Rule> {
    compare(&map(ours), kernel).unwrap().into_iter().map(|it| it.rule).collect()
}

#[test]
fn each_difference_has_its_rule() {
    let ram = (M, 9 * M - 1, "System RAM");
    let same = line(0, M, 9 * M - 1, "System RAM");
    let with = |other: Line| vec![same.clone(), other];
    for (other, rule) in [
        (line(1, 2 * M, 3 * M, "Kernel code"), Rule::KernelImage),
        (line(1, 2 * M, 3 * M, "Crash kernel"), Rule::KernelImage),
        (line(0, 9 * M, 10 * M, "Kernel code"), Rule::Unexplained),
        (line(0, 9 * M, 10 * M, "RAM buffer"), Rule::RamBuffer),
        (line(0, 90 * M, 91 * M, "System RAM (virtio_mem)"), Rule::Plugged),
        (line(0, 90 * M, 91 * M, "PCI Bus 0000:00"), Rule::Driver),
        (line(0, 90 * M, 91 * M, "dax0.0"), Rule::Provisioned),
        (line(0, 90 * M, 91 * M, "Reserved"), Rule::MemoryChanged),
        (line(0, 90 * M, 91 * M, "CXL Window 3"), Rule::Unexplained),
    ] {
        assert_eq!(rules(&[ram], &with(other.clone())), [rule], "{other:?}");
    }
    for (other, rule) in [
        ((90 * M, 91 * M, "Soft Reserved"), Rule::SoftReservedApart),
        ((90 * M, 91 * M, "region0"), Rule::Planned),
        ((90 * M, 91 * M, "CXL Window 0"), Rule::NoCxlDriver),
        ((90 * M, 91 * M, "System RAM"), Rule::Unexplained),
        ((0, 4095, "Reserved"), Rule::FirstMib),
    ] {
        assert_eq!(rules(&[ram, other], core::slice::from_ref(&same)), [rule], "{other:?}");
    }
    let wider = [same.clone(), line(0, 20 * M, 30 * M, "Reserved")];
    assert_eq!(rules(&[ram, (22 * M, 23 * M, "Reserved")], &wider), [Rule::ReservedWidened]);
}

/// Soft Reserved memory that the hmem driver serves lies in no window.
#[test]
fn memory_of_a_dax_device_was_made_later_wherever_it_is() {
    let soft = (90 * M, 91 * M - 1, "Soft Reserved");
    let kernel = [
        line(0, soft.0, soft.1, soft.2),
        line(1, soft.0, soft.1, "dax0.0"),
        line(2, soft.0, soft.1, "System RAM (kmem)"),
    ];
    assert_eq!(rules(&[soft], &kernel), [Rule::Provisioned; 2]);
}

#[test]
fn a_window_with_another_range_is_explained_by_memory_only() {
    let ours = [(16 * M, 32 * M - 1, "CXL Window 0")];
    let kernel = [line(0, 15 * M, 32 * M - 1, "CXL Window 0")];
    assert_eq!(rules(&ours, &kernel), [Rule::Unexplained]);
    let memory = line(1, 15 * M, 17 * M, "Reserved");
    let found = compare(&map(&ours), &[kernel[0].clone(), memory]).unwrap();
    let text: Vec<_> = found.iter().map(ToString::to_string).collect();
    let expected = [
        "Reserved 0xf00000-0x1100000 is only in the kernel's map: the command line or early boot \
         code changed the map of memory",
        "CXL Window 0 0x1000000-0x1ffffff is CXL Window 0 0xf00000-0x1ffffff in the kernel's map: \
         the window follows the changed map of memory",
    ];
    assert_eq!(text, expected);
}

#[test]
fn the_same_inside_of_something_else_is_a_difference() {
    let ours = [(0x100_0000, 0x1ff_ffff, "CXL Window 0"), (0x200_0000, 0x2ff_ffff, "Reserved")];
    let kernel = [
        line(0, 0x100_0000, 0x1ff_ffff, "CXL Window 0"),
        line(0, 0x200_0000, 0x2ff_ffff, "Reserved"),
    ];
    assert_eq!(rules(&ours, &kernel), []);
    let same_range = [(M, 2 * M, "CXL Window 0"), (M, 2 * M, "System RAM")];
    // Inserted later, so around: the kernel has it the other way.
    let kernel = [line(0, M, 2 * M, "CXL Window 0"), line(1, M, 2 * M, "System RAM")];
    assert_eq!(rules(&same_range, &kernel), [Rule::Nesting, Rule::Nesting]);
    // A bus around it, which only the kernel knows, is no difference of its own.
    let kernel = [line(0, 15 * M, 90 * M, "PCI ECAM"), line(1, 32 * M, 48 * M - 1, "Reserved")];
    assert_eq!(rules(&[(32 * M, 48 * M - 1, "Reserved")], &kernel), [Rule::Driver]);
}

#[test]
fn lines_that_are_no_map_are_refused() {
    let error = tree_of(&[line(0, 0, 9, "a"), line(1, 5, 15, "b")]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "line 2 (b) does not go where it stands: 0x5-0xf is not inside a 0x0-0x9"
    );
    assert!(matches!(
        tree_of(&[line(0, 0, 9, "a"), line(0, 5, 15, "b")]),
        Err(LineError::Place { line: 2, .. })
    ));
    let deep: Vec<_> = (0..=MAX_DEPTH as u64).map(|at| line(8, at, 999, "a")).collect();
    assert_eq!(tree_of(&deep).unwrap_err(), LineError::TooDeep { line: MAX_DEPTH + 1 });
    assert!(tree_of(&deep[1..]).is_ok());
    let many = vec![line(0, 0, 9, "a"); MAX_RESOURCES + 1];
    assert!(matches!(tree_of(&many), Err(LineError::TooManyLines { .. })));
}

/// The kernel indents so deep and no deeper.
#[test]
fn what_is_deeper_than_the_indent_is_inside_of_the_line_above() {
    let deep =
        [line(0, 0, 99, "a"), line(1, 0, 50, "b"), line(1, 10, 20, "c"), line(1, 60, 70, "d")];
    let tree = tree_of(&deep).unwrap();
    tree.validate();
    let depths: Vec<_> = tree.resources().map(|(depth, it)| (depth, &*it.name)).collect();
    assert_eq!(depths, [(0, "a"), (1, "b"), (2, "c"), (1, "d")]);
}

proptest! {
    /// Any lines are a tree or an error; and a tree differs from its own lines in nothing.
    #[test]
    fn a_map_is_the_same_as_its_own_lines(
        any in prop::collection::vec((0usize..4, 0u64..50, 0u64..30, 0usize..5), 0..12),
    ) {
        const NAMES: [&str; 5] = ["System RAM", "Reserved", "CXL Window 0", "region0", "00:1f.2"];
        let lines: Vec<_> = any
            .iter()
            .map(|&(depth, at, more, name)| {
                line(depth, at * M, (at + more + 1) * M - 1, NAMES[name])
            })
            .collect();
        if let Ok(tree) = tree_of(&lines) {
            tree.validate();
            let back: Vec<_> =
                tree.resources().map(|(depth, it)| (depth, it.range, it.name.clone())).collect();
            let map = AddressMap { tree, windows: vec![], set_aside: vec![] };
            prop_assert_eq!(compare(&map, &back), Ok(vec![]));
            // And comparing with anything else ends.
            prop_assert!(compare(&map, &lines).is_ok());
        }
    }

    /// Any lines and any windows make a map in which nobody gets what somebody has.
    #[test]
    fn a_running_kernels_memory_is_not_given_out(
        any in prop::collection::vec((0usize..3, 0u64..40, 0u64..20, 0usize..5), 0..10),
        spans in prop::collection::vec((0u64..60, 0u64..20), 0..4),
        sizes in prop::collection::vec((0usize..4, 1u64..6), 0..12),
    ) {
        const NAMES: [&str; 5] =
            ["System RAM", "Soft Reserved", "CXL Window 0", "CXL Window 1", "region0"];
        let unit = WINDOW_UNIT;
        let mut lines = vec![];
        for (depth, at, more, name) in any {
            lines.push(line(depth, at * unit, (at + more + 1) * unit - 1, NAMES[name]));
            if tree_of(&lines).is_err() {
                lines.pop();
            }
        }
        let windows: Vec<_> =
            spans.iter().map(|&(at, size)| window(at * unit, size * unit, 1)).collect();
        let top = PhysAddr(64 * unit - 1);
        let mut all = Allocator::new(AddressMap::of_kernel(&lines, &windows, top).unwrap());
        all.validate();
        for (at, &(window, units)) in sizes.iter().enumerate() {
            let request = RegionRequest {
                name: at.to_string(),
                window,
                size: units * unit,
                ways: NonZeroU32::new(1),
                granularity: NonZeroU32::new(256),
                media: Media::Ram,
                holder: Holder::Program,
                progress: Progress::Configured,
            };
            let region = all.allocate_region(&request).ok();
            let private = all.allocate_private(&format!("gpu{at}"), units * unit).ok();
            all.validate();
            for given in region.into_iter().chain(private) {
                let windows = lines.iter().filter(|(_, _, name)| name.starts_with("CXL"));
                let in_window = windows.clone().any(|(_, range, _)| range.overlaps(given));
                let taken = lines.iter().filter(|(_, _, name)| !name.starts_with("CXL"));
                prop_assert!(!taken.clone().any(|(_, range, _)| range.overlaps(given)));
                prop_assert_eq!(in_window, region == Some(given));
            }
        }
    }
}
