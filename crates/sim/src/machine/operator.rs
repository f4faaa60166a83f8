//! What comes from outside: operators, drivers, links, errors.

use memtide_engine::{Input, Refusal, Report};
use memtide_units::{ByteSize, Extent, NodeId, Pageblock, RequestId};

use super::{
    measure::AnswerRow,
    oracle::{Checked, State},
    plan::{Happening, MS, Nanos},
    topology::Width,
    world::{SLACK, Step, World},
};

/// A request that is not answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Open {
    /// Its name.
    pub request: RequestId,
    /// What it is.
    pub what: String,
    /// Who says where memory goes for it.
    pub chosen: Chosen,
    /// Since when.
    pub since: Nanos,
    /// Until when.
    pub until: Nanos,
}

/// Who says where memory goes that a request has moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Chosen {
    /// The policy of whose it is.
    ByPolicy,
    /// The request.
    ByRequest,
}

fn id(node: usize) -> NodeId {
    NodeId(node as u16)
}

impl World<'_> {
    pub(super) fn event(&mut self, number: usize) -> Checked<()> {
        let plan = self.plan;
        let request = RequestId(number as u64 + 1);
        let wait = |deadline: Nanos| core::time::Duration::from_nanos(deadline);
        match plan.events[number].what.clone() {
            Happening::GiveBack { pageblocks, from, deadline } => {
                let bytes = ByteSize::from_pageblocks(pageblocks);
                let what = match from {
                    Some(node) => format!("give-back of {bytes} from {}", plan.nodes[node].name),
                    None => format!("give-back of {bytes}"),
                };
                let (from, deadline_at) = (from.map(id), wait(deadline));
                let input = Input::GiveBack { request, bytes, from, deadline: deadline_at };
                self.ask(request, what, deadline, input)
            }
            Happening::Evacuate { node, deadline } => {
                let what = format!("evacuation of {}", plan.nodes[node].name);
                self.close(node);
                let input = Input::Evacuate { request, node: id(node), deadline: wait(deadline) };
                self.ask(request, what, deadline, input)
            }
            Happening::MoveTo { program, to, deadline } => {
                let Some(process) = self.process_of(program) else { return Ok(()) };
                let member = self.processes[process].member;
                let what =
                    format!("move of {} to {}", plan.programs[program].name, plan.nodes[to].name);
                let (to, deadline_at) = (id(to), wait(deadline));
                let input =
                    Input::MoveTo { request, member, to, bytes: None, deadline: deadline_at };
                self.ask(request, what, deadline, input)
            }
            Happening::Add { pageblocks, to, zone } => {
                let bytes = ByteSize::from_pageblocks(pageblocks);
                self.adds_into = zone;
                let said = self.say(Input::Add { bytes, to: id(to), zone })?;
                self.adds_into = None;
                match said {
                    Ok(()) | Err(Refusal::NotOffline { .. } | Refusal::NotLetGo { .. }) => Ok(()),
                    Err(refusal) => Err(format!("refused: {refusal}; it was {bytes} to put back")),
                }
            }
            Happening::Mbind { program, policy, deadline } => {
                let Some(process) = self.process_of(program) else { return Ok(()) };
                let process = &self.processes[process];
                let (member, extents) =
                    (process.member, Extent::from_blocks(process.places.keys().copied()));
                let what = format!("mbind of {}", plan.programs[program].name);
                let deadline_at = wait(deadline);
                let input =
                    Input::Mbind { request, member, extents, policy, deadline: deadline_at };
                self.ask(request, what, deadline, input)
            }
            Happening::GiveBackExtents { node, block, blocks, deadline } => {
                let extents = self.blocks(node, block, blocks, |state| state != State::Offline);
                if extents.is_empty() {
                    return Ok(());
                }
                let what = format!("give-back of {extents:?}");
                let input = Input::GiveBackExtents { request, extents, deadline: wait(deadline) };
                self.ask(request, what, deadline, input)
            }
            Happening::Online { node, block, blocks } => {
                let extents = self.blocks(node, block, blocks, |state| state == State::Offline);
                if extents.is_empty() {
                    return Ok(());
                }
                match self.say(Input::Online { extents })? {
                    Ok(()) | Err(Refusal::NotLetGo { .. }) => Ok(()),
                    Err(refusal) => Err(format!("refused: {refusal}; it was to come online")),
                }
            }
            Happening::Leave { program, away } => match self.process_of(program) {
                Some(process) => self.leave(process, away),
                None => Ok(()),
            },
            Happening::Link { link, width } => self.set_link(link, width),
            Happening::Remove { node } => self.remove(node),
            Happening::Poison { node, pageblock } => {
                let first = plan.first(node);
                let pageblock = Pageblock(first.0 + pageblock % plan.nodes[node].pageblocks);
                self.poison(pageblock)
            }
        }
    }

    /// A process of a program that is connected.
    fn process_of(&self, program: usize) -> Option<usize> {
        self.processes.iter().position(|p| p.program == program && p.is_there())
    }

    /// Blocks of a node from one on, as long as all their pageblocks that are not broken are in
    /// such a state.
    fn blocks(
        &self,
        node: usize,
        block: u64,
        blocks: u64,
        fits: impl Fn(State) -> bool,
    ) -> Vec<Extent> {
        let of = &self.plan.nodes[node];
        let (all, size) = (of.pageblocks / of.block_pageblocks, of.block_pageblocks);
        let first = self.plan.first(node).0;
        let span = |block: u64| (first + block * size..first + (block + 1) * size).map(Pageblock);
        let is_one = |&block: &u64| {
            let mut whole = span(block).filter(|&at| !self.oracle.is_poisoned(at)).peekable();
            // Where nothing is left whole, nothing can be seen from here.
            whole.peek().is_some() && whole.all(|at| fits(self.oracle.state(at)))
        };
        let from = block % all;
        let these = (from..all.min(from + blocks)).take_while(is_one);
        Extent::from_blocks(these.flat_map(span))
    }

    fn ask(
        &mut self,
        request: RequestId,
        what: String,
        deadline: Nanos,
        input: Input,
    ) -> Checked<()> {
        let until = self.now.saturating_add(deadline) + SLACK;
        self.oracle.owe(until, what.clone());
        let chosen = match input {
            Input::MoveTo { .. } | Input::Mbind { .. } => Chosen::ByRequest,
            _ => Chosen::ByPolicy,
        };
        self.open.push(Open { request, what, chosen, since: self.now, until });
        match self.say(input)? {
            Ok(()) => Ok(()),
            Err(refusal) => {
                let at = self.open.iter().position(|open| open.request == request);
                let open = at.map(|at| self.open.remove(at)).ok_or("refused and answered")?;
                self.oracle.settled(open.until, &open.what);
                match refusal {
                    Refusal::TooManyRequests { .. } => Ok(()),
                    refusal => Err(format!("refused: {refusal}; it was the {}", open.what)),
                }
            }
        }
    }

    pub(super) fn answered(&mut self, request: RequestId, report: &Report) -> Checked<()> {
        let at = self.open.iter().position(|open| open.request == request);
        let Some(at) = at else { return Err(format!("{request} is answered but was not asked")) };
        let open = self.open.remove(at);
        self.oracle.settled(open.until, &open.what);
        self.asked_until = self.now;
        if report.returned.0 + report.remaining.0 != report.requested.0 {
            return Err(format!("the figures of {report:?} do not add up"));
        }
        let holders = report.holders.iter();
        self.measure.answers.push(AnswerRow {
            request: open.what,
            at_ms: open.since / MS,
            took_ms: (self.now - open.since) / MS,
            requested_bytes: report.requested.0,
            returned_bytes: report.returned.0,
            remaining_bytes: report.remaining.0,
            holders: holders
                .map(|holder| {
                    (holder.name.clone(), holder.reason.code().to_owned(), holder.bytes.0)
                })
                .collect(),
            ask_again: report.ask_again,
        });
        Ok(())
    }

    /// A driver is asked to save or restore its device's state.
    pub(super) fn save(&mut self, node: NodeId, done: fn(usize) -> Step) -> Checked<()> {
        let node = usize::from(node.0);
        self.close(node);
        if self.happens(self.plan.faults.driver_mute_permille) {
            self.measure.saw("fault driver mute");
            return Ok(());
        }
        self.queue.push(self.now + self.plan.nodes[node].driver, done(node));
        Ok(())
    }

    pub(super) fn saved(&mut self, node: usize) -> Checked<()> {
        self.driver_says(Input::DeviceSaved { node: id(node) })
    }

    pub(super) fn restored(&mut self, node: usize) -> Checked<()> {
        self.driver_says(Input::DeviceRestored { node: id(node) })
    }

    /// A driver that comes too late is told so; that is no harm.
    fn driver_says(&mut self, input: Input) -> Checked<()> {
        match self.say(input)? {
            Ok(()) | Err(Refusal::NotAsked { .. }) => Ok(()),
            Err(refusal) => Err(format!("refused: {refusal}; it was a driver's answer")),
        }
    }

    /// A link becomes narrower or wider, or is lost; what is reached over it follows.
    pub(super) fn set_link(&mut self, link: usize, width: Width) -> Checked<()> {
        if self.topology.widths[link] == Width::Lost {
            return Ok(());
        }
        let speeds = |world: &Self| -> Vec<_> {
            let nodes = 0..world.plan.nodes.len();
            nodes.map(|node| world.plan.best_performance(&world.topology, node)).collect()
        };
        let before = speeds(self);
        self.topology.widths[link] = width;
        let after = speeds(self);
        for (node, (before, after)) in before.into_iter().zip(after).enumerate() {
            if self.removed[node] || before == after {
                continue;
            }
            match after {
                Some(performance) => {
                    self.must(Input::LinkChanged { node: id(node), performance })?;
                }
                None => self.remove(node)?,
            }
        }
        Ok(())
    }

    /// A node is gone: leases on it end.
    fn remove(&mut self, node: usize) -> Checked<()> {
        if std::mem::replace(&mut self.removed[node], true) {
            return Ok(());
        }
        let first = self.plan.first(node).0;
        let all = (first..first + self.plan.nodes[node].pageblocks).map(Pageblock);
        let there =
            all.clone().filter(|&p| !matches!(self.oracle.state(p), State::Offline | State::Gone));
        let there: Vec<Pageblock> = there.collect();
        there.iter().for_each(|&pageblock| self.oracle.gone(pageblock));
        // Blocks that have left already may be named.
        let extents = Extent::from_blocks(all);
        self.end_of(&there, Input::Lost { extents })
    }

    fn poison(&mut self, pageblock: Pageblock) -> Checked<()> {
        if matches!(self.oracle.state(pageblock), State::Offline | State::Gone) {
            return Ok(());
        }
        self.oracle.poisoned(pageblock);
        self.end_of(&[pageblock], Input::Poison { pageblock })
    }

    /// Pageblocks are no more. Whoever mapped them must be told at once.
    fn end_of(&mut self, all: &[Pageblock], input: Input) -> Checked<()> {
        self.must(input)?;
        for process in self.processes.iter().filter(|process| process.is_there()) {
            if let Some(pageblock) = all.iter().find(|&p| process.places.contains_key(p)) {
                return Err(format!("{} is not told that {pageblock} is gone", process.member));
            }
        }
        Ok(())
    }
}
