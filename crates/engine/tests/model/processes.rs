//! What processes, and the daemon between two lives, do.

use super::*;
use memtide_engine::tenant::Credentials;

impl World {
    pub(super) fn join(&mut self, who: u8) {
        if self.processes.len() >= PROCESSES_MAX {
            return;
        }
        let (member, token) = (MemberId(self.fresh()), TokenId(self.fresh()));
        let name = format!("p{}", member.0);
        let who = self.somebody(who);
        let uid = who.uid;
        let join = Input::Join { member, pid: 7, name, token, lineage: Lineage::Fresh, who };
        if let Err(refusal) = self.say(join) {
            assert_eq!(refusal, Refusal::NoTenant { uid: 5, gid: 0 });
            assert_eq!(uid, 5);
            return;
        }
        let image = self.engine.image_of(member).unwrap();
        assert!(self.images.insert(image), "{image} is given out twice");
        self.push(token, image, Link::Connected(member), BTreeMap::new());
    }

    pub(super) fn push(
        &mut self,
        token: TokenId,
        image: ImageId,
        link: Link,
        mapped: BTreeMap<Pageblock, Mapping>,
    ) {
        self.processes.push(Process {
            token,
            image,
            link,
            mapped,
            orders: VecDeque::new(),
            thaws: VecDeque::new(),
            children: Vec::new(),
            committed: 0,
            asked: VecDeque::new(),
            guided: false,
            forgotten: false,
            awaited: false,
            losses: VecDeque::new(),
            bad: BTreeSet::new(),
        });
    }

    pub(super) fn join_child(&mut self, child: u8) -> Option<()> {
        let p = self.pick(child, |process| process.link == Link::Unborn)?;
        let (member, token) = (MemberId(self.fresh()), self.processes[p].token);
        // After a restart the engine learns of it when its parent returns.
        self.engine.knows(token).then_some(())?;
        self.processes[p].link = Link::Connected(member);
        let (name, lineage) = (format!("c{}", member.0), Lineage::Child(token));
        self.must(Input::Join { member, pid: 8, name, token, lineage, who: Default::default() });
        Some(())
    }

    pub(super) fn left(&mut self, process: u8, moves_done: u8) -> Option<()> {
        let (p, member) = self.connected(process)?;
        let process = &mut self.processes[p];
        process.link = Link::Disconnected(member);
        // It may have moved some already, and not have said so.
        let orders = std::mem::take(&mut process.orders);
        let pairs = orders.iter().flat_map(|(_, pairs)| pairs);
        for &(from, to) in pairs.take(usize::from(moves_done % 4)) {
            let good = !process.bad.contains(&to);
            if good && process.mapped.get(&from) == Some(&Mapping::Shared) {
                process.mapped.remove(&from);
                process.mapped.insert(to, Mapping::Shared);
            }
        }
        process.thaws.clear();
        process.losses.clear();
        process.bad.clear();
        process.asked.clear();
        self.must(Input::Left { member });
        Some(())
    }

