//! The tree against a model that is nothing but the lines of `/proc/iomem`, under random operations
//! on a small space of addresses, where every question can be answered address by address.
//!
//! A failing run prints its operations; `PROPTEST_RNG_SEED` of the environment repeats a run.

use alloc::{string::ToString, vec::Vec};

use memtide_units::{PhysAddr, PhysRange};
use proptest::prelude::*;

use super::{Claim, Direction, Intersection, Kind, Resource, ResourceId, Search, Tree, What};

const TOP: u64 = 95;
const KINDS: [Kind; 3] = [Kind::SystemRam, Kind::CxlWindow, Kind::Dax];

#[derive(Clone, Debug)]
enum Operation {
    Insert(PhysRange, usize, Claim),
    Request(PhysRange, usize, Claim),
    RequestRegion(PhysRange, usize),
    ExpandToFit(PhysRange, usize),
    Remove(prop::sample::Index),
    Release(prop::sample::Index),
    Adjust(prop::sample::Index, PhysRange),
}

/// One line of `/proc/iomem`.
#[derive(Clone, PartialEq, Debug)]
struct Line {
    depth: usize,
    it: Resource,
}

#[derive(Clone, Default, Debug)]
struct Lines(Vec<Line>);

fn span(start: u64, more: u64) -> PhysRange {
    PhysRange::new(PhysAddr(start.min(TOP)), PhysAddr((start + more).min(TOP))).unwrap()
}

fn partly(a: PhysRange, b: PhysRange) -> bool {
    a.overlaps(b) && !a.contains(b) && !b.contains(a)
}

impl Lines {
    /// Who is in the way of inserting a range: the lowest of the outermost that overlap in part.
    fn conflict(&self, range: PhysRange) -> Option<&Resource> {
        let overlapping = self.0.iter().filter(|line| partly(line.it.range, range));
        let depth = overlapping.clone().map(|line| line.depth).min();
        overlapping.filter(|line| Some(line.depth) == depth).map(|line| &line.it).next()
    }

    fn insert(&mut self, it: Resource) -> bool {
        let range = it.range;
        if self.conflict(range).is_some() {
            return false;
        }
        let outer = |line: &&Line| line.it.range.contains(range) && line.it.range != range;
        let depth = self.0.iter().filter(outer).count();
        let inner = |line: &Line| range.contains(line.it.range);
        let at = |line: &Line| inner(line) || line.it.range.start() > range.last();
        let at = self.0.iter().position(at).unwrap_or(self.0.len());
        self.0.iter_mut().filter(|line| inner(line)).for_each(|line| line.depth += 1);
        self.0.insert(at, Line { depth, it });
        true
    }

    fn request_region(&mut self, it: Resource) -> bool {
        let range = it.range;
        let mut over: Vec<_> = self.0.iter().filter(|line| line.it.range.overlaps(range)).collect();
        over.sort_by_key(|line| line.depth);
        // One open resource around it on each depth, until nothing is there.
        let mut depths = over.iter().enumerate();
        if !depths.all(|(depth, line)| {
            line.depth == depth && line.it.claim == Claim::Open && line.it.range.contains(range)
        }) {
            return false;
        }
        let depth = over.len();
        let after = |line: &Line| line.it.range.start() > range.last();
        let at = self.0.iter().position(after).unwrap_or(self.0.len());
        self.0.insert(at, Line { depth, it });
        true
    }

    /// The end of the lines that are inside of the line `at`.
    fn end_of(&self, at: usize) -> usize {
        let depth = self.0[at].depth;
        let inside = self.0[at + 1..].iter().take_while(|line| line.depth > depth).count();
        at + 1 + inside
    }

