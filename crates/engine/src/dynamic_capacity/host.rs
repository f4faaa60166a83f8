//! The state, and the way an input takes through it.
//!
//! [`Host::handle`] checks what its caller says, lets pass what time has made due, and applies the
//! input. A device cannot make it fail: what a device says is done, or refused with a reason and
//! an answer.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use memtide_units::Instant;

use super::{
    config::{DeviceConfig, Limits},
    device::{Device, Standing},
    effect::{Effect, Notice},
    extent::{DeviceId, DpaRange, GroupId, Tag},
    input::Input,
    pending::Event,
    refused::InputError,
    tag_group::{GroupState, TagGroup},
};

/// The devices of one host, and what it has of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Host {
    pub(super) limits: Limits,
    pub(super) now: Instant,
    pub(super) devices: BTreeMap<DeviceId, Device>,
    pub(super) groups: BTreeMap<GroupId, TagGroup>,
    /// Which groups have which tags, on all devices: several if they are parts of one.
    pub(super) tags: BTreeMap<Tag, BTreeSet<GroupId>>,
    pub(super) next_group: u64,
    pub(super) next_chain: u64,
    /// Empty between inputs.
    pub(super) out: Vec<Effect>,
}

/// What became of a device's bytes. `offered` is pending, `refused`, `again` or `accepted`;
/// `accepted + recovered` is held, `released`, `lost` or `rejected`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    /// In Add records.
    pub offered: u128,
    /// Not accepted.
    pub refused: u128,
    /// Accepted, and had been before.
    pub again: u128,
    /// Accepted.
    pub accepted: u128,
    /// Of what was accepted: the device did not take the answer.
    pub rejected: u128,
    /// Accepted before this host knew of it, and in use again.
    pub recovered: u128,
    /// Given back on request.
    pub released: u128,
    /// Taken by force.
    pub lost: u128,
}

/// A snapshot of one group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupStatus {
    /// Its name.
    pub group: GroupId,
    /// On which device.
    pub device: DeviceId,
    /// Its tag.
    pub tag: Tag,
    /// Where it is, in the order in which the user sees it.
    pub extents: Vec<DpaRange>,
    /// Bytes.
    pub bytes: u64,
    /// Bytes of them that the device wants back.
    pub asked: u64,
    /// Whether it can be used: the device has taken the answer.
    pub surfaced: bool,
}

impl Host {
    /// A host without devices.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            now: Instant(core::time::Duration::ZERO),
            devices: BTreeMap::new(),
            groups: BTreeMap::new(),
            tags: BTreeMap::new(),
            next_group: 1,
            next_chain: 1,
            out: Vec::new(),
        }
    }

    /// A device is there. Its regions come with [`Input::Probe`].
    ///
    /// # Errors
    /// [`InputError`] when it is there already or makes no sense.
    pub fn add_device(&mut self, device: DeviceId, config: DeviceConfig) -> Result<(), InputError> {
        config.check().map_err(|source| InputError::Device { device, source })?;
        if self.devices.contains_key(&device) {
            return Err(InputError::DeviceTaken { device });
        }
        self.devices.insert(device, Device::new(config));
        Ok(())
    }

    /// Something happened at this time; what is to be done about it, in this order. A time before
    /// that of an earlier input counts as that one's.
    ///
    /// # Errors
    /// [`InputError`] when the caller says what cannot be; then nothing changed.
    pub fn handle(&mut self, now: Instant, input: Input) -> Result<Vec<Effect>, InputError> {
        self.check(&input)?;
        self.now = self.now.max(now);
        self.let_pass();
        match input {
            Input::Probe { device, decoder, accepted } => self.probe(device, decoder, accepted),
            Input::Add { device, extent, more } => self.add(device, extent, more),
            Input::Answered { device, chain, outcome } => self.answered(device, chain, outcome),
            Input::Release { device, range, tag, more } => self.release(device, range, tag, more),
            Input::ForcedRelease { device, range, tag } => self.forced_release(device, range, tag),
            Input::Reclaimed { device, free } => self.reclaimed(device, &free),
            Input::Freed { device } => self.freed(device),
            Input::Tick => {}
        }
        Ok(core::mem::take(&mut self.out))
    }

    fn check(&self, input: &Input) -> Result<(), InputError> {
        let device = match *input {
            Input::Probe { device, .. }
            | Input::Add { device, .. }
            | Input::Answered { device, .. }
            | Input::Release { device, .. }
            | Input::ForcedRelease { device, .. }
            | Input::Reclaimed { device, .. }
            | Input::Freed { device } => device,
            Input::Tick => return Ok(()),
        };
        let known = self.devices.get(&device).ok_or(InputError::NoSuchDevice { device })?;
        match *input {
            Input::Probe { decoder, .. } => known.check_decoder(device, decoder),
            Input::Answered { chain, .. } if !known.answered.contains_key(&chain) => {
                Err(InputError::NoSuchChain { device, chain })
            }
            Input::Reclaimed { .. } if !known.reclaim.is_asked() => {
                Err(InputError::NotReclaiming { device })
            }
            _ => Ok(()),
        }
    }

    /// What time has made due.
    fn let_pass(&mut self) {
        for device in self.devices.keys().copied().collect::<Vec<_>>() {
            if self.devices[&device].chain.until().is_some_and(|until| until <= self.now) {
                self.step_chain(device, Event::TooLate);
            }
            if self.devices[&device].reclaim.until().is_some_and(|until| until <= self.now) {
                self.reclaim_due(device);
            }
        }
    }

    /// The next time at which something happens by itself: [`Input::Tick`] is due then.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let devices = self.devices.values();
        devices.flat_map(|device| [device.chain.until(), device.reclaim.until()]).flatten().min()
    }

    /// What became of a device's bytes, if it is there.
    #[must_use]
    pub fn totals(&self, device: DeviceId) -> Option<Totals> {
        self.devices.get(&device).map(|device| device.totals)
    }

    /// All groups, the oldest first.
    #[must_use]
    pub fn groups(&self) -> Vec<GroupStatus> {
        let status = |(&id, group): (&GroupId, &TagGroup)| {
            let held = &self.devices[&group.device].held;
            let pieces = group.pieces.iter().map(|(_, start)| &held[start]);
            let asked = pieces.filter(|held| held.standing != Standing::Kept);
            GroupStatus {
                group: id,
                device: group.device,
                tag: group.tag,
                extents: self.pieces_of(id),
                bytes: group.bytes,
                asked: asked.map(|held| held.length).sum(),
                surfaced: group.state == GroupState::Surfaced,
            }
        };
        self.groups.iter().map(status).collect()
    }

    /// What of a range is accepted and can be used, ascending.
    pub(super) fn held_in(&self, device: DeviceId, range: DpaRange) -> Vec<DpaRange> {
        let Some(known) = self.devices.get(&device) else { return Vec::new() };
        let usable = known
            .overlapping(range)
            .filter(|(_, held)| self.groups[&held.group].state == GroupState::Surfaced);
        let parts = usable.map(|(piece, _)| {
            let start = piece.start.max(range.start);
            let end = piece.end().min(range.end());
            let length = end - u128::from(start);
            DpaRange::new(start, u64::try_from(length).expect("no longer than the range"))
        });
        parts.collect()
    }

    pub(super) fn device_mut(&mut self, device: DeviceId) -> &mut Device {
        self.devices.get_mut(&device).expect("checked on entry")
    }

    pub(super) fn note(&mut self, device: DeviceId, notice: Notice) {
        self.out.push(Effect::Note { at: self.now, device, notice });
    }
}
