//! A node becomes faster or slower.

use memtide_units::NodeId;

use crate::{engine::Engine, refusal::Refusal};

impl Engine {
    pub(crate) fn link_changed(
        &mut self,
        _node: NodeId,
        _performance: crate::Performance,
    ) -> Result<(), Refusal> {
        Err(Refusal::NoBytes)
    }
}
