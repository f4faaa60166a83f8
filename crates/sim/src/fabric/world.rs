//! Time passes between the manager, the device, the hosts and their programs.
//!
//! The first host has near memory and a far node behind the device. Its programs lease all of the
//! far node, pin some of it, release all but what they use, and go on. Then the manager asks for
//! everything back. The programs that pin stop one after the other: each second one ends, the
//! others only unpin. A second host waits for the same capacity, and is handed whatever is free.
//! `carry_out` does what the first host's engine wants done.

mod carry_out;

use core::time::Duration;
use std::collections::BTreeMap;

use memtide_cxl::{
    command::{
        HostId, More,
        dynamic_capacity::{AddResponse, Release},
        fabric_manager::Force,
    },
    device::{Device, Effect as DeviceEffect},
};
use memtide_engine::{
    Config, Engine, Input, NodeConfig,
    dynamic_capacity::{
        self as dc, Answer, DeviceConfig, DpaRange, Host, Limits, Outcome, Port, Splitting, Window,
    },
};
use memtide_units::{
    Extent, ImageId, Instant, MemberId, MoveId, NodeId, NodeKind, PAGEBLOCK_BYTES, Pageblock,
    Random, RequestId, TokenId,
};

use super::{
    FabricError, Fault, LINK, RECORDS_MAX,
    commands::{self, Operator, Tags},
    medium::{self, MEM, held_bytes},
    programs::{PIN, Programs},
};

/// The host that has the capacity first, and the one that gets it then.
pub(super) const HOSTS: [HostId; 2] = [HostId(0), HostId(1)];
const NEAR: NodeId = NodeId(0);
const FAR: NodeId = NodeId(1);

/// What happens.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub near: u64,
    pub capacity: u64,
    pub granted: u64,
    pub extent: u64,
    pub tags: Tags,
    pub splitting: Splitting,
    pub programs: u64,
    pub used_percent: u64,
    pub pinned: u64,
    /// Pinned memory lies in runs of so much.
    pub run: u64,
    /// The last program stops pinning so long after capacity was asked back.
    pub pins_end: Duration,
    /// Bytes that are copied, or zeroed, in a second.
    pub bandwidth: u64,
    pub faults: Vec<Fault>,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub asked: u64,
    /// Every answer of the host, and when, from when it was asked.
    pub answers: Vec<(Duration, Answer)>,
    /// What came back, and when.
    pub returned: Vec<(Duration, u64)>,
    pub moved: u64,
    pub lost: u64,
    /// Extents that the host refused.
    pub refused: u64,
    /// Extents that it accepted again.
    pub again: u64,
    /// What the second host has at the end.
    pub handed_on: u64,
    /// What the first still has.
    pub kept: u64,
}

/// Something that is to happen.
enum Event {
    /// A host is interrupted: its log has something.
    Log(HostId),
    /// The first host finds something in its log that the device knows nothing of.
    Stray(dc::Input),
    Response(HostId, dc::ChainId, Vec<DpaRange>),
    Answered(HostId, dc::ChainId, Outcome),
    Release(HostId, Vec<DpaRange>),
    Overwritten(Vec<DpaRange>),
    Moved(MemberId, MoveId, Vec<(Pageblock, Pageblock)>),
    Zeroed(ImageId, Vec<Extent>),
    Unpin(MemberId),
    End(MemberId),
    AskBack,
    Tick,
}

pub(super) struct World<'a> {
    pub(super) plan: &'a Plan,
    pub(super) random: Random,
    now: Instant,
    events: BTreeMap<(Instant, u64), Event>,
    next_event: u64,
    tick_at: Option<Instant>,
    pub(super) device: Device,
    pub(super) operator: Operator,
    engine: Engine,
    port: Port,
    /// The second host.
    other: Host,
    pub(super) programs: Programs,
    asked_at: Option<Instant>,
    zeroed_until: Instant,
    overwritten_until: Instant,
    seen: Seen,
}

/// Runs a plan to its end.
pub(crate) fn run(plan: &Plan, seed: u64, told: &dyn Fn(u64)) -> Result<Seen, FabricError> {
    let mut world = World::new(plan, seed)?;
    world.hand_out()?;
    world.settle()?;
    world.use_all()?;
    world.settle()?;
    world.misbehave()?;
    world.later(Duration::ZERO, Event::AskBack);
    while let Some(((at, _), event)) = world.events.pop_first() {
        world.now = at;
        world.happen(event)?;
        told(world.permille());
    }
    world.validate();
    world.seen.kept = held_bytes(&world.device, HOSTS[0]);
    world.seen.handed_on = held_bytes(&world.device, HOSTS[1]);
    Ok(world.seen)
}

