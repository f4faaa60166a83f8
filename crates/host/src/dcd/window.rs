//! Which physical addresses a device's memory gets.
//!
//! The window that leads to the device's host bridge says which addresses arrive there at all; the
//! dax region over it ([`super::dax_region`]), which of them the kernel can use piece by piece. In
//! what both have, the one allocator of the address map ([`memtide_physmap::allocate`]) finds room.
//! It is told what others have there: dax devices, and all of the window that is outside of the
//! region. The region itself is no obstacle: it is there for this.
//!
//! While the region lies over its window the kernel finds no room for CXL regions of its own there,
//! so its decoders and ours cannot meet.

use core::num::NonZeroU32;

use memtide_physmap::{
    allocate::{Allocator, Holder, Media, Progress, RegionRequest},
    map::AddressMap,
    resource::{Kind, Resource},
};
use memtide_units::{ByteSize, PhysAddr, PhysRange};

use super::{
    dax_region::{self, DaxRegion},
    error::DcdError,
    pci::{Above, PciDevice},
};
use crate::{Root, address_map};

/// Where a device's memory may be.
#[derive(Clone, Debug)]
pub struct Place {
    map: AddressMap,
    window: usize,
    /// What the window decodes.
    pub decoded: PhysRange,
    /// The dax region over it.
    pub region: DaxRegion,
}

/// The window that leads to a device, and the dax region over it.
///
/// # Errors
/// [`DcdError`]; where the kernel was not started as it has to be, with the words to add.
pub fn find(root: &Root, device: &PciDevice) -> Result<Place, DcdError> {
    let bridge = match &device.above {
        Above::OnlyRootPort { bridge } => *bridge,
        Above::Decodes(what) => {
            let (device, what) = (device.address.clone(), what.clone());
            return Err(DcdError::Above { device, what });
        }
    };
    let map = address_map::read(root)?.map().clone();
    let windows: Vec<(usize, PhysRange)> = map
        .windows
        .iter()
        .enumerate()
        .filter(|(_, placed)| placed.window.targets == [bridge])
        .filter_map(|(at, placed)| Some((at, placed.decoder?)))
        .collect();
    let Some(&(_, first)) = windows.first() else {
        return Err(DcdError::NoWindow { device: device.address.clone(), bridge });
    };
    let regions = dax_region::read(root)?;
    for &(window, decoded) in &windows {
        if let Some(region) = regions.iter().find(|region| region.range.overlaps(decoded)) {
            let region = region.clone();
            return Ok(Place { map, window, decoded, region });
        }
    }
    let is_soft_reserved = map
        .tree
        .resources()
        .any(|(_, resource)| resource.kind == Kind::SoftReserved && resource.range.overlaps(first));
    if is_soft_reserved {
        return Err(DcdError::NoDaxRegion { window: first });
    }
    let size = ByteSize(u64::try_from(first.bytes()).unwrap_or(u64::MAX));
    Err(DcdError::NotSoftReserved { window: first, size })
}

impl Place {
    /// Finds room for so much, a multiple of 256 MiB, and takes it.
    ///
    /// # Errors
    /// [`DcdError::NoRoom`], with who is in the way.
    pub fn allocate(&mut self, name: &str, bytes: u64) -> Result<PhysRange, DcdError> {
        let mut allocator = Allocator::new(self.without_reservation());
        for outside in self.outside() {
            let resource = Resource::busy(outside, Kind::Reserved, "not in the dax region");
            // What is there already is as much in the way as this would be.
            let _ = allocator.hand_over(resource);
        }
        let request = RegionRequest {
            name: name.to_owned(),
            window: self.window,
            size: bytes,
            ways: NonZeroU32::new(1),
            granularity: NonZeroU32::new(256),
            media: Media::Ram,
            holder: Holder::Program,
            progress: Progress::Configured,
        };
        let given = allocator.allocate_region(&request)?;
        self.map = allocator.map().clone();
        Ok(given)
    }

    /// The map without the Soft Reserved range of the region, and without the device that the
    /// kernel puts over all of it by default: what is in them moves out.
    fn without_reservation(&self) -> AddressMap {
        let mut map = self.map.clone();
        let mut around = Vec::new();
        for (_, id) in map.tree.walk(map.tree.root()) {
            let resource = map.tree.get(id).expect("what is walked over is in the tree");
            let is_whole = resource.range.contains(self.region.range);
            if resource.kind == Kind::SoftReserved && resource.range.overlaps(self.region.range)
                || resource.kind == Kind::Dax && is_whole
            {
                around.push(id);
            }
        }
        for id in around {
            map.tree.remove(id).expect("it was in the tree just now");
        }
        map
    }

    /// What of the window the region does not have.
    fn outside(&self) -> Vec<PhysRange> {
        let (window, region) = (self.decoded, self.region.range);
        let below = region.start().0.checked_sub(1).map(PhysAddr);
        let below = below.and_then(|last| PhysRange::new(window.start(), last));
        let above = region.last().0.checked_add(1).map(PhysAddr);
        let above = above.and_then(|start| PhysRange::new(start, window.last()));
        [below, above].into_iter().flatten().filter_map(|part| part.intersection(window)).collect()
    }
}
