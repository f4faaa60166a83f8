//! `cargo xtask soak`: the proofs at full length.

use std::time::{Duration, Instant};

use crate::{
    Options,
    shell::{self, Failure, cargo},
};

const OPS: f64 = 1e9;

/// Runs `--ops` checksummed operations, then, for `--hours`, all end-to-end tests again and again.
pub fn soak(options: &Options) -> Result<(), Failure> {
    let (ops, hours) = (options.number("--ops")?, options.number("--hours")?);
    if ops.is_some() || hours.is_none() {
        let ops = ops.unwrap_or(OPS) as u64;
        let mut test = cargo(&["test", "--release", "--locked", "-p", "memtide-e2e"]);
        test.args(["--test", "checksum", "no_write_is_lost"]);
        shell::run(test.env("MEMTIDE_E2E_OPS", ops.to_string()))?;
    }
    let Some(hours) = hours else { return Ok(()) };
    let end = Instant::now() + Duration::from_secs_f64(hours * 3600.0);
    let mut rounds = 0;
    while Instant::now() < end {
        rounds += 1;
        eprintln!("round {rounds}, {} minutes to go", (end - Instant::now()).as_secs() / 60);
        // Each test prints its seed; the first failure ends the soak.
        let mut test = cargo(&["test", "--release", "--locked", "-p", "memtide-e2e"]);
        shell::run(test.env("MEMTIDE_E2E_SECONDS", "60"))?;
    }
    println!("soak passed: {rounds} rounds");
    Ok(())
}
