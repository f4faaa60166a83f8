//! Effects on their way out.
//!
//! What one input brings about is gathered by kind, so that pageblocks of one kind for one
//! receiver leave as one effect with merged extents, and the order does not depend on how the
//! engine came to it: answers to a process, orders to it, work for the store, news for operators.

use alloc::{collections::BTreeMap, vec::Vec};

use memtide_units::{ByteSize, ImageId, MemberId, Pageblock, RequestId, TokenId};

use crate::{
    effect::{Effect, Report},
    pool::Pool,
};

/// Effects of one input.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Outbox {
    /// [`Effect::Grant`] and [`Effect::Promise`], in the order of the answers.
    pub(crate) replies: Vec<Effect>,
    pub(crate) thaw: BTreeMap<MemberId, Vec<Pageblock>>,
    /// [`Effect::Move`], in the order of their names.
    pub(crate) moves: Vec<Effect>,
    pub(crate) zero: BTreeMap<ImageId, Vec<Pageblock>>,
    pub(crate) offlined: BTreeMap<usize, Vec<Pageblock>>,
    pub(crate) onlined: BTreeMap<usize, Vec<Pageblock>>,
    pub(crate) forgotten: Vec<TokenId>,
    pub(crate) images_gone: Vec<ImageId>,
    pub(crate) progress: Vec<(RequestId, ByteSize, ByteSize)>,
    pub(crate) answers: Vec<(RequestId, Report)>,
}

impl Outbox {
    pub(crate) fn into_effects(self, pool: &Pool) -> Vec<Effect> {
        let mut effects = self.replies;
        let thaw = |(member, all)| Effect::Thaw { member, extents: pool.extents(all) };
        effects.extend(self.thaw.into_iter().map(thaw));
        effects.extend(self.moves);
        let zero = |(image, all)| Effect::Zero { image, extents: pool.extents(all) };
        effects.extend(self.zero.into_iter().map(zero));
        let id = |node: usize| pool.nodes()[node].id;
        let offlined =
            |(node, all)| Effect::Offlined { node: id(node), extents: pool.extents(all) };
        effects.extend(self.offlined.into_iter().map(offlined));
        let onlined = |(node, all)| Effect::Onlined { node: id(node), extents: pool.extents(all) };
        effects.extend(self.onlined.into_iter().map(onlined));
        effects.extend(self.forgotten.into_iter().map(|token| Effect::ForgetToken { token }));
        effects.extend(self.images_gone.into_iter().map(|image| Effect::ImageGone { image }));
        let progress = |(request, done, of)| Effect::Progress { request, done, of };
        effects.extend(self.progress.into_iter().map(progress));
        let answer = |(request, report)| Effect::Answer { request, report };
        effects.extend(self.answers.into_iter().map(answer));
        effects
    }
}
