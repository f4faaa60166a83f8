//! Who waits for memory, and who is next.
//!
//! A lease waits when there is nothing for it, a promise when it does not fit. (A lease of which
//! there is a part gets that part: a program goes on sooner with it, and nothing lies idle while
//! somebody waits.) How long a wish waits:
//!
//! * as long as its tenant says ([`OnDepletion::Wait`], [`OnDepletion::Reclaim`]);
//! * whatever its tenant says, up to [`crate::Limits::patience`] while memory is on its way back:
//!   something is being zeroed, or a process disconnected a moment ago ([`ENDING`]) and is likely
//!   to be gone soon;
//! * during recovery, until that is over ([`crate::recovery`]): what is there, and what is
//!   promised, is not known before.
//!
//! Then it is answered as things are: with nothing, as a rule. A wish that nothing can come of is
//! answered at once.
//!
//! Who is next:
//!
//! 1. Of one process, in the order it asked: its leases in one line, its promises in another. What
//!    it asks for while it waits waits behind what it asked for before in the same line, so that
//!    answers of a kind keep their order. Only the first wish of a line, its *head*, is tried. The
//!    lines do not wait for each other: who waits to be promised much can still be given the little
//!    that it needs to go on, and to free what others wait for.
//! 2. Between tenants, whoever is charged for least in proportion to its weight, all kinds
//!    together. So what comes back goes to those who have little until shares are as weights are.
//! 3. Within a tenant, the earliest.
//!
//! The queue is served after every input, and a head that can be given something is given it. So
//! between inputs there is no memory that a head could have, and whoever comes then and is given
//! something takes it from nobody who waits: it is guaranteed to it, or out of reach for them.
//! (Promises, which are all or nothing, need a rule of their own: [`crate::promise`].)
//!
//! The queue is bounded. When it is full, all that the process with the most wishes waits for is
//! answered as things are: nobody is turned away because of another that asks for ever more.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use core::time::Duration;

use memtide_units::{Instant, NodeKind, TenantId, TokenId};

use crate::{
    decision::{Asked, Outcome, Rule},
    effect::Effect,
    engine::Engine,
    place::Placed,
    process::Link,
    promise::Ahead,
    tenant::OnDepletion,
    wishes::{Place, Waiting, Wish},
};

/// Who disconnected longer ago than this is not about to end.
pub(crate) const ENDING: Duration = Duration::from_secs(5);

/// Until recovery is over.
pub(crate) const FOREVER: Instant = Instant(Duration::MAX);

/// What came of trying a wish.
enum Tried {
    Placed(Placed),
    Promised,
    Nothing(Vec<Rule>),
}

impl Engine {
    /// A process that is connected wants something: it gets it now, or waits for its answer.
    pub(crate) fn ask(&mut self, token: TokenId, wish: Wish) {
        let earlier = self.queue.of.get(&(token, wish.line())).map(|all| all.len() as u64);
        let awaited = self.awaiting() as u64;
        match (&self.recovery, earlier) {
            (Some(_), _) => {
                return self.wait(token, wish, FOREVER, alloc::vec![Rule::Recovery { awaited }]);
            }
            (None, Some(wishes)) => {
                let until = self.until(token, &wish);
                return self.wait(token, wish, until, alloc::vec![Rule::Earlier { wishes }]);
            }
            _ => {}
        }
        let rules = match self.try_wish(token, &wish, &self.ahead_of(&wish)) {
            Tried::Nothing(rules) => rules,
            tried => return self.answer(token, wish.asked(), tried, Outcome::Refused),
        };
        let until = self.until(token, &wish);
        if self.now < until || self.now < self.patience_end(self.patient_until()) {
            self.wait(token, wish, until, rules);
        } else {
            self.answer(token, wish.asked(), Tried::Nothing(rules), Outcome::Refused);
        }
    }

    /// Puts a wish at the end of its process's.
    fn wait(&mut self, token: TokenId, wish: Wish, until: Instant, rules: Vec<Rule>) {
        let patient_until = self.patient_until();
        let outcome = Outcome::Waits(until.max(patient_until));
        self.decide(token, wish.asked(), outcome, rules);
        self.queue.push(token, wish, until, patient_until);
        if self.queue.count > self.limits.leases_queued_max as usize {
            let mut greed: BTreeMap<TokenId, usize> = BTreeMap::new();
            for (&(of, _), wishes) in &self.queue.of {
                *greed.entry(of).or_default() += wishes.len();
            }
            let greed = greed.into_iter().map(|(of, wishes)| (wishes, of == token, of));
            let (_, _, greedy) = greed.max().expect("a wish has just been entered");
            while let Some(place) = self.queue.oldest_of(greedy) {
                self.answer_head(place);
            }
        }
    }

