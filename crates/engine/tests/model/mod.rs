//! A world around the engine: processes with pagers, a store, operators.
//!
//! [`World`] runs [`Op`]s, plain data that a property test or a fuzzer makes up. It keeps books
//! of its own, simpler than the engine's: which live process maps which pageblock, and how. After
//! every input it checks what must hold whatever happens:
//!
//! * the engine's own invariants ([`Engine::validate`]) and conservation on every node;
//! * what is granted, or is the destination of a move, is mapped by no live process and does not
//!   lie in a block that is being emptied;
//! * what is zeroed is mapped by no live process;
//! * what is handed out is neither poisoned nor lost, nor on a node that is being evacuated, and
//!   nothing of what was in it before is left;
//! * an input that is refused changed nothing, and what a well-behaved process, store or operator
//!   says is not refused;
//! * every request is answered once, with figures that add up.
//!
//! [`World::finish`] ends everything and checks that all memory came back.

#![allow(dead_code, reason = "not every test uses all of it")]

mod errors;
mod judge;
mod nonsense;
mod processes;
mod tenants;

pub use tenants::Setup;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use memtide_engine::{
    Claims, Config, Effect, Engine, Input, Limits, Lineage, MoveOutcome, NodeConfig, Refusal,
    Report, nodes::NodeClass, onlining::OnlineZone,
};
use memtide_units::{
    ByteSize, Extent, HoldReason, ImageId, Instant, MemberId, MoveId, NodeId, NodeKind,
    PAGEBLOCK_BYTES, Pageblock, RequestId, TokenId,
};

/// One thing to do. Numbers choose among what there is, modulo how many there are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    Join { who: u8 },
    JoinChild { child: u8 },
    Left { process: u8, moves_done: u8 },
    Return { process: u8 },
    Die { process: u8 },
    Commit { process: u8, by: i8 },
    Lease { process: u8, count: u8, after: u8, policy: u8 },
    SetPolicy { process: u8, policy: u8 },
    Release { process: u8, which: u8, count: u8 },
    Pin { process: u8, which: u8, count: u8, reason: u8, unpin: bool },
    Fork { process: u8 },
    Answer { process: u8, count: u8, outcomes: u8 },
    Thaw { process: u8, count: u8 },
    Zero { count: u8 },
    GiveBack { megabytes: u16, from: u8, deadline_ms: u16 },
    Add { megabytes: u16, to: u8, zone: u8 },
    MoveTo { process: u8, to: u8, megabytes: u16, deadline_ms: u16 },
    Pass { ms: u8 },
    Restart,
    Poison { which: u16 },
    Lost { node: u8, block: u8, count: u8 },
    Hear { process: u8 },
    Online { node: u8, block: u8, count: u8 },
    GiveBackExtents { node: u8, block: u8, count: u8, deadline_ms: u16 },
    Evacuate { node: u8, deadline_ms: u16 },
    Driver,
    Accessed { process: u8, which: u8, count: u8 },
    Mbind { process: u8, which: u8, count: u8, to: u8, deadline_ms: u16 },
    Nonsense { kind: u8, a: u8, b: u8, extents: Vec<(u16, u8)> },
}

/// How a process maps a pageblock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mapping {
    Shared,
    Frozen,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Link {
    Unborn,
    Connected(MemberId),
    Disconnected(MemberId),
}

#[derive(Clone, Debug)]
struct Process {
    token: TokenId,
    image: ImageId,
    link: Link,
    mapped: BTreeMap<Pageblock, Mapping>,
    orders: VecDeque<(MoveId, VecDeque<(Pageblock, Pageblock)>)>,
    thaws: VecDeque<Pageblock>,
    children: Vec<TokenId>,
    committed: u64,
    /// What it asked for and was not answered yet, the oldest first.
    asked: VecDeque<tenants::Asked>,
    /// Whether it has had a policy of its own.
    guided: bool,
    /// The engine forgot it: it held nothing when it left.
    forgotten: bool,
    /// It has not returned to the engine that took over.
    awaited: bool,
    /// What it is told that it lost, and has not heard.
    losses: VecDeque<Vec<Pageblock>>,
    /// Destinations of its orders that it has heard are lost.
    bad: BTreeSet<Pageblock>,
}

