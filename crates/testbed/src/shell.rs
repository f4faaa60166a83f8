//! A machine for a person: its console on this terminal.

use std::process::{Command, ExitStatus};

use crate::{
    Error, Initramfs, Kernel, Machine,
    guest::emulator,
    qemu::{self, Connections, Console},
};

/// Boots a machine with a root shell on this terminal, and waits for its end.
///
/// # Errors
/// If the machine cannot be built as described, or something is missing on this computer.
pub fn shell(machine: &Machine, initramfs: &Initramfs) -> Result<ExitStatus, Error> {
    machine.check()?;
    let kernel = Kernel::find()?;
    let connections = Connections {
        kernel: kernel.image(),
        initramfs: &initramfs.build(&kernel)?,
        console: Console::Person,
    };
    let emulator = emulator()?;
    let mut qemu = Command::new(&emulator);
    qemu.args(qemu::arguments(machine, &connections)).status().map_err(Error::file(emulator))
}
