//! What must be true whatever the parties believe: the medium, block by block.
//!
//! It knows only what the device did to the medium ([`Effect`]), and what hosts may have. After
//! every step: no block has two owners, nobody sees what another wrote, nobody has or is offered
//! more than its maximum, and what is guaranteed and not had is free.

use std::collections::BTreeMap;

use memtide_cxl::{
    command::HostId,
    device::{Device, Effect},
    manager::Limits,
};
use memtide_units::{DpaRange, RequestId};

/// What must not happen.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Broken {
    /// Two have the same block.
    #[error("{host} gets {range}, which {owner} has; expected one owner")]
    TwoOwners {
        /// What.
        range: DpaRange,
        /// Who gets it.
        host: HostId,
        /// Who has it.
        owner: HostId,
    },
    /// A block that somebody wrote and nobody overwrote.
    #[error("{host} gets {range} with data of {writer}; expected it to be overwritten")]
    Stale {
        /// What.
        range: DpaRange,
        /// Who gets it.
        host: HostId,
        /// Who wrote it.
        writer: HostId,
    },
    /// A block ends that was not had, or is overwritten that is had.
    #[error("{range} has the owner {owner:?}; expected {host:?}")]
    NotOwned {
        /// What.
        range: DpaRange,
        /// Whose it should be; nothing: nobody's.
        host: Option<HostId>,
        /// Whose it is.
        owner: Option<HostId>,
    },
    /// More than a host may have.
    #[error("{host} has or is offered {bytes} bytes; expected its maximum, {maximum}, at most")]
    OverMaximum {
        /// Who.
        host: HostId,
        /// How much.
        bytes: u64,
        /// What it may have.
        maximum: u64,
    },
    /// A guarantee that cannot be kept.
    #[error("{lacking} bytes are guaranteed and not had; only {free} are free")]
    Guarantee {
        /// How much is missing of what is guaranteed.
        lacking: u64,
        /// How much is free.
        free: u64,
    },
    /// A request without an answer.
    #[error("{request} has no answer")]
    Unanswered {
        /// Which.
        request: RequestId,
    },
    /// In the end not everything is free.
    #[error("{held} bytes are still held and {free} free, of {capacity}, with nothing in use")]
    Lost {
        /// What hosts have.
        held: u64,
        /// What the manager can give out.
        free: u64,
        /// What there is.
        capacity: u64,
    },
    /// The manager counts other than the device.
    #[error("{host} has {held} bytes; the manager says {said}")]
    Disagree {
        /// Whose.
        host: HostId,
        /// What it has.
        held: u64,
        /// What the manager says.
        said: u64,
    },
    /// The manager says that a device is at fault.
    #[error("the manager: {0}")]
    Notice(#[from] memtide_cxl::manager::Notice),
    /// The device refused what must be possible.
    #[error("the device: {0}")]
    Device(#[from] memtide_cxl::device::Refusal),
    /// What the device waits for cannot be done.
    #[error("the device: {0}")]
    Overwritten(#[from] memtide_cxl::device::NotSanitizing),
    /// A host's rules refused what its agent said.
    #[error("a host: {0}")]
    Host(#[from] memtide_engine::dynamic_capacity::InputError),
    /// The manager refused what it was told.
    #[error("the manager: {0}")]
    Input(#[from] memtide_cxl::manager::InputError),
    /// The manager refused what must be possible.
    #[error("the manager: {0}")]
    Request(#[from] memtide_cxl::manager::RequestError),
    /// The manager cannot be set up.
    #[error("the manager: {0}")]
    Config(#[from] memtide_cxl::manager::ConfigError),
    /// There can be no such device.
    #[error("the device: {0}")]
    NoDevice(#[from] memtide_cxl::device::ConfigError),
    /// What a reply says cannot be read.
    #[error("a reply: {0}")]
    Reply(#[from] memtide_cxl::DecodeError),
}

/// A block of the medium.
#[derive(Clone, Copy, Default)]
struct Block {
    owner: Option<HostId>,
    /// Who wrote it last, if it was not overwritten since.
    data: Option<HostId>,
    /// Who had it last.
    last: Option<HostId>,
}

/// The medium.
pub(super) struct Judge {
    block: u64,
    blocks: Vec<Block>,
    limits: Vec<Limits>,
    held: BTreeMap<HostId, u64>,
    /// Bytes that got another owner than the one before.
    pub(super) moved: u64,
}

impl Judge {
    pub(super) fn new(capacity: u64, block: u64, limits: Vec<Limits>) -> Self {
        let blocks = vec![Block::default(); (capacity / block) as usize];
        Self { block, blocks, limits, held: BTreeMap::new(), moved: 0 }
    }

    /// Bytes that a host has.
    pub(super) fn held(&self, host: HostId) -> u64 {
        self.held.get(&host).copied().unwrap_or(0)
    }

    /// Nobody is guaranteed anything any more, or kept from it.
    pub(super) fn no_limits(&mut self) {
        self.limits.fill(Limits::default());
    }

    fn of(&mut self, range: DpaRange) -> &mut [Block] {
        let first = (range.start / self.block) as usize;
        &mut self.blocks[first..first + (range.length / self.block) as usize]
    }

    /// Something happened to the medium.
    pub(super) fn see(&mut self, effect: Effect) -> Result<(), Broken> {
        match effect {
            Effect::Gained { host, range } => self.gained(host, range),
            Effect::Ended { host, range } => self.ended(host, range),
            _ => Ok(()),
        }
    }

    fn gained(&mut self, host: HostId, range: DpaRange) -> Result<(), Broken> {
        let unit = self.block;
        let mut moved = 0;
        for block in self.of(range) {
            if let Some(owner) = block.owner {
                return Err(Broken::TwoOwners { range, host, owner });
            }
            if let Some(writer) = block.data.filter(|&writer| writer != host) {
                return Err(Broken::Stale { range, host, writer });
            }
            if block.last.is_some_and(|last| last != host) {
                moved += unit;
            }
            *block = Block { owner: Some(host), data: Some(host), last: Some(host) };
        }
        self.moved += moved;
        *self.held.entry(host).or_default() += range.length;
        Ok(())
    }

    fn ended(&mut self, host: HostId, range: DpaRange) -> Result<(), Broken> {
        for block in self.of(range) {
            if block.owner != Some(host) {
                let owner = block.owner;
                return Err(Broken::NotOwned { range, host: Some(host), owner });
            }
            block.owner = None;
        }
        *self.held.entry(host).or_default() -= range.length;
        Ok(())
    }

    /// A range was overwritten.
    pub(super) fn overwritten(&mut self, range: DpaRange) -> Result<(), Broken> {
        for block in self.of(range) {
            if block.owner.is_some() {
                return Err(Broken::NotOwned { range, host: None, owner: block.owner });
            }
            block.data = None;
        }
        Ok(())
    }

    /// Limits and guarantees, now.
    pub(super) fn judge(&self, device: &Device) -> Result<(), Broken> {
        let (mut lacking, mut taken) = (0, 0);
        for (host, limits) in (0..).map(HostId).zip(&self.limits) {
            let offered: u64 = device.offers(host).flatten().map(|e| e.range.length).sum();
            let bytes = self.held(host) + offered;
            if bytes > limits.maximum {
                return Err(Broken::OverMaximum { host, bytes, maximum: limits.maximum });
            }
            lacking += limits.minimum.saturating_sub(bytes);
            taken += bytes;
        }
        let free = self.blocks.len() as u64 * self.block - taken;
        if lacking > free { Err(Broken::Guarantee { lacking, free }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn gained(host: u16, at: u64) -> Effect {
        Effect::Gained { host: HostId(host), range: DpaRange::new(at * MIB, MIB) }
    }

    fn ended(host: u16, at: u64) -> Effect {
        Effect::Ended { host: HostId(host), range: DpaRange::new(at * MIB, MIB) }
    }

    #[test]
    fn it_sees_two_owners_and_what_was_not_overwritten() {
        let mut judge = Judge::new(4 * MIB, MIB, vec![Limits::default(); 2]);
        judge.see(gained(0, 1)).unwrap();
        assert!(matches!(judge.see(gained(1, 1)), Err(Broken::TwoOwners { .. })));
        assert!(matches!(judge.see(ended(1, 1)), Err(Broken::NotOwned { .. })));
        let range = DpaRange::new(MIB, MIB);
        assert!(matches!(judge.overwritten(range), Err(Broken::NotOwned { host: None, .. })));
        judge.see(ended(0, 1)).unwrap();
        assert!(matches!(judge.see(gained(1, 1)), Err(Broken::Stale { .. })));
        judge.overwritten(range).unwrap();
        judge.see(gained(1, 1)).unwrap();
        assert_eq!((judge.held(HostId(0)), judge.held(HostId(1)), judge.moved), (0, MIB, MIB));
    }

    #[test]
    fn it_sees_more_than_a_maximum_and_less_than_a_guarantee() {
        let device = crate::fabric::medium::device(4 * MIB, MIB, 2, 9).unwrap();
        let most = Limits { maximum: MIB, ..Limits::default() };
        let least = Limits { minimum: 3 * MIB, ..Limits::default() };
        let mut judge = Judge::new(4 * MIB, MIB, vec![most, least]);
        judge.see(gained(0, 0)).unwrap();
        judge.judge(&device).unwrap();
        judge.see(gained(0, 1)).unwrap();
        assert!(matches!(judge.judge(&device), Err(Broken::OverMaximum { .. })));
        judge.limits[0] = Limits::default();
        assert!(matches!(judge.judge(&device), Err(Broken::Guarantee { .. })));
    }
}
