//! What devices have left, and which decoders are next.
//!
//! A device's memory is given to its endpoint decoders from the bottom up, in the order of their
//! numbers (`__cxl_dpa_alloc`, `__cxl_dpa_reserve`), and decoders are committed in that order
//! (CXL 3.1, 8.2.4.20.12). The ports on the way need a free decoder each, and one whose address is
//! above those in use (`alloc_region_ref`).

use memtide_units::{ByteSize, PhysRange};

use super::{REGION_ALIGN, arrange::Reached};
use crate::cxl::{Cxl, Decoder, DecoderKind};

/// Why a device or a port on the way has nothing for a region.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CapacityError {
    /// All its endpoint decoders serve regions.
    #[error("{device} has no free decoder: all {decoders} of {endpoint} are in use")]
    NoDecoder {
        /// The device.
        device: String,
        /// Its endpoint.
        endpoint: String,
        /// How many decoders it has.
        decoders: usize,
    },
    /// A decoder before the next one is not committed.
    #[error(
        "{decoder} of {device} has memory but is not committed{}: decoders are committed in order, \
         so {next} cannot be; destroy or commit that first (memtide region destroy, or echo 0 > \
         /sys/bus/cxl/devices/{decoder}/dpa_size)",
        region.as_ref().map(|region| format!(" (it belongs to {region})")).unwrap_or_default()
    )]
    OutOfOrder {
        /// The device.
        device: String,
        /// Which decoder.
        decoder: String,
        /// Whose it is.
        region: Option<String>,
        /// The one that was to be next.
        next: String,
    },
    /// Locked by firmware.
    #[error("{decoder} of {holder} is locked until the next reset: firmware set it up for good")]
    Locked {
        /// Which decoder.
        decoder: String,
        /// Its device or port.
        holder: String,
    },
    /// A port has no decoder left.
    #[error("{port}, on the way to {device}, has no free decoder: its {decoders} serve {regions}")]
    NoPortDecoder {
        /// The port.
        port: String,
        /// The device below.
        device: String,
        /// How many decoders it has.
        decoders: usize,
        /// Which regions they serve.
        regions: String,
    },
    /// A region above would be in the way.
    #[error(
        "{port} decodes {region} above {place}, where the new region would be: decoders of a port \
         are in the order of their addresses; destroy {region} first, and make it again after"
    )]
    AddressOrder {
        /// The port.
        port: String,
        /// The region above.
        region: String,
        /// Where the new one would be.
        place: PhysRange,
    },
    /// Not enough memory left.
    #[error("{device} has {free} of volatile memory free: expected at least {wanted}")]
    NoMemory {
        /// The device.
        device: String,
        /// What is left.
        free: ByteSize,
        /// What is wanted of it.
        wanted: ByteSize,
    },
}

/// What a device can give.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Share {
    /// The device.
    pub device: String,
    /// Its next decoder.
    pub decoder: String,
    /// That decoder's mode at this moment.
    pub mode: Option<String>,
    /// What of its volatile memory is free, in steps of 256 MiB.
    pub free: ByteSize,
}

impl Share {
    /// Of a device.
    ///
    /// # Errors
    /// [`CapacityError`] when its next decoder cannot be used.
    pub fn of(cxl: &Cxl, reached: &Reached<'_>) -> Result<Self, CapacityError> {
        let device = reached.device.to_owned();
        let decoders: Vec<&Decoder> = cxl.decoders_of(reached.endpoint.number).collect();
        let next = decoders.iter().rposition(|decoder| has_memory(decoder)).map_or(0, |at| at + 1);
        let Some(next_decoder) = decoders.get(next) else {
            let endpoint = reached.endpoint.name.clone();
            return Err(CapacityError::NoDecoder { device, endpoint, decoders: decoders.len() });
        };
        let is_committed = |decoder: &Decoder| match decoder.region() {
            Some(region) => cxl.region(region).is_none_or(|it| it.committed != Some(false)),
            // Firmware's, before its region is known.
            None => !decoder.is_free(),
        };
        let before = decoders[..next].iter().find(|decoder| !is_committed(decoder));
        if let Some(before) = before {
            return Err(CapacityError::OutOfOrder {
                device,
                decoder: before.name.clone(),
                region: before.region().map(ToOwned::to_owned),
                next: next_decoder.name.clone(),
            });
        }
        if next_decoder.locked == Some(true) {
            let decoder = next_decoder.name.clone();
            return Err(CapacityError::Locked { decoder, holder: device });
        }
        let mode = match &next_decoder.kind {
            DecoderKind::Endpoint { mode, .. } => mode.clone(),
            _ => None,
        };
        let free = free_memory(cxl, reached, &decoders);
        Ok(Self { device, decoder: next_decoder.name.clone(), mode, free })
    }
}

