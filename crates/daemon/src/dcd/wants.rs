//! Telling the manager how much more of a device this host wants.
//!
//! A manager that balances between hosts goes by what they say. This host says what its programs
//! lack *of this node*, as [`Engine::want_of`](memtide_engine::Engine::want_of) counts it: what
//! those lack who wait, and what those lacked lately ([`LATELY`]) who were refused or fell back. It
//! is rounded up to blocks of the device, and no more than may be held (`wants`, `accept`,
//! `window`).
//!
//! **How much.** A program that grows asks for a little at a time, and lacks that little; to be
//! given just that would have it wait at every step. So who lacks anything wants [`LEAST`] at
//! least, and at least as much again as the node has grown by in this spurt ([`SPURT`]): steps that
//! double.
//!
//! **Why "lately".** Who was refused or fell back has its answer, and nothing that comes later
//! changes that. That it happened tells that the next ask will end so, too; but not for long, and
//! no longer than until the node grows: what happened before counts no more then. So a burst of
//! failures is answered once, and programs that go on failing are heard again. It errs on the side
//! of too little: others give up what is wanted here.
//!
//! **Why it comes to rest.** More is said at once, for somebody waits. Less is said when it has
//! been less for a while ([`SETTLE`]), so that who comes and goes does not have memory come and go.
//! What is accepted and not in the pool yet is taken off: it is on its way. When the node grows,
//! what is still wanted is said anew, for the manager takes off itself what it gave; and as that
//! and this may cross on the way, it is repeated as long as it is not 0 ([`REPEAT`]).

use std::{collections::VecDeque, time::Duration};

use memtide_engine::{Want, dynamic_capacity::DeviceId};
use memtide_fabric::wire::ToManager;
use memtide_units::{ByteSize, Instant};

use super::{carry::Surfaced, ranges};
use crate::{
    config::{Accept, Wants},
    daemon::{Daemon, node_id},
};

/// For how long it counts that somebody was refused or fell back.
const LATELY: Duration = Duration::from_secs(10);
/// For how long less has to be wanted before less is said.
const SETTLE: Duration = Duration::from_secs(1);
/// Between two times that the same is said.
const REPEAT: Duration = Duration::from_secs(1);
/// Least that is wanted by those who lack anything.
const LEAST: u64 = 64 << 20;
/// Growing again within this time is the same spurt.
const SPURT: Duration = Duration::from_secs(30);
/// What fell back is remembered by spans of this length.
const SPAN: Duration = Duration::from_secs(1);

/// What is wanted of one device, and what of it was said.
#[derive(Debug, Default)]
pub(super) struct Lacks {
    /// Bytes that were in the pool at the last look. Nothing before the first: what is there then
    /// was adopted, and is no growth.
    size: Option<u64>,
    grown_at: Instant,
    /// By how much in this spurt.
    grown: u64,
    /// What had fallen back at the last look; nothing before the first.
    fell_back: Option<u64>,
    /// When how many bytes fell back, lately.
    lately: VecDeque<(Instant, u64)>,
    told: u64,
    told_at: Instant,
    /// Since when less is wanted than was said.
    lower_since: Option<Instant>,
}

/// How things are at one time. Amounts are bytes.
#[derive(Clone, Copy, Debug)]
struct Look {
    now: Instant,
    /// In the pool.
    size: u64,
    /// Accepted, and not in the pool yet.
    coming: u64,
    /// Most that may be held.
    most: u64,
    /// What the device gives at least.
    block: u64,
    /// Least that is wanted.
    least: u64,
    want: Want,
}

impl Lacks {
    /// Since when what happened counts.
    fn since(&self, now: Instant) -> Instant {
        Instant(now.0.saturating_sub(LATELY)).max(self.grown_at)
    }

    /// Looks at how things are; what the manager is to be told, if anything.
    fn look(&mut self, look: Look) -> Option<u64> {
        let before = self.size.replace(look.size).unwrap_or(look.size);
        let has_grown = look.size > before;
        if has_grown {
            self.grown = self.grown_in_spurt(look.now).saturating_add(look.size - before);
            self.grown_at = look.now;
            self.lately.clear();
        }
        self.note_fallen(look.now, look.want.fell_back.0);
        let wanted = self.wanted(look);
        if wanted >= self.told {
            self.lower_since = None;
        }
        let is_lower = wanted < self.told
            && self.lower_since.get_or_insert(look.now).after(SETTLE) <= look.now;
        let is_due = self.told != 0 && self.told_at.after(REPEAT) <= look.now;
        let is_anew = has_grown && (wanted, self.told) != (0, 0);
        if wanted > self.told || is_lower || is_anew {
            self.told = wanted;
            self.lower_since = None;
        } else if !is_due {
            return None;
        }
        self.told_at = look.now;
        Some(self.told)
    }

