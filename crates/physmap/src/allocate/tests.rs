use alloc::{format, string::ToString, vec, vec::Vec};
use core::num::NonZeroU32;

use memtide_units::PhysAddr;
use proptest::prelude::*;

use super::*;
use crate::{
    resource::{InsertError, Resource, Tree},
    window::{Restrictions, WINDOW_UNIT, Window, tests::window},
    windows::{Fate, place_windows},
};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn span(start: u64, bytes: u64) -> PhysRange {
    PhysRange::from_size(PhysAddr(start), bytes).unwrap()
}

fn ram(start: u64, bytes: u64) -> Resource {
    Resource::busy(span(start, bytes), Kind::SystemRam, "System RAM")
}

fn soft(start: u64, bytes: u64) -> Resource {
    Resource::open(span(start, bytes), Kind::SoftReserved, "Soft Reserved")
}

/// What firmware hands over, and windows; 2^40 addresses.
fn allocator(firmware: &[Resource], windows: &[Window]) -> Allocator {
    let mut tree = Tree::new(span(0, 1 << 40));
    for resource in firmware {
        tree.insert(tree.root(), resource.clone()).unwrap();
    }
    let windows = place_windows(&mut tree, windows);
    Allocator::new(AddressMap { tree, windows, set_aside: vec![] })
}

fn request(name: &str, window: usize, size: u64) -> RegionRequest {
    RegionRequest {
        name: name.to_string(),
        window,
        size,
        ways: NonZeroU32::new(1),
        granularity: NonZeroU32::new(256),
        media: Media::Ram,
        holder: Holder::Kernel,
        progress: Progress::Configured,
    }
}

/// The same for a program that programs the decoders itself.
fn program(name: &str, window: usize, size: u64) -> RegionRequest {
    RegionRequest { holder: Holder::Program, ..request(name, window, size) }
}

/// Asserts that a request is refused as Linux would, and that nothing changes.
fn refused(allocator: &mut Allocator, request: &RegionRequest, errno: Errno) -> RegionError {
    let before: Vec<_> = allocator.map.tree.resources().map(|(_, it)| it.clone()).collect();
    let error = allocator.allocate_region(request).unwrap_err();
    assert_eq!(error.errno(), errno, "{error}");
    assert!(allocator.map.tree.resources().map(|(_, it)| it.clone()).eq(before));
    allocator.validate();
    error
}

#[test]
fn alloc_hpa_the_same_size_again_is_no_request() {
    let mut all = allocator(&[], &[window(4 * GIB, 4 * GIB, 1)]);
    let first = all.allocate_region(&request("region0", 0, GIB)).unwrap();
    assert_eq!(first, span(4 * GIB, GIB));
    // Also without what a first request needs, and when active: the kernel looks at the size first.
    let bare =
        RegionRequest { ways: None, progress: Progress::Active, ..request("region0", 0, GIB) };
    assert_eq!(all.allocate_region(&bare), Ok(first));
    assert_eq!(all.owners().count(), 1);
    all.validate();
}

#[test]
fn alloc_hpa_another_size_or_an_active_region_is_busy() {
    let mut all = allocator(&[], &[window(4 * GIB, 4 * GIB, 1), window(8 * GIB, GIB, 1)]);
    all.allocate_region(&request("region0", 0, GIB)).unwrap();
    let error = refused(&mut all, &request("region0", 0, 2 * GIB), Errno::Ebusy);
    assert_eq!(
        error.to_string(),
        "region0 has 0x100000000-0x13fffffff (1GiB), 2GiB were asked for; free its range first"
    );
    refused(&mut all, &request("region0", 1, GIB), Errno::Ebusy);
    let active = RegionRequest { progress: Progress::Active, ..request("region1", 0, GIB) };
    refused(&mut all, &active, Errno::Ebusy);
}

#[test]
fn alloc_hpa_ways_granularity_and_uuid_come_first() {
    let mut all = allocator(&[], &[window(4 * GIB, 4 * GIB, 1)]);
    let good = request("region0", 0, GIB);
    let pmem = |byte| RegionRequest { media: Media::Pmem { uuid: [byte; 16] }, ..good.clone() };
    for lacking in [
        RegionRequest { ways: None, size: 1, ..good.clone() },
        RegionRequest { granularity: None, size: 1, ..good.clone() },
        RegionRequest { size: 1, ..pmem(0) },
    ] {
        refused(&mut all, &lacking, Errno::Enxio);
    }
    assert!(all.allocate_region(&pmem(1)).is_ok());
}

