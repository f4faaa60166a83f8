//! Hints after the fact: what a program has already goes where a policy says.
//!
//! As mbind(2) with `MPOL_MF_MOVE` has it: of what is named, that lies wrong which is on a node
//! that the policy does not name, and it goes to the first of them that has room. (For the local
//! policy that is the local node, for the preferred one the preferred node: fallbacks are for what
//! is new.) What cannot move stays, and the report says who holds it; where `MPOL_MF_STRICT` would
//! make that `EIO`, here it is for the caller to say. The policy is not kept: what the program
//! leases later goes where its own policy says. But where what is named should have been before
//! counts no more, moved or not: balance ([`crate::rebalance`]) does not bring it back.

use alloc::{collections::BTreeSet, vec::Vec};
use core::time::Duration;

use memtide_units::{Extent, MemberId, Pageblock, RequestId, TokenId};

use crate::{
    engine::Engine,
    mempolicy::{MemPolicy, Mode},
    place::Route,
    refusal::Refusal,
    request::{Aim, Request},
};

/// One process has no more than one in so many of the hints that there may be.
const HINTS_SHARE: u32 = 4;

impl Engine {
    pub(crate) fn mbind(
        &mut self,
        request: RequestId,
        member: MemberId,
        extents: &[Extent],
        policy: MemPolicy,
        deadline: Duration,
    ) -> Result<(), Refusal> {
        let token = self.connected(member)?;
        let named = self.check_held(member, token, extents)?;
        let to = self.nodes_named(&self.as_now(&*self.route(policy)?));
        let lies_wrong = |pageblock: &Pageblock| !to.contains(&self.pool.block_of(*pageblock).node);
        let only: BTreeSet<_> = if to.is_empty() {
            BTreeSet::new()
        } else {
            named.iter().copied().filter(lies_wrong).collect()
        };
        let wanted = only.len() as u64;
        let aim = Aim::MoveTo { token, to, only: Some(only) };
        self.open_request(request, Request::new(aim, wanted, self.now.after(deadline)))?;
        self.set_home(named, None);
        Ok(())
    }

    /// The nodes where what lies under a policy lies right.
    fn nodes_named(&self, route: &Route) -> Vec<usize> {
        let nodes = route.nodes.iter().copied();
        let id = |node: usize| self.pool.nodes()[node].id;
        match &route.policy.mode {
            Mode::Local | Mode::AccessedBy(_) => nodes.take(1).collect(),
            Mode::Preferred(one) => nodes.filter(|&node| id(node) == *one).collect(),
            Mode::PreferredMany(mask) => nodes.filter(|&node| mask.contains(id(node))).collect(),
            Mode::Bind(_) | Mode::Interleave(_) | Mode::WeightedInterleave(_) => nodes.collect(),
        }
    }

    /// Whether there may be one more request, of an operator or as a hint of a process.
    pub(crate) fn check_count(&self, hint_of: Option<TokenId>) -> Result<(), Refusal> {
        let most = self.limits.requests_max;
        let (count, requests) = match hint_of {
            None => (self.requests_where(|of| of.is_none()), most),
            Some(token) => {
                let of_it = self.requests_where(|of| of == Some(token));
                let of_one = most.div_ceil(HINTS_SHARE);
                if of_it >= of_one as usize {
                    (of_it, of_one)
                } else {
                    (self.requests_where(|of| of.is_some()), most)
                }
            }
        };
        if count >= requests as usize {
            return Err(Refusal::TooManyRequests { requests });
        }
        Ok(())
    }

    /// How many requests there are of such programs, or of operators.
    fn requests_where(&self, of: impl Fn(Option<TokenId>) -> bool) -> usize {
        self.requests.values().filter(|request| of(request.aim.hint_of())).count()
    }
}