pub(super) fn pageblocks(bytes: u64) -> u64 {
    bytes / PAGEBLOCK_BYTES
}

fn device_config(plan: &Plan) -> DeviceConfig {
    let align = plan.block();
    let partition = medium::partition(plan.capacity, align);
    DeviceConfig { align, splitting: plan.splitting, ..DeviceConfig::new(vec![partition]) }
}

impl Plan {
    /// What comes and goes at once: an extent, unless parts of it may.
    const fn block(&self) -> u64 {
        match self.splitting {
            Splitting::Group | Splitting::Extent => self.extent,
            Splitting::Block => PAGEBLOCK_BYTES,
        }
    }
}

impl<'a> World<'a> {
    fn new(plan: &'a Plan, seed: u64) -> Result<Self, FabricError> {
        let near =
            NodeConfig::new(NEAR, "near", NodeKind::Near, Pageblock(0), pageblocks(plan.near));
        let first = Pageblock(pageblocks(plan.near));
        let count = pageblocks(plan.capacity);
        let mut far = NodeConfig::new(FAR, "cxl", NodeKind::Far, first, count);
        far.block_pageblocks = pageblocks(plan.block());
        let all = u32::try_from(count).expect("checked with the scenario");
        far.offline = vec![Extent::new(first, all)];
        let mut config = Config::new(vec![near, far]);
        config.placement = vec![FAR, NEAR];
        let mut port = Port::new(Limits::default(), RequestId(1), Duration::from_secs(60));
        port.add_device(MEM, device_config(plan))?;
        let decoder = device_config(plan).partitions[0].range;
        let device = medium::device(plan.capacity, plan.block(), 2, RECORDS_MAX)?;
        let mut other = Host::new(Limits::default());
        other.add_device(MEM, device_config(plan))?;
        let probe = dc::Input::Probe { device: MEM, decoder, accepted: Vec::new() };
        other.handle(Instant::default(), probe)?;
        let window = Window { device: MEM, decoder, node: FAR, first };
        port.probe(Instant::default(), window, Vec::new())?;
        Ok(Self {
            plan,
            random: Random::new(seed),
            now: Instant::default(),
            events: BTreeMap::new(),
            next_event: 0,
            tick_at: None,
            device,
            operator: Operator::new(plan.capacity, plan.extent, plan.tags),
            engine: Engine::new(config)?,
            port,
            other,
            programs: Programs::default(),
            asked_at: None,
            zeroed_until: Instant::default(),
            overwritten_until: Instant::default(),
            seen: Seen::default(),
        })
    }

    /// How much of what was asked for has come back.
    fn permille(&self) -> u64 {
        let back: u64 = self.seen.returned.iter().map(|&(_, bytes)| bytes).sum();
        (back * 1000).checked_div(self.seen.asked).unwrap_or(0)
    }

    fn later(&mut self, after: Duration, event: Event) {
        self.at(self.now.after(after), event);
    }

    fn at(&mut self, at: Instant, event: Event) {
        self.events.insert((at, self.next_event), event);
        self.next_event += 1;
    }

    /// The first host will find something in its log that the device knows nothing of.
    pub(super) fn stray(&mut self, input: dc::Input) {
        self.later(LINK, Event::Stray(input));
    }

    /// What the device has to have done: hosts are interrupted, and what came back is overwritten.
    pub(super) fn look(&mut self) {
        let mut released = Vec::new();
        for effect in self.device.take_effects() {
            match effect {
                DeviceEffect::HostEvent(host) => self.later(LINK, Event::Log(host)),
                DeviceEffect::Sanitize { range } => released.push(range),
                _ => {}
            }
        }
        if !released.is_empty() {
            let bytes: u64 = released.iter().map(|range| range.length).sum();
            let start = self.overwritten_until.max(self.now);
            self.overwritten_until = start.after(self.takes(bytes / PAGEBLOCK_BYTES));
            self.at(self.overwritten_until, Event::Overwritten(released));
        }
    }

    /// Everything that is under way happens.
    pub(super) fn settle(&mut self) -> Result<(), FabricError> {
        while let Some(((at, _), event)) = self.events.pop_first() {
            self.now = at;
            self.happen(event)?;
        }
        self.validate();
        Ok(())
    }

