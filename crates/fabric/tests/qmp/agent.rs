//! The agent in a guest, played.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use memtide_fabric::{
    channel::{Channel, Incoming},
    frame,
    wire::{FromManager, HeldBy, HostAnswer, ToManager},
};
use memtide_units::{DcExtent, DpaRange, HoldReason, Tag};

use crate::{
    bed::LONG,
    managed::introduce,
    qemu::{Device, Qemu},
};

/// What the agent in a guest does with what its device was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    Accept,
    Refuse,
}

/// The agent in a guest, played step by step.
pub struct Agent {
    channel: Channel,
    qemu: Arc<Qemu>,
    /// What it has answered since it last told of it.
    pub answered: Vec<DpaRange>,
    /// The last look that the manager asked for, and the last after which nothing was left of what
    /// the device had been told before.
    look: u64,
    looked: u64,
}

impl Agent {
    pub fn connect(agents: &Path, name: &str, qemu: Arc<Qemu>) -> Self {
        let channel = introduce(agents, name).unwrap();
        Self { channel, qemu, answered: Vec::new(), look: 0, looked: 0 }
    }

    /// Hears what it is asked to look for; whether the connection is over.
    fn hear(&mut self) -> bool {
        loop {
            match self.channel.receive() {
                Incoming::Frame(body) => match frame::decode(&body).unwrap() {
                    FromManager::Look { number, .. } => self.look = number,
                    other => panic!("{other:?}"),
                },
                Incoming::Nothing => return self.channel.is_over(),
                Incoming::Closed => return true,
                Incoming::Garbage(error) => panic!("{error}"),
            }
        }
    }

    fn say(&mut self, message: &ToManager) {
        self.channel.send(message, None).unwrap();
        self.channel.flush();
    }

    pub fn tell(&mut self) {
        self.hear();
        let device = self.qemu.device();
        if device.records() == 0 {
            self.looked = self.look;
        }
        let extent = |&range: &DpaRange| DcExtent { range, tag: Tag::NULL, sequence: 0 };
        let (serial, accepted) = (device.serial, device.accepted.iter().map(extent).collect());
        drop(device);
        let (answered, looked) = (std::mem::take(&mut self.answered), self.looked);
        self.say(&ToManager::Extents { serial, accepted, answered, looked });
    }

    /// Whether the manager has ended the connection.
    pub fn is_sent_away(&mut self) -> bool {
        self.hear()
    }

    /// Answers the oldest chain, if there is one.
    pub fn answer(&mut self, answer: Answer) -> bool {
        let mut device = self.qemu.device();
        let Some(chain) = device.pending.pop_front() else { return false };
        self.answered.extend(&chain);
        if answer == Answer::Accept {
            device.accepted.extend(chain);
        }
        true
    }

    /// Gives back what it is asked for, but so many bytes.
    pub fn give_back(&mut self, stays: u64) {
        let mut device = self.qemu.device();
        let asked: Vec<DpaRange> = device.asked.drain(..).collect();
        let bytes: u64 = asked.iter().map(|range| range.length).sum();
        let mut goes = bytes.saturating_sub(stays);
        let released = goes;
        for range in asked {
            let gone = DpaRange::new(range.start, range.length.min(goes));
            goes -= gone.length;
            release(&mut device.accepted, gone);
        }
        let serial = device.serial;
        drop(device);
        self.tell();
        let holder = HeldBy {
            tenant: None,
            program: Some("holder".to_owned()),
            pid: Some(7),
            bytes: stays,
            reason: HoldReason::LongTermPin,
        };
        let remaining = bytes - released;
        let holders = if remaining > 0 { vec![holder] } else { Vec::new() };
        let answer = HostAnswer { serial, asked: bytes, released, remaining, holders };
        self.say(&ToManager::Answer(answer));
    }

    #[track_caller]
    pub fn wait(&self, what: &str, is: impl Fn(&Device) -> bool) {
        let until = Instant::now() + LONG;
        while !is(&self.qemu.device()) {
            assert!(Instant::now() < until, "{what}: {:#?}", self.qemu.device());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[track_caller]
    pub fn accepts(&mut self) {
        self.wait("an offer", |device| !device.pending.is_empty());
        self.answer(Answer::Accept);
        self.tell();
    }
}

fn release(accepted: &mut Vec<DpaRange>, gone: DpaRange) {
    let mut rest = Vec::new();
    for range in accepted.drain(..) {
        if gone.length == 0 || !range.overlaps(gone) {
            rest.push(range);
            continue;
        }
        let (end, gone_end) = (range.end() as u64, gone.end() as u64);
        for (start, end) in [(range.start, gone.start), (gone_end, end)] {
            if start < end {
                rest.push(DpaRange::new(start, end - start));
            }
        }
    }
    *accepted = rest;
}
