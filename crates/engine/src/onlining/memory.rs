//! The memory of a machine as onlining sees it: nodes, zones, groups, blocks.

use alloc::{collections::BTreeMap, vec::Vec};

use memtide_units::{FrameRange, NodeId, OnlineZone, Pfn};

use super::zone_for_pfn_range::{OnlinePolicy, OnlineType, zone_for_pfn_range};

/// Memory that a device plugs (`struct memory_group`).
#[derive(Clone, Debug)]
pub struct Group {
    node: NodeId,
    kind: GroupKind,
    present_kernel_pages: u64,
    present_movable_pages: u64,
    /// In zones that Linux does not have.
    present_other_pages: u64,
}

/// How the memory of a group comes and goes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum GroupKind {
    /// As a whole: a DIMM, ACPI memory, dax/kmem.
    Static {
        /// All of it.
        max_pages: u64,
    },
    /// In units, of which any may leave again: virtio-mem.
    Dynamic {
        /// A unit.
        unit_pages: u64,
    },
}

/// The number of a group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct GroupId(usize);

impl Group {
    /// Its node.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.node
    }

    /// How it comes and goes.
    #[must_use]
    pub const fn kind(&self) -> GroupKind {
        self.kind
    }

    /// What of it is online in kernel zones.
    #[must_use]
    pub const fn present_kernel_pages(&self) -> u64 {
        self.present_kernel_pages
    }

    /// What of it is online in ZONE_MOVABLE.
    #[must_use]
    pub const fn present_movable_pages(&self) -> u64 {
        self.present_movable_pages
    }

    /// What of it is online.
    #[must_use]
    pub const fn present_pages(&self) -> u64 {
        self.present_kernel_pages + self.present_movable_pages + self.present_other_pages
    }

    /// Whether all that is online of it is in ZONE_MOVABLE.
    pub(super) const fn is_all_movable(&self) -> bool {
        self.present_kernel_pages == 0 && self.present_other_pages == 0
    }

    fn present(&mut self, zone: OnlineZone) -> &mut u64 {
        match zone {
            OnlineZone::Kernel => &mut self.present_kernel_pages,
            OnlineZone::Movable => &mut self.present_movable_pages,
            OnlineZone::PreferMovable | OnlineZone::Exmem => &mut self.present_other_pages,
        }
    }
}

/// Pages of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Node {
    /// Present since boot, all in kernel zones.
    pub early: u64,
    /// Of those, of the contiguous memory allocator.
    pub cma: u64,
    /// Plugged, in ZONE_MOVABLE.
    pub movable: u64,
    /// Plugged, in a kernel zone.
    pub kernel: u64,
    /// Plugged, in ZONE_PREFER_MOVABLE.
    pub prefer_movable: u64,
    /// Plugged, in ZONE_EXMEM.
    pub exmem: u64,
}

impl Node {
    fn plugged(&mut self, zone: OnlineZone) -> &mut u64 {
        match zone {
            OnlineZone::Kernel => &mut self.kernel,
            OnlineZone::Movable => &mut self.movable,
            OnlineZone::PreferMovable => &mut self.prefer_movable,
            OnlineZone::Exmem => &mut self.exmem,
        }
    }
}

/// A block that is online.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Block {
    frames: u64,
    node: NodeId,
    group: Option<GroupId>,
    zone: OnlineZone,
}

/// Why memory did not go online, or offline.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OnlineError {
    /// No such node.
    #[error("{node:?} has no memory since boot, and none was plugged")]
    NoSuchNode {
        /// Which.
        node: NodeId,
    },
    /// No such group.
    #[error("{group:?} was never made")]
    NoSuchGroup {
        /// Which.
        group: GroupId,
    },
    /// Empty, or part of it online already.
    #[error("{range}: empty, or online in part")]
    Range {
        /// Which.
        range: FrameRange,
    },
    /// More than the group has, or a block that is more than a unit of it or crosses one.
    #[error("{range}: not inside one unit of {group:?}, or more than is left of it")]
    Group {
        /// Which.
        range: FrameRange,
        /// Of which group.
        group: GroupId,
    },
    /// More memory of the contiguous allocator than memory.
    #[error("{cma} frames of CMA among {early} since boot")]
    Cma {
        /// Frames of CMA.
        cma: u64,
        /// Frames since boot.
        early: u64,
    },
    /// No block that is online starts there.
    #[error("no block that is online starts at {at}")]
    NotOnline {
        /// Where.
        at: Pfn,
    },
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    nodes: BTreeMap<NodeId, Node>,
    groups: Vec<Group>,
    early: Vec<(NodeId, FrameRange)>,
    blocks: BTreeMap<u64, Block>,
}

