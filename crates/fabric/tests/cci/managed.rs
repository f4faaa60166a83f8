//! The manager itself, and one device of it.

use std::time::Instant;

use memtide_cxl::{
    command::HostId,
    manager::{
        self, Chooser, DeviceConfig, DeviceName, DeviceStatus, HostConfig, Input, Limits, Manager,
        Output, Report, Request,
    },
};
use memtide_fabric::manager::backend::Backend;
use memtide_units::RequestId;

use crate::{SOON, mailbox::wait};

/// A manager of one device, as its service drives it.
pub struct Managed {
    manager: Manager,
    backend: Box<dyn Backend>,
    start: Instant,
    reports: Vec<Report>,
}

fn pool() -> DeviceName {
    "pool".parse().unwrap()
}

impl Managed {
    pub fn start(backend: Box<dyn Backend>) -> Self {
        let host = |name: &str, number| HostConfig {
            name: name.parse().unwrap(),
            host: HostId(number),
            limits: Limits::default(),
        };
        let hosts = vec![host("h1", 0), host("h2", 1)];
        let devices = vec![DeviceConfig { name: pool(), chooser: Chooser::default(), hosts }];
        let config = manager::Config { devices, ..manager::Config::default() };
        let manager = Manager::new(config).unwrap();
        let (start, reports) = (Instant::now(), Vec::new());
        let mut managed = Self { manager, backend, start, reports };
        managed.tell(Input::DeviceUp { device: pool() });
        managed
    }

    fn now(&self) -> memtide_units::Instant {
        memtide_units::Instant(self.start.elapsed())
    }

    fn tell(&mut self, input: Input) {
        let outputs = self.manager.handle(self.now(), input).unwrap();
        self.carry_out(outputs);
    }

    pub fn ask(&mut self, request: Request) -> Report {
        let id = RequestId(self.reports.len() as u64 + 1);
        let outputs = self.manager.request(self.now(), id, request).unwrap();
        self.carry_out(outputs);
        let until = Instant::now() + SOON;
        loop {
            let answered = self.reports.iter().find(|report| report.id == id);
            if let Some(report) = answered {
                return report.clone();
            }
            assert!(Instant::now() < until, "{:#?}", self.status());
            self.turn();
        }
    }

    fn carry_out(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Command { command, .. } => self.backend.begin(&command).unwrap(),
                Output::Answer(report) => self.reports.push(report),
                Output::Note { .. } | Output::Journal(_) | Output::Taken { .. } => {}
            }
        }
    }

    /// One turn of the service's loop.
    fn turn(&mut self) {
        wait(&*self.backend);
        let reply = self.backend.finish().unwrap();
        if self.backend.take_events_pending() {
            self.tell(Input::EventsPending { device: pool() });
        }
        if let Some(reply) = reply {
            self.tell(Input::Reply { device: pool(), reply });
        }
        if self.manager.next_deadline().is_some_and(|at| at <= self.now()) {
            self.tell(Input::Tick);
        }
    }

    pub fn status(&self) -> DeviceStatus {
        self.manager.devices().remove(0)
    }

    pub fn until(&mut self, is: impl Fn(&DeviceStatus) -> bool) -> DeviceStatus {
        let until = Instant::now() + SOON;
        loop {
            let status = self.status();
            if is(&status) {
                return status;
            }
            assert!(Instant::now() < until, "{status:#?}");
            self.turn();
        }
    }
}
