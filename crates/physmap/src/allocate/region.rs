//! A range for a region, or for a program's decoder (`alloc_hpa`).
//!
//! The rules are the kernel's, in its order, so that what is refused there is refused here for the
//! same reason: the same size again is no request at all; another size, or a region whose decoders
//! work already, is busy; ways, granularity and, for persistent memory, a UUID come first; the size
//! is a multiple of 256 MiB for each way. Then the lowest free range, aligned to 256 MiB.
//!
//! The kernel takes no address, only a size, and chooses itself. So where it would choose otherwise
//! ([`LinuxChoice`]) a region of the kernel's is refused here: its choice would be an address that
//! the decoder does not decode, or one in memory of firmware's; or, for a trimmed window, no choice
//! but a crash (6.12 follows the null pointer in `get_free_mem_region` as soon as the size is
//! written). The range is there for a program that programs the decoders itself.

use alloc::{format, string::String};
use core::{fmt, num::NonZeroU32};

use memtide_units::PhysRange;

use super::{Allocator, Missing, Owner, Progress, RegionError};
use crate::{
    resource::{Claim, Direction, Kind, Resource, Search},
    window::{Restrictions, WINDOW_UNIT},
    windows::{Fate, PlacedWindow},
};

/// What a region's memory is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Media {
    /// Volatile.
    Ram,
    /// Persistent, and found again by a UUID, which all but zeroes sets.
    Pmem {
        /// The UUID.
        uuid: [u8; 16],
    },
}

/// Who will program the decoders.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Holder {
    /// The kernel: others may put dax devices and memory inside.
    Kernel,
    /// A program: nobody else has any business inside, so the range is busy.
    Program,
}

/// Where Linux would place a region if it were told the size now (`get_free_mem_region`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinuxChoice {
    /// There.
    At(PhysRange),
    /// It would refuse (`-ERANGE`).
    NoRoom,
    /// The decoder has no resource, and the kernel follows a null pointer.
    Crash,
}

impl fmt::Display for LinuxChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(range) => write!(f, "Linux would take {range}"),
            Self::NoRoom => f.write_str("Linux would find no room"),
            Self::Crash => {
                f.write_str("Linux gave the decoder no resource and would follow a null pointer")
            }
        }
    }
}

/// Asks for a range.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RegionRequest {
    /// Its name, such as `region0`.
    pub name: String,
    /// The window, by its place in the table.
    pub window: usize,
    /// Bytes.
    pub size: u64,
    /// How many devices take turns, once it is known.
    pub ways: Option<NonZeroU32>,
    /// After how many bytes, once it is known.
    pub granularity: Option<NonZeroU32>,
    /// What its memory is.
    pub media: Media,
    /// Who will program the decoders.
    pub holder: Holder,
    /// Whether they are at work already.
    pub progress: Progress,
}

impl Allocator {
    /// Gives a region a range in what its window's decoder decodes.
    ///
    /// # Errors
    ///
    /// [`RegionError`]; nothing has changed then.
    pub fn allocate_region(&mut self, request: &RegionRequest) -> Result<PhysRange, RegionError> {
        let placed = self.window(request.window)?;
        if let Some(owner) = self.owner(&request.name) {
            return same(owner, request);
        }
        request.check(placed)?;
        let found = self.map.find_in(placed, request.size);
        let Some((resource, range)) = found else { return Err(self.no_room(placed, request)) };
        let (kind, claim) = match request.holder {
            Holder::Kernel => (Kind::CxlRegion, Claim::Open),
            Holder::Program => (Kind::UserDecoder, Claim::Busy),
        };
        if request.holder == Holder::Kernel {
            let linux = self.choice_of_linux(placed, request.size);
            if linux != LinuxChoice::At(range) {
                let window = placed.name();
                return Err(RegionError::LinuxElsewhere { window, range, linux });
            }
        }
        let name = request.name.clone();
        let resource = self.map.tree.request(resource, Resource { range, kind, claim, name })?;
        let (window, progress) = (Some(request.window), request.progress);
        let owner = Owner { range, kind, window, progress, resource };
        self.owners.insert(request.name.clone(), owner);
        Ok(range)
    }

