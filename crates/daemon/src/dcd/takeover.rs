//! A daemon that takes over from an earlier one.
//!
//! What the state file has as online stays so: programs that come back claim it, and lose nothing
//! by a restart. The device may be there before them or after; either way its list is compared
//! with what is online once it is there.
//!
//! As one file serves all, what a process that has not come back maps of it must go to nobody
//! else, whatever time that takes: with any of a device's memory online, all are waited for. When
//! none is awaited any more, what nobody claimed is emptied, before any of it is leased. If no
//! program is left from before, nothing is online until the device is there.

use std::collections::BTreeMap;

use memtide_engine::{Input, Lineage};
use memtide_units::{Extent, Instant, Pageblock};

use super::Dcd;
use crate::{
    config::Config,
    daemon::Daemon,
    notice::Notice,
    state::{DeviceState, NodeState, State},
};

/// As good as for ever: ten years.
const FOR_EVER: std::time::Duration = std::time::Duration::from_secs(10 * 365 * 24 * 3600);

/// All of a node.
pub(crate) fn whole(first: Pageblock, pageblocks: u64) -> Vec<Extent> {
    let mut all = Vec::new();
    let mut at = 0;
    while at < pageblocks {
        // A power of two, so that blocks stay whole.
        let count = (pageblocks - at).min(1 << 31);
        let part = u32::try_from(count).expect("2^31 at most");
        all.push(Extent::new(Pageblock(first.0 + at), part));
        at += count;
    }
    all
}

/// Takes what an earlier daemon left of devices' nodes out of its state, unless somebody may
/// still have it; says until when those are awaited, if differently than usual.
pub(crate) fn prepare(config: &Config, left: &mut State, fresh: &[NodeState]) -> Option<Instant> {
    let mut waits = None;
    for (index, node) in config.nodes.iter().enumerate().filter(|(_, node)| node.dcd.is_some()) {
        if left.members.is_empty() {
            left.nodes[index].offline = fresh[index].offline.clone();
            left.nodes[index].zones.clear();
            left.devices.retain(|device| device.node != node.name);
        } else if left.nodes[index].offline != fresh[index].offline {
            waits = Some(Instant(FOR_EVER));
        }
    }
    waits
}

impl Dcd {
    /// Programs of an earlier daemon are awaited; it had these files.
    pub(crate) fn take_over(&mut self, config: &Config, left: &State) {
        let files: BTreeMap<&str, _> =
            left.devices.iter().map(|device| (device.node.as_str(), device)).collect();
        for device in self.devices.values_mut() {
            let name = config.nodes[device.node].name.as_str();
            let before: Option<&&DeviceState> = files.get(name);
            device.file_before = before.map(|before| (before.device, before.inode));
        }
        let waits = !left.members.is_empty() && !self.devices.is_empty();
        self.claimed = waits.then(Vec::new);
    }

    /// A returning process claims these.
    pub(crate) fn claim(&mut self, extents: &[Extent]) {
        if let Some(claimed) = &mut self.claimed {
            claimed.extend(extents);
        }
    }
}

impl Daemon {
    /// Which files the devices' memory is, for a later daemon.
    pub(crate) fn device_states(&self) -> Vec<DeviceState> {
        let states = self.dcd.files().map(|(node, (device, inode))| DeviceState {
            node: self.config.nodes[node].name.clone(),
            device,
            inode,
        });
        states.collect()
    }

    /// Before the engine hears of something that may end the wait: memory of a device that nobody
    /// has brought is not there to be leased.
    pub(crate) fn before_last_return(&mut self, input: &Input) {
        let ends = match input {
            Input::AwaitedGone { .. } => true,
            Input::Join { lineage: Lineage::Returning(claims), .. } => {
                self.awaited.iter().any(|awaited| awaited.member == claims.member)
            }
            _ => false,
        };
        if !ends || self.dcd.claimed.is_none() || self.engine.awaiting() != 1 {
            return;
        }
        let unseen = self.dcd.devices.iter().filter(|(_, device)| device.file.is_none());
        for name in unseen.map(|(name, _)| *name).collect::<Vec<_>>() {
            self.lose_all(name);
        }
    }

    /// All have come back or are gone: what nobody claimed is emptied.
    pub(crate) fn end_takeover(&mut self) {
        if self.engine.awaiting() > 0 {
            return;
        }
        let Some(claimed) = self.dcd.claimed.take() else { return };
        let kept = Extent::from_blocks(claimed.into_iter().flat_map(Extent::iter));
        for name in self.dcd.devices.keys().copied().collect::<Vec<_>>() {
            let device = &self.dcd.devices[&name];
            let emptied = device.file.as_ref().map_or(Ok(()), |file| file.zero_all_but(&kept));
            if let Err(error) = emptied {
                let node = self.node_name_of(name);
                self.notice(Notice::NotEmptied { node, error });
                // Better no memory than somebody else's.
                self.lose_all(name);
            }
        }
    }
}
