//! Effects on their way out.
//!
//! What one input brings about is gathered by kind, so that pageblocks of one kind for one
//! receiver leave as one effect with merged extents, and the order does not depend on how the
//! engine came to it: answers to a process, orders to it, work for the store, news for operators.

use alloc::{collections::BTreeMap, vec::Vec};

use memtide_units::{ByteSize, ImageId, MemberId, Pageblock, RequestId, TokenId};

use crate::{
    device::Ask,
    effect::{Effect, Report},
    loss::Loss,
    pool::Pool,
};

/// Effects of one input.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Outbox {
    /// [`Effect::Grant`] and [`Effect::Promise`], in the order of the answers.
    pub(crate) replies: Vec<Effect>,
    /// [`Effect::Poisoned`] and [`Effect::Lost`].
    pub(crate) losses: BTreeMap<(Loss, MemberId), Vec<Pageblock>>,
    pub(crate) thaw: BTreeMap<MemberId, Vec<Pageblock>>,
    /// [`Effect::Move`], in the order of their names.
    pub(crate) moves: Vec<Effect>,
    pub(crate) zero: BTreeMap<ImageId, Vec<Pageblock>>,
    pub(crate) offlined: BTreeMap<usize, Vec<Pageblock>>,
    pub(crate) onlined: BTreeMap<usize, Vec<Pageblock>>,
    /// What drivers are asked, by node.
    pub(crate) drivers: Vec<(usize, Ask)>,
    pub(crate) forgotten: Vec<TokenId>,
    pub(crate) images_gone: Vec<ImageId>,
    pub(crate) progress: Vec<(RequestId, ByteSize, ByteSize)>,
    pub(crate) answers: Vec<(RequestId, Report)>,
}

impl Outbox {
    pub(crate) fn into_effects(self, pool: &Pool) -> Vec<Effect> {
        let mut effects = Vec::new();
        let id = |node: usize| pool.nodes()[node].id;
        // What came may be handed out, or leave again, at once.
        let onlined = |(node, all)| Effect::Onlined { node: id(node), extents: pool.extents(all) };
        effects.extend(self.onlined.into_iter().map(onlined));
        effects.extend(self.replies);
        let loss = |((loss, member), all)| {
            let extents = pool.extents(all);
            match loss {
                Loss::Poisoned => Effect::Poisoned { member, extents },
                Loss::Gone => Effect::Lost { member, extents },
            }
        };
        effects.extend(self.losses.into_iter().map(loss));
        let thaw = |(member, all)| Effect::Thaw { member, extents: pool.extents(all) };
        effects.extend(self.thaw.into_iter().map(thaw));
        effects.extend(self.moves);
        let zero = |(image, all)| Effect::Zero { image, extents: pool.extents(all) };
        effects.extend(self.zero.into_iter().map(zero));
        let offlined =
            |(node, all)| Effect::Offlined { node: id(node), extents: pool.extents(all) };
        effects.extend(self.offlined.into_iter().map(offlined));
        let driver = |(node, ask)| match ask {
            Ask::Save => Effect::SaveDevice { node: id(node) },
            Ask::Restore => Effect::RestoreDevice { node: id(node) },
        };
        effects.extend(self.drivers.into_iter().map(driver));
        effects.extend(self.forgotten.into_iter().map(|token| Effect::ForgetToken { token }));
        effects.extend(self.images_gone.into_iter().map(|image| Effect::ImageGone { image }));
        let progress = |(request, done, of)| Effect::Progress { request, done, of };
        effects.extend(self.progress.into_iter().map(progress));
        let answer = |(request, report)| Effect::Answer { request, report };
        effects.extend(self.answers.into_iter().map(answer));
        effects
    }
}
