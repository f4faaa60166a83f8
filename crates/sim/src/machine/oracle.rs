//! What must hold whatever happens, kept apart from the engine and simpler than it.
//!
//! For every pageblock the oracle knows who maps it, from what programs do and are told, and from
//! nothing else. After every input:
//!
//! * *Isolation:* what is granted, or is the destination of a move, is mapped by nobody, and was
//!   zeroed since it was last used. What is zeroed or leaves is mapped by nobody.
//! * *Conservation:* free, leased, isolated and offline pageblocks of a node are all of it; and what
//!   the engine thinks is leased is what the oracle saw in use.
//! * *Quotas:* no tenant has more of a kind than its maximum, none of a kind that it may not use.
//! * *Guarantees:* what a tenant gets beyond its own guarantee leaves others room for theirs.
//! * *Answers:* every lease, promise and request is answered by its deadline.
//! * *No ping-pong:* what was moved away from a node for the sake of balance does not come back
//!   before it has settled.

use std::collections::{BTreeMap, BTreeSet};

use memtide_engine::tenant::Access;
use memtide_units::{ImageId, NodeKind, Pageblock};

use super::plan::{Nanos, Plan};

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
    /// It is zero, but whoever was to move what was in it has not answered.
    Unanswered,
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
    /// Per node: mapped, coming, dirty or being zeroed.
    in_use: Vec<u64>,
    /// Per node: offline, and gone.
    away: Vec<[u64; 2]>,
    /// Per tenant and node: mapped.
    used: Vec<Vec<u64>>,
    images: BTreeMap<ImageId, Tenant>,
    poisoned: BTreeSet<Pageblock>,
    /// What is to be moved away, and is not answered.
    leaving: BTreeMap<Pageblock, Nanos>,
    /// What is to be answered until when, and by which name.
    due: BTreeSet<(Nanos, String)>,
    /// When what was moved for the sake of balance left which node; by process and page.
    left: BTreeMap<(u64, u32), (usize, Nanos)>,
}

