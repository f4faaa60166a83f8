//! What can go wrong with a machine and with a guest.
//!
//! A test shows an error by its `Debug` form (`unwrap`, or a test that returns it). A console of
//! forty lines with its line ends escaped cannot be read, so `Debug` is `Display` here.

use std::{fmt, io, path::PathBuf, process::ExitStatus, time::Duration};

use memtide_units::ByteSize;

/// Why a machine cannot be built as described.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MachineError {
    /// Two parts have one name.
    #[error("two parts of the machine are called {name:?}; expected a name for each")]
    NameTwice {
        /// The name.
        name: String,
    },
    /// QEMU would read the name as something else.
    #[error("name is {name:?}; expected letters, digits and dashes, a letter first")]
    Name {
        /// The name.
        name: String,
    },
    /// A window leads to a host bridge that is not there.
    #[error("window {window} leads to host bridge {target:?}; the machine has no such bridge")]
    NoSuchTarget {
        /// Which window, from 0.
        window: usize,
        /// The name that it says.
        target: String,
    },
    /// The number of ways is none that an interleaved window can have.
    #[error("window {window} has {ways} targets; expected 1, 2, 4, 8 or 16")]
    Ways {
        /// Which window, from 0.
        window: usize,
        /// Its targets.
        ways: usize,
    },
    /// A size is not a multiple of what the hardware deals in, or is 0.
    #[error("{field} is {value}; expected a multiple of {step}, and more than 0")]
    Size {
        /// Which size.
        field: String,
        /// What it is.
        value: ByteSize,
        /// What it must be a multiple of.
        step: ByteSize,
    },
    /// A number is outside of what the hardware allows.
    #[error("{field} is {value}; expected {least} to {most}")]
    Number {
        /// Which number.
        field: String,
        /// What it is.
        value: u64,
        /// The least that it may be.
        least: u64,
        /// The most that it may be.
        most: u64,
    },
    /// The nodes' memory is not the machine's.
    #[error("the nodes have {nodes} of memory; expected the machine's {memory}")]
    NodeSizes {
        /// The sum over the nodes.
        nodes: ByteSize,
        /// What the machine has.
        memory: ByteSize,
    },
    /// A processor is in no node or in two.
    #[error("processor {processor} is in {count} nodes; expected one of {processors} in each")]
    Processors {
        /// Which, from 0.
        processor: u32,
        /// In how many nodes it is.
        count: usize,
        /// How many the machine has.
        processors: u32,
    },
    /// A device is on a node that is not there.
    #[error("{field} is on node {node}; the machine has {nodes} nodes")]
    NoSuchNode {
        /// Which device.
        field: String,
        /// Where it is to be.
        node: usize,
        /// How many nodes there are.
        nodes: usize,
    },
}

/// Why a guest could not be booted or does not answer.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The machine makes no sense.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// Something that this computer lacks.
    #[error("no {what}; {remedy}")]
    Missing {
        /// What.
        what: String,
        /// How to get it.
        remedy: String,
    },
    /// A file or socket of this computer.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A program of this computer failed.
    #[error("{program} ended with {status}: {stderr}")]
    Tool {
        /// Its command line.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        stderr: String,
    },
    /// The kernel package has no such module.
    #[error("kernel {release} has no module {name:?}")]
    NoSuchModule {
        /// Its name.
        name: String,
        /// Of which kernel.
        release: String,
    },
    /// The guest's kernel refused modules.
    #[error("the guest did not load {names}; the end of its console:\n{console}")]
    Modules {
        /// Which.
        names: String,
        /// Its last lines.
        console: String,
    },
    /// QEMU ended while something was expected of it: a bad argument, a kernel panic, a power-off.
    #[error(
        "the guest ended ({status}) while {doing}; QEMU said: {qemu:?}; \
         the end of its console:\n{console}"
    )]
    Ended {
        /// What was under way.
        doing: String,
        /// QEMU's exit status; with a panic it is 0, or 137 (killed) if the kernel stood still
        /// then.
        status: ExitStatus,
        /// What QEMU itself said.
        qemu: String,
        /// Its last lines.
        console: String,
    },
    /// The guest or QEMU took too long.
    #[error("not done within {limit:?}: {doing}; the end of the guest's console:\n{console}")]
    TimedOut {
        /// What was under way.
        doing: String,
        /// How long it could have taken.
        limit: Duration,
        /// Its last lines.
        console: String,
    },
    /// A script that had to succeed did not.
    #[error("in the guest, {script:?} ended with {status}; it said: {stdout}{stderr}")]
    Script {
        /// The script.
        script: String,
        /// Its exit status.
        status: i32,
        /// What it said on its standard output.
        stdout: String,
        /// And on its standard error.
        stderr: String,
    },
    /// QEMU refused a command.
    #[error("QMP {command}: {class}: {description}")]
    Refused {
        /// Which.
        command: String,
        /// QEMU's class of errors.
        class: String,
        /// QEMU's words.
        description: String,
    },
    /// An answer that is none.
    #[error("{speaker} said {answer:?}; expected {expected}")]
    Answer {
        /// Who: the agent in the guest, or QMP.
        speaker: &'static str,
        /// What.
        answer: String,
        /// What would have been an answer.
        expected: &'static str,
    },
}

impl Error {
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