fn has_memory(decoder: &Decoder) -> bool {
    match &decoder.kind {
        DecoderKind::Endpoint { dpa_size, .. } => dpa_size.is_some_and(|size| size.0 > 0),
        _ => false,
    }
}

/// From the end of what is given to the end of the volatile memory, which is at the bottom.
fn free_memory(cxl: &Cxl, reached: &Reached<'_>, decoders: &[&Decoder]) -> ByteSize {
    let all = cxl.memdev(reached.device).and_then(|memdev| memdev.ram.size).unwrap_or_default();
    let taken = decoders.iter().filter_map(|decoder| match &decoder.kind {
        DecoderKind::Endpoint { dpa_size: Some(size), dpa_start, .. } if size.0 > 0 => {
            // Where the start is hidden, those before it fill the memory from the bottom.
            Some((dpa_start.unwrap_or(0), size.0))
        }
        _ => None,
    });
    let (ends, sum) = taken.fold((0u64, 0u64), |(end, sum), (start, size)| {
        (end.max(start.saturating_add(size)), sum.saturating_add(size))
    });
    let free = all.0.saturating_sub(ends.max(sum));
    ByteSize(free / REGION_ALIGN * REGION_ALIGN)
}

/// Whether the ports on the way have a decoder for a region at `place`.
///
/// # Errors
/// [`CapacityError::NoPortDecoder`], [`CapacityError::AddressOrder`], [`CapacityError::Locked`].
pub fn check_ports(
    cxl: &Cxl,
    reached: &Reached<'_>,
    place: PhysRange,
) -> Result<(), CapacityError> {
    for name in reached.ports() {
        let Some(port) = cxl.port(name) else { continue };
        let decoders: Vec<&Decoder> = cxl.decoders_of(port.number).collect();
        let Some(free) = decoders.iter().find(|decoder| decoder.region().is_none()) else {
            let regions = decoders.iter().filter_map(|decoder| decoder.region());
            return Err(CapacityError::NoPortDecoder {
                port: name.to_owned(),
                device: reached.device.to_owned(),
                decoders: decoders.len(),
                regions: regions.collect::<Vec<_>>().join(", "),
            });
        };
        if free.locked == Some(true) {
            let (decoder, holder) = (free.name.clone(), name.to_owned());
            return Err(CapacityError::Locked { decoder, holder });
        }
        check_order(cxl, name, &decoders, place)?;
    }
    let decoders: Vec<&Decoder> = cxl.decoders_of(reached.endpoint.number).collect();
    check_order(cxl, &reached.endpoint.name, &decoders, place)
}

fn check_order(
    cxl: &Cxl,
    port: &str,
    decoders: &[&Decoder],
    place: PhysRange,
) -> Result<(), CapacityError> {
    let regions = decoders.iter().filter_map(|decoder| cxl.region(decoder.region()?));
    let above = regions
        .into_iter()
        .find(|region| region.range().is_some_and(|range| range.start() > place.start()));
    match above {
        Some(region) => Err(CapacityError::AddressOrder {
            port: port.to_owned(),
            region: region.name.clone(),
            place,
        }),
        None => Ok(()),
    }
}
