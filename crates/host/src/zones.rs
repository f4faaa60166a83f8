//! Zones, from /proc/zoneinfo.
//!
//! The file has a paragraph for every node and zone (`zoneinfo_show_print` in mm/vmstat.c). Its
//! numbers are pages of the machine's own size, which it does not name: [`page_bytes`] finds it
//! out, as the kernel's total of a node (in KiB) is the sum of what its zones manage.

use std::num::{IntErrorKind, ParseIntError};

use memtide_units::{ByteSize, NodeId, PhysAddr};
use serde::Serialize;

use crate::{Notes, Root, attributes::is_word};

pub(crate) const ZONEINFO: &str = "proc/zoneinfo";

/// Sizes of a base page that Linux has on its architectures.
const PAGE_SIZES: [u64; 3] = [4 << 10, 16 << 10, 64 << 10];

/// One zone of one node, in pages.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct ZonePages {
    pub node: u16,
    pub name: String,
    free: u64,
    min: u64,
    low: u64,
    high: u64,
    spanned: u64,
    present: u64,
    pub managed: u64,
    cma: u64,
    /// Free, on the lists of processors: not in `free`, and not marked in `/proc/kpageflags`.
    per_cpu: u64,
    start_pfn: u64,
}

/// One zone of a node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct NodeZone {
    /// As the kernel calls it: `DMA`, `DMA32`, `Normal`, `Movable`, `Device`.
    pub name: String,
    /// Where it starts.
    pub start: PhysAddr,
    /// From its first to its last page, holes and all.
    pub spanned: ByteSize,
    /// Of these, what is memory.
    pub present: ByteSize,
    /// Of this, what the page allocator has: not what is reserved since boot.
    pub managed: ByteSize,
    /// Of this, what is free.
    pub free: ByteSize,
    /// Of this, what is for CMA, which must be movable.
    pub cma: ByteSize,
    /// Below so much free memory only emergencies are served.
    pub min: ByteSize,
    /// Below so much, kswapd starts.
    pub low: ByteSize,
    /// From so much on, kswapd sleeps.
    pub high: ByteSize,
}

impl ZonePages {
    /// Free pages on the lists of processors.
    pub(crate) const fn per_cpu(&self) -> u64 {
        self.per_cpu
    }

    pub(crate) fn zone(&self, page_bytes: u64) -> NodeZone {
        let bytes = |pages: u64| ByteSize(pages.saturating_mul(page_bytes));
        NodeZone {
            name: self.name.clone(),
            start: PhysAddr(self.start_pfn.saturating_mul(page_bytes)),
            spanned: bytes(self.spanned),
            present: bytes(self.present),
            managed: bytes(self.managed),
            free: bytes(self.free),
            cma: bytes(self.cma),
            min: bytes(self.min),
            low: bytes(self.low),
            high: bytes(self.high),
        }
    }
}

/// All zones that have any memory, in the order of the file: by node, then from the lowest up.
pub(crate) fn read(root: &Root, notes: &mut Notes) -> Vec<ZonePages> {
    let Some(text) = notes.keep(root.text(ZONEINFO)) else { return Vec::new() };
    let mut zones = parse(root, &text, notes);
    zones.retain(|zone| zone.spanned > 0);
    zones
}

/// All zones of the text of the file.
pub(crate) fn parse(root: &Root, text: &str, notes: &mut Notes) -> Vec<ZonePages> {
    let mut zones = Vec::new();
    let mut in_pages = false;
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("Node ") {
            match parse_heading(heading) {
                Some(zone) => zones.push(zone),
                None => {
                    notes.add(root.unexpected(ZONEINFO, line, "such as Node 0, zone Normal"));
                    return Vec::new();
                }
            }
            in_pages = false;
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().take(3).collect();
        match (words.as_slice(), zones.last_mut()) {
            (["pages", "free", number], Some(zone)) => {
                zone.free = pages(number);
                in_pages = true;
            }
            // Counters of a processor have the names of some of the zone's.
            (["pagesets"], Some(_)) => in_pages = false,
            (["start_pfn:", number], Some(zone)) => zone.start_pfn = pages(number),
            (["count:", number], Some(zone)) if !in_pages => {
                zone.per_cpu = zone.per_cpu.saturating_add(pages(number));
            }
            ([name, number], Some(zone)) if in_pages => set(zone, name, number),
            _ => {}
        }
    }
    if zones.is_empty() {
        notes.add(root.unexpected(ZONEINFO, text, "a paragraph for each zone"));
    }
    zones
}