#[test]
fn alloc_hpa_the_size_is_a_multiple_of_256_mib_for_each_way() {
    let mut all = allocator(&[], &[window(4 * GIB, 16 * GIB, 4)]);
    let four = RegionRequest { ways: NonZeroU32::new(4), ..request("region0", 0, 1536 * MIB) };
    let error = refused(&mut all, &four, Errno::Einval);
    assert_eq!(
        error.to_string(),
        "size 0x60000000 (1.5GiB) is not a multiple of 1GiB (256MiB for each of 4 ways); next to \
         it are 1GiB and 2GiB"
    );
    refused(&mut all, &RegionRequest { size: 0, ..four.clone() }, Errno::Einval);
    let odd = RegionRequest { ways: NonZeroU32::new(5), size: 5 * 256 * MIB, ..four.clone() };
    refused(&mut all, &odd, Errno::Einval);
    // 16 ways of 256 MiB are 2^32: a unit that overflows 32 bits divides nothing by accident.
    let sixteen = RegionRequest { ways: NonZeroU32::new(16), size: GIB, ..four };
    refused(&mut all, &sixteen, Errno::Einval);
    let huge = RegionRequest { size: u64::MAX, ..request("region0", 0, 0) };
    refused(&mut all, &huge, Errno::Einval);
}

#[test]
fn a_window_is_for_what_it_allows() {
    let volatile = Restrictions(Restrictions::HOST_ONLY.0 | Restrictions::VOLATILE.0);
    let only = Window { restrictions: volatile, ..window(4 * GIB, 4 * GIB, 1) };
    let mut all = allocator(&[], &[only, window(6 * GIB, 4 * GIB, 1), window(1, GIB, 1)]);
    let pmem = RegionRequest { media: Media::Pmem { uuid: [1; 16] }, ..request("r", 0, GIB) };
    let error = refused(&mut all, &pmem, Errno::Einval);
    assert_eq!(error.to_string(), "CXL Window 0 does not allow persistent memory");
    let error = refused(&mut all, &request("r", 1, GIB), Errno::Enxio);
    assert_eq!(error.to_string(), "CXL Window 1 is not usable: it overlaps CXL Window 0 in part");
    refused(&mut all, &request("r", 2, GIB), Errno::Enxio);
    refused(&mut all, &request("r", 3, GIB), Errno::Enoent);
}

/// The window of the vector: [4 GiB, 20 GiB), busy at 4 and at 13 GiB.
#[test]
fn no_room_names_window_neighbours_and_the_largest_size() {
    let busy = [ram(4 * GIB, 256 * MIB), ram(13 * GIB, 256 * MIB)];
    let mut all = allocator(&busy, &[window(4 * GIB, 16 * GIB, 1)]);
    let error = refused(&mut all, &request("region0", 0, 9 * GIB), Errno::Erange);
    assert_eq!(
        error.to_string(),
        "no 9GiB free in CXL Window 0, whose decoder decodes 0x100000000-0x4ffffffff: the largest \
         gap is 0x110000000-0x33fffffff beside System RAM 0x100000000-0x10fffffff, System RAM \
         0x340000000-0x34fffffff; at most 8.7GiB would fit"
    );
    let error = refused(&mut all, &request("region0", 0, 17 * GIB), Errno::Erange);
    let RegionError::NoRoom { obstacle, largest, .. } = error else { panic!() };
    assert_eq!(obstacle, Obstacle::Decoder { bytes: 16 << 30 });
    assert_eq!(largest, 8 * GIB + 768 * MIB);
    let found = all.allocate_region(&request("region0", 0, 8 * GIB)).unwrap();
    assert_eq!(found, span(0x1_1000_0000, 8 * GIB));
}

#[test]
fn the_alignment_may_be_in_the_way() {
    let busy = [ram(4 * GIB, 4096), ram(6 * GIB, GIB)];
    let mut all = allocator(&busy, &[window(4 * GIB, 3 * GIB, 1)]);
    let error = refused(&mut all, &request("region0", 0, 2 * GIB), Errno::Erange);
    let RegionError::NoRoom { obstacle, largest, .. } = error else { panic!() };
    assert!(matches!(obstacle, Obstacle::Neighbours { .. }), "no gap has 2 GiB");
    assert_eq!(largest, 2 * GIB - 256 * MIB);
    let busy = [ram(4 * GIB, 4096)];
    let mut all = allocator(&busy, &[window(4 * GIB, 512 * MIB, 1)]);
    let ways = NonZeroU32::new(2);
    assert_eq!(all.largest_region(0, ways.unwrap()), Ok(0));
    let gap = span(4 * GIB + 4096, 512 * MIB - 4096);
    let error = refused(&mut all, &request("region0", 0, 512 * MIB), Errno::Erange);
    let RegionError::NoRoom { obstacle: Obstacle::Neighbours { gap: found, .. }, .. } = error
    else {
        panic!()
    };
    assert_eq!(found, Some(gap));
    let found = all.map.obstacle_in(&all.map.windows[0], 512 * MIB - 4096);
    assert_eq!(found, Obstacle::Alignment { gap, align: 256 * MIB });
}

