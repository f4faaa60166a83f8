//! `memtide capture`.

use std::process::ExitCode;

use memtide_host::capture::{self, CaptureError, Captured, Serials};
use memtide_units::ByteSize;
use serde::Serialize;

use crate::{
    arguments::Capture,
    failure::{Failure, chain},
    machine, output,
};

#[derive(Serialize)]
struct Told<'a> {
    file: String,
    files: usize,
    links: usize,
    bytes: u64,
    left_out: usize,
    notes: &'a [String],
}

pub fn capture(options: &Capture) -> Result<ExitCode, Failure> {
    let machine = machine::open(&options.machine)?;
    let serials = if options.with_serials { Serials::Included } else { Serials::LeftOut };
    let captured =
        capture::capture(machine.root(), &options.file, serials).map_err(|error| match error {
            CaptureError::Exists { .. } => Failure::Usage(chain(&error)),
            error => Failure::Failed(chain(&error)),
        })?;
    if options.json {
        output::json(&Told {
            file: options.file.display().to_string(),
            files: captured.files,
            links: captured.links,
            bytes: captured.bytes,
            left_out: captured.left_out,
            notes: &captured.notes,
        })?;
    } else {
        output::text(&text(options, &captured))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn text(options: &Capture, captured: &Captured) -> String {
    let file = options.file.display();
    let mut text = format!(
        "{file}: {} files, {} links, {}\n",
        captured.files,
        captured.links,
        ByteSize(captured.bytes)
    );
    if captured.left_out > 0 {
        text += &format!(
            "left out: {} serial numbers and UUIDs (--with-serials takes them)\n",
            captured.left_out
        );
    }
    for note in &captured.notes {
        text += &format!("note: {note}\n");
    }
    text
}
