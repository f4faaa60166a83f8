//! What hosts do: they hear the device, answer it, empty what it asks for, and tell the manager
//! what they use and want. They are killed, and start again.

use memtide_cxl::manager::Input;
use memtide_engine::dynamic_capacity as dc;

use super::{Step, World, nanos};
use crate::{
    fabric::{LINK, medium},
    pool::{
        host::{Doing, takes},
        judge::Broken,
    },
};

impl World<'_> {
    pub(super) fn host_step(&mut self, step: Step) -> Result<(), Broken> {
        match step {
            Step::Need(at) => {
                let needs = &self.plan.hosts[at].needs;
                let now = self.now.0;
                let need = needs.iter().rev().find(|&&(when, _)| when <= now);
                self.set_need(at, need.map_or(0, |&(_, need)| need))
            }
            Step::Say(at) => {
                // An agent that started again says so by itself.
                self.later(self.plan.say_every, Step::Say(at));
                self.read_log(at)?;
                self.say(at)
            }
            Step::Log(at) => self.read_log(at),
            Step::HostTick(at) => {
                let due = self.hosts[at].next_deadline();
                if due.is_some_and(|due| nanos(due) <= nanos(self.now)) {
                    self.feed(at, dc::Input::Tick)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A host needs so much from now on.
    pub(super) fn set_need(&mut self, at: usize, need: u64) -> Result<(), Broken> {
        let less = need < self.hosts[at].need;
        self.hosts[at].need = need;
        self.account(at);
        if less {
            self.feed(at, dc::Input::Freed { device: medium::MEM })?;
        }
        self.say(at)
    }

    fn read_log(&mut self, at: usize) -> Result<(), Broken> {
        if !self.hosts[at].is_running() {
            return Ok(());
        }
        for input in medium::read_log(&mut self.device, self.hosts[at].id)? {
            self.measure.count("records");
            self.feed(at, input)?;
        }
        Ok(())
    }

    /// What a host's programs use, and what it wants besides.
    pub(super) fn say(&mut self, at: usize) -> Result<(), Broken> {
        let host = &self.hosts[at];
        if !host.is_running() {
            return Ok(());
        }
        let (used, bytes) = (host.uses(), host.wants());
        let (name, device) = (self.names[at].clone(), self.device_name.clone());
        self.word(Input::HostUses { host: name.clone(), device, used });
        self.word(Input::HostWants { host: name, bytes });
        Ok(())
    }

    /// A message to the manager: it may be lost, come twice, or late.
    pub(super) fn word(&mut self, input: Input) {
        self.measure.count("words");
        if self.happens(self.faults.lost) {
            return;
        }
        if self.happens(self.faults.repeated) {
            let after = self.travel();
            self.later(after, Step::Word(input.clone()));
        }
        let after = self.travel();
        self.later(after, Step::Word(input));
    }

    pub(super) fn carry_out(&mut self, at: usize, doings: Vec<Doing>) {
        let life = self.hosts[at].life;
        for doing in doings {
            match doing {
                Doing::Respond(chain, accepted) => {
                    self.later(LINK, Step::Respond(at, life, chain, accepted));
                }
                Doing::Release(released) => self.later(LINK, Step::Release(at, released)),
                Doing::Empty { free, asked, copies } => {
                    let after = takes(copies, self.plan.copied);
                    self.later(after, Step::Emptied(at, life, free, asked));
                    self.account(at);
                }
            }
        }
        if let Some(due) = self.hosts[at].next_deadline() {
            self.at(due.max(self.now), Step::HostTick(at));
        }
    }

    /// What a host says to the device, and what comes of it.
    pub(super) fn command_step(&mut self, step: Step) -> Result<(), Broken> {
        match step {
            Step::Respond(at, life, chain, accepted) => {
                self.measure.count("host commands");
                let outcome = self.hosts[at].respond(&mut self.device, accepted);
                self.later(LINK, Step::Responded(at, life, chain, outcome));
            }
            Step::Responded(at, life, chain, outcome) if life == self.hosts[at].life => {
                self.feed(at, dc::Input::Answered { device: medium::MEM, chain, outcome })?;
                self.say(at)?;
            }
            Step::Release(at, released) => {
                self.measure.count("host commands");
                self.hosts[at].release(&mut self.device, released)?;
                self.account(at);
            }
            Step::Emptied(at, life, free, asked) if life == self.hosts[at].life => {
                let (doings, answer) = self.hosts[at].emptied(self.now, free, asked)?;
                self.carry_out(at, doings);
                self.account(at);
                let (host, device) = (self.names[at].clone(), self.device_name.clone());
                self.word(Input::HostAnswer { host, device, answer });
            }
            // Who waited for it was killed.
            _ => {}
        }
        Ok(())
    }

    pub(super) fn agent_dies(&mut self, at: usize) {
        self.measure.count("agents killed");
        self.hosts[at].die();
        self.account(at);
        let host = self.names[at].clone();
        self.later(LINK, Step::Word(Input::HostDown { host }));
        let away = LINK * 2 + self.below(self.faults.away);
        self.later(away, Step::AgentStarts(at));
    }

    pub(super) fn agent_starts(&mut self, at: usize) -> Result<(), Broken> {
        if self.hosts[at].is_running() {
            return Ok(());
        }
        self.hosts[at].start(self.now, &self.device)?;
        if self.hosts[at].life == 0 {
            let first = self.below(self.plan.say_every);
            self.later(first, Step::Say(at));
        }
        self.greet(at)?;
        self.read_log(at)
    }

    /// A host's agent has a connection to the manager.
    pub(super) fn greet(&mut self, at: usize) -> Result<(), Broken> {
        let host = self.names[at].clone();
        self.measure.count("words");
        self.later(LINK, Step::Word(Input::HostUp { host }));
        self.say(at)
    }
}
