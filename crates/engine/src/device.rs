//! The state of a device around an evacuation.
//!
//! Migrating what a device keeps in its memory for itself is its driver's business: it saves that
//! before the memory is evacuated, and restores it when memory is back.
//!
//! ```text
//!                 Evacuate: save!              Saved
//!     Running ────────────────────► Saving ─────────────► SavedAway
//!        ▲ ▲                         │   ▲                  │    ▲
//!        │ │               MemoryBack│   │Evacuate          │    │
//!        │ │                         ▼   │                  │    │
//!        │ │                       SavingInVain             │    │
//!        │ │                         │                      │    │ Gone
//!        │ │        Saved: restore!  │  MemoryBack: restore!│    │
//!        │ │                         ▼                      ▼    │
//!        │ └────────────────────── Restoring ◄──────────────┘    │
//!        │        Restored           │   ▲ │                     │
//!        │                   Evacuate│   │ └─────────────────────┤
//!        │                           ▼   │MemoryBack             │
//!        │                   RestoringInVain ────────────────────┘
//!        │ Gone                      │
//!        └── Saving, SavingInVain    └─ Restored: save! ─► Saving
//! ```
//!
//! A driver is asked one thing at a time, and its answer is waited for whatever is wanted by then:
//! an answer that comes late must not be taken for that of a later question. Nothing is placed on
//! a device's node but in `Running`, or in `SavingInVain`: its memory never left, and a driver that
//! saves in vain only copies.
//!
//! So a driver that does not answer a save keeps nothing closed for ever. The evacuation ends at
//! its deadline and names the driver as the holder; to repeat it is to wait again for the same
//! answer, and to name the node's memory in [`crate::Input::Online`] is to use the node again. A
//! driver that does not answer a restore has no device that works: all there is to do is to take
//! the device away ([`crate::Input::Lost`]) and to put its memory back, which asks anew.
//!
//! `Gone` says that all of the device's memory was lost ([`crate::lost`]): a driver that was at
//! work on it will not answer, and starts anew, or from what it saved before.

use memtide_units::{NodeId, NodeKind};

use crate::{engine::Engine, refusal::Refusal};

/// The state of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Device {
    /// In use.
    #[default]
    Running,
    /// Its driver is saving its state.
    Saving,
    /// The same, but memory is back already.
    SavingInVain,
    /// Its state is saved, and its memory may leave.
    SavedAway,
    /// Its driver is restoring its state.
    Restoring,
    /// The same, but the node is to be evacuated again.
    RestoringInVain,
}

/// What happens to a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DeviceEvent {
    /// Its node is to be evacuated.
    Evacuate,
    /// The driver has saved its state.
    Saved,
    /// Memory was put back on its node.
    MemoryBack,
    /// The driver has restored its state.
    Restored,
    /// All of its memory was lost.
    Gone,
}

/// What its driver is asked to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ask {
    Save,
    Restore,
}

impl Device {
    /// What becomes of it, and what its driver is asked then. None: that cannot happen now.
    pub(crate) const fn next(self, event: DeviceEvent) -> Option<(Self, Option<Ask>)> {
        use Device::{Restoring, RestoringInVain, Running, SavedAway, Saving, SavingInVain};
        use DeviceEvent::{Evacuate, Gone, MemoryBack, Restored, Saved};
        Some(match (self, event) {
            (Running, Evacuate) | (RestoringInVain, Restored) => (Saving, Some(Ask::Save)),
            (Saving | SavingInVain, Evacuate) => (Saving, None),
            (Saving, Saved) | (SavedAway, Evacuate | Gone) => (SavedAway, None),
            (Saving | SavingInVain, MemoryBack) => (SavingInVain, None),
            (SavingInVain, Saved) | (SavedAway, MemoryBack) => (Restoring, Some(Ask::Restore)),
            (Restoring | RestoringInVain, MemoryBack) => (Restoring, None),
            (Restoring | RestoringInVain, Evacuate) => (RestoringInVain, None),
            (Restoring | RestoringInVain, Gone) => (SavedAway, None),
            (Restoring, Restored) | (Running, MemoryBack | Gone) => (Running, None),
            (Saving | SavingInVain, Gone) => (Running, None),
            (Running | SavedAway | Restoring | RestoringInVain, Saved) => return None,
            (Running | SavedAway | Saving | SavingInVain, Restored) => return None,
        })
    }

