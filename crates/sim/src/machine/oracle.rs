//! What must hold whatever happens, kept apart from the engine and simpler than it.
//!
//! For every pageblock the oracle knows who maps it, from what programs do and are told, and from
//! nothing else. After every input:
//!
//! * *Isolation:* what is granted, or is the destination of a move, is mapped by nobody, and was
//!   zeroed since it was last used. What is zeroed or leaves is mapped by nobody.
//! * *Zones:* what never moves, or was asked to stay, does not lie where all must be able to move.
//! * *Conservation:* free, leased, isolated and offline pageblocks of a node are all of it; and
//!   what the engine thinks is leased is what the oracle saw in use.
//! * *Quotas:* no tenant has more of a kind than its maximum, none of a kind that it may not use.
//! * *Guarantees:* what a tenant gets beyond its own guarantee leaves others room for theirs; who
//!   is below its own is neither refused nor waits while there is room for that, and is promised
//!   it.
//! * *Answers:* every lease, promise and request is answered by its deadline.
//! * *No ping-pong:* what was moved away from a node for the sake of balance does not come back
//!   before it has settled.
//!
//! `isolation`: who maps what. `zones`: what may lie where. `rights`: quotas and guarantees.
//! `answers`: deadlines, ping-pong.

mod answers;
mod isolation;
mod rights;
mod zones;

use std::collections::{BTreeMap, BTreeSet};

use memtide_engine::onlining::OnlineZone;
use memtide_units::{ImageId, NodeKind, Pageblock};

pub use self::answers::Went;
use super::plan::{Nanos, Node, Plan};

/// A check that failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// When, in nanoseconds.
    pub at: Nanos,
    /// What does not hold.
    pub what: String,
    /// What went in and came out last; empty when nobody asked for it.
    pub trace: Vec<String>,
}

impl core::fmt::Display for Violation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        writeln!(f, "after {} ns: {}", self.at, self.what)?;
        self.trace.iter().try_for_each(|line| writeln!(f, "    {line}"))
    }
}

/// What can be found out to be wrong.
pub type Checked<T> = Result<T, String>;

/// Who is behind a pageblock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Nobody, and it is zero.
    Free,
    /// Processes of one image map it: how many.
    Mapped(ImageId, u32),
    /// It is the destination of a move: a process of this image may write to it.
    Coming(ImageId),
    /// Nobody maps it, but what an image wrote is in it.
    Dirty(ImageId),
    /// It is being zeroed.
    Zeroing(ImageId),
    /// It is zero, but who was to move what was in it, of this image, has not answered.
    Unanswered(ImageId),
    /// It has left.
    Offline,
    /// It is broken, or its device is gone.
    Gone,
}

/// Whose a mapped pageblock is: a tenant, as an index.
type Tenant = usize;

/// The books.
#[derive(Debug)]
pub struct Oracle {
    /// One past the last pageblock of each node.
    ends: Vec<u64>,
    kinds: Vec<NodeKind>,
    states: Vec<State>,
    /// Where each of them came online last.
    zones: Vec<OnlineZone>,
    /// Per node, where all must be able to move: free, and there at all.
    movable_only: Vec<[u64; 2]>,
    /// Per node: mapped, coming, dirty or being zeroed.
    in_use: Vec<u64>,
    /// Per node: offline, and gone.
    away: Vec<[u64; 2]>,
    /// Per tenant and node: mapped.
    used: Vec<Vec<u64>>,
    /// Per tenant and node: in use, by its programs or left behind by them.
    charged: Vec<Vec<u64>>,
    images: BTreeMap<ImageId, Tenant>,
    poisoned: BTreeSet<Pageblock>,
    /// What is to be moved away, and is not answered.
    leaving: BTreeMap<Pageblock, Nanos>,
    /// What is to be answered until when, and by which name.
    due: BTreeSet<(Nanos, String)>,
    /// When what was moved for the sake of balance left which node; by process and page.
    left: BTreeMap<(u64, u32), (usize, Nanos)>,
}

impl State {
    /// Whose it is, or was until it is zeroed and all orders about it are answered.
    const fn image(self) -> Option<ImageId> {
        use State::{Coming, Dirty, Free, Gone, Mapped, Offline, Unanswered, Zeroing};
        match self {
            Mapped(image, _)
            | Coming(image)
            | Dirty(image)
            | Zeroing(image)
            | Unanswered(image) => Some(image),
            Free | Offline | Gone => None,
        }
    }
}