    /// The largest region of so many ways that would find a range in a window now, in bytes; 0 if
    /// none would.
    ///
    /// # Errors
    ///
    /// [`RegionError::NoSuchWindow`] and [`RegionError::Unusable`].
    pub fn largest_region(&self, window: usize, ways: NonZeroU32) -> Result<u64, RegionError> {
        Ok(self.map.largest_in(self.window(window)?, unit(ways)))
    }

    /// Where Linux would place a region of a window if it were told this size now.
    ///
    /// # Errors
    ///
    /// [`RegionError::NoSuchWindow`] and [`RegionError::Unusable`].
    pub fn linux_choice(&self, window: usize, bytes: u64) -> Result<LinuxChoice, RegionError> {
        Ok(self.choice_of_linux(self.window(window)?, bytes))
    }

    /// The lowest range in all of the decoder's resource, whatever it decodes, and whatever the
    /// resource is in.
    fn choice_of_linux(&self, placed: &PlacedWindow, bytes: u64) -> LinuxChoice {
        let Some(resource) = placed.kernel_resource else { return LinuxChoice::Crash };
        let whole = self.map.tree.get(resource).expect("windows stay in the tree").range;
        let search = Search {
            within: whole,
            align: WINDOW_UNIT,
            direction: Direction::Ascending,
            avoid: &[],
        };
        let found = self.map.tree.find_free(resource, bytes, &search);
        found.map_or(LinuxChoice::NoRoom, LinuxChoice::At)
    }

    fn window(&self, window: usize) -> Result<&PlacedWindow, RegionError> {
        let windows = self.map.windows.len();
        let placed = self.map.windows.get(window);
        let placed = placed.ok_or(RegionError::NoSuchWindow { window, windows })?;
        let why = match &placed.fate {
            Fate::Refused(error) => format!("{error}"),
            Fate::Overlaps { other } => {
                format!("it overlaps {} in part", self.map.windows[*other].name())
            }
            Fate::Rejected(error) => format!("{error}"),
            _ => return Ok(placed),
        };
        Err(RegionError::Unusable { window: placed.name(), why })
    }

    fn no_room(&self, placed: &PlacedWindow, request: &RegionRequest) -> RegionError {
        let size = request.size;
        let decoder = placed.decoder.expect("a window that is not left out decodes something");
        let obstacle = self.map.obstacle_in(placed, size);
        let unit = request.ways.map_or(WINDOW_UNIT, unit);
        let largest = self.map.largest_in(placed, unit);
        RegionError::NoRoom { window: placed.name(), decoder, size, obstacle, largest }
    }
}

fn unit(ways: NonZeroU32) -> u64 {
    u64::from(ways.get()) * WINDOW_UNIT
}

/// The answer to who has a range already.
fn same(owner: &Owner, request: &RegionRequest) -> Result<PhysRange, RegionError> {
    let (name, range) = (request.name.clone(), owner.range);
    if owner.window != Some(request.window) {
        return Err(RegionError::Name { name, window: request.window, range });
    }
    if range.bytes() == u128::from(request.size) {
        return Ok(range);
    }
    let has = range.last().0 - range.start().0 + 1;
    Err(RegionError::OtherSize { name, range, has, asked: request.size })
}

impl RegionRequest {
    fn check(&self, placed: &PlacedWindow) -> Result<(), RegionError> {
        let name = || self.name.clone();
        if self.progress == Progress::Active {
            return Err(RegionError::Active { name: name() });
        }
        let missing = |what| RegionError::Missing { name: name(), what };
        let ways = self.ways.ok_or_else(|| missing(Missing::Ways))?;
        self.granularity.ok_or_else(|| missing(Missing::Granularity))?;
        if self.media == (Media::Pmem { uuid: [0; 16] }) {
            return Err(missing(Missing::Uuid));
        }
        if !matches!(ways.get(), 1 | 2 | 3 | 4 | 6 | 8 | 12 | 16) {
            return Err(RegionError::Ways { name: name(), ways: ways.get() });
        }
        let (need, media) = match self.media {
            Media::Ram => (Restrictions::VOLATILE, "volatile"),
            Media::Pmem { .. } => (Restrictions::PERSISTENT, "persistent"),
        };
        if !placed.window.restrictions.allow(need) {
            return Err(RegionError::Media { window: placed.name(), media });
        }
        let unit = unit(ways);
        if self.size == 0 || !self.size.is_multiple_of(unit) {
            return Err(RegionError::Size { size: self.size, unit, ways: ways.get() });
        }
        Ok(())
    }
}
