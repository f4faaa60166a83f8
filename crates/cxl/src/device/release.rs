//! 4803h: a host gives back (CXL 3.1, 8.2.9.9.9.4).
//!
//! It may give back any whole blocks that it holds, of one extent or of several, asked or not;
//! what is left of an extent keeps its tag and its place in the list, which is in the order of
//! addresses. Of a sharable tag it gives back all or nothing.

use alloc::vec::Vec;

use memtide_units::{DcExtent, DpaRange};

use super::{Device, Refusal, held::Held, host::Chain};
use crate::{
    Opcode,
    command::{HostId, More, dynamic_capacity::Release, events::DynamicCapacityEventKind},
};

/// Bytes of a message before its extents, and of each of them (table 8-170).
const EXTENT_BYTES: usize = 24;

impl Device {
    /// Takes back what a host releases, or remembers a part of that until the rest follows.
    ///
    /// # Errors
    /// Nothing is released; a list that is malformed, has what the host does not hold, a part of
    /// a sharable tag, or would leave more extents than can be remembered. Nothing has changed,
    /// but that the rest of a chain is refused, too.
    pub fn release(&mut self, host: HostId, request: &Release) -> Result<(), Refusal> {
        let host = self.known(host)?;
        self.hosts[host].answer.interrupt();
        let told = core::mem::take(&mut self.hosts[host].release);
        let complete = self.chained(told, Opcode::RELEASE_DC, &request.released);
        let checked = complete.and_then(|ranges| {
            if request.released.is_empty() {
                return Err(Refusal::NothingReleased);
            }
            self.check_release(host, &ranges, request.more)?;
            Ok(ranges)
        });
        let (done, next) = match (checked, request.more) {
            (Ok(ranges), More::Last) => (Ok(Some(ranges)), Chain::Idle),
            (Ok(ranges), More::Follows) => (Ok(None), Chain::Open(ranges)),
            (Err(why), More::Last) => (Err(why), Chain::Idle),
            (Err(why), More::Follows) => (Err(why), Chain::Broken),
        };
        self.hosts[host].release = next;
        if let Some(ranges) = done? {
            let parts = self.end(host, &ranges);
            self.tell_manager(host, DynamicCapacityEventKind::CapacityReleased, &parts);
        }
        Ok(())
    }

    fn check_release(&self, host: usize, ranges: &[DpaRange], more: More) -> Result<(), Refusal> {
        self.well_formed(ranges, |range| Refusal::NoAddress { range })?;
        let held = &self.hosts[host].held;
        if let Some(&range) = ranges.iter().find(|&&range| !held.covers(range)) {
            return Err(Refusal::NotHeld { range });
        }
        if more == More::Follows {
            return Ok(());
        }
        let parts: Vec<DcExtent> = ranges.iter().flat_map(|&range| held.parts(range)).collect();
        self.whole_tags(host, &parts, |tag| Refusal::PartOfTag { tag })?;
        self.check_split(host, ranges)
    }

    /// Whether the extents that are left without `ranges` can be remembered.
    pub(super) fn check_split(&self, host: usize, ranges: &[DpaRange]) -> Result<(), Refusal> {
        let held = &self.hosts[host].held;
        let mut left: Held = held.clone();
        ranges.iter().for_each(|&range| left.remove(range));
        let needed = left.len().saturating_sub(held.len());
        let (available, _) = self.available(host, None);
        if needed > available { Err(Refusal::Extents { needed, available }) } else { Ok(()) }
    }

    /// What was told so far, with what is told now.
    pub(super) fn chained(
        &self,
        told: Chain,
        opcode: Opcode,
        now: &[DpaRange],
    ) -> Result<Vec<DpaRange>, Refusal> {
        let mut ranges = match told {
            Chain::Idle => Vec::new(),
            Chain::Open(ranges) => ranges,
            Chain::Broken => return Err(Refusal::BrokenChain { opcode }),
        };
        // A host may well give back an extent in more parts than it has extents.
        let message = self.limits.payload_bytes as usize / EXTENT_BYTES;
        let limit = self.limits.extents as usize + message;
        let extents = ranges.len() + now.len();
        if extents > limit {
            return Err(Refusal::LongChain { extents, limit });
        }
        ranges.extend_from_slice(now);
        Ok(ranges)
    }
}
