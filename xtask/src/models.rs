//! `cargo xtask models`: the page-frame allocator under a model checker, an interpreter that knows
//! undefined behaviour, and a fuzzer; and the readers of firmware's tables and of CXL's messages
//! under the fuzzer.
//!
//! Loom runs on any compiler. Miri and libFuzzer need the nightly one, which rustup is asked for.
//! Where that, or the component or tool, cannot be had, they are skipped, which says so and fails
//! where `MEMTIDE_NO_SKIP=1`.

use std::{env, fs, path::Path, process::Command};

use crate::{
    Options,
    shell::{self, Failure, cargo},
};

/// How long libFuzzer makes up operations, in seconds, unless told otherwise. Tables and messages
/// get a third of it.
const FUZZ_S: u64 = 60;

/// The frames' walk. Long inputs from the first on: short ones do nothing that a unit test does
/// not.
const FRAMES: Target = Target {
    name: "frames",
    folder: "crates/frames",
    seeds: &[],
    options: &["-max_len=1024", "-len_control=0"],
};

/// Bytes as tables, starting from tables of real machines.
const TABLES: Target = Target {
    name: "tables",
    folder: "crates/physmap",
    seeds: &["tests/data"],
    options: &["-max_len=4096"],
};

/// Bytes as CXL's messages. The longest of a few members; and memory that they cannot need.
const MESSAGES: Target = Target {
    name: "messages",
    folder: "crates/cxl",
    seeds: &[],
    options: &["-max_len=1024", "-rss_limit_mb=256"],
};

/// What libFuzzer drives.
struct Target {
    name: &'static str,
    /// The crate that its crate lies in.
    folder: &'static str,
    /// Folders in it with inputs to start from.
    seeds: &'static [&'static str],
    options: &'static [&'static str],
}

/// Runs all of them.
pub fn models(options: &Options) -> Result<(), Failure> {
    let fuzz_s = options.number("--fuzz-seconds")?.map_or(FUZZ_S, |seconds| seconds as u64);
    loom()?;
    if !has_nightly() && !install_nightly() {
        return shell::skip("no nightly compiler can be had, and so neither Miri nor libFuzzer");
    }
    miri()?;
    let third = fuzz_s.div_ceil(3);
    fuzz(&[(&FRAMES, fuzz_s), (&TABLES, third), (&MESSAGES, third)])
}

/// Every interleaving, up to so many preemptions: three, or as `LOOM_MAX_PREEMPTIONS` says. Without
/// a bound some models run for hours.
fn loom() -> Result<(), Failure> {
    let mut loom = cargo(&["test", "--locked", "--release", "-p", "memtide-frames", "--lib"]);
    loom.args(["--target-dir"]).arg(shell::target().join("loom"));
    loom.env("RUSTFLAGS", "--cfg loom");
    if env::var_os("LOOM_MAX_PREEMPTIONS").is_none() {
        loom.env("LOOM_MAX_PREEMPTIONS", "3");
    }
    shell::run(&mut loom)
}

fn miri() -> Result<(), Failure> {
    if !succeeds(Command::new("rustup").args(["+nightly", "component", "add", "miri", "rust-src"]))
    {
        return shell::skip("Miri cannot be installed");
    }
    let mut miri =
        nightly(&["miri", "test", "--locked", "-p", "memtide-frames", "--test", "small"]);
    miri.arg("--target-dir").arg(shell::target().join("miri"));
    shell::run(&mut miri)
}

/// Builds all targets, and then drives them all at once, each for so many seconds: one takes a
/// single thread.
fn fuzz(targets: &[(&Target, u64)]) -> Result<(), Failure> {
    let tools = shell::target().join("tools");
    if !shell::is_installed("cargo-fuzz") && !tools.join("bin/cargo-fuzz").is_file() {
        let mut install = cargo(&["install", "--locked", "cargo-fuzz", "--root"]);
        if !succeeds(install.arg(&tools)) {
            return shell::skip("cargo-fuzz cannot be installed");
        }
    }
    for (target, _) in targets {
        shell::run(&mut cargo_fuzz(&tools, "build", target))?;
    }
    let mut runs = Vec::new();
    for (target, seconds) in targets {
        // What it finds on the way lies with what is built: the first folder is what it writes to.
        let found = shell::target().join("fuzz-corpus").join(target.name);
        let at = |source| Failure::File { path: found.clone(), source };
        fs::create_dir_all(&found).map_err(at)?;
        let mut run = cargo_fuzz(&tools, "run", target);
        run.arg(&found).args(target.seeds).arg("--").args(target.options);
        // Of three that print at once only the ends and what fails can be read.
        run.args(["-verbosity=0", "-print_final_stats=1"]);
        run.arg(format!("-max_total_time={seconds}"));
        runs.push(run);
    }
    shell::run_all(runs)
}

fn cargo_fuzz(tools: &Path, what: &str, target: &Target) -> Command {
    // No sanitizer: there is no unsafe code to watch.
    let mut fuzz = nightly(&["fuzz", what, "--sanitizer", "none", "--target-dir"]);
    fuzz.arg(shell::target().join("fuzz")).arg(target.name);
    fuzz.current_dir(shell::workspace().join(target.folder));
    let path = env::var_os("PATH").unwrap_or_default();
    let paths = env::split_paths(&path).chain([tools.join("bin")]);
    fuzz.env("PATH", env::join_paths(paths).unwrap_or(path));
    fuzz
}

/// Cargo of the nightly compiler, found by rustup whichever started this.
fn nightly(arguments: &[&str]) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo"]).args(arguments).current_dir(shell::workspace());
    command.env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN");
    command
}

fn has_nightly() -> bool {
    succeeds(Command::new("rustup").args(["run", "nightly", "rustc", "--version"]))
}

fn install_nightly() -> bool {
    let words = ["toolchain", "install", "nightly", "--profile", "minimal"];
    succeeds(Command::new("rustup").args(words))
}

fn succeeds(command: &mut Command) -> bool {
    eprintln!("+ {}", shell::describe(command));
    command.output().is_ok_and(|output| output.status.success())
}
