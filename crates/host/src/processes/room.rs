//! How much may be put on a node before the kernel starts to push others out.
//!
//! The kernel's own allocations leave a node for the next one when a zone's free pages reach its
//! low watermark, and wake kswapd there; up to `high` it frees again. So the room of a node is what
//! lies above `high`, summed over its zones. The numbers are in `/proc/zoneinfo`
//! (`zoneinfo_show_print` in mm/vmstat.c).

use std::collections::BTreeMap;

use memtide_units::{ByteSize, NodeId};

/// Free memory above the high watermarks of each node. Lines that make no sense count for nothing:
/// this is an estimate, and stale as soon as it is read.
#[must_use]
pub fn above_watermarks(zoneinfo: &str) -> BTreeMap<NodeId, ByteSize> {
    const PAGE: u64 = 4096;
    let mut rooms: BTreeMap<NodeId, ByteSize> = BTreeMap::new();
    let mut zone: Option<(NodeId, u64)> = None;
    for line in zoneinfo.lines() {
        if let Some(rest) = line.strip_prefix("Node ") {
            let node = rest.split(',').next().and_then(|number| number.trim().parse().ok());
            zone = node.map(|node| (NodeId(node), 0));
            continue;
        }
        let Some((node, free)) = zone.as_mut() else { continue };
        let mut words = line.split_ascii_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some("pages"), Some("free"), Some(number)) => *free = number.parse().unwrap_or(0),
            (Some("high"), Some(number), None) => {
                let high = number.parse().unwrap_or(u64::MAX);
                let room = free.saturating_sub(high).saturating_mul(PAGE);
                let sum = rooms.entry(*node).or_default();
                sum.0 = sum.0.saturating_add(room);
            }
            // The counts of each processor have a "high:" too, after this.
            (Some("pagesets"), ..) => zone = None,
            _ => {}
        }
    }
    rooms
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let rooms = above_watermarks(REAL);
        assert_eq!(rooms[&NodeId(0)], ByteSize((3840 - 24) * 4096));
        assert_eq!(rooms[&NodeId(1)], ByteSize(262_000 * 4096));
        assert_eq!(rooms.len(), 2);
    }

    #[test]
    fn this_machine_has_room_somewhere() {
        let text = std::fs::read_to_string("/proc/zoneinfo").unwrap();
        assert!(above_watermarks(&text).values().any(|room| room.0 > 0));
    }

    #[test]
    fn nonsense_counts_for_nothing() {
        for text in ["Node x, zone\n pages free 9\n high 1", "high 1\n", "Node 1,\n pages free x"] {
            assert!(above_watermarks(text).is_empty(), "{text}");
        }
        let text = "Node 0, zone N\n  pages free 5\n  high 99999999999999999999\n";
        assert_eq!(above_watermarks(text)[&NodeId(0)], ByteSize(0));
    }
}
