//! The books agree with each other.
//!
//! Most facts of the engine stand in two places, so that each can be found quickly from either
//! side. [`Engine::validate`] recomputes one from the other. It is for tests: it looks at
//! everything.

use alloc::collections::{BTreeMap, BTreeSet};

use memtide_units::{ImageId, Pageblock, TokenId};

use crate::{
    decision::DECISIONS_MAX,
    engine::Engine,
    lease::{End, Flight, Share, Standing},
    migrate_reason::MIGRATIONS_MAX,
    pageblocks::PageblockState,
    pins::is_asked_for,
    process::{Link, Waiting},
    quota::PerKind,
    request::Goal,
    wishes::Wish,
};

impl Engine {
    /// Checks every invariant there is.
    ///
    /// # Panics
    /// When one is broken.
    pub fn validate(&self) {
        self.pool.validate();
        self.validate_pageblocks();
        self.validate_processes();
        self.validate_orders();
        self.validate_requests();
        self.validate_losses();
        self.validate_tenants();
        self.validate_sums();
        self.validate_queue();
        assert_eq!(self.out, crate::outbox::Outbox::default());
        assert!(self.touched.is_empty());
    }

    fn validate_pageblocks(&self) {
        let used: u64 = self.pool.nodes().iter().map(|node| node.frames.counts().used).sum();
        let orphans = self.recovery.as_ref().map(|recovery| &recovery.orphans);
        let zeroing = self.zeroing.iter().map(|(pageblock, residue)| (pageblock, &residue.image));
        let waiting = zeroing.chain(orphans.into_iter().flatten());
        assert_eq!(used, (self.leases.len() + waiting.clone().count()) as u64);
        let mut per_image: BTreeMap<ImageId, u64> = BTreeMap::new();
        for (&pageblock, lease) in &self.leases {
            assert_eq!(self.pool.state(pageblock), Some(PageblockState::Used));
            *per_image.entry(lease.image).or_default() += 1;
            for stake in lease.stakes() {
                let process = self.process(stake.token);
                assert_eq!(process.image, lease.image, "{pageblock} has holders of two images");
                assert!(process.held.contains(&pageblock));
            }
            let zone = self.pool.zone(self.pool.block_of(pageblock));
            assert!(
                !zone.is_movable_only() || !lease.stakes().any(|stake| is_asked_for(stake.pins)),
                "{pageblock} is pinned on request in {zone}"
            );
            assert!(lease.share == Share::Shared || lease.others.is_empty());
            let owner = self.process(lease.owner.token);
            let connected = matches!(owner.link, Link::Connected(_));
            assert!(connected || lease.share != Share::Thawing);
            let told = !connected || lease.flight.is_some() || self.recovery.is_some();
            let alone = lease.share == Share::Shared && lease.others.is_empty();
            assert!(!alone || told, "{pageblock} is one process's alone and not thawed");
            if let Some(flight) = lease.flight {
                let order = self.orders.get(&flight.order).expect("flights belong to orders");
                let in_pair = |end: End| {
                    let of = order.open().iter();
                    of.filter(|pair| match end {
                        End::Source => pair.from == pageblock,
                        End::Destination => pair.to == pageblock,
                    })
                    .count()
                };
                assert_eq!(in_pair(flight.end), 1, "{pageblock} is not in {}", flight.order);
            }
        }
        for (&pageblock, &image) in waiting {
            assert!(!self.leases.contains_key(&pageblock));
            assert_eq!(self.pool.state(pageblock), Some(PageblockState::Used));
            *per_image.entry(image).or_default() += 1;
        }
        for (pageblock, residue) in &self.zeroing {
            assert!(!residue.zeroed || residue.order.is_some(), "{pageblock} should be free");
            if let Some(order) = residue.order {
                assert!(self.orders[&order].open().iter().any(|pair| pair.from == *pageblock));
            }
        }
        for (image, record) in &self.images {
            assert_eq!(per_image.remove(image).unwrap_or(0), record.pageblocks);
            assert!(record.pageblocks + record.processes > 0, "{image} is gone");
        }
        assert!(per_image.is_empty());
    }