    /// When to look again, though nothing happens.
    fn next_deadline(&self) -> Option<Instant> {
        let lower = self.lower_since.map(|since| since.after(SETTLE));
        let repeat = (self.told != 0).then(|| self.told_at.after(REPEAT));
        lower.into_iter().chain(repeat).min()
    }

    /// So much has fallen back ever.
    fn note_fallen(&mut self, now: Instant, ever: u64) {
        let more = ever.saturating_sub(self.fell_back.replace(ever).unwrap_or(ever));
        self.lately.retain(|&(at, _)| at.after(LATELY) > now);
        if more == 0 {
            return;
        }
        match self.lately.back_mut().filter(|(at, _)| at.after(SPAN) > now) {
            Some((_, bytes)) => *bytes = bytes.saturating_add(more),
            None => self.lately.push_back((now, more)),
        }
    }

    fn grown_in_spurt(&self, now: Instant) -> u64 {
        if self.grown_at.after(SPURT) < now { 0 } else { self.grown }
    }

    fn wanted(&self, look: Look) -> u64 {
        let fallen = self.lately.iter().fold(0, |sum: u64, (_, bytes)| sum.saturating_add(*bytes));
        let Want { waiting, refused, .. } = look.want;
        let mut lacks = waiting.0.saturating_add(refused.0).saturating_add(fallen);
        if lacks != 0 {
            lacks = lacks.max(look.least).max(self.grown_in_spurt(look.now));
        }
        let block = look.block.max(1);
        let room = look.most.saturating_sub(look.size).saturating_sub(look.coming) / block * block;
        lacks.saturating_sub(look.coming).div_ceil(block).saturating_mul(block).min(room)
    }
}

impl Daemon {
    /// What programs lack of each device, to managers that have not heard.
    pub(super) fn tell_wants(&mut self) {
        let automatic = |name: &DeviceId| match self.wants_of(*name) {
            Wants::Nothing => false,
            Wants::Automatic | Wants::UpTo(_) => self.dcd.devices[name].is_probed,
        };
        let names: Vec<DeviceId> = self.dcd.devices.keys().copied().filter(automatic).collect();
        for name in names {
            let look = self.look_at_wants(name);
            let device = self.dcd.devices.get_mut(&name).expect("devices stay");
            let tell = device.lacks.look(look);
            if let (Some(bytes), Some(manager)) = (tell, &device.manager) {
                manager.say(ToManager::Wants { bytes });
            }
        }
    }

    fn wants_of(&self, name: DeviceId) -> Wants {
        let node = &self.config.nodes[self.dcd.devices[&name].node];
        node.dcd.as_ref().map_or(Wants::Nothing, |dcd| dcd.wants)
    }

    fn look_at_wants(&self, name: DeviceId) -> Look {
        let now = self.engine_now();
        let device = &self.dcd.devices[&name];
        let status = &self.engine.node_status()[device.node];
        let size = status.present.0 - status.offline.0;
        let accepted = ranges::bytes(&self.held(name, Surfaced::OrNot));
        let wants = match self.wants_of(name) {
            Wants::Nothing => 0,
            Wants::Automatic => u64::MAX,
            Wants::UpTo(most) => most.0,
        };
        let accepts = match device.accept {
            Accept::None => 0,
            Accept::All => u64::MAX,
            Accept::Limit(most) => most.0,
        };
        let most = wants.min(accepts).min(device.window.decoder.length);
        let growth = ByteSize(most.saturating_sub(size));
        let want = self.engine.want_of(node_id(device.node), device.lacks.since(now), growth);
        let (coming, block) = (accepted.saturating_sub(size), device.block_bytes);
        Look { now, size, coming, most, block, least: LEAST, want }
    }
}

