//! A machine without a guest: a test reads and writes what its processor would (QEMU
//! `docs/devel/testing/qtest.rst`).
//!
//! QEMU's processors never start, so that not even firmware runs; a socket takes lines such as
//! `readl 0xe0000000` and answers `OK 0x1`. So a test talks to an emulated device with nothing in
//! between: no kernel, no driver, nobody who numbered the buses ([`pci`] does that).
//!
//! **Invariants.** Lines are answered in order, each within a deadline; when QEMU ends, the error
//! says what was under way and what QEMU said. QEMU lives no longer than the [`Qtest`].

pub mod pci;

use std::{
    os::unix::net::UnixListener,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    Error, Machine, Qmp,
    channel::Channel,
    guest::emulator,
    qemu,
    watch::{Folder, Watched},
};

/// How long QEMU may take to start, and for one access.
const LIMIT: Duration = Duration::from_secs(60);

/// A machine without a guest. Dropped, it is killed.
pub struct Qtest {
    watched: Arc<Watched>,
    qmp: Qmp,
    channel: Mutex<Channel>,
}

impl std::fmt::Debug for Qtest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Qtest").finish_non_exhaustive()
    }
}

impl Qtest {
    /// Starts a machine. Its memory has nothing in it, and nobody has configured its devices.
    ///
    /// # Errors
    /// If the machine cannot be built as described, QEMU is missing, or does not start in time.
    pub fn start(machine: &Machine) -> Result<Self, Error> {
        machine.check()?;
        let folder = Folder::new()?;
        let listen = |name: &str| {
            let path = folder.path().join(name);
            UnixListener::bind(&path).map_err(Error::file(path))
        };
        let (qmp, qtest) = (listen("qmp")?, listen("qtest")?);
        let arguments = qemu::without_guest(machine, folder.path());
        let watched = Arc::new(Watched::start(&emulator()?, &arguments, folder)?);
        let doing = format!("starting machine {:?} without a guest", machine.name());
        let accept = |listener| watched.accept(listener, &doing, LIMIT).map(Channel::new);
        // QEMU connects in the order of its options, and says nothing on either before it has both.
        let (qmp, channel) = (accept(&qmp)?, Mutex::new(accept(&qtest)?));
        let qmp = Qmp::new(qmp, Arc::clone(&watched))?;
        Ok(Self { watched, qmp, channel })
    }

    /// QEMU's control socket.
    #[must_use]
    pub const fn qmp(&self) -> &Qmp {
        &self.qmp
    }

    /// Writes 32 bits to an I/O port.
    ///
    /// # Errors
    /// If QEMU refuses, ends, or does not answer in time.
    pub fn outl(&self, port: u16, value: u32) -> Result<(), Error> {
        self.done(&format!("outl {port:#x} {value:#x}"))
    }

    /// The 32 bits at a physical address.
    ///
    /// # Errors
    /// As [`Qtest::outl`].
    pub fn read32(&self, address: u64) -> Result<u32, Error> {
        let line = format!("readl {address:#x}");
        let value = self.number(&line)?;
        u32::try_from(value).map_err(|_| answer(format!("{value:#x}"), "32 bits"))
    }

    /// The 64 bits at a physical address.
    ///
    /// # Errors
    /// As [`Qtest::outl`].
    pub fn read64(&self, address: u64) -> Result<u64, Error> {
        self.number(&format!("readq {address:#x}"))
    }

    /// Writes 32 bits to a physical address.
    ///
    /// # Errors
    /// As [`Qtest::outl`].
    pub fn write32(&self, address: u64, value: u32) -> Result<(), Error> {
        self.done(&format!("writel {address:#x} {value:#x}"))
    }

    /// Writes 64 bits to a physical address.
    ///
    /// # Errors
    /// As [`Qtest::outl`].
    pub fn write64(&self, address: u64, value: u64) -> Result<(), Error> {
        self.done(&format!("writeq {address:#x} {value:#x}"))
    }

    /// So many bytes from a physical address.
    ///
    /// # Errors
    /// As [`Qtest::outl`].
    pub fn read(&self, address: u64, bytes: usize) -> Result<Vec<u8>, Error> {
        if bytes == 0 {
            return Ok(Vec::new()); // QEMU takes no such line
        }
        let text = self.say(&format!("read {address:#x} {bytes:#x}"))?;
        let read = text.strip_prefix("0x").and_then(from_hex).filter(|read| read.len() == bytes);
        read.ok_or_else(|| answer(text, "as many bytes as were asked for, in hexadecimal"))
    }

    /// Writes bytes to a physical address.
    ///
    /// # Errors
    /// As [`Qtest::outl`].
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Error> {
        if bytes.is_empty() {
            return Ok(());
        }
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.done(&format!("write {address:#x} {:#x} 0x{digits}", bytes.len()))
    }

    fn done(&self, line: &str) -> Result<(), Error> {
        match self.say(line)? {
            nothing if nothing.is_empty() => Ok(()),
            more => Err(answer(more, "OK and nothing else")),
        }
    }

    fn number(&self, line: &str) -> Result<u64, Error> {
        let text = self.say(line)?;
        let number = text.strip_prefix("0x").and_then(|text| u64::from_str_radix(text, 16).ok());
        number.ok_or_else(|| answer(text, "a number in hexadecimal"))
    }

    /// Says a line; returns what comes after the OK.
    fn say(&self, line: &str) -> Result<String, Error> {
        let deadline = Instant::now() + LIMIT;
        let broken = |broken| self.watched.broken(broken, line, LIMIT);
        let mut channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        channel.send(format!("{line}\n").as_bytes(), deadline).map_err(broken)?;
        let said = channel.line(deadline).map_err(broken)?;
        match said.strip_prefix("OK") {
            Some(rest) => Ok(rest.trim().to_owned()),
            None => Err(answer(format!("{said} (to {line})"), "OK")),
        }
    }
}

impl Drop for Qtest {
    fn drop(&mut self) {
        self.watched.kill();
    }
}

fn answer(answer: String, expected: &'static str) -> Error {
    Error::Answer { speaker: "qtest", answer, expected }
}

/// Bytes from their digits, or none.
fn from_hex(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