/// Linux gives the decoder of a trimmed window nothing at all.
#[test]
fn the_decoder_of_a_trimmed_window_gets_its_tail() {
    let windows = [window(4 * GIB, 4 * GIB, 1), window(8 * GIB, 8 * GIB, 1)];
    let mut all = allocator(&[ram(5 * GIB, 7 * GIB)], &windows);
    assert!(matches!(all.map.windows[1].fate, Fate::Placed { trimmed_by: Some(0), .. }));
    assert_eq!(all.largest_region(1, NonZeroU32::MIN), Ok(4 * GIB));
    let error = refused(&mut all, &request("region1", 1, GIB), Errno::Enxio);
    assert_eq!(
        error.to_string(),
        "0x300000000-0x33fffffff is free in CXL Window 1, but Linux gave the decoder no resource \
         and would follow a null pointer; only a program can have it"
    );
    let region = all.allocate_region(&program("region1", 1, GIB)).unwrap();
    assert_eq!(region, span(12 * GIB, GIB));
    // And the first, widened window never gives out what its decoder does not decode.
    assert_eq!(all.largest_region(0, NonZeroU32::MIN), Ok(GIB));
    all.validate();
}

/// Once firmware's range is void, its addresses are free for the decoder that decodes them.
#[test]
fn what_was_reprogrammed_is_free_again() {
    let windows = [window(4 * GIB, 4 * GIB, 1), window(8 * GIB, 8 * GIB, 1)];
    let mut all = allocator(&[soft(5 * GIB, 7 * GIB)], &windows);
    let void = all.reprogrammed(span(5 * GIB, 7 * GIB)).unwrap();
    assert_eq!(void, [soft(5 * GIB, 7 * GIB)]);
    let head = all.allocate_region(&program("region1", 1, 4 * GIB)).unwrap();
    assert_eq!(head, span(8 * GIB, 4 * GIB), "in what is the first one's resource");
    assert_eq!(all.allocate_region(&request("region0", 0, 4 * GIB)), Ok(span(4 * GIB, 4 * GIB)));
    all.validate();
    let error = all.reprogrammed(span(5 * GIB, GIB)).unwrap_err();
    assert!(matches!(error, LearnError::Given { .. }), "{error}");
}

#[test]
fn memory_in_use_is_not_void() {
    let mut all =
        allocator(&[ram(4 * GIB, GIB), soft(6 * GIB, GIB)], &[window(4 * GIB, 4 * GIB, 1)]);
    let error = all.reprogrammed(span(4 * GIB, GIB)).unwrap_err();
    assert!(matches!(error, LearnError::InUse { .. }), "{error}");
    let error = all.reprogrammed(span(6 * GIB, GIB / 2)).unwrap_err();
    assert!(matches!(error, LearnError::Part { .. }), "{error}");
    assert_eq!(all.reprogrammed(span(6 * GIB, 2 * GIB)).unwrap().len(), 1);
    all.validate();
}

/// As on the machine where Linux 6.12 put a region into what firmware had handed over.
#[test]
fn a_window_inside_memory_is_full_and_inside_a_reservation_is_not() {
    let windows = [window(4 * GIB, 4 * GIB, 1), window(8 * GIB, 2 * GIB, 1)];
    let mut all = allocator(&[ram(4 * GIB, 5 * GIB)], &windows);
    let error = refused(&mut all, &request("region0", 0, GIB), Errno::Erange);
    assert!(error.to_string().contains("nothing is free beside System RAM"), "{error}");
    assert_eq!(all.allocate_region(&request("region1", 1, GIB)), Ok(span(9 * GIB, GIB)));
    let reserved = Resource::open(span(4 * GIB, 5 * GIB), Kind::Reserved, "Reserved");
    let mut all = allocator(&[reserved], &windows);
    assert_eq!(all.allocate_region(&request("region0", 0, GIB)), Ok(span(4 * GIB, GIB)));
    all.validate();
}

