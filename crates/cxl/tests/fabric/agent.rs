//! A host's agent: reads its event log, does what the rules say, and tells the manager what its
//! programs use. It may be killed between any two steps; the device remembers.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use memtide_cxl::{
    command::{
        HostId, More,
        dynamic_capacity::{AddResponse, GetExtentList, Release},
        events::{
            Clear, ClearEventRecords, DynamicCapacityEventKind as Kind, EventBody, EventLog,
            GetEventRecords,
        },
    },
    device::{Device, Refusal},
    manager::{Holder, HostAnswer},
};
use memtide_engine::dynamic_capacity::{
    self as rules, DeviceConfig, DeviceId, Effect, Host, Input, Limits, Outcome, Partition,
    Splitting,
};
use memtide_units::{DpaRange, HoldReason, Instant, Random};

const DEVICE: DeviceId = DeviceId(0);

/// A host that asks its programs more often than Linux would.
fn limits() -> Limits {
    Limits { retry_after_max: Duration::from_secs(4), ..Limits::default() }
}

/// Something to do, one a step.
#[derive(Clone, Debug)]
enum Job {
    Effect(Effect),
    Answer(HostAnswer),
}

/// One host's agent.
pub struct Agent {
    pub host: HostId,
    pub config: DeviceConfig,
    /// Nothing: it is not running.
    rules: Option<Host>,
    jobs: VecDeque<Job>,
    /// Records that were read and not cleared.
    read: Vec<u16>,
    /// Of them those that say nothing any more: the list that was read at the start is younger.
    outdated: BTreeSet<u16>,
    /// Blocks that programs use.
    pub used: BTreeSet<u64>,
    /// What it has to tell the manager.
    pub answers: VecDeque<HostAnswer>,
    pub block: u64,
    pub programs: Programs,
}

/// Whether programs use what there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Programs {
    Run,
    Ended,
}

/// What a step was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Did {
    Something,
    Nothing,
}

impl Agent {
    pub fn new(host: HostId, partitions: Vec<Partition>, splitting: Splitting, block: u64) -> Self {
        Self {
            host,
            config: DeviceConfig { splitting, ..DeviceConfig::new(partitions) },
            rules: None,
            jobs: VecDeque::new(),
            read: Vec::new(),
            outdated: BTreeSet::new(),
            used: BTreeSet::new(),
            answers: VecDeque::new(),
            block,
            programs: Programs::Run,
        }
    }

    /// It is killed. Programs go on using what they use.
    pub fn crash(&mut self) {
        self.rules = None;
        self.jobs.clear();
        self.read.clear();
        self.answers.clear();
    }

    pub fn is_running(&self) -> bool {
        self.rules.is_some()
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.rules.as_ref().and_then(Host::next_deadline)
    }

    /// Does one thing.
    pub fn step(&mut self, device: &mut Device, now: Instant, random: &mut Random) -> Did {
        if self.rules.is_none() {
            self.start(device, now);
            return Did::Something;
        }
        if let Some(job) = self.jobs.pop_front() {
            self.work(job, device, now, random);
            return Did::Something;
        }
        if !self.read.is_empty() {
            let what = Clear::Handles(std::mem::take(&mut self.read));
            let command = ClearEventRecords { log: EventLog::DynamicCapacity, what };
            device.clear_host_events(self.host, &command).expect("they were just read");
            return Did::Something;
        }
        self.read_log(device, now)
    }

    fn start(&mut self, device: &Device, now: Instant) {
        let mut rules = Host::new(limits());
        rules.add_device(DEVICE, self.config.clone()).expect("the device makes sense");
        self.rules = Some(rules);
        // Before the list.
        let ask = GetEventRecords { log: EventLog::DynamicCapacity };
        let records = device.host_events(self.host, &ask).expect("it has this host").records;
        self.outdated = memtide_cxl::outdated(&records);
        let ask = GetExtentList { count: 1000, start: 0 };
        let mut accepted = Vec::new();
        loop {
            let start = accepted.len() as u32;
            let list = device.extent_list(self.host, &GetExtentList { start, ..ask });
            let list = list.expect("it has this host");
            accepted.extend(list.extents);
            if accepted.len() as u32 == list.total {
                break;
            }
        }
        for partition in self.config.partitions.clone() {
            let (decoder, accepted) = (partition.range, accepted.clone());
            self.tell(now, Input::Probe { device: DEVICE, decoder, accepted });
        }
    }

    fn tell(&mut self, now: Instant, input: Input) {
        let rules = self.rules.as_mut().expect("it is running");
        let effects = rules.handle(now, input).expect("the agent says what can be");
        self.jobs.extend(effects.into_iter().map(Job::Effect));
    }

    fn read_log(&mut self, device: &Device, now: Instant) -> Did {
        let ask = GetEventRecords { log: EventLog::DynamicCapacity };
        let records = device.host_events(self.host, &ask).expect("it has this host").records;
        for record in &records {
            self.read.push(record.handle);
            let EventBody::DynamicCapacity(event) = record.body else { continue };
            if self.outdated.remove(&record.handle) {
                continue;
            }
            let (extent, tag, range) = (event.extent, event.extent.tag, event.extent.range);
            let more = match event.more {
                More::Follows => rules::More::Follows,
                More::Last => rules::More::Last,
            };
            let input = match event.kind {
                Kind::Add => Input::Add { device: DEVICE, extent, more },
                Kind::Release => Input::Release { device: DEVICE, range, tag, more },
                Kind::ForcedRelease => Input::ForcedRelease { device: DEVICE, range, tag },
                _ => continue,
            };
            self.tell(now, input);
        }
        if !records.is_empty() {
            return Did::Something;
        }
        let due = self.next_deadline().is_some_and(|at| at <= now);
        if due {
            self.tell(now, Input::Tick);
            return Did::Something;
        }
        Did::Nothing
    }

