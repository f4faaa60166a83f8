//! Decoders one below the other: from an address to a device and back.
//!
//! The root's decoder is the platform's ([`RootDecoder`], from a CFMWS). Below it stand those of a
//! host bridge and of switches, each choosing a port by some bits, and last the device's, which
//! knows how many ways and which granularity there are *in all*. A [`Route`] is a region's
//! decoders from root to device. Their choices have to share out exactly the bits that the device
//! takes out: in the order of their granularities each goes on where the one before ended, and
//! only the last can have a factor of three, whose remainder is of everything above. Root
//! 4 × 256, host bridge 4 × 1024, device 16 × 256 is the usual picture.
//!
//! Ports choose by the address itself, a device counts from the start of its region. With powers
//! of two that is the same, as regions start at multiples of 256 MiB. With a factor of three it is
//! not, unless the region starts at a multiple of ways · 256 MiB: then the first bytes of the
//! region are not at position 0, but the device's own addresses start at 0 all the same
//! (Linux's `region_is_unaligned_mod3`).

use memtide_units::{PhysAddr, PhysRange};

use super::{Interleave, InterleaveError, Place, Ways, XorMaps};

/// Regions start at multiples of this: decoders have no lower address bits (CXL 3.1, 8.2.4.20).
pub const REGION_ALIGN: u64 = 256 << 20;

/// Decoders of a route above its device: the root's, a host bridge's, two switches'.
pub const LEVELS_MAX: usize = 4;

/// The platform's decoder of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RootDecoder {
    range: PhysRange,
    interleave: Interleave,
    maps: XorMaps,
}

impl RootDecoder {
    /// A decoder of `range` that deals it out by remainder.
    #[must_use]
    pub const fn modulo(range: PhysRange, interleave: Interleave) -> Self {
        Self { range, interleave, maps: XorMaps::none() }
    }

    /// A decoder of `range` that takes the parities of `maps` first. Where they are more than the
    /// ways need, the first count.
    ///
    /// # Errors
    /// [`InterleaveError::MapsMissing`] and [`InterleaveError::Map`], as [`XorMaps::new`].
    pub fn xor(
        range: PhysRange,
        interleave: Interleave,
        maps: impl IntoIterator<Item = u64>,
    ) -> Result<Self, InterleaveError> {
        Ok(Self { range, interleave, maps: XorMaps::new(interleave, maps)? })
    }

    /// What it decodes.
    #[must_use]
    pub const fn range(&self) -> PhysRange {
        self.range
    }

    /// How it deals.
    #[must_use]
    pub const fn interleave(&self) -> Interleave {
        self.interleave
    }

    /// The maps whose parities it takes; none where it deals by remainder alone.
    #[must_use]
    pub fn xor_maps(&self) -> &[u64] {
        self.maps.maps()
    }

    /// Which of the window's targets `address` goes to, counted from 0.
    ///
    /// # Errors
    /// [`InterleaveError::Outside`] if it is not in the window.
    pub fn target(&self, address: PhysAddr) -> Result<u8, InterleaveError> {
        inside(self.range, address)?;
        Ok(self.interleave.position(self.maps.apply(address.0)))
    }
}

/// A region's decoders, from the root to its devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Route {
    root: RootDecoder,
    region: PhysRange,
    device: Interleave,
    levels: [Interleave; LEVELS_MAX],
    depth: usize,
}

impl Route {
    /// The decoders of `region`: `root`, then `ports` from the host bridge down, then the
    /// `device`'s, with the ways and granularity of the whole region.
    ///
    /// # Errors
    /// [`InterleaveError::Outside`] if the region is not all in the root's window;
    /// [`InterleaveError::Start`] if it does not start at a multiple of 256 MiB;
    /// [`InterleaveError::Levels`] if the decoders' choices are not what the device takes out, or
    /// there are more than [`LEVELS_MAX`] of them.
    pub fn new(
        root: RootDecoder,
        region: PhysRange,
        ports: &[Interleave],
        device: Interleave,
    ) -> Result<Self, InterleaveError> {
        inside(root.range, region.start())?;
        inside(root.range, region.last())?;
        if !region.start().is_aligned(REGION_ALIGN) {
            let start = region.start();
            return Err(InterleaveError::Start { start, align: REGION_ALIGN });
        }
        let mut levels = [root.interleave; LEVELS_MAX];
        let depth = 1 + ports.len();
        match levels.get_mut(1..depth) {
            Some(below) => below.copy_from_slice(ports),
            None => return Err(mismatch(LEVELS_MAX, device, device)),
        }
        share_out(&levels[..depth], device)?;
        Ok(Self { root, region, device, levels, depth })
    }

