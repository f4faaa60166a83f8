//! Hints after the fact: what a program has goes where a policy says.

use core::time::Duration;

use memtide_units::{Extent, MemberId, RequestId};

use crate::{engine::Engine, refusal::Refusal};

impl Engine {
    pub(crate) fn mbind(
        &mut self,
        _request: RequestId,
        _member: MemberId,
        _extents: &[Extent],
        _policy: crate::mempolicy::MemPolicy,
        _deadline: Duration,
    ) -> Result<(), Refusal> {
        Err(Refusal::NoBytes)
    }
}
