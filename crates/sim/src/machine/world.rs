//! The world around the engine: a queue of what is to happen, and the way effects take.
//!
//! A world does one step after the other in the order of their time. A step says something to the
//! engine ([`World::say`]); its effects change what processes have, or become steps of their own:
//! copying and zeroing take as long as bandwidths make them take. After every input the oracle is
//! asked whether all still holds.

use std::collections::VecDeque;

use memtide_engine::{Effect, Engine, Input, Refusal, onlining::OnlineZone};
use memtide_units::{Extent, ImageId, Instant, PAGEBLOCK_BYTES, Pageblock};

use super::{
    measure::{MachineRow, Measure},
    operator::Open,
    oracle::{Checked, Oracle, Violation},
    plan::{MS, Nanos, Plan, SECOND},
    process::{Asked, Process},
    queue::Queue,
    topology::Topology,
    trace::{Tracing, caught, note, variant},
};
use memtide_units::Random;

/// Pageblocks up to which everything is checked after every input.
const SMALL: u64 = 4096;
/// How many samples of a larger one are taken until everything is.
const SAMPLES_UNCHECKED: u64 = 16;
/// What an answer may be late by: it comes with the tick after its deadline.
pub(super) const SLACK: Nanos = MS;

/// Something that is to happen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// A program starts, as an index.
    Start(usize),
    /// A process goes on to this phase, counted over all repeats.
    Phase(usize, u32),
    /// A process asks for what it lacks.
    Grow(usize),
    /// A process gives back what is too much.
    Shrink(usize),
    /// A process makes these unmovable.
    Pin(usize, Vec<Pageblock>),
    /// A process has let go of what it lost, as it was told on its connection of this number.
    LetGo(usize, u32, Vec<Extent>),
    /// A process is connected again.
    Return(usize),
    /// A process has copied what it is to move.
    Copied(usize),
    /// A process has mapped shared again what it is to thaw.
    Thawed(usize),
    /// A process forks.
    Fork(usize),
    /// A forked child says that it is there.
    Born(usize),
    /// A process ends.
    Die(usize),
    /// The store has zeroed.
    Zeroed(ImageId, Vec<Extent>),
    /// A driver has saved its device's state.
    Saved(usize),
    /// A driver has restored it.
    Restored(usize),
    /// Something happens from outside.
    Event(usize),
    /// A deadline of the engine passes.
    Tick,
    /// What is, is measured.
    Sample,
    /// Accesses are told.
    Heat,
}

/// The world.
pub(super) struct World<'p> {
    pub plan: &'p Plan,
    pub engine: Engine,
    pub now: Nanos,
    pub queue: Queue<Step>,
    pub random: Random,
    /// The links as they are now.
    pub topology: Topology,
    /// Nodes that are gone.
    pub removed: Vec<bool>,
    /// The zone into which an operator adds memory just now, if that is not the node's.
    pub adds_into: Option<OnlineZone>,
    /// Nodes where nothing is sure: evacuated, or with a driver at work.
    pub closed: Vec<bool>,
    pub processes: Vec<Process>,
    /// Who was answered by this input with less than was asked for.
    pub short: Vec<(usize, Asked)>,
    pub oracle: Oracle,
    pub measure: Measure,
    /// Operators' requests that are not answered.
    pub open: Vec<Open>,
    /// When an operator's request was last open or a lease waited: what moves then is no balance.
    pub asked_until: Nanos,
    ticks_at: Nanos,
    steps: u64,
    samples: u64,
    trace: Option<VecDeque<String>>,
}

impl<'p> World<'p> {
    /// A world in which nothing has happened.
    pub fn new(plan: &'p Plan, seed: u64, tracing: Tracing) -> Result<Self, Violation> {
        let made = caught(|| {
            let engine = Engine::new(plan.config());
            engine.map_err(|error| format!("the engine refuses its configuration: {error}"))
        });
        let engine = made.map_err(|what| Violation { at: 0, what, trace: Vec::new() })?;
        let mut queue = Queue::default();
        for (number, program) in plan.programs.iter().enumerate() {
            for copy in 0..u64::from(program.count) {
                queue.push(program.start + copy * program.every, Step::Start(number));
            }
        }
        for (number, event) in plan.events.iter().enumerate() {
            queue.push(event.at, Step::Event(number));
        }
        queue.push(plan.sample_every, Step::Sample);
        if let Some(every) = plan.heat_every {
            queue.push(every, Step::Heat);
        }
        Ok(Self {
            plan,
            engine,
            now: 0,
            queue,
            random: Random::new(seed),
            topology: plan.topology.clone(),
            removed: vec![false; plan.nodes.len()],
            adds_into: None,
            closed: vec![false; plan.nodes.len()],
            processes: Vec::new(),
            short: Vec::new(),
            oracle: Oracle::new(plan),
            measure: Measure::new(plan),
            open: Vec::new(),
            asked_until: 0,
            ticks_at: Nanos::MAX,
            steps: 0,
            samples: 0,
            trace: (tracing == Tracing::On).then(VecDeque::new),
        })
    }