    fn validate_processes(&self) {
        let mut per_image: BTreeMap<ImageId, u64> = BTreeMap::new();
        let mut members = 0;
        let mut waiting = 0;
        for (&token, process) in &self.processes {
            *per_image.entry(process.image).or_default() += 1;
            let held = process.held.iter().map(|pageblock| &self.leases[pageblock]);
            let mut owned = 0;
            let mut thawing = 0;
            for lease in held {
                assert!(lease.stakes().any(|stake| stake.token == token));
                if lease.owner.token == token {
                    owned += 1;
                    thawing += u64::from(lease.share == Share::Thawing);
                }
            }
            assert_eq!((owned, thawing), (process.owned, process.thawing), "{token}");
            if let Some(member) = process.member() {
                assert_eq!(self.members.get(&member), Some(&token));
                members += 1;
            }
            let reach = self.reach_in_parts(self.tenant_of(token), &process.route);
            assert_eq!(*process.reach, *reach, "{token}");
            let owes = process.in_flight > 0 || process.thawing > 0;
            assert_eq!(owes, process.waiting != Waiting::No, "{token}");
            if let Waiting::Until(at) = process.waiting {
                assert!(self.waiting.contains(&(at, token)));
                assert!(at > self.now, "{token} has stalled");
                waiting += 1;
            }
        }
        let left = self.processes.iter().filter_map(|(&token, process)| {
            assert!(process.left_at.is_none() || matches!(process.link, Link::Disconnected(_)));
            Some((process.left_at?, token))
        });
        assert_eq!(left.collect::<BTreeSet<_>>(), self.ending);
        assert_eq!(members, self.members.len());
        assert_eq!(waiting, self.waiting.len());
        for (image, record) in &self.images {
            assert_eq!(per_image.remove(image).unwrap_or(0), record.processes);
        }
        assert!(per_image.is_empty());
    }

    fn validate_tenants(&self) {
        let mut used = alloc::vec![PerKind::default(); self.tenants.len()];
        let leased = self.leases.iter().map(|(&pageblock, lease)| (pageblock, lease.image));
        let zeroing = self.zeroing.iter().map(|(&pageblock, residue)| (pageblock, residue.image));
        let orphans = self.recovery.iter().flat_map(|recovery| &recovery.orphans);
        let orphans = orphans.map(|(&pageblock, &image)| (pageblock, image));
        for (pageblock, image) in leased.chain(zeroing).chain(orphans) {
            let tenant = usize::from(self.images[&image].tenant.0);
            used[tenant][self.kind_of(pageblock) as usize] += 1;
        }
        for ((id, tenant), used) in self.tenants().zip(used) {
            assert_eq!(tenant.used, used, "{id} is charged for what it does not have");
            assert!(tenant.decisions.len() <= DECISIONS_MAX);
            assert!(tenant.migrations.len() <= MIGRATIONS_MAX);
            assert!(tenant.migrations.iter().is_sorted_by_key(|migration| migration.at));
        }
    }

    fn validate_queue(&self) {
        let mut count = 0;
        for (&(token, line), all) in &self.queue.of {
            assert!(all.iter().all(|waiting| waiting.wish.line() == line));
            assert!(matches!(self.process(token).link, Link::Connected(_)), "{token} is gone");
            assert!(!all.is_empty() && all.iter().is_sorted_by_key(|waiting| waiting.number));
            count += all.len();
        }
        assert_eq!(count, self.queue.count);
        assert!(count <= self.limits.leases_queued_max as usize);
        if self.recovery.is_some() {
            return;
        }
        for ((token, _), head) in self.queue.heads() {
            let tenant = self.tenant_of(token);
            if let Wish::Lease(_, _, route) = &head.wish {
                let is_kept = |node: usize| {
                    let room = self.room(tenant, node).0;
                    room.min(self.unpromised_on(node, token))
                };
                let room: u64 = self.legs(tenant, route).map(is_kept).sum();
                assert_eq!(room, 0, "{token} waits for what is there");
            }
        }
    }

