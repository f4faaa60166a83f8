//! What lasts: put together when it changed, and taken apart when a manager starts again.

use alloc::{boxed::Box, vec::Vec};

use memtide_units::{DpaRange, RequestId};

use super::{
    device::{Offer, Port, Silence, Withdrawn},
    entry::Entry,
    journal::{Key, RequestRecord, Value},
    name::{DeviceName, HostName},
    ranges::Ranges,
    report::Ending,
    state::Manager,
};

impl Manager {
    /// What a key is to have; nothing: it is gone.
    pub(super) fn value_of(&self, key: &Key) -> Option<Value> {
        let port = |device: &DeviceName, host: &HostName| {
            let device = self.devices.iter().find(|known| known.name == *device)?;
            device.ports.values().find(|port| port.name == *host)
        };
        let extents = |extents: Vec<DpaRange>| match extents.is_empty() {
            true => None,
            false => Some(Value::Extents(extents)),
        };
        match key {
            Key::Request(id) => {
                Some(Value::Request(Box::new(self.requests.get(id)?.record.clone())))
            }
            Key::Offer(device, host) => {
                let offer: &Offer = port(device, host)?.offer.as_ref()?;
                Some(Value::Offer(offer.record.clone()))
            }
            Key::Limits(device, host) => port(device, host)?.changed.map(Value::Limits),
            Key::Reference(device, tag) => {
                let device = self.devices.iter().find(|known| known.name == *device)?;
                device.references.get(tag).cloned().map(Value::Extents)
            }
            Key::Unsanitized(device, former) => {
                let device = self.devices.iter().find(|known| known.name == *device)?;
                extents(device.unsanitized.get(former)?.to_vec())
            }
            Key::Withdrawn(device, host) => {
                let withdrawn = port(device, host)?.withdrawn.as_ref()?;
                Some(Value::Offer(withdrawn.record.clone()))
            }
        }
    }

    /// What was durable. What makes no sense any more is dropped, durably.
    pub(super) fn recall(&mut self, key: Key, value: Value) {
        let known = match (&key, value) {
            (&Key::Request(id), Value::Request(record)) => self.recall_request(id, *record),
            (Key::Offer(device, host), Value::Offer(record)) => {
                let now = self.now;
                // Requests are recalled before offers: that is the order of keys.
                let entry = self.requests.get(&record.request).filter(|entry| entry.is_open());
                let due = match entry {
                    Some(entry) => self.offer_due(entry),
                    None => now.after(self.timing.patience),
                };
                let offer = Offer::recalled(record, now, due);
                self.port_named(device, host).map(|port| port.offer = Some(offer))
            }
            (Key::Withdrawn(device, host), Value::Offer(record)) => {
                let withdrawn = Withdrawn { record, silence: Silence::Doubtful };
                self.port_named(device, host).map(|port| port.withdrawn = Some(withdrawn))
            }
            (Key::Limits(device, host), Value::Limits(limits)) => {
                self.port_named(device, host).map(|port| port.changed = Some(limits))
            }
            (Key::Reference(device, tag), Value::Extents(extents)) => {
                let device = self.devices.iter_mut().find(|known| known.name == *device);
                device.map(|device| drop(device.references.insert(*tag, extents)))
            }
            (Key::Unsanitized(device, former), Value::Extents(extents)) => {
                let extents: Ranges = extents.into_iter().collect();
                if let Some(device) = self.devices.iter_mut().find(|known| known.name == *device) {
                    device.unsanitized.insert(former.clone(), extents);
                }
                // Of a device that is set up again later it will be as true.
                Some(())
            }
            _ => None,
        };
        if known.is_none() {
            self.changed.insert(key);
        }
    }
}

impl Manager {
    fn port_named(&mut self, device: &DeviceName, host: &HostName) -> Option<&mut Port> {
        let device = self.devices.iter_mut().find(|known| known.name == *device)?;
        device.ports.values_mut().find(|port| port.name == *host)
    }

    fn recall_request(&mut self, id: RequestId, mut record: RequestRecord) -> Option<()> {
        record.since = record.since.min(self.now.0);
        let place = self.whereabouts(&record.request);
        let mut entry = Entry::new(record, 0, self.timing.retry_first);
        if let Ok((on, from, to)) = place {
            (entry.on, entry.from, entry.to) = (on, from, to);
            self.requests.insert(id, entry);
            return Some(());
        }
        let was_open = entry.is_open();
        self.requests.insert(id, entry);
        if was_open {
            self.end(id, Ending::Partly);
        }
        Some(())
    }
}
