//! What a developer or packager does with this repository, as `cargo xtask COMMAND`.
//!
//! Thin on purpose: each command is a list of other commands, printed as they run. What they build
//! is described where it is used: [`install`] for the tree of files, [`deb`] for the package.

#![forbid(unsafe_code)]

mod deb;
mod demo;
mod demo_fabric;
mod install;
mod instructions;
mod models;
mod shell;
mod soak;
mod sorting;
mod test;
mod vm;

use std::{env, process::ExitCode};

use shell::Failure;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  demo                      run a large sort on near and far memory, and take capacity away meanwhile
  demo fabric [--bin DIR] [--picture FILE]
                            two hosts share a device without hardware; a picture of who held what;
                            DIR: where memtide is built already
  test                      install what the tests need (as root on Debian: commands, QEMU, a
                            kernel for it to boot), build, run all tests
  soak [--ops N] [--hours H]
                            the long proofs: N checksummed operations (default 1000000000) while
                            blocks move; with --hours, all end-to-end tests again and again
  models [--fuzz-seconds S]  the page-frame allocator under loom, Miri and libFuzzer; tables
                             and CXL's messages too
  instructions [--calls N]  count what taking and giving frames costs, under valgrind
  vm setup                  get QEMU and a kernel for the test bed (as root on Debian)
  vm test [WORD...]         the tests of the test bed, or those whose names contain a word
  vm list                   the machines that have names
  vm shell MACHINE          boot one, with a shell on this terminal
  install --prefix DIR      put memtide, its library, man pages and completions under DIR
  deb [--output DIR]        build a Debian package from the same files (default target/debian)
";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure @ Failure::Usage { .. }) => {
            eprintln!("xtask: {failure}\n\n{USAGE}");
            ExitCode::from(2)
        }
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<(), Failure> {
    let Some((command, rest)) = arguments.split_first() else {
        return Err(Failure::usage("which command?"));
    };
    match command.as_str() {
        "demo" if rest.first().is_some_and(|word| word == "fabric") => {
            demo_fabric::demo(&Options::parse(&rest[1..], &["--bin", "--picture"])?)
        }
        "demo" => demo::demo(&Options::parse(rest, &[])?),
        "test" => test::test(&Options::parse(rest, &[])?),
        "soak" => soak::soak(&Options::parse(rest, &["--ops", "--hours"])?),
        "models" => models::models(&Options::parse(rest, &["--fuzz-seconds"])?),
        "instructions" => instructions::instructions(&Options::parse(rest, &["--calls"])?),
        "vm" => vm::vm(rest),
        "install" => install::command(&Options::parse(rest, &["--prefix"])?),
        "deb" => deb::deb(&Options::parse(rest, &["--output"])?),
        "help" | "--help" | "-h" => {
            print!("{USAGE}");
            Ok(())
        }
        other => Err(Failure::usage(format!("unknown command {other:?}"))),
    }
}

/// `--name value` pairs.
struct Options(Vec<(String, String)>);

impl Options {
    fn parse(arguments: &[String], known: &[&str]) -> Result<Self, Failure> {
        let mut pairs = Vec::new();
        let mut arguments = arguments.iter();
        while let Some(name) = arguments.next() {
            if !known.contains(&name.as_str()) {
                return Err(Failure::usage(format!("unknown option {name:?}")));
            }
            let Some(value) = arguments.next() else {
                return Err(Failure::usage(format!("{name} needs a value")));
            };
            pairs.push((name.clone(), value.clone()));
        }
        Ok(Self(pairs))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    fn number(&self, name: &str) -> Result<Option<f64>, Failure> {
        let Some(text) = self.get(name) else { return Ok(None) };
        match text.parse::<f64>() {
            Ok(number) if number > 0.0 && number.is_finite() => Ok(Some(number)),
            _ => {
                Err(Failure::usage(format!("{name} is {text:?}; expected a number greater than 0")))
            }
        }
    }
}
