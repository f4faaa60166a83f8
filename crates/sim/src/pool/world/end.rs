//! How it all comes to rest: faults stop, nobody needs anything, and everything is asked back. Then
//! all is free again, the parties agree, and every request has its answer.

use core::time::Duration;
use std::collections::BTreeMap;

use memtide_cxl::{
    command::HostId,
    manager::{Forcing, Limits, Request, Rest, State, What},
};

use super::{Step, World, nanos};
use crate::pool::{judge::Broken, plan::Faults};

/// How long it may take until all has come to rest: longer than any pause.
const REST: Duration = Duration::from_secs(600);
/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_secs(20);

impl World<'_> {
    pub(super) fn come_to_rest(&mut self) -> Result<(), Broken> {
        self.faults = Faults::default();
        self.manager_starts()?;
        for at in 0..self.hosts.len() {
            self.agent_starts(at)?;
            self.set_need(at, 0)?;
        }
        self.run_until(|world| {
            world.every_request_has_an_answer()?;
            world.all_agree()
        })?;
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
        self.run_until(|world| {
            world.every_request_has_an_answer()?;
            world.all_agree()?;
            world.all_is_free()
        })
    }

    /// Time passes until something holds; in the end it has to.
    fn run_until(&mut self, holds: impl Fn(&Self) -> Result<(), Broken>) -> Result<(), Broken> {
        let end = self.now.after(REST);
        while self.now < end {
            self.run_for(LOOK)?;
            if holds(self).is_ok() {
                return Ok(());
            }
        }
        holds(self)
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

    /// The manager says of every host what the device does.
    fn all_agree(&self) -> Result<(), Broken> {
        self.device.validate();
        let status = self.center.manager.iter().flat_map(|manager| manager.devices()).next();
        let said = status.iter().flat_map(|status| &status.hosts);
        let said: BTreeMap<HostId, u64> = said.map(|host| (host.host, host.held)).collect();
        let hosts = self.hosts.iter().map(|host| host.id);
        let mut hosts = hosts.map(|host| (host, self.judge.held(host), said.get(&host).copied()));
        match hosts.find(|&(_, held, said)| said != Some(held)) {
            Some((host, held, said)) => Err(Broken::Disagree { host, held, said }),
            None => Ok(()),
        }
    }

    fn all_is_free(&self) -> Result<(), Broken> {
        let status = self.center.manager.iter().flat_map(|manager| manager.devices()).next();
        let capacity = self.plan.capacity;
        let held = self.hosts.iter().map(|host| self.judge.held(host.id)).sum();
        let free = status.map_or(0, |status| status.free);
        if held != 0 || free != capacity {
            return Err(Broken::Lost { held, free, capacity });
        }
        Ok(())
    }
}