/// Linux takes the lowest range of a widened window, below what its decoder decodes.
#[test]
fn a_region_that_linux_would_place_elsewhere_is_refused() {
    let beside = soft(3 * GIB, 2 * GIB);
    let mut all = allocator(&[beside], &[window(4 * GIB, 4 * GIB, 1)]);
    assert_eq!(all.linux_choice(0, GIB), Ok(LinuxChoice::At(span(5 * GIB, GIB))));
    assert_eq!(all.linux_choice(0, 4 * GIB), Ok(LinuxChoice::NoRoom));
    all.reprogrammed(span(3 * GIB, 2 * GIB)).unwrap();
    assert_eq!(all.linux_choice(0, GIB), Ok(LinuxChoice::At(span(3 * GIB, GIB))));
    let error = refused(&mut all, &request("region0", 0, GIB), Errno::Enxio);
    assert!(error.to_string().contains("Linux would take 0xc0000000-0xffffffff"), "{error}");
    assert_eq!(all.allocate_region(&program("own", 0, GIB)), Ok(span(4 * GIB, GIB)));
    // Once the lower part is taken, both choose the same.
    all.hand_over(ram(3 * GIB, GIB)).unwrap();
    assert_eq!(all.allocate_region(&request("region0", 0, GIB)), Ok(span(5 * GIB, GIB)));
    all.validate();
}

#[test]
fn what_firmware_hands_over_late_is_taken() {
    let mut all = allocator(&[], &[window(4 * GIB, 4 * GIB, 1)]);
    all.hand_over(ram(4 * GIB, GIB)).unwrap();
    let region = all.allocate_region(&request("region0", 0, GIB)).unwrap();
    assert_eq!(region, span(5 * GIB, GIB));
    let error = all.hand_over(ram(5 * GIB, 2 * GIB)).unwrap_err();
    assert!(matches!(error, LearnError::Given { .. }), "{error}");
    // The memory of a region, once online, is inside; the region stays while it is.
    all.hand_over(ram(5 * GIB, 512 * MIB)).unwrap();
    assert!(matches!(all.release("region0"), Err(ReleaseError::InUse { .. })));
    // So is a dax device around that memory, with the region's very range.
    all.hand_over(Resource::open(span(5 * GIB, GIB), Kind::Dax, "dax0.0")).unwrap();
    all.hand_over(Resource::open(span(5 * GIB, GIB), Kind::Dax, "dax0.1")).unwrap();
    let region = all.owner("region0").unwrap().resource;
    let below: Vec<_> = all.map.tree.walk(region).map(|(depth, _)| depth).collect();
    assert_eq!(below, [0, 1, 2], "both are around the memory");
    let account = all.account(0).unwrap();
    let gib = u128::from(GIB);
    let expected = Account { decoded: 4 * gib, owned: gib, taken: gib, free: 2 * gib };
    assert_eq!(account, expected);
    all.validate();
}

#[test]
fn a_program_has_its_range_for_itself() {
    let mut all = allocator(&[], &[window(4 * GIB, 4 * GIB, 1)]);
    let range = all.allocate_region(&program("dcd0", 0, GIB)).unwrap();
    assert_eq!(all.owner("dcd0").unwrap().kind, Kind::UserDecoder);
    assert!(matches!(all.hand_over(ram(4 * GIB, MIB)), Err(LearnError::Given { .. })));
    all.set_progress("dcd0", Progress::Active).unwrap();
    assert!(matches!(all.release("dcd0"), Err(ReleaseError::Active { .. })));
    all.set_progress("dcd0", Progress::Configured).unwrap();
    assert_eq!(all.release("dcd0"), Ok(range));
    assert!(matches!(all.release("dcd0"), Err(ReleaseError::NoSuchOwner { .. })));
    assert_eq!(all.allocate_region(&request("region0", 0, GIB)), Ok(range));
    all.validate();
}

