//! Vectors of decoders one below the other, and a naive machine to hold them against.

use alloc::{collections::BTreeMap, vec::Vec};

use proptest::prelude::*;

use super::*;
use crate::interleave::Granularity;

const MIB: u64 = 1 << 20;

fn deal(ways: u64, granularity: u64) -> Interleave {
    Interleave::new(Ways::new(ways).unwrap(), Granularity::new(granularity).unwrap())
}

fn range(start: u64, bytes: u64) -> PhysRange {
    PhysRange::from_size(PhysAddr(start), bytes).unwrap()
}

fn window(start: u64, bytes: u64, ways: u64, granularity: u64) -> RootDecoder {
    RootDecoder::modulo(range(start, bytes), deal(ways, granularity))
}

fn targets(route: &Route, position: u8) -> Vec<u8> {
    route.targets(position).unwrap().collect()
}

#[test]
fn root_4_x_256_host_bridge_4_x_1024_endpoint_16_x_256() {
    let start = 4 << 30;
    let root = window(start, 8 << 30, 4, 256);
    let route = Route::new(root, range(start, 4 << 30), &[deal(4, 1024)], deal(16, 256)).unwrap();
    for unit in 0..1000 {
        let address = start + 256 * unit + 7;
        let place = route.locate(PhysAddr(address)).unwrap();
        let [bridge, port] = targets(&route, place.position)[..] else { panic!() };
        assert_eq!(u64::from(bridge), (address / 256) % 4);
        assert_eq!(u64::from(port), (address / 1024) % 4);
        assert_eq!(root.target(PhysAddr(address)), Ok(bridge));
        assert_eq!(place.offset, (unit / 16) * 256 + 7);
        assert_eq!(route.address(place), Ok(PhysAddr(address)));
    }
}

#[test]
fn low_memory_hole_cfmws_2_gib_decoders_3_gib_12_way() {
    // The window ends within a round: what the decoders have above it is not there.
    let root = window(0, 2 << 30, 12, 256);
    let region = root.range();
    let route = Route::new(root, region, &[], deal(12, 256)).unwrap();
    let place = route.locate(region.last()).unwrap();
    assert_eq!(u64::from(place.position), ((1 << 23) - 1) % 12);
    assert_eq!(route.address(place), Ok(region.last()));
    let beyond = Place { position: 0, offset: 256 * MIB - 1 };
    let address = 12 * (256 * MIB - 256) + 255;
    assert_eq!(
        route.address(beyond),
        Err(InterleaveError::Outside { address: PhysAddr(address), range: region })
    );
}

#[test]
fn three_ways_from_no_multiple_of_768_mib_begin_at_another_target() {
    for (start, first) in [(0, 0), (256 * MIB, 1), (512 * MIB, 2), (768 * MIB, 0)] {
        let root = window(0, 3 << 30, 3, 256);
        let region = range(start, 768 * MIB);
        let route = Route::new(root, region, &[], deal(3, 256)).unwrap();
        let place = route.locate(PhysAddr(start)).unwrap();
        assert_eq!(place, Place { position: first, offset: 0 });
        assert_eq!(root.target(PhysAddr(start)), Ok(first));
        let second = Place { position: (first + 1) % 3, offset: 0 };
        assert_eq!(route.address(second), Ok(PhysAddr(start + 256)));
    }
}

