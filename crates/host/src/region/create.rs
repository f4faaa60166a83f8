//! The plan that makes a region.

use std::time::Duration;

use memtide_units::{ByteSize, PhysRange};

use super::{
    REGION_ALIGN,
    arrange::{self, Reached},
    capacity::{self, CapacityError, Share},
    create_error::CreateError,
    pick::Candidates,
    window::Room,
};
use crate::{
    Root,
    cxl::{Capability, Cxl, DEVICES, Decoder, DecoderKind},
    plan::{Action, Condition, Plan, Step},
};

/// Granularities that HDM decoders have: 256 B to 16 KiB (CXL 3.1, 8.2.4.20.7).
const GRANULARITY: std::ops::RangeInclusive<u32> = 256..=16384;

/// How long the kernel may take to make the dax region once the driver is bound.
const APPEARS_WITHIN: Duration = Duration::from_secs(10);

/// What region is wanted; what is not said is found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RegionWish {
    /// In which window: `decoder0.0`. Without one, the first in which it can be.
    pub window: Option<String>,
    /// Of which devices: `mem0`. Without any, the first that are free and fit together.
    pub devices: Vec<String>,
    /// How large. Without a size, as large as can be.
    pub size: Option<ByteSize>,
    /// Bytes at one device before the next one's turn. Without, the window's.
    pub granularity: Option<u32>,
    /// Over how many devices. Without, as many as are named, or the window's ways.
    pub ways: Option<u32>,
}

/// What will be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Created {
    /// The writes.
    pub plan: Plan,
    /// Its name.
    pub region: String,
    /// Its window.
    pub window: String,
    /// Where it will be.
    pub range: PhysRange,
    /// Its size.
    pub size: ByteSize,
    /// Bytes at one device before the next one's turn.
    pub granularity: u32,
    /// Device and decoder, by position.
    pub targets: Vec<(String, String)>,
}

/// What the size of a region of so many ways is a multiple of.
pub(super) const fn step(ways: u32) -> u64 {
    REGION_ALIGN * ways as u64
}

/// What it takes to make a region.
///
/// # Errors
/// [`CreateError`].
pub fn plan(root: &Root, wish: &RegionWish) -> Result<Created, CreateError> {
    let cxl = Cxl::read_whole(root)?;
    let windows: Vec<&Decoder> = cxl.decoders.iter().filter(|it| it.is_window()).collect();
    if windows.is_empty() {
        return Err(CreateError::NoCxl);
    }
    check_devices(&cxl, wish)?;
    if let Some(name) = &wish.window {
        let Some(window) = windows.iter().find(|window| window.name == *name) else {
            let known = windows.iter().map(|window| window.name.clone()).collect();
            return Err(CreateError::NoWindow { name: name.clone(), known });
        };
        return in_window(root, &cxl, window, wish);
    }
    let mut errors = Vec::new();
    for window in windows {
        match in_window(root, &cxl, window, wish) {
            Ok(created) => return Ok(created),
            Err(error) => errors.push((window.name.clone(), error)),
        }
    }
    if errors.len() == 1 {
        return Err(errors.pop().expect("there is one").1);
    }
    let reasons = errors.into_iter().map(|(window, error)| format!("{window}: {error}"));
    Err(CreateError::NowhereFits { reasons: reasons.collect() })
}

fn check_devices(cxl: &Cxl, wish: &RegionWish) -> Result<(), CreateError> {
    for (at, name) in wish.devices.iter().enumerate() {
        let Some(device) = cxl.memdev(name) else {
            let known = cxl.memdevs.iter().map(|memdev| memdev.name.clone()).collect();
            return Err(CreateError::NoDevice { name: name.clone(), known });
        };
        if wish.devices[..at].contains(name) {
            return Err(CreateError::Twice { name: name.clone() });
        }
        if cxl.endpoint_of(name).is_none() {
            let driver = device.driver.clone();
            return Err(CreateError::NotReached { device: name.clone(), driver });
        }
    }
    match wish.ways {
        Some(ways) if !wish.devices.is_empty() && wish.devices.len() != ways as usize => {
            Err(CreateError::WaysAndDevices { ways, devices: wish.devices.len() })
        }
        _ => Ok(()),
    }
}

fn in_window(
    root: &Root,
    cxl: &Cxl,
    window: &Decoder,
    wish: &RegionWish,
) -> Result<Created, CreateError> {
    let region = match &window.kind {
        DecoderKind::Root { capabilities, next_region: Some(next), .. }
            if capabilities.contains(&Capability::Ram) =>
        {
            next.clone()
        }
        DecoderKind::Root { capabilities, .. } => {
            let allowed = capabilities.clone();
            return Err(CreateError::NotForRam { window: window.name.clone(), allowed });
        }
        _ => return Err(CreateError::NoCxl),
    };
    let granularity = granularity(window, wish.granularity)?;
    let place = |room: &Room, devices: Vec<Reached<'_>>| {
        let (devices, shares) = arranged(cxl, window, devices)?;
        let ways = u32::try_from(devices.len()).expect("no more than 16, checked");
        let size = size(room, &shares, ways, wish.size)?;
        let range = room.place(size)?;
        for device in &devices {
            capacity::check_ports(cxl, device, range)?;
        }
        let plan = steps(&window.name, &region, granularity, size, &shares);
        let targets = shares.into_iter().map(|share| (share.device, share.decoder)).collect();
        let (region, window) = (region.clone(), window.name.clone());
        Ok(Created { plan, region, window, range, size, granularity, targets })
    };
    if !wish.devices.is_empty() {
        let devices = named(cxl, &wish.devices)?;
        return place(&Room::of(root, cxl, window)?, devices);
    }
    let candidates = Candidates::of(cxl, window, wish.ways, wish.size)?;
    let room = Room::of(root, cxl, window)?;
    let mut first = None;
    for devices in candidates.picks() {
        match place(&room, devices) {
            Ok(created) => return Ok(created),
            Err(error) => first = first.or(Some(error)),
        }
    }
    // What is in the way of the best is what is to be mended.
    Err(first.expect("there is one pick at least"))
}