    /// Runs to the end of the plan, and past it until all is answered and given back.
    pub fn run(self, case: &str, told: &dyn Fn(u64)) -> Result<MachineRow, Violation> {
        self.run_with(case, |world| world.run_steps(told).and_then(|()| world.finish()))
    }

    /// The world outlives what runs in it: who panics leaves the trace of how it came to that.
    fn run_with(
        mut self,
        case: &str,
        work: impl FnOnce(&mut Self) -> Checked<()>,
    ) -> Result<MachineRow, Violation> {
        match caught(|| work(&mut self)) {
            Ok(()) => Ok(self.measure.row(case, self.steps)),
            Err(what) => {
                Err(Violation { at: self.now, what, trace: self.trace.unwrap_or_default().into() })
            }
        }
    }

    fn run_steps(&mut self, told: &dyn Fn(u64)) -> Checked<()> {
        let mut permille = 0;
        while let Some((at, step)) = self.queue.pop_until(self.plan.duration) {
            self.now = at;
            self.step(step)?;
            let done = self.now * 1000 / self.plan.duration;
            if done > permille {
                permille = done;
                told(done);
            }
        }
        self.now = self.plan.duration;
        Ok(())
    }

    /// Everybody ends, and what is still to be done is; then nothing may be left.
    fn finish(&mut self) -> Checked<()> {
        for process in 0..self.processes.len() {
            self.die(process)?;
        }
        let end = self.now + 600 * SECOND;
        while let Some((at, step)) = self.queue.pop_until(end) {
            // What repeats for ever, or begins something, has ended.
            if !matches!(step, Step::Zeroed(..) | Step::Saved(_) | Step::Restored(_) | Step::Tick) {
                continue;
            }
            self.now = at;
            self.step(step)?;
        }
        self.must(Input::Tick)?;
        if let Some(open) = self.open.first() {
            return Err(format!("starvation: {} is never answered", open.what));
        }
        self.check_all()?;
        let left = self.engine.member_status();
        if !left.is_empty() {
            return Err(format!("all processes are gone; the engine knows of {left:?}"));
        }
        match self.engine.node_status().iter().find(|node| node.leased.0 > 0) {
            Some(node) => Err(format!(
                "all processes are gone; {} of {:?} stay leased",
                node.leased, node.name
            )),
            None => Ok(()),
        }
    }

    fn step(&mut self, step: Step) -> Checked<()> {
        self.steps += 1;
        match step {
            Step::Start(program) => self.start(program),
            Step::Phase(process, phase) => self.phase(process, phase),
            Step::Grow(process) => self.grow(process),
            Step::Shrink(process) => self.shrink(process),
            Step::Pin(process, all) => self.pin(process, &all),
            Step::LetGo(process, connection, extents) => self.let_go(process, connection, extents),
            Step::Return(process) => self.come_back(process),
            Step::Copied(process) => self.copied(process),
            Step::Thawed(process) => self.thawed(process),
            Step::Fork(process) => self.fork(process),
            Step::Born(process) => self.born(process),
            Step::Die(process) => self.die(process),
            Step::Zeroed(image, extents) => self.zeroed(image, &extents),
            Step::Saved(node) => self.saved(node),
            Step::Restored(node) => self.restored(node),
            Step::Event(number) => self.event(number),
            Step::Tick => {
                self.ticks_at = Nanos::MAX;
                self.must(Input::Tick)
            }
            Step::Sample => {
                self.sample();
                // All of a large machine takes a while to look at.
                self.samples += 1;
                if self.samples.is_multiple_of(SAMPLES_UNCHECKED) {
                    self.check_all()?;
                }
                self.queue.push(self.now + self.plan.sample_every, Step::Sample);
                Ok(())
            }
            Step::Heat => self.heat(),
        }
    }

    /// Says something that cannot be refused.
    pub fn must(&mut self, input: Input) -> Checked<()> {
        let name = variant(&input);
        match self.say(input)? {
            Ok(()) => Ok(()),
            Err(refusal) => Err(format!("refused: {refusal}; it was {name}")),
        }
    }

