//! Dynamic capacity on a real engine: a device's extents are blocks of a node, two programs use
//! them, and whatever happens, nothing is online that the device has not given.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use memtide_engine::{
    Config, Effect, Engine, Input, Lineage, MoveOutcome, NodeConfig, Refusal,
    dynamic_capacity::{
        Action, Answer, DcExtent, DeviceConfig, DeviceId, DpaRange, Effect as Said, Input as Heard,
        Limits, More, Outcome, Partition, Port, PortError, Splitting, Tag, Window,
    },
    tenant::Credentials,
};
use memtide_units::{
    ByteSize, Extent, HoldReason, Instant, MemberId, MoveId, NodeId, NodeKind, Pageblock, Random,
    RequestId, TokenId,
};

const PAGE: u64 = 2 << 20;
const MEM: DeviceId = DeviceId(0);
const NEAR: NodeId = NodeId(0);
const FAR: NodeId = NodeId(1);
/// Pageblocks: near ones from 0, then those of the device, in blocks of one.
const NEAR_PAGES: u64 = 64;
const FAR_PAGES: u64 = 128;
const PIN: HoldReason = HoldReason::Rdma;

type Order = (MemberId, MoveId, Vec<(Pageblock, Pageblock)>);

struct World {
    engine: Engine,
    port: Port,
    now: Instant,
    /// What each of two programs has.
    held: [BTreeSet<Pageblock>; 2],
    pinned: [BTreeSet<Pageblock>; 2],
    /// What it lost and has not let go of.
    lost: [BTreeSet<Pageblock>; 2],
    lets_go: bool,
    /// Orders that are not answered yet; absent: they are answered at once.
    orders: Option<Vec<Order>>,
    released: BTreeSet<u64>,
    said: Vec<Said>,
    answers: Vec<Answer>,
    refusals: Vec<Refusal>,
    /// Requests that went to the engine.
    requests: u64,
    next_tag: u8,
}

fn range(start: u64, pages: u64) -> DpaRange {
    DpaRange::new(start * PAGE, pages * PAGE)
}

fn extent(start: u64, pages: u64, tag: Tag) -> DcExtent {
    DcExtent { range: range(start, pages), tag, sequence: 0 }
}

/// The pageblocks behind pages of the device.
fn behind(start: u64, pages: u32) -> Extent {
    Extent::new(Pageblock(NEAR_PAGES + start), pages)
}

impl World {
    fn new(splitting: Splitting) -> Self {
        let near = NodeConfig::new(NEAR, "near", NodeKind::Near, Pageblock(0), NEAR_PAGES);
        let first = Pageblock(NEAR_PAGES);
        let mut far = NodeConfig::new(FAR, "far", NodeKind::Far, first, FAR_PAGES);
        far.offline = vec![behind(0, 128)];
        let mut config = Config::new(vec![near, far]);
        config.placement = vec![FAR, NEAR];
        let engine = Engine::new(config).unwrap();
        let mut port = Port::new(Limits::default(), RequestId(1000), Duration::from_secs(9));
        let range = range(0, FAR_PAGES);
        let partition = Partition { range, length: range.length, block_bytes: PAGE };
        let config = DeviceConfig { splitting, ..DeviceConfig::new(vec![partition]) };
        port.add_device(MEM, config).unwrap();
        let window = Window { device: MEM, decoder: range, node: FAR, first };
        assert_eq!(port.probe(Instant::default(), window, vec![]), Ok(vec![]));
        let mut world = Self {
            engine,
            port,
            now: Instant::default(),
            held: Default::default(),
            pinned: Default::default(),
            lost: Default::default(),
            lets_go: true,
            orders: None,
            released: BTreeSet::new(),
            said: Vec::new(),
            answers: Vec::new(),
            refusals: Vec::new(),
            requests: 0,
            next_tag: 1,
        };
        for number in 0..2 {
            world.engine(Input::Join {
                member: MemberId(number),
                pid: number as u32,
                name: format!("program-{number}"),
                token: TokenId(number),
                lineage: Lineage::Fresh,
                who: Credentials::default(),
            });
        }
        world
    }

