//! An engine over two nodes and the shortest way to say something to it.
//!
//! Near: pageblocks 0 to 15, far: 16 to 47; both in blocks of 4.

use std::time::Duration;

use memtide_engine::{
    Config, Effect, Engine, Input, Lineage, MoveOutcome, NodeConfig, Refusal, Report,
};
use memtide_units::{
    ByteSize, Extent, HoldReason, Instant, MemberId, MoveId, NodeId, NodeKind, PAGEBLOCK_BYTES,
    Pageblock, RequestId, TokenId,
};

pub const NEAR: NodeId = NodeId(0);
pub const FAR: NodeId = NodeId(1);
pub const REQUEST: RequestId = RequestId(9);

/// Who is ordered to move what.
pub type Order = (MemberId, MoveId, Vec<(Pageblock, Pageblock)>);

pub struct Bench {
    pub engine: Engine,
    pub now: Instant,
    next: u64,
    /// What the store has yet to zero.
    pub zero: Vec<Input>,
    /// What is ordered to move and not answered.
    pub orders: Vec<Order>,
    /// What is to be thawed.
    pub thaw: Vec<Input>,
}

pub fn config() -> Config {
    let node = |node, kind, first, pageblocks| NodeConfig {
        node,
        name: format!("{kind}"),
        kind,
        class: Default::default(),
        performance: Default::default(),
        first: Pageblock(first),
        pageblocks,
        block_pageblocks: 4,
        offline: Vec::new(),
        zone: Default::default(),
        zones: Vec::new(),
    };
    Config::new(vec![node(NEAR, NodeKind::Near, 0, 16), node(FAR, NodeKind::Far, 16, 32)])
}

pub fn run(start: u64, count: u32) -> Vec<Extent> {
    vec![Extent::new(Pageblock(start), count)]
}

pub fn size(pageblocks: u64) -> ByteSize {
    ByteSize(pageblocks * PAGEBLOCK_BYTES)
}

/// A process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Program {
    pub member: MemberId,
    pub token: TokenId,
}

impl Bench {
    pub fn new() -> Self {
        Self::with(config())
    }

    pub fn with(config: Config) -> Self {
        Self {
            engine: Engine::new(config).unwrap(),
            now: Instant::default(),
            next: 100,
            zero: Vec::new(),
            orders: Vec::new(),
            thaw: Vec::new(),
        }
    }

    pub fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub fn say(&mut self, input: Input) -> Vec<Effect> {
        let text = format!("{input:?}");
        let effects = self.engine.handle(self.now, input);
        let effects = effects.unwrap_or_else(|refusal| panic!("{text}: {refusal}"));
        self.engine.validate();
        for effect in effects.clone() {
            match effect {
                Effect::Zero { image, extents } => {
                    self.zero.push(Input::Zeroed { image, extents });
                }
                Effect::Move { member, id, pairs } => self.orders.push((member, id, pairs)),
                Effect::Thaw { member, extents } => {
                    self.thaw.push(Input::Thawed { member, extents });
                }
                _ => {}
            }
        }
        effects
    }

    pub fn refused(&mut self, input: Input) -> Refusal {
        let before = self.engine.clone();
        let refusal = self.engine.handle(self.now, input).unwrap_err();
        assert!(self.engine == before, "refused and changed something");
        refusal
    }

    pub fn join(&mut self) -> Program {
        let program = Program { member: MemberId(self.fresh()), token: TokenId(self.fresh()) };
        self.say(self.joining(program, Lineage::Fresh));
        program
    }

    pub fn joining(&self, program: Program, lineage: Lineage) -> Input {
        let Program { member, token } = program;
        let pid = u32::try_from(member.0).unwrap();
        Input::Join {
            member,
            pid,
            name: format!("p{pid}"),
            token,
            lineage,
            who: Default::default(),
        }
    }

    pub fn lease(&mut self, program: Program, count: u32) -> Vec<Extent> {
        let effects =
            self.say(Input::Lease { member: program.member, count, after: None, policy: None });
        match effects.into_iter().next() {
            Some(Effect::Grant { extents, .. }) => extents,
            other => panic!("no grant but {other:?}"),
        }
    }

    /// Asks for a promise; says whether it is given at once.
    pub fn commit(&mut self, program: Program, by: i64) -> bool {
        let member = program.member;
        match self.say(Input::Commit { member, by })[..] {
            [Effect::Promise { member: to, granted }] if to == member => granted,
            ref other => panic!("no answer but {other:?}"),
        }
    }

    pub fn release(&mut self, program: Program, extents: Vec<Extent>) -> Vec<Effect> {
        self.say(Input::Release { member: program.member, extents })
    }

    pub fn pin(&mut self, program: Program, extents: Vec<Extent>) {
        let reason = HoldReason::MemoryLock;
        self.say(Input::Pin { member: program.member, extents, reason });
    }

    pub fn fork(&mut self, program: Program) -> Program {
        let child = Program { member: MemberId(self.fresh()), token: TokenId(self.fresh()) };
        self.say(Input::ForkBegin { member: program.member, token: child.token });
        child
    }

    /// A give-back of so many pageblocks, with a minute's time.
    pub fn give_back(&mut self, pageblocks: u64, from: NodeId) -> Vec<Effect> {
        self.say(Input::GiveBack {
            request: REQUEST,
            bytes: size(pageblocks),
            from: Some(from),
            deadline: Duration::from_secs(60),
        })
    }

    pub fn pass(&mut self, seconds: u64) -> Vec<Effect> {
        self.now = self.now.after(Duration::from_secs(seconds));
        self.say(Input::Tick)
    }

    /// Answers the first open order.
    pub fn answer(&mut self, outcome: MoveOutcome) -> Vec<Effect> {
        let (member, id, pairs) = self.orders.remove(0);
        self.say(Input::Moved { member, id, outcomes: vec![outcome; pairs.len()] })
    }

    /// Everybody does as told until nothing is left to do; all effects of that.
    pub fn quiet(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        loop {
            if !self.orders.is_empty() {
                effects.extend(self.answer(MoveOutcome::Moved));
            } else if let Some(input) = self.zero.pop().or_else(|| self.thaw.pop()) {
                effects.extend(self.say(input));
            } else {
                return effects;
            }
        }
    }

    /// Free, leased, isolated and offline pageblocks of a node.
    pub fn counts(&self, node: NodeId) -> (u64, u64, u64, u64) {
        let status = self.engine.node_status();
        let status = status.iter().find(|status| status.node == node).unwrap();
        let count = |size: ByteSize| size.0 / PAGEBLOCK_BYTES;
        (count(status.free), count(status.leased), count(status.isolated), count(status.offline))
    }
}

/// The one answer among effects.
pub fn report(effects: &[Effect]) -> Report {
    let mut answers = effects.iter().filter_map(|effect| match effect {
        Effect::Answer { request: REQUEST, report } => Some(report.clone()),
        _ => None,
    });
    let report = answers.next().expect("an answer");
    assert!(answers.next().is_none());
    report
}

pub fn unanswered(effects: &[Effect]) -> bool {
    !effects.iter().any(|effect| matches!(effect, Effect::Answer { .. }))
}

/// Who holds how many pageblocks and why.
pub fn holders(report: &Report) -> Vec<(u32, u64, HoldReason)> {
    let holder = |h: &memtide_engine::Holder| (h.pid, h.bytes.0 / PAGEBLOCK_BYTES, h.reason);
    report.holders.iter().map(holder).collect()
}
