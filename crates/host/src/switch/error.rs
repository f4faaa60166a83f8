//! Why a switch, or a device behind it, does not answer as it should.

use std::{fmt, path::PathBuf, time::Duration};

use memtide_cxl::{
    DecodeError, Opcode, ReturnCode,
    cci::TooLong,
    tunnel::{Route, RouteError, Target},
};

use crate::{ReadError, dcd::DcdError, mailbox::CommandError};

/// Why.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SwitchError {
    /// Something could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// No such function.
    #[error(
        "{wanted} is no switch's function (class 0c0b); expected {}",
        if found.is_empty() { "one, but there is none".to_owned() } else { found.join(" or ") }
    )]
    NoSwitch {
        /// What was asked for.
        wanted: String,
        /// What there is.
        found: Vec<String>,
    },
    /// A driver has it.
    #[error(
        "the kernel's driver {driver} has {function}: expected no driver; take it away with: \
         echo {function} > /sys/bus/pci/drivers/{driver}/unbind"
    )]
    Driven {
        /// Which function.
        function: String,
        /// Which driver.
        driver: String,
    },
    /// Whoever asks is not root.
    #[error("{}: registers of {function} are root's: run as root", path.display())]
    NotRoot {
        /// Which function.
        function: String,
        /// What could not be opened.
        path: PathBuf,
    },
    /// Its registers are not to be had.
    #[error("the registers of {function}")]
    Registers {
        /// Which function.
        function: String,
        /// Why not.
        source: Box<DcdError>,
    },
    /// Somebody else has the mailbox.
    #[error("another program has had the mailbox of {function} for {waited:?}; try again later")]
    InUse {
        /// Which function.
        function: String,
        /// How long was waited.
        waited: Duration,
    },
    /// The lock on the registers' file cannot be had.
    #[error("cannot lock the mailbox of {function}")]
    Lock {
        /// Which function.
        function: String,
        /// Why not.
        source: std::io::Error,
    },
    /// Nobody wants it any more.
    #[error("a command to {function} was given up before it went out")]
    Abandoned {
        /// Which function.
        function: String,
    },
    /// The switch did not do it.
    #[error("switch {function}")]
    Mailbox {
        /// Which function.
        function: String,
        /// What came of the command.
        source: CommandError,
    },
    /// The switch refuses to carry a command to the port.
    #[error(
        "switch {function} carries no command to {who}: it answers {code}{}",
        hint(*code)
    )]
    NotCarried {
        /// Which function.
        function: String,
        /// To whom.
        who: Who,
        /// How it was refused.
        code: ReturnCode,
    },
    /// The command is too long for the switch, with everything around it.
    #[error("{opcode} has {bytes} bytes; expected at most {room}, the room on the way to {who}")]
    TooLong {
        /// Which.
        opcode: Opcode,
        /// To whom.
        who: Who,
        /// So many.
        bytes: usize,
        /// So many fit.
        room: usize,
    },
    /// Somebody behind the switch refused, or what came back is no answer.
    #[error("{opcode} to {who}")]
    Route {
        /// Which command.
        opcode: Opcode,
        /// To whom.
        who: Who,
        /// What is wrong.
        source: RouteError,
    },
    /// The device refused it.
    #[error("{who} answers {code} to {opcode}")]
    Refused {
        /// Who.
        who: Who,
        /// To what.
        opcode: Opcode,
        /// How.
        code: ReturnCode,
    },
    /// The device has nothing that a manager could hand out.
    #[error(
        "{who} has no dynamic capacity commands for a manager: it answers {code} to Get DCD Info \
         (5600h)"
    )]
    NoDynamicCapacity {
        /// Who.
        who: Who,
        /// How it refuses.
        code: ReturnCode,
    },
    /// The device's answer makes no sense.
    #[error("the answer of {who} to {opcode}")]
    Answer {
        /// Whose.
        who: Who,
        /// To what.
        opcode: Opcode,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// It went on in the background, and did not end.
    #[error("{who} has not ended {opcode} within {waited:?}")]
    NotEnded {
        /// Who.
        who: Who,
        /// What.
        opcode: Opcode,
        /// How long was waited.
        waited: Duration,
    },
    /// Something else is in the background there than what was asked for.
    #[error("{who} has {other} in the background; expected {opcode}")]
    OtherInBackground {
        /// Who.
        who: Who,
        /// What was asked for.
        opcode: Opcode,
        /// What it does.
        other: Opcode,
    },
}

/// Who is at the end of a route, in words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Who(pub Route);

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, behind @ ..] = self.0.hops() else { return Ok(()) };
        for target in behind.iter().rev() {
            match target {
                Target::PortOrLd(number) => write!(f, "logical device {number} of ")?,
                Target::LdPool => f.write_str("the pool of ")?,
            }
        }
        match first {
            Target::PortOrLd(number) => write!(f, "the device behind port {number}"),
            Target::LdPool => f.write_str("the switch's pool"),
        }
    }
}

impl SwitchError {
    /// For a tunnel or what it carries that is too long for its 16 bits.
    pub(super) const fn too_long(opcode: Opcode, route: Route, error: TooLong) -> Self {
        let TooLong { bytes, max: room, .. } = error;
        Self::TooLong { opcode, who: Who(route), bytes, room }
    }
}

/// What a switch means by a code that it answers to a tunnel.
const fn hint(code: ReturnCode) -> &'static str {
    match code {
        ReturnCode::INVALID_INPUT => {
            " (it has no such port, or no device of logical devices is there)"
        }
        ReturnCode::UNSUPPORTED => " (it has no tunnels)",
        ReturnCode::INTERNAL_ERROR => " (the answer may not fit into its mailbox)",
        ReturnCode::BACKGROUND_STARTED => " (and gives the answer to nobody)",
        _ => "",
    }
}