    /// The region.
    #[must_use]
    pub const fn region(&self) -> PhysRange {
        self.region
    }

    /// The ways and granularity of the whole region.
    #[must_use]
    pub const fn interleave(&self) -> Interleave {
        self.device
    }

    /// Which device `address` goes to, and where in the device's part of the region it is. The
    /// position counts as the root's targets do; [`Route::targets`] takes it apart.
    ///
    /// # Errors
    /// [`InterleaveError::Outside`] if it is not in the region.
    pub fn locate(&self, address: PhysAddr) -> Result<Place, InterleaveError> {
        inside(self.region, address)?;
        let changed = self.root.maps.apply(address.0);
        // What changed lies below the region's alignment: it is still in or above the region.
        let place = self.device.place(changed - self.region.start().0);
        Ok(Place { position: self.device.position(changed), offset: place.offset })
    }

    /// The address that goes to `place`.
    ///
    /// # Errors
    /// [`InterleaveError::Position`] if there is no such device;
    /// [`InterleaveError::Beyond`] or [`InterleaveError::Outside`] if its part of the
    /// region is smaller.
    pub fn address(&self, place: Place) -> Result<PhysAddr, InterleaveError> {
        let ways = self.device.ways().count();
        if place.position >= ways {
            return Err(InterleaveError::Position { found: place.position, ways });
        }
        // The position of the region's first bytes: 0, unless there is a factor of three.
        let first = self.device.position(self.region.start().0);
        let position = (place.position + ways - first) % ways;
        let offset = self.device.offset(Place { position, offset: place.offset })?;
        let changed = self.region.start().checked_add(offset);
        let changed = changed.ok_or(InterleaveError::Beyond { device: place.offset })?;
        let address = PhysAddr(self.root.maps.undo(changed.0));
        inside(self.region, address)?;
        Ok(address)
    }

    /// What each decoder above the device at `position` chooses: the root's target first, then
    /// the ports.
    ///
    /// # Errors
    /// [`InterleaveError::Position`] if there is no such device.
    pub fn targets(
        &self,
        position: u8,
    ) -> Result<impl ExactSizeIterator<Item = u8> + '_, InterleaveError> {
        let ways = self.device.ways().count();
        if position >= ways {
            return Err(InterleaveError::Position { found: position, ways });
        }
        let address = u64::from(position) << self.device.granularity().shift();
        Ok(self.levels[..self.depth].iter().map(move |level| level.position(address)))
    }
}

/// Refuses `levels` whose choices are not exactly the bits that `device` takes out.
fn share_out(levels: &[Interleave], device: Interleave) -> Result<(), InterleaveError> {
    let choosing = |level: &Interleave| level.ways() != Ways::ONE;
    let mut next = device.granularity().bytes();
    let mut last = 0;
    for _ in levels.iter().filter(|level| choosing(level)) {
        // The one that goes on at `next`. Behind a factor of three no power of two is next.
        let found =
            levels.iter().position(|level| choosing(level) && level.granularity().bytes() == next);
        let Some(index) = found else {
            let wrong = levels.iter().position(|level| {
                choosing(level) && level.granularity().bytes() != device.granularity().bytes()
            });
            let wrong = wrong.unwrap_or_default();
            return Err(mismatch(wrong, levels[wrong], device));
        };
        next = levels[index].round_bytes();
        last = index;
    }
    if next == device.round_bytes() {
        return Ok(());
    }
    Err(mismatch(last, levels[last], device))
}

const fn mismatch(level: usize, found: Interleave, device: Interleave) -> InterleaveError {
    InterleaveError::Levels {
        level: level as u8,
        ways: found.ways().count(),
        granularity: found.granularity().bytes(),
        device_ways: device.ways().count(),
        device_granularity: device.granularity().bytes(),
    }
}

fn inside(range: PhysRange, address: PhysAddr) -> Result<(), InterleaveError> {
    match range.has(address) {
        true => Ok(()),
        false => Err(InterleaveError::Outside { address, range }),
    }
}

#[cfg(test)]
mod tests {
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
        let route =
            Route::new(root, range(start, 4 << 30), &[deal(4, 1024)], deal(16, 256)).unwrap();
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
        let outside = |address| {
            Err(InterleaveError::Outside { address: PhysAddr(address), range: root.range() })
        };
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
}