    /// Answers the first wish of a line as things are.
    fn answer_head(&mut self, place: Place) {
        let (token, _) = place;
        let Waiting { wish, .. } = self.queue.pop(place);
        let tried = match self.recovery {
            Some(_) => Tried::Nothing(Vec::new()),
            None => self.try_wish(token, &wish, &self.ahead_of(&wish)),
        };
        self.answer(token, wish.asked(), tried, Outcome::TimedOut);
    }

    /// Gives a process what it wants, as far as there is something to give.
    fn try_wish(&mut self, token: TokenId, wish: &Wish, ahead: &Ahead) -> Tried {
        match wish {
            Wish::Lease(count, after, route) => {
                let placed = self.place(token, u64::from(*count), *after, route);
                if placed.count > 0 { Tried::Placed(placed) } else { Tried::Nothing(placed.rules) }
            }
            Wish::Promise(by) => match self.can_promise(token, *by, ahead) {
                Ok(()) => {
                    self.recount(token, |process| process.committed += by);
                    Tried::Promised
                }
                Err(rule) => Tried::Nothing(alloc::vec![rule]),
            },
        }
    }

    /// Tells a process what became of its wish, and notes it.
    fn answer(&mut self, token: TokenId, asked: Asked, tried: Tried, refused: Outcome) {
        let Link::Connected(member) = self.process(token).link else {
            unreachable!("who disconnects wants nothing any more")
        };
        let promised = matches!(tried, Tried::Promised);
        let (outcome, rules, extents, elsewhere) = match tried {
            Tried::Placed(Placed { shares, count, beyond, emergency, rules, extents }) => {
                let outcome = match (emergency, beyond) {
                    (0, 0) => Outcome::Placed(shares),
                    (0, _) => Outcome::FellBack(shares),
                    _ => Outcome::Emergency(shares),
                };
                (outcome, rules, extents, (beyond, count))
            }
            Tried::Promised => (Outcome::Promised, Vec::new(), Vec::new(), (0, 0)),
            Tried::Nothing(rules) => (refused, rules, Vec::new(), (0, 0)),
        };
        let (beyond, count) = elsewhere;
        self.note_answer(token, asked, (count, beyond), &rules);
        self.decide(token, asked, outcome, rules);
        let tenant = self.tenant_of(token);
        let ordinary = match asked {
            Asked::Lease(asked) if self.falls_back(tenant) => asked - count,
            _ => 0,
        };
        self.tenant_mut(tenant).fell_back += beyond + ordinary;
        self.out.replies.push(match asked {
            Asked::Lease(_) => Effect::Grant { member, extents },
            Asked::Promise(_) => Effect::Promise { member, granted: promised },
        });
    }

    /// Until when a wish waits from now on because its tenant says so; now, if it does not.
    fn until(&self, token: TokenId, wish: &Wish) -> Instant {
        let tenant = self.tenant_of(token);
        let possible = match wish {
            Wish::Lease(_, _, route) => self.legs(tenant, route).any(|node| {
                let quota = self.tenant(tenant).config.quota(self.pool.nodes()[node].kind);
                quota.access == crate::tenant::Access::Allowed && quota.max != Some(0)
            }),
            Wish::Promise(by) => self.could_promise(token, *by),
        };
        match self.tenant(tenant).config.on_depletion {
            OnDepletion::Wait(most) | OnDepletion::Reclaim(most) if possible => {
                self.now.after(most)
            }
            _ => self.now,
        }
    }

    fn patient_until(&self) -> Instant {
        self.now.after(self.limits.patience)
    }

    /// Until when a wish may wait whose patience ends then: no longer than memory is on its way
    /// back.
    fn patience_end(&self, patient_until: Instant) -> Instant {
        if !self.zeroing.is_empty() {
            return patient_until;
        }
        let ending = self.ending.last().map(|&(left_at, _)| left_at.after(ENDING));
        ending.map_or(Instant::default(), |end| end.min(patient_until))
    }

    /// When the first wish that waits is to be answered whatever happens.
    pub(crate) fn queue_deadline(&self) -> Option<Instant> {
        let heads = self.queue.heads().map(|(_, head)| self.deadline(head));
        heads.filter(|&at| at < FOREVER).min()
    }

    fn deadline(&self, head: &Waiting) -> Instant {
        head.until.max(self.patience_end(head.patient_until))
    }

    /// Recovery is over: what waited for that waits for memory now.
    pub(crate) fn start_waiting(&mut self) {
        let all: Vec<_> = self.queue.of.keys().copied().collect();
        for place in all {
            let mut waiting = self.queue.of.remove(&place).expect("just seen");
            for one in waiting.iter_mut().filter(|one| one.until == FOREVER) {
                one.until = self.until(place.0, &one.wish);
                one.patient_until = self.patient_until();
            }
            self.queue.of.insert(place, waiting);
        }
    }

