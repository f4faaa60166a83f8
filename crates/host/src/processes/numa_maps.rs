//! `/proc/PID/numa_maps`: for each mapping of a process, its policy and its pages on each node.
//!
//! A line is an address, a policy, then words and `key=number` pairs in no fixed order
//! (`show_numa_map` in fs/proc/task_mmu.c). A policy may hold blanks (`weighted interleave:0-1`,
//! `prefer (many):0`), a file name may not: the kernel writes blanks, tabs, newlines and `=` in it
//! as octal escapes. Words that this code does not know are skipped: kernels add some.
//!
//! A kernel without NUMA has no such file; a process that ended has an empty one.

use std::collections::BTreeMap;

use memtide_units::{ByteSize, NodeId};

/// What a mapping is made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Backing {
    /// A file, a memfd, shared memory: its name, as the kernel escapes it.
    File(String),
    /// The heap that grows by brk(2).
    Heap,
    /// The stack of the first thread.
    Stack,
    /// Nothing else.
    Anonymous,
}

/// One mapping.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NumaMap {
    /// Its first address.
    pub start: u64,
    /// Its policy, as the kernel writes it: `default`, `bind=static:0-1`.
    pub policy: String,
    /// What it is made of.
    pub backing: Backing,
    /// Pages that are anonymous, those of private file mappings that were written among them.
    pub anonymous: u64,
    /// Pages that are being written back to their file at this moment.
    pub writeback: u64,
    /// How many mappings, of any process, the page with most of them has; 1 where none is shared.
    pub mapped_most: u64,
    /// Pages on each node.
    pub nodes: BTreeMap<NodeId, u64>,
    /// Bytes of a page: 4 KiB, or the size of hugetlb pages.
    pub page_bytes: u64,
}

/// A line that makes no sense.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NumaMapsError {
    /// It does not start with an address.
    #[error("line {line} of numa_maps starts with {word:?}: expected a hexadecimal address")]
    Address {
        /// Which line, from 1.
        line: usize,
        /// What stands there.
        word: String,
    },
    /// There is no policy that Linux has.
    #[error("line {line} of numa_maps has {text:?} after the address: expected a memory policy")]
    Policy {
        /// Which line, from 1.
        line: usize,
        /// What stands there.
        text: String,
    },
    /// A number is none, or too large.
    #[error("line {line} of numa_maps has {word:?}: expected a number below 2^64")]
    Number {
        /// Which line, from 1.
        line: usize,
        /// What stands there.
        word: String,
    },
    /// A node that no kernel has.
    #[error("line {line} of numa_maps has {word:?}: expected a node below 1024")]
    Node {
        /// Which line, from 1.
        line: usize,
        /// What stands there.
        word: String,
    },
}

/// `policy_modes` of mm/mempolicy.c. No name starts with another one that comes before it.
const POLICIES: [&str; 7] =
    ["default", "prefer (many)", "prefer", "bind", "interleave", "local", "weighted interleave"];
const NODES: u64 = 1024;
/// Texts in errors are cut to this many bytes.
const SHOWN: usize = 64;

/// The mappings of a `numa_maps`, in its order.
///
/// # Errors
/// [`NumaMapsError`] for the first line that makes no sense.
pub fn parse(text: &[u8]) -> Result<Vec<NumaMap>, NumaMapsError> {
    let text = String::from_utf8_lossy(text);
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.is_empty())
        .map(|(index, line)| parse_line(line, index + 1))
        .collect()
}

/// Bytes on each node, of all mappings.
#[must_use]
pub fn on_nodes(maps: &[NumaMap]) -> BTreeMap<NodeId, ByteSize> {
    let mut sums = BTreeMap::new();
    for map in maps {
        for (&node, &pages) in &map.nodes {
            let sum: &mut ByteSize = sums.entry(node).or_default();
            sum.0 = sum.0.saturating_add(pages.saturating_mul(map.page_bytes));
        }
    }
    sums
}

fn parse_line(text: &str, line: usize) -> Result<NumaMap, NumaMapsError> {
    let (address, rest) = text.split_once(' ').unwrap_or((text, ""));
    let start = u64::from_str_radix(address, 16)
        .map_err(|_| NumaMapsError::Address { line, word: shown(address) })?;
    let name = POLICIES.into_iter().find(|name| rest.starts_with(name));
    let name = name.ok_or_else(|| NumaMapsError::Policy { line, text: shown(rest) })?;
    // Flags and nodes follow without a blank: "=static|balancing:0-1".
    let end = rest[name.len()..].find(' ').map_or(rest.len(), |at| name.len() + at);
    let (policy, words) = rest.split_at(end);
    let mut map = NumaMap {
        start,
        policy: policy.to_owned(),
        backing: Backing::Anonymous,
        anonymous: 0,
        writeback: 0,
        mapped_most: 1,
        nodes: BTreeMap::new(),
        page_bytes: 4096,
    };
    for word in words.split(' ').filter(|word| !word.is_empty()) {
        take(&mut map, word, line)?;
    }
    Ok(map)
}