    fn tag(&mut self) -> Tag {
        self.next_tag = self.next_tag.checked_add(1).expect("few tags");
        Tag([self.next_tag; 16])
    }

    fn engine(&mut self, input: Input) {
        self.act(vec![Action::Engine(input)]);
    }

    fn hear(&mut self, input: Heard) {
        let actions = self.port.hear(self.now, input).unwrap();
        self.act(actions);
    }

    fn freed(&mut self) {
        let actions = self.port.freed(self.now);
        self.act(actions);
    }

    fn pass(&mut self, seconds: u64) {
        self.now = self.now.after(Duration::from_secs(seconds));
        self.engine(Input::Tick);
        self.hear(Heard::Tick);
    }

    fn add(&mut self, extents: &[DcExtent]) {
        for (at, &extent) in extents.iter().enumerate() {
            let more = if at + 1 == extents.len() { More::Last } else { More::Follows };
            self.hear(Heard::Add { device: MEM, extent, more });
        }
    }

    fn ask_back(&mut self, range: DpaRange, tag: Tag) {
        self.hear(Heard::Release { device: MEM, range, tag, more: More::Last });
    }

    fn lease(&mut self, program: u64, count: u32) {
        let (member, after, policy) = (MemberId(program), None, None);
        self.engine(Input::Lease { member, count, after, policy });
    }

    fn pin(&mut self, program: usize, extents: &[Extent]) {
        let pages = extents.iter().flat_map(|extent| extent.iter());
        self.pinned[program].extend(pages);
        let (member, extents) = (MemberId(program as u64), extents.to_vec());
        self.engine(Input::Pin { member, extents, reason: PIN });
    }

    fn unpin(&mut self, program: usize) {
        let extents = Extent::from_blocks(std::mem::take(&mut self.pinned[program]));
        if !extents.is_empty() {
            self.engine(Input::Unpin { member: MemberId(program as u64), extents, reason: PIN });
            self.freed();
        }
    }

    fn let_go(&mut self, program: usize) {
        let extents = Extent::from_blocks(std::mem::take(&mut self.lost[program]));
        if !extents.is_empty() {
            self.engine(Input::LetGo { member: MemberId(program as u64), extents });
            self.freed();
        }
    }

