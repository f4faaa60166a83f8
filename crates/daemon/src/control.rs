//! What operators ask.

use std::time::Duration;

use memtide_engine::{Input, Refusal};
use memtide_proto::{
    ControlReply, ControlRequest, Refused,
    control::{Holder, NodeBytes, NodeStatus, PinnedBytes, ProgramStatus, Report, Status},
};
use memtide_units::{ByteSize, ImageId, MemberId, NodeId, OnlineZone, RequestId};
use serde::Serialize;

use crate::{
    daemon::{ConnectionId, Daemon, node_id},
    duration,
    program::refused,
    zones,
};

/// Bytes of a list that one packet carries, well below what fits.
const PART_BYTES: usize = 24 << 10;

impl Daemon {
    pub(crate) fn control(&mut self, id: ConnectionId, request: ControlRequest) {
        if let Err(why) = self.control_request(id, request) {
            self.refuse(id, &why);
        }
    }

    fn control_request(
        &mut self,
        id: ConnectionId,
        request: ControlRequest,
    ) -> Result<(), Refused> {
        let looks = matches!(
            request,
            ControlRequest::Status
                | ControlRequest::Tenants
                | ControlRequest::Explain { .. }
                | ControlRequest::Devices
        );
        if !looks {
            self.check_operator(id)?;
        }
        match request {
            ControlRequest::Status => {
                self.send_status(id);
                Ok(())
            }
            ControlRequest::Tenants => {
                self.send_tenants(id);
                Ok(())
            }
            ControlRequest::Devices => {
                self.send_devices_told(id);
                Ok(())
            }
            ControlRequest::Accept { node, what } => self.set_accept(id, &node, &what),
            ControlRequest::Explain { whom } => self.send_decisions(id, &whom),
            ControlRequest::GiveBack { bytes, from, deadline_ms } => {
                let from = from.as_deref().map(|name| self.node("from", name)).transpose()?;
                check_bytes(bytes)?;
                self.check_give_back(from.map(|node| usize::from(node.0)))?;
                let deadline = self.deadline(deadline_ms)?;
                let request = self.new_request(id);
                self.ask_or_forget(Input::GiveBack { request, bytes, from, deadline }, request)
            }
            ControlRequest::Move { pid, to, bytes, deadline_ms } => {
                let to = self.node("to", &to)?;
                bytes.map_or(Ok(()), check_bytes)?;
                let member = self.member_of_pid(pid)?;
                self.check_move(member, usize::from(to.0))?;
                let deadline = self.deadline(deadline_ms)?;
                let request = self.new_request(id);
                let input = Input::MoveTo { request, member, to, bytes, deadline };
                self.ask_or_forget(input, request)
            }
            ControlRequest::Add { bytes, to, zone } => self.add(id, bytes, &to, zone),
            ControlRequest::Retire { node, offset } => self.retire(id, &node, offset),
            ControlRequest::Shutdown => {
                self.stopping = true;
                self.send(id, &ControlReply::Done { bytes: ByteSize(0) });
                Ok(())
            }
        }
    }

    /// Whoever may connect may look; only the daemon's own user and root may change anything.
    fn check_operator(&self, id: ConnectionId) -> Result<(), Refused> {
        let own = rustix::process::geteuid().as_raw();
        match self.guests[&id].connection.peer().uid {
            0 => Ok(()),
            uid if uid == own => Ok(()),
            uid => Err(refused("user", uid, format!("root or the daemon's own user ({own})"))),
        }
    }

    pub(crate) fn node(&self, field: &str, name: &str) -> Result<NodeId, Refused> {
        self.config.node_named(name).map(node_id).ok_or_else(|| {
            let names: Vec<_> = self.config.nodes.iter().map(|node| node.name.as_str()).collect();
            refused(field, name, format!("one of the nodes {}", names.join(", ")))
        })
    }

    fn deadline(&self, ms: Option<u64>) -> Result<Duration, Refused> {
        let deadline = ms.map_or(self.config.deadline, Duration::from_millis);
        if deadline > duration::MAX {
            return Err(refused("deadline", format!("{deadline:?}"), "at most 24h"));
        }
        Ok(deadline)
    }

    fn member_of_pid(&self, pid: u32) -> Result<MemberId, Refused> {
        let of_pid = || self.members.iter().filter(|(_, member)| member.pid == pid);
        let found = of_pid().find(|(_, member)| member.connection.is_some());
        found.or_else(|| of_pid().next()).map(|(id, _)| *id).ok_or_else(|| {
            let pids: Vec<_> = self.members.values().map(|m| m.pid.to_string()).collect();
            let expected = if pids.is_empty() {
                "a program of this pool; there is none".to_owned()
            } else {
                format!("a program of this pool: {}", pids.join(", "))
            };
            refused("pid", pid, expected)
        })
    }

    fn new_request(&mut self, id: ConnectionId) -> RequestId {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        self.requests.insert(request, id);
        request
    }

    fn ask_or_forget(&mut self, input: Input, request: RequestId) -> Result<(), Refused> {
        self.ask_engine(input).map_err(|error| {
            self.requests.remove(&request);
            refused("request", error, "one that can be carried out")
        })
    }