/// The engine and all around it.
pub struct World {
    pub engine: Engine,
    now: Instant,
    processes: Vec<Process>,
    zeroing: VecDeque<(ImageId, Pageblock)>,
    images: BTreeSet<ImageId>,
    open: BTreeSet<RequestId>,
    /// The answers so far.
    pub reports: Vec<Report>,
    /// What happened how often.
    pub marks: BTreeMap<String, u64>,
    poisoned: BTreeSet<Pageblock>,
    /// Blocks that are being lost at this moment, or are offline.
    away: BTreeSet<Pageblock>,
    /// What may still have content, and of whom.
    dirty: BTreeMap<Pageblock, ImageId>,
    evacuating: BTreeSet<NodeId>,
    /// What the driver of the device is asked and has not answered.
    asked: Option<Effect>,
    next: u64,
    traced: bool,
    setup: Setup,
    /// When the last recovery was over.
    recovered: Instant,
    /// Whether nothing but leases, releases and deaths has changed what is free.
    intact: bool,
}

pub const NEAR: NodeId = NodeId(0);
pub const FAR: NodeId = NodeId(1);
pub const SPARE: NodeId = NodeId(7);
pub const DEVICE: NodeId = NodeId(3);

/// How long whoever asks waits for what is on its way back.
const PATIENCE: Duration = Duration::from_millis(20);

/// Two nodes that touch, a third, out of the way, that nothing is placed on unless a policy names
/// it, and a device's.
pub fn config(setup: Setup) -> Config {
    let node = |node, kind, first, pageblocks, block_pageblocks, zone| NodeConfig {
        node,
        name: format!("{node}"),
        kind,
        class: Default::default(),
        performance: Default::default(),
        first: Pageblock(first),
        pageblocks,
        block_pageblocks,
        offline: Vec::new(),
        zone,
        zones: Vec::new(),
    };
    let [kernel, movable, prefer_movable, exmem] = OnlineZone::ALL;
    let mut config = Config::new(vec![
        node(FAR, NodeKind::Far, 32, 64, 8, prefer_movable),
        node(NEAR, NodeKind::Near, 0, 32, 4, kernel),
        node(SPARE, NodeKind::Far, 1000, 16, 4, movable),
        NodeConfig {
            class: NodeClass::Special,
            ..node(DEVICE, NodeKind::Device, 200, 16, 4, exmem)
        },
    ]);
    // Zones of their own at the start, as after a restart.
    config.nodes[0].zones = vec![(Extent::new(Pageblock(48), 24), movable)];
    config.nodes[1].zones = vec![
        (Extent::new(Pageblock(8), 8), movable),
        (Extent::new(Pageblock(24), 4), prefer_movable),
    ];
    config.placement = vec![NEAR, FAR];
    config.tenants = tenants::tenants(setup);
    config.limits = Limits {
        pairs_per_order_max: 3,
        pairs_in_flight_max: 7,
        stall_after: Duration::from_millis(300),
        requests_max: 4,
        leases_queued_max: 5,
        patience: PATIENCE,
        idle_after: Duration::from_millis(150),
        settle_for: Duration::from_millis(200),
    };
    config
}

const NODES: [NodeId; 4] = [NEAR, FAR, SPARE, DEVICE];
/// Most processes at once, so that a long run does not become a slow one.
const PROCESSES_MAX: usize = 12;
const PINS: [HoldReason; 5] = [
    HoldReason::MemoryLock,
    HoldReason::IoUring,
    HoldReason::Rdma,
    HoldReason::NoMigration,
    HoldReason::LongTermPin,
];