    fn act(&mut self, actions: Vec<Action>) {
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            let follows = match action {
                Action::Engine(input) => {
                    self.requests += u64::from(matches!(input, Input::GiveBackExtents { .. }));
                    match self.engine.handle(self.now, input.clone()) {
                        Ok(effects) => effects.into_iter().flat_map(|e| self.did(&e)).collect(),
                        Err(refusal) => {
                            self.refusals.push(refusal);
                            self.port.engine_refused(self.now, &input)
                        }
                    }
                }
                Action::Host(said) => {
                    self.said.push(said.clone());
                    match said {
                        Said::AddResponse { device, chain, .. } => {
                            let outcome = Outcome::Taken;
                            let taken = Heard::Answered { device, chain, outcome };
                            self.port.hear(self.now, taken).unwrap()
                        }
                        Said::ReleaseDc { released, .. } => {
                            let pages = released.iter().flat_map(|range| {
                                range.start / PAGE..(range.start + range.length) / PAGE
                            });
                            self.released.extend(pages);
                            vec![]
                        }
                        _ => vec![],
                    }
                }
                Action::Answer(answer) => {
                    assert_eq!(answer.asked.0, answer.released.0 + answer.remaining.0);
                    self.answers.push(answer);
                    vec![]
                }
            };
            follows.into_iter().rev().for_each(|action| actions.push_front(action));
        }
        self.engine.validate();
        self.port.validate();
        self.compare();
    }

    /// A program has done what it was ordered to, as far as it still had it.
    fn moved(&mut self, (member, id, pairs): Order) -> Action {
        let held = &mut self.held[member.0 as usize];
        let mut outcomes = Vec::new();
        for (from, to) in pairs {
            outcomes.push(if held.remove(&from) {
                held.insert(to);
                MoveOutcome::Moved
            } else {
                MoveOutcome::Gone
            });
        }
        Action::Engine(Input::Moved { member, id, outcomes })
    }

    fn did(&mut self, effect: &Effect) -> Vec<Action> {
        let mut actions = self.port.engine_did(self.now, effect);
        let pages = |extents: &[Extent]| -> Vec<Pageblock> {
            extents.iter().flat_map(|extent| extent.iter()).collect()
        };
        match effect {
            Effect::Grant { member, extents } => {
                self.held[member.0 as usize].extend(pages(extents));
            }
            Effect::Move { member, id, pairs } => {
                let order = (*member, *id, pairs.clone());
                match &mut self.orders {
                    Some(orders) => orders.push(order),
                    None => actions.push(self.moved(order)),
                }
            }
            Effect::Zero { image, extents } => {
                let (image, extents) = (*image, extents.clone());
                actions.push(Action::Engine(Input::Zeroed { image, extents }));
            }
            Effect::Lost { member, extents } => {
                let program = member.0 as usize;
                for page in pages(extents) {
                    assert!(self.held[program].remove(&page));
                    self.pinned[program].remove(&page);
                    self.lost[program].insert(page);
                }
                if self.lets_go {
                    let extents = Extent::from_blocks(std::mem::take(&mut self.lost[program]));
                    actions.push(Action::Engine(Input::LetGo { member: *member, extents }));
                }
            }
            _ => {}
        }
        actions
    }

    /// Pages of the device that are in the engine's pool.
    fn online_pages(&self) -> BTreeSet<u64> {
        let offline = self.engine.offline(FAR);
        let offline: BTreeSet<u64> = offline
            .iter()
            .flat_map(|extent| extent.iter())
            .map(|page| page.0 - NEAR_PAGES)
            .collect();
        (0..FAR_PAGES).filter(|page| !offline.contains(page)).collect()
    }

    fn online(&self) -> u64 {
        self.online_pages().len() as u64
    }

    fn given(&self) -> u64 {
        self.port.host().groups().iter().map(|group| group.bytes / PAGE).sum()
    }

    /// Nobody has, and nobody can get, what the device has not given.
    fn compare(&self) {
        let given: BTreeSet<u64> = self
            .port
            .host()
            .groups()
            .iter()
            .flat_map(|group| group.extents.clone())
            .flat_map(|range| range.start / PAGE..(range.start + range.length) / PAGE)
            .collect();
        assert!(self.online_pages().is_subset(&given), "only what is given is online");
        for page in self.held.iter().flatten().filter(|page| page.0 >= NEAR_PAGES) {
            assert!(given.contains(&(page.0 - NEAR_PAGES)), "{page} is not given");
        }
    }
}

#[test]
fn what_surfaces_comes_online_and_what_is_released_has_left() {
    let mut world = World::new(Splitting::Group);
    let tag = world.tag();
    world.add(&[extent(32, 8, tag), extent(0, 8, tag)]);
    assert_eq!((world.online(), world.given()), (16, 16));
    world.lease(0, 12);
    assert!(world.held[0].iter().all(|page| page.0 >= NEAR_PAGES));
    world.ask_back(range(0, 8), tag);
    assert_eq!((world.online(), world.given(), world.released.len()), (0, 0, 16));
    assert!(world.held[0].len() == 12 && world.held[0].iter().all(|page| page.0 < NEAR_PAGES));
    let [answer] = &world.answers[..] else { panic!("{:?}", world.answers) };
    assert_eq!((answer.released, answer.ask_again), (ByteSize(16 * PAGE), false));
}

#[test]
fn some_now_and_the_rest_when_its_holder_lets_go() {
    let mut world = World::new(Splitting::Extent);
    let tag = world.tag();
    world.add(&[extent(0, 8, tag), extent(8, 8, tag), extent(16, 8, tag)]);
    world.lease(0, 24);
    world.pin(0, &[behind(10, 1)]);
    for n in 0..3 {
        world.ask_back(range(n * 8, 8), tag);
    }
    let sums = |world: &World| -> Vec<(u64, u64)> {
        let sizes = world.answers.iter().map(|a| (a.released.0 / PAGE, a.remaining.0 / PAGE));
        sizes.collect()
    };
    assert_eq!(sums(&world), [(8, 0), (0, 8), (8, 8)]);
    let holder = &world.answers[1].holders[0];
    assert_eq!((holder.name.as_str(), holder.pid, holder.reason), ("program-0", 0, PIN));
    assert!(world.answers[2].ask_again);
    // What could have gone of the extent that stays is in use again.
    assert_eq!((world.online(), world.given()), (8, 8));
    world.unpin(0);
    assert_eq!(sums(&world).last(), Some(&(8, 0)));
    assert_eq!((world.online(), world.given(), world.released.len()), (0, 0, 24));
}