/// `0, zone   Normal`
fn parse_heading(text: &str) -> Option<ZonePages> {
    let (node, zone) = text.split_once(',')?;
    let name = zone.trim().strip_prefix("zone")?.trim();
    let node = node.trim().parse().ok()?;
    is_word(name).then(|| ZonePages { node, name: name.to_owned(), ..ZonePages::default() })
}

fn set(zone: &mut ZonePages, name: &str, number: &str) {
    let field = match name {
        "min" => &mut zone.min,
        "low" => &mut zone.low,
        "high" => &mut zone.high,
        "spanned" => &mut zone.spanned,
        "present" => &mut zone.present,
        "managed" => &mut zone.managed,
        "cma" => &mut zone.cma,
        _ => return,
    };
    *field = pages(number);
}

/// What is no number counts for nothing; what is too large for one, as the largest.
fn pages(number: &str) -> u64 {
    number.parse().unwrap_or_else(|error: ParseIntError| match error.kind() {
        IntErrorKind::PosOverflow => u64::MAX,
        _ => 0,
    })
}

/// The size of a page, from the totals of nodes. Where none fits, 4 KiB.
pub(crate) fn page_bytes(zones: &[ZonePages], totals: &[(NodeId, ByteSize)]) -> u64 {
    let managed = |node: NodeId| {
        let pages = zones.iter().filter(|zone| zone.node == node.0).map(|zone| zone.managed);
        pages.fold(0u64, u64::saturating_add)
    };
    let fits = |size: u64| {
        totals
            .iter()
            .any(|&(node, total)| total.0 > 0 && managed(node).checked_mul(size) == Some(total.0))
    };
    PAGE_SIZES.into_iter().find(|&size| fits(size)).unwrap_or(PAGE_SIZES[0])
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const TEXT: &str = "\
Node 0, zone      DMA
  per-node stats
      nr_inactive_anon 19618
  pages free     3840
        boost    0
        min      12
        low      15
        high     18
        spanned  4095
        present  3998
        managed  3840
        cma      0
        protection: (0, 3019, 19659, 19659, 19659)
  pagesets
    cpu: 0
              count:    11
              high:     7
    cpu: 1
              count:    31
              high:     7
  node_unreclaimable:  0
  start_pfn:           1
Node 0, zone  Movable
  pages free     0
        spanned  0
  start_pfn:           0
";

    fn zones(text: &str) -> (Vec<ZonePages>, Notes) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("proc")).unwrap();
        fs::write(folder.path().join(ZONEINFO), text).unwrap();
        let mut notes = Notes::new();
        (read(&Root::new(folder.path()), &mut notes), notes)
    }

    #[test]
    fn zones_are_read_and_empty_ones_left_out() {
        let (zones, notes) = zones(TEXT);
        assert!(notes.is_empty());
        let [dma] = zones.as_slice() else { panic!("{zones:?}") };
        let zone = dma.zone(4096);
        assert_eq!((zone.name.as_str(), zone.start), ("DMA", PhysAddr(0x1000)));
        assert_eq!((zone.free, zone.managed), (ByteSize(3840 * 4096), ByteSize(3840 * 4096)));
        assert_eq!(dma.per_cpu(), 11 + 31);
        assert_eq!((zone.min, zone.high), (ByteSize(12 * 4096), ByteSize(18 * 4096)));
    }

    #[test]
    fn the_size_of_a_page_follows_from_the_totals() {
        let (zones, _) = zones(TEXT);
        let total = |bytes| [(NodeId(0), ByteSize(bytes))];
        assert_eq!(page_bytes(&zones, &total(3840 * 4096)), 4096);
        assert_eq!(page_bytes(&zones, &total(3840 * 65536)), 65536);
        assert_eq!(page_bytes(&zones, &total(1)), 4096);
    }

    #[test]
    fn garbage_is_a_note() {
        let (found, notes) = zones("Node zero, zone DMA\n");
        assert!(found.is_empty());
        assert!(notes.lines()[0].contains("proc/zoneinfo"), "{:?}", notes.lines());
        let (found, notes) = zones("pages free 3\nmin 1\n\u{0}\u{1b}[2J\n");
        assert!(found.is_empty() && notes.lines()[0].contains("a paragraph for each zone"));
    }
}
