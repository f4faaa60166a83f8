//! Which memory blocks came together, and which are there since boot.
//!
//! The kernel's policy auto-movable reasons about groups (`struct memory_group`): what is plugged
//! together is lost together. No attribute shows them, but what makes them can be seen:
//!
//! * A dax device with the driver kmem is one *static* group: all its ranges, cut to whole blocks
//!   (`dax_kmem_range` in drivers/dax/kmem.c).
//! * A virtio-mem device is one *dynamic* group. It is the resource `virtioN` in /proc/iomem, with
//!   what is plugged beneath. Its unit is a block, unless the device's own blocks are larger than
//!   the kernel's (big-block mode), which nothing shows: then what is found here is wrong.
//! * A block in no group is there since boot if it has memory of the firmware's map, as the boot
//!   loader handed it over (`boot_params`, x86 only). Where that cannot be read, all of them are
//!   taken to be: plugged DIMMs then count as there since boot.
//!
//! Addresses in /proc/iomem are zeroes for everybody but root; nothing is found then.

use std::collections::{BTreeMap, BTreeSet};

use memtide_physmap::iomem::{self, Line};
use memtide_units::{ByteSize, NodeId, PhysAddr, PhysRange};

use crate::{
    BlockId, MemoryBlocks, ReadError, Root,
    dax::{self, DaxDevice, DaxMode},
};

/// Where the firmware's map is, as x86's boot protocol lays it out (struct boot_params).
pub(crate) const BOOT_PARAMS: &str = "sys/kernel/boot_params/data";
pub(crate) const E820_ENTRIES_AT: usize = 0x1e8;
pub(crate) const E820_TABLE_AT: usize = 0x2d0;
pub(crate) const E820_ENTRY_BYTES: usize = 20;
const E820_RAM: u32 = 1;

/// How memory of a group comes and goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemoryGroupKind {
    /// As a whole.
    Static {
        /// All of it, in whole blocks.
        bytes: ByteSize,
    },
    /// Block by block.
    Dynamic,
}

/// Blocks that came together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemoryGroup {
    /// The device: `dax0.0`, `virtio0`.
    pub device: String,
    /// Its node, as far as it has one.
    pub node: Option<NodeId>,
    /// How it comes and goes.
    pub kind: MemoryGroupKind,
}

/// What is known of where blocks come from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MemoryGroups {
    /// The groups.
    pub groups: Vec<MemoryGroup>,
    /// Which of them a block belongs to, as an index into `groups`. Blocks in none are absent.
    pub of_block: BTreeMap<BlockId, usize>,
    /// Blocks that are there since boot.
    pub early: BTreeSet<BlockId>,
}

impl MemoryGroups {
    /// Reads them.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(root: &Root, blocks: &MemoryBlocks) -> Result<Self, ReadError> {
        Self::with(root, blocks, None)
    }

    /// As they will be once kmem has that dax device too, whose blocks are among `blocks` already.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read_as_if(root: &Root, blocks: &MemoryBlocks, kmem: &str) -> Result<Self, ReadError> {
        Self::with(root, blocks, Some(kmem))
    }

    fn with(root: &Root, blocks: &MemoryBlocks, kmem: Option<&str>) -> Result<Self, ReadError> {
        let mut found = Self::default();
        for device in dax::read(root)? {
            if device.mode == Some(DaxMode::SystemRam) || Some(device.name.as_str()) == kmem {
                let whole = device.ranges.iter().filter_map(|&range| whole_blocks(range, blocks));
                let whole: Vec<PhysRange> = whole.collect();
                let bytes = whole.iter().map(|range| saturating_bytes(*range)).sum();
                let kind = MemoryGroupKind::Static { bytes: ByteSize(bytes) };
                found.add(blocks, device.name, device.target_node, kind, &whole);
            }
        }
        for (device, range) in virtio_mem(&root.text("proc/iomem")?.unwrap_or_default()) {
            let node = blocks.within(range).find_map(|block| block.node());
            found.add(blocks, device, node, MemoryGroupKind::Dynamic, &[range]);
        }
        let firmware = root.bytes(BOOT_PARAMS).unwrap_or_default().map(|data| e820_ram(&data));
        let is_early = |range: PhysRange| match &firmware {
            Some(ram) => ram.iter().any(|ram| ram.overlaps(range)),
            None => true,
        };
        let rest = blocks.blocks.values().filter(|block| !found.of_block.contains_key(&block.id));
        found.early = rest.filter(|block| is_early(block.range)).map(|block| block.id).collect();
        Ok(found)
    }

    /// The group of a block.
    #[must_use]
    pub fn group_of(&self, block: BlockId) -> Option<&MemoryGroup> {
        self.of_block.get(&block).map(|&index| &self.groups[index])
    }

    fn add(
        &mut self,
        blocks: &MemoryBlocks,
        device: String,
        node: Option<NodeId>,
        kind: MemoryGroupKind,
        ranges: &[PhysRange],
    ) {
        let index = self.groups.len();
        self.groups.push(MemoryGroup { device, node, kind });
        for block in ranges.iter().flat_map(|&range| blocks.within(range)) {
            self.of_block.insert(block.id, index);
        }
    }
}

