//! What processes lose without a word of theirs.
//!
//! A memory error, or a device that goes, ends leases at once: nothing of them can be saved, and
//! nothing is zeroed. The books say so from that moment, but what a process says before it has
//! heard of it still speaks of what it had. So a process keeps the pageblocks that it lost until
//! it says that it has let go of them ([`crate::Input::LetGo`]):
//!
//! ```text
//!          Poison, Lost                                  LetGo, death
//!  leased ─────────────► lost: told, if it is connected ─────────────► nothing
//!                          ▲  │  returns, joins: told again
//!                          └──┘
//! ```
//!
//! * What it says of them meanwhile (that it released, pinned, thawed them) is void, not wrong.
//! * A child that it forks meanwhile maps them too, and is told when it joins.
//! * An order is answered as it was given, pair by pair; see [`crate::moves`].
//! * The store may be zeroing them; what it says of that is void, too.
//!
//! As long as anybody may speak of a pageblock so, its block does not come back: what was said of
//! the old lease would be taken for the new one. (Of a poisoned one nothing comes back anyway.)

use alloc::{collections::BTreeSet, vec::Vec};
use core::ops::Range;

use memtide_units::{Extent, MemberId, Pageblock, TokenId};

use crate::{
    engine::Engine, pageblocks::PageblockState, process::Link, refusal::Refusal, request::WorkId,
};

/// How a pageblock was lost.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Loss {
    /// Its memory is bad.
    Poisoned,
    /// Its memory is not there any more.
    Gone,
}

/// Which pageblocks somebody may speak of as of what they were.
#[derive(Debug)]
pub(crate) enum SpokenOf {
    /// All.
    Any,
    /// No others.
    These(BTreeSet<Pageblock>),
}

impl SpokenOf {
    /// The first of a block that is offline, if there is one.
    pub(crate) fn first_in(&self, span: Range<Pageblock>) -> Option<Pageblock> {
        match self {
            Self::Any => Some(span.start),
            Self::These(all) => all.range(span).next().copied(),
        }
    }
}

impl Engine {
    /// Ends all that there is of a pageblock that is in use. It stays taken: the caller retires it
    /// or puts it back.
    pub(crate) fn end_use(&mut self, pageblock: Pageblock, loss: Loss) {
        if let Some(lease) = self.leases.get(&pageblock) {
            let holders: Vec<_> = lease.stakes().map(|stake| stake.token).collect();
            self.drop_lease(pageblock);
            for token in holders {
                self.unwant_all(token, pageblock);
                self.lose(token, pageblock, loss);
            }
            self.take_back_zero(pageblock);
        } else if let Some(residue) = self.zeroing.get(&pageblock)
            && !residue.zeroed
        {
            self.void_zeros.insert(pageblock, residue.image);
        }
        let residue = self.zeroing.remove(&pageblock).map(|residue| residue.image);
        if let Some(image) = residue {
            self.count_zeroing(image, pageblock, -1);
        }
        let orphans = self.recovery.as_mut().map(|recovery| &mut recovery.orphans);
        let image = residue.or_else(|| orphans?.remove(&pageblock));
        let image = image.expect("what is in use is leased, or waits to be zeroed");
        self.uncharge(image, pageblock);
        self.end_image_if_empty(image);
        self.touch(pageblock);
    }

    /// Does not have zeroed after all what was a lease a moment ago.
    fn take_back_zero(&mut self, pageblock: Pageblock) {
        let image = self.zeroing[&pageblock].image;
        let told = self.out.zero.get_mut(&image).expect("a lease that ends is zeroed");
        assert_eq!(told.pop(), Some(pageblock));
        if told.is_empty() {
            self.out.zero.remove(&image);
        }
    }

    /// Nothing has a pageblock of a process moved any more.
    fn unwant_all(&mut self, token: TokenId, pageblock: Pageblock) {
        let works = self.wanted.range((token, WorkId(0))..=(token, WorkId(u64::MAX)));
        for (_, work) in works.copied().collect::<Vec<_>>() {
            self.unwant(work, token, &[pageblock]);
        }
    }

    /// A process has lost a pageblock, and is told if that is possible.
    pub(crate) fn lose(&mut self, token: TokenId, pageblock: Pageblock, loss: Loss) {
        let process = self.process_mut(token);
        process.lost.insert(pageblock, loss);
        if let Link::Connected(member) = process.link {
            self.out.losses.entry((loss, member)).or_default().push(pageblock);
        }
    }

    /// Tells a process that is connected now what it lost before.
    pub(crate) fn tell_losses(&mut self, token: TokenId) {
        for (pageblock, loss) in self.process(token).lost.clone() {
            self.lose(token, pageblock, loss);
        }
    }

    /// How a process that returns has lost a pageblock that it claims, if it has.
    pub(crate) fn loss_of_claim(&self, pageblock: Pageblock) -> Option<Loss> {
        if self.pool.is_retired(pageblock) {
            return Some(Loss::Poisoned);
        }
        let offline = self.pool.state(pageblock) == Some(PageblockState::Offline);
        offline.then_some(Loss::Gone)
    }

    pub(crate) fn let_go(&mut self, member: MemberId, extents: &[Extent]) -> Result<(), Refusal> {
        let token = self.connected(member)?;
        let pageblocks = self.pool.check(extents, &mut BTreeSet::new())?;
        let lost = &self.process(token).lost;
        if let Some(&pageblock) = pageblocks.iter().find(|pageblock| !lost.contains_key(pageblock))
        {
            return Err(Refusal::NotLost { member, pageblock });
        }
        for pageblock in pageblocks {
            self.process_mut(token).lost.remove(&pageblock);
        }
        Ok(())
    }

    /// What somebody may still speak of as of what it was before it was lost. Whoever is awaited
    /// may speak of any.
    pub(crate) fn spoken_of(&self) -> SpokenOf {
        if self.recovery.is_some() {
            return SpokenOf::Any;
        }
        let lost = self.processes.values().flat_map(|process| process.lost.keys().copied());
        let zeros = self.void_zeros.keys().copied();
        let pairs = self.orders.values().flat_map(|order| order.open());
        let ends = pairs.flat_map(|pair| [pair.from, pair.to]);
        let all = lost.chain(zeros).chain(ends);
        SpokenOf::These(all.filter(|&at| !self.pool.is_retired(at)).collect())
    }

    pub(crate) fn validate_losses(&self) {
        for (token, process) in &self.processes {
            let both = process.lost.keys().find(|&at| process.held.contains(at));
            assert_eq!(both, None, "{token} has lost what it holds");
        }
        assert!(self.void_zeros.keys().all(|at| !self.zeroing.contains_key(at)));
    }
}
