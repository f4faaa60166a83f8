//! A connection begins, or ends.
//!
//! At the first one the device's regions become the node's window, and what its list has is
//! adopted ([`Port::probe`](memtide_engine::dynamic_capacity::Port::probe)). At a later one the
//! list is compared with the books:
//!
//! | in the list | in the books | |
//! |---|---|---|
//! | no | yes | it was taken meanwhile: lost |
//! | yes | no | a release that did not arrive: released again |
//! | yes | waits for the device's word | the answer was taken |
//! | no | waits for the device's word | the answer is given again; the device says if it is too late |
//!
//! A refusal is not given again: it would be taken for that of another offer ([`super::records`]).

use std::time::Duration;

use memtide_cxl::command::dynamic_capacity::Configuration;
use memtide_engine::{
    self as engine,
    dynamic_capacity::{ChainId, DeviceConfig, DeviceId, Input, Outcome, Partition, Splitting},
};
use memtide_fabric::LinkError;
use memtide_units::{DcExtent, DpaRange, Extent, Pageblock};

use super::{
    Device, Order, Standing,
    carry::Surfaced,
    courier::{Session, Word, is_out_of_order},
    ranges,
};
use crate::{
    daemon::{Daemon, node_id},
    notice::Notice,
};

/// Between a word of the device that does not fit the books, and a look at what it has.
const LIST_AGAIN: Duration = Duration::from_secs(1);

impl Daemon {
    pub(super) fn heard_of_device(&mut self, name: DeviceId, session: u64, word: Word) {
        let device = self.dcd.devices.get_mut(&name).expect("devices stay");
        let current = device.standing == Standing::Here { session };
        match word {
            Word::Connected(session) => self.connected(name, *session),
            Word::Away { why } => self.away(name, &why),
            // Of a device that makes no sense nothing is taken.
            _ if !current || !device.is_probed => {}
            Word::Records(records) => self.hear_records(name, records),
            Word::Cleared { handles } => {
                device.heard.retain(|handle, _| !handles.contains(handle));
            }
            Word::Answered { chain, outcome: Ok(()) } => {
                let accepted = device.unanswered.get(&chain).cloned().unwrap_or_default();
                if !accepted.is_empty() {
                    // It was the oldest offer.
                    device.doubts = 0;
                }
                self.chain_answered(name, chain, Outcome::Taken);
                let held = self.held(name, Surfaced::OrNot);
                if !ranges::minus(&accepted, &held).is_empty() {
                    // The device took what was dropped here meanwhile.
                    self.list_soon(name);
                }
            }
            Word::Answered { chain, outcome: Err(why) }
                if is_out_of_order(&why) && device.answer_again(chain) => {}
            Word::Answered { chain, outcome: Err(why) } => {
                self.device_says_no(name, &why);
                self.chain_answered(name, chain, Outcome::Rejected);
                // It may have parts of it all the same.
                self.list_soon(name);
            }
            Word::NotReleased { why } => {
                self.device_says_no(name, &why);
                self.list_soon(name);
            }
            Word::Listed { accepted } => self.compare(name, &accepted),
        }
    }

    /// What the device has and the books have not is looked for, but not at once.
    fn list_soon(&mut self, name: DeviceId) {
        let at = self.engine_now().after(LIST_AGAIN);
        let device = self.dcd.devices.get_mut(&name).expect("devices stay");
        device.list_at.get_or_insert(at);
    }

    fn device_says_no(&mut self, name: DeviceId, why: &LinkError) {
        let node = self.node_name_of(name);
        self.notice(Notice::DeviceSaysNo { node, why: chain(why) });
    }

    /// Asks for lists of devices whose word did not fit the books: what is in them and in no book
    /// is released again.
    pub(super) fn list_again(&mut self) {
        let now = self.engine_now();
        for device in self.dcd.devices.values_mut() {
            if device.list_at.take_if(|at| *at <= now).is_some() {
                device.order(Order::List);
            }
        }
    }

    pub(super) fn node_name_of(&self, name: DeviceId) -> String {
        self.config.nodes[self.dcd.devices[&name].node].name.clone()
    }

    fn away(&mut self, name: DeviceId, why: &LinkError) {
        let node = self.node_name_of(name);
        let device = self.dcd.devices.get_mut(&name).expect("devices stay");
        let now = Standing::Away { why: chain(why) };
        if std::mem::replace(&mut device.standing, now.clone()) != now {
            self.notice(Notice::FabricAway { node, why: chain(why) });
        }
    }

    fn connected(&mut self, name: DeviceId, session: Session) {
        let Session { number, welcome, memory, configuration, accepted } = session;
        let node = self.dcd.devices[&name].node;
        let file = match self.stores[node].device_file(memory) {
            Ok(file) => file,
            Err(error) => return self.unusable(name, &error),
        };
        if !self.dcd.devices[&name].is_file(file.identity()) {
            // Other memory than before, if there was any: what was in that is no more.
            self.lose_all(name);
        }
        let device = self.dcd.devices.get_mut(&name).expect("devices stay");
        let blocks = configuration.regions.iter().map(|region| region.block_size);
        device.block_bytes = blocks.max().unwrap_or(0);
        device.welcome = Some(welcome);
        device.standing = Standing::Here { session: number };
        device.file = Some(file);
        device.overflow = None;
        device.list_at = None;
        device.uncleared.clear();
        let is_probed = device.is_probed;
        self.state_changed = true;
        self.share_device(name);
        let node = self.node_name_of(name);
        self.notice(Notice::FabricHere { node });
        if is_probed {
            self.settle_answers(name, &accepted);
            self.compare(name, &accepted);
        } else if let Err(error) = self.probe(name, &configuration, accepted) {
            // Nothing that it says is heard: operators are told why.
            let device = self.dcd.devices.get_mut(&name).expect("devices stay");
            device.standing = Standing::Away { why: chain(&error) };
            self.unusable(name, &error);
        }
    }

