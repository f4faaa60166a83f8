//! The same nodes, configured otherwise than for the daemon before.
//!
//! What is configured counts for what comes; what is there was made as it was configured then, and
//! programs have it. So another NUMA node and other zones count in full once no program is left; as
//! long as one is, what cannot be reconciled is refused, and the rest stays as it is.

use std::path::Path;

use memtide_units::{OnlineZone, Pageblock};

use super::{NodeState, State, StateError, error::pids};
use crate::{dcd::takeover, zones::ZoneState};

/// Another NUMA node than before, or more or less of it at the start, counts if no program is left:
/// what programs have of a node lies where the node is to lie, and may be more than it would begin
/// with. What had left says nothing then: it was other memory, or was only to come later.
pub(super) fn take_numa(
    path: &Path,
    state: &mut State,
    nodes: &[NodeState],
) -> Result<(), StateError> {
    let pids = pids(state);
    let changed = |(then, now): &(&mut NodeState, &NodeState)| {
        (then.numa, then.online) != (now.numa, now.online)
    };
    for (then, now) in state.nodes.iter_mut().zip(nodes).filter(changed) {
        if state.members.is_empty() {
            (then.numa, then.online) = (now.numa, now.online);
            then.offline = now.offline.clone();
            then.zones.clear();
        } else if then.numa != now.numa {
            let (path, node) = (path.to_owned(), now.name.clone());
            return Err(StateError::OtherNuma { path, node, then: then.numa, now: now.numa, pids });
        }
    }
    Ok(())
}

/// Other zones than before count for what is there if no program is left.
pub(super) fn take_zones(
    path: &Path,
    state: &mut State,
    nodes: &[NodeState],
) -> Result<(), StateError> {
    let pids = pids(state);
    let mut next = Pageblock(0);
    for (then, now) in state.nodes.iter_mut().zip(nodes) {
        let first = next;
        next = Pageblock(first.0 + then.pageblocks);
        if then.zone == now.zone {
            continue;
        }
        if state.members.is_empty() {
            then.zones.clear();
        } else if [then.zone, now.zone].contains(&OnlineZone::Exmem) {
            return Err(StateError::OtherZone {
                path: path.to_owned(),
                node: now.name.clone(),
                then: then.zone,
                now: now.zone,
                pids,
            });
        } else if then.zones.is_empty() {
            // All of it stays in the zone that it was in.
            let extents = takeover::whole(first, then.pageblocks);
            then.zones = vec![ZoneState { zone: then.zone, extents }];
        }
        then.zone = now.zone;
    }
    Ok(())
}