    /// Whether its memory can be used.
    const fn is_in_use(self) -> bool {
        matches!(self, Self::Running | Self::SavingInVain)
    }

    /// Whether its memory may not leave yet.
    pub(crate) const fn is_unsaved(self) -> bool {
        matches!(self, Self::Saving | Self::RestoringInVain)
    }
}

impl Engine {
    /// The state of the device of a node.
    pub(crate) fn device(&self, node: usize) -> Device {
        self.devices.get(&node).copied().unwrap_or_default()
    }

    /// Whether nothing may be placed on a node: it is being evacuated, or was, or its device is
    /// not in use.
    pub(crate) fn is_closed(&self, node: usize) -> bool {
        self.evacuating.contains(&node) || !self.device(node).is_in_use()
    }

    /// Tells a device what happened. Says whether that can happen now.
    pub(crate) fn tell_device(&mut self, node: usize, event: DeviceEvent) -> bool {
        if self.pool.nodes()[node].kind != NodeKind::Device {
            return false;
        }
        let Some((next, ask)) = self.device(node).next(event) else { return false };
        match next {
            Device::Running => self.devices.remove(&node),
            state => self.devices.insert(node, state),
        };
        self.out.drivers.extend(ask.map(|ask| (node, ask)));
        true
    }

    pub(crate) fn device_saved(&mut self, node: NodeId) -> Result<(), Refusal> {
        self.driver_answers(node, DeviceEvent::Saved, "save")
    }

    pub(crate) fn device_restored(&mut self, node: NodeId) -> Result<(), Refusal> {
        self.driver_answers(node, DeviceEvent::Restored, "restore")
    }

    fn driver_answers(
        &mut self,
        node: NodeId,
        event: DeviceEvent,
        what: &'static str,
    ) -> Result<(), Refusal> {
        let index = self.pool.index_of(node).ok_or(Refusal::NoSuchNode { node })?;
        if self.tell_device(index, event) { Ok(()) } else { Err(Refusal::NotAsked { node, what }) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Ask::*, Device, Device::*, DeviceEvent, DeviceEvent::*};

    const STATES: [Device; 6] =
        [Running, Saving, SavingInVain, SavedAway, Restoring, RestoringInVain];

    #[test]
    fn only_answers_can_come_at_a_wrong_time() {
        for state in STATES {
            for event in [Evacuate, MemoryBack, Gone] {
                assert!(state.next(event).is_some(), "{state:?} {event:?}");
            }
            let (asked_to_save, asked_to_restore) = (
                matches!(state, Saving | SavingInVain),
                matches!(state, Restoring | RestoringInVain),
            );
            assert_eq!(state.next(Saved).is_some(), asked_to_save);
            assert_eq!(state.next(Restored).is_some(), asked_to_restore);
        }
    }

    /// Whatever happens in whatever order, a driver has at most one question to answer.
    #[test]
    fn a_driver_is_asked_one_thing_at_a_time() {
        let is_asked = |state| matches!(state, Saving | SavingInVain | Restoring | RestoringInVain);
        for state in STATES {
            for event in [Evacuate, Saved, MemoryBack, Restored, Gone] {
                let Some((next, ask)) = state.next(event) else { continue };
                let answers: &[DeviceEvent] = &[Saved, Restored, Gone];
                if is_asked(state) && !answers.contains(&event) {
                    assert_eq!(ask, None, "{state:?} {event:?}");
                }
                assert!(ask.is_none() || is_asked(next));
                assert_eq!(ask == Some(Save), ask.is_some() && next == Saving);
            }
        }
    }
}
