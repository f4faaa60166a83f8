//! What the demonstrations run: GNU sort, on random lines.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
    process::{Child, Command},
};

use crate::shell::Failure;

/// How many lines are sorted.
pub const LINES: u64 = 6_000_000;

/// sort with a buffer larger than the near node: `-S` is memory that it asks of malloc.
pub fn sort(mut command: Command, from: &Path, to: &Path) -> Command {
    command.args(["-S", "600M", "--parallel=2", "-o"]).arg(to).arg(from).env("LC_ALL", "C");
    command
}

/// Writes random lines, the same each time.
///
/// # Errors
/// The file cannot be written.
pub fn write_lines(path: &Path) -> Result<(), Failure> {
    let written = File::create(path).and_then(|file| lines(BufWriter::new(file)));
    written.map_err(|source| Failure::File { path: path.to_owned(), source })
}

fn lines(mut file: impl Write) -> std::io::Result<()> {
    let mut state = 1_u64;
    for _ in 0..LINES {
        // Marsaglia's xorshift64: any numbers will do.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        writeln!(file, "{state:016x}")?;
    }
    file.flush()
}

/// A child that does not outlive the demonstration.
pub struct Running(pub Child);

impl Running {
    /// Waits for it to end, as it should.
    pub fn finish(&mut self) -> Result<(), Failure> {
        let program = "memtide run".to_owned();
        match self.0.wait() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(Failure::Ended { program, status }),
            Err(source) => Err(Failure::Start { program, source }),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
