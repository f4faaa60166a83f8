//! The rules of dynamic capacity, one by one.

mod adding;
mod devices;
mod releasing;

use alloc::{vec, vec::Vec};
use core::time::Duration;

use memtide_units::Instant;

use super::{
    DcExtent, DeviceConfig, DeviceError, DeviceId, DpaRange, Effect, Errno, Host, Input,
    InputError, Limits, More, Notice, Outcome, Partition, Refused, Splitting, Tag,
};
use More::{Follows, Last};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const MEM: DeviceId = DeviceId(0);
const A: Tag = Tag([0xaa; 16]);
const B: Tag = Tag([0xbb; 16]);
/// Two partitions of 16 GiB from 0, each with a region over all of it, then nothing.
const PARTITION: u64 = 16 * GIB;

fn at(seconds: u64) -> Instant {
    Instant(Duration::from_secs(seconds))
}

fn range(start: u64, length: u64) -> DpaRange {
    DpaRange::new(start, length)
}

fn config(splitting: Splitting) -> DeviceConfig {
    let partition = |start| Partition {
        range: range(start, PARTITION),
        length: PARTITION,
        block_bytes: 2 * MIB,
    };
    let partitions = vec![partition(0), partition(PARTITION)];
    DeviceConfig { splitting, ..DeviceConfig::new(partitions) }
}

/// A host, and what it said last.
struct Test {
    host: Host,
    now: Instant,
}

impl Test {
    fn new(splitting: Splitting) -> Self {
        let mut host = Host::new(Limits::default());
        host.add_device(MEM, config(splitting)).unwrap();
        let mut test = Self { host, now: at(0) };
        for start in [0, PARTITION] {
            let decoder = range(start, PARTITION);
            test.say(Input::Probe { device: MEM, decoder, accepted: vec![] });
        }
        test
    }

    fn say(&mut self, input: Input) -> Vec<Effect> {
        let effects = self.host.handle(self.now, input).unwrap();
        self.host.validate();
        effects
    }

    fn add(&mut self, extent: DcExtent, more: More) -> Vec<Effect> {
        self.say(Input::Add { device: MEM, extent, more })
    }

    /// A chain of these extents, and what follows the last.
    fn chain(&mut self, extents: &[DcExtent]) -> Vec<Effect> {
        let (last, rest) = extents.split_last().unwrap();
        for &extent in rest {
            assert_eq!(self.add(extent, Follows), [], "nothing surfaces while more follows");
        }
        self.add(*last, Last)
    }

    /// The device takes all answers: what surfaces.
    fn taken(&mut self, effects: &[Effect]) -> Vec<Effect> {
        self.answered(effects, Outcome::Taken)
    }

    /// The device's word on all answers.
    fn answered(&mut self, effects: &[Effect], outcome: Outcome) -> Vec<Effect> {
        let mut all = Vec::new();
        for effect in effects {
            if let Effect::AddResponse { device, chain, .. } = *effect {
                all.extend(self.say(Input::Answered { device, chain, outcome }));
            }
        }
        all
    }

    /// A chain that the host accepts and the device takes.
    fn have(&mut self, extents: &[DcExtent]) {
        let effects = self.chain(extents);
        assert_eq!(accepted(&effects).len(), extents.len(), "{effects:?}");
        self.taken(&effects);
    }

    fn release(&mut self, range: DpaRange, tag: Tag) -> Vec<Effect> {
        self.say(Input::Release { device: MEM, range, tag, more: Last })
    }

    fn reclaimed(&mut self, free: &[DpaRange]) -> Vec<Effect> {
        self.say(Input::Reclaimed { device: MEM, free: free.to_vec() })
    }

    fn held(&self) -> u64 {
        self.host.groups().iter().map(|group| group.bytes).sum()
    }
}

fn extent(start: u64, length: u64, tag: Tag) -> DcExtent {
    DcExtent { range: range(start, length), tag, sequence: 0 }
}

fn numbered(start: u64, tag: Tag, sequence: u16) -> DcExtent {
    DcExtent { sequence, ..extent(start, GIB, tag) }
}

/// What the only answer accepts.
fn accepted(effects: &[Effect]) -> Vec<DpaRange> {
    let answers: Vec<&Vec<DpaRange>> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::AddResponse { accepted, .. } => Some(accepted),
            _ => None,
        })
        .collect();
    assert_eq!(answers.len(), 1, "one answer for each chain: {effects:?}");
    answers[0].clone()
}

/// What is refused, and why.
fn refused(effects: &[Effect]) -> Vec<(DpaRange, Refused)> {
    let refused = effects.iter().filter_map(|effect| match effect {
        Effect::Note { notice: Notice::Refused { extent, why }, .. } => Some((extent.range, *why)),
        _ => None,
    });
    refused.collect()
}

fn surfaced(effects: &[Effect]) -> Vec<(Tag, Vec<DpaRange>)> {
    let surfaced = effects.iter().filter_map(|effect| match effect {
        Effect::Surface { tag, extents, .. } => Some((*tag, extents.clone())),
        _ => None,
    });
    surfaced.collect()
}

fn released(effects: &[Effect]) -> Vec<DpaRange> {
    let released = effects.iter().filter_map(|effect| match effect {
        Effect::ReleaseDc { released, .. } => Some(released.clone()),
        _ => None,
    });
    released.flatten().collect()
}

/// What the user is asked for.
fn asked(effects: &[Effect]) -> Vec<DpaRange> {
    let asked = effects.iter().filter_map(|effect| match effect {
        Effect::Reclaim { ranges, .. } => Some(ranges.clone()),
        _ => None,
    });
    asked.flatten().collect()
}

/// What is said of a release that cannot be done.
fn not_released(effects: &[Effect]) -> Option<Refused> {
    effects.iter().find_map(|effect| match effect {
        Effect::Note { notice: Notice::NotReleased { why, .. }, .. } => Some(*why),
        _ => None,
    })
}
