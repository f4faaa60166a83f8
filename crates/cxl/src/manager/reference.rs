//! References: what is under a tag stays, also when its last host releases it (5606h, 5607h).
//!
//! Where it is, is durable before the device is told: later, when no host has it, nobody could be
//! asked for it.

use alloc::vec::Vec;

use memtide_units::{RequestId, Tag};

use super::{
    device::{Device, InFlight},
    exchange::Command,
    journal::Key,
    report::Ending,
    request::Request,
    state::Manager,
};
use crate::{
    ReturnCode,
    command::fabric_manager::{AddReference, RemoveReference},
};

impl Manager {
    /// The next command for a reference, if there is one.
    pub(super) fn step_reference(
        &mut self,
        on: usize,
        id: RequestId,
    ) -> Option<(InFlight, Command)> {
        if self.requests[&id].pace.ask.next > self.now {
            return None;
        }
        let command = match self.requests[&id].record.request {
            Request::AddReference { tag, .. } => {
                let extents = self.devices[on].extents_of(tag);
                let known = self.devices[on].references.insert(tag, extents);
                if let Some(known) = known {
                    // What was known before, from when it was held, is no less true.
                    self.devices[on].references.insert(tag, known);
                }
                self.changed.insert(Key::Reference(self.devices[on].name.clone(), tag));
                Command::AddReference(AddReference(tag))
            }
            Request::RemoveReference { tag, .. } => {
                if self.devices[on].is_referenced(tag) == Some(false) {
                    self.unreferenced(on, tag);
                    self.end(id, Ending::Done);
                    return None;
                }
                Command::RemoveReference(RemoveReference(tag))
            }
            _ => return None,
        };
        Some((InFlight::Reference(id), command))
    }

    /// The device's reply to it.
    pub(super) fn reference_replied(
        &mut self,
        on: usize,
        id: RequestId,
        error: Option<ReturnCode>,
    ) {
        let Some(entry) = self.requests.get(&id) else { return };
        let request = entry.record.request.clone();
        match (request, error) {
            (Request::AddReference { tag, .. }, Some(_))
            | (Request::RemoveReference { tag, .. }, None) => self.unreferenced(on, tag),
            _ => {}
        }
        self.read_all_again(on);
        self.end(id, error.map_or(Ending::Done, |code| Ending::Refused(code.0)));
    }

    fn unreferenced(&mut self, on: usize, tag: Tag) {
        let device = &mut self.devices[on];
        if device.references.remove(&tag).is_some() {
            self.changed.insert(Key::Reference(device.name.clone(), tag));
        }
    }

    /// The tags were read: those that are not kept any more are forgotten.
    pub(super) fn forget_references(&mut self, on: usize) {
        let device = &self.devices[on];
        let wanted = |tag: Tag| {
            let mut open = self.requests.values().filter(|entry| entry.is_open());
            open.any(|entry| {
                matches!(entry.record.request, Request::AddReference { tag: t, .. } if t == tag)
            })
        };
        let gone = device.references.keys().copied();
        let gone = gone.filter(|&tag| device.is_referenced(tag) == Some(false) && !wanted(tag));
        for tag in gone.collect::<Vec<_>>() {
            self.unreferenced(on, tag);
        }
    }
}

impl Device {
    /// Whether the device keeps a tag; nothing: it does not say.
    fn is_referenced(&self, tag: Tag) -> Option<bool> {
        let tags = self.tags.as_ref()?;
        Some(tags.iter().any(|info| info.tag == tag && info.referenced))
    }
}