    /// Gives those who wait what there is, and answers those who have waited long enough.
    pub(crate) fn serve_queue(&mut self) {
        loop {
            while self.serve_heads() {}
            let due = self.queue.heads().filter(|(_, head)| self.deadline(head) <= self.now);
            // In the order in which they were asked for.
            let due: BTreeMap<_, _> = due.map(|(place, head)| (head.number, place)).collect();
            if due.is_empty() {
                return;
            }
            due.into_values().for_each(|place| self.answer_head(place));
        }
    }

    /// Tries every head once, the fairest first; says whether any got something. Then another may
    /// get something that got nothing: who has what it was promised outside the placement leaves
    /// more of the placement to others.
    fn serve_heads(&mut self) -> bool {
        let mut any = false;
        let mut ready: BTreeMap<TenantId, BTreeSet<(u64, Place)>> = BTreeMap::new();
        if self.recovery.is_some() {
            return any;
        }
        for (place, head) in self.queue.heads() {
            ready.entry(self.tenant_of(place.0)).or_default().insert((head.number, place));
        }
        let mut ahead = Ahead::default();
        while let Some(tenant) = self.fairest(ready.keys().copied()) {
            let all = ready.get_mut(&tenant).expect("one of its keys");
            let Some((_, place)) = all.pop_first() else {
                ready.remove(&tenant);
                continue;
            };
            let ((token, _), wish) = (place, self.queue.of[&place][0].wish.clone());
            let tried = self.try_wish(token, &wish, &ahead);
            if let Tried::Nothing(rules) = tried {
                ahead.add(tenant, &wish, &rules);
                continue;
            }
            self.queue.pop(place);
            any = true;
            self.answer(token, wish.asked(), tried, Outcome::Refused);
            if let Some(next) = self.queue.of.get(&place) {
                all.insert((next[0].number, place));
            }
        }
        any
    }

    /// Who of these is charged for least in proportion to its weight.
    fn fairest(&self, all: impl Iterator<Item = TenantId>) -> Option<TenantId> {
        all.min_by(|&one, &other| {
            let load = |id: TenantId| u128::from(self.tenant(id).used_in_all());
            let weight = |id: TenantId| u128::from(self.tenant(id).config.weight);
            (load(one) * weight(other)).cmp(&(load(other) * weight(one)))
        })
    }

    /// What a wish has to stay behind that is tried out of turn: a lease, nothing.
    fn ahead_of(&self, wish: &Wish) -> Ahead {
        match wish {
            Wish::Lease(..) => Ahead::default(),
            Wish::Promise(_) => self.ahead(),
        }
    }

    /// The promises that wait, as they concern one that is asked for now.
    pub(crate) fn ahead(&self) -> Ahead {
        let mut ahead = Ahead::default();
        for ((token, _), head) in self.queue.heads() {
            if let Wish::Promise(by) = head.wish
                && let Err(rule) = self.can_promise(token, by, &Ahead::default())
            {
                ahead.add(self.tenant_of(token), &head.wish, &[rule]);
            }
        }
        ahead
    }

    /// Pageblocks that those lack who wait with [`OnDepletion::Reclaim`], by the kind of node where
    /// their policies begin, as far as their tenants may have it: what idle memory is moved away
    /// for.
    #[must_use]
    pub fn shortage(&self) -> BTreeMap<NodeKind, u64> {
        self.lacking().into_iter().map(|(kind, (count, _))| (kind, count)).collect()
    }

    /// The same, with the first of the tenants that lack it.
    pub(crate) fn lacking(&self) -> BTreeMap<NodeKind, (u64, TenantId)> {
        let mut lacking: BTreeMap<(TenantId, NodeKind), u64> = BTreeMap::new();
        for ((token, _), head) in self.queue.heads() {
            let tenant = self.tenant_of(token);
            let reclaims =
                matches!(self.tenant(tenant).config.on_depletion, OnDepletion::Reclaim(_));
            if let Wish::Lease(count, _, route) = &head.wish
                && reclaims
                && let Some(&first) = self.as_now(route).nodes.first()
            {
                let kind = self.pool.nodes()[first].kind;
                *lacking.entry((tenant, kind)).or_default() += u64::from(*count);
            }
        }
        let mut shortage = BTreeMap::new();
        for ((id, kind), count) in lacking {
            let tenant = self.tenant(id);
            let quota = tenant.config.quota(kind);
            let left =
                quota.max.map_or(u64::MAX, |max| max.saturating_sub(tenant.used[kind as usize]));
            if left > 0 && quota.access == crate::tenant::Access::Allowed {
                shortage.entry(kind).or_insert((0, id)).0 += count.min(left);
            }
        }
        shortage
    }
}
