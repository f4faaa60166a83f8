//! Memory that is gone without a word.

use memtide_units::Extent;

use crate::{engine::Engine, refusal::Refusal};

impl Engine {
    pub(crate) fn lost(&mut self, _extents: &[Extent]) -> Result<(), Refusal> {
        Err(Refusal::NoBytes)
    }
}
