//! All of a node leaves, the state of its device first.
//!
//! From the request on, and whatever comes of it, nothing is placed on the node: no lease, not
//! even in an emergency, no destination of a move; until memory is put back on it
//! ([`crate::online`]), and its device, if it is one's, runs again ([`crate::device`]). All that is
//! online there leaves as in any other give-back ([`crate::giveback`]). If the driver has not saved
//! the device's state in time, that is what holds it. Memory that is put back meanwhile ends the
//! request.

use core::time::Duration;

use memtide_units::{NodeId, RequestId};

use crate::{
    device::DeviceEvent,
    engine::Engine,
    refusal::Refusal,
    request::{Aim, Blocks, Request},
};

impl Engine {
    pub(crate) fn evacuate(
        &mut self,
        request: RequestId,
        node: NodeId,
        deadline: Duration,
    ) -> Result<(), Refusal> {
        let index = self.pool.index_of(node).ok_or(Refusal::NoSuchNode { node })?;
        let all = self.pool.online_blocks(&[index]);
        let wanted = all.iter().map(|&block| self.pool.block_pageblocks(block)).sum();
        let blocks = Blocks::All { node: index, left: all.into_iter().collect() };
        let aim = Aim::give_back(alloc::vec![index], blocks);
        self.open_request(request, Request::new(aim, wanted, self.now.after(deadline)))?;
        self.evacuating.insert(index);
        if wanted > 0 {
            self.tell_device(index, DeviceEvent::Evacuate);
        }
        Ok(())
    }
}