#[test]
fn what_stays_is_asked_for_again_even_if_nobody_says_that_it_is_free() {
    let mut world = World::new(Splitting::Group);
    let tag = world.tag();
    world.add(&[extent(0, 4, tag)]);
    world.lease(0, 4);
    world.pin(0, &[behind(0, 1)]);
    world.ask_back(range(0, 4), tag);
    assert_eq!((world.released.len(), world.online()), (0, 4));
    let (member, reason) = (MemberId(0), PIN);
    world.pinned[0].clear();
    world.engine(Input::Unpin { member, extents: vec![behind(0, 1)], reason });
    assert_eq!(world.released.len(), 0);
    let due = world.port.next_deadline().unwrap();
    world.pass(1);
    assert!(due <= world.now);
    assert_eq!((world.released.len(), world.online()), (4, 0));
}

#[test]
fn what_is_taken_by_force_ends_leases_and_may_come_back_once_let_go() {
    let mut world = World::new(Splitting::Group);
    world.lets_go = false;
    let tag = world.tag();
    world.add(&[extent(0, 4, tag), extent(8, 4, tag)]);
    world.lease(0, 8);
    world.pin(0, &[behind(8, 2)]);
    world.hear(Heard::ForcedRelease { device: MEM, range: range(8, 4), tag });
    assert_eq!(world.lost[0].len(), 4);
    assert_eq!((world.online(), world.given(), world.held[0].len()), (4, 4, 4));
    // It is given again before the program has let go of what was there.
    let again = world.tag();
    world.add(&[extent(8, 4, again)]);
    assert_eq!((world.online(), world.given()), (4, 8));
    assert!(matches!(world.refusals[..], [Refusal::NotLetGo { .. }]), "{:?}", world.refusals);
    world.pass(1);
    assert_eq!(world.online(), 4);
    world.let_go(0);
    assert_eq!(world.online(), 8);
    // Given, refused, and asked back: it is not online, so it can go at once.
    world.hear(Heard::ForcedRelease { device: MEM, range: range(0, 4), tag });
    let third = world.tag();
    world.add(&[extent(0, 4, third)]);
    world.ask_back(range(0, 4), third);
    assert_eq!((world.given(), world.released.len()), (4, 4));
    world.let_go(0);
    assert_eq!(world.online(), 4, "what was released does not come online");
}

#[test]
fn what_is_taken_by_force_meanwhile_is_not_in_the_answer() {
    let mut world = World::new(Splitting::Extent);
    let tag = world.tag();
    world.add(&[extent(0, 4, tag), extent(8, 4, tag)]);
    world.lease(0, 8);
    world.orders = Some(vec![]);
    for (start, more) in [(0, More::Follows), (8, More::Last)] {
        world.hear(Heard::Release { device: MEM, range: range(start, 4), tag, more });
    }
    assert_eq!(world.answers, []);
    world.hear(Heard::ForcedRelease { device: MEM, range: range(8, 4), tag });
    for order in world.orders.take().unwrap() {
        let moved = world.moved(order);
        world.act(vec![moved]);
    }
    let [answer] = &world.answers[..] else { panic!("{:?}", world.answers) };
    assert_eq!((answer.asked, answer.released), (ByteSize(4 * PAGE), ByteSize(4 * PAGE)));
    assert_eq!((world.online(), world.given()), (0, 0));
}