    fn validate_orders(&self) {
        let mut in_flight: BTreeMap<TokenId, u32> = BTreeMap::new();
        let mut per_work = BTreeMap::new();
        for (&order, record) in &self.orders {
            assert!(!record.open().is_empty());
            assert!(record.pairs.len() <= self.limits.pairs_per_order_max as usize);
            for pair in record.open() {
                *in_flight.entry(record.token).or_default() += 1;
                *per_work.entry(pair.work).or_insert(0u64) += 1;
                let is_lost = |at: Pageblock| {
                    let state = self.pool.state(at);
                    matches!(state, Some(PageblockState::Offline | PageblockState::Retired))
                };
                if let Some(to) = self.leases.get(&pair.to) {
                    assert_eq!(to.flight, Some(Flight { order, end: End::Destination }));
                    assert!(to.stakes().any(|stake| stake.token == record.token));
                } else {
                    assert!(is_lost(pair.to), "{} is nobody's", pair.to);
                }
                if is_lost(pair.from) {
                    continue;
                }
                let from = self.leases.get(&pair.from).and_then(|lease| lease.flight);
                let residue = self.zeroing.get(&pair.from).and_then(|residue| residue.order);
                let kept = from.map(|flight| flight.order).or(residue);
                assert_eq!(kept, Some(order), "{} may be leased again", pair.from);
            }
        }
        for (token, process) in &self.processes {
            assert_eq!(in_flight.remove(token).unwrap_or(0), process.in_flight);
            assert!(process.in_flight <= self.limits.pairs_in_flight_max);
        }
        assert!(in_flight.is_empty(), "orders of processes that are gone");
        for (id, work) in &self.works {
            assert_eq!(per_work.remove(id).unwrap_or(0), work.in_flight);
        }
    }

    fn validate_requests(&self) {
        for (id, request) in &self.requests {
            assert!(request.done < request.wanted, "{id} should have been answered");
            assert!(request.deadline > self.now, "{id} is overdue");
            assert_eq!(request.told, request.done);
            assert!(request.works.iter().all(|work| self.works[work].request == Some(*id)));
            let works = request.works.iter().map(|work| self.works[work].goal);
            let emptying = works.map(|goal| match goal {
                Goal::Empty(block) => self.pool.block_pageblocks(block),
                Goal::Fill(_) => 0,
            });
            assert_eq!(emptying.sum::<u64>(), request.emptying);
            assert!(request.done + request.emptying <= request.wanted);
        }
        let works: usize = self.requests.values().map(|request| request.works.len()).sum();
        assert_eq!(works + self.balance.works.len(), self.works.len());
        assert!(self.balance.works.keys().all(|work| self.works[work].request.is_none()));
        let wanted = self.works.iter().flat_map(|(&id, work)| {
            assert!(work.todo.values().all(|todo| !todo.is_empty()));
            work.todo.keys().map(move |&token| (token, id))
        });
        assert_eq!(wanted.collect::<BTreeSet<_>>(), self.wanted);
        let isolated: u64 =
            self.pool.nodes().iter().map(|node| node.frames.counts().isolated).sum();
        assert!(isolated == 0 || !self.emptying.is_empty());
        for (&block, work) in &self.emptying {
            assert_eq!(self.works[work].goal, Goal::Empty(block));
            assert!(self.pool.block_used(block) > 0, "an empty block has not left");
            for (pageblock, lease) in self.leased_in(self.pool.span(block)) {
                let todo = self.works[work].todo.get(&lease.owner.token);
                let listed = todo.is_some_and(|todo| todo.contains(&pageblock));
                match self.standing(lease) {
                    Standing::Movable => assert!(listed, "{pageblock} is forgotten"),
                    Standing::Leaving => {}
                    standing => panic!("{pageblock} keeps an isolated block: {standing:?}"),
                }
            }
        }
    }
}
