//! A node of the pool on a NUMA node of the kernel's: its files take their pages from there.
//!
//! The memory is the kernel's own: it keeps it, hands it to others as well, and takes it offline
//! when told to. What a node of the pool has of it is a promise, that every page of its files comes
//! from there (`memtide_sys::numa::file`). The kernel keeps that promise at any price: a page that
//! finds the NUMA node full has the OOM killer end some program, ours or another. So a pool must
//! not promise what is not there: [`check`] refuses whatever is more than the kernel could give at
//! that moment, and is asked before capacity comes into a node, at the start and later. What others
//! take of the NUMA node afterwards it cannot know; an operator keeps them off (a cpuset, a memory
//! policy), or leaves them room.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use memtide_sys::numa::{self, NodeSet};
use memtide_units::{ByteSize, NodeId};

use crate::{error::StoreError, kernel::Kernel};

const PAGE: u64 = 4096;

/// What of a NUMA node pages of programs could be had from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NumaMemory {
    /// All that the kernel manages.
    pub managed: ByteSize,
    /// Of it, what could be had now without ending anybody: what is free above what the kernel
    /// keeps for itself, and half of the clean file pages, which it can read again.
    pub usable: ByteSize,
}

/// What a node of the pool is to have of a NUMA node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted<'a> {
    /// The node of the pool.
    pub name: &'a str,
    /// The NUMA node.
    pub numa: NodeId,
    /// How much; nothing if all of it comes later.
    pub bytes: ByteSize,
}

impl Kernel {
    /// The NUMA nodes, those without memory as well.
    ///
    /// # Errors
    /// When `/proc/zoneinfo` cannot be read.
    pub fn numa_memory(&self) -> io::Result<BTreeMap<NodeId, NumaMemory>> {
        Ok(parse(&self.read("proc/zoneinfo")?))
    }

    /// The numbers that NUMA nodes may have until the next boot, as `0-3,8`.
    fn possible_nodes(&self) -> io::Result<String> {
        self.read("sys/devices/system/node/possible")
    }
}

/// Whether these can be had now.
///
/// # Errors
/// What is missing.
pub fn check(kernel: &Kernel, wanted: &[Wanted<'_>]) -> Result<(), StoreError> {
    if wanted.is_empty() {
        return Ok(());
    }
    let memory = kernel
        .numa_memory()
        .map_err(|source| StoreError::Unsupported { what: "NUMA nodes that it shows", source })?;
    let allowed = numa::allowed_nodes().map_err(|errno| StoreError::Unsupported {
        what: "memory policies",
        source: errno.into(),
    })?;
    let mut sums: BTreeMap<NodeId, u64> = BTreeMap::new();
    for one in wanted {
        check_node(kernel, one, &memory, &allowed)?;
        let sum = sums.entry(one.numa).or_default();
        *sum = sum.saturating_add(one.bytes.0);
    }
    for (numa, needed) in sums {
        let NumaMemory { usable, .. } = memory.get(&numa).copied().unwrap_or_default();
        if needed > usable.0 {
            let here = wanted.iter().filter(|one| one.numa == numa && one.bytes.0 > 0);
            let nodes = here.map(|one| one.name.to_owned()).collect::<Vec<_>>().join(", ");
            let needed = ByteSize(needed);
            return Err(StoreError::NumaTooSmall { nodes, numa: numa.0, needed, usable });
        }
    }
    Ok(())
}

fn check_node(
    kernel: &Kernel,
    one: &Wanted<'_>,
    memory: &BTreeMap<NodeId, NumaMemory>,
    allowed: &NodeSet,
) -> Result<(), StoreError> {
    let (node, numa) = (one.name.to_owned(), one.numa.0);
    let has_memory = |of: &NodeId| memory.get(of).is_some_and(|it| it.managed.0 > 0);
    if one.bytes.0 > 0 && has_memory(&one.numa) {
        if allowed.contains(one.numa) {
            return Ok(());
        }
        return Err(StoreError::NumaNotAllowed { node, numa, allowed: allowed.to_string() });
    }
    if one.bytes.0 > 0 {
        let known: BTreeSet<NodeId> = memory.keys().copied().filter(has_memory).collect();
        let known = NodeSet::of(known).unwrap_or_default().to_string();
        return Err(StoreError::NoNumaMemory { node, numa, known });
    }
    let possible = kernel.possible_nodes().unwrap_or_default();
    if memory.contains_key(&one.numa) || is_listed(&possible, one.numa) {
        return Ok(());
    }
    Err(StoreError::NoNumaNode { node, numa, possible })
}

/// Whether a node is in a list as the kernel writes it.
fn is_listed(list: &str, node: NodeId) -> bool {
    list.split(',').any(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<u16>().ok();
        let range = number(first).zip(number(last));
        range.is_some_and(|(first, last)| (first..=last).contains(&node.0))
    })
}

