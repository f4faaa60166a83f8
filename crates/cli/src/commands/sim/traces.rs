//! The traces that a scenario names.
//!
//! They lie beside it and are read whole before anything runs. A scenario may come from somebody
//! else: it names plain files only, what is opened is a regular file (a pipe would never end), and
//! no more of it is read than a trace may have.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufReader, Read},
    path::Path,
    sync::Arc,
};

use memtide_sim::{
    kind::What,
    tiering::trace::{BYTES_MAX, Recorded},
};

use crate::failure::Failure;

/// Traces that were read, by their names and the pages that they were read for.
#[derive(Default)]
pub struct Traces(BTreeMap<(String, u8), Arc<Recorded>>);

impl Traces {
    /// Supplies what a scenario names; each is read once, whoever names it.
    pub fn supply(&mut self, what: &mut What, scenario: &Path) -> Result<(), Failure> {
        let What::Tiering(tiering) = what else { return Ok(()) };
        for name in tiering.files() {
            let key = (name, tiering.page_shift());
            let recorded = match self.0.get(&key) {
                Some(recorded) => Arc::clone(recorded),
                None => Arc::new(read(&scenario.with_file_name(&key.0), key.1)?),
            };
            tiering.supply(&key.0, Arc::clone(&recorded));
            self.0.insert(key, recorded);
        }
        Ok(())
    }
}

fn read(path: &Path, shift: u8) -> Result<Recorded, Failure> {
    let wrong =
        |error: &dyn std::fmt::Display| Failure::Usage(format!("{}: {error}", path.display()));
    // To open a pipe already waits for somebody to write.
    let metadata = fs::metadata(path).map_err(|error| wrong(&error))?;
    if !metadata.is_file() {
        return Err(wrong(&"expected a regular file"));
    }
    if metadata.len() > BYTES_MAX {
        return Err(wrong(&format!("{} bytes; expected {BYTES_MAX} at most", metadata.len())));
    }
    let file = fs::File::open(path).map_err(|error| wrong(&error))?;
    let recorded = Recorded::read(BufReader::new(file.take(BYTES_MAX)), shift);
    recorded.map_err(|error| wrong(&error))
}