/// A window that interleaves itself forces its own granularity on its regions
/// (`interleave_granularity_store`).
fn granularity(window: &Decoder, wish: Option<u32>) -> Result<u32, CreateError> {
    let (_, window_ways) = arrange::interleave_of(window);
    let own = window.interleave_granularity.filter(|own| GRANULARITY.contains(own));
    let granularity = wish.or(own).unwrap_or(*GRANULARITY.start());
    let of_window = own.filter(|_| window_ways > 1);
    let is_legal = GRANULARITY.contains(&granularity) && granularity.is_power_of_two();
    if is_legal && of_window.is_none_or(|own| own == granularity) {
        return Ok(granularity);
    }
    let window = window.name.clone();
    Err(CreateError::Granularity { granularity, window, window_granularity: of_window })
}

/// Devices by name.
fn named<'a>(cxl: &'a Cxl, names: &'a [String]) -> Result<Vec<Reached<'a>>, CreateError> {
    let reach = |name: &'a String| {
        let unreached = || CreateError::NotReached {
            device: name.clone(),
            driver: cxl.memdev(name).and_then(|memdev| memdev.driver.clone()),
        };
        Reached::of(cxl, name).ok_or_else(unreached)
    };
    names.iter().map(reach).collect()
}

/// Devices in the order of their positions, with what each can give.
fn arranged<'a>(
    cxl: &Cxl,
    window: &Decoder,
    devices: Vec<Reached<'a>>,
) -> Result<(Vec<Reached<'a>>, Vec<Share>), CreateError> {
    let devices = arrange::arrange(window, devices)?;
    let shares = devices.iter().map(|it| Share::of(cxl, it)).collect::<Result<_, _>>()?;
    Ok((devices, shares))
}

/// The size that was asked for, checked; or the largest that fits.
fn size(
    room: &Room,
    shares: &[Share],
    ways: u32,
    wish: Option<ByteSize>,
) -> Result<ByteSize, CreateError> {
    let least = shares.iter().min_by_key(|share| share.free).expect("a region has a device");
    let short = |wanted| CapacityError::NoMemory {
        device: least.device.clone(),
        free: least.free,
        wanted: ByteSize(wanted),
    };
    if let Some(size) = wish {
        if size.0 == 0 || !size.0.is_multiple_of(step(ways)) {
            return Err(CreateError::Size { size, ways });
        }
        let each = size.0 / u64::from(ways);
        return if each > least.free.0 { Err(short(each).into()) } else { Ok(size) };
    }
    if least.free.0 == 0 {
        return Err(short(REGION_ALIGN).into());
    }
    let of_room = room.largest().0 / step(ways) * step(ways);
    let largest = least.free.0.saturating_mul(u64::from(ways)).min(of_room);
    // Without room for the smallest region, placing that says so.
    Ok(ByteSize(largest.max(step(ways))))
}

/// The writes, in the order that the kernel wants (DOC: cxl core region).
fn steps(window: &str, region: &str, granularity: u32, size: ByteSize, shares: &[Share]) -> Plan {
    let mut plan = Plan::new();
    let of = |device: &str, attribute: &str| format!("{DEVICES}/{device}/{attribute}");
    plan.push(Step::new(
        Action::write(of(window, "create_ram_region"), region),
        Action::write(of(window, "delete_region"), region),
    ));
    let granularity_file = of(region, "interleave_granularity");
    plan.push(Step::without_undo(Action::write(granularity_file, granularity.to_string())));
    let ways = shares.len();
    plan.push(Step::without_undo(Action::write(of(region, "interleave_ways"), ways.to_string())));
    let each = format!("{:#x}", size.0 / ways as u64);
    for Share { decoder, mode, .. } in shares {
        if mode.as_deref() != Some("ram") {
            // Without memory of the device the mode means nothing: it may stay.
            plan.push(Step::without_undo(Action::write(of(decoder, "mode"), "ram")));
        }
        let file = of(decoder, "dpa_size");
        plan.push(Step::new(Action::write(&file, &each), Action::write(file, "0")));
    }
    let file = of(region, "size");
    let all = format!("{:#x}", size.0);
    plan.push(Step::new(Action::write(&file, all), Action::write(file, "0")));
    for (position, share) in shares.iter().enumerate() {
        let file = of(region, &format!("target{position}"));
        plan.push(Step::new(Action::write(&file, &share.decoder), Action::write(file, "")));
    }
    let file = of(region, "commit");
    plan.push(Step::new(Action::write(&file, "1"), Action::write(file, "0")));
    let device = || region.to_owned();
    plan.push(Step::new(
        Action::Bind { bus: "cxl", driver: "cxl_region", device: device() },
        Action::Unbind { bus: "cxl", driver: "cxl_region", device: device() },
    ));
    plan.push(Step::without_undo(Action::WaitFor {
        file: format!("{DEVICES}/dax_{region}"),
        condition: Condition::Exists,
        limit: APPEARS_WITHIN,
    }));
    plan
}
