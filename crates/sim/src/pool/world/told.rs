//! What the manager hears, and what it has to have done; it falls over in between.

use memtide_cxl::{
    ReturnCode,
    manager::{
        Command, FIRST_OWN_ID, Forcing, Input, Notice, Output, Place, Policy, Reply, Request, Rest,
        State, What,
    },
};
use memtide_units::{RequestId, Tag};

use super::{REDIAL, Step, TIMEOUT, World};
use crate::{
    fabric::LINK,
    pool::{center::Falls, judge::Broken, plan::Faults},
};

impl World<'_> {
    /// The manager hears something, unless it is not running.
    pub(super) fn tell(&mut self, input: Input) -> Result<(), Broken> {
        let Some(manager) = &mut self.center.manager else { return Ok(()) };
        let out = manager.handle(self.now, input)?;
        self.do_all(out)
    }

    /// Does what the manager wants done, in order; it may fall over at any point.
    fn do_all(&mut self, out: Vec<Output>) -> Result<(), Broken> {
        let falls = self.center.falls == Falls::Next && !out.is_empty();
        let end = if falls { self.random.below(out.len() as u64 + 1) as usize } else { out.len() };
        for output in out.into_iter().take(end) {
            self.tell_of(&output);
            match output {
                Output::Journal(records) => {
                    self.measure.count("journal entries");
                    self.center.write(records);
                }
                Output::Command { command, .. } => self.send(command),
                Output::Answer(report) => {
                    if report.id.0 < FIRST_OWN_ID && report.state != State::Open {
                        self.measure.count("answers");
                        self.center.answered(&report);
                    }
                }
                Output::Note { notice, .. } => {
                    if matches!(notice, Notice::Withdrawn { .. }) {
                        self.measure.count("offers withdrawn");
                    }
                    self.judge_notice(notice)?;
                }
                Output::Taken { .. } => {}
            }
        }
        if falls {
            self.measure.count("managers killed");
            self.center.die();
            let away = LINK * 2 + self.below(self.faults.away);
            self.later(away, Step::ManagerStarts);
        }
        self.expect_wake();
        Ok(())
    }

    /// Never are there two owners; and where nothing is lost, nothing is offered that is not free.
    fn judge_notice(&self, notice: Notice) -> Result<(), Broken> {
        let is_wrong = match &notice {
            Notice::TwoOwners { .. } | Notice::Unusable { .. } => true,
            Notice::Refused { command: Command::InitiateAdd(_), code } => {
                self.plan.faults == Faults::default() && *code == ReturnCode::INVALID_EXTENT_LIST
            }
            _ => false,
        };
        if is_wrong { Err(notice.into()) } else { Ok(()) }
    }

    fn expect_wake(&mut self) {
        let next = self.center.manager.as_ref().and_then(|manager| manager.next_deadline());
        let Some(next) = next else { return };
        if self.center.wakes_at.is_none_or(|at| next < at) {
            self.center.wakes_at = Some(next);
            self.at(next.max(self.now), Step::Wake);
        }
    }

    /// A command sets out. If it is lost, the manager finds that no reply comes.
    fn send(&mut self, command: Command) {
        self.measure.count("manager commands");
        self.center.commands += 1;
        self.center.under_way = Some(self.center.commands);
        if self.happens(self.faults.lost) {
            self.later(TIMEOUT, Step::Timeout(self.center.commands));
            return;
        }
        let after = self.travel();
        self.later(after, Step::Command(self.center.line, command));
    }

    /// The device does what it is told, in bytes both ways; perhaps twice.
    pub(super) fn command(&mut self, line: u64, command: &Command) -> Result<(), Broken> {
        if line != self.center.line {
            return Ok(());
        }
        let mut done = || self.device.manager(command.opcode(), &command.to_bytes());
        let reply = done();
        if self.faults.repeated != 0 && self.random.below(1000) < self.faults.repeated {
            // The reply to the second is nobody's.
            done();
        }
        let reply = command.reply(reply.code, &reply.payload)?;
        if self.happens(self.faults.lost) {
            self.later(TIMEOUT, Step::Timeout(self.center.commands));
            return Ok(());
        }
        let after = self.travel();
        self.later(after, Step::Reply(line, reply));
        Ok(())
    }

    pub(super) fn reply(&mut self, line: u64, reply: Reply) -> Result<(), Broken> {
        if line != self.center.line || self.center.under_way.take().is_none() {
            return Ok(());
        }
        let device = self.device_name.clone();
        self.tell(Input::Reply { device, reply })
    }

    /// No reply came: the line is given up, and another one begins.
    pub(super) fn timeout(&mut self, number: u64) -> Result<(), Broken> {
        if self.center.under_way != Some(number) {
            return Ok(());
        }
        self.measure.count("lines lost");
        self.center.hang_up();
        let device = self.device_name.clone();
        self.later(REDIAL, Step::Dial);
        self.tell(Input::DeviceDown { device })
    }

    /// A new line; if there is one yet, both ends drop what is on it.
    pub(super) fn dial(&mut self) -> Result<(), Broken> {
        self.center.hang_up();
        let device = self.device_name.clone();
        self.tell(Input::DeviceUp { device })
    }

    pub(super) fn tell_events(&mut self) -> Result<(), Broken> {
        let device = self.device_name.clone();
        self.tell(Input::EventsPending { device })
    }

    pub(super) fn manager_starts(&mut self) -> Result<(), Broken> {
        if self.center.manager.is_some() {
            return Ok(());
        }
        self.center.start(self.now)?;
        self.later(REDIAL, Step::Dial);
        for at in 0..self.hosts.len() {
            if self.hosts[at].is_running() {
                self.greet(at)?;
            }
        }
        // Whoever has no answer asks once more: it is the same request.
        for (id, request) in self.center.unanswered() {
            self.ask(id, request)?;
        }
        Ok(())
    }

    /// An operator asks; if nobody is there to hear it, the request stays to be asked again.
    fn ask(&mut self, id: RequestId, request: Request) -> Result<(), Broken> {
        let Some(manager) = &mut self.center.manager else { return Ok(()) };
        match manager.request(self.now, id, request) {
            Ok(out) => self.do_all(out),
            Err(_) => {
                self.measure.count("requests refused");
                self.center.refused(id);
                Ok(())
            }
        }
    }

    /// The same, of something that cannot be refused.
    pub(super) fn must(&mut self, request: Request) -> Result<(), Broken> {
        let id = self.center.ask(request.clone());
        let Some(manager) = &mut self.center.manager else { return Ok(()) };
        let out = manager.request(self.now, id, request)?;
        self.do_all(out)
    }

    pub(super) fn place(&self, at: usize) -> Place {
        Place { host: self.names[at].clone(), device: None, region: None }
    }

    /// Something by chance; some of it makes no sense.
    pub(super) fn ask_anything(&mut self) -> Result<(), Broken> {
        let hosts = self.hosts.len() as u64;
        let [one, other] = [0; 2].map(|_| self.random.below(hosts) as usize);
        let size = (1 + self.random.below(8)) * self.plan.block;
        let deadline = Some(self.below(self.plan.timing.patience * 2));
        let rest = Rest::Drop;
        let (place, to) = (self.place(one), self.names[other].clone());
        let (tag, policy) = (Tag::NULL, Policy::Free);
        let what = What::Size(size);
        let request = match self.random.below(4) {
            0 => Request::Add { to: place, size, tag, policy, rest, deadline },
            1 => {
                let forcing = Forcing::Never;
                Request::Release { from: place, what, forcing, rest, deadline }
            }
            2 => {
                let forcing = Forcing::AtDeadline;
                Request::Release { from: place, what, forcing, rest, deadline }
            }
            _ => Request::Move { from: place, to, size, rest, deadline },
        };
        self.measure.count("requests");
        let id = self.center.ask(request.clone());
        self.ask(id, request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{machine::trace::Tracing, pool::swarm};

    #[test]
    fn what_was_said_on_an_old_line_is_not_heard_on_the_next() {
        let mut plan = swarm::plan(1);
        plan.faults = Faults::default();
        let mut world = World::new(&plan, 1, Tracing::Off).expect("it makes sense");
        world.dial().expect("nothing is wrong");
        let (first, asked) = (world.center.line, world.center.under_way);
        assert!(asked.is_some(), "the manager begins to read");
        // A line that was given up and a manager that starts again may both dial.
        world.dial().expect("nothing is wrong");
        let now = world.center.under_way;
        assert_ne!((world.center.line, now), (first, asked));
        // To the first command of all; to the second it would be none.
        let reply = Ok(memtide_cxl::manager::Response::Done);
        world.reply(first, reply).expect("nobody hears it");
        assert_eq!(world.center.under_way, now);
    }
}
