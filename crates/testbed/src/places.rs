//! Where things are on this computer.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::Error;

/// Names the folder of an unpacked kernel package.
pub const KERNEL_VARIABLE: &str = "MEMTIDE_TESTBED_KERNEL";

/// Cargo's target directory: `CARGO_TARGET_DIR`, or the one that this program lies in.
#[must_use]
pub fn target() -> PathBuf {
    let workspace = || {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        here.ancestors().nth(2).expect("crates/testbed lies in the workspace").to_path_buf()
    };
    if let Some(directory) = env::var_os("CARGO_TARGET_DIR") {
        return workspace().join(directory);
    }
    // Cargo marks the directory as one that backups need not have.
    let marked = |program: PathBuf| {
        let above = program.ancestors().find(|above| above.join("CACHEDIR.TAG").is_file());
        above.map(Path::to_path_buf)
    };
    env::current_exe().ok().and_then(marked).unwrap_or_else(|| workspace().join("target"))
}

/// What the test bed keeps between runs: the unpacked kernel, finished initramfs images.
///
/// # Errors
/// If it cannot be made.
pub fn kept() -> Result<PathBuf, Error> {
    let directory = target().join("testbed");
    fs::create_dir_all(&directory).map_err(Error::file(&directory))?;
    Ok(directory)
}

/// The path of a command.
#[must_use]
pub fn which(command: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(command))
        .find(|candidate| candidate.is_file())
}

/// What a program of this computer prints.
pub(crate) fn output_of(command: &mut Command) -> Result<Vec<u8>, Error> {
    let program = command.get_program().to_owned();
    let output = command.output().map_err(Error::file(PathBuf::from(program)))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(Error::Tool {
        program: format!("{command:?}"),
        status: output.status,
        stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}
