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
//! * an input that is refused changed nothing, and what a well-behaved process, store or operator
//!   says is not refused;
//! * every request is answered once, with figures that add up.
//!
//! [`World::finish`] ends everything and checks that all memory came back.

#![allow(dead_code, reason = "not every test uses all of it")]

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use memtide_engine::{
    Claims, Config, Effect, Engine, Input, Limits, Lineage, MoveOutcome, NodeConfig, OnFull,
    Refusal, Report,
};
use memtide_units::{
    ByteSize, Extent, HoldReason, Instant, MemberId, MoveId, NodeId, NodeKind, PAGEBLOCK_BYTES,
    Pageblock, RequestId, TenantId, TokenId,
};

/// One thing to do. Numbers choose among what there is, modulo how many there are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    Join,
    JoinChild { child: u8 },
    Left { process: u8, moves_done: u8 },
    Return { process: u8 },
    Die { process: u8 },
    Commit { process: u8, by: i8 },
    Lease { process: u8, count: u8, after: u8 },
    Release { process: u8, which: u8, count: u8 },
    Pin { process: u8, which: u8, count: u8, reason: u8, unpin: bool },
    Fork { process: u8 },
    Answer { process: u8, count: u8, outcomes: u8 },
    Thaw { process: u8, count: u8 },
    Zero { count: u8 },
    GiveBack { megabytes: u16, from: u8, deadline_ms: u16 },
    Add { megabytes: u16, to: u8 },
    MoveTo { process: u8, to: u8, megabytes: u16, deadline_ms: u16 },
    Pass { ms: u8 },
    Restart,
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
    tenant: TenantId,
    link: Link,
    mapped: BTreeMap<Pageblock, Mapping>,
    orders: VecDeque<(MoveId, VecDeque<(Pageblock, Pageblock)>)>,
    thaws: VecDeque<Pageblock>,
    children: Vec<TokenId>,
    committed: u64,
    /// The engine forgot it: it held nothing when it left.
    forgotten: bool,
    /// It has not returned to the engine that took over.
    awaited: bool,
}

/// The engine and all around it.
pub struct World {
    pub engine: Engine,
    now: Instant,
    processes: Vec<Process>,
    zeroing: VecDeque<(TenantId, Pageblock)>,
    tenants: BTreeSet<TenantId>,
    open: BTreeSet<RequestId>,
    /// The answers so far.
    pub reports: Vec<Report>,
    /// What happened how often.
    pub marks: BTreeMap<String, u64>,
    next: u64,
    traced: bool,
    on_full: OnFull,
}

pub const NEAR: NodeId = NodeId(0);
pub const FAR: NodeId = NodeId(1);
pub const SPARE: NodeId = NodeId(7);

/// Two nodes that touch, and a third, out of the way, that nothing is placed on.
pub fn config(on_full: OnFull) -> Config {
    let node = |node, kind, first, pageblocks, block_pageblocks| NodeConfig {
        node,
        name: format!("{node}"),
        kind,
        first: Pageblock(first),
        pageblocks,
        block_pageblocks,
        offline: Vec::new(),
    };
    let mut config = Config::new(vec![
        node(FAR, NodeKind::Far, 32, 64, 8),
        node(NEAR, NodeKind::Near, 0, 32, 4),
        node(SPARE, NodeKind::Far, 1000, 16, 4),
    ]);
    config.placement = vec![NEAR, FAR];
    config.on_full = on_full;
    config.limits = Limits {
        pairs_per_order_max: 3,
        pairs_in_flight_max: 7,
        stall_after: Duration::from_millis(300),
        requests_max: 4,
        leases_queued_max: 5,
    };
    config
}

const NODES: [NodeId; 3] = [NEAR, FAR, SPARE];
/// Most processes at once, so that a long run does not become a slow one.
const PROCESSES_MAX: usize = 12;
const PINS: [HoldReason; 3] = [HoldReason::MemoryLock, HoldReason::IoUring, HoldReason::Rdma];