#[test]
fn levels_that_do_not_share_out_the_devices_bits_are_refused() {
    let route = |root_ways, root_bytes, ports: &[Interleave], device| {
        Route::new(window(0, 1 << 40, root_ways, root_bytes), range(0, 1 << 30), ports, device)
    };
    let level = |error: Result<Route, _>| match error {
        Err(InterleaveError::Levels { level, .. }) => level,
        other => panic!("{other:?}"),
    };
    assert!(route(2, 256, &[deal(1, 256), deal(2, 512)], deal(4, 256)).is_ok());
    assert!(route(2, 512, &[deal(2, 256)], deal(4, 256)).is_ok());
    assert!(route(3, 512, &[deal(2, 256)], deal(6, 256)).is_ok());
    assert!(route(1, 256, &[], deal(1, 4096)).is_ok());
    // Overlapping, with a gap, too few, too many, a power of two behind a three.
    assert_eq!(level(route(2, 256, &[deal(2, 256)], deal(4, 256))), 0);
    assert_eq!(level(route(2, 256, &[deal(2, 1024)], deal(4, 256))), 1);
    assert_eq!(level(route(2, 256, &[], deal(4, 256))), 0);
    assert_eq!(level(route(4, 256, &[deal(2, 1024)], deal(4, 256))), 1);
    assert_eq!(level(route(3, 256, &[deal(2, 1024)], deal(6, 256))), 1);
    assert_eq!(level(route(2, 512, &[], deal(2, 256))), 0);
    assert_eq!(level(route(1, 256, &[deal(1, 256); 4], deal(1, 256))), 4);
}

#[test]
fn regions_outside_or_askew_are_refused() {
    let root = window(1 << 30, 1 << 30, 1, 256);
    let new = |start, bytes| Route::new(root, range(start, bytes), &[], deal(1, 256));
    let outside =
        |address| Err(InterleaveError::Outside { address: PhysAddr(address), range: root.range() });
    assert_eq!(new(0, 1 << 30), outside(0));
    assert_eq!(new(1 << 30, (1 << 30) + 1), outside(2 << 30));
    let start = PhysAddr((1 << 30) + 128 * MIB);
    let askew = InterleaveError::Start { start, align: REGION_ALIGN };
    assert_eq!(new(start.0, 256 * MIB), Err(askew));
    assert!(root.target(PhysAddr(0)).is_err());
}

#[test]
fn positions_beyond_the_ways_are_refused() {
    let route = Route::new(window(0, 1 << 30, 3, 256), range(0, 1 << 30), &[], deal(3, 256));
    let route = route.unwrap();
    for found in 3..=255 {
        let error = InterleaveError::Position { found, ways: 3 };
        assert_eq!(route.address(Place { position: found, offset: 0 }), Err(error));
        assert_eq!(route.targets(found).err(), Some(error));
    }
}

#[test]
fn a_region_at_the_top_of_the_address_space() {
    let start = u64::MAX - (256 * MIB - 1);
    let root = window(start, 256 * MIB, 2, 256);
    let route = Route::new(root, root.range(), &[], deal(2, 256)).unwrap();
    let place = route.locate(PhysAddr(u64::MAX)).unwrap();
    assert_eq!(place, Place { position: 1, offset: 128 * MIB - 1 });
    assert_eq!(route.address(place), Ok(PhysAddr(u64::MAX)));
    for offset in [128 * MIB, u64::MAX] {
        assert!(route.address(Place { position: 1, offset }).is_err());
    }
}

/// Ways of levels, that of the lowest address bits first.
const FACTORS: &[&[u64]] = &[
    &[1],
    &[2],
    &[4],
    &[8],
    &[16],
    &[3],
    &[6],
    &[12],
    &[2, 2],
    &[2, 4],
    &[4, 2],
    &[4, 4],
    &[8, 2],
    &[2, 8],
    &[2, 3],
    &[4, 3],
    &[2, 6],
    &[2, 2, 2],
    &[2, 2, 4],
    &[2, 2, 3],
    &[1, 2],
    &[1, 1, 3],
    &[2, 2, 2, 2],
];

/// Roots, ports and devices that go together: factors of the ways, dealt out in order.
fn hierarchies() -> impl Strategy<Value = (Interleave, Vec<Interleave>, Interleave)> {
    let factors = prop::sample::select(FACTORS);
    (factors, 0_u32..=2, any::<prop::sample::Index>()).prop_map(|(factors, code, root)| {
        let mut bytes = 256 << code;
        let device = deal(factors.iter().product(), bytes);
        let mut levels: Vec<_> = factors
            .iter()
            .map(|ways| {
                let level = deal(*ways, bytes);
                bytes *= ways;
                level
            })
            .collect();
        // Any of them may be the root.
        let root = levels.remove(root.index(factors.len()));
        (root, levels, device)
    })
}