/// A zone's figures in pages, as they are read.
#[derive(Default)]
struct Zone {
    free: u64,
    high: u64,
    managed: u64,
    protection: u64,
}

impl Zone {
    /// As `calculate_totalreserve_pages` (mm/page_alloc.c) counts what a zone keeps.
    const fn kept(&self) -> u64 {
        self.high.saturating_add(self.protection)
    }
}

/// One node's figures in pages.
#[derive(Default)]
struct Node {
    zones: Vec<Zone>,
    files: u64,
    unclean: u64,
}

impl Node {
    /// As `si_mem_available` (mm/show_mem.c) does, for one node.
    fn memory(&self) -> NumaMemory {
        let sum = |of: fn(&Zone) -> u64| self.zones.iter().map(of).fold(0, u64::saturating_add);
        let free = sum(|zone| zone.free.saturating_sub(zone.kept()));
        let usable = free.saturating_add(self.files.saturating_sub(self.unclean) / 2);
        let bytes = |pages: u64| ByteSize(pages.saturating_mul(PAGE));
        NumaMemory { managed: bytes(sum(|zone| zone.managed)), usable: bytes(usable) }
    }
}

/// `/proc/zoneinfo`: for each zone a heading and indented figures; those of a node stand in its
/// first zone. What is not understood is passed over.
fn parse(text: &str) -> BTreeMap<NodeId, NumaMemory> {
    let mut nodes: BTreeMap<NodeId, Node> = BTreeMap::new();
    let mut current = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("Node ") {
            let number = rest.split(',').next().and_then(|number| number.trim().parse().ok());
            current = number.map(NodeId);
            if let Some(node) = current {
                nodes.entry(node).or_default().zones.push(Zone::default());
            }
        } else if let Some(node) = current.and_then(|node| nodes.get_mut(&node)) {
            take_figure(node, line.trim());
        }
    }
    nodes.into_iter().map(|(number, node)| (number, node.memory())).collect()
}