    fn adjust(&mut self, at: usize, range: PhysRange) -> bool {
        let Line { depth, it } = self.0[at].clone();
        let parent = self.0[..at].iter().rfind(|line| line.depth + 1 == depth);
        let outer = if depth == 0 { span(0, TOP) } else { parent.unwrap().it.range };
        let (end, mut sane) = (self.end_of(at), outer.contains(range));
        let below = self.0[..at].iter().rev().take_while(|line| line.depth >= depth);
        sane &= below.clone().all(|line| line.it.range.last() < range.start());
        let above = self.0[end..].iter().take_while(|line| line.depth >= depth);
        sane &= above.clone().all(|line| line.it.range.start() > range.last());
        sane &= self.0[at + 1..end].iter().all(|line| range.contains(line.it.range));
        if sane {
            self.0[at].it = Resource { range, ..it };
        }
        sane
    }

    fn intersects(&self, range: PhysRange, kind: Kind) -> Intersection {
        let (mut matching, mut other) = (false, false);
        for at in (0..self.0.len()).filter(|&at| self.0[at].depth == 0) {
            let Some(part) = self.0[at].it.range.intersection(range) else { continue };
            let lines = &self.0[at..self.end_of(at)];
            let has = |address| {
                lines.iter().any(|line| line.it.kind == kind && line.it.range.has(address))
            };
            let mut addresses = (part.start().0..=part.last().0).map(PhysAddr);
            matching |= addresses.clone().any(has);
            other |= !addresses.all(has);
        }
        match (matching, other) {
            (false, _) => Intersection::Disjoint,
            (true, false) => Intersection::Intersects,
            (true, true) => Intersection::Mixed,
        }
    }

    /// The kernel's loop over candidates, below the root.
    fn find_free(&self, bytes: u64, search: &Search<'_>) -> Option<PhysRange> {
        let (within, align) = (search.within, search.align);
        let bytes = bytes.next_multiple_of(align);
        let free = |start: &u64| {
            let Some(range) = PhysRange::from_size(PhysAddr(*start), bytes) else { return false };
            within.contains(range)
                && !self.0.iter().any(|line| line.depth == 0 && line.it.range.overlaps(range))
                && !search.avoid.iter().any(|avoid| avoid.overlaps(range))
        };
        let start = match search.direction {
            Direction::Ascending => {
                let first = within.start().0.max(align).next_multiple_of(align);
                (first..=within.last().0).step_by(align as usize).find(free)
            }
            Direction::Descending => {
                let first = (within.last().0 + 1).checked_sub(bytes)?;
                (0..=first).rev().step_by(align as usize).take_while(|&at| at > align).find(free)
            }
        };
        start.and_then(|start| PhysRange::from_size(PhysAddr(start), bytes))
    }
}

struct World {
    tree: Tree,
    model: Lines,
    made: usize,
}

impl World {
    fn resource(&mut self, range: PhysRange, kind: usize, claim: Claim) -> Resource {
        self.made += 1;
        Resource { range, kind: KINDS[kind], claim, name: self.made.to_string() }
    }

    fn id_at(&self, at: usize) -> ResourceId {
        self.tree.walk(self.tree.root()).nth(at).unwrap().1
    }

