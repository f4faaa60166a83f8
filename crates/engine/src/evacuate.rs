//! All of a node leaves, the state of its device first.

use core::time::Duration;

use memtide_units::{NodeId, RequestId};

use crate::{engine::Engine, refusal::Refusal};

impl Engine {
    pub(crate) fn evacuate(
        &mut self,
        _request: RequestId,
        _node: NodeId,
        _deadline: Duration,
    ) -> Result<(), Refusal> {
        Err(Refusal::NoBytes)
    }

    pub(crate) fn device_saved(&mut self, _node: NodeId) -> Result<(), Refusal> {
        Err(Refusal::NoBytes)
    }

    pub(crate) fn device_restored(&mut self, _node: NodeId) -> Result<(), Refusal> {
        Err(Refusal::NoBytes)
    }
}