    fn hand_out(&mut self) -> Result<(), FabricError> {
        self.operator.hand_out(&mut self.device, HOSTS[0], self.plan.granted)?;
        self.look();
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Result<(), FabricError> {
        match event {
            Event::Log(host) => {
                for input in medium::read_log(&mut self.device, host)? {
                    self.hear(host, input)?;
                }
            }
            Event::Stray(input) => self.hear(HOSTS[0], input)?,
            Event::Response(host, chain, accepted) => {
                let answer = AddResponse { more: More::Last, accepted };
                let outcome = medium::outcome(&self.device.add_response(host, &answer));
                self.later(LINK, Event::Answered(host, chain, outcome));
            }
            Event::Answered(host, chain, outcome) => {
                self.hear(host, dc::Input::Answered { device: MEM, chain, outcome })?;
            }
            Event::Release(host, released) => {
                let bytes = released.iter().map(|range| range.length).sum();
                self.device.release(host, &Release { more: More::Last, released })?;
                if let Some(asked_at) = self.asked_at {
                    self.seen.returned.push((self.now.0 - asked_at.0, bytes));
                }
            }
            Event::Overwritten(ranges) => {
                for range in ranges {
                    self.device.sanitized(range)?;
                }
                self.hand_on()?;
            }
            Event::Moved(member, id, pairs) => {
                let Some(program) = self.programs.0.get_mut(&member) else { return Ok(()) };
                let outcomes = program.moved(&pairs);
                self.seen.moved += outcomes.len() as u64 * PAGEBLOCK_BYTES;
                self.engine(Input::Moved { member, id, outcomes })?;
            }
            Event::Zeroed(image, extents) => {
                self.engine(Input::Zeroed { image, extents })?;
                self.freed()?;
            }
            Event::Unpin(member) => self.unpin(member)?,
            Event::End(member) => {
                self.programs.0.remove(&member);
                self.engine(Input::Left { member })?;
                self.engine(Input::TokenGone { token: TokenId(member.0) })?;
                self.freed()?;
            }
            Event::AskBack => self.ask_back()?,
            Event::Tick => {
                self.tick_at = None;
                self.hear(HOSTS[0], dc::Input::Tick)?;
                self.engine(Input::Tick)?;
            }
        }
        self.look();
        self.expect_tick();
        Ok(())
    }

    /// The books agree, and with each other: what one end holds, the other gave.
    fn validate(&self) {
        self.device.validate();
        self.port.validate();
        self.other.validate();
        self.engine.validate();
        for (number, host) in HOSTS.into_iter().zip([self.port.host(), &self.other]) {
            let has: u64 = host.groups().iter().map(|group| group.bytes).sum();
            assert_eq!(has, held_bytes(&self.device, number), "{number}");
        }
    }

    /// The next time at which something happens by itself.
    fn expect_tick(&mut self) {
        let next = self.port.next_deadline().into_iter().chain(self.engine.next_deadline()).min();
        if let Some(next) = next.filter(|&next| self.tick_at.is_none_or(|at| next < at)) {
            self.tick_at = Some(next);
            self.at(next.max(self.now), Event::Tick);
        }
    }

    fn ask_back(&mut self) -> Result<(), FabricError> {
        self.asked_at = Some(self.now);
        self.seen.asked = held_bytes(&self.device, HOSTS[0]);
        let held = self.device.held(HOSTS[0]).copied().collect();
        commands::release(&mut self.device, HOSTS[0], Force::Ask, held)?;
        let pinning = self.programs.0.values().filter(|program| !program.pinned.is_empty());
        let pinning: Vec<MemberId> = pinning.map(|program| program.member).collect();
        for (number, &member) in (1..).zip(&pinning) {
            let after = self.plan.pins_end * number / pinning.len() as u32;
            let event = if number % 2 == 0 { Event::End(member) } else { Event::Unpin(member) };
            self.later(after, event);
        }
        Ok(())
    }

    fn unpin(&mut self, member: MemberId) -> Result<(), FabricError> {
        let pinned = std::mem::take(&mut self.programs.get(member).pinned);
        let extents = Extent::from_blocks(pinned);
        if !extents.is_empty() {
            self.engine(Input::Unpin { member, extents, reason: PIN })?;
        }
        self.freed()
    }

    fn freed(&mut self) -> Result<(), FabricError> {
        let actions = self.port.freed(self.now);
        self.act(actions)
    }

    /// What is free goes to the host that waits for it.
    fn hand_on(&mut self) -> Result<(), FabricError> {
        let offered = self.device.offers(HOSTS[1]).flatten().map(|extent| extent.range.length);
        let coming = held_bytes(&self.device, HOSTS[1]) + offered.sum::<u64>();
        let wanted = self.plan.granted.saturating_sub(coming);
        Ok(self.operator.hand_out(&mut self.device, HOSTS[1], wanted)?)
    }

    /// A host hears something of the device.
    fn hear(&mut self, host: HostId, input: dc::Input) -> Result<(), FabricError> {
        if host == HOSTS[0] {
            let actions = self.port.hear(self.now, input)?;
            return self.act(actions);
        }
        for effect in self.other.handle(self.now, input)? {
            self.host_says(host, effect);
        }
        Ok(())
    }
}
