//! The way from a window to each device of a region.
//!
//! From the top: the bus with the window (root decoder), then each port with the decoder that
//! serves the region and the downstream port where the way goes on, down to the endpoint. The
//! kernel stores it bottom up: the endpoint's folder lies in its port's, and so on, and each says
//! behind which device of its parent it is.

use memtide_units::ByteSize;
use serde::Serialize;

use crate::cxl::{Cxl, DecoderKind, Port, Region};

/// The way to one device.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Way {
    /// Its place in the interleave, from 0.
    pub position: usize,
    /// From the bus down; the last is the endpoint.
    pub hops: Vec<Hop>,
    /// The device; none while the position is not filled.
    pub memdev: Option<String>,
    /// Where its part begins, in its own addresses.
    pub dpa_start: Option<u64>,
    /// How much of the device takes part.
    pub dpa_size: Option<ByteSize>,
}

/// One bus, port or endpoint on the way.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Hop {
    /// `root0`, `port1`, `endpoint2`.
    pub port: String,
    /// Its decoder that serves the region; none if it has none for it (yet).
    pub decoder: Option<String>,
    /// The number of the downstream port where the way goes on; none of an endpoint.
    pub dport: Option<u32>,
    /// The device of that port: a host bridge, a root port, a switch's port.
    pub device: Option<String>,
}

/// The ways of a region, by position.
pub(super) fn ways(cxl: &Cxl, region: &Region) -> Vec<Way> {
    let targets = region.targets.iter().enumerate();
    targets.map(|(position, target)| way(cxl, region, position, target.as_deref())).collect()
}

fn way(cxl: &Cxl, region: &Region, position: usize, target: Option<&str>) -> Way {
    let mut way = Way { position, hops: Vec::new(), memdev: None, dpa_start: None, dpa_size: None };
    let Some(decoder) = target.and_then(|name| cxl.decoder(name)) else { return way };
    if let DecoderKind::Endpoint { dpa_start, dpa_size, .. } = decoder.kind {
        (way.dpa_start, way.dpa_size) = (dpa_start, dpa_size);
    }
    let endpoint = cxl.ports.iter().find(|port| port.number == decoder.port);
    let Some(endpoint) = endpoint else { return way };
    way.memdev = endpoint.host.clone();
    let ports = cxl.ancestry(endpoint);
    way.hops = ports
        .iter()
        .enumerate()
        .map(|(above, port)| Hop {
            port: port.name.clone(),
            decoder: match above {
                0 => Some(decoder.name.clone()),
                _ => serving(cxl, port, region),
            },
            // Where it goes on is what the port below says.
            dport: above.checked_sub(1).and_then(|below| cxl.dport_above(ports[below])),
            device: above.checked_sub(1).and_then(|below| ports[below].parent_dport.clone()),
        })
        .collect();
    if let Some(top) = ports.last()
        && let Some(bus) = top.parent.as_deref().and_then(|name| cxl.bus(name))
    {
        way.hops.push(Hop {
            port: bus.name.clone(),
            decoder: region.decoder.clone(),
            dport: cxl.dport_above(top),
            device: top.parent_dport.clone(),
        });
    }
    way.hops.reverse();
    way
}

/// The decoder of a port that serves a region.
fn serving(cxl: &Cxl, port: &Port, region: &Region) -> Option<String> {
    let mut decoders = cxl.decoders_of(port.number);
    let decoder = decoders.find(|decoder| decoder.region() == Some(region.name.as_str()))?;
    Some(decoder.name.clone())
}