#[test]
fn what_is_taken_by_force_again_and_again_is_missing_from_the_answer_once() {
    let mut world = World::new(Splitting::Extent);
    let tag = world.tag();
    world.add(&[extent(0, 8, tag), extent(8, 2, tag)]);
    world.lease(0, 10);
    world.orders = Some(vec![]);
    for (start, pages, more) in [(0, 8, More::Follows), (8, 2, More::Last)] {
        world.hear(Heard::Release { device: MEM, range: range(start, pages), tag, more });
    }
    let mut of = tag;
    // Each time it is given and taken whole and in other pieces.
    for again in [vec![(0, 8)], vec![(0, 3), (3, 5)], vec![(4, 4)]] {
        world.hear(Heard::ForcedRelease { device: MEM, range: range(0, 8), tag: of });
        for &(start, pages) in &again {
            let next = world.tag();
            world.add(&[extent(start, pages, next)]);
            let taken = range(start, pages);
            world.hear(Heard::ForcedRelease { device: MEM, range: taken, tag: next });
        }
        of = world.tag();
        world.add(&[extent(0, 8, of)]);
    }
    assert_eq!((world.answers.len(), world.given()), (0, 10));
    for order in world.orders.take().unwrap() {
        let moved = world.moved(order);
        world.act(vec![moved]);
    }
    let [answer] = &world.answers[..] else { panic!("{:?}", world.answers) };
    assert_eq!((answer.asked, answer.released), (ByteSize(2 * PAGE), ByteSize(2 * PAGE)));
    // What was given last is used once nothing of what was there before is.
    world.pass(1);
    assert_eq!((world.online(), world.given(), world.released.len()), (8, 8, 2));
}

#[test]
fn what_no_device_has_given_does_not_stay_online() {
    let mut world = World::new(Splitting::Group);
    let tag = world.tag();
    world.add(&[extent(4, 4, tag)]);
    world.engine(Input::Add { bytes: ByteSize(8 * PAGE), to: FAR, zone: None });
    assert_eq!((world.online(), world.given()), (4, 4));
    world.lease(0, 60);
    assert!(world.held[0].len() == 60);
    let far = world.held[0].iter().filter(|page| page.0 >= NEAR_PAGES).count();
    assert_eq!(far, 4);
}

#[test]
fn what_an_operator_has_emptied_goes_without_a_question() {
    let mut world = World::new(Splitting::Group);
    let tag = world.tag();
    world.add(&[extent(0, 4, tag)]);
    let (request, deadline) = (RequestId(1), Duration::ZERO);
    let bytes = ByteSize(4 * PAGE);
    world.engine(Input::GiveBack { request, bytes, from: Some(FAR), deadline });
    assert_eq!((world.online(), world.given()), (0, 4));
    world.ask_back(range(0, 4), tag);
    assert_eq!((world.requests, world.released.len()), (0, 4));
}

#[test]
fn what_is_asked_back_before_it_surfaces_goes_as_soon_as_it_has() {
    let mut world = World::new(Splitting::Group);
    let tag = world.tag();
    let device = MEM;
    let add = Heard::Add { device, extent: extent(0, 4, tag), more: More::Last };
    let actions = world.port.hear(world.now, add).unwrap();
    world.ask_back(range(0, 4), tag);
    assert_eq!(world.released.len(), 0);
    world.act(actions);
    assert_eq!((world.online(), world.given(), world.released.len()), (0, 0, 4));
}

#[test]
fn a_request_that_the_engine_refuses_is_made_again() {
    let mut world = World::new(Splitting::Group);
    let (tag, other) = (world.tag(), world.tag());
    world.add(&[extent(0, 4, tag), extent(4, 4, other)]);
    // Somebody else uses the name of the port's first request.
    world.lease(0, 8);
    world.lease(1, 64);
    let request = RequestId(1000);
    let (bytes, deadline) = (ByteSize(64 * PAGE), Duration::from_secs(1));
    world.engine(Input::GiveBack { request, bytes, from: Some(NEAR), deadline });
    world.ask_back(range(0, 4), tag);
    let first = &world.answers[0];
    assert!(first.ask_again && first.released.0 == 0, "{first:?}");
    world.held[1].clear();
    world.engine(Input::Left { member: MemberId(1) });
    world.engine(Input::TokenGone { token: TokenId(1) });
    world.pass(2);
    assert_eq!(world.released, (0..4).collect());
}