    fn add(
        &mut self,
        id: ConnectionId,
        bytes: ByteSize,
        to: &str,
        zone: Option<OnlineZone>,
    ) -> Result<(), Refused> {
        let node = self.node("to", to)?;
        check_bytes(bytes)?;
        self.check_add(usize::from(node.0))?;
        self.check_add_on_numa(usize::from(node.0), bytes)?;
        let own = self.config.nodes[usize::from(node.0)].zone;
        match self.ask_engine(Input::Add { bytes, to: node, zone }) {
            Ok(()) => {
                self.send(id, &ControlReply::Done { bytes: self.in_blocks(bytes) });
                self.close(id);
                Ok(())
            }
            Err(Refusal::NotOffline { offline, .. }) => {
                let offline = ByteSize(offline * self.config.block.0);
                let expected = format!("at most the {offline} that have left node {to}");
                Err(refused("size", bytes, expected))
            }
            Err(Refusal::ZoneOfNode { zone, .. }) => {
                let zones = zones::beside(own);
                let expected = format!("one that node {to}, in {own}, may have: {zones}");
                Err(refused("zone", zone, expected))
            }
            Err(error) => Err(refused("request", error, "one that can be carried out")),
        }
    }

    /// So much in the blocks that come and go.
    pub(crate) fn in_blocks(&self, bytes: ByteSize) -> ByteSize {
        let block = self.config.block.0;
        ByteSize(bytes.0.div_ceil(block).saturating_mul(block))
    }

    fn send_status(&mut self, id: ConnectionId) {
        let mut status = self.status();
        let parts = chunks(&std::mem::take(&mut status.programs));
        let last = parts.len() - 1;
        for (index, programs) in parts.into_iter().enumerate() {
            let status = Status { programs, ..status.clone() };
            self.send(id, &ControlReply::Status { status, more: index < last });
        }
        self.close(id);
    }

    fn status(&self) -> Status {
        let nodes = self.engine.node_status().into_iter().zip(&self.config.nodes);
        let nodes = nodes
            .map(|(node, config)| {
                // A device's node is as large as what it was given.
                let absent = config.dcd.as_ref().map_or(ByteSize(0), |_| node.offline);
                NodeStatus {
                    name: node.name,
                    kind: config.kind,
                    backing: config.backing,
                    numa: config.numa.map(|numa| numa.node),
                    size: ByteSize(node.present.0 - absent.0),
                    free: node.free,
                    leased: node.leased,
                    isolated: node.isolated,
                    offline: ByteSize(node.offline.0 - absent.0),
                    retired: node.retired,
                    zones: node.zones.into_iter().map(zones::told).collect(),
                }
            })
            .collect();
        Status {
            pid: std::process::id(),
            on_full: self.config.on_full,
            moved_bytes: ByteSize::from_pageblocks(self.engine.moved_pageblocks()),
            grants_userfaultfd: self.device.is_some(),
            awaited: u32::try_from(self.engine.awaiting()).unwrap_or(u32::MAX),
            nodes,
            programs: self.engine.member_status().into_iter().map(|m| self.program(m)).collect(),
        }
    }

    fn program(&self, member: memtide_engine::MemberStatus) -> ProgramStatus {
        ProgramStatus {
            pid: member.pid,
            name: member.name,
            tenant: self.tenant_of_image(member.image),
            image: member.image,
            connected: member.connected,
            nodes: member
                .leased
                .into_iter()
                .map(|(node, bytes)| NodeBytes { node: self.node_name(node), bytes })
                .collect(),
            pinned: member
                .pinned
                .into_iter()
                .map(|(reason, bytes)| PinnedBytes { reason, bytes })
                .collect(),
            committed: member.committed,
            counters: self
                .members
                .get(&member.member)
                .map(|member| member.counters)
                .unwrap_or_default(),
        }
    }
}

fn check_bytes(bytes: ByteSize) -> Result<(), Refused> {
    if bytes.0 == 0 {
        return Err(refused("size", bytes, "more than nothing"));
    }
    Ok(())
}

/// The engine's report, as it goes out, with tenants called as `name` says.
pub(crate) fn report(report: memtide_engine::Report, name: impl Fn(ImageId) -> String) -> Report {
    Report {
        requested: report.requested,
        returned: report.returned,
        remaining: report.remaining,
        holders: report_holders(report.holders, name),
        ask_again: report.ask_again,
    }
}

/// Holders, as they go out.
pub(crate) fn report_holders(
    holders: Vec<memtide_engine::Holder>,
    name: impl Fn(ImageId) -> String,
) -> Vec<Holder> {
    let holders = holders.into_iter().map(|holder| Holder {
        tenant: name(holder.image),
        image: holder.image,
        pid: holder.pid,
        name: holder.name,
        bytes: holder.bytes,
        reason: holder.reason,
    });
    holders.collect()
}

/// Cuts a list so that each part fits into a packet; at least one part, which may be empty.
pub(crate) fn chunks<T: Serialize + Clone>(list: &[T]) -> Vec<Vec<T>> {
    let mut parts = vec![Vec::new()];
    let mut bytes = 0;
    for item in list {
        let size = memtide_proto::encode(item).map_or(PART_BYTES, |packet| packet.len());
        if bytes + size > PART_BYTES && bytes > 0 {
            parts.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        parts.last_mut().expect("there is always one").push(item.clone());
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_cut_and_nothing_is_lost() {
        let list: Vec<String> = (0..3000).map(|n| format!("{n:0>60}")).collect();
        let parts = chunks(&list);
        assert!(parts.len() > 5);
        for part in &parts {
            assert!(memtide_proto::encode(part).unwrap().len() < PART_BYTES + 100);
        }
        assert_eq!(parts.concat(), list);
        assert_eq!(chunks::<u8>(&[]), [Vec::<u8>::new()]);
    }
}
