//! What stands for QEMU's devices: the specification's device, which the manager speaks to.

use std::collections::BTreeSet;

use memtide_cxl::{
    ReturnCode,
    command::{
        HostId, More,
        dynamic_capacity::{AddResponse, Release},
        events::{Clear, ClearEventRecords, EventBody, EventLog, GetEventRecords},
        fabric_manager::{Force, InitiateRelease},
    },
    device::{Device, Effect},
    manager::{Command, Reply},
};
use memtide_units::{DcExtent, DpaRange};

use super::{
    QmpError,
    adopt::{adopt, check, without},
    description::Description,
    error::HearError,
    orders::{Order, RECORDS_MAX, What},
};
use crate::manager::backend::BackendError;

/// A device with a host for each guest.
#[derive(Clone, Debug)]
pub(super) struct Shadow {
    device: Device,
    /// The regions' usable addresses, and what extents there are multiples of.
    regions: Vec<DpaRange>,
    block_bytes: u64,
    /// The guests whose agents have not spoken.
    unknown: BTreeSet<u16>,
    events_pending: bool,
}

/// A command that was tried: what comes of it if the guests can be told.
#[derive(Debug)]
pub(super) struct Trial {
    /// The shadow, then.
    pub(super) shadow: Shadow,
    /// The reply, then.
    pub(super) reply: Reply,
    /// What guests must be told.
    pub(super) orders: Vec<Order>,
}

impl Shadow {
    /// Of which nothing is known.
    pub(super) fn new(description: &Description, hosts: u16) -> Result<Self, QmpError> {
        let config = description.config(hosts);
        let regions = config.regions.iter().map(|region| region.usable()).collect();
        let block_bytes = config.regions.iter().map(|region| region.block_size).max().unwrap_or(1);
        let unknown = (0..hosts).collect();
        let device = Device::new(config)?;
        Ok(Self { device, regions, block_bytes, unknown, events_pending: false })
    }

    pub(super) const fn serial(&self) -> u64 {
        self.device.serial()
    }

    /// A guest of which nothing is known.
    pub(super) fn unknown(&self) -> Option<u16> {
        self.unknown.first().copied()
    }

    /// Whether the manager has something to read that it has not been told of.
    pub(super) const fn take_events_pending(&mut self) -> bool {
        std::mem::replace(&mut self.events_pending, false)
    }

    /// What would come of a command.
    ///
    /// # Errors
    /// The reply to it is none: a fault of the shadow's.
    pub(super) fn try_command(&self, command: &Command) -> Result<Trial, BackendError> {
        let mut shadow = self.clone();
        // QEMU's regions are what they are.
        if matches!(command, Command::SetConfiguration(_)) {
            return Ok(refused(shadow, ReturnCode::UNSUPPORTED));
        }
        let done = shadow.device.manager(command.opcode(), &command.to_bytes());
        if self.withdraws(command, &shadow) {
            return Ok(refused(self.clone(), ReturnCode::UNSUPPORTED));
        }
        let reply = command.reply(done.code, &done.payload)?;
        let orders = shadow.take_orders();
        for order in orders.iter().filter(|order| order.what == What::Add) {
            if order.len() > RECORDS_MAX {
                return Ok(refused(self.clone(), ReturnCode::RESOURCES_EXHAUSTED));
            }
            if shadow.waiting(order.host) > RECORDS_MAX {
                return Ok(refused(self.clone(), ReturnCode::RETRY_REQUIRED));
            }
        }
        shadow.settle_effects();
        Ok(Trial { shadow, reply, orders })
    }

    /// Whether a command, after which the shadow is `then`, takes back what a guest has not
    /// answered. No QMP command makes QEMU's device do that: the guest may accept it still.
    fn withdraws(&self, command: &Command, then: &Self) -> bool {
        let Command::InitiateRelease(InitiateRelease { host, force: Force::Take, .. }) = command
        else {
            return false;
        };
        then.waiting(host.0) < self.waiting(host.0)
    }

    /// Extents that a guest has not answered.
    fn waiting(&self, host: u16) -> usize {
        self.offered(HostId(host)).len()
    }

    /// What the hosts' event logs say since the last time.
    fn take_orders(&mut self) -> Vec<Order> {
        let mut orders = Vec::new();
        for host in self.device.hosts().collect::<Vec<_>>() {
            let mut events = Vec::new();
            loop {
                let log = EventLog::DynamicCapacity;
                let Ok(read) = self.device.host_events(host, &GetEventRecords { log }) else {
                    break;
                };
                if read.records.is_empty() {
                    break;
                }
                events.extend(read.records.iter().filter_map(|record| match record.body {
                    EventBody::DynamicCapacity(event) => Some(event),
                    _ => None,
                }));
                let what = Clear::Handles(read.records.iter().map(|it| it.handle).collect());
                let cleared = self.device.clear_host_events(host, &ClearEventRecords { log, what });
                cleared.expect("these are the oldest");
            }
            orders.extend(Order::of(host.0, &events, &self.regions));
        }
        orders
    }