fn random_maps(root: Interleave, random: [u64; 4]) -> [u64; 4] {
    core::array::from_fn(|n| {
        let lowest = 1 << (root.granularity().shift() + n as u8);
        random[n] & !(lowest - 1) | lowest
    })
}

proptest! {
    /// A naive machine: each decoder looks at the address for itself, each device hands out
    /// its own addresses in the order in which it is asked.
    #[test]
    fn devices_fill_up_without_holes(
        (root, ports, device) in hierarchies(),
        start in 0_u64..64,
        random: [u64; 4],
        xor: bool,
    ) {
        let start = start * 256 * MIB;
        let region = range(start, 4 << 30);
        let root = match xor {
            true => RootDecoder::xor(region, root, random_maps(root, random)).unwrap(),
            false => RootDecoder::modulo(region, root),
        };
        let route = Route::new(root, region, &ports, device).unwrap();
        let mut handed_out: BTreeMap<Vec<u8>, Vec<u64>> = BTreeMap::new();
        // Whole rounds, and all values of the bits that a map can change.
        let bytes = 3 << 16;
        for address in (start..start + bytes).step_by(256) {
            let address = PhysAddr(address);
            let mut choices = alloc::vec![root.target(address).unwrap()];
            choices.extend(ports.iter().map(|port| port.position(address.0)));
            let place = route.locate(address).unwrap();
            prop_assert_eq!(&targets(&route, place.position), &choices);
            prop_assert_eq!(route.address(place), Ok(address));
            handed_out.entry(choices).or_default().push(place.offset);
        }
        prop_assert_eq!(handed_out.len(), usize::from(device.ways().count()));
        for (choices, mut offsets) in handed_out {
            if !xor {
                prop_assert!(offsets.is_sorted(), "{choices:?}");
            }
            offsets.sort_unstable();
            let expected: Vec<u64> = (0..offsets.len() as u64).map(|n| 256 * n).collect();
            prop_assert_eq!(offsets, expected, "{:?}", choices);
        }
    }

    #[test]
    fn any_address_goes_there_and_back(
        (root, ports, device) in hierarchies(),
        start in 0_u64..1 << 36,
        units in 1_u64..64,
        random: [u64; 4],
        addresses in prop::collection::vec(any::<u64>(), 20),
    ) {
        let region = PhysRange::from_size(PhysAddr(start * 256 * MIB), units * 256 * MIB);
        let region = region.unwrap();
        let root = RootDecoder::xor(region, root, random_maps(root, random)).unwrap();
        let route = Route::new(root, region, &ports, device).unwrap();
        for random in addresses {
            let within = random % (units * 256 * MIB);
            let address = region.start().checked_add(within).unwrap();
            let place = route.locate(address).unwrap();
            prop_assert_eq!(route.address(place), Ok(address));
            let first = route.targets(place.position).unwrap().next();
            prop_assert_eq!(first, root.target(address).ok());
        }
    }

    #[test]
    fn levels_at_random_are_refused_or_work(
        codes in prop::collection::vec((0_usize..8, 0_u8..=6), 2..6),
        address in 0_u64..4 << 30,
    ) {
        let all: Vec<_> = codes
            .into_iter()
            .map(|(ways, code)| {
                Interleave::new(Ways::ALL[ways], Granularity::decode(code).unwrap())
            })
            .collect();
        let [root, ports @ .., device] = &all[..] else { unreachable!() };
        let region = range(0, 4 << 30);
        let root = RootDecoder::modulo(region, *root);
        if let Ok(route) = Route::new(root, region, ports, *device) {
            let place = route.locate(PhysAddr(address)).unwrap();
            prop_assert_eq!(route.address(place), Ok(PhysAddr(address)));
            let mut choices = alloc::vec![root.target(PhysAddr(address)).unwrap()];
            choices.extend(ports.iter().map(|port| port.position(address)));
            prop_assert_eq!(targets(&route, place.position), choices);
        }
    }
}