impl Memory {
    /// No memory.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            nodes: BTreeMap::new(),
            groups: Vec::new(),
            early: Vec::new(),
            blocks: BTreeMap::new(),
        }
    }

    /// Memory that a node has since boot, part of it of the contiguous memory allocator.
    ///
    /// # Errors
    /// [`OnlineError`] when it is empty, there already, or less than its CMA.
    pub fn boot(&mut self, node: NodeId, range: FrameRange, cma: u64) -> Result<(), OnlineError> {
        self.check_absent(range)?;
        if cma > range.frames {
            return Err(OnlineError::Cma { cma, early: range.frames });
        }
        let pages = self.nodes.entry(node).or_default();
        pages.early += range.frames;
        pages.cma += cma;
        self.early.push((node, range));
        Ok(())
    }

    /// A node without memory of its own, to which some may be plugged.
    pub fn add_node(&mut self, node: NodeId) {
        self.nodes.entry(node).or_default();
    }

    /// A new group.
    ///
    /// # Errors
    /// [`OnlineError::NoSuchNode`].
    pub fn add_group(&mut self, node: NodeId, kind: GroupKind) -> Result<GroupId, OnlineError> {
        if !self.nodes.contains_key(&node) {
            return Err(OnlineError::NoSuchNode { node });
        }
        self.groups.push(Group {
            node,
            kind,
            present_kernel_pages: 0,
            present_movable_pages: 0,
            present_other_pages: 0,
        });
        Ok(GroupId(self.groups.len() - 1))
    }

    /// Onlines a block. Returns the zone that it went to.
    ///
    /// # Errors
    /// [`OnlineError`]; then nothing has changed.
    pub fn online(
        &mut self,
        policy: OnlinePolicy,
        online: OnlineType,
        node: NodeId,
        group: Option<GroupId>,
        range: FrameRange,
    ) -> Result<OnlineZone, OnlineError> {
        self.check_absent(range)?;
        if !self.nodes.contains_key(&node) {
            return Err(OnlineError::NoSuchNode { node });
        }
        if let Some(id) = group {
            self.check_group(id, node, range)?;
        }
        let zone = zone_for_pfn_range(self, policy, online, node, group, range);
        let block = Block { frames: range.frames, node, group, zone };
        self.account(block, |pages| *pages += range.frames);
        self.blocks.insert(range.start.0, block);
        Ok(zone)
    }

    /// Takes the block that starts there offline. Returns the zone that it was in.
    ///
    /// # Errors
    /// [`OnlineError::NotOnline`].
    pub fn offline(&mut self, at: Pfn) -> Result<OnlineZone, OnlineError> {
        let block = self.blocks.remove(&at.0).ok_or(OnlineError::NotOnline { at })?;
        self.account(block, |pages| *pages -= block.frames);
        Ok(block.zone)
    }

    /// A group.
    #[must_use]
    pub fn group(&self, id: GroupId) -> Option<&Group> {
        self.groups.get(id.0)
    }

    pub(super) fn groups(&self) -> impl Iterator<Item = (GroupId, &Group)> {
        self.groups.iter().enumerate().map(|(number, group)| (GroupId(number), group))
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes.iter().map(|(&id, node)| (id, node))
    }

    /// Plugged pages that are online in a zone, on all nodes.
    #[must_use]
    pub fn plugged(&self, zone: OnlineZone) -> u64 {
        self.nodes.values().map(|&(mut node)| *node.plugged(zone)).sum()
    }

    /// Blocks online that lie in a range.
    pub(super) fn online_blocks(
        &self,
        range: FrameRange,
    ) -> impl Iterator<Item = (FrameRange, OnlineZone)> {
        let within = self.blocks.range(range.start.0..range.start.0 + range.frames);
        within.map(|(&at, block)| (FrameRange::new(Pfn(at), block.frames), block.zone))
    }

    /// `zone_intersects`: whether a range lies in the span of a zone, from its first page to its
    /// last, holes and all.
    pub(super) fn zone_intersects(
        &self,
        node: NodeId,
        zone: OnlineZone,
        range: FrameRange,
    ) -> bool {
        let early = self.early.iter().filter(|_| zone == OnlineZone::Kernel);
        let early = early.filter(|&&(of, _)| of == node).map(|&(_, range)| range);
        let blocks =
            self.blocks.iter().filter(|(_, block)| (block.node, block.zone) == (node, zone));
        let blocks = blocks.map(|(&at, block)| FrameRange::new(Pfn(at), block.frames));
        let span = early.chain(blocks).map(|range| (range.start.0, range.start.0 + range.frames));
        let span = span.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)));
        span.is_some_and(|(start, end)| range.start.0 < end && start < range.start.0 + range.frames)
    }

    fn account(&mut self, block: Block, change: impl Fn(&mut u64)) {
        let node = self.nodes.get_mut(&block.node).expect("a block is of a node");
        change(node.plugged(block.zone));
        if let Some(GroupId(group)) = block.group {
            change(self.groups[group].present(block.zone));
        }
    }

    fn check_absent(&self, range: FrameRange) -> Result<(), OnlineError> {
        let refused = OnlineError::Range { range };
        let end = range.start.checked_add(range.frames).filter(|_| range.frames != 0);
        let end = end.ok_or(refused)?.0;
        let before = self.blocks.range(..end).next_back();
        let online = before.is_some_and(|(at, block)| at + block.frames > range.start.0);
        let early = self
            .early
            .iter()
            .any(|(_, early)| early.start.0 < end && range.start.0 < early.start.0 + early.frames);
        if online || early { Err(refused) } else { Ok(()) }
    }

    fn check_group(&self, id: GroupId, node: NodeId, range: FrameRange) -> Result<(), OnlineError> {
        let group = self.group(id).ok_or(OnlineError::NoSuchGroup { group: id })?;
        let fits = match group.kind {
            GroupKind::Static { max_pages } => group.present_pages() + range.frames <= max_pages,
            GroupKind::Dynamic { unit_pages } => {
                unit_pages != 0 && range.start.0 % unit_pages + range.frames <= unit_pages
            }
        };
        if fits && group.node == node {
            Ok(())
        } else {
            Err(OnlineError::Group { range, group: id })
        }
    }
}
