//! Memory blocks: the unit in which Linux takes memory online and offline
//! (`/sys/devices/system/memory`).
//!
//! A block has a number; its physical range is the number times the size that all blocks of a
//! machine have (128 MiB on small x86 machines, up to 2 GiB on large ones). What the kernel would
//! do with it stands in `valid_zones`: of a block that is online its zone, of one that is offline
//! the zones it could go to, first the one that the kernel's own policy would choose
//! (`valid_zones_show`).
//!
//! Blocks of one device form a group (`struct memory_group`), which no attribute shows.
//!
//! Left alone: `phys_device` (always 0 on x86), and whether `removable` says so: the kernel has
//! answered a constant since Linux 5.7.

use std::{collections::BTreeMap, fmt};

use memtide_units::{NodeId, PhysAddr, PhysRange};

use crate::{ReadError, Root};

/// Where the blocks are.
pub const FOLDER: &str = "sys/devices/system/memory";

/// Larger blocks no kernel has (2 GiB is the most on x86): the limit keeps sums of pages small.
const BLOCK_BYTES_MAX: u64 = 64 << 30;

/// What the kernel does with a block at this moment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum BlockState {
    /// In use.
    Online,
    /// Being emptied, at this very moment.
    GoingOffline,
    /// Not in use.
    Offline,
}

impl BlockState {
    /// As in the attribute `state`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::GoingOffline => "going-offline",
            Self::Offline => "offline",
        }
    }
}

impl fmt::Display for BlockState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A zone, by the name that the kernel has for it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Zone {
    /// The first 16 MiB.
    Dma,
    /// Below 4 GiB.
    Dma32,
    /// Ordinary memory, also for the kernel itself.
    Normal,
    /// Beyond what a 32-bit kernel maps.
    HighMem,
    /// Only for what can be moved away again.
    Movable,
    /// Of a device's driver.
    Device,
}

impl Zone {
    /// The kernel's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dma => "DMA",
            Self::Dma32 => "DMA32",
            Self::Normal => "Normal",
            Self::HighMem => "HighMem",
            Self::Movable => "Movable",
            Self::Device => "Device",
        }
    }

    /// By the kernel's name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        [Self::Dma, Self::Dma32, Self::Normal, Self::HighMem, Self::Movable, Self::Device]
            .into_iter()
            .find(|zone| zone.name() == name)
    }

    /// Whether the kernel's own data may lie there: all but [`Zone::Movable`] and
    /// [`Zone::Device`].
    #[must_use]
    pub const fn is_kernel(self) -> bool {
        !matches!(self, Self::Movable | Self::Device)
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The number of a block.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(pub u64);

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "memory{}", self.0)
    }
}

impl fmt::Debug for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemoryBlock {
    /// Its number.
    pub id: BlockId,
    /// Where it is.
    pub range: PhysRange,
    /// Whether it is in use.
    pub state: BlockState,
    /// The zones that the kernel names: the one it is in, or those it could go to. Empty where
    /// the kernel says `none`: it is in several zones, or its node is unknown.
    pub valid_zones: Vec<Zone>,
    /// The nodes it belongs to, in their order; almost always one.
    pub nodes: Vec<NodeId>,
}

impl MemoryBlock {
    /// The zone that it is in, if it is online and all in one zone.
    #[must_use]
    pub fn zone(&self) -> Option<Zone> {
        match (self.state, self.valid_zones.as_slice()) {
            (BlockState::Offline, _) => None,
            (_, [zone]) => Some(*zone),
            _ => None,
        }
    }

    /// The zone that the kernel's own policy would put it in, if it is offline.
    #[must_use]
    pub fn default_zone(&self) -> Option<Zone> {
        match self.state {
            BlockState::Offline => self.valid_zones.first().copied(),
            _ => None,
        }
    }

    /// The node that it belongs to, if it is one.
    #[must_use]
    pub fn node(&self) -> Option<NodeId> {
        match self.nodes.as_slice() {
            [node] => Some(*node),
            _ => None,
        }
    }

    /// The attribute of this name, below the root.
    #[must_use]
    pub fn attribute(&self, name: &str) -> String {
        format!("{FOLDER}/{}/{name}", self.id)
    }
}

/// All blocks of a machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemoryBlocks {
    /// The size of each, in bytes: a power of two from 4 KiB to 64 GiB.
    pub block_bytes: u64,
    /// By number.
    pub blocks: BTreeMap<BlockId, MemoryBlock>,
}