impl super::Dcd {
    /// When what is wanted is to be looked at again.
    pub(super) fn wants_deadline(&self) -> Option<Instant> {
        self.devices.values().filter_map(|device| device.lacks.next_deadline()).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u64 = 16;

    fn at(tenths: u64) -> Instant {
        Instant(Duration::from_millis(tenths * 100))
    }

    fn look(tenths: u64, size: u64, (waiting, refused, fell_back): (u64, u64, u64)) -> Look {
        let want = Want {
            waiting: ByteSize(waiting),
            refused: ByteSize(refused),
            fell_back: ByteSize(fell_back),
        };
        Look { now: at(tenths), size, coming: 0, most: 160, block: BLOCK, least: 0, want }
    }

    #[test]
    fn more_is_said_at_once_in_blocks_and_less_after_a_while() {
        let mut lacks = Lacks::default();
        assert_eq!(lacks.look(look(0, 0, (0, 0, 0))), None);
        assert_eq!(lacks.next_deadline(), None);
        assert_eq!(lacks.look(look(1, 0, (1, 0, 0))), Some(16));
        assert_eq!(lacks.look(look(2, 0, (16, 0, 0))), None);
        assert_eq!(lacks.look(look(3, 0, (17, 4, 0))), Some(32));
        // It goes and comes back within a second: nothing is said.
        assert_eq!(lacks.look(look(4, 0, (0, 0, 0))), None);
        assert_eq!(lacks.next_deadline(), Some(at(13)));
        assert_eq!(lacks.look(look(9, 0, (30, 0, 0))), None);
        // It stays away.
        assert_eq!(lacks.look(look(10, 0, (0, 0, 0))), None);
        assert_eq!(lacks.look(look(13, 0, (0, 0, 0))), Some(32));
        assert_eq!(lacks.look(look(20, 0, (0, 0, 0))), Some(0));
        assert_eq!(lacks.next_deadline(), None);
        assert_eq!(lacks.look(look(200, 0, (0, 0, 0))), None);
    }

    #[test]
    fn what_is_wanted_is_repeated_until_it_is_not() {
        let mut lacks = Lacks::default();
        assert_eq!(lacks.look(look(0, 0, (20, 0, 0))), Some(32));
        assert_eq!(lacks.next_deadline(), Some(at(10)));
        assert_eq!(lacks.look(look(9, 0, (20, 0, 0))), None);
        assert_eq!(lacks.look(look(10, 0, (20, 0, 0))), Some(32));
    }

    #[test]
    fn no_more_is_wanted_than_may_be_held_or_than_is_not_on_its_way() {
        let mut lacks = Lacks::default();
        assert_eq!(lacks.look(look(0, 120, (1000, 0, 0))), Some(32));
        let mut lacks = Lacks::default();
        assert_eq!(lacks.look(Look { coming: 48, ..look(0, 0, (60, 0, 0)) }), Some(16));
        assert_eq!(Lacks::default().look(look(0, 200, (1000, 0, 0))), None);
    }

    #[test]
    fn what_fell_back_counts_until_the_node_grows_or_it_is_long_ago() {
        let mut lacks = Lacks::default();
        // What fell back before the first look is nobody's want now.
        assert_eq!(lacks.look(look(0, 0, (0, 0, 70))), None);
        assert_eq!(lacks.look(look(1, 0, (0, 0, 80))), Some(16));
        assert_eq!(lacks.look(look(2, 0, (0, 0, 100))), Some(32));
        // It grows: told anew, and what fell back before counts no more.
        assert_eq!(lacks.look(look(3, 32, (0, 0, 100))), Some(0));
        assert_eq!(lacks.since(at(4)), at(3));
        assert_eq!(lacks.look(look(5, 32, (0, 0, 110))), Some(32));
        assert_eq!(lacks.look(look(104, 32, (0, 0, 110))), Some(32));
        assert_eq!(lacks.look(look(106, 32, (0, 0, 110))), None);
        assert_eq!(lacks.look(look(116, 32, (0, 0, 110))), Some(0));
    }

    #[test]
    fn steps_double_as_long_as_a_spurt_goes_on() {
        let step = |lacks: &mut Lacks, tenths, size| {
            lacks.look(Look { most: 4096, least: 32, ..look(tenths, size, (1, 0, 0)) })
        };
        let mut lacks = Lacks::default();
        assert_eq!(step(&mut lacks, 0, 0), Some(32));
        assert_eq!(step(&mut lacks, 1, 32), Some(32));
        assert_eq!(step(&mut lacks, 2, 64), Some(64));
        assert_eq!(step(&mut lacks, 3, 128), Some(128));
        // Long after: from the beginning.
        lacks.look(look(400, 128, (0, 0, 0)));
        lacks.look(look(420, 128, (0, 0, 0)));
        assert_eq!(step(&mut lacks, 430, 128), Some(32));
    }

    #[test]
    fn what_is_there_at_the_first_look_is_no_growth() {
        let look = |tenths, want| Look { most: 4096, least: 32, ..look(tenths, 128, want) };
        let mut lacks = Lacks::default();
        assert_eq!(lacks.look(look(0, (0, 0, 0))), None);
        assert_eq!(lacks.since(at(1)), at(0), "nor does it end what counts");
        assert_eq!(lacks.look(look(1, (1, 0, 0))), Some(32));
    }

    #[test]
    fn what_is_wanted_after_growing_is_said_anew() {
        let mut lacks = Lacks::default();
        assert_eq!(lacks.look(look(0, 0, (64, 0, 0))), Some(64));
        assert_eq!(lacks.look(look(1, 32, (64, 0, 0))), Some(64));
        assert_eq!(lacks.look(look(2, 64, (16, 0, 0))), Some(64));
        assert_eq!(lacks.look(look(3, 80, (0, 0, 0))), Some(0));
        assert_eq!(lacks.look(look(4, 96, (0, 0, 0))), None);
    }
}
