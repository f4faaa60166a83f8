//! These very blocks come, and go.

use core::time::Duration;

use memtide_units::{Extent, RequestId};

use crate::{engine::Engine, refusal::Refusal};

impl Engine {
    pub(crate) fn online_extents(&mut self, _extents: &[Extent]) -> Result<(), Refusal> {
        Err(Refusal::NoBytes)
    }

    pub(crate) fn give_back_extents(
        &mut self,
        _request: RequestId,
        _extents: &[Extent],
        _deadline: Duration,
    ) -> Result<(), Refusal> {
        Err(Refusal::NoBytes)
    }
}
