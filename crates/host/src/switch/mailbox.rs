//! Commands to a switch, and through it to who is behind its ports.
//!
//! A command to a device has codes at two layers. The switch's own says whether it was carried; the
//! device's comes back with the answer, and is returned as it is. A switch that is busy is asked
//! again for a while. What a device goes on with in the background is asked after with 0002h,
//! through the same tunnel, until it is over: then its code is the answer.

use std::{
    fs::File,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use memtide_cxl::{
    Command, Opcode, Payload, ReturnCode,
    cci::{Background, HEADER_BYTES, Kind, Message},
    command::{
        background::{BackgroundOperation, GetBackgroundOperation},
        fabric_manager::{GetInfo, Info},
        message_limit::{LIMIT_LOG2_MIN, SetResponseLimit},
    },
    tunnel::Route,
};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use super::{SwitchError, Who, find};
use crate::{
    Root,
    dcd::{
        DcdError,
        pci::{Block, PciDevice},
        registers::{self, Capability},
    },
    mailbox::{CommandError, MailboxRegisters},
};

/// How long others may have the mailbox: two commands of the longest.
const LOCK_LIMIT: Duration = Duration::from_secs(4);
/// How long a switch may be busy with what somebody else asked for.
const BUSY_LIMIT: Duration = Duration::from_secs(2);
/// How long what goes on in the background may go on.
const BACKGROUND_LIMIT: Duration = Duration::from_secs(5);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(2);

/// The mailbox of a switch.
#[derive(Debug)]
pub struct SwitchMailbox {
    function: String,
    /// Locked while the mailbox is used.
    file: File,
    registers: MailboxRegisters,
    next_tag: u8,
    /// Set when nobody wants any more what has not gone out.
    abandoned: Arc<AtomicBool>,
}

impl SwitchMailbox {
    /// The mailbox of the switch whose function has this address, which is enabled if it is not.
    ///
    /// # Errors
    /// [`SwitchError`].
    pub fn open(root: &Root, function: &str) -> Result<Self, SwitchError> {
        Self::of(root, &find(root, function)?)
    }

    fn of(root: &Root, function: &PciDevice) -> Result<Self, SwitchError> {
        let name = || function.address.clone();
        let failed = |error: DcdError| match error {
            DcdError::Io { path, source }
                if source.kind() == std::io::ErrorKind::PermissionDenied =>
            {
                SwitchError::NotRoot { function: name(), path }
            }
            other => SwitchError::Registers { function: name(), source: Box::new(other) },
        };
        function.enable(root).map_err(failed)?;
        let resource = function.resource(root, Block::Device).map_err(failed)?;
        let file = resource.open().map_err(failed)?;
        let mapped = resource.map(&file).map_err(failed)?;
        let at = registers::find(&mapped, resource.begins, Capability::Mailbox).map_err(failed)?;
        let registers = MailboxRegisters::new(mapped, at)
            .map_err(|source| SwitchError::Mailbox { function: name(), source })?;
        let abandoned = Arc::new(AtomicBool::new(false));
        Ok(Self { function: name(), file, registers, next_tag: 0, abandoned })
    }

    /// No command goes out once this is set: [`SwitchError::Abandoned`].
    pub fn give_up_when(&mut self, abandoned: Arc<AtomicBool>) {
        self.abandoned = abandoned;
    }

    /// The most bytes that a command to the switch, or its answer, can have.
    #[must_use]
    pub const fn room(&self) -> usize {
        self.registers.room()
    }

    /// Asks the switch itself.
    ///
    /// # Errors
    /// [`SwitchError`].
    pub fn ask<C: Command>(&mut self, command: &C) -> Result<C::Response, SwitchError> {
        let answer = self.execute(C::OPCODE, &command.to_bytes())?;
        C::Response::decode(&answer).map_err(|source| SwitchError::Mailbox {
            function: self.function.clone(),
            source: CommandError::Answer { opcode: C::OPCODE, source },
        })
    }

    /// Asks who is at the end of a route.
    ///
    /// # Errors
    /// [`SwitchError`].
    pub fn ask_through<C: Command>(
        &mut self,
        route: &Route,
        command: &C,
    ) -> Result<C::Response, SwitchError> {
        let (opcode, payload) = (C::OPCODE, command.to_bytes());
        let (code, answer) = self.send(route, opcode, payload)?;
        let who = || Who(route.clone());
        if code != ReturnCode::SUCCESS {
            return Err(SwitchError::Refused { who: who(), opcode, code });
        }
        C::Response::decode(&answer).map_err(|source| SwitchError::Answer {
            who: who(),
            opcode,
            source,
        })
    }

    /// What a device at the end of a route has of dynamic capacity, for a manager to hand out.
    ///
    /// # Errors
    /// [`SwitchError`]; [`SwitchError::NoDynamicCapacity`] where it knows no such command.
    pub fn dynamic_capacity(&mut self, route: &Route) -> Result<Info, SwitchError> {
        self.ask_through(route, &GetInfo).map_err(|error| match error {
            SwitchError::Refused { who, code: code @ ReturnCode::UNSUPPORTED, .. } => {
                SwitchError::NoDynamicCapacity { who, code }
            }
            other => other,
        })
    }

    /// Has who is at the end of a route, and whose messages may be so long, keep his answers so
    /// short that they get through. Who cannot is left as he is.
    ///
    /// # Errors
    /// [`SwitchError`], where it did not come to an answer.
    pub fn bound_answers(
        &mut self,
        route: &Route,
        message_log2_max: u8,
    ) -> Result<(), SwitchError> {
        let fit = (route.room(self.room()) + HEADER_BYTES).ilog2();
        let log2 = u8::try_from(fit).expect("a logarithm").max(LIMIT_LOG2_MIN);
        if message_log2_max <= log2 {
            return Ok(());
        }
        match self.ask_through(route, &SetResponseLimit { log2 }) {
            Ok(_) | Err(SwitchError::Refused { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Gives a command to who is at the end of a route: what he answers, whatever it is.
    ///
    /// # Errors
    /// [`SwitchError`], where it did not come to an answer.
    pub fn send(
        &mut self,
        route: &Route,
        opcode: Opcode,
        payload: Vec<u8>,
    ) -> Result<(ReturnCode, Vec<u8>), SwitchError> {
        let (code, answer) = self.carry(route, opcode, payload)?;
        if code != ReturnCode::BACKGROUND_STARTED {
            return Ok((code, answer));
        }
        let end = Instant::now() + BACKGROUND_LIMIT;
        loop {
            let status = self.background(route)?;
            let who = || Who(route.clone());
            if status.opcode != opcode {
                let other = status.opcode;
                return Err(SwitchError::OtherInBackground { who: who(), opcode, other });
            }
            if status.background == Background::Over {
                return Ok((status.code, Vec::new()));
            }
            if Instant::now() > end {
                let waited = BACKGROUND_LIMIT;
                return Err(SwitchError::NotEnded { who: who(), opcode, waited });
            }
            thread::sleep(PAUSE);
        }
    }

    fn background(&mut self, route: &Route) -> Result<BackgroundOperation, SwitchError> {
        let opcode = GetBackgroundOperation::OPCODE;
        let (code, answer) = self.carry(route, opcode, GetBackgroundOperation.to_bytes())?;
        let who = || Who(route.clone());
        if code != ReturnCode::SUCCESS {
            return Err(SwitchError::Refused { who: who(), opcode, code });
        }
        BackgroundOperation::decode(&answer).map_err(|source| SwitchError::Answer {
            who: who(),
            opcode,
            source,
        })
    }

    /// One tunnel, and what comes back from its end.
    fn carry(
        &mut self,
        route: &Route,
        opcode: Opcode,
        payload: Vec<u8>,
    ) -> Result<(ReturnCode, Vec<u8>), SwitchError> {
        let who = || Who(route.clone());
        let (bytes, room) = (payload.len(), route.room(self.room()));
        if bytes > room {
            return Err(SwitchError::TooLong { opcode, who: who(), bytes, room });
        }
        let request = Message::request(self.next_tag, opcode, payload);
        self.next_tag = self.next_tag.wrapping_add(1);
        let tunnel = route.wrap(&request);
        let tunnel = tunnel.map_err(|e| SwitchError::too_long(opcode, route.clone(), e))?;
        let carrier = Opcode::TUNNEL_MANAGEMENT_COMMAND;
        let carried = self.execute(carrier, &tunnel.to_bytes()).map_err(|error| match error {
            SwitchError::Mailbox { function, source: CommandError::Refused { code, .. } } => {
                SwitchError::NotCarried { function, who: who(), code }
            }
            other => other,
        })?;
        let answer = route.unwrap(&request, &carried);
        let answer = answer.map_err(|source| SwitchError::Route { opcode, who: who(), source })?;
        match answer.kind {
            Kind::Response(outcome) => Ok((outcome.code, answer.payload)),
            Kind::Request => unreachable!("what a route unwraps is a response"),
        }
    }

    /// One command to the switch, once it is not busy with another.
    fn execute(&mut self, opcode: Opcode, payload: &[u8]) -> Result<Vec<u8>, SwitchError> {
        let end = Instant::now() + BUSY_LIMIT;
        loop {
            self.lock()?;
            if let Err(error) = self.check_wanted() {
                self.unlock()?;
                return Err(error);
            }
            let done = self.registers.execute(opcode, payload);
            self.unlock()?;
            match done {
                Err(CommandError::Refused {
                    code: ReturnCode::BUSY | ReturnCode::RETRY_REQUIRED,
                    ..
                }) if Instant::now() < end => thread::sleep(PAUSE),
                done => {
                    let function = self.function.clone();
                    return done.map_err(|source| SwitchError::Mailbox { function, source });
                }
            }
        }
    }

    fn lock(&self) -> Result<(), SwitchError> {
        let end = Instant::now() + LOCK_LIMIT;
        loop {
            self.check_wanted()?;
            match flock(&self.file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(()),
                Err(Errno::WOULDBLOCK) if Instant::now() < end => thread::sleep(PAUSE),
                Err(Errno::WOULDBLOCK) => {
                    let (function, waited) = (self.function.clone(), LOCK_LIMIT);
                    return Err(SwitchError::InUse { function, waited });
                }
                Err(error) => return Err(self.not_locked(error)),
            }
        }
    }

    fn check_wanted(&self) -> Result<(), SwitchError> {
        if self.abandoned.load(Ordering::Relaxed) {
            return Err(SwitchError::Abandoned { function: self.function.clone() });
        }
        Ok(())
    }

    fn unlock(&self) -> Result<(), SwitchError> {
        flock(&self.file, FlockOperation::Unlock).map_err(|error| self.not_locked(error))
    }

    fn not_locked(&self, error: Errno) -> SwitchError {
        SwitchError::Lock { function: self.function.clone(), source: error.into() }
    }
}