fn take(map: &mut NumaMap, word: &str, line: usize) -> Result<(), NumaMapsError> {
    let Some((key, value)) = word.split_once('=') else {
        match word {
            "heap" => map.backing = Backing::Heap,
            "stack" => map.backing = Backing::Stack,
            _ => {}
        }
        return Ok(());
    };
    let wrong = || NumaMapsError::Number { line, word: shown(word) };
    let number = || value.parse::<u64>().map_err(|_| wrong());
    match key {
        "file" => map.backing = Backing::File(value.to_owned()),
        "anon" => map.anonymous = number()?,
        "writeback" => map.writeback = number()?,
        "mapmax" => map.mapped_most = number()?,
        "kernelpagesize_kB" => map.page_bytes = number()?.checked_mul(1024).ok_or_else(wrong)?,
        _ => {
            let digits = key.strip_prefix('N').filter(|digits| is_number(digits));
            if let Some(digits) = digits {
                let node = digits.parse().ok().filter(|&node: &u64| node < NODES);
                let node = node.and_then(|node| u16::try_from(node).ok());
                let node = node.ok_or_else(|| NumaMapsError::Node { line, word: shown(word) })?;
                map.nodes.insert(NodeId(node), number()?);
            }
        }
    }
    Ok(())
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// As much of it as an error needs.
pub(super) fn shown(text: &str) -> String {
    let mut end = text.len().min(SHOWN);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::processes::spoil::spoilt;

    const REAL: &str = "\
55eb1c1f4000 default file=/usr/bin/my\\040cat mapped=2 mapmax=15 N0=2 kernelpagesize_kB=4
55eb57b19000 bind=static|balancing:0-1 heap anon=4 dirty=4 active=0 N0=1 N1=3 kernelpagesize_kB=4
7fa1d0905000 weighted interleave:0-1 anon=1 dirty=1 active=0 N1=1 kernelpagesize_kB=4
7fa1d0a00000 prefer (many):0 file=/anon_hugepage\\040(deleted) huge anon=2 dirty=2 N0=2 kernelpagesize_kB=2048
7ffd30a5c000 local stack anon=3 dirty=3 N0=3 kernelpagesize_kB=4
7ffd30b00000 default
";

    #[test]
    fn lines_of_the_kernel_are_understood() {
        let maps = parse(REAL.as_bytes()).unwrap();
        let policies: Vec<&str> = maps.iter().map(|map| map.policy.as_str()).collect();
        assert_eq!(
            policies,
            [
                "default",
                "bind=static|balancing:0-1",
                "weighted interleave:0-1",
                "prefer (many):0",
                "local",
                "default"
            ]
        );
        assert_eq!(maps[0].backing, Backing::File("/usr/bin/my\\040cat".to_owned()));
        assert_eq!((maps[0].start, maps[0].mapped_most), (0x55eb_1c1f_4000, 15));
        assert_eq!((&maps[1].backing, maps[1].anonymous), (&Backing::Heap, 4));
        assert_eq!((&maps[4].backing, maps[3].page_bytes), (&Backing::Stack, 2 << 20));
        assert_eq!(maps[5].nodes.len(), 0);
        let sums = on_nodes(&maps);
        assert_eq!(sums[&NodeId(0)], ByteSize((2 + 1 + 3) * 4096 + (4 << 20)));
        assert_eq!(sums[&NodeId(1)], ByteSize(4 * 4096));
    }

    #[test]
    fn this_process_has_memory_somewhere() {
        let maps = parse(&std::fs::read("/proc/self/numa_maps").unwrap()).unwrap();
        assert!(on_nodes(&maps).values().any(|bytes| bytes.0 > 100 << 10));
    }

    #[test]
    fn lines_that_make_no_sense_are_named() {
        for (text, error) in [
            (
                "\nx default",
                "line 2 of numa_maps starts with \"x\": expected a hexadecimal address",
            ),
            (
                "1 tiered",
                "line 1 of numa_maps has \"tiered\" after the address: expected a memory policy",
            ),
            (
                "1 default anon=-1",
                "line 1 of numa_maps has \"anon=-1\": expected a number below 2^64",
            ),
            (
                "1 default N1024=1",
                "line 1 of numa_maps has \"N1024=1\": expected a node below 1024",
            ),
            (
                "1 default kernelpagesize_kB=18446744073709551615",
                "line 1 of numa_maps has \"kernelpagesize_kB=18446744073709551615\": expected a \
                 number below 2^64",
            ),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap_err().to_string(), error);
        }
        // Words of later kernels are none of ours.
        assert_eq!(parse(b"1 default new thing=7 Nope=x\n").unwrap().len(), 1);
    }

    #[test]
    fn sums_do_not_overflow() {
        let most = u64::MAX;
        let text = format!("1 default N0={most} kernelpagesize_kB=2\n2 default N0={most}\n");
        assert_eq!(on_nodes(&parse(text.as_bytes()).unwrap())[&NodeId(0)], ByteSize(most));
    }

    #[test]
    fn spoilt_texts_are_refused_or_understood_never_worse() {
        for seed in 0..2000 {
            let _ = parse(&spoilt(REAL, seed)).map(|maps| on_nodes(&maps));
        }
    }
}
