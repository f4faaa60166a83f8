//! Zones: as the engine has them, as files and the command line name them, as the state keeps them.
//!
//! A block keeps the zone that it came online with for as long as it is online, over restarts of
//! the daemon as well: what is pinned in a kernel zone would break the promise of a movable one.
//! So the state file has the zones of what is online, and the zone that each node was configured
//! with. A configuration with another one counts at once if no program is left, and for what comes
//! online later otherwise.

use memtide_engine::{ZoneStatus, onlining::OnlineZone};
use memtide_proto::control::{Zone, ZoneBytes};
use memtide_units::Extent;
use serde::{Deserialize, Serialize};

/// What of a node is in a zone.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZoneState {
    /// Which zone.
    pub zone: Zone,
    /// Whole blocks.
    pub extents: Vec<Extent>,
}

/// The engine's zone.
pub(crate) const fn engine_zone(zone: Zone) -> OnlineZone {
    match zone {
        Zone::Kernel => OnlineZone::Kernel,
        Zone::Movable => OnlineZone::Movable,
        Zone::PreferMovable => OnlineZone::PreferMovable,
        Zone::Exmem => OnlineZone::Exmem,
    }
}

const fn named(zone: OnlineZone) -> Zone {
    match zone {
        OnlineZone::Kernel => Zone::Kernel,
        OnlineZone::Movable => Zone::Movable,
        OnlineZone::PreferMovable => Zone::PreferMovable,
        OnlineZone::Exmem => Zone::Exmem,
    }
}

/// As it is told.
pub(crate) fn told(status: ZoneStatus) -> ZoneBytes {
    ZoneBytes { zone: named(status.zone), online: status.online, free: status.free }
}

/// The zones that blocks of a node may be in.
pub(crate) fn beside(own: Zone) -> String {
    let fits = |zone: &Zone| (*zone == Zone::Exmem) == (own == Zone::Exmem);
    Zone::ALL.into_iter().filter(fits).map(Zone::name).collect::<Vec<_>>().join(", ")
}

/// What the engine says of a node, for the state file.
pub(crate) fn kept(zones: Vec<(Extent, OnlineZone)>) -> Vec<ZoneState> {
    let mut kept: Vec<ZoneState> = Vec::new();
    for (extent, zone) in zones {
        let zone = named(zone);
        match kept.iter_mut().find(|state| state.zone == zone) {
            Some(state) => state.extents.push(extent),
            None => kept.push(ZoneState { zone, extents: vec![extent] }),
        }
    }
    kept
}

/// What the state file says of a node, for the engine.
pub(crate) fn known(kept: &[ZoneState]) -> Vec<(Extent, OnlineZone)> {
    let pairs = |state: &ZoneState| {
        let zone = engine_zone(state.zone);
        state.extents.iter().map(move |&extent| (extent, zone)).collect::<Vec<_>>()
    };
    kept.iter().flat_map(pairs).collect()
}

#[cfg(test)]
mod tests {
    use memtide_units::Pageblock;

    use super::*;

    #[test]
    fn every_zone_has_one_name_everywhere() {
        for zone in Zone::ALL {
            assert_eq!(named(engine_zone(zone)), zone);
            assert_eq!(engine_zone(zone).name(), zone.name());
            let json = serde_json::to_string(&zone).unwrap();
            assert_eq!(json, format!("{:?}", zone.name()));
        }
    }

    #[test]
    fn what_is_kept_is_known() {
        let extent = |start| Extent::new(Pageblock(start), 4);
        let zones = vec![
            (extent(0), OnlineZone::Kernel),
            (extent(8), OnlineZone::Kernel),
            (extent(4), OnlineZone::PreferMovable),
        ];
        assert_eq!(known(&kept(zones.clone())), zones);
    }

    #[test]
    fn exmem_is_alone_on_its_node() {
        assert_eq!(beside(Zone::Exmem), "exmem");
        assert_eq!(beside(Zone::Movable), "kernel, movable, prefer-movable");
    }
}
