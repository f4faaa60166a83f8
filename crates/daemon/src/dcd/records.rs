//! What the device's log says.
//!
//! A record is heard once, though it may be told twice: it is told until it is cleared, and a
//! connection can be lost between the two. Handles are used again only for other records.

use memtide_cxl::command::{
    More as Flag,
    events::{DynamicCapacityEvent, DynamicCapacityEventKind as Kind, EventRecords},
};
use memtide_engine::dynamic_capacity::{DeviceId, Input, More};

use super::{Order, courier::event};
use crate::{daemon::Daemon, notice::Notice};

impl Daemon {
    pub(super) fn hear_records(&mut self, name: DeviceId, records: EventRecords) {
        let device = self.dcd.devices.get_mut(&name).expect("devices stay");
        if records.overflow.is_some() && records.overflow != device.overflow {
            let lost = records.overflow.map_or(0, |overflow| overflow.count);
            device.order(Order::List);
            let node = self.node_name_of(name);
            self.notice(Notice::RecordsLost { node, lost });
        }
        let mut handles = Vec::with_capacity(records.records.len());
        for record in records.records {
            handles.push(record.handle);
            let device = self.dcd.devices.get_mut(&name).expect("devices stay");
            if device.heard.insert(record.handle, record) == Some(record) {
                continue;
            }
            if let Some(event) = event(&record) {
                self.hear_event(name, event);
            }
        }
        let device = self.dcd.devices.get_mut(&name).expect("devices stay");
        device.overflow = records.overflow;
        device.order(Order::Clear { handles });
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