impl Oracle {
    /// Books of a machine where everything is free.
    pub fn new(plan: &Plan) -> Self {
        let mut end = 0;
        let ends = plan.nodes.iter().map(|node| {
            end += node.pageblocks;
            end
        });
        let nodes = plan.nodes.len();
        let zones = plan
            .nodes
            .iter()
            .flat_map(|node| std::iter::repeat_n(node.zone, node.pageblocks as usize));
        let movable_only = |node: &Node| match node.zone.is_movable_only() {
            true => [node.pageblocks; 2],
            false => [0; 2],
        };
        Self {
            ends: ends.collect(),
            kinds: plan.nodes.iter().map(|node| node.kind).collect(),
            states: vec![State::Free; plan.pageblocks() as usize],
            zones: zones.collect(),
            movable_only: plan.nodes.iter().map(movable_only).collect(),
            in_use: vec![0; nodes],
            away: vec![[0; 2]; nodes],
            used: vec![vec![0; nodes]; plan.tenants.len()],
            charged: vec![vec![0; nodes]; plan.tenants.len()],
            images: BTreeMap::new(),
            poisoned: BTreeSet::new(),
            leaving: BTreeMap::new(),
            due: BTreeSet::new(),
            left: BTreeMap::new(),
        }
    }

    /// The node of a pageblock.
    pub fn node_of(&self, pageblock: Pageblock) -> usize {
        self.ends.partition_point(|&end| end <= pageblock.0)
    }

    /// What is behind it.
    pub fn state(&self, pageblock: Pageblock) -> State {
        self.states[pageblock.0 as usize]
    }

    /// Pageblocks of a node that a tenant has mapped.
    pub fn used(&self, tenant: usize, node: usize) -> u64 {
        self.used[tenant][node]
    }

    /// A new image, and whose it is.
    pub fn image(&mut self, image: ImageId, tenant: usize) -> Checked<()> {
        match self.images.insert(image, tenant) {
            None => Ok(()),
            Some(_) => Err(format!("{image} is given out twice")),
        }
    }

    fn set(&mut self, pageblock: Pageblock, state: State) {
        let node = self.node_of(pageblock);
        let old = std::mem::replace(&mut self.states[pageblock.0 as usize], state);
        for (state, by) in [(old, -1_i64), (state, 1)] {
            let add = |count: &mut u64| {
                *count =
                    count.checked_add_signed(by).expect("nothing is taken out that was not put in");
            };
            if self.zones[pageblock.0 as usize].is_movable_only() {
                let [free, there] = &mut self.movable_only[node];
                if state == State::Free {
                    add(free);
                }
                if !matches!(state, State::Offline | State::Gone) {
                    add(there);
                }
            }
            if let Some(image) = state.image() {
                add(&mut self.in_use[node]);
                add(&mut self.charged[self.images[&image]][node]);
            }
            match state {
                State::Mapped(image, _) => add(&mut self.used[self.images[&image]][node]),
                State::Offline => add(&mut self.away[node][0]),
                State::Gone => add(&mut self.away[node][1]),
                _ => {}
            }
        }
    }

    /// Whether the engine's books say the same.
    pub fn conservation(&self, engine: &memtide_engine::Engine) -> Checked<()> {
        for (number, status) in engine.node_status().iter().enumerate() {
            let pageblocks =
                |size: memtide_units::ByteSize| size.0 / memtide_units::PAGEBLOCK_BYTES;
            let [present, free, leased, isolated] =
                [status.present, status.free, status.leased, status.isolated].map(pageblocks);
            let away = pageblocks(status.offline) + pageblocks(status.retired);
            let seen: u64 = self.away[number].iter().sum();
            let sum = free + leased + isolated + away;
            if sum != present || leased != self.in_use[number] || away != seen {
                return Err(format!(
                    "conservation: node {:?} says {free} free, {leased} leased, {isolated} \
                     isolated, {away} offline or retired of {present}; seen {} in use, {seen} away",
                    status.name, self.in_use[number],
                ));
            }
        }
        Ok(())
    }
}
