//! The machine that a command looks at: this one, or what `--root` names.

use std::path::Path;

use memtide_host::capture::{self, Opened, UnpackError};

use crate::{
    arguments::Machine,
    failure::{Failure, chain},
};

/// Opens the machine. What cannot be a machine is a wrong request; what cannot be read here is a
/// failure.
pub fn open(machine: &Machine) -> Result<Opened, Failure> {
    machine.root.as_deref().map_or_else(|| Ok(Opened::live()), at)
}

/// The one whose files are here: in a folder, or in a captured file.
pub fn at(path: &Path) -> Result<Opened, Failure> {
    capture::open(path).map_err(|error| {
        let message = format!("--root {}: {}", path.display(), chain(&error));
        match error {
            UnpackError::Write { .. } => Failure::Failed(message),
            _ => Failure::Usage(message),
        }
    })
}
