//! What keeps leases in place.
//!
//! A pin has a reason. Most reasons are facts: the kernel or a device may write to the memory at
//! any time, and whoever says so is believed, for nothing that is said changes it. Two are asked
//! for: that memory is never moved, and that it is pinned for long. Those may be refused: a tenant
//! may have so much of a kind of node pinned when it asks, facts included; the owner of a private
//! node must permit long pins; and nothing in MOVABLE or EXMEM, nor on its way there, is pinned on
//! request, for that those can be emptied is promised. (The kernel has the same rule in
//! `folio_is_longterm_pinnable`, and moves the folio elsewhere first,
//! `check_and_migrate_movable_folios`. A lease's pageblocks have their numbers known to its
//! program, so it is told instead, and can ask to have them moved: [`crate::Input::Mbind`].) Of the
//! quota only what was asked for already may be asked for again beyond the limit: a fact comes to
//! an end, and what was asked for because of it stays.

use alloc::{collections::BTreeMap, vec, vec::Vec};

use memtide_units::{Extent, HoldReason, MemberId, NodeKind, Pageblock, TokenId};

use crate::{
    engine::Engine,
    lease::Pins,
    nodes::{Capability, NodeClass},
    quota::PerKind,
    refusal::Refusal,
};

/// The reasons that may be refused.
const ASKED_FOR: [HoldReason; 2] = [HoldReason::LongTermPin, HoldReason::NoMigration];

/// Whether a program may give this reason: who shares what after a fork the engine knows itself.
const fn is_given(reason: HoldReason) -> bool {
    reason.is_pin() && !matches!(reason, HoldReason::SharedWithChild | HoldReason::Inherited)
}

/// Whether some of these were asked for.
pub(crate) fn is_asked_for(pins: Pins) -> bool {
    ASKED_FOR.into_iter().any(|reason| pins.has(reason))
}

impl Engine {
    pub(crate) fn pin(
        &mut self,
        member: MemberId,
        extents: &[Extent],
        reason: HoldReason,
    ) -> Result<(), Refusal> {
        if !is_given(reason) {
            return Err(Refusal::NotAPin { reason });
        }
        let token = self.connected(member)?;
        let pageblocks = self.check_held(member, token, extents)?;
        if reason == HoldReason::LongTermPin {
            self.check_permission(&pageblocks)?;
        }
        if ASKED_FOR.contains(&reason) {
            self.check_zones(&pageblocks)?;
            self.check_limit(token, &pageblocks)?;
        }
        self.change_pins(token, pageblocks, |pins| pins.insert(reason));
        Ok(())
    }

    pub(crate) fn unpin(
        &mut self,
        member: MemberId,
        extents: &[Extent],
        reason: HoldReason,
    ) -> Result<(), Refusal> {
        if !is_given(reason) {
            return Err(Refusal::NotAPin { reason });
        }
        let token = self.connected(member)?;
        let pageblocks = self.check_held(member, token, extents)?;
        self.change_pins(token, pageblocks, |pins| pins.remove(reason));
        Ok(())
    }

    fn change_pins(
        &mut self,
        token: TokenId,
        pageblocks: Vec<Pageblock>,
        change: impl Fn(&mut Pins),
    ) {
        for pageblock in pageblocks {
            let lease = self.leases.get_mut(&pageblock).expect("held pageblocks are leased");
            change(&mut lease.stake_mut(token).expect("holders have a stake").pins);
            self.touch(pageblock);
        }
    }

    /// Whether the owners of private nodes permit long pins of these.
    fn check_permission(&self, pageblocks: &[Pageblock]) -> Result<(), Refusal> {
        for &pageblock in pageblocks {
            let node = self.pool.nodes()[self.pool.block_of(pageblock).node].id;
            let class = self.zonelists.class(node);
            if let Some(NodeClass::Private(permitted)) = class
                && !permitted.has(Capability::LongTermPin)
            {
                return Err(Refusal::PinNotPermitted { pageblock, node });
            }
        }
        Ok(())
    }

    /// Whether these lie, and will lie, where it may be asked that they stay.
    fn check_zones(&self, pageblocks: &[Pageblock]) -> Result<(), Refusal> {
        let promised = |&at: &Pageblock| {
            let ends = [Some(at), self.destination_of(at)].into_iter().flatten();
            let mut ends = ends.map(|end| self.pool.block_of(end));
            ends.find(|&end| self.pool.zone(end).is_movable_only())
        };
        let mut all = pageblocks.iter().filter_map(|at| Some((*at, promised(at)?)));
        let Some((pageblock, end)) = all.next() else { return Ok(()) };
        let (by, of) = (1 + all.count() as u64, pageblocks.len() as u64);
        let (node, zone) = (self.pool.nodes()[end.node].id, self.pool.zone(end));
        Err(Refusal::PinInZone { pageblock, node, zone, by, of })
    }

    /// Where a pageblock is ordered to move.
    fn destination_of(&self, pageblock: Pageblock) -> Option<Pageblock> {
        let flight = self.leases[&pageblock].flight?;
        let mut pairs = self.orders[&flight.order].open().iter();
        pairs.find(|pair| pair.from == pageblock).map(|pair| pair.to)
    }

    /// Whether a process's tenant may have these pinned, too.
    fn check_limit(&self, token: TokenId, pageblocks: &[Pageblock]) -> Result<(), Refusal> {
        let tenant = self.tenant_of(token);
        let config = &self.tenant(tenant).config;
        if NodeKind::ALL.into_iter().all(|kind| config.quota(kind).pinned_max.is_none()) {
            return Ok(());
        }
        // What is asked for anew, and what of it is not pinned yet.
        let mut more: BTreeMap<NodeKind, (u64, u64)> = BTreeMap::new();
        for &pageblock in pageblocks {
            let lease = &self.leases[&pageblock];
            let mut stakes = lease.stakes();
            if stakes.any(|stake| is_asked_for(stake.pins)) {
                continue;
            }
            let (by, new) = more.entry(self.kind_of(pageblock)).or_default();
            *by += 1;
            *new += u64::from(lease.pinned().is_none());
        }
        let pinned = self.pinned_by_tenant()[usize::from(tenant.0)];
        for (kind, (by, new)) in more {
            let pinned = pinned[kind as usize] + new;
            if let Some(max) = config.quota(kind).pinned_max.filter(|&max| pinned > max) {
                return Err(Refusal::PinLimit { tenant, kind, by, pinned, max });
            }
        }
        Ok(())
    }

    /// What every tenant has pinned, for whatever reason. Counted each time: it is seldom asked.
    pub(crate) fn pinned_by_tenant(&self) -> Vec<PerKind> {
        let mut pinned = vec![PerKind::default(); self.tenants.len()];
        for (&pageblock, lease) in self.leases.iter().filter(|(_, l)| l.pinned().is_some()) {
            let tenant = usize::from(self.images[&lease.image].tenant.0);
            pinned[tenant][self.kind_of(pageblock) as usize] += 1;
        }
        pinned
    }
}