    fn apply(&mut self, operation: &Operation) {
        let root = self.tree.root();
        let len = self.model.0.len();
        match *operation {
            Operation::Insert(range, kind, claim) => {
                let it = self.resource(range, kind, claim);
                let expected = self.model.conflict(range).cloned();
                let done = self.tree.insert(root, it.clone());
                let conflict = match done {
                    Ok(_) => None,
                    Err(super::InsertError::Conflict { with, .. }) => Some(with),
                    Err(error) => panic!("{error}"),
                };
                assert_eq!(conflict, expected);
                self.model.insert(it);
            }
            Operation::Request(range, kind, claim) => {
                let it = self.resource(range, kind, claim);
                let taken = self.model.0.iter().any(|line| line.it.range.overlaps(range));
                assert_eq!(self.tree.request(root, it.clone()).is_err(), taken);
                if !taken {
                    self.model.insert(it);
                }
            }
            Operation::RequestRegion(range, kind) => {
                let it = self.resource(range, kind, Claim::Busy);
                let done = self.model.request_region(it.clone());
                assert_eq!(self.tree.request_region(root, it).is_ok(), done);
            }
            Operation::ExpandToFit(range, kind) => {
                let mut it = self.resource(range, kind, Claim::Open);
                let done = self.tree.insert_expand_to_fit(it.clone()).unwrap();
                while let Some(conflict) = self.model.conflict(it.range) {
                    it.range = it.range.hull(conflict.range);
                }
                assert_eq!(done.range, it.range);
                self.model.insert(it);
            }
            Operation::Remove(at) if len > 0 => {
                let at = at.index(len);
                let end = self.model.end_of(at);
                self.model.0[at..end].iter_mut().skip(1).for_each(|line| line.depth -= 1);
                let id = self.id_at(at);
                assert_eq!(self.tree.remove(id), Ok(self.model.0.remove(at).it));
                assert_eq!(self.tree.get(id), None);
            }
            Operation::Release(at) if len > 0 => {
                let at = at.index(len);
                let gone = self.model.0.drain(at..self.model.end_of(at));
                let gone: Vec<_> = gone.map(|line| line.it).collect();
                assert_eq!(self.tree.release(self.id_at(at)), Ok(gone));
            }
            Operation::Adjust(at, range) if len > 0 => {
                let (at, id) = (at.index(len), self.id_at(at.index(len)));
                assert_eq!(self.tree.adjust(id, range).is_ok(), self.model.adjust(at, range));
            }
            Operation::Remove(_) | Operation::Release(_) | Operation::Adjust(..) => {}
        }
    }

    fn check(&self) {
        self.tree.validate();
        let lines = self.tree.resources().map(|(depth, it)| Line { depth, it: it.clone() });
        assert_eq!(lines.collect::<Vec<_>>(), self.model.0);
    }
}

fn spans() -> impl Strategy<Value = PhysRange> {
    (0..=TOP, prop_oneof![0u64..8, 0u64..40]).prop_map(|(start, more)| span(start, more))
}

fn operations() -> impl Strategy<Value = Operation> {
    let claims = || prop_oneof![Just(Claim::Open), Just(Claim::Busy)];
    let some = any::<prop::sample::Index>;
    prop_oneof![
        4 => (spans(), 0usize..3, claims()).prop_map(|(a, b, c)| Operation::Insert(a, b, c)),
        1 => (spans(), 0usize..3, claims()).prop_map(|(a, b, c)| Operation::Request(a, b, c)),
        2 => (spans(), 0usize..3).prop_map(|(a, b)| Operation::RequestRegion(a, b)),
        2 => (spans(), 0usize..3).prop_map(|(a, b)| Operation::ExpandToFit(a, b)),
        2 => some().prop_map(Operation::Remove),
        1 => some().prop_map(Operation::Release),
        2 => (some(), spans()).prop_map(|(a, b)| Operation::Adjust(a, b)),
    ]
}

proptest! {
    #[test]
    fn the_tree_does_as_the_lines_do(
        all in prop::collection::vec(operations(), 1..40),
        asked in prop::collection::vec((spans(), 0usize..3), 8),
        searched in prop::collection::vec(
            (spans(), 1u64..20, 0u32..4, any::<bool>(), spans()), 12),
    ) {
        let mut world = World { tree: Tree::new(span(0, TOP)), model: Lines::default(), made: 0 };
        for operation in &all {
            world.apply(operation);
            world.check();
        }
        for &(range, kind) in &asked {
            let what = What::Kind(KINDS[kind]);
            let expected = world.model.intersects(range, KINDS[kind]);
            prop_assert_eq!(world.tree.region_intersects(range, what), expected);
        }
        for &(within, bytes, align, up, avoid) in &searched {
            let direction = if up { Direction::Ascending } else { Direction::Descending };
            let search = Search { within, align: 1 << align, direction, avoid: &[avoid] };
            let root = world.tree.root();
            let found = world.tree.find_free(root, bytes, &search).ok();
            prop_assert_eq!(found, world.model.find_free(bytes, &search));
            let largest = world.tree.largest_free(root, search.align, &search).unwrap();
            let find = |bytes| world.tree.find_free(root, bytes, &search).is_ok();
            prop_assert!(largest == 0 || find(largest));
            prop_assert!(!find(largest + 1));
        }
    }
}
