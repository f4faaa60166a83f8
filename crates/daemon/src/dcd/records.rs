//! What the device's log says.
//!
//! A record is heard once, though it may be told twice: it is told until it is cleared, and a
//! connection can be lost between the two. Handles are used again only for other records.
//!
//! An answer with nothing in it refuses the oldest offer, whichever that is: given twice, it
//! refuses another one. So the records of such an offer are cleared before it is answered: nobody,
//! and no later daemon, hears of it again. Whether such an answer arrived is in doubt when the
//! connection, or the daemon, ended before the device's word. Then it is given again only when a
//! later answer is refused as out of order.

use memtide_cxl::command::{
    More as Flag,
    events::{DynamicCapacityEvent, DynamicCapacityEventKind as Kind, EventRecords},
};
use memtide_engine::dynamic_capacity::{DeviceId, Input, More};

use super::{Device, Order, courier::event};
use crate::{daemon::Daemon, notice::Notice};

impl Device {
    /// Has cleared what was heard so far.
    pub(super) fn clear_heard(&mut self) {
        let handles = std::mem::take(&mut self.uncleared);
        if !handles.is_empty() {
            self.order(Order::Clear { handles });
        }
    }
}

impl Daemon {
    pub(super) fn hear_records(&mut self, name: DeviceId, records: EventRecords) {
        let device = self.dcd.devices.get_mut(&name).expect("devices stay");
        if records.overflow.is_some() && records.overflow != device.overflow {
            let lost = records.overflow.map_or(0, |overflow| overflow.count);
            device.order(Order::List);
            let node = self.node_name_of(name);
            self.notice(Notice::RecordsLost { node, lost });
        }
        for record in records.records {
            let device = self.dcd.devices.get_mut(&name).expect("devices stay");
            device.uncleared.push(record.handle);
            if device.heard.insert(record.handle, record) == Some(record) {
                continue;
            }
            if let Some(event) = event(&record) {
                self.hear_event(name, event);
            }
        }
        let device = self.dcd.devices.get_mut(&name).expect("devices stay");
        device.overflow = records.overflow;
        device.clear_heard();
        device.order(Order::Read);
    }

    fn hear_event(&mut self, device: DeviceId, event: DynamicCapacityEvent) {
        let DynamicCapacityEvent { kind, extent, more, .. } = event;
        let more = match more {
            Flag::Follows => More::Follows,
            Flag::Last => More::Last,
        };
        let (range, tag) = (extent.range, extent.tag);
        match kind {
            Kind::Add => self.port_hear(Input::Add { device, extent, more }),
            Kind::Release => self.port_hear(Input::Release { device, range, tag, more }),
            Kind::ForcedRelease => self.port_hear(Input::ForcedRelease { device, range, tag }),
            Kind::RegionConfigurationUpdated => {
                let node = self.node_name_of(device);
                self.notice(Notice::RegionChanged { node, region: event.region });
            }
            // Said to a fabric manager.
            Kind::AddResponse | Kind::CapacityReleased => {}
        }
    }
}
