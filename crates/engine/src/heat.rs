//! Who accesses what, and how often.

use memtide_units::{AccessorId, Extent};

use crate::{engine::Engine, refusal::Refusal};

impl Engine {
    pub(crate) fn accessed(
        &mut self,
        _accessor: AccessorId,
        _extents: &[(Extent, u32)],
    ) -> Result<(), Refusal> {
        Err(Refusal::NoBytes)
    }
}