fn is_asked_for(reason: HoldReason) -> bool {
    matches!(reason, HoldReason::NoMigration | HoldReason::LongTermPin)
}

fn choose<T: Copy>(all: &[T], n: u8) -> Option<T> {
    (!all.is_empty()).then(|| all[usize::from(n) % all.len()])
}

impl World {
    pub fn new(setup: Setup) -> Self {
        Self {
            engine: Engine::new(config(setup)).unwrap(),
            now: Instant::default(),
            processes: Vec::new(),
            zeroing: VecDeque::new(),
            images: BTreeSet::new(),
            open: BTreeSet::new(),
            reports: Vec::new(),
            marks: BTreeMap::new(),
            poisoned: BTreeSet::new(),
            away: BTreeSet::new(),
            dirty: BTreeMap::new(),
            evacuating: BTreeSet::new(),
            asked: None,
            next: 1,
            traced: std::env::var_os("MEMTIDE_TRACE").is_some(),
            setup,
            recovered: Instant::default(),
            intact: true,
        }
    }

    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn pick(&self, n: u8, of: impl Fn(&Process) -> bool) -> Option<usize> {
        let all: Vec<_> = (0..self.processes.len()).filter(|&p| of(&self.processes[p])).collect();
        choose(&all, n)
    }

    fn connected(&self, n: u8) -> Option<(usize, MemberId)> {
        let p = self.pick(n, |process| matches!(process.link, Link::Connected(_)))?;
        let Link::Connected(member) = self.processes[p].link else { unreachable!() };
        Some((p, member))
    }

    /// Does one thing, if it can be done.
    pub fn run(&mut self, op: &Op) {
        self.try_run(op);
    }

