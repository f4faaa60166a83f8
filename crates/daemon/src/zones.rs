//! Zones: as the state keeps them, and as they are told.
//!
//! A block keeps the zone that it came online with for as long as it is online, over restarts of
//! the daemon as well: what is pinned in a kernel zone would break the promise of a movable one.
//! So the state file has the zones of what is online, and the zone that each node was configured
//! with. A configuration with another one counts at once if no program is left, and for what comes
//! online later otherwise.

use memtide_engine::ZoneStatus;
use memtide_proto::control::ZoneBytes;
use memtide_units::{Extent, OnlineZone};
use serde::{Deserialize, Serialize};

/// What of a node is in a zone.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZoneState {
    /// Which zone.
    pub zone: OnlineZone,
    /// Whole blocks.
    pub extents: Vec<Extent>,
}

/// As it is told.
pub(crate) fn told(status: ZoneStatus) -> ZoneBytes {
    ZoneBytes { zone: status.zone, online: status.online, free: status.free }
}

/// The zones that blocks of a node may be in.
pub(crate) fn beside(own: OnlineZone) -> String {
    let fits = |zone: &OnlineZone| (*zone == OnlineZone::Exmem) == (own == OnlineZone::Exmem);
    OnlineZone::ALL.into_iter().filter(fits).map(OnlineZone::name).collect::<Vec<_>>().join(", ")
}

/// What the engine says of a node, for the state file.
pub(crate) fn kept(zones: Vec<(Extent, OnlineZone)>) -> Vec<ZoneState> {
    let mut kept: Vec<ZoneState> = Vec::new();
    for (extent, zone) in zones {
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
        state.extents.iter().map(|&extent| (extent, state.zone)).collect::<Vec<_>>()
    };
    kept.iter().flat_map(pairs).collect()
}

#[cfg(test)]
mod tests {
    use memtide_units::Pageblock;

    use super::*;

    #[test]
    fn every_zone_has_the_same_name_in_a_file() {
        for zone in OnlineZone::ALL {
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
        assert_eq!(beside(OnlineZone::Exmem), "exmem");
        assert_eq!(beside(OnlineZone::Movable), "kernel, movable, prefer-movable");
    }
}