    fn work(&mut self, job: Job, device: &mut Device, now: Instant, random: &mut Random) {
        let effect = match job {
            Job::Answer(answer) => return self.answers.push_back(answer),
            Job::Effect(effect) => effect,
        };
        match effect {
            Effect::AddResponse { chain, accepted, .. } => {
                let answer = AddResponse { more: More::Last, accepted };
                let outcome = match device.add_response(self.host, &answer) {
                    Ok(()) => Outcome::Taken,
                    Err(_) => Outcome::Rejected,
                };
                self.tell(now, Input::Answered { device: DEVICE, chain, outcome });
            }
            Effect::ReleaseDc { released, .. } => {
                self.release(device, released);
            }
            Effect::Surface { extents, .. } => {
                for block in extents.into_iter().flat_map(|range| blocks(range, self.block)) {
                    if self.programs == Programs::Run && random.below(3) == 0 {
                        self.used.insert(block);
                    }
                }
            }
            Effect::Reclaim { ranges, .. } => self.reclaim(&ranges, now),
            Effect::Withdrawn { extents, .. } | Effect::Lost { extents, .. } => {
                for block in extents.into_iter().flat_map(|range| blocks(range, self.block)) {
                    self.used.remove(&block);
                }
            }
            Effect::Keep { .. } | Effect::Note { .. } => {}
        }
    }

    /// Gives back. What was taken by force meanwhile is not there any more; the rest is.
    fn release(&self, device: &mut Device, released: Vec<DpaRange>) {
        let release = Release { more: More::Last, released };
        let left = match device.release(self.host, &release) {
            Ok(()) => return,
            Err(Refusal::NotHeld { .. }) => self.still_held(device, &release.released),
            Err(why) => panic!("{:?} cannot release {release:?}: {why}", self.host),
        };
        if !left.is_empty() {
            let release = Release { more: More::Last, released: left };
            device.release(self.host, &release).expect("the device has just said that it is held");
        }
    }

    fn still_held(&self, device: &Device, ranges: &[DpaRange]) -> Vec<DpaRange> {
        let ask = GetExtentList { count: 1000, start: 0 };
        let held = device.extent_list(self.host, &ask).expect("it has this host").extents;
        let held = held.iter().map(|extent| extent.range);
        let common = held.flat_map(|held| {
            ranges.iter().map(move |range| {
                let start = held.start.max(range.start);
                let end = held.end().min(range.end()).max(u128::from(start));
                DpaRange::new(start, (end - u128::from(start)) as u64)
            })
        });
        common.filter(|range| range.length != 0).collect()
    }

    /// What is not used is free; the answer to the manager comes after the release.
    fn reclaim(&mut self, ranges: &[DpaRange], now: Instant) {
        let asked: u64 = ranges.iter().map(|range| range.length).sum();
        let free: Vec<DpaRange> = ranges.iter().flat_map(|&range| self.free_in(range)).collect();
        let before = self.jobs.len();
        self.tell(now, Input::Reclaimed { device: DEVICE, free });
        let released = self.jobs.iter().skip(before).map(|job| match job {
            Job::Effect(Effect::ReleaseDc { released, .. }) => {
                released.iter().map(|range| range.length).sum()
            }
            _ => 0,
        });
        let released: u64 = released.sum();
        let remaining = asked.saturating_sub(released);
        let holder = Holder {
            tenant: None,
            program: Some("program".into()),
            pid: Some(1),
            bytes: remaining,
            reason: HoldReason::MemoryLock,
        };
        let holders = if remaining == 0 { Vec::new() } else { vec![holder] };
        self.jobs.push_back(Job::Answer(HostAnswer { asked, released, remaining, holders }));
    }

    /// What of a range no program uses, in blocks of its partition.
    fn free_in(&self, range: DpaRange) -> Vec<DpaRange> {
        let mut partitions = self.config.partitions.iter();
        let partition = partitions.find(|partition| partition.range.contains(range));
        let unit = partition.expect("extents lie in partitions").block_bytes;
        let is_free =
            |unit: &DpaRange| blocks(*unit, self.block).all(|block| !self.used.contains(&block));
        blocks(range, unit).map(|start| DpaRange::new(start, unit)).filter(is_free).collect()
    }

    /// Programs end, or use less.
    pub fn free_some(&mut self, now: Instant, random: &mut Random, one_in: u64) {
        self.used.retain(|_| random.below(one_in) != 0);
        if self.rules.is_some() {
            self.tell(now, Input::Freed { device: DEVICE });
        }
    }

    pub fn used_bytes(&self) -> u64 {
        self.used.len() as u64 * self.block
    }
}

fn blocks(range: DpaRange, block: u64) -> impl Iterator<Item = u64> {
    (range.start..range.start + range.length).step_by(block as usize)
}
