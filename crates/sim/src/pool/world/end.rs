//! How it all comes to rest: faults stop, nobody needs anything, and everything is asked back. Then
//! all is free again, the parties agree, and every request has its answer.

use core::time::Duration;

use memtide_cxl::manager::{Forcing, Limits, Request, Rest, State, What};

use super::{Step, World, nanos};
use crate::pool::{judge::Broken, plan::Faults};

/// How long requests may take that were open when faults stopped: several times as long as any
/// pause that a file may ask for.
pub(in crate::pool) const REST: Duration = Duration::from_secs(600);

impl World<'_> {
    pub(super) fn come_to_rest(&mut self) -> Result<(), Broken> {
        self.faults = Faults::default();
        self.manager_starts()?;
        for at in 0..self.hosts.len() {
            self.agent_starts(at)?;
            self.set_need(at, 0)?;
        }
        self.run_for(REST)?;
        self.every_request_has_an_answer()?;
        self.judge.no_limits();
        for at in 0..self.hosts.len() {
            let (of, limits) = (self.place(at), Limits::default());
            self.must(Request::SetLimits { of, limits })?;
            let held = self.judge.held(self.hosts[at].id);
            if held == 0 {
                continue;
            }
            let (from, what, forcing) = (self.place(at), What::Size(held), Forcing::Never);
            let (rest, deadline) = (Rest::Stand, None);
            self.must(Request::Release { from, what, forcing, rest, deadline })?;
        }
        self.run_for(REST)?;
        self.every_request_has_an_answer()?;
        self.all_is_free()
    }

    /// What happens by itself goes on; what chance brought does not.
    fn run_for(&mut self, time: Duration) -> Result<(), Broken> {
        let end = self.now.after(time);
        while let Some((at, step)) = self.queue.pop_until(nanos(end)) {
            match step {
                Step::AgentDies | Step::ManagerDies | Step::Ask | Step::Need(_) | Step::Sample => {}
                other => self.step(at, other)?,
            }
        }
        self.now = end;
        Ok(())
    }

    fn every_request_has_an_answer(&self) -> Result<(), Broken> {
        if let Some((request, _)) = self.center.unanswered().first() {
            return Err(Broken::Unanswered { request: *request });
        }
        let manager = self.center.manager.iter();
        let mut open = manager.flat_map(|manager| manager.requests());
        match open.find(|(_, _, report)| report.state == State::Open) {
            Some((request, ..)) => Err(Broken::Unanswered { request }),
            None => Ok(()),
        }
    }

    fn all_is_free(&self) -> Result<(), Broken> {
        self.device.validate();
        let status = self.center.manager.iter().flat_map(|manager| manager.devices()).next();
        let capacity = self.plan.capacity;
        let held = self.hosts.iter().map(|host| self.judge.held(host.id)).sum();
        let Some(status) = status else { return Err(Broken::Lost { held, free: 0, capacity }) };
        for (host, said) in self.hosts.iter().zip(&status.hosts) {
            let held = self.judge.held(host.id);
            if held != said.held {
                return Err(Broken::Disagree { host: host.id, held, said: said.held });
            }
        }
        let free = status.free;
        if held != 0 || free != capacity {
            return Err(Broken::Lost { held, free, capacity });
        }
        Ok(())
    }
}