impl MemoryBlocks {
    /// Reads them; `None` where the kernel cannot hot-plug memory.
    ///
    /// # Errors
    /// [`ReadError`] when an attribute cannot be read or makes no sense.
    pub fn read(root: &Root) -> Result<Option<Self>, ReadError> {
        let path = format!("{FOLDER}/block_size_bytes");
        let Some(block_bytes) = root.hexadecimal(&path)? else { return Ok(None) };
        if !(4096..=BLOCK_BYTES_MAX).contains(&block_bytes) || !block_bytes.is_power_of_two() {
            return Err(ReadError::Value {
                path: root.at(path),
                value: format!("{block_bytes:x}"),
                expected: "a power of two from 4 KiB to 64 GiB, in hexadecimal",
            });
        }
        let mut blocks = BTreeMap::new();
        for name in root.names(FOLDER)? {
            let Some(number) = name.strip_prefix("memory").and_then(|n| n.parse().ok()) else {
                continue;
            };
            if let Some(block) = read_block(root, BlockId(number), block_bytes)? {
                blocks.insert(block.id, block);
            }
        }
        Ok(Some(Self { block_bytes, blocks }))
    }

    /// Those of a node, in the order of their numbers.
    pub fn of_node(&self, node: NodeId) -> impl Iterator<Item = &MemoryBlock> {
        self.blocks.values().filter(move |block| block.nodes.contains(&node))
    }

    /// Those that lie in a range whole, in the order of their numbers.
    pub fn within(&self, range: PhysRange) -> impl Iterator<Item = &MemoryBlock> {
        self.blocks.values().filter(move |block| range.contains(block.range))
    }
}

/// Blocks as the command line takes them: `32-40,44`.
#[must_use]
pub fn list(blocks: impl IntoIterator<Item = BlockId>) -> String {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    let mut all: Vec<u64> = blocks.into_iter().map(|block| block.0).collect();
    all.sort_unstable();
    for number in all {
        match runs.last_mut() {
            Some((_, last)) if *last == number || last.checked_add(1) == Some(number) => {
                *last = number;
            }
            _ => runs.push((number, number)),
        }
    }
    let run = |(first, last)| match first == last {
        true => format!("{first}"),
        false => format!("{first}-{last}"),
    };
    runs.into_iter().map(run).collect::<Vec<_>>().join(",")
}

/// The block of this number, unless it is gone by now.
fn read_block(
    root: &Root,
    id: BlockId,
    block_bytes: u64,
) -> Result<Option<MemoryBlock>, ReadError> {
    let folder = format!("{FOLDER}/{id}");
    let index_path = format!("{folder}/phys_index");
    let Some(index) = root.hexadecimal(&index_path)? else { return Ok(None) };
    let start = index.checked_mul(block_bytes);
    let range = start.and_then(|start| PhysRange::from_size(PhysAddr(start), block_bytes));
    let Some(range) = range else {
        let expected = "a number that, times block_size_bytes, is below 2^64";
        return Err(ReadError::Value {
            path: root.at(index_path),
            value: format!("{index:x}"),
            expected,
        });
    };
    let Some(state) = read_state(root, &folder)? else { return Ok(None) };
    let valid_zones = read_zones(root, &folder)?;
    let nodes = root.names(&folder)?.iter().filter_map(|name| node_of(name)).collect();
    Ok(Some(MemoryBlock { id, range, state, valid_zones, nodes }))
}

fn read_state(root: &Root, folder: &str) -> Result<Option<BlockState>, ReadError> {
    let path = format!("{folder}/state");
    let Some(text) = root.text(&path)? else { return Ok(None) };
    match text.as_str() {
        "online" => Ok(Some(BlockState::Online)),
        "going-offline" => Ok(Some(BlockState::GoingOffline)),
        "offline" => Ok(Some(BlockState::Offline)),
        _ => Err(ReadError::Value {
            path: root.at(path),
            value: text,
            expected: "online, going-offline or offline",
        }),
    }
}

fn read_zones(root: &Root, folder: &str) -> Result<Vec<Zone>, ReadError> {
    let path = format!("{folder}/valid_zones");
    let text = root.text(&path)?.unwrap_or_default();
    let words = text.split_ascii_whitespace().filter(|&word| word != "none");
    words
        .map(|word| {
            Zone::of(word).ok_or_else(|| ReadError::Value {
                path: root.at(&path),
                value: text.clone(),
                expected: "names of zones (DMA, DMA32, Normal, HighMem, Movable, Device), or none",
            })
        })
        .collect()
}

