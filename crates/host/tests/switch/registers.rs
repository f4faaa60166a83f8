//! A switch's function in a folder that looks like sysfs: its registers are a file, mapped by who
//! manages it and by a thread that plays the switch.
//!
//! The thread is as strict as hardware: it looks at the command when the doorbell rings, and not
//! before; what it answers is there when the doorbell is silent.

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use memtide_cxl::{Opcode, ReturnCode};
use memtide_host::Root;
use memtide_sys::DeviceRegisters;

pub const FUNCTION: &str = "0000:0d:00.1";

/// Where things are: capabilities as QEMU's function has them.
const STATUS: u32 = 0x80;
const MAILBOX: usize = 0x88;
const CONTROL: usize = MAILBOX + 4;
const COMMAND: usize = MAILBOX + 8;
const RETURN: usize = MAILBOX + 0x10;
const PAYLOAD: usize = MAILBOX + 0x20;
const BYTES: usize = 0x2000;

/// What comes of a command.
#[derive(Clone, Debug)]
pub enum Said {
    /// This.
    Reply(ReturnCode, Vec<u8>),
    /// A code, this payload, and another length than it has.
    Length(Vec<u8>, usize),
    /// Nothing, ever.
    Nothing,
    /// The function is no longer there.
    Gone,
}

type Play = Box<dyn FnMut(Opcode, &[u8]) -> Said + Send>;

/// A function, and who plays it.
pub struct Function {
    root: Root,
    folder: PathBuf,
    stop: Arc<AtomicBool>,
    play: Arc<Mutex<Play>>,
    player: Option<JoinHandle<()>>,
    _directory: tempfile::TempDir,
}

impl Function {
    /// A function with a mailbox of 2 to the power of `payload_log2` bytes.
    pub fn new(payload_log2: u8, play: impl FnMut(Opcode, &[u8]) -> Said + Send + 'static) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("sys/bus/pci/devices").join(FUNCTION);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("class"), "0x0c0b00\n").unwrap();
        fs::write(folder.join("enable"), "0\n").unwrap();
        let line = "0x00000000fe800000 0x00000000fe801fff 0x0000000000140204\n";
        fs::write(folder.join("resource"), line).unwrap();
        fs::write(folder.join("config"), config()).unwrap();
        let file = fs::File::create_new(folder.join("resource0")).unwrap();
        file.set_len(BYTES as u64).unwrap();
        let registers = map(&folder);
        let play: Arc<Mutex<Play>> = Arc::new(Mutex::new(Box::new(play)));
        let (stop, root) = (Arc::default(), Root::new(directory.path()));
        let player = Player { registers, stop: Arc::clone(&stop), play: Arc::clone(&play) };
        let player = Some(player.start(payload_log2));
        Self { root, folder, stop, play, player, _directory: directory }
    }

    pub fn root(&self) -> &Root {
        &self.root
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// From now on somebody else plays it.
    pub fn play(&self, play: impl FnMut(Opcode, &[u8]) -> Said + Send + 'static) {
        *self.play.lock().unwrap() = Box::new(play);
    }

    /// A driver of the kernel's takes it.
    pub fn bind(&self, driver: &str) {
        let target = format!("../../../../bus/pci/drivers/{driver}");
        std::os::unix::fs::symlink(target, self.folder.join("driver")).unwrap();
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(player) = self.player.take() {
            let done = player.join();
            assert!(done.is_ok() || thread::panicking(), "who played the switch panicked");
        }
    }
}

fn map(folder: &Path) -> DeviceRegisters {
    let path = folder.join("resource0");
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    DeviceRegisters::map(&file, BYTES).unwrap()
}

/// Configuration space with a register locator: device registers at the start of base address 0.
fn config() -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    let words = [0x0001_0023, 0x0140_1e98, 8, 0x0000_0300, 0];
    for (number, word) in words.iter().enumerate() {
        bytes[0x100 + 4 * number..][..4].copy_from_slice(&u32::to_le_bytes(*word));
    }
    bytes
}

/// Plays the function.
struct Player {
    registers: DeviceRegisters,
    stop: Arc<AtomicBool>,
    play: Arc<Mutex<Play>>,
}

impl Player {
    fn start(mut self, payload_log2: u8) -> JoinHandle<()> {
        for (at, word) in [
            (0, 0x0001_0000),
            (4, 2),
            (0x10, 0x0002_0001),
            (0x14, STATUS),
            (0x20, 0x0001_0002),
            (0x24, MAILBOX as u32),
            (MAILBOX, payload_log2.into()),
        ] {
            self.registers.write32(at, word).unwrap();
        }
        thread::spawn(move || {
            while !self.stop.load(Ordering::SeqCst) {
                match self.registers.read32(CONTROL).unwrap() {
                    0 => thread::sleep(Duration::from_micros(20)),
                    1 => {
                        if !self.answer() {
                            return;
                        }
                    }
                    other => panic!("{other:#x} in the doorbell"),
                }
            }
        })
    }

    fn answer(&mut self) -> bool {
        let command = self.registers.read64(COMMAND).unwrap();
        let length = (command >> 16 & 0x1f_ffff) as usize;
        let mut payload = Vec::new();
        for at in (0..length).step_by(4) {
            payload.extend(self.registers.read32(PAYLOAD + at).unwrap().to_le_bytes());
        }
        payload.truncate(length);
        let opcode = Opcode(command as u16);
        let said = (self.play.lock().unwrap())(opcode, &payload);
        let (code, payload, length) = match said {
            Said::Reply(code, payload) => {
                let length = payload.len();
                (code, payload, length)
            }
            Said::Length(payload, length) => (ReturnCode::SUCCESS, payload, length),
            Said::Nothing => return false,
            Said::Gone => {
                for at in (0..BYTES).step_by(4) {
                    self.registers.write32(at, u32::MAX).unwrap();
                }
                return false;
            }
        };
        for (number, bytes) in payload.chunks(4).enumerate() {
            let mut word = [0; 4];
            word[..bytes.len()].copy_from_slice(bytes);
            let word = u32::from_le_bytes(word);
            self.registers.write32(PAYLOAD + 4 * number, word).unwrap();
        }
        let answer = u64::from(opcode.0) | (length as u64 & 0x1f_ffff) << 16;
        self.registers.write64(COMMAND, answer).unwrap();
        self.registers.write64(RETURN, u64::from(code.0) << 32).unwrap();
        self.registers.write32(CONTROL, 0).unwrap();
        true
    }
}

/// Rings the doorbell as somebody who was killed before he heard the answer.
pub fn ring_and_leave(folder: &Path, opcode: Opcode) {
    let mut registers = map(folder);
    registers.write64(COMMAND, opcode.0.into()).unwrap();
    registers.write32(CONTROL, 1).unwrap();
}

/// Cuts configuration space to what is told to those who are not root.
pub fn hide_configuration(folder: &Path) {
    let config = fs::read(folder.join("config")).unwrap();
    let file = fs::File::create(folder.join("config")).unwrap();
    file.write_all_at(&config[..64], 0).unwrap();
}
