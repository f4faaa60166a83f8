//! What operators are told of devices, and what they may not do with them as with other nodes.

use memtide_proto::{
    ControlReply, Refused,
    control::{DcdAnswer, DcdExtent, DcdStatus, EXTENTS_MAX, HOLDERS_MAX},
};
use memtide_units::{ByteSize, MemberId};

use super::{Device, Standing};
use crate::{
    config::Accept,
    control::report_holders,
    daemon::{ConnectionId, Daemon},
    program::refused,
};

impl Daemon {
    /// All devices.
    fn devices_told(&self) -> Vec<DcdStatus> {
        let all = self.dcd.devices.iter().map(|(name, device)| {
            let config = &self.config.nodes[device.node];
            let dcd = config.dcd.as_ref().expect("it is the node of a device");
            let groups = self.dcd.port.host().groups();
            let groups = groups.into_iter().filter(|group| group.device == *name);
            let extents = groups.flat_map(|group| {
                let tag = (!group.tag.is_null()).then(|| group.tag.to_string());
                let asked = group.asked > 0;
                group.extents.into_iter().map(move |range| DcdExtent {
                    address: range.start,
                    bytes: ByteSize(range.length),
                    tag: tag.clone(),
                    asked,
                })
            });
            let extents: Vec<DcdExtent> = extents.collect();
            let totals = self.dcd.port.host().totals(*name).unwrap_or_default();
            let bytes = |total: u128| ByteSize(u64::try_from(total).unwrap_or(u64::MAX));
            DcdStatus {
                node: config.name.clone(),
                fabric: dcd.fabric.to_string(),
                host: dcd.host,
                away: match &device.standing {
                    Standing::Here { .. } => None,
                    Standing::Away { why } => Some(why.clone()),
                },
                device: device.welcome.as_ref().map(|welcome| welcome.device.clone()),
                serial: device.welcome.as_ref().map(|welcome| welcome.serial),
                accept: device.accept.to_string(),
                accepted: ByteSize(extents.iter().map(|extent| extent.bytes.0).sum()),
                used: device.leased,
                refused: bytes(totals.refused + totals.rejected),
                released: bytes(totals.released),
                lost: bytes(totals.lost),
                answer: device.answer.as_ref().map(|answer| DcdAnswer {
                    asked: answer.asked,
                    released: answer.released,
                    remaining: answer.remaining,
                    holders: report_holders(
                        answer.holders.iter().take(HOLDERS_MAX).cloned().collect(),
                        |image| self.tenant_of_image(image),
                    ),
                }),
                extents,
            }
        });
        all.collect()
    }

    /// Answers with all devices, in replies that fit into packets.
    pub(crate) fn send_devices_told(&mut self, id: ConnectionId) {
        let mut parts: Vec<DcdStatus> = Vec::new();
        for mut device in self.devices_told() {
            let extents = std::mem::take(&mut device.extents);
            let mut chunks = extents.chunks(EXTENTS_MAX);
            let first = chunks.next().unwrap_or_default();
            for chunk in std::iter::once(first).chain(chunks) {
                parts.push(DcdStatus { extents: chunk.to_vec(), ..device.clone() });
            }
        }
        let last = parts.len().saturating_sub(1);
        if parts.is_empty() {
            self.send(id, &ControlReply::Devices { device: None, more: false });
        }
        for (index, device) in parts.into_iter().enumerate() {
            let (device, more) = (Some(device), index < last);
            self.send(id, &ControlReply::Devices { device, more });
        }
        self.close(id);
    }

    /// From now on, so much of what is offered is accepted.
    pub(crate) fn set_accept(
        &mut self,
        id: ConnectionId,
        node: &str,
        what: &str,
    ) -> Result<(), Refused> {
        let accept =
            what.parse::<Accept>().map_err(|expected| refused("accept", what, expected))?;
        let name = self.config.node_named(node).and_then(|node| self.dcd.name_at(node));
        let device = name.and_then(|name| self.dcd.devices.get_mut(&name));
        let device = device.ok_or_else(|| refused("node", node, "a node of store \"dcd\""))?;
        device.accept = accept;
        self.send(id, &ControlReply::Done { bytes: ByteSize(0) });
        self.close(id);
        Ok(())
    }

    /// Nobody puts memory into a device but the device.
    pub(crate) fn check_add(&self, node: usize) -> Result<(), Refused> {
        if self.dcd.at(node).is_none() {
            return Ok(());
        }
        let name = &self.config.nodes[node].name;
        Err(refused("to", name, "a node of this machine: this one's memory comes from its device"))
    }

    /// A device takes back blocks of its own, which may be larger than the pool's. Without a node,
    /// the engine may take from any of them.
    pub(crate) fn check_give_back(&self, node: Option<usize>) -> Result<(), Refused> {
        let asked = |device: &&Device| node.is_none_or(|node| device.node == node);
        let too_large = |device: &&Device| device.block_bytes > self.config.block.0;
        let Some(device) = self.dcd.devices.values().filter(asked).find(too_large) else {
            return Ok(());
        };
        let name = &self.config.nodes[device.node].name;
        let bytes = ByteSize(device.block_bytes);
        let expected = format!(
            "a node whose blocks are at most the pool's: the device of {name} takes back {bytes} \
             at once, so set block = \"{bytes}\""
        );
        Err(refused("from", node.map_or("any node", |_| name), expected))
    }

    /// What is one file for all is for those who are trusted with it.
    pub(crate) fn check_move(&self, member: MemberId, node: usize) -> Result<(), Refused> {
        let tenant = self.engine.tenant_of_member(member);
        if tenant.is_none_or(|tenant| self.is_shared_with(node, tenant)) {
            return Ok(());
        }
        let expected = "a node whose memory is not one file for all: the program's tenant is not \
                        marked trusted";
        Err(refused("to", &self.config.nodes[node].name, expected))
    }

    /// Whether a node's size is what its device gave.
    pub(crate) fn is_device(&self, node: usize) -> bool {
        self.dcd.at(node).is_some()
    }
}