    /// Says something to the engine and does what comes of it.
    pub fn say(&mut self, input: Input) -> Checked<Result<(), Refusal>> {
        self.measure.saw(&format!("in {}", variant(&input)));
        if let Some(trace) = &mut self.trace {
            note(trace, format!("{} ns: {input:?}", self.now));
        }
        let now = Instant(core::time::Duration::from_nanos(self.now));
        let effects = match self.engine.handle(now, input) {
            Ok(effects) => effects,
            Err(refusal) => {
                self.measure.saw(&format!("refused {}", variant(&refusal)));
                if let Some(trace) = &mut self.trace {
                    note(trace, format!("  refused: {refusal}"));
                }
                return Ok(Err(refusal));
            }
        };
        // What comes of one input comes at once; there must be memory before it is handed out.
        let (first, rest): (Vec<_>, Vec<_>) =
            effects.into_iter().partition(|effect| matches!(effect, Effect::Onlined { .. }));
        for effect in first.into_iter().chain(rest) {
            self.measure.saw(&format!("out {}", variant(&effect)));
            if let Some(trace) = &mut self.trace {
                note(trace, format!("  {effect:?}"));
            }
            self.feel(effect)?;
        }
        self.oracle.overdue(self.now)?;
        if let Some(at) = self.engine.next_deadline() {
            let at = u64::try_from(at.0.as_nanos()).unwrap_or(Nanos::MAX).max(self.now);
            if at < self.ticks_at {
                self.ticks_at = at;
                self.queue.push(at, Step::Tick);
            }
        }
        if self.plan.pageblocks() <= SMALL {
            self.check_all()?;
            self.all_had_their_own()?;
        }
        self.short.clear();
        Ok(Ok(()))
    }

    fn check_all(&self) -> Checked<()> {
        self.engine.validate();
        self.oracle.conservation(&self.engine)
    }

    fn feel(&mut self, effect: Effect) -> Checked<()> {
        match effect {
            Effect::Grant { member, extents } => self.granted(member, &extents),
            Effect::Promise { member, granted } => self.promised(member, granted),
            Effect::Move { member, id, pairs } => self.ordered(member, id, pairs),
            Effect::Thaw { member, extents } => self.thaw_ordered(member, &extents),
            Effect::Poisoned { member, extents } | Effect::Lost { member, extents } => {
                self.lost(member, &extents)
            }
            Effect::Zero { image, extents } => {
                let mut count = 0;
                for pageblock in extents.iter().flat_map(|extent| extent.iter()) {
                    self.oracle.zeroing(pageblock, image)?;
                    count += 1;
                }
                let takes = transfer(count * PAGEBLOCK_BYTES, self.plan.zero_mib);
                self.queue.push(self.now + takes.max(1), Step::Zeroed(image, extents));
                Ok(())
            }
            Effect::Offlined { extents, .. } => extents
                .iter()
                .flat_map(|extent| extent.iter())
                .try_for_each(|pageblock| self.oracle.offlined(pageblock)),
            Effect::Onlined { extents, .. } => {
                self.reopen(&extents);
                let mut all = extents.iter().flat_map(|extent| extent.iter());
                all.try_for_each(|pageblock| {
                    let own = self.plan.nodes[self.oracle.node_of(pageblock)].zone;
                    self.oracle.onlined(pageblock, self.adds_into.unwrap_or(own))
                })
            }
            Effect::SaveDevice { node } => self.save(node, Step::Saved),
            Effect::RestoreDevice { node } => self.save(node, Step::Restored),
            Effect::Answer { request, report } => self.answered(request, &report),
            Effect::ImageGone { .. } | Effect::ForgetToken { .. } | Effect::Progress { .. } => {
                Ok(())
            }
        }
    }

    fn zeroed(&mut self, image: ImageId, extents: &[Extent]) -> Checked<()> {
        let all = extents.iter().flat_map(|extent| extent.iter());
        let still: Vec<Pageblock> = all.filter(|&p| self.oracle.zeroed(p)).collect();
        if still.is_empty() {
            return Ok(());
        }
        self.must(Input::Zeroed { image, extents: Extent::from_blocks(still) })
    }
}

/// How long so many bytes take at so many MiB a second.
pub(super) fn transfer(bytes: u64, mib: u64) -> Nanos {
    let takes = u128::from(bytes) * u128::from(SECOND) / (u128::from(mib.max(1)) << 20);
    u64::try_from(takes).unwrap_or(Nanos::MAX)
}

#[cfg(test)]
mod tests {
    use memtide_units::NodeId;

    use super::*;
    use crate::machine::swarm;

    #[test]
    fn who_panics_leaves_a_trace() {
        let plan = swarm::plan(1);
        let world = World::new(&plan, 1, Tracing::On).unwrap();
        let outcome = world.run_with("", |world| {
            world.now = 7;
            world.must(Input::Tick)?;
            world.must(Input::DeviceSaved { node: NodeId(0) }).unwrap_err();
            panic!("broken {}", 5)
        });
        let violation = outcome.unwrap_err();
        assert_eq!((violation.at, violation.what.as_str()), (7, "panic: broken 5"));
        let told = violation.to_string();
        assert!(told.contains("7 ns: Tick") && told.contains("  refused: "), "{told}");
    }
}
