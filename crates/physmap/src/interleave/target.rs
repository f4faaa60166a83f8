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
mod tests;