/// Blocks whose dax device is gone, and their memory with it.
///
/// A device that goes away while its blocks are online leaves them behind, with the resource that
/// the driver kmem made for them (`dev_dax_kmem_remove`: "cannot be hotremoved until the next
/// reboot"). They can be taken offline, and online again, though nothing is behind them any more.
///
/// # Errors
/// [`ReadError`].
pub fn abandoned(root: &Root, blocks: &MemoryBlocks) -> Result<BTreeSet<BlockId>, ReadError> {
    let iomem = root.text("proc/iomem")?.unwrap_or_default();
    Ok(abandoned_of(&dax::read(root)?, &iomem, blocks))
}

/// As [`abandoned`], from what is read already.
pub(crate) fn abandoned_of(
    devices: &[DaxDevice],
    iomem: &str,
    blocks: &MemoryBlocks,
) -> BTreeSet<BlockId> {
    let there: Vec<PhysRange> = devices.iter().flat_map(|it| it.ranges.iter().copied()).collect();
    let left = iomem::lines(iomem).filter_map(Result::ok).filter(|line| {
        line.name.ends_with("(kmem)") && !there.iter().any(|there| there.overlaps(line.range))
    });
    let within = left.flat_map(|line| blocks.within(line.range).map(|block| block.id));
    within.collect()
}

/// The blocks that lie in a range whole.
pub(crate) fn whole_blocks(range: PhysRange, blocks: &MemoryBlocks) -> Option<PhysRange> {
    let start = range.start().align_up(blocks.block_bytes)?;
    let last = match range.last().checked_add(1) {
        Some(end) => end.align_down(blocks.block_bytes).checked_sub(1)?,
        None => range.last(),
    };
    PhysRange::new(start, last)
}

/// Its size; memory of 2^64 bytes there is not.
fn saturating_bytes(range: PhysRange) -> u64 {
    u64::try_from(range.bytes()).unwrap_or(u64::MAX)
}

/// The resources of virtio-mem devices: named after a virtio device, with plugged memory beneath.
fn virtio_mem(iomem: &str) -> Vec<(String, PhysRange)> {
    let mut devices: Vec<(String, PhysRange)> = Vec::new();
    let mut above: Option<(String, PhysRange)> = None;
    for Line { range, name, .. } in iomem::lines(iomem).filter_map(Result::ok) {
        if name.starts_with("virtio") && name["virtio".len()..].parse::<u32>().is_ok() {
            above = Some((name.to_owned(), range));
        } else if name == "System RAM (virtio_mem)"
            && let Some(device) = above.take_if(|(_, all)| all.contains(range))
        {
            devices.push(device);
        }
    }
    devices
}