#[test]
fn a_port_refuses_what_makes_no_sense() {
    let mut world = World::new(Splitting::Group);
    let before = world.port.clone();
    let window = |start, first| Window {
        device: MEM,
        decoder: range(start, 8),
        node: FAR,
        first: Pageblock(first),
    };
    for (start, first) in [(200, NEAR_PAGES + 127), (200, NEAR_PAGES - 7), (200, u64::MAX - 3)] {
        let refused = world.port.probe(world.now, window(start, first), vec![]);
        assert!(matches!(refused, Err(PortError::Window { .. })), "{refused:?}");
    }
    let refused = world.port.probe(world.now, window(120, 500), vec![]);
    assert!(matches!(refused, Err(PortError::Host(_))), "{refused:?}");
    for input in [Heard::Freed { device: MEM }, Heard::Reclaimed { device: MEM, free: vec![] }] {
        let refused = world.port.hear(world.now, input);
        assert!(matches!(refused, Err(PortError::NotFromOutside { .. })), "{refused:?}");
    }
    assert_eq!(world.port, before);
}

/// One random day: whatever happens, the books agree, and in the end everything has gone back.
fn random_day(seed: u64, splitting: Splitting) {
    let mut random = Random::new(seed);
    let mut world = World::new(splitting);
    for _ in 0..150 {
        let program = random.below(2) as usize;
        match random.below(14) {
            0..4 => {
                let tag = if random.below(3) == 0 { Tag::NULL } else { world.tag() };
                let count = 1 + random.below(3);
                let extents: Vec<DcExtent> = (0..count)
                    .map(|_| extent(random.below(120), 1 + random.below(8), tag))
                    .collect();
                world.add(&extents);
            }
            4..6 => world.lease(program as u64, 1 + random.below(12) as u32),
            6 => {
                let held = &world.held[program];
                let some = held.iter().filter(|_| random.below(4) == 0).copied();
                let extents = Extent::from_blocks(some.collect::<Vec<_>>());
                if !extents.is_empty() {
                    world.pin(program, &extents);
                }
            }
            7 => world.unpin(program),
            8 => {
                let held = std::mem::take(&mut world.held[program]);
                let (gone, kept) = held.into_iter().partition(|_| random.below(2) == 0);
                world.held[program] = kept;
                let gone: BTreeSet<Pageblock> = gone;
                world.pinned[program].retain(|page| !gone.contains(page));
                let extents = Extent::from_blocks(gone);
                if !extents.is_empty() {
                    world.engine(Input::Release { member: MemberId(program as u64), extents });
                    world.freed();
                }
            }
            9..11 => {
                let groups = world.port.host().groups();
                if !groups.is_empty() {
                    let group = &groups[random.below(groups.len() as u64) as usize];
                    let at = random.below(group.extents.len() as u64) as usize;
                    world.ask_back(group.extents[at], group.tag);
                }
            }
            11 => {
                let groups = world.port.host().groups();
                if !groups.is_empty() && random.below(2) == 0 {
                    let group = &groups[random.below(groups.len() as u64) as usize];
                    let (range, tag) = (group.extents[0], group.tag);
                    world.hear(Heard::ForcedRelease { device: MEM, range, tag });
                }
            }
            12 => {
                world.lets_go = random.below(2) == 0;
                (0..2).for_each(|program| world.let_go(program));
                if random.below(2) == 0 {
                    let bytes = ByteSize(PAGE * (1 + random.below(16)));
                    world.engine(Input::Add { bytes, to: FAR, zone: None });
                }
            }
            _ => world.pass(random.below(4)),
        }
    }
    world.lets_go = true;
    for program in 0..2 {
        world.let_go(program);
        world.unpin(program);
        let extents = Extent::from_blocks(std::mem::take(&mut world.held[program]));
        if !extents.is_empty() {
            world.engine(Input::Release { member: MemberId(program as u64), extents });
        }
    }
    for group in world.port.host().groups() {
        for range in group.extents {
            world.ask_back(range, group.tag);
        }
    }
    (0..4).for_each(|_| world.pass(60));
    assert_eq!((world.given(), world.online()), (0, 0), "seed {seed}");
}

#[test]
fn a_random_day_ends_with_everything_given_back() {
    for splitting in [Splitting::Group, Splitting::Extent, Splitting::Block] {
        for seed in 0..60 {
            println!("seed {seed}, {splitting:?}");
            random_day(seed, splitting);
        }
    }
}
