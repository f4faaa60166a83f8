//! A manager of one device, `pool`, and the QEMUs of its guests.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use memtide_cxl::manager::{Forcing, Report, Request, Rest};
use memtide_fabric::{
    control::{DeviceStateView, DeviceView},
    manager::Client,
};
use tempfile::TempDir;

use crate::{
    agent::Agent,
    managed::{self, Managed},
    qemu::Qemu,
    requests,
};

pub const BLOCK: u64 = 128 << 20;
pub const LONG: Duration = Duration::from_secs(60);

pub struct Bed {
    pub managed: Managed,
    pub client: Client,
    /// Reports go to who asked, also between the lines of a list.
    pub looks: Client,
    pub qemus: Vec<Arc<Qemu>>,
    directory: TempDir,
}

impl Bed {
    pub fn start(guests: usize) -> Self {
        Self::with_serials(&vec![7; guests])
    }

    /// What each guest's QEMU says the device's serial number is.
    pub fn with_serials(serials: &[u64]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let qemus: Vec<_> = serials
            .iter()
            .enumerate()
            .map(|(n, &serial)| {
                let path = directory.path().join(format!("{n}.qmp"));
                Arc::new(Qemu::start(&path, serial))
            })
            .collect();
        let managed = run(&directory, &qemus);
        let [client, looks] = [(); 2].map(|()| managed.client());
        Self { managed, client, looks, qemus, directory }
    }

    /// One guest, whose agent has said that it has nothing.
    pub fn of_one() -> (Self, Agent) {
        let mut bed = Self::start(1);
        bed.connected();
        let mut agent = bed.agent(0);
        agent.tell();
        bed.ready();
        (bed, agent)
    }

    /// Another manager, with the store of the first.
    pub fn restart(&mut self) {
        self.managed.stop();
        self.managed = run(&self.directory, &self.qemus);
        [self.client, self.looks] = [(); 2].map(|()| self.managed.client());
    }

    /// An agent of this host that is new.
    pub fn agent(&self, host: usize) -> Agent {
        let agents = self.managed.agents();
        Agent::connect(&agents, &format!("h{host}"), Arc::clone(&self.qemus[host]))
    }

    #[track_caller]
    pub fn wait(&mut self, is: impl Fn(&DeviceView) -> bool) -> DeviceView {
        self.managed.wait(&mut self.looks, is)
    }

    #[track_caller]
    pub fn ready(&mut self) -> DeviceView {
        self.managed.ready(&mut self.looks)
    }

    /// Waits until QEMU is connected, and all agents have been sent away for that.
    #[track_caller]
    pub fn connected(&mut self) {
        self.wait(|view| view.state == DeviceStateView::Reading);
    }

    /// Waits until hosts have so many blocks.
    #[track_caller]
    pub fn holds(&mut self, held: &[u64]) {
        self.wait(|view| {
            let hosts = view.hosts.iter().map(|host| host.held / BLOCK);
            view.state == DeviceStateView::Ready && hosts.eq(held.iter().copied())
        });
    }

    /// Asks for an addition that nobody answers: what has become of it when its time is over.
    #[track_caller]
    pub fn unanswered(&mut self, host: usize, blocks: u64) -> Report {
        let deadline = Duration::from_secs(2);
        let id = self.client.ask(add(&format!("h{host}"), blocks, deadline)).unwrap();
        let until = Instant::now() + LONG;
        while self.qemus[host].device().pending.is_empty() {
            assert!(Instant::now() < until, "{:#?}", self.qemus[host].device());
            std::thread::sleep(Duration::from_millis(1));
        }
        self.client.report(id).unwrap()
    }

    pub fn done(&mut self, request: Request) -> Report {
        let id = self.client.ask(request).unwrap();
        self.client.report(id).unwrap()
    }
}

fn run(directory: &TempDir, qemus: &[Arc<Qemu>]) -> Managed {
    let guests: Vec<String> =
        qemus.iter().map(|qemu| format!("{},mem0", qemu.path.display())).collect();
    let hosts: Vec<String> = (0..qemus.len()).map(|n| format!("h{n}={n}")).collect();
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let device = format!("pool=qmp:{}", guests.join("+"));
    Managed::run(directory.path(), managed::config(directory.path(), &device, &hosts))
}

pub fn add(host: &str, blocks: u64, deadline: Duration) -> Request {
    requests::add(host, blocks * BLOCK, Rest::Drop, Some(deadline))
}

pub fn give(host: &str, blocks: u64, forcing: Forcing) -> Request {
    let deadline = Duration::from_millis(500);
    requests::release(host, blocks * BLOCK, forcing, Rest::Drop, deadline)
}