/// `node3`, as a link is called.
fn node_of(name: &str) -> Option<NodeId> {
    name.strip_prefix("node")?.parse().ok().map(NodeId)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn tree(blocks: &[(&str, &[(&str, &str)])]) -> (tempfile::TempDir, Root) {
        let folder = tempfile::tempdir().unwrap();
        let memory = folder.path().join(FOLDER);
        fs::create_dir_all(&memory).unwrap();
        fs::write(memory.join("block_size_bytes"), "8000000\n").unwrap();
        for (name, attributes) in blocks {
            fs::create_dir(memory.join(name)).unwrap();
            for (attribute, value) in *attributes {
                let path = memory.join(name).join(attribute);
                if value.is_empty() {
                    fs::create_dir(path).unwrap();
                } else {
                    fs::write(path, format!("{value}\n")).unwrap();
                }
            }
        }
        let root = Root::new(folder.path());
        (folder, root)
    }

    #[test]
    fn blocks_have_ranges_zones_and_nodes() {
        let online = [
            ("phys_index", "00000000"),
            ("state", "online"),
            ("valid_zones", "none"),
            ("node0", ""),
        ];
        let offline = [
            ("phys_index", "0000002a"),
            ("state", "offline"),
            ("valid_zones", "Normal Movable"),
            ("node1", ""),
        ];
        let (_folder, root) = tree(&[("memory0", &online), ("memory42", &offline), ("power", &[])]);
        let read = MemoryBlocks::read(&root).unwrap().unwrap();
        assert_eq!((read.block_bytes, read.blocks.len()), (128 * MIB, 2));
        let [first, last] = [0, 42].map(|number| &read.blocks[&BlockId(number)]);
        assert_eq!((first.zone(), first.node()), (None, Some(NodeId(0))));
        assert_eq!(last.range.start(), PhysAddr(42 * 128 * MIB));
        assert_eq!((last.zone(), last.default_zone()), (None, Some(Zone::Normal)));
        assert_eq!(last.valid_zones, [Zone::Normal, Zone::Movable]);
        assert_eq!(read.of_node(NodeId(1)).count(), 1);
        assert_eq!(read.within(last.range).count(), 1);
        assert_eq!(read.within(PhysRange::new(PhysAddr(0), PhysAddr(5)).unwrap()).count(), 0);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let far = [("phys_index", "fffffffffff"), ("state", "online")];
        let (_folder, root) = tree(&[("memory9", &far)]);
        let error = MemoryBlocks::read(&root).unwrap_err().to_string();
        assert!(error.contains("memory9/phys_index holds \"fffffffffff\""), "{error}");
        let odd = [("phys_index", "1"), ("state", "sleeping")];
        let (_folder, root) = tree(&[("memory1", &odd)]);
        let error = MemoryBlocks::read(&root).unwrap_err().to_string();
        assert!(error.contains("expected online, going-offline or offline"), "{error}");
        let odd = [("phys_index", "1"), ("state", "online"), ("valid_zones", "Exmem")];
        let (_folder, root) = tree(&[("memory1", &odd)]);
        assert!(MemoryBlocks::read(&root).unwrap_err().to_string().contains("\"Exmem\""));
        for size in ["0", "3000", "800"] {
            let (folder, root) = tree(&[]);
            fs::write(folder.path().join(FOLDER).join("block_size_bytes"), size).unwrap();
            assert!(MemoryBlocks::read(&root).is_err(), "{size}");
        }
    }

    #[test]
    fn a_kernel_without_hot_plug_has_none() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(MemoryBlocks::read(&Root::new(folder.path())).unwrap(), None);
    }

    #[test]
    fn blocks_are_listed_as_runs() {
        assert_eq!(list([7, 5, 6, 9].map(BlockId)), "5-7,9");
        assert_eq!(list([]), "");
    }

    #[test]
    fn a_block_that_vanishes_is_left_out() {
        let (_folder, root) = tree(&[("memory3", &[("phys_index", "3")])]);
        assert!(MemoryBlocks::read(&root).unwrap().unwrap().blocks.is_empty());
    }
}
