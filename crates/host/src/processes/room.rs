//! How much may be put on a node before the kernel starts to push others out.
//!
//! The kernel's own allocations leave a node for the next one when a zone's free pages reach its
//! low watermark, and wake kswapd there; up to `high` it frees again. So the room of a node is what
//! lies above `high`, summed over its zones. The numbers are in `/proc/zoneinfo`
//! (`zoneinfo_show_print` in mm/vmstat.c).
//!
//! A pool's node on a NUMA node asks for another room of the same file (`numa_memory` of
//! `memtide_store`): what pages could be had from when nobody else may be ended for them. That one
//! leaves out what zones keep for requests that could go elsewhere (`protection`), and counts half of
//! the clean file pages, which a promise may push out and a move may not.

use std::collections::BTreeMap;

use memtide_units::{ByteSize, NodeId, PAGE_BYTES};

use crate::{Notes, ReadError, Root, zones};

/// Free memory above the high watermarks of each node. Numbers that make no sense count for
/// nothing: this is an estimate, and stale as soon as it is read.
///
/// # Errors
/// [`ReadError`], if the file cannot be read.
pub fn above_watermarks(root: &Root) -> Result<BTreeMap<NodeId, ByteSize>, ReadError> {
    let text = root.text(zones::ZONEINFO)?.unwrap_or_default();
    Ok(of_text(root, &text))
}

fn of_text(root: &Root, zoneinfo: &str) -> BTreeMap<NodeId, ByteSize> {
    let mut rooms: BTreeMap<NodeId, ByteSize> = BTreeMap::new();
    for pages in zones::parse(root, zoneinfo, &mut Notes::new()) {
        let zone = pages.zone(PAGE_BYTES);
        let sum = rooms.entry(NodeId(pages.node)).or_default();
        sum.0 = sum.0.saturating_add(zone.free.0.saturating_sub(zone.high.0));
    }
    rooms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rooms(text: &str) -> BTreeMap<NodeId, ByteSize> {
        of_text(&Root::live(), text)
    }

    const REAL: &str = "\
Node 0, zone      DMA
  per-node stats
      nr_inactive_anon 100
  pages free     3840
        boost    0
        min      16
        low      20
        high     24
        spanned  4095
  pagesets
    cpu: 0
              count:    0
              high:     0
              high 7
Node 0, zone   Normal
  pages free     1000
        high     1500
Node 1, zone  Movable
  pages free     262144
        high     144
";

    #[test]
    fn room_lies_above_the_high_watermarks() {
        let rooms = rooms(REAL);
        assert_eq!(rooms[&NodeId(0)], ByteSize((3840 - 24) * 4096));
        assert_eq!(rooms[&NodeId(1)], ByteSize(262_000 * 4096));
        assert_eq!(rooms.len(), 2);
    }

    #[test]
    fn this_machine_has_room_somewhere() {
        assert!(above_watermarks(&Root::live()).unwrap().values().any(|room| room.0 > 0));
    }

    #[test]
    fn nonsense_counts_for_nothing() {
        for text in ["Node x, zone\n pages free 9\n high 1", "high 1\n", "Node 1,\n pages free x"] {
            assert!(rooms(text).is_empty(), "{text}");
        }
        let text = "Node 0, zone N\n  pages free 5\n  high 99999999999999999999\n";
        assert_eq!(rooms(text)[&NodeId(0)], ByteSize(0));
    }
}
