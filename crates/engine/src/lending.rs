//! Leases: out of the pool, and back into it.
//!
//! What a process releases, or leaves behind, is not free at once: the store zeroes it first
//! ([`crate::Effect::Zero`]), so that nothing of one image is ever seen by another. If it was
//! ordered to move, the order is answered first, too.

use alloc::{collections::BTreeSet, vec::Vec};

use memtide_units::{Extent, ImageId, MemberId, MoveId, Pageblock, TokenId};

use crate::{
    engine::Engine,
    lease::{End, Lease, Residue, Share},
    mempolicy::MemPolicy,
    refusal::Refusal,
    wishes::Wish,
};

impl Engine {
    pub(crate) fn lease(
        &mut self,
        member: MemberId,
        count: u32,
        after: Option<Pageblock>,
        policy: Option<MemPolicy>,
    ) -> Result<(), Refusal> {
        let token = self.connected(member)?;
        if count == 0 {
            return Err(Refusal::NoPageblocks);
        }
        if let Some(pageblock) = after
            && self.pool.node_of(pageblock).is_none()
        {
            return Err(Refusal::NoSuchPageblock { pageblock });
        }
        let route = match policy {
            Some(policy) => self.route(policy)?,
            None => self.process(token).route.clone(),
        };
        self.ask(token, Wish::Lease(count, after, route));
        Ok(())
    }

    /// Enters a lease of a pageblock that has been taken from the pool.
    pub(crate) fn add_lease(&mut self, pageblock: Pageblock, token: TokenId, share: Share) {
        let image = self.process(token).image;
        self.recount(token, |process| {
            process.held.insert(pageblock);
            process.owned += 1;
        });
        self.charge_to(image, pageblock);
        let before = self.leases.insert(pageblock, Lease::new(image, token, share, self.now));
        assert!(before.is_none(), "{pageblock} has two owners");
        self.touch(pageblock);
    }

    pub(crate) fn release(&mut self, member: MemberId, extents: &[Extent]) -> Result<(), Refusal> {
        let token = self.connected(member)?;
        let pageblocks = self.check_held(member, token, extents)?;
        for &pageblock in &pageblocks {
            let flight = self.leases[&pageblock].flight;
            if let Some(flight) = flight.filter(|flight| flight.end == End::Destination) {
                return Err(Refusal::InFlight { pageblock, order: flight.order });
            }
        }
        for pageblock in pageblocks {
            self.drop_stake(pageblock, token);
        }
        Ok(())
    }

    /// Has a pageblock zeroed that nobody holds any more.
    pub(crate) fn zero(&mut self, pageblock: Pageblock, image: ImageId, order: Option<MoveId>) {
        self.zeroing.insert(pageblock, Residue { image, zeroed: false, order });
        self.count_zeroing(image, pageblock, 1);
        self.out.zero.entry(image).or_default().push(pageblock);
    }

    /// What is being zeroed after an image changed.
    pub(crate) fn count_zeroing(&mut self, image: ImageId, pageblock: Pageblock, by: i64) {
        let part = self.part_of(pageblock);
        self.sums.note_zeroing(self.images[&image].tenant, part, by);
    }

    pub(crate) fn zeroed(&mut self, image: ImageId, extents: &[Extent]) -> Result<(), Refusal> {
        let mut pageblocks = self.pool.check(extents, &mut BTreeSet::new())?;
        let (mut void, zeros) = (Vec::new(), &self.void_zeros);
        pageblocks.retain(|pageblock| {
            let lost = zeros.get(pageblock) == Some(&image);
            void.extend(lost.then_some(*pageblock));
            !lost
        });
        let other = |pageblock: &&Pageblock| {
            let residue = self.zeroing.get(pageblock);
            residue.is_none_or(|residue| residue.image != image || residue.zeroed)
        };
        if let Some(&pageblock) = pageblocks.iter().find(other) {
            return Err(Refusal::NotZeroing { image, pageblock });
        }
        for pageblock in void {
            self.void_zeros.remove(&pageblock);
        }
        for pageblock in pageblocks {
            self.change_residue(pageblock, |residue| residue.zeroed = true);
        }
        Ok(())
    }

    /// Frees what is left of a lease once nothing speaks against it.
    pub(crate) fn change_residue(&mut self, pageblock: Pageblock, by: impl Fn(&mut Residue)) {
        let residue = self.zeroing.get_mut(&pageblock).expect("the caller found it");
        by(residue);
        let Residue { image, zeroed: true, order: None } = *residue else { return };
        self.zeroing.remove(&pageblock);
        self.count_zeroing(image, pageblock, -1);
        self.pool.put(pageblock);
        self.touch(pageblock);
        self.uncharge(image, pageblock);
        self.end_image_if_empty(image);
    }

    /// The pageblocks leased in a range of numbers.
    pub(crate) fn leased_in(
        &self,
        span: core::ops::Range<Pageblock>,
    ) -> impl Iterator<Item = (Pageblock, &Lease)> {
        self.leases.range(span).map(|(&pageblock, lease)| (pageblock, lease))
    }

    /// The owners of the leased pageblocks in a range of numbers that can be moved.
    pub(crate) fn movable_in(
        &self,
        span: core::ops::Range<Pageblock>,
    ) -> Vec<(Pageblock, TokenId)> {
        let all = self.leased_in(span);
        let movable =
            all.filter(|(_, lease)| self.standing(lease) == crate::lease::Standing::Movable);
        movable.map(|(pageblock, lease)| (pageblock, lease.owner.token)).collect()
    }
}
