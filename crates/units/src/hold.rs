//! Why memory cannot leave.
//!
//! Every pageblock that a give-back could not free has a holder and one of these reasons. The
//! text of [`core::fmt::Display`] is what an operator reads; [`HoldReason::code`] is stable and
//! is what programs compare.

use core::fmt;

/// Why a pageblock stays where it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum HoldReason {
    /// The program locked it (mlock, mlockall).
    MemoryLock,
    /// An io_uring is open: the kernel may write to the memory at any time.
    IoUring,
    /// A Linux AIO context (libaio) is open.
    LinuxAio,
    /// An RDMA device is open: registered memory is written by the adapter.
    Rdma,
    /// A VFIO, vhost or similar device is open: memory may be the target of DMA.
    DeviceDma,
    /// The program uses priority-inheritance mutexes: the kernel changes their words itself, and
    /// does not wait for a block to be moved.
    PriorityInheritance,
    /// A direct read may be under way into it.
    DirectRead,
    /// It is shared copy-on-write with a forked child that still runs.
    SharedWithChild,
    /// The program put another kind of mapping over a part of it, or gave it special advice.
    ForeignMapping,
    /// Moving it would need more mappings than vm.max_map_count allows.
    MapCount,
    /// It is in use, and no other node has room for it.
    NoRoom,
    /// Its program does not answer.
    NotResponding,
    /// Its program is gone, but a process that inherited the memory is still there.
    Inherited,
    /// It is being moved at this moment.
    Moving,
    /// Its program could not move it: the system call failed.
    MoveFailed,
    /// It was asked for that it never be moved: its program, or the configuration of its tenant.
    NoMigration,
    /// It was pinned for long on request.
    LongTermPin,
    /// The driver of its device has not saved the device's state yet.
    DeviceState,
}

impl HoldReason {
    /// All reasons, for tables and tests.
    pub const ALL: [Self; 18] = [
        Self::MemoryLock,
        Self::IoUring,
        Self::LinuxAio,
        Self::Rdma,
        Self::DeviceDma,
        Self::PriorityInheritance,
        Self::DirectRead,
        Self::SharedWithChild,
        Self::ForeignMapping,
        Self::MapCount,
        Self::NoRoom,
        Self::NotResponding,
        Self::Inherited,
        Self::Moving,
        Self::MoveFailed,
        Self::NoMigration,
        Self::LongTermPin,
        Self::DeviceState,
    ];

    /// The stable name, as it stands in JSON.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::MemoryLock => "memory-lock",
            Self::IoUring => "io-uring",
            Self::LinuxAio => "linux-aio",
            Self::Rdma => "rdma",
            Self::DeviceDma => "device-dma",
            Self::PriorityInheritance => "priority-inheritance",
            Self::DirectRead => "direct-read",
            Self::SharedWithChild => "shared-with-child",
            Self::ForeignMapping => "foreign-mapping",
            Self::MapCount => "map-count",
            Self::NoRoom => "no-room",
            Self::NotResponding => "not-responding",
            Self::Inherited => "inherited",
            Self::Moving => "moving",
            Self::MoveFailed => "move-failed",
            Self::NoMigration => "no-migration",
            Self::LongTermPin => "long-term-pin",
            Self::DeviceState => "device-state",
        }
    }

    /// Whether the reason lasts until the program changes something: such memory is *pinned*,
    /// and asking again at once will not help.
    #[must_use]
    pub const fn is_pin(self) -> bool {
        matches!(
            self,
            Self::MemoryLock
                | Self::IoUring
                | Self::LinuxAio
                | Self::Rdma
                | Self::DeviceDma
                | Self::PriorityInheritance
                | Self::SharedWithChild
                | Self::ForeignMapping
                | Self::Inherited
                | Self::NoMigration
                | Self::LongTermPin
        )
    }
}

impl fmt::Display for HoldReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MemoryLock => "locked in memory (mlock)",
            Self::IoUring => "an io_uring is open: the kernel may write to it at any time",
            Self::LinuxAio => "a Linux AIO context is open: the kernel may write to it at any time",
            Self::Rdma => "an RDMA device is open: an adapter may write to it at any time",
            Self::DeviceDma => "a DMA device (VFIO, vhost) is open: it may write at any time",
            Self::PriorityInheritance => {
                "the program uses priority-inheritance mutexes, which cannot be moved"
            }
            Self::DirectRead => "a direct read may be under way into it",
            Self::SharedWithChild => "shared copy-on-write with a forked child",
            Self::ForeignMapping => "the program put another mapping or special advice over it",
            Self::MapCount => "moving it would exceed vm.max_map_count",
            Self::NoRoom => "in use, and no other node has room for it",
            Self::NotResponding => "the program does not answer",
            Self::Inherited => "its program is gone, but a child that inherited it is not",
            Self::Moving => "being moved at this moment",
            Self::MoveFailed => "the program could not move it",
            Self::NoMigration => "it must not be moved: so its program or its tenant asked",
            Self::LongTermPin => "pinned for long on request",
            Self::DeviceState => "the device's driver has not saved its state yet",
        })
    }
}
