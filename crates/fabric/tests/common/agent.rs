//! A host: it takes what it is offered, gives back what it does not use, and tells the manager.

use std::{
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use memtide_cxl::command::{More, dynamic_capacity::AddResponse, events::DynamicCapacityEventKind};
use memtide_fabric::{
    channel::{Channel, Incoming},
    wire::{HeldBy, HostAnswer, ToManager},
};
use memtide_units::{DpaRange, HoldReason};

use crate::{
    common::{BLOCK, Host, Served, drain},
    managed::introduce,
};

#[derive(Debug, Default)]
struct Shared {
    /// Bytes that stay, whoever asks.
    used: AtomicU64,
    fill: AtomicBool,
    stop: AtomicBool,
    not_zero: AtomicBool,
}

pub struct Agent {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Agent {
    pub fn start(served: &Served, host: u16, name: &str, manager: PathBuf) -> Self {
        let shared = Arc::new(Shared::default());
        let known = Arc::clone(&shared);
        let connection = served.host(host);
        let name = name.to_owned();
        let thread = std::thread::spawn(move || run(connection, &name, &manager, &known));
        Self { shared, thread: Some(thread) }
    }

    pub fn use_bytes(&self, bytes: u64) {
        self.shared.used.store(bytes, Ordering::SeqCst);
    }

    /// Writes to all that it has, and waits until that is done.
    pub fn fill(&self) {
        self.shared.fill.store(true, Ordering::SeqCst);
        while self.shared.fill.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether all that it was given was zero then.
    pub fn reads_zeroes(&self) -> bool {
        !self.shared.not_zero.load(Ordering::SeqCst)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        let _ = self.thread.take().unwrap().join();
    }
}

pub fn tell_wants(channel: &mut Channel, bytes: u64) {
    channel.send(&ToManager::Wants { bytes }, None).unwrap();
    channel.flush();
}

fn run(mut host: Host, name: &str, manager: &Path, shared: &Shared) {
    let mut told = introduce(manager, name).ok();
    let serial = host.0.welcome().serial;
    let mut asked: Vec<DpaRange> = Vec::new();
    while !shared.stop.load(Ordering::SeqCst) {
        // It comes back to a manager that was started again.
        if told.as_mut().is_none_or(|channel| channel.receive() == Incoming::Closed) {
            told = introduce(manager, name).ok();
        }
        if host.0.pump().is_err() {
            return;
        }
        let _ = host.0.as_fd();
        let mut group = Vec::new();
        let mut is_asked = false;
        for event in drain(&mut host.0) {
            match event.kind {
                DynamicCapacityEventKind::Add => {
                    group.push(event.extent.range);
                    if event.more == More::Last {
                        let accepted = std::mem::take(&mut group);
                        let answer = AddResponse { more: More::Last, accepted: accepted.clone() };
                        if host.0.command(&answer).is_ok() {
                            look(&host, &accepted, shared);
                        }
                    }
                }
                DynamicCapacityEventKind::Release => {
                    asked.push(event.extent.range);
                    is_asked = true;
                }
                _ => {}
            }
        }
        let answer = give_back(&mut host, &mut asked, shared);
        if is_asked && let Some(channel) = &mut told {
            channel.send(&ToManager::Answer(HostAnswer { serial, ..answer }), None).unwrap();
            channel.flush();
        }
        if shared.fill.load(Ordering::SeqCst) {
            for range in host.extents() {
                host.write(range.start, &[7; 4096]);
            }
            shared.fill.store(false, Ordering::SeqCst);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn look(host: &Host, accepted: &[DpaRange], shared: &Shared) {
    for range in accepted {
        let zero = host.read(range.start, 4096).iter().all(|byte| *byte == 0);
        shared.not_zero.fetch_or(!zero, Ordering::SeqCst);
    }
}

/// Releases what was asked for, block by block, as far as it is not used.
fn give_back(host: &mut Host, asked: &mut Vec<DpaRange>, shared: &Shared) -> HostAnswer {
    let all: Vec<DpaRange> = host.extents();
    let mut free = all.iter().map(|range| range.length).sum::<u64>();
    free = free.saturating_sub(shared.used.load(Ordering::SeqCst));
    let (mut released, mut remaining, mut rest) = (0, 0, Vec::new());
    for range in asked.drain(..) {
        let mut at = range.start;
        while u128::from(at) < range.end() {
            let block = DpaRange::new(at, BLOCK);
            at += BLOCK;
            if !all.iter().any(|have| have.contains(block)) {
                continue;
            }
            if free >= BLOCK && host.release(&[block]).is_ok() {
                free -= BLOCK;
                released += BLOCK;
            } else {
                remaining += BLOCK;
                rest.push(block);
            }
        }
    }
    *asked = rest;
    let holder = HeldBy {
        tenant: None,
        program: Some("database".to_owned()),
        pid: Some(1),
        bytes: remaining,
        reason: HoldReason::MemoryLock,
    };
    let holders = if remaining > 0 { vec![holder] } else { Vec::new() };
    HostAnswer { serial: 0, asked: released + remaining, released, remaining, holders }
}