/// The RAM of the map in boot_params; what is cut off is left out.
fn e820_ram(data: &[u8]) -> Vec<PhysRange> {
    let count = usize::from(data.get(E820_ENTRIES_AT).copied().unwrap_or(0));
    let table = data.get(E820_TABLE_AT..).unwrap_or_default();
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |all, &byte| all << 8 | u64::from(byte));
    let entries = table.chunks_exact(E820_ENTRY_BYTES).take(count);
    let ram = entries.filter(|entry| number(&entry[16..20]) == u64::from(E820_RAM));
    ram.filter_map(|entry| {
        PhysRange::from_size(PhysAddr(number(&entry[..8])), number(&entry[8..16]))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virtio_mem_is_found_by_what_is_plugged() {
        let iomem = "00100000-7ffdcfff : System RAM\n\
                     febf4000-febf7fff : virtio-pci-modern\n\
                     100000000-4ffffffff : virtio0\n  \
                       100000000-17fffffff : System RAM (virtio_mem)\n  \
                       180000000-1ffffffff : System RAM (virtio_mem)\n\
                     500000000-5ffffffff : virtio1\n";
        let range = PhysRange::new(PhysAddr(0x1_0000_0000), PhysAddr(0x4_ffff_ffff)).unwrap();
        assert_eq!(virtio_mem(iomem), [("virtio0".to_owned(), range)]);
        // As everybody but root sees it.
        let zeroes = "00000000-00000000 : virtio0\n  00000000-00000000 : System RAM (virtio_mem)";
        assert_eq!(virtio_mem(zeroes).len(), 1);
        assert!(virtio_mem("nonsense : \n-: : x\nzz-yy : virtio0").is_empty());
    }

    #[test]
    fn blocks_without_their_dax_device_are_abandoned() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("sys/devices/system/memory/block_size_bytes", "8000000");
        for block in [32, 33, 34] {
            let folder = format!("sys/devices/system/memory/memory{block}");
            write(&format!("{folder}/phys_index"), &format!("{block:08x}"));
            write(&format!("{folder}/state"), "offline");
            write(&format!("{folder}/valid_zones"), "Normal Movable");
        }
        write(
            "proc/iomem",
            "00100000-7ffdcfff : System RAM\n\
             100000000-1ffffffff : CXL Window 0\n  \
               100000000-107ffffff : System RAM (kmem)\n  \
               108000000-10fffffff : region1\n    \
                 108000000-10fffffff : dax1.0\n      \
                   108000000-10fffffff : System RAM (kmem)\n",
        );
        let device = "sys/bus/dax/devices/dax1.0";
        write(&format!("{device}/size"), "134217728");
        write(&format!("{device}/mapping0/start"), "0x108000000");
        write(&format!("{device}/mapping0/end"), "0x10fffffff");
        let root = Root::new(folder.path());
        let blocks = MemoryBlocks::read(&root).unwrap().unwrap();
        assert_eq!(blocks.blocks.len(), 3);
        // Block 34 is not kmem's.
        assert_eq!(abandoned(&root, &blocks).unwrap(), BTreeSet::from([BlockId(32)]));
        let topology = crate::Topology::read(&root);
        let told = serde_json::to_value(topology.blocks.unwrap()).unwrap();
        assert_eq!(told["abandoned"], serde_json::json!([32]));
        // As everybody but root sees it.
        write("proc/iomem", "00000000-00000000 : System RAM (kmem)\n");
        assert!(abandoned(&root, &blocks).unwrap().is_empty());
    }

    #[test]
    fn the_firmwares_map_is_read_from_boot_params() {
        let mut data = vec![0; E820_TABLE_AT + 3 * E820_ENTRY_BYTES];
        data[E820_ENTRIES_AT] = 200;
        let mut entry = |index: usize, start: u64, size: u64, kind: u32| {
            let at = E820_TABLE_AT + index * E820_ENTRY_BYTES;
            data[at..at + 8].copy_from_slice(&start.to_le_bytes());
            data[at + 8..at + 16].copy_from_slice(&size.to_le_bytes());
            data[at + 16..at + 20].copy_from_slice(&kind.to_le_bytes());
        };
        entry(0, 0, 0x9fc00, 1);
        entry(1, 0xf0000, 0x10000, 2);
        entry(2, u64::MAX, 2, 1);
        let low = PhysRange::from_size(PhysAddr(0), 0x9fc00).unwrap();
        assert_eq!(e820_ram(&data), [low]);
        assert!(e820_ram(&data[..10]).is_empty());
    }
}
