//! NUMA nodes and virtio-mem devices of a machine.

use std::ops::Range;

use memtide_units::ByteSize;

use crate::MachineError;

/// So many MiB.
#[must_use]
pub const fn mib(count: u64) -> ByteSize {
    ByteSize(count << 20)
}

/// So many GiB.
#[must_use]
pub const fn gib(count: u64) -> ByteSize {
    ByteSize(count << 30)
}

/// What firmware says (ACPI 6.5, 5.2.27 HMAT, and 5.2.17 SLIT) of a node, seen from node 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    /// Nanoseconds for a read or a write.
    pub latency_ns: u32,
    /// MiB in a second, for reads or writes.
    pub bandwidth_mib_s: u32,
}

/// A node that firmware announces.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NumaNode {
    pub(crate) memory: ByteSize,
    pub(crate) processors: Range<u32>,
    pub(crate) access: Option<Access>,
    pub(crate) distance: Option<u8>,
}

impl NumaNode {
    /// A node with these processors and so much memory.
    #[must_use]
    pub const fn near(processors: Range<u32>, memory: ByteSize) -> Self {
        Self { memory, processors, access: None, distance: None }
    }

    /// A node with memory and without processors.
    #[must_use]
    pub const fn far(memory: ByteSize) -> Self {
        Self::near(0..0, memory)
    }

    /// A node with nothing: where a virtio-mem device will put its memory.
    #[must_use]
    pub const fn empty() -> Self {
        Self::far(ByteSize(0))
    }

    /// What HMAT says of it. A machine has an HMAT when all its nodes with memory have this.
    #[must_use]
    pub const fn access(mut self, latency_ns: u32, bandwidth_mib_s: u32) -> Self {
        self.access = Some(Access { latency_ns, bandwidth_mib_s });
        self
    }

    /// Its distance from node 0, as SLIT says it: 11 to 254; 20 unless said.
    #[must_use]
    pub const fn distance(mut self, distance: u8) -> Self {
        self.distance = Some(distance);
        self
    }
}

/// A virtio-mem device (virtio 1.2, 5.15): memory that QEMU plugs and unplugs block by block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VirtioMem {
    pub(crate) name: String,
    pub(crate) node: usize,
    pub(crate) most: ByteSize,
    pub(crate) block: ByteSize,
    pub(crate) requested: ByteSize,
}

impl VirtioMem {
    /// A device of at most so much memory on a node, with blocks of 2 MiB and nothing plugged.
    ///
    /// It is `/machine/peripheral/NAME` for [`crate::Qmp`].
    #[must_use]
    pub fn new(name: &str, node: usize, most: ByteSize) -> Self {
        let (block, requested) = (mib(2), ByteSize(0));
        Self { name: name.to_owned(), node, most, block, requested }
    }

    /// The unit of plugging: a power of two, 2 MiB or more.
    #[must_use]
    pub const fn block(mut self, block: ByteSize) -> Self {
        self.block = block;
        self
    }

    /// What is asked of the guest from the start.
    #[must_use]
    pub const fn requested(mut self, requested: ByteSize) -> Self {
        self.requested = requested;
        self
    }

    pub(crate) fn check(&self, nodes: usize) -> Result<(), MachineError> {
        // Without NUMA there is one node.
        let nodes = nodes.max(1);
        if self.node >= nodes {
            let field = format!("virtio-mem {}", self.name);
            return Err(MachineError::NoSuchNode { field, node: self.node, nodes });
        }
        let of = |what| format!("{what} of virtio-mem {}", self.name);
        let block = if self.block.0.is_power_of_two() { self.block } else { ByteSize(0) };
        size(of("block"), block, mib(2))?;
        size(of("size"), self.most, self.block)?;
        if self.requested.0 > 0 {
            size(of("requested size"), self.requested, self.block)?;
        }
        number(of("requested size"), self.requested.0, 0..=self.most.0)
    }
}

pub(crate) fn size(field: String, value: ByteSize, step: ByteSize) -> Result<(), MachineError> {
    if value.0 > 0 && value.0.is_multiple_of(step.0) {
        return Ok(());
    }
    Err(MachineError::Size { field, value, step })
}

pub(crate) fn number(
    field: String,
    value: u64,
    allowed: std::ops::RangeInclusive<u64>,
) -> Result<(), MachineError> {
    if allowed.contains(&value) {
        return Ok(());
    }
    let (least, most) = (*allowed.start(), *allowed.end());
    Err(MachineError::Number { field, value, least, most })
}
