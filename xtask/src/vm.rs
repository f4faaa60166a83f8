//! `cargo xtask vm …`: the test bed of real kernels on emulated hardware.
//!
//! `setup` gets what it needs ([`setup`]), `test` runs the tests that boot machines, `list` and
//! `shell` are for people.

mod packages;
pub mod setup;

use memtide_testbed::{Initramfs, Machine, machines, shell::shell as boot_for_person};

use crate::shell::{self, Failure, cargo};

/// The commands below `vm`.
pub fn vm(arguments: &[String]) -> Result<(), Failure> {
    let Some((command, rest)) = arguments.split_first() else {
        return Err(Failure::usage("vm: which of setup, test, list, shell?"));
    };
    match (command.as_str(), rest) {
        ("setup", []) => setup::setup(),
        ("test", filters) => test(filters),
        ("list", []) => list(),
        ("shell", [name]) => person(name),
        ("shell", []) => Err(Failure::usage(format!("vm shell: which of {}?", names()))),
        ("setup" | "list" | "shell", [.., last]) => {
            Err(Failure::usage(format!("vm {command}: unexpected {last:?}")))
        }
        (other, _) => Err(Failure::usage(format!(
            "vm: unknown command {other:?}; expected setup, test, list or shell"
        ))),
    }
}

/// Runs the tests that boot machines: those of the test bed, or those whose names contain one of
/// these words. Two at a time on two processors: each guest has two of its own.
fn test(filters: &[String]) -> Result<(), Failure> {
    let mut test = cargo(&["test", "--locked", "-p", "memtide-testbed", "--tests", "--"]);
    shell::run(test.args(filters))
}

fn list() -> Result<(), Failure> {
    for machine in machines::all() {
        println!("{:16} {}", machine.name(), machines::about(machine.name()));
    }
    Ok(())
}

fn names() -> String {
    let names: Vec<_> = machines::all().iter().map(|m| m.name().to_owned()).collect();
    names.join(", ")
}

fn person(name: &str) -> Result<(), Failure> {
    let machine: Machine = machines::named(name).ok_or_else(|| {
        Failure::usage(format!("vm shell: machine is {name:?}; expected one of {}", names()))
    })?;
    let status = boot_for_person(&machine, &Initramfs::new())
        .map_err(|error| Failure::wrong(error.to_string()))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::Ended { program: "qemu-system-x86_64".to_owned(), status })
}
