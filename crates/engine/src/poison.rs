//! Memory that is broken.

use memtide_units::Pageblock;

use crate::{engine::Engine, refusal::Refusal};

impl Engine {
    pub(crate) fn poison(&mut self, _pageblock: Pageblock) -> Result<(), Refusal> {
        Err(Refusal::NoBytes)
    }
}
