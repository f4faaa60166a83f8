//! Which device takes which position of the interleave.
//!
//! At each level of the hierarchy those below take turns: position 0 is below the first, position 1
//! below the next, and so on in a circle. At the root the order is that of the window's target
//! list (`cxl_region_attach_position`); at host bridges and switches any, as long as the circle is
//! kept (`check_last_peer`), as many targets as a power of two (`cxl_port_setup_targets`), and all
//! with as many devices below. So devices are sorted into a tree of turns, and dealt out of it.

use crate::cxl::{Cxl, Decoder, DecoderKind, Port};

/// Ways that HDM decoders have (CXL 3.1, 8.2.4.20.7).
pub const WAYS: [u32; 8] = [1, 2, 3, 4, 6, 8, 12, 16];

/// Why devices do not fit a window's interleave.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArrangeError {
    /// No such number of ways, or not one for this window.
    #[error(
        "ways {ways}: expected one of 1, 2, 3, 4, 6, 8, 12, 16 that is {window_ways} (the ways \
         of {window}) times a power of two"
    )]
    Ways {
        /// How many.
        ways: u32,
        /// The window.
        window: String,
        /// Its ways.
        window_ways: u32,
    },
    /// Below a host bridge that the window does not reach.
    #[error(
        "{device} is not below {window}: its host bridge is {}, expected one of {targets:?} (the \
         target list)",
        bridge.map_or("unknown".to_owned(), |bridge| bridge.to_string())
    )]
    NotBelow {
        /// The device.
        device: String,
        /// The window.
        window: String,
        /// The number of its host bridge.
        bridge: Option<u32>,
        /// The window's target list.
        targets: Vec<u32>,
    },
    /// Not as many below each.
    #[error(
        "{port} would have {} devices below its targets: expected as many below each, for they \
         take turns",
        counts.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
    )]
    Uneven {
        /// The window or port.
        port: String,
        /// How many devices are below each target.
        counts: Vec<usize>,
    },
    /// Not a power of two of targets.
    #[error("{port} would have {targets} targets: expected a power of two")]
    Targets {
        /// The port.
        port: String,
        /// How many.
        targets: usize,
    },
}

/// A device, with the way to it.
#[derive(Clone, Debug)]
pub struct Reached<'a> {
    /// The memory device.
    pub device: &'a str,
    /// Its endpoint.
    pub endpoint: &'a Port,
    /// From the root down: the name of a bus or port, and the number of the dport there.
    way: Vec<(&'a str, u32)>,
}

impl<'a> Reached<'a> {
    /// The way to a device; `None` if the kernel has no endpoint for it.
    #[must_use]
    pub fn of(cxl: &'a Cxl, device: &'a str) -> Option<Self> {
        let endpoint = cxl.endpoint_of(device)?;
        let mut way = Vec::new();
        for port in cxl.ancestry(endpoint) {
            way.push((port.parent.as_deref()?, cxl.dport_above(port)?));
        }
        way.reverse();
        Some(Self { device, endpoint, way })
    }

    /// The number of its host bridge.
    #[must_use]
    pub fn bridge(&self) -> Option<u32> {
        self.way.first().map(|&(_, dport)| dport)
    }

    /// The ports on the way, from the host bridge down, without the endpoint.
    pub fn ports(&self) -> impl Iterator<Item = &'a str> {
        self.way.iter().skip(1).map(|&(port, _)| port)
    }
}

/// The target list and the ways of a window.
#[must_use]
pub fn interleave_of(window: &Decoder) -> (&[u32], u32) {
    let targets = match &window.kind {
        DecoderKind::Root { targets, .. } => targets.as_slice(),
        _ => &[],
    };
    let listed = u32::try_from(targets.len()).unwrap_or(u32::MAX);
    (targets, window.interleave_ways.unwrap_or(listed).max(1))
}

/// Whether a region of a window can have so many ways.
///
/// # Errors
/// [`ArrangeError::Ways`].
pub fn check_ways(window: &Decoder, ways: u32) -> Result<(), ArrangeError> {
    let (_, window_ways) = interleave_of(window);
    let fits = WAYS.contains(&ways)
        && ways.is_multiple_of(window_ways)
        && (ways / window_ways).is_power_of_two();
    if fits {
        return Ok(());
    }
    Err(ArrangeError::Ways { ways, window: window.name.clone(), window_ways })
}

/// Devices in the order of their positions.
///
/// # Errors
/// [`ArrangeError`] when they do not fit.
pub fn arrange<'a>(
    window: &Decoder,
    devices: Vec<Reached<'a>>,
) -> Result<Vec<Reached<'a>>, ArrangeError> {
    check_ways(window, u32::try_from(devices.len()).unwrap_or(u32::MAX))?;
    let (targets, _) = interleave_of(window);
    let below = |device: &Reached<'_>| device.bridge().is_some_and(|it| targets.contains(&it));
    if let Some(device) = devices.iter().find(|device| !below(device)) {
        return Err(ArrangeError::NotBelow {
            device: device.device.to_owned(),
            window: window.name.clone(),
            bridge: device.bridge(),
            targets: targets.to_vec(),
        });
    }
    let mut turns: Vec<Vec<Reached<'a>>> = vec![Vec::new(); targets.len()];
    for device in devices {
        let bridge = device.bridge();
        let turn = targets.iter().position(|&target| Some(target) == bridge);
        turns[turn.expect("checked above")].push(device);
    }
    let turns = turns.into_iter().map(|below| order(below, 1)).collect::<Result<_, _>>()?;
    deal(&window.name, turns)
}

/// Devices below one target, which part at `level` of their ways, or further down.
fn order(devices: Vec<Reached<'_>>, level: usize) -> Result<Vec<Reached<'_>>, ArrangeError> {
    let Some(port) = devices.first().and_then(|device| device.way.get(level)).map(|hop| hop.0)
    else {
        return Ok(devices);
    };
    let mut turns: Vec<(u32, Vec<Reached<'_>>)> = Vec::new();
    for device in devices {
        // Devices behind one dport share all that is above it.
        let dport = device.way.get(level).map_or(u32::MAX, |hop| hop.1);
        match turns.iter_mut().find(|(of, _)| *of == dport) {
            Some((_, turn)) => turn.push(device),
            None => turns.push((dport, vec![device])),
        }
    }
    if !turns.len().is_power_of_two() {
        return Err(ArrangeError::Targets { port: port.to_owned(), targets: turns.len() });
    }
    let turns =
        turns.into_iter().map(|(_, below)| order(below, level + 1)).collect::<Result<_, _>>()?;
    deal(port, turns)
}

/// One of each in turn.
fn deal<'a>(port: &str, turns: Vec<Vec<Reached<'a>>>) -> Result<Vec<Reached<'a>>, ArrangeError> {
    let counts: Vec<usize> = turns.iter().map(Vec::len).collect();
    let each = counts.first().copied().unwrap_or(0);
    if counts.iter().any(|&count| count != each) {
        return Err(ArrangeError::Uneven { port: port.to_owned(), counts });
    }
    let mut turns: Vec<_> = turns.into_iter().map(Vec::into_iter).collect();
    Ok((0..each)
        .flat_map(|_| turns.iter_mut().filter_map(Iterator::next).collect::<Vec<_>>())
        .collect())
}
