//! Memory of a node that is bad.
//!
//! The daemon cannot see that memory fails. Where a node is a file, the kernel takes a bad page out
//! of it by itself and gives the file another; where it is a device's memory, the device logs an
//! error at an address of its own, and only who reads the log learns of it. So it is told, by an
//! operator or whatever reads such logs on his behalf: at this offset the node is bad. The 2 MiB
//! around that are never used again, nor zeroed; the process that has them loses them as it loses
//! what a device takes by force. A later daemon hears of it from the state file.

use memtide_engine::{Engine, Input};
use memtide_proto::{ControlReply, Refused};
use memtide_units::{ByteSize, Extent, Instant, PAGEBLOCK_BYTES, Pageblock};

use crate::{
    daemon::{ConnectionId, Daemon},
    program::refused,
    state::State,
};

impl Daemon {
    /// An operator says that a node is bad at this offset.
    pub(crate) fn retire(
        &mut self,
        id: ConnectionId,
        node: &str,
        offset: ByteSize,
    ) -> Result<(), Refused> {
        let index = usize::from(self.node("node", node)?.0);
        let size = self.config.nodes[index].size;
        if offset.0 >= size.0 {
            let expected = format!("less than the {size} of node {node}");
            return Err(refused("offset", offset, expected));
        }
        let pageblock = Pageblock(self.firsts[index].0 + offset.0 / PAGEBLOCK_BYTES);
        self.ask_engine(Input::Poison { pageblock })
            .map_err(|error| refused("offset", error, "an offset in the node"))?;
        self.state_changed = true;
        self.send(id, &ControlReply::Done { bytes: ByteSize(PAGEBLOCK_BYTES) });
        self.close(id);
        Ok(())
    }
}

/// Tells an engine that takes over what was bad already. What the file has and no node does, it
/// refuses: that file is damaged, but nobody is harmed.
pub(crate) fn take_over(engine: &mut Engine, left: &State) {
    let retired = left.nodes.iter().flat_map(|node| &node.retired);
    for pageblock in retired.copied().flat_map(Extent::iter) {
        let _ = engine.handle(Instant::default(), Input::Poison { pageblock });
    }
}
