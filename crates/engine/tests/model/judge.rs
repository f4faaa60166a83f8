//! What goes in and comes out, and whether it is right.

use super::*;

impl World {
    pub(super) fn must(&mut self, input: Input) {
        let text = format!("{input:?}");
        if let Err(refusal) = self.say(input) {
            panic!("{text} is refused: {refusal}");
        }
    }

    pub(super) fn say(&mut self, input: Input) -> Result<(), Refusal> {
        let returns = matches!(input, Input::Join { lineage: Lineage::Returning(_), .. });
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
            let sum =
                node.free.0 + node.leased.0 + node.isolated.0 + node.offline.0 + node.retired.0;
            assert_eq!(sum, node.present.0, "{}", node.name);
            let online: u64 = node.zones.iter().map(|zone| zone.online.0).sum();
            assert_eq!(online + node.offline.0, node.present.0, "{}", node.name);
            let free: u64 = node.zones.iter().map(|zone| zone.free.0).sum();
            assert_eq!(free, node.free.0, "{}", node.name);
        }
        self.check_quotas(&before.tenant_status(), &effects, returns);
        if before.awaiting() > 0 && self.engine.awaiting() == 0 {
            self.recovered = self.now;
        }
        for effect in effects {
            self.trace(format_args!("    -> {effect:?}"));
            self.feel(effect, &before);
        }
        let overdue = self.engine.next_deadline().is_some_and(|at| at <= self.now);
        assert!(!overdue, "a deadline has passed and nothing came of it");
        self.check_waits();
        Ok(())
    }

    pub(super) fn trace(&self, text: std::fmt::Arguments) {
        if self.traced {
            println!("{text}");
        }
    }

    pub(super) fn mark(&mut self, what: impl Into<String>) {
        *self.marks.entry(what.into()).or_default() += 1;
    }

    pub(super) fn feel(&mut self, effect: Effect, before: &Engine) {
        let text = format!("{effect:?}");
        self.mark(text.split(' ').next().unwrap());
        match effect {
            Effect::Grant { member, extents } => {
                let all: Vec<_> = extents.iter().flat_map(|extent| extent.iter()).collect();
                // Granted before anything else came of this input, or after all else.
                self.check_unmapped_and_zero(&all);
                let open = |at: &Engine| self.isolated_among(&all, at).is_none();
                assert!(open(before) || open(&self.engine), "granted out of an isolated block");
                let image = self.by_member(member).image;
                self.dirty.extend(all.iter().map(|&pageblock| (pageblock, image)));
                let question = self.answered(member, false);
                let memtide_engine::Asked::Lease(asked) = question.what else {
                    panic!("a grant where a promise was asked for");
                };
                assert!(all.len() as u64 <= asked);
                self.mark_decision(member);
                self.check_zones(member, &all);
                self.check_guarantee(member, question, asked - all.len() as u64);
                let process = self.by_member(member);
                process.mapped.extend(all.into_iter().map(|p| (p, Mapping::Shared)));
            }
            Effect::Move { member, id, pairs } => {
                assert!(!pairs.is_empty() && pairs.len() <= 3);
                assert!(!self.never_moves(member), "{member} is moved");
                // Ordered after everything else that came of this input.
                let destinations: Vec<_> = pairs.iter().map(|&(_, to)| to).collect();
                self.check_new(&destinations, &self.engine);
                let image = self.by_member(member).image;
                self.dirty.extend(destinations.iter().map(|&pageblock| (pageblock, image)));
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
            Effect::Zero { image, extents } => {
                for pageblock in extents.iter().flat_map(|extent| extent.iter()) {
                    self.check_unmapped(pageblock);
                    self.zeroing.push_back((image, pageblock));
                }
            }
            Effect::ImageGone { image } => {
                assert!(self.images.remove(&image), "{image} goes twice");
                let of_it =
                    |process: &Process| process.image == image && self.engine.knows(process.token);
                assert!(!self.processes.iter().any(of_it), "{image} has processes");
            }
            Effect::ForgetToken { token } => {
                let process = self.processes.iter_mut().find(|p| p.token == token).unwrap();
                assert!(process.mapped.is_empty());
                process.forgotten = true;
            }
            Effect::Offlined { extents, .. } => {
                for pageblock in extents.iter().flat_map(|extent| extent.iter()) {
                    // What is lost is mapped until that is heard, and discarded.
                    if self.away.insert(pageblock) && !self.poisoned.contains(&pageblock) {
                        self.check_unmapped(pageblock);
                    }
                    self.dirty.remove(&pageblock);
                }
            }
            Effect::Onlined { node, extents } => {
                for pageblock in extents.iter().flat_map(|extent| extent.iter()) {
                    self.check_unknown(pageblock);
                    assert!(self.away.remove(&pageblock), "{pageblock} was not away");
                }
                self.evacuating.remove(&node);
            }
            Effect::Promise { member, granted } => {
                let memtide_engine::Asked::Promise(by) = self.answered(member, true).what else {
                    panic!("a promise where a lease was asked for");
                };
                self.mark(if granted { "promised" } else { "not promised" });
                if granted {
                    self.by_member(member).committed += by;
                }
            }
            Effect::Poisoned { member, extents } => {
                let lost: Vec<_> = extents.iter().flat_map(|extent| extent.iter()).collect();
                assert!(lost.iter().all(|pageblock| self.poisoned.contains(pageblock)));
                self.by_member(member).losses.push_back(lost);
            }
            Effect::Lost { member, extents } => {
                let lost: Vec<_> = extents.iter().flat_map(|extent| extent.iter()).collect();
                let known = |at: &Pageblock| self.away.contains(at) || self.poisoned.contains(at);
                assert!(lost.iter().all(known));
                self.by_member(member).losses.push_back(lost);
            }
            Effect::SaveDevice { node } | Effect::RestoreDevice { node } => {
                assert_eq!((node, &self.asked), (DEVICE, &None), "one thing at a time");
                self.asked = Some(effect);
            }
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

    /// Marks what was decided for a process.
    fn mark_decision(&mut self, member: MemberId) {
        let tenant = self.engine.tenant_of_member(member).expect("told to who joined");
        let decisions = self.engine.decisions(tenant);
        let last = decisions.rev().find(|decision| decision.member == member);
        let outcome = format!("{:?}", last.expect("every answer is decided").outcome);
        self.mark(outcome.split('(').next().expect("the first part"));
    }

    /// Pageblocks that somebody gets: nobody has them, and nobody empties their block.
    pub(super) fn check_new(&self, pageblocks: &[Pageblock], at: &Engine) {
        self.check_unmapped_and_zero(pageblocks);
        let isolated = self.isolated_among(pageblocks, at);
        assert_eq!(isolated, None, "handed out of an isolated block");
    }

    pub(super) fn check_unmapped_and_zero(&self, pageblocks: &[Pageblock]) {
        for &pageblock in pageblocks {
            self.check_unmapped(pageblock);
            self.check_good(pageblock);
            let zeroing = self.zeroing.iter().any(|&(_, other)| other == pageblock);
            assert!(!zeroing, "{pageblock} is handed out but not zeroed");
        }
    }

    fn isolated_among(&self, pageblocks: &[Pageblock], at: &Engine) -> Option<Pageblock> {
        let isolated = NODES.into_iter().flat_map(|node| at.isolated(node));
        let isolated: BTreeSet<_> = isolated.flat_map(|extent| extent.iter()).collect();
        pageblocks.iter().copied().find(|pageblock| isolated.contains(pageblock))
    }

    pub(super) fn check_unmapped(&self, pageblock: Pageblock) {
        let holder = self.processes.iter().find(|p| p.mapped.contains_key(&pageblock));
        assert!(holder.is_none(), "{pageblock} is still mapped by {holder:?}");
    }

    pub(super) fn by_member(&mut self, member: MemberId) -> &mut Process {
        let link = Link::Connected(member);
        self.processes.iter_mut().find(|p| p.link == link).expect("told to who is connected")
    }

    /// Lets everything come to an end: time passes, everybody dies, the store zeroes.
    pub fn finish(&mut self) {
        self.now = self.now.after(Duration::from_secs(70));
        self.must(Input::Tick);
        assert!(self.open.is_empty(), "not answered: {:?}", self.open);
        let recovers = self.engine.awaiting() > 0;
        let answered = |process: &Process| recovers || process.asked.is_empty();
        assert!(self.processes.iter().all(answered), "somebody still waits");
        while !self.processes.is_empty() {
            self.die(self.processes.len() - 1);
        }
        while !self.zeroing.is_empty() {
            self.run(&Op::Zero { count: 15 });
        }
        assert_eq!(self.engine.awaiting(), 0);
        assert!(self.engine.member_status().is_empty());
        assert!(self.images.is_empty(), "{:?} are left", self.images);
        for node in self.engine.node_status() {
            assert_eq!((node.leased, node.isolated), (ByteSize(0), ByteSize(0)));
        }
        // It may look once more whether anybody misses anything.
        self.now = self.now.after(Duration::from_secs(1));
        self.must(Input::Tick);
        assert_eq!(self.engine.next_deadline(), None);
    }
}