    /// Nothing is to be overwritten: no guest sees another one's memory.
    fn settle_effects(&mut self) {
        for effect in self.device.take_effects() {
            match effect {
                Effect::Sanitize { range } => {
                    self.device.sanitized(range).expect("it waits for that");
                }
                Effect::ManagerEvent => self.events_pending = true,
                _ => {}
            }
        }
    }

    /// What a guest has not answered.
    pub(super) fn offered(&self, host: HostId) -> Vec<DpaRange> {
        self.device.offers(host).flatten().map(|extent| extent.range).collect()
    }

    /// What a guest's agent says: what is accepted now, and what was answered. Nothing has changed
    /// if that cannot be.
    pub(super) fn hear(
        &mut self,
        host: HostId,
        accepted: &[DcExtent],
        answered: &[DpaRange],
    ) -> Result<(), HearError> {
        let accepted = check(accepted, &self.regions, self.block_bytes)?;
        let mut next = self.clone();
        next.answer_offers(host, &accepted, answered)?;
        next.release_rest(host, &accepted)?;
        next.adopt_rest(host, &accepted)?;
        next.unknown.remove(&host.0);
        // What the shadow told its host of that, the guest did itself.
        next.take_orders();
        next.settle_effects();
        *self = next;
        Ok(())
    }

    /// Offers that the guest has answered, the oldest first.
    fn answer_offers(
        &mut self,
        host: HostId,
        accepted: &[DcExtent],
        answered: &[DpaRange],
    ) -> Result<(), HearError> {
        let offers: Vec<Vec<DpaRange>> = self
            .device
            .offers(host)
            .map(|offer| offer.iter().map(|extent| extent.range).collect())
            .collect();
        let is_accepted =
            |range: &DpaRange| accepted.iter().any(|extent| extent.range.overlaps(*range));
        let is_answered = |offer: &Vec<DpaRange>| {
            let is_said = |range: &DpaRange| without(*range, answered.iter().copied()).is_empty();
            offer.iter().any(is_accepted) || offer.iter().all(is_said)
        };
        let count = offers.iter().rposition(is_answered).map_or(0, |last| last + 1);
        for offer in offers.into_iter().take(count) {
            let accepted = offer.into_iter().filter(is_accepted).collect();
            self.device.add_response(host, &AddResponse { more: More::Last, accepted })?;
        }
        Ok(())
    }

    /// What the guest has no more, whole extents or parts.
    fn release_rest(&mut self, host: HostId, accepted: &[DcExtent]) -> Result<(), HearError> {
        let has = || accepted.iter().map(|extent| extent.range);
        let held = self.device.held(host);
        let released: Vec<DpaRange> =
            held.flat_map(|extent| without(extent.range, has())).collect();
        if released.is_empty() {
            return Ok(());
        }
        Ok(self.device.release(host, &Release { more: More::Last, released })?)
    }

    /// What the guest has that nobody offered here: it was offered before this shadow was made.
    fn adopt_rest(&mut self, host: HostId, accepted: &[DcExtent]) -> Result<(), HearError> {
        let held: Vec<DpaRange> = self.device.held(host).map(|extent| extent.range).collect();
        let mut rest = Vec::new();
        for extent in accepted {
            let parts = without(extent.range, held.iter().copied());
            rest.extend(parts.into_iter().map(|range| DcExtent { range, ..*extent }));
        }
        self.check_nobodys(host, &rest)?;
        match rest.first() {
            None => Ok(()),
            // The answer to what is offered now would be the answer to that.
            Some(extent) if self.waiting(host.0) > 0 => {
                Err(HearError::Unasked { range: extent.range })
            }
            Some(_) => adopt(&mut self.device, host, &rest, &self.regions),
        }
    }

    /// Whether no other guest has any of these, or is offered it: two that have the same are not
    /// told apart by a new connection.
    fn check_nobodys(&self, host: HostId, extents: &[DcExtent]) -> Result<(), HearError> {
        for other in self.device.hosts().filter(|other| *other != host) {
            let mut theirs = self.held(other);
            theirs.extend(self.offered(other));
            let is_theirs = |extent: &&DcExtent| theirs.iter().any(|it| it.overlaps(extent.range));
            if let Some(DcExtent { range, .. }) = extents.iter().find(is_theirs) {
                return Err(HearError::Claimed { range: *range, other: other.0 });
            }
        }
        Ok(())
    }

    /// What a host has.
    pub(super) fn held(&self, host: HostId) -> Vec<DpaRange> {
        self.device.held(host).map(|extent| extent.range).collect()
    }
}

/// A command that comes to nothing.
fn refused(shadow: Shadow, code: ReturnCode) -> Trial {
    Trial { shadow, reply: Err(code), orders: Vec::new() }
}

#[cfg(test)]
mod tests;
