//! Where a lease goes: policy, access, quotas, guarantees, who waits.

use memtide_units::MemberId;

use crate::{engine::Engine, refusal::Refusal};

impl Engine {
    pub(crate) fn set_policy(
        &mut self,
        _member: MemberId,
        _policy: Option<crate::mempolicy::MemPolicy>,
    ) -> Result<(), Refusal> {
        Err(Refusal::NoBytes)
    }
}