const fn is_in_use(state: State) -> bool {
    use State::{Coming, Dirty, Mapped, Unanswered, Zeroing};
    matches!(state, Mapped(..) | Coming(_) | Dirty(_) | Zeroing(_) | Unanswered)
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
        Self {
            ends: ends.collect(),
            kinds: plan.nodes.iter().map(|node| node.kind).collect(),
            states: vec![State::Free; plan.pageblocks() as usize],
            in_use: vec![0; nodes],
            away: vec![[0; 2]; nodes],
            used: vec![vec![0; nodes]; plan.tenants.len()],
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
            if is_in_use(state) {
                add(&mut self.in_use[node]);
            }
            match state {
                State::Mapped(image, _) => add(&mut self.used[self.images[&image]][node]),
                State::Offline => add(&mut self.away[node][0]),
                State::Gone => add(&mut self.away[node][1]),
                _ => {}
            }
        }
    }

    /// Somebody gets it.
    pub fn granted(&mut self, pageblock: Pageblock, image: ImageId) -> Checked<()> {
        self.must_be_free(pageblock, "granted")?;
        self.set(pageblock, State::Mapped(image, 1));
        Ok(())
    }

    /// Somebody is to move something there.
    pub fn coming(&mut self, pageblock: Pageblock, image: ImageId) -> Checked<()> {
        self.must_be_free(pageblock, "the destination of a move")?;
        self.set(pageblock, State::Coming(image));
        Ok(())
    }

    fn must_be_free(&self, pageblock: Pageblock, what: &str) -> Checked<()> {
        match self.state(pageblock) {
            State::Free => Ok(()),
            other => Err(format!("isolation: {pageblock} is {what} but is {other:?}")),
        }
    }

    /// A move to it ended: it is mapped from now on.
    pub fn arrived(&mut self, pageblock: Pageblock) -> Checked<()> {
        match self.state(pageblock) {
            State::Coming(image) => {
                self.set(pageblock, State::Mapped(image, 1));
                Ok(())
            }
            State::Gone => Ok(()),
            other => Err(format!("{pageblock} is moved to but is {other:?}")),
        }
    }

    /// A move to it did not happen, or whoever made it is gone.
    pub fn not_coming(&mut self, pageblock: Pageblock) {
        if let State::Coming(image) = self.state(pageblock) {
            self.set(pageblock, State::Dirty(image));
        }
    }

    /// One process more maps it.
    pub fn shared(&mut self, pageblock: Pageblock) {
        if let State::Mapped(image, maps) = self.state(pageblock) {
            self.set(pageblock, State::Mapped(image, maps + 1));
        }
    }

    /// One process fewer maps it.
    pub fn unmapped(&mut self, pageblock: Pageblock) {
        match self.state(pageblock) {
            State::Mapped(image, 1) => self.set(pageblock, State::Dirty(image)),
            State::Mapped(image, maps) => self.set(pageblock, State::Mapped(image, maps - 1)),
            _ => {}
        }
    }

    /// The store is told to zero it.
    pub fn zeroing(&mut self, pageblock: Pageblock, image: ImageId) -> Checked<()> {
        match self.state(pageblock) {
            State::Dirty(of) if of == image => {
                self.set(pageblock, State::Zeroing(image));
                Ok(())
            }
            other => Err(format!("isolation: {pageblock} is zeroed for {image} but is {other:?}")),
        }
    }

    /// The store has zeroed it; false if there is nothing to be said of it any more.
    pub fn zeroed(&mut self, pageblock: Pageblock) -> bool {
        let is_zeroing = matches!(self.state(pageblock), State::Zeroing(_));
        if is_zeroing && self.leaving.contains_key(&pageblock) {
            self.set(pageblock, State::Unanswered);
        } else if is_zeroing {
            self.set(pageblock, State::Free);
        }
        is_zeroing
    }

    /// It is to be moved away.
    pub fn leaving(&mut self, pageblock: Pageblock, now: Nanos) {
        self.leaving.insert(pageblock, now);
    }

    /// That is answered, or will never be. Says when it was ordered.
    pub fn answered(&mut self, pageblock: Pageblock) -> Option<Nanos> {
        let ordered = self.leaving.remove(&pageblock);
        if self.state(pageblock) == State::Unanswered {
            self.set(pageblock, State::Free);
        }
        ordered
    }

    /// It leaves.
    pub fn offlined(&mut self, pageblock: Pageblock) -> Checked<()> {
        match self.state(pageblock) {
            State::Free => self.set(pageblock, State::Offline),
            State::Gone if !self.poisoned.contains(&pageblock) => {
                self.set(pageblock, State::Offline);
            }
            State::Gone => {}
            other => return Err(format!("isolation: {pageblock} leaves but is {other:?}")),
        }
        Ok(())
    }

    /// It comes.
    pub fn onlined(&mut self, pageblock: Pageblock) -> Checked<()> {
        match self.state(pageblock) {
            State::Offline => self.set(pageblock, State::Free),
            State::Gone if self.poisoned.contains(&pageblock) => {}
            other => return Err(format!("{pageblock} comes but is {other:?}")),
        }
        Ok(())
    }

    /// It is gone with its device.
    pub fn gone(&mut self, pageblock: Pageblock) {
        self.set(pageblock, State::Gone);
    }

    /// Whether it is broken.
    pub fn is_poisoned(&self, pageblock: Pageblock) -> bool {
        self.poisoned.contains(&pageblock)
    }

    /// It is broken, for good.
    pub fn poisoned(&mut self, pageblock: Pageblock) {
        self.poisoned.insert(pageblock);
        self.set(pageblock, State::Gone);
    }

    /// Something is to be answered.
    pub fn owe(&mut self, until: Nanos, what: String) {
        self.due.insert((until, what));
    }

    /// It is answered, or nobody waits any more.
    pub fn settled(&mut self, until: Nanos, what: &str) {
        self.due.remove(&(until, what.to_owned()));
    }

    /// Whether something should have been answered by now.
    pub fn overdue(&self, now: Nanos) -> Checked<()> {
        match self.due.first().filter(|(until, _)| *until < now) {
            Some((until, what)) => {
                Err(format!("starvation: {what} is not answered; it should be by {until} ns"))
            }
            None => Ok(()),
        }
    }

    /// Something else is in a page of a process from now on.
    pub fn new_content(&mut self, page: (u64, u32)) {
        self.left.remove(&page);
    }

    /// A page of a process was ordered from one node to another and went. `settle`: how long it
    /// has to stay, if nobody asked for that.
    pub fn went(
        &mut self,
        page: (u64, u32),
        from: usize,
        to: usize,
        now: Nanos,
        settle: Option<Nanos>,
    ) -> Checked<()> {
        let Some(settle) = settle else {
            self.left.remove(&page);
            return Ok(());
        };
        if from == to {
            return Ok(());
        }
        if let Some(&(left, at)) = self.left.get(&page)
            && left == to
            && now < at + settle
        {
            let ms = (now - at) / 1_000_000;
            return Err(format!(
                "ping-pong: page {} of process {} is back on node {to} after {ms} ms; expected it \
                 to stay away for {} ms",
                page.1,
                page.0,
                settle / 1_000_000
            ));
        }
        self.left.insert(page, (from, now));
        Ok(())
    }

    /// Pageblocks of a kind that a tenant has mapped.
    pub fn used_of_kind(&self, tenant: usize, kind: NodeKind) -> u64 {
        let of = |(node, used): (usize, &u64)| if self.kinds[node] == kind { *used } else { 0 };
        self.used[tenant].iter().enumerate().map(of).sum()
    }

    /// Whether a tenant that just got something stays within what it may have.
    pub fn quota(&self, plan: &Plan, tenant: usize) -> Checked<()> {
        for kind in NodeKind::ALL {
            let (quota, used) = (plan.tenants[tenant].quota(kind), self.used_of_kind(tenant, kind));
            let most = match quota.access {
                Access::Denied => 0,
                Access::Allowed => quota.max.unwrap_or(u64::MAX),
            };
            if used > most {
                let name = &plan.tenants[tenant].name;
                return Err(format!(
                    "quota: tenant {name:?} has {used} pageblocks of {kind} memory; at most {most}"
                ));
            }
        }
        Ok(())
    }

    /// Whether others can still get what they are sure to, after a tenant got something of a kind.
    pub fn guarantees(&self, plan: &Plan, tenant: usize, kind: NodeKind) -> Checked<()> {
        if self.used_of_kind(tenant, kind) <= plan.tenants[tenant].quota(kind).min {
            return Ok(());
        }
        let nodes = || (0..self.kinds.len()).filter(|&node| self.kinds[node] == kind);
        let mapped: u64 = (0..self.used.len()).map(|tenant| self.used_of_kind(tenant, kind)).sum();
        let online: u64 = nodes()
            .map(|node| plan.nodes[node].pageblocks - self.away[node].iter().sum::<u64>())
            .sum();
        let sure: u64 = (0..self.used.len())
            .filter(|&other| other != tenant)
            .map(|other| {
                let min = plan.tenants[other].quota(kind).min;
                min.saturating_sub(self.used_of_kind(other, kind))
            })
            .sum();
        if mapped + sure > online {
            let name = &plan.tenants[tenant].name;
            return Err(format!(
                "guarantee: tenant {name:?} got {kind} memory; {mapped} pageblocks are in use, \
                 others are sure to get {sure} more, and {online} are online"
            ));
        }
        Ok(())
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
