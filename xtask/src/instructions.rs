//! `cargo xtask instructions`: how many instructions a frame costs.
//!
//! Time depends on the machine and on who else is on it; the instructions of one thread do not.
//! Each case runs twice under valgrind's cachegrind, with N calls and with 2 N; the difference
//! divided by N is what a call costs, the loop and the vector around it included. Giving is what
//! taking and giving cost less what taking costs.

use std::process::Command;

use crate::{
    Options,
    shell::{self, Failure},
};

const CALLS: u64 = 50_000;
/// Pageblocks: fewer, for a node has fewer.
const PAGEBLOCK_CALLS: u64 = 2_000;

/// Prints the table.
pub fn instructions(options: &Options) -> Result<(), Failure> {
    if !shell::is_installed("valgrind") {
        return shell::skip(
            "valgrind is not installed, and nothing else counts instructions alike",
        );
    }
    let calls = options.number("--calls")?.map(|calls| calls as u64);
    let memtide = shell::build_release()?.join("memtide");
    let memtide = memtide.to_string_lossy();
    println!("instructions for each call, one thread; the benchmark's own loop included");
    println!("{:<8}{:<8}{:<18}{:>9}{:>9}", "BY", "CACHES", "OPERATION", "ORDER 0", "ORDER 9");
    for by in ["owned", "number"] {
        for caches in ["on", "off"] {
            let cost = |what: &str, order: u8| {
                let default = if order == 0 { CALLS } else { PAGEBLOCK_CALLS };
                let calls = calls.unwrap_or(default).max(1);
                let run = |calls_now: u64| {
                    count(&memtide, what, order, [by, caches], calls_now, 2 * calls)
                };
                Ok::<f64, Failure>((run(2 * calls)? as f64 - run(calls)? as f64) / calls as f64)
            };
            let mut columns = Vec::new();
            for order in [0, 9] {
                let (take, shuffled) = (cost("take", order)?, cost("shuffle", order)?);
                let (bulk, rand) = (cost("bulk", order)?, cost("rand", order)?);
                columns.push([cost("repeat", order)?, take, bulk - take, rand - shuffled]);
            }
            let names = ["repeat, a pair", "take, in bulk", "give, in bulk", "give, at random"];
            for (row, name) in names.into_iter().enumerate() {
                let [frames, pageblocks] = [columns[0][row], columns[1][row]];
                println!("{by:<8}{caches:<8}{name:<18}{frames:>9.2}{pageblocks:>9.2}");
            }
        }
    }
    Ok(())
}

/// The instructions of one run.
fn count(
    memtide: &str,
    what: &str,
    order: u8,
    [by, caches]: [&str; 2],
    calls: u64,
    calls_max: u64,
) -> Result<u64, Failure> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]);
    command.args([memtide, "bench", "frames-count", what, &order.to_string(), by, caches]);
    command.args([calls.to_string(), calls_max.to_string()]);
    // The environment lies on the stack, and would move what is aligned there.
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    let output = command.output().map_err(|source| shell::start_failure(&command, source))?;
    let text = String::from_utf8_lossy(&output.stderr);
    let counted = if output.status.success() { refs(&text) } else { None };
    counted.ok_or_else(|| {
        Failure::wrong(format!("{} counted nothing:\n{text}", shell::describe(&command)))
    })
}

/// The number behind `I refs:`, which has commas in it.
fn refs(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.contains(" I ") && line.contains("refs:"))?;
    let digits: String = line.rsplit(':').next()?.chars().filter(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_valgrind_prints_is_found() {
        let text = "==7== Cachegrind, a cache profiler\n==7== \n==7== I   refs:      82,990,073\n";
        assert_eq!(refs(text), Some(82_990_073));
        assert_eq!(refs("==7== I refs:        1,234\n"), Some(1_234));
        assert_eq!(refs("valgrind: no such tool"), None);
    }
}
