//! Pages of each zone (/proc/zoneinfo).

use std::collections::BTreeMap;

use memtide_units::NodeId;

use crate::{ReadError, Root, Zone};

/// Pages of one zone of one node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ZonePages {
    /// Present: online and real.
    pub present: u64,
    /// Of the contiguous memory allocator.
    pub cma: u64,
}

/// Reads them; nothing where the file is missing.
///
/// # Errors
/// [`ReadError`] when it cannot be read.
pub fn read(root: &Root) -> Result<BTreeMap<(NodeId, Zone), ZonePages>, ReadError> {
    Ok(parse(&root.text("proc/zoneinfo")?.unwrap_or_default()))
}

/// Lines that are neither a zone's heading nor a number that is wanted are left out.
fn parse(text: &str) -> BTreeMap<(NodeId, Zone), ZonePages> {
    let mut zones = BTreeMap::new();
    let mut current = None;
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("Node ") {
            current = heading_of(heading);
            if let Some(zone) = current {
                zones.insert(zone, ZonePages::default());
            }
            continue;
        }
        let mut words = line.split_ascii_whitespace();
        let (name, number) = (words.next(), words.next().and_then(|word| word.parse().ok()));
        let Some((pages, number)) = current.and_then(|zone| zones.get_mut(&zone)).zip(number)
        else {
            continue;
        };
        match name {
            Some("present") => pages.present = number,
            Some("cma") => pages.cma = number,
            _ => {}
        }
    }
    zones
}

/// `0, zone    DMA32`.
fn heading_of(text: &str) -> Option<(NodeId, Zone)> {
    let (node, zone) = text.split_once(", zone")?;
    Some((NodeId(node.parse().ok()?), Zone::of(zone.trim())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_read() {
        let text = "Node 0, zone      DMA\n  per-node stats\n      nr_free_cma  0\n\
                    \x20 pages free     3840\n        present  3998\n        cma      4\n\
                    Node 1, zone  Movable\n        present  262144\n\
                    Node 1, zone  Strange\n        present  7\n";
        let zones = parse(text);
        assert_eq!(zones[&(NodeId(0), Zone::Dma)], ZonePages { present: 3998, cma: 4 });
        assert_eq!(zones[&(NodeId(1), Zone::Movable)].present, 262_144);
        assert_eq!(zones.len(), 2);
    }
}