fn choose<T: Copy>(all: &[T], n: u8) -> Option<T> {
    (!all.is_empty()).then(|| all[usize::from(n) % all.len()])
}

impl World {
    pub fn new(on_full: OnFull) -> Self {
        Self {
            engine: Engine::new(config(on_full)).unwrap(),
            now: Instant::default(),
            processes: Vec::new(),
            zeroing: VecDeque::new(),
            tenants: BTreeSet::new(),
            open: BTreeSet::new(),
            reports: Vec::new(),
            marks: BTreeMap::new(),
            next: 1,
            traced: std::env::var_os("MEMTIDE_TRACE").is_some(),
            on_full,
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
            Op::Join => self.join(),
            Op::JoinChild { child } => self.join_child(child)?,
            Op::Left { process, moves_done } => self.left(process, moves_done)?,
            Op::Return { process } => self.come_back(process)?,
            Op::Die { process } => self.die(self.pick(process, |_| true)?),
            Op::Commit { process, by } => self.commit(process, by)?,
            Op::Lease { process, count, after } => {
                let (p, member) = self.connected(process)?;
                let mapped: Vec<_> = self.processes[p].mapped.keys().copied().collect();
                let after = choose(&mapped, after).filter(|_| after % 4 != 0);
                let count = u32::from(count % 24) + 1;
                match self.say(Input::Lease { member, count, after }) {
                    Ok(()) | Err(Refusal::TooManyLeases { leases: 5 }) => {}
                    Err(refusal) => panic!("{refusal}"),
                }
            }
            Op::Release { process, which, count } => self.release(process, which, count)?,
            Op::Pin { process, which, count, reason, unpin } => {
                let (p, member) = self.connected(process)?;
                let mapped = self.processes[p].mapped.keys().copied();
                let all = mapped.skip(usize::from(which % 32)).take(usize::from(count % 4));
                let (extents, reason) = (Extent::from_blocks(all), choose(&PINS, reason)?);
                self.must(if unpin {
                    Input::Unpin { member, extents, reason }
                } else {
                    Input::Pin { member, extents, reason }
                });
            }
            Op::Fork { process } => self.fork(process)?,
            Op::Answer { process, count, outcomes } => self.answer(process, count, outcomes)?,
            Op::Thaw { process, count } => self.thaw(process, count)?,
            Op::Zero { count } => {
                for _ in 0..=count % 16 {
                    let (tenant, pageblock) = self.zeroing.pop_front()?;
                    let extents = vec![Extent::new(pageblock, 1)];
                    self.must(Input::Zeroed { tenant, extents });
                }
            }
            Op::GiveBack { megabytes, from, deadline_ms } => {
                let request = RequestId(self.fresh());
                let bytes = ByteSize((u64::from(megabytes % 300) + 1) << 20);
                let from = choose(&[None, Some(NEAR), Some(FAR), Some(SPARE)], from)?;
                let deadline = Duration::from_millis(deadline_ms.into());
                self.request(request, Input::GiveBack { request, bytes, from, deadline });
            }
            Op::Add { megabytes, to } => {
                let bytes = ByteSize((u64::from(megabytes % 100) + 1) << 20);
                match self.say(Input::Add { bytes, to: choose(&NODES, to)? }) {
                    Ok(()) | Err(Refusal::NotOffline { .. }) => {}
                    Err(refusal) => panic!("{refusal}"),
                }
            }
            Op::MoveTo { process, to, megabytes, deadline_ms } => {
                let p = self.pick(process, |p| p.link != Link::Unborn)?;
                let (Link::Connected(member) | Link::Disconnected(member)) = self.processes[p].link
                else {
                    unreachable!()
                };
                self.engine.tenant_of(member)?;
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
            Op::Nonsense { kind, a, b, ref extents } => self.nonsense(kind, a, b, extents),
        }
        Some(())
    }

    fn join(&mut self) {
        if self.processes.len() >= PROCESSES_MAX {
            return;
        }
        let (member, token) = (MemberId(self.fresh()), TokenId(self.fresh()));
        let name = format!("p{}", member.0);
        self.must(Input::Join { member, pid: 7, name, token, lineage: Lineage::Fresh });
        let tenant = self.engine.tenant_of(member).unwrap();
        assert!(self.tenants.insert(tenant), "{tenant} is given out twice");
        self.push(token, tenant, Link::Connected(member), BTreeMap::new());
    }

    fn push(
        &mut self,
        token: TokenId,
        tenant: TenantId,
        link: Link,
        mapped: BTreeMap<Pageblock, Mapping>,
    ) {
        self.processes.push(Process {
            token,
            tenant,
            link,
            mapped,
            orders: VecDeque::new(),
            thaws: VecDeque::new(),
            children: Vec::new(),
            committed: 0,
            forgotten: false,
            awaited: false,
        });
    }

    fn join_child(&mut self, child: u8) -> Option<()> {
        let p = self.pick(child, |process| process.link == Link::Unborn)?;
        let (member, token) = (MemberId(self.fresh()), self.processes[p].token);
        // After a restart the engine learns of it when its parent returns.
        self.engine.knows(token).then_some(())?;
        self.processes[p].link = Link::Connected(member);
        let (name, lineage) = (format!("c{}", member.0), Lineage::Child(token));
        self.must(Input::Join { member, pid: 8, name, token, lineage });
        Some(())
    }

    fn left(&mut self, process: u8, moves_done: u8) -> Option<()> {
        let (p, member) = self.connected(process)?;
        let process = &mut self.processes[p];
        process.link = Link::Disconnected(member);
        // It may have moved some already, and not have said so.
        let orders = std::mem::take(&mut process.orders);
        let pairs = orders.iter().flat_map(|(_, pairs)| pairs);
        for &(from, to) in pairs.take(usize::from(moves_done % 4)) {
            if process.mapped.get(&from) == Some(&Mapping::Shared) {
                process.mapped.remove(&from);
                process.mapped.insert(to, Mapping::Shared);
            }
        }
        process.thaws.clear();
        self.must(Input::Left { member });
        Some(())
    }

    fn come_back(&mut self, process: u8) -> Option<()> {
        let p = self.pick(process, |process| matches!(process.link, Link::Disconnected(_)))?;
        let process = &mut self.processes[p];
        let Link::Disconnected(member) = process.link else { unreachable!() };
        process.link = Link::Connected(member);
        process.forgotten = false;
        process.awaited = false;
        let of = |how: Mapping| {
            let mapped = process.mapped.iter().filter(move |&(_, mapping)| *mapping == how);
            Extent::from_blocks(mapped.map(|(&pageblock, _)| pageblock))
        };
        let claims = Claims {
            member,
            tenant: process.tenant,
            leased: of(Mapping::Shared),
            shared: of(Mapping::Frozen),
            children: process.children.clone(),
            committed: process.committed,
        };
        let (token, tenant) = (process.token, process.tenant);
        self.tenants.insert(tenant);
        let lineage = Lineage::Returning(claims);
        self.must(Input::Join { member, pid: 7, name: String::from("back"), token, lineage });
        Some(())
    }

    fn die(&mut self, p: usize) {
        let process = self.processes.remove(p);
        for other in &mut self.processes {
            other.children.retain(|&child| child != process.token);
        }
        if let Link::Disconnected(member) = process.link
            && process.awaited
        {
            // Children of its that have not joined are known to it alone; see `restart`.
            self.processes.retain(|other| {
                other.link != Link::Unborn
                    || !process.children.contains(&other.token)
                    || self.engine.knows(other.token)
            });
            self.must(Input::AwaitedGone { member });
        }
        // After a restart the engine knows of nobody before somebody says so.
        if self.engine.knows(process.token) {
            self.must(Input::TokenGone { token: process.token });
        } else {
            assert!(process.awaited || process.forgotten || process.link == Link::Unborn);
        }
    }

    fn commit(&mut self, process: u8, by: i8) -> Option<()> {
        let (p, member) = self.connected(process)?;
        match self.say(Input::Commit { member, by: by.into() }) {
            Ok(()) => {
                let committed = &mut self.processes[p].committed;
                *committed = committed.checked_add_signed(by.into()).unwrap();
            }
            Err(Refusal::NoCapacity { by: 1.., promised, online }) => {
                assert!(promised > online && self.on_full == OnFull::Fail);
            }
            Err(Refusal::CommitUnderflow { by: less, committed, .. }) => assert!(less > committed),
            Err(refusal) => panic!("{refusal}"),
        }
        Some(())
    }

    fn release(&mut self, process: u8, which: u8, count: u8) -> Option<()> {
        let (p, member) = self.connected(process)?;
        let process = &mut self.processes[p];
        let mapped = process.mapped.keys().copied();
        let all: Vec<_> =
            mapped.skip(usize::from(which % 32)).take(usize::from(count % 12)).collect();
        for pageblock in &all {
            process.mapped.remove(pageblock);
        }
        process.thaws.retain(|pageblock| !all.contains(pageblock));
        self.must(Input::Release { member, extents: Extent::from_blocks(all) });
        Some(())
    }

    fn fork(&mut self, process: u8) -> Option<()> {
        let (p, member) = self.connected(process)?;
        (self.processes.len() < PROCESSES_MAX).then_some(())?;
        let token = TokenId(self.fresh());
        let parent = &mut self.processes[p];
        for mapping in parent.mapped.values_mut() {
            *mapping = Mapping::Frozen;
        }
        parent.thaws.clear();
        parent.children.push(token);
        let (tenant, mapped) = (parent.tenant, parent.mapped.clone());
        self.push(token, tenant, Link::Unborn, mapped);
        self.must(Input::ForkBegin { member, token });
        Some(())
    }

    fn answer(&mut self, process: u8, count: u8, outcomes: u8) -> Option<()> {
        let (p, member) = self.connected(process)?;
        let process = &mut self.processes[p];
        let (id, pairs) = process.orders.front_mut()?;
        let id = *id;
        let mut said = Vec::new();
        for n in 0..=count % 4 {
            let Some((from, to)) = pairs.pop_front() else { break };
            let outcome = match process.mapped.get(&from) {
                None => MoveOutcome::Gone,
                Some(Mapping::Frozen) => MoveOutcome::Held(HoldReason::SharedWithChild),
                Some(Mapping::Shared) => match (outcomes >> (2 * n)) % 4 {
                    0 if outcomes % 16 == 0 => MoveOutcome::Held(HoldReason::DirectRead),
                    1 if outcomes % 16 == 5 => MoveOutcome::Held(HoldReason::MapCount),
                    _ => MoveOutcome::Moved,
                },
            };
            if outcome == MoveOutcome::Moved {
                process.mapped.remove(&from);
                process.mapped.insert(to, Mapping::Shared);
            }
            said.push(outcome);
        }
        if pairs.is_empty() {
            process.orders.pop_front();
        }
        for outcome in &said {
            self.mark(format!("{outcome:?}"));
        }
        self.must(Input::Moved { member, id, outcomes: said });
        Some(())
    }

    fn thaw(&mut self, process: u8, count: u8) -> Option<()> {
        let (p, member) = self.connected(process)?;
        let process = &mut self.processes[p];
        let count = process.thaws.len().min(usize::from(count % 8) + 1);
        let (mut thawed, mut unknown) = (Vec::new(), Vec::new());
        for pageblock in process.thaws.drain(..count) {
            match process.mapped.get_mut(&pageblock) {
                Some(mapping) => {
                    *mapping = Mapping::Shared;
                    thawed.push(pageblock);
                }
                None => unknown.push(pageblock),
            }
        }
        self.must(Input::Release { member, extents: Extent::from_blocks(unknown) });
        self.must(Input::Thawed { member, extents: Extent::from_blocks(thawed) });
        Some(())
    }

    fn request(&mut self, request: RequestId, input: Input) {
        self.open.insert(request);
        match self.say(input) {
            Ok(()) => {}
            Err(Refusal::TooManyRequests { .. }) => assert!(self.open.remove(&request)),
            Err(refusal) => panic!("{refusal}"),
        }
    }

    /// The daemon is killed and another takes over. Zeroing starts over before it serves; what a
    /// child that has not joined holds is known to its parent only.
    fn restart(&mut self) {
        let mut config = config(self.on_full);
        for node in &mut config.nodes {
            node.offline = self.engine.offline(node.node);
        }
        config.next_tenant = self.engine.next_tenant();
        self.zeroing.clear();
        self.open.clear();
        let parents = self.processes.clone();
        let parent =
            |token: TokenId| parents.iter().find(|parent| parent.children.contains(&token));
        self.processes.retain_mut(|process| match process.link {
            Link::Unborn => parent(process.token).is_some_and(|parent| {
                process.mapped.retain(|pageblock, _| parent.mapped.contains_key(pageblock));
                !parent.forgotten && parent.link != Link::Unborn
            }),
            Link::Connected(member) | Link::Disconnected(member) => {
                process.link = Link::Disconnected(member);
                process.orders.clear();
                process.thaws.clear();
                true
            }
        });
        for process in &mut self.processes {
            let Link::Disconnected(member) = process.link else { continue };
            process.awaited = !process.forgotten;
            if process.awaited {
                config.awaited.members.push(member);
            }
        }
        let alive: BTreeSet<_> = self.processes.iter().map(|process| process.token).collect();
        for process in &mut self.processes {
            process.children.retain(|child| alive.contains(child));
        }
        config.awaited.until = self.now.after(Duration::from_secs(3600));
        self.tenants.clear();
        self.engine = Engine::new(config).unwrap();
        self.engine.validate();
    }

    /// An input that nobody well-behaved would send, to a copy: it is refused and changes
    /// nothing, or it is by chance a good one and breaks nothing.
    fn nonsense(&mut self, kind: u8, a: u8, b: u8, extents: &[(u16, u8)]) {
        let mut copy = self.engine.clone();
        let input = nonsense(kind, a, b, extents);
        match copy.handle(self.now.after(Duration::from_millis(b.into())), input.clone()) {
            Ok(_) => copy.validate(),
            Err(_) => assert!(copy == self.engine, "{input:?} was refused and changed something"),
        }
    }

    fn must(&mut self, input: Input) {
        let text = format!("{input:?}");
        if let Err(refusal) = self.say(input) {
            panic!("{text} is refused: {refusal}");
        }
    }

    fn say(&mut self, input: Input) -> Result<(), Refusal> {
        let before = self.engine.clone();
        self.trace(format_args!("{input:?}"));
        let effects = match self.engine.handle(self.now, input) {
            Ok(effects) => effects,
            Err(refusal) => {
                assert!(self.engine == before, "refused and changed something: {refusal}");
                return Err(refusal);
            }
        };
        self.engine.validate();
        for node in self.engine.node_status() {
            let sum = node.free.0 + node.leased.0 + node.isolated.0 + node.offline.0;
            assert_eq!(sum, node.present.0, "{}", node.name);
        }
        for effect in effects {
            self.trace(format_args!("    -> {effect:?}"));
            self.feel(effect, &before);
        }
        let overdue = self.engine.next_deadline().is_some_and(|at| at <= self.now);
        assert!(!overdue, "a deadline has passed and nothing came of it");
        Ok(())
    }

    fn trace(&self, text: std::fmt::Arguments) {
        if self.traced {
            println!("{text}");
        }
    }

    fn mark(&mut self, what: impl Into<String>) {
        *self.marks.entry(what.into()).or_default() += 1;
    }

    fn feel(&mut self, effect: Effect, before: &Engine) {
        let text = format!("{effect:?}");
        self.mark(text.split(' ').next().unwrap());
        match effect {
            Effect::Grant { member, extents } => {
                let all: Vec<_> = extents.iter().flat_map(|extent| extent.iter()).collect();
                // Granted before anything else came of this input.
                self.check_new(&all, before);
                let process = self.by_member(member);
                process.mapped.extend(all.into_iter().map(|p| (p, Mapping::Shared)));
            }
            Effect::Move { member, id, pairs } => {
                assert!(!pairs.is_empty() && pairs.len() <= 3);
                // Ordered after everything else that came of this input.
                let destinations: Vec<_> = pairs.iter().map(|&(_, to)| to).collect();
                self.check_new(&destinations, &self.engine);
                let process = self.by_member(member);
                for (from, _) in &pairs {
                    assert_eq!(process.mapped.get(from), Some(&Mapping::Shared));
                }
                process.orders.push_back((id, pairs.into()));
                let in_flight: usize = process.orders.iter().map(|(_, pairs)| pairs.len()).sum();
                assert!(in_flight <= 7);
            }
            Effect::Thaw { member, extents } => {
                let process = self.by_member(member);
                let all = extents.iter().flat_map(|extent| extent.iter());
                process.thaws.extend(all);
                let mine = self.by_member(member).clone();
                for pageblock in mine.thaws {
                    let alone = |other: &&Process| {
                        other.token != mine.token && other.mapped.contains_key(&pageblock)
                    };
                    assert!(!self.processes.iter().any(|p| alone(&p)), "{pageblock} is not alone");
                }
            }
            Effect::Zero { tenant, extents } => {
                for pageblock in extents.iter().flat_map(|extent| extent.iter()) {
                    self.check_unmapped(pageblock);
                    self.zeroing.push_back((tenant, pageblock));
                }
            }
            Effect::TenantGone { tenant } => {
                assert!(self.tenants.remove(&tenant), "{tenant} goes twice");
                let of_it = |process: &Process| {
                    process.tenant == tenant && self.engine.knows(process.token)
                };
                assert!(!self.processes.iter().any(of_it), "{tenant} has processes");
            }
            Effect::ForgetToken { token } => {
                let process = self.processes.iter_mut().find(|p| p.token == token).unwrap();
                assert!(process.mapped.is_empty());
                process.forgotten = true;
            }
            Effect::Offlined { extents, .. } => {
                for pageblock in extents.iter().flat_map(|extent| extent.iter()) {
                    self.check_unmapped(pageblock);
                }
            }
            Effect::Onlined { .. } => {}
            Effect::Progress { request, done, of } => {
                assert!(self.open.contains(&request) && done < of);
            }
            Effect::Answer { request, report } => {
                assert!(self.open.remove(&request), "{request} is answered twice");
                assert_eq!(report.returned.0 + report.remaining.0, report.requested.0);
                assert!(report.holders.is_sorted_by(|a, b| a.bytes >= b.bytes));
                assert!(report.holders.iter().all(|h| h.bytes.0 >= PAGEBLOCK_BYTES));
                assert!(report.remaining.0 > 0 || report.holders.is_empty() && !report.ask_again);
                let end = match (report.remaining.0, report.returned.0) {
                    (0, _) => "whole",
                    (_, 0) => "nothing",
                    _ => "part",
                };
                self.mark(end);
                for holder in &report.holders {
                    self.mark(holder.reason.code());
                }
                self.reports.push(report);
            }
        }
    }

    /// Pageblocks that somebody gets: nobody has them, and nobody empties their block.
    fn check_new(&self, pageblocks: &[Pageblock], at: &Engine) {
        for &pageblock in pageblocks {
            self.check_unmapped(pageblock);
            let zeroing = self.zeroing.iter().any(|&(_, other)| other == pageblock);
            assert!(!zeroing, "{pageblock} is handed out but not zeroed");
            for node in NODES {
                let isolated = at.isolated(node);
                let inside = isolated.iter().any(|extent| extent.iter().any(|p| p == pageblock));
                assert!(!inside, "{pageblock} is handed out of an isolated block");
            }
        }
    }

    fn check_unmapped(&self, pageblock: Pageblock) {
        let holder = self.processes.iter().find(|p| p.mapped.contains_key(&pageblock));
        assert!(holder.is_none(), "{pageblock} is still mapped by {holder:?}");
    }

    fn by_member(&mut self, member: MemberId) -> &mut Process {
        let link = Link::Connected(member);
        self.processes.iter_mut().find(|p| p.link == link).expect("told to who is connected")
    }

    /// Lets everything come to an end: time passes, everybody dies, the store zeroes.
    pub fn finish(&mut self) {
        self.now = self.now.after(Duration::from_secs(70));
        self.must(Input::Tick);
        assert!(self.open.is_empty(), "not answered: {:?}", self.open);
        while !self.processes.is_empty() {
            self.die(self.processes.len() - 1);
        }
        while !self.zeroing.is_empty() {
            self.run(&Op::Zero { count: 15 });
        }
        assert_eq!(self.engine.awaiting(), 0);
        assert!(self.engine.member_status().is_empty());
        assert!(self.tenants.is_empty(), "{:?} are left", self.tenants);
        for node in self.engine.node_status() {
            assert_eq!((node.leased, node.isolated), (ByteSize(0), ByteSize(0)));
        }
        assert_eq!(self.engine.next_deadline(), None);
    }
}

/// An input made of anything.
fn nonsense(kind: u8, a: u8, b: u8, extents: &[(u16, u8)]) -> Input {
    let member = MemberId(u64::from(a % 24));
    let token = TokenId(u64::from(b % 24));
    let tenant = TenantId(u64::from(b % 6));
    let extent = |&(start, count): &(u16, u8)| {
        let start = if start > 1100 { u64::MAX - u64::from(start) } else { u64::from(start) };
        Extent::new(Pageblock(start), u32::from(count) * if count > 200 { 1 << 24 } else { 1 })
    };
    let extents: Vec<_> = extents.iter().map(extent).collect();
    let reason = HoldReason::ALL[usize::from(b) % HoldReason::ALL.len()];
    let request = RequestId(u64::from(b));
    let deadline = Duration::MAX;
    let bytes = ByteSize([0, 1, u64::MAX, 64 << 20][usize::from(b % 4)]);
    match kind % 18 {
        0 => Input::Left { member },
        1 => Input::TokenGone { token },
        2 => Input::Commit { member, by: [i64::MAX, i64::MIN, 1 << 40, 3][usize::from(b % 4)] },
        3 => Input::Lease { member, count: if b < 8 { 0 } else { u32::MAX }, after: None },
        4 => Input::Lease { member, count: 1, after: extents.first().map(|extent| extent.start) },
        5 => Input::Release { member, extents },
        6 => Input::Pin { member, extents, reason },
        7 => Input::Unpin { member, extents, reason },
        8 => Input::ForkBegin { member, token },
        9 => {
            let outcomes = vec![MoveOutcome::Moved; extents.len() * 3];
            Input::Moved { member, id: MoveId(b.into()), outcomes }
        }
        10 => Input::Thawed { member, extents },
        11 => Input::Zeroed { tenant, extents },
        12 => Input::GiveBack { request, bytes, from: Some(NodeId(u16::from(a % 9))), deadline },
        13 => Input::GiveBack { request, bytes, from: None, deadline },
        14 => Input::Add { bytes, to: NodeId(u16::from(a % 9)) },
        15 => Input::MoveTo { request, member, to: NodeId(1), bytes: Some(bytes), deadline },
        16 => Input::AwaitedGone { member },
        _ => {
            let half = extents.len() / 2;
            let claims = Claims {
                member,
                tenant,
                leased: extents[..half].to_vec(),
                shared: extents[half..].to_vec(),
                children: vec![TokenId(u64::from(a)), TokenId(u64::from(b))],
                committed: u64::MAX,
            };
            let lineage = match a % 3 {
                0 => Lineage::Fresh,
                1 => Lineage::Child(TokenId(u64::from(a % 24))),
                _ => Lineage::Returning(claims),
            };
            Input::Join { member, pid: 1, name: String::new(), token, lineage }
        }
    }
}