    fn unusable(&mut self, name: DeviceId, error: &dyn std::error::Error) {
        let node = self.node_name_of(name);
        self.notice(Notice::DeviceUnusable { node, why: chain(error) });
    }

    /// The first connection of this daemon: the node's window is the device's from now on.
    fn probe(
        &mut self,
        name: DeviceId,
        configuration: &Configuration,
        accepted: Vec<DcExtent>,
    ) -> Result<(), engine::dynamic_capacity::PortError> {
        let now = self.engine_now();
        let listed: Vec<DpaRange> = accepted.iter().map(|extent| extent.range).collect();
        let (node, window) = (self.dcd.devices[&name].node, self.dcd.devices[&name].window);
        if self.dcd.port.host().totals(name).is_none() {
            self.dcd.port.add_device(name, self.device_config(configuration))?;
        }
        let actions = self.dcd.port.probe(now, window, accepted)?;
        self.dcd.devices.get_mut(&name).expect("devices stay").is_probed = true;
        self.act(actions);
        // What an earlier daemon had, and the device has taken since, is not there any more.
        let (node, extents) = (node_id(node), self.online_of(name));
        self.tell_port(&[engine::Effect::Onlined { node, extents }]);
        let held = self.held(name, Surfaced::OrNot);
        let device = self.dcd.devices.get_mut(&name).expect("devices stay");
        device.unusable = ranges::minus(&listed, &held);
        Ok(())
    }

    fn device_config(&self, configuration: &Configuration) -> DeviceConfig {
        let partition = |region: &memtide_cxl::command::dynamic_capacity::Region| Partition {
            range: DpaRange::new(region.base, region.decode_length),
            length: region.length,
            block_bytes: region.block_size,
        };
        let partitions = configuration.regions.iter().map(partition).collect();
        let mut config = DeviceConfig::new(partitions);
        config.align = config.align.max(self.config.block.0);
        config.splitting = Splitting::Block;
        config
    }

    /// What of a device's node is in the pool.
    pub(super) fn online_of(&self, name: DeviceId) -> Vec<Extent> {
        let device = &self.dcd.devices[&name];
        let first = device.window.first.0;
        let pageblocks = self.config.nodes[device.node].size.pageblocks_ceil();
        let offline = self.engine.offline(node_id(device.node));
        let mut online = Vec::new();
        let mut next = first;
        for (start, end) in offline
            .iter()
            .map(|gap| (gap.start.0, gap.start.0 + u64::from(gap.count)))
            .chain([(first + pageblocks, first + pageblocks)])
        {
            if let Some(count) = u32::try_from(start - next).ok().filter(|count| *count > 0) {
                online.push(Extent::new(Pageblock(next), count));
            }
            next = end;
        }
        online
    }

    /// Everything of a device is gone.
    pub(super) fn lose_all(&mut self, name: DeviceId) {
        for group in self.dcd.port.host().groups() {
            if group.device == name {
                for range in group.extents {
                    let tag = group.tag;
                    self.port_hear(Input::ForcedRelease { device: name, range, tag });
                }
            }
        }
        // What an earlier daemon had.
        let extents = self.online_of(name);
        if !extents.is_empty() {
            self.tell_engine(engine::Input::Lost { extents });
        }
    }

    /// What came of answers on their way when the connection was lost.
    fn settle_answers(&mut self, name: DeviceId, accepted: &[DcExtent]) {
        let listed: Vec<DpaRange> = accepted.iter().map(|extent| extent.range).collect();
        for (chain, accepted) in self.dcd.devices[&name].unanswered.clone() {
            if accepted.is_empty() {
                self.dcd.devices.get_mut(&name).expect("devices stay").doubts += 1;
                self.chain_answered(name, chain, Outcome::Taken);
            } else if ranges::minus(&accepted, &listed).is_empty() {
                self.chain_answered(name, chain, Outcome::Taken);
            } else {
                self.dcd.devices[&name].order(Order::Answer { chain, accepted });
            }
        }
    }

    /// The device's list against the books.
    fn compare(&mut self, name: DeviceId, accepted: &[DcExtent]) {
        let listed: Vec<DpaRange> = accepted.iter().map(|extent| extent.range).collect();
        for group in self.dcd.port.host().groups() {
            if group.device == name && group.surfaced {
                let gone = group.extents.iter().flat_map(|piece| ranges::minus(&[*piece], &listed));
                for range in gone {
                    let tag = group.tag;
                    self.port_hear(Input::ForcedRelease { device: name, range, tag });
                }
            }
        }
        let mut known = self.held(name, Surfaced::OrNot);
        known.extend(&self.dcd.devices[&name].unusable);
        let released = ranges::minus(&listed, &known);
        if !released.is_empty() {
            self.dcd.devices[&name].order(Order::Release { released });
        }
    }
}

impl Device {
    /// Has an answer given again, behind the refusal of an older offer that may not have arrived;
    /// whether there is one.
    fn answer_again(&mut self, chain: ChainId) -> bool {
        let Some(accepted) = self.unanswered.get(&chain).filter(|ranges| !ranges.is_empty()) else {
            return false;
        };
        let Some(doubts) = self.doubts.checked_sub(1) else { return false };
        let accepted = accepted.clone();
        self.doubts = doubts;
        self.order(Order::RefuseOldest);
        self.order(Order::Answer { chain, accepted });
        true
    }
}

/// An error and what led to it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}