#[test]
fn device_private_users_come_from_the_top_and_stay_out_of_windows() {
    let top = (1 << 40) - 4 * GIB;
    let mut all = allocator(&[], &[window(top, 4 * GIB, 1)]);
    all.map.set_aside = vec![span(top - 2 * GIB, GIB)];
    let first = all.allocate_private("gpu0", 100 * MIB).unwrap();
    assert_eq!(first, span(top - 128 * MIB, 128 * MIB), "a whole section");
    let second = all.allocate_private("gpu1", GIB).unwrap();
    assert_eq!(second, span(top - 3 * GIB, GIB), "below what is set aside");
    let resource = all.map.tree.get(all.owner("gpu0").unwrap().resource).unwrap();
    assert_eq!(resource, &Resource::busy(first, Kind::DevicePrivate, "gpu0"));
    assert!(matches!(all.allocate_private("gpu0", 1), Err(PrivateError::Name { .. })));
    assert!(matches!(all.allocate_private("gpu2", 0), Err(PrivateError::NoBytes { .. })));
    assert_eq!(all.largest_private(), top - 3 * GIB - 256 * MIB);
    let error = all.allocate_private("gpu2", 1 << 40).unwrap_err();
    assert!(error.to_string().contains("at most 1016.7GiB would fit"), "{error}");
    all.validate();
}

#[test]
fn a_full_map_refuses_and_stays() {
    let mut all = allocator(&[], &[window(4 * GIB, 4 * GIB, 1)]);
    let root = all.map.tree.root();
    for at in all.map.tree.len()..crate::resource::MAX_RESOURCES {
        all.map.tree.request(root, ram(at as u64 * 4096, 4096)).unwrap();
    }
    refused(&mut all, &request("region0", 0, GIB), Errno::Enomem);
    let error = all.allocate_private("gpu0", GIB).unwrap_err();
    assert!(matches!(error, PrivateError::Insert(InsertError::Full { .. })));
}

// Against a model that knows of every section who has it.

const SECTIONS: u64 = 128;

#[derive(Clone, Debug)]
enum Operation {
    Region { window: usize, units: u64, ways: u32, holder: Holder },
    Private { sections: u64 },
    Release(prop::sample::Index),
    HandOver { start: u64, sections: u64, soft: bool },
    Reprogrammed { start: u64, sections: u64 },
}

struct World {
    all: Allocator,
    firmware: Vec<PhysRange>,
    made: usize,
}

impl World {
    fn is_taken(&self, range: PhysRange) -> bool {
        let owned = self.all.owners.values().map(|owner| owner.range);
        self.firmware.iter().copied().chain(owned).any(|taken| taken.overlaps(range))
    }

    fn fits(&self, start: u64, sections: u64) -> Option<PhysRange> {
        let range = span(start * SECTION, sections * SECTION);
        (!self.is_taken(range)).then_some(range)
    }

    /// The lowest place in a part of what the window's decoder decodes.
    fn region(&self, window: usize, bytes: u64) -> Option<PhysRange> {
        let parts = self.all.map.windows[window].territory.clone();
        let parts: Vec<_> = parts.iter().map(|part| part.range).collect();
        (2..SECTIONS).filter(|start| (start * SECTION).is_multiple_of(WINDOW_UNIT)).find_map(
            |start| {
                let range = self.fits(start, bytes / SECTION)?;
                parts.iter().any(|part| part.contains(range)).then_some(range)
            },
        )
    }

    /// The highest place outside of all windows.
    fn private(&self, sections: u64) -> Option<PhysRange> {
        let windows = self.all.map.windows.iter().filter_map(|it| match it.fate {
            Fate::Placed { range, .. } => Some(range),
            _ => it.decoder,
        });
        let windows = windows.collect::<Vec<_>>();
        let last = SECTIONS.checked_sub(sections)?;
        (2..=last).rev().find_map(|start| {
            let range = self.fits(start, sections)?;
            (!windows.iter().any(|window| window.overlaps(range))).then_some(range)
        })
    }