fn take_figure(node: &mut Node, line: &str) {
    let Some(zone) = node.zones.last_mut() else { return };
    if let Some(list) = line.strip_prefix("protection:") {
        let numbers = list.split(['(', ')', ',']).filter_map(|word| word.trim().parse().ok());
        zone.protection = numbers.max().unwrap_or(0);
        return;
    }
    let mut words = line.rsplitn(2, char::is_whitespace);
    let Some(number) = words.next().and_then(|word| word.parse::<u64>().ok()) else { return };
    match words.next().map(str::trim) {
        Some("pages free") => zone.free = number,
        Some("high") => zone.high = number,
        Some("managed") => zone.managed = number,
        Some("nr_inactive_file" | "nr_active_file") => {
            node.files = node.files.saturating_add(number);
        }
        Some("nr_dirty" | "nr_writeback") => node.unclean = node.unclean.saturating_add(number),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Of Linux 6.12, shortened: a node with three zones, one with the movable zone alone, one
    /// without memory.
    const ZONEINFO: &str = "\
Node 0, zone      DMA
  per-node stats
      nr_inactive_anon 16583
      nr_inactive_file 3000
      nr_active_file 1000
      nr_dirty     151
      nr_writeback 49
  pages free     3840
        boost    0
        min      10
        low      13
        high     16
        promo    19
        spanned  4095
        present  3998
        managed  3840
        cma      0
        protection: (0, 1000, 2000, 2000, 2000)
      nr_free_pages 3840
  pagesets
    cpu: 0
              count:    4
              high:     4
              batch:    1
  node_unreclaimable:  0
  start_pfn:           1
Node 0, zone   Normal
  pages free     100000
        high     1000
        managed  500000
        protection: (0, 0, 0, 0, 0)
Node 1, zone  Movable
  per-node stats
      nr_inactive_file 0
  pages free     60000
        high     500
        managed  65536
        protection: (0, 0, 0, 0, 0)
Node 2, zone   Normal
  pages free     0
        high     0
        managed  0
        protection: (0, 0, 0, 0, 0)
";

    struct Root(std::path::PathBuf);

    impl Drop for Root {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn machine(name: &str) -> (Root, Kernel) {
        let root = format!("memtide-numa-{}-{name}", std::process::id());
        let root = Root(std::env::temp_dir().join(root));
        fs::create_dir_all(root.0.join("proc")).unwrap();
        fs::write(root.0.join("proc/zoneinfo"), ZONEINFO).unwrap();
        fs::create_dir_all(root.0.join("sys/devices/system/node")).unwrap();
        fs::write(root.0.join("sys/devices/system/node/possible"), "0-3,8\n").unwrap();
        let kernel = Kernel::below(&root.0);
        (root, kernel)
    }

    fn wanted(numa: u16, pages: u64) -> Wanted<'static> {
        Wanted { name: "far", numa: NodeId(numa), bytes: ByteSize(pages * PAGE) }
    }

    #[test]
    fn usable_is_what_is_free_above_what_the_kernel_keeps_and_half_of_clean_files() {
        let nodes = parse(ZONEINFO);
        let pages = |node: u16| {
            let memory = nodes[&NodeId(node)];
            (memory.managed.0 / PAGE, memory.usable.0 / PAGE)
        };
        // 3840 - 16 - 2000, 100000 - 1000, (4000 - 200) / 2
        assert_eq!(pages(0), (503_840, 1824 + 99_000 + 1900));
        assert_eq!(pages(1), (65_536, 59_500));
        assert_eq!(pages(2), (0, 0));
        assert_eq!(nodes.len(), 3);
    }

    #[test]
    fn garbage_has_no_nodes_and_no_overflow() {
        assert!(parse("").is_empty() && parse("Node x, zone y\n  pages free 1\n").is_empty());
        let most = u64::MAX;
        let text = format!(
            "Node 0, zone a\n nr_active_file {most}\n pages free {most}\n managed {most}\nNode 0, \
             zone b\n pages free {most}\n high 7\n managed {most}\n protection: ({most}, x)\n"
        );
        assert_eq!(parse(&text)[&NodeId(0)].usable, ByteSize(most));
    }

    #[test]
    fn more_than_a_numa_node_could_give_is_refused_with_all_numbers() {
        let (_root, kernel) = machine("room");
        let all = 1824 + 99_000 + 1900;
        check(&kernel, &[wanted(0, all)]).unwrap();
        check(&kernel, &[wanted(0, all - 1), wanted(0, 1)]).unwrap();
        let error = check(&kernel, &[wanted(0, all), wanted(0, 1)]).unwrap_err();
        let expected = "nodes far, far: 401.2MiB are more than NUMA node 0 has to give now; \
                        expected at most 401.2MiB";
        assert!(matches!(error, StoreError::NumaTooSmall { numa: 0, .. }), "{error}");
        assert_eq!(error.to_string(), expected);
        check(&kernel, &[]).unwrap();
    }

    #[test]
    fn a_numa_node_without_memory_is_only_for_what_comes_later() {
        let (_root, kernel) = machine("none");
        for node in [2, 3, 7] {
            let error = check(&kernel, &[wanted(node, 1)]).unwrap_err().to_string();
            let expected = "has no memory; expected one of 0-1";
            assert!(error.starts_with(&format!("numa of node far is {node}")), "{error}");
            assert!(error.contains(expected), "{error}");
        }
        for node in [0, 1, 2, 3, 8] {
            check(&kernel, &[wanted(node, 0)]).unwrap();
        }
        let error = check(&kernel, &[wanted(7, 0)]).unwrap_err().to_string();
        assert!(error.contains("expected one that this kernel may have: 0-3,8"), "{error}");
    }

    #[test]
    fn a_numa_node_that_the_daemon_may_not_use_is_named() {
        let (root, kernel) = machine("cpuset");
        // One with as much memory as node 1, but not of this process's.
        let allowed = numa::allowed_nodes().unwrap();
        let other = (0..1024).rev().find(|&node| !allowed.contains(NodeId(node)));
        let other = other.expect("no machine has 1024 nodes");
        let zoneinfo = ZONEINFO.replace("Node 1,", &format!("Node {other},"));
        fs::write(root.0.join("proc/zoneinfo"), zoneinfo).unwrap();
        let error = check(&kernel, &[wanted(other, 1)]).unwrap_err();
        let expected = format!(
            "numa of node far is {other}, of which this daemon's cpuset lets it have none; \
             expected one of {allowed}"
        );
        assert!(matches!(error, StoreError::NumaNotAllowed { .. }), "{error}");
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn this_machine_has_a_node_with_memory() {
        let nodes = Kernel::this_machine().numa_memory().unwrap();
        assert!(nodes.values().any(|node| node.managed >= node.usable && node.usable.0 > 0));
    }
}
