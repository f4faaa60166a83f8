//! What is said to the device: one answer to each chain, and what is given back.

use memtide_cxl::{
    ReturnCode,
    command::{
        More,
        dynamic_capacity::{AddResponse, Release},
    },
};
use memtide_engine::dynamic_capacity::{DpaRange, Outcome};
use memtide_units::ByteSize;

use super::{
    agent::{AcceptPolicy, Agent, Say},
    error::DcdError,
    mailbox::{CommandError, Commands},
    report::Report,
};

/// More offers without records than this are not refused to get at one.
const FORGOTTEN_MAX: usize = 64;

impl<C: Commands> Agent<C> {
    /// One answer to the oldest chain. A refusal is sent once its records are cleared.
    pub(super) fn answer(
        &mut self,
        accepted: Vec<DpaRange>,
        say: Say<'_>,
    ) -> Result<Outcome, DcdError> {
        let is_wanted = self.setup.policy == AcceptPolicy::All;
        if !is_wanted {
            for &range in &accepted {
                let why = "accept-policy is none".to_owned();
                say(Report::Refused { range, why });
            }
        }
        let outcome = if is_wanted { Outcome::Taken } else { Outcome::Rejected };
        let accepted = if is_wanted { accepted } else { Vec::new() };
        if accepted.is_empty() {
            self.clear_records(say)?;
        }
        let more = More::Last;
        let response = AddResponse { more, accepted };
        let mut forgotten = 0;
        loop {
            match self.commands.ask(&response) {
                Ok(()) => {
                    if !response.accepted.is_empty() {
                        self.log.accepted();
                    }
                    return Ok(outcome);
                }
                Err(CommandError::Refused { opcode, code }) => {
                    let is_early = is_out_of_order(code)
                        && !response.accepted.is_empty()
                        && self.log.doubt()
                        && forgotten < FORGOTTEN_MAX;
                    if is_early && self.refuse_oldest(say)? == Outcome::Taken {
                        forgotten += 1;
                        continue;
                    }
                    let what = CommandError::Refused { opcode, code }.to_string();
                    say(Report::Trouble { what });
                    return Ok(Outcome::Rejected);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The device waits for an answer to an older offer, of which nobody has a record any more.
    /// There is at least one offer that waits: the one that was to be answered. If the device does
    /// not take this either, its trouble is another, and no older offer is refused for it.
    fn refuse_oldest(&mut self, say: Say<'_>) -> Result<Outcome, DcdError> {
        let more = More::Last;
        match self.commands.ask(&AddResponse { more, accepted: Vec::new() }) {
            Ok(()) => {
                let what = "an older offer, whose records were lost, was refused".to_owned();
                say(Report::Note { what });
                Ok(Outcome::Taken)
            }
            Err(error @ CommandError::Refused { .. }) => {
                say(Report::Trouble { what: error.to_string() });
                Ok(Outcome::Rejected)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Gives capacity back that nobody uses, in as many commands as it takes; but not what the
    /// kernel did not let go of.
    pub(super) fn release(&mut self, released: &[DpaRange], say: Say<'_>) -> Result<(), DcdError> {
        let released = self.stuck.gone_of(released);
        let at_once = (self.commands.room().saturating_sub(8) / 24).max(1);
        for part in released.chunks(at_once) {
            let more = More::Last;
            match self.commands.ask(&Release { more, released: part.to_vec() }) {
                Ok(()) => {
                    let bytes = ByteSize(part.iter().map(|range| range.length).sum());
                    say(Report::Released { ranges: part.to_vec(), bytes });
                }
                Err(CommandError::Refused { opcode, code }) => {
                    let what = CommandError::Refused { opcode, code }.to_string();
                    say(Report::Trouble { what });
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// What a device says of the right answer at the wrong time: invalid input (CXL 3.1, 8.2.9.9.9.3);
/// QEMU says that the address is none.
const fn is_out_of_order(code: ReturnCode) -> bool {
    matches!(code, ReturnCode::INVALID_INPUT | ReturnCode::INVALID_PHYSICAL_ADDRESS)
}
