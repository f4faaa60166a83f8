//! Real kernels on emulated hardware, driven by tests.
//!
//! **Problem.** What memtide does to a Linux machine (CXL regions, dax devices, memory blocks,
//! virtio-mem) can only be believed when a real kernel has done it, and few developers own CXL
//! hardware, let alone hardware that may be broken on purpose.
//!
//! **Idea.** QEMU emulates that hardware well enough for an unmodified distribution kernel. A test
//! describes a [`Machine`], boots it in a few seconds with software emulation (no KVM, no root),
//! and talks to a shell inside through a serial port of its own. Nothing is installed in the guest
//! and there is no disk: the kernel's modules, busybox and the programs under test are its
//! [`Initramfs`]. QEMU's own control socket ([`Qmp`]) unplugs devices, plugs memory and poisons it.
//!
//! ```no_run
//! use memtide_testbed::{Guest, gib, machines};
//! # fn test() -> Result<(), memtide_testbed::Error> {
//! if !memtide_testbed::ready() {
//!     return Ok(()); // said so, loudly
//! }
//! let guest = Guest::boot(&machines::cxl_direct())?;
//! assert_eq!(guest.sh("cat /sys/bus/cxl/devices/mem0/ram/size")?, "0x40000000");
//! guest.powerdown()
//! # }
//! ```
//!
//! **Invariants.** Nothing waits without a limit. Whatever goes wrong in a guest (no boot, a panic,
//! a hung command) is an [`Error`] that shows the end of its console. When a [`Guest`] is dropped,
//! or the test process dies in any way, QEMU is killed and its files are removed. Guests share
//! nothing but read-only files, so tests can run side by side.
//!
//! **What it refuses.** To measure: under software emulation times inside a guest mean nothing,
//! and ratios little. To know memtide: it depends on nothing of it but the type of a size; only its
//! tests in `tests/` hold memtide against the kernel.
//!
//! * [`machine`], [`mod@cxl`], [`memory`]: a machine as a value; [`machines`]: those that have
//!   names.
//! * [`guest`]: a booted one; [`background`]: programs that go on running in it; [`by_hand`]: CXL
//!   regions by plain writes to sysfs, for tests of something else.
//! * [`qmp`]: QEMU's control socket.
//! * [`qtest`]: a machine without a guest, told register by register.
//! * [`kernel`], [`initramfs`], [`program`]: what is booted.
//! * [`mod@needs`]: skipping loudly where something is missing.

#![forbid(unsafe_code)]

mod agent;
mod channel;
mod qemu;
mod watch;

pub mod background;
pub mod by_hand;
pub mod cxl;
pub mod error;
pub mod guest;
pub mod initramfs;
pub mod kernel;
pub mod machine;
pub mod machines;
pub mod memory;
pub mod needs;
pub mod places;
pub mod program;
pub mod qmp;
pub mod qtest;
pub mod shell;

pub use background::Background;
pub use cxl::{CxlDevice, DynamicCapacity, HostBridge, RootPort, Window};
pub use error::{Error, MachineError};
pub use guest::{Guest, Output};
pub use initramfs::Initramfs;
pub use kernel::Kernel;
pub use machine::{Machine, Onlining};
pub use memory::{Access, NumaNode, VirtioMem, gib, mib};
pub use needs::ready;
pub use qmp::{Event, Qmp};
pub use qtest::Qtest;
