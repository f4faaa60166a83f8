//! What is shown of devices.

use memtide_cxl::manager::{DeviceState, DeviceStatus, HostName, HostStatus};

use crate::{
    control::{
        AgentView, DeviceStateView, DeviceView, HostView, Kept, MAX_LISTED, MAX_TEXT_BYTES,
        RegionView, TagView,
    },
    wire::shorten,
};

/// A device as it is shown. `is_connected` says of which hosts the agent is there.
pub fn device(
    status: DeviceStatus,
    mut address: String,
    mut problem: Option<String>,
    is_connected: impl Fn(&HostName) -> bool,
) -> DeviceView {
    // Problems quote what others say.
    for text in [Some(&mut address), problem.as_mut()].into_iter().flatten() {
        shorten(text, MAX_TEXT_BYTES);
    }
    let tags_total = status.tags.len();
    let bits = |flags: &[u8; 32]| flags.iter().map(|byte| byte.count_ones()).sum();
    DeviceView {
        name: status.name.to_string(),
        address,
        state: match status.state {
            DeviceState::Down => DeviceStateView::Down,
            DeviceState::Reading => DeviceStateView::Reading,
            DeviceState::Ready => DeviceStateView::Ready,
            DeviceState::Unusable => DeviceStateView::Unusable,
        },
        problem,
        capacity: status.capacity,
        free: status.free,
        regions: status
            .regions
            .iter()
            .map(|region| RegionView {
                base: region.base,
                length: region.length,
                block_size: region.block_size,
            })
            .collect(),
        hosts: status.hosts.into_iter().map(|host| self::host(host, &is_connected)).collect(),
        tags: status
            .tags
            .iter()
            .take(MAX_LISTED)
            .map(|tag| TagView {
                tag: tag.tag,
                holders: bits(&tag.holders),
                offered: bits(&tag.pending),
                kept: if tag.referenced { Kept::ByReference } else { Kept::ByHosts },
            })
            .collect(),
        tags_total,
    }
}

fn host(status: HostStatus, is_connected: &impl Fn(&HostName) -> bool) -> HostView {
    let connected = status.name.as_ref().is_some_and(is_connected);
    let extents_total = status.extents.len();
    HostView {
        name: status.name.map(String::from),
        number: status.host.0,
        agent: if connected { AgentView::Connected } else { AgentView::Absent },
        limits: status.limits,
        held: status.held,
        pending: status.pending,
        used: status.used,
        wants: status.wants,
        extents: status.extents.into_iter().take(MAX_LISTED).collect(),
        extents_total,
    }
}

#[cfg(test)]
mod tests;