    pub(super) fn come_back(&mut self, process: u8) -> Option<()> {
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
            image: process.image,
            leased: of(Mapping::Shared),
            shared: of(Mapping::Frozen),
            children: process.children.clone(),
            committed: process.committed,
        };
        let (token, image) = (process.token, process.image);
        self.intact = false;
        self.images.insert(image);
        let lineage = Lineage::Returning(claims);
        self.must(Input::Join {
            member,
            pid: 7,
            name: String::from("back"),
            token,
            lineage,
            who: Credentials { uid: (member.0 % 5) as u32, ..Credentials::default() },
        });
        Some(())
    }

    pub(super) fn die(&mut self, p: usize) {
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
            // The store discards what nobody who returned has.
            let mapped = |at: &Pageblock| self.processes.iter().any(|p| p.mapped.contains_key(at));
            let zeroing = |at: &Pageblock| self.zeroing.iter().any(|(_, other)| other == at);
            self.dirty.retain(|at, _| mapped(at) || zeroing(at));
            self.must(Input::AwaitedGone { member });
        }
        // After a restart the engine knows of nobody before somebody says so.
        if self.engine.knows(process.token) {
            self.must(Input::TokenGone { token: process.token });
        } else {
            assert!(process.awaited || process.forgotten || process.link == Link::Unborn);
        }
    }

    pub(super) fn commit(&mut self, process: u8, by: i8) -> Option<()> {
        let (p, member) = self.connected(process)?;
        let input = Input::Commit { member, by: by.into() };
        if by > 0 {
            self.ask(member, memtide_engine::Asked::Promise(by.unsigned_abs().into()), input);
            return Some(());
        }
        match self.say(input) {
            Ok(()) => {
                let committed = &mut self.processes[p].committed;
                *committed = committed.checked_add_signed(by.into()).unwrap();
            }
            Err(Refusal::CommitUnderflow { by: less, committed, .. }) => assert!(less > committed),
            Err(refusal) => panic!("{refusal}"),
        }
        Some(())
    }

    pub(super) fn release(&mut self, process: u8, which: u8, count: u8) -> Option<()> {
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

    pub(super) fn fork(&mut self, process: u8) -> Option<()> {
        let (p, member) = self.connected(process)?;
        (self.processes.len() < PROCESSES_MAX).then_some(())?;
        let token = TokenId(self.fresh());
        let parent = &mut self.processes[p];
        for mapping in parent.mapped.values_mut() {
            *mapping = Mapping::Frozen;
        }
        parent.thaws.clear();
        parent.children.push(token);
        let (image, mapped) = (parent.image, parent.mapped.clone());
        let guided = parent.guided;
        self.push(token, image, Link::Unborn, mapped);
        self.processes.last_mut().expect("just pushed").guided = guided;
        self.must(Input::ForkBegin { member, token });
        Some(())
    }

    pub(super) fn answer(&mut self, process: u8, count: u8, outcomes: u8) -> Option<()> {
        let (p, member) = self.connected(process)?;
        let process = &mut self.processes[p];
        let (id, pairs) = process.orders.front_mut()?;
        let id = *id;
        let mut said = Vec::new();
        for n in 0..=count % 4 {
            let Some((from, to)) = pairs.pop_front() else { break };
            let outcome = match process.mapped.get(&from) {
                None => MoveOutcome::Gone,
                Some(_) if process.bad.remove(&to) => MoveOutcome::Held(HoldReason::MoveFailed),
                Some(Mapping::Frozen) => MoveOutcome::Held(HoldReason::SharedWithChild),
                Some(Mapping::Shared) => match (outcomes >> (2 * n)) % 4 {
                    0 if outcomes & 15 == 0 => MoveOutcome::Held(HoldReason::DirectRead),
                    1 if outcomes & 15 == 5 => MoveOutcome::Held(HoldReason::MapCount),
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

    pub(super) fn thaw(&mut self, process: u8, count: u8) -> Option<()> {
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

    pub(super) fn request(&mut self, request: RequestId, input: Input) {
        self.open.insert(request);
        match self.say(input) {
            Ok(()) => {}
            Err(Refusal::TooManyRequests { .. }) => assert!(self.open.remove(&request)),
            Err(refusal) => panic!("{refusal}"),
        }
    }

    /// The daemon is killed and another takes over. Zeroing starts over before it serves; what a
    /// child that has not joined holds is known to its parent only.
    pub(super) fn restart(&mut self) {
        let mut config = config(self.setup);
        for node in &mut config.nodes {
            node.offline = self.engine.offline(node.node);
            node.zones = self.engine.zones(node.node);
        }
        config.next_image = self.engine.next_image();
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
                process.losses.clear();
                process.bad.clear();
                process.asked.clear();
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
        self.images.clear();
        self.engine = Engine::new(config).unwrap();
        self.engine.validate();
        let mapped = |at: &Pageblock| self.processes.iter().any(|p| p.mapped.contains_key(at));
        self.dirty.retain(|at, _| mapped(at));
        self.evacuating.clear();
        self.asked = None;
        for pageblock in self.poisoned.clone() {
            self.must(Input::Poison { pageblock });
        }
    }
}