    fn try_run(&mut self, op: &Op) -> Option<()> {
        match *op {
            Op::Join { who } => self.join(who),
            Op::JoinChild { child } => self.join_child(child)?,
            Op::Left { process, moves_done } => self.left(process, moves_done)?,
            Op::Return { process } => self.come_back(process)?,
            Op::Die { process } => self.die(self.pick(process, |_| true)?),
            Op::Commit { process, by } => self.commit(process, by)?,
            Op::Lease { process, count, after, policy } => {
                let (p, member) = self.connected(process)?;
                let mapped: Vec<_> = self.processes[p].mapped.keys().copied().collect();
                let after = choose(&mapped, after).filter(|_| after % 4 != 0);
                let count = u32::from(count % 24) + 1;
                let policy = Self::policy(policy);
                let asked = memtide_engine::Asked::Lease(count.into());
                self.ask(member, asked, Input::Lease { member, count, after, policy });
            }
            Op::SetPolicy { process, policy } => {
                let (_, member) = self.connected(process)?;
                let policy = Self::policy(policy);
                self.by_member(member).guided = true;
                match self.say(Input::SetPolicy { member, policy }) {
                    Ok(()) | Err(Refusal::Policy(_)) => {}
                    Err(refusal) => panic!("{refusal}"),
                }
            }
            Op::Release { process, which, count } => self.release(process, which, count)?,
            Op::Pin { process, which, count, reason, unpin } => {
                let (p, member) = self.connected(process)?;
                let mapped = &self.processes[p].mapped;
                let first = usize::from(which) % mapped.len().max(1);
                let all = mapped.keys().copied().skip(first).take(usize::from(count % 4));
                let (extents, reason) = (Extent::from_blocks(all), choose(&PINS, reason)?);
                let said = self.say(if unpin {
                    Input::Unpin { member, extents, reason }
                } else {
                    Input::Pin { member, extents, reason }
                });
                match said {
                    Ok(()) => {}
                    Err(Refusal::PinLimit { pinned, max: 0, .. }) if pinned > 0 => {
                        assert!(!unpin && is_asked_for(reason));
                        self.mark("pin-limit");
                    }
                    Err(Refusal::PinInZone { pageblock, zone, .. }) => {
                        assert!(!unpin && is_asked_for(reason));
                        assert!(zone.is_movable_only(), "{pageblock} may stay in {zone}");
                        self.mark("pin-in-zone");
                    }
                    Err(refusal) => panic!("{refusal}"),
                }
            }
            Op::Fork { process } => self.fork(process)?,
            Op::Answer { process, count, outcomes } => self.answer(process, count, outcomes)?,
            Op::Thaw { process, count } => self.thaw(process, count)?,
            Op::Zero { count } => {
                for _ in 0..=count % 16 {
                    let (image, pageblock) = self.zeroing.pop_front()?;
                    let extents = vec![Extent::new(pageblock, 1)];
                    self.dirty.remove(&pageblock);
                    self.must(Input::Zeroed { image, extents });
                }
            }
            Op::GiveBack { megabytes, from, deadline_ms } => {
                let request = RequestId(self.fresh());
                let bytes = ByteSize((u64::from(megabytes % 300) + 1) << 20);
                self.intact = false;
                let from = choose(&[None, Some(NEAR), Some(FAR), Some(SPARE), Some(DEVICE)], from)?;
                let deadline = Duration::from_millis(deadline_ms.into());
                self.request(request, Input::GiveBack { request, bytes, from, deadline });
            }
            Op::Add { megabytes, to, zone } => {
                let bytes = ByteSize((u64::from(megabytes % 100) + 1) << 20);
                let to = choose(&NODES, to)?;
                let zone = OnlineZone::ALL.get(usize::from(zone % 6)).copied();
                match self.say(Input::Add { bytes, to, zone }) {
                    Ok(()) | Err(Refusal::NotOffline { .. }) => {}
                    Err(Refusal::ZoneOfNode { .. }) => {
                        assert!((zone == Some(OnlineZone::Exmem)) != (to == DEVICE));
                    }
                    Err(Refusal::NotLetGo { pageblock }) => self.check_spoken_of(pageblock),
                    Err(refusal) => panic!("{refusal}"),
                }
            }
            Op::MoveTo { process, to, megabytes, deadline_ms } => {
                let p = self.pick(process, |p| p.link != Link::Unborn)?;
                let (Link::Connected(member) | Link::Disconnected(member)) = self.processes[p].link
                else {
                    unreachable!()
                };
                self.engine.image_of(member)?;
                self.intact = false;
                let request = RequestId(self.fresh());
                let bytes = ByteSize(u64::from(megabytes % 100) << 20);
                let bytes = (bytes.0 > 0).then_some(bytes);
                let deadline = Duration::from_millis(deadline_ms.into());
                let to = choose(&NODES, to)?;
                self.request(request, Input::MoveTo { request, member, to, bytes, deadline });
            }
            Op::Pass { ms } => {
                self.now = self.now.after(Duration::from_millis(ms.into()));
                self.must(Input::Tick);
            }
            Op::Restart => self.restart(),
            Op::Poison { which } => self.poison(which),
            Op::Lost { node, block, count } => self.lose(node, block, count)?,
            Op::Hear { process } => self.hear(process)?,
            Op::Online { node, block, count } => self.online(node, block, count)?,
            Op::GiveBackExtents { node, block, count, deadline_ms } => {
                self.give_back_extents(node, block, count, deadline_ms)?
            }
            Op::Evacuate { node, deadline_ms } => self.evacuate(node, deadline_ms)?,
            Op::Driver => self.driver()?,
            Op::Accessed { process, which, count } => self.access(process, which, count)?,
            Op::Mbind { process, which, count, to, deadline_ms } => {
                self.mbind(process, which, count, to, deadline_ms)?
            }
            Op::Nonsense { kind, a, b, ref extents } => self.nonsense(kind, a, b, extents),
        }
        Some(())
    }
}