    fn apply(&mut self, operation: &Operation) {
        self.made += 1;
        let name = format!("owner{}", self.made);
        match *operation {
            Operation::Region { window, units, ways, holder } => {
                let Some(placed) = self.all.map.windows.get(window) else { return };
                let left_out = placed.decoder.is_some() && placed.territory.is_empty();
                let size = units * u64::from(ways) * WINDOW_UNIT;
                let ways = NonZeroU32::new(ways).unwrap();
                let ask =
                    RegionRequest { ways: Some(ways), holder, ..request(&name, window, size) };
                let expected = self.region(window, size);
                let largest = self.all.largest_region(window, ways);
                let linux = self.all.linux_choice(window, size);
                let given = self.all.allocate_region(&ask);
                let elsewhere = linux.ok() != expected.map(LinuxChoice::At);
                if holder == Holder::Kernel && elsewhere && expected.is_some() {
                    assert!(matches!(given, Err(RegionError::LinuxElsewhere { .. })));
                    return;
                }
                assert_eq!(given.clone().ok(), expected);
                match given {
                    Ok(_) => assert!(largest.unwrap() >= size),
                    Err(RegionError::NoRoom { largest: said, .. }) => {
                        assert_eq!(Ok(said), largest);
                        assert!(said < size);
                    }
                    Err(error) => assert!(left_out, "{error}"),
                }
            }
            Operation::Private { sections } => {
                let (expected, largest) = (self.private(sections), self.all.largest_private());
                let given = self.all.allocate_private(&name, sections * SECTION).ok();
                assert_eq!(given, expected);
                assert_eq!(given.is_some(), sections * SECTION <= largest);
            }
            Operation::Release(at) if !self.all.owners.is_empty() => {
                let at = at.index(self.all.owners.len());
                let name = self.all.owners.keys().nth(at).unwrap().clone();
                let range = self.all.owners[&name].range;
                let inside = self.firmware.iter().any(|it| it.overlaps(range));
                assert_eq!(self.all.release(&name).is_err(), inside);
            }
            Operation::HandOver { start, sections, soft: special } => {
                let (start, bytes) = (start * SECTION, sections * SECTION);
                let resource = if special { soft(start, bytes) } else { ram(start, bytes) };
                if self.all.hand_over(resource).is_ok() {
                    self.firmware.push(span(start, bytes));
                }
            }
            Operation::Reprogrammed { start, sections } => {
                for void in self
                    .all
                    .reprogrammed(span(start * SECTION, sections * SECTION))
                    .unwrap_or_default()
                {
                    let at = self.firmware.iter().position(|&it| it == void.range).unwrap();
                    self.firmware.remove(at);
                }
            }
            Operation::Release(_) => {}
        }
    }
}

fn operations() -> impl Strategy<Value = Operation> {
    let holders = prop_oneof![Just(Holder::Kernel), Just(Holder::Program)];
    prop_oneof![
        4 => (0usize..3, 1u64..8, 1u32..3, holders).prop_map(|(window, units, ways, holder)|
            Operation::Region { window, units, ways, holder }),
        2 => (1u64..24).prop_map(|sections| Operation::Private { sections }),
        2 => any::<prop::sample::Index>().prop_map(Operation::Release),
        1 => (0..SECTIONS - 12, 1u64..12, any::<bool>())
            .prop_map(|(start, sections, soft)| Operation::HandOver { start, sections, soft }),
        1 => (0..SECTIONS - 24, 1u64..24)
            .prop_map(|(start, sections)| Operation::Reprogrammed { start, sections }),
    ]
}

proptest! {
    /// Never two owners of one address; what is free, owned and taken adds up; the lowest and the
    /// highest place; the largest size that fits does, and the next larger one does not.
    #[test]
    fn nobody_gets_what_another_has(
        handed in prop::collection::vec((0..SECTIONS - 24, 1u64..24, any::<bool>()), 0..5),
        spans in prop::collection::vec((0u64..56, 1u64..8), 0..3),
        all in prop::collection::vec(operations(), 1..30),
    ) {
        let mut tree = Tree::new(span(0, SECTIONS * SECTION));
        let mut firmware = vec![];
        for (start, sections, special) in handed {
            let (start, bytes) = (start * SECTION, sections * SECTION);
            let resource = if special { soft(start, bytes) } else { ram(start, bytes) };
            if tree.insert(tree.root(), resource).is_ok() {
                firmware.push(span(start, bytes));
            }
        }
        let windows: Vec<_> = spans
            .iter()
            .map(|&(at, size)| window(at * WINDOW_UNIT, size * WINDOW_UNIT, 1))
            .collect();
        let windows = place_windows(&mut tree, &windows);
        let left_out = windows.iter().filter_map(|it| it.decoder);
        let set_aside = ranges::union(left_out);
        let all_of = Allocator::new(AddressMap { tree, windows, set_aside });
        let mut world = World { all: all_of, firmware, made: 0 };
        for operation in &all {
            world.apply(operation);
            world.all.validate();
            for window in 0..world.all.map.windows.len() {
                for ways in [1, 2].map(|ways| NonZeroU32::new(ways).unwrap()) {
                    let unit = u64::from(ways.get()) * WINDOW_UNIT;
                    let Ok(largest) = world.all.largest_region(window, ways) else { continue };
                    let fits = |size| world.region(window, size).is_some();
                    prop_assert!(largest == 0 || fits(largest));
                    prop_assert!(!fits(largest + unit));
                }
            }
        }
    }
}
