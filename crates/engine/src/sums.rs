//! What all processes are promised and have, summed up.
//!
//! Whether one more promise or lease fits depends on what all others are promised. To look at all
//! of them each time would make every input as slow as there are processes. So it is summed up as
//! it changes, by tenant and by *reach*, the parts of nodes ([`crate::parts`]) that a process may
//! be given anything of. There are few of those: programs have their tenant's policy, or one of
//! their own with some of the few nodes there are. What is being zeroed is summed up by tenant and
//! part in the same way. (Below, "nodes" are parts of nodes.)
//!
//! The *family* is what [`crate::promise`] has to look at: the unions of any of the reaches of
//! which something is promised, with and without the nodes of any kinds of which there are quotas,
//! and of the nodes of any kind of which something is guaranteed; and the set of no nodes. It is
//! made anew when a reach comes or goes, and never has more than [`UNIONS_MAX`] members: with up to
//! nine nodes (five, if some tenants are never moved: then nodes have parts) that takes in every
//! set of them. A promise by whose reach it would have more is not given.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    vec::Vec,
};

use memtide_units::{TenantId, TokenId};

use crate::{engine::Engine, process::Process};

/// Most sets of nodes of which promises are counted.
pub(crate) const UNIONS_MAX: usize = 512;

/// Parts of nodes ([`crate::parts`]), ascending.
pub(crate) type Parts = Arc<[usize]>;

/// Sums over the processes of a tenant that reach the same parts. Amounts are pageblocks; what
/// tenants that fall back are promised has no bound, but sums of 2^64 of those have room here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Sum {
    pub(crate) processes: u64,
    /// How many of them are promised anything.
    promising: u64,
    /// [`Process::promised`].
    pub(crate) promised: u128,
    pub(crate) owned: u64,
}

/// All sums.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Sums {
    by: BTreeMap<(TenantId, Parts), Sum>,
    /// What is being zeroed after a tenant's processes, by part.
    zeroing: BTreeMap<(TenantId, usize), u64>,
    /// The parts of every kind within which something is guaranteed to somebody.
    guaranteed: BTreeSet<Parts>,
    /// All parts of every kind of which there are quotas.
    limited: BTreeSet<Parts>,
    /// The tenants that are promised what they must get.
    strict: BTreeSet<TenantId>,
    family: BTreeSet<Parts>,
    /// How often anything changed.
    pub(crate) changes: u64,
}

impl Sum {
    /// What is promised and not had.
    pub(crate) fn open(&self) -> u64 {
        u64::try_from(self.promised - u128::from(self.owned)).unwrap_or(u64::MAX)
    }

    fn put(&mut self, process: &Process) {
        self.processes += 1;
        self.promising += u64::from(process.committed > 0);
        self.promised += u128::from(process.promised());
        self.owned += process.owned;
    }

    fn take(&mut self, process: &Process) {
        self.processes -= 1;
        self.promising -= u64::from(process.committed > 0);
        self.promised -= u128::from(process.promised());
        self.owned -= process.owned;
    }
}

impl Sums {
    pub(crate) fn new(
        guaranteed: BTreeSet<Parts>,
        limited: BTreeSet<Parts>,
        strict: BTreeSet<TenantId>,
    ) -> Self {
        let family = closure(&guaranteed).expect("of three kinds, six sets have few unions");
        Self { guaranteed, limited, strict, family, ..Self::default() }
    }

    /// The sums of a tenant, by reach.
    pub(crate) fn of(&self, tenant: TenantId) -> impl Iterator<Item = (&Parts, &Sum)> {
        let none: Parts = Arc::new([]);
        let all = self.by.range((tenant, none)..).take_while(move |((of, _), _)| *of == tenant);
        all.map(|((_, reach), sum)| (reach, sum))
    }

    /// The sets of nodes of which promises are counted.
    pub(crate) fn family(&self) -> impl Iterator<Item = &Parts> {
        self.family.iter()
    }

    /// The family as it is with promises within a reach. None: it would be too large.
    pub(crate) fn family_with(&self, reach: &Parts) -> Option<BTreeSet<Parts>> {
        let mut all = self.family.clone();
        self.variants(reach).iter().all(|set| add(&mut all, set)).then_some(all)
    }

    /// A reach, with and without the nodes of any kinds of which there are quotas.
    fn variants(&self, reach: &Parts) -> Vec<Parts> {
        let mut all = alloc::vec![reach.clone()];
        for kind in &self.limited {
            let without = |set: &Parts| -> Parts {
                set.iter().copied().filter(|node| !kind.contains(node)).collect()
            };
            let less: Vec<Parts> = all.iter().map(without).collect();
            all.extend(less);
        }
        all
    }

    /// What is being zeroed after a tenant's processes in a part.
    pub(crate) fn zeroing_of(&self, tenant: TenantId, part: usize) -> u64 {
        self.zeroing.get(&(tenant, part)).copied().unwrap_or(0)
    }

    /// So much more, or less, is being zeroed.
    pub(crate) fn note_zeroing(&mut self, tenant: TenantId, part: usize, by: i64) {
        let sum = self.zeroing.entry((tenant, part)).or_default();
        *sum = sum.checked_add_signed(by).expect("what ends has begun");
        if *sum == 0 {
            self.zeroing.remove(&(tenant, part));
        }
        self.changes += 1;
    }

    /// Adds a process; says whether it is the first of its sum that is promised anything.
    fn put(&mut self, tenant: TenantId, process: &Process) -> bool {
        let sum = self.by.entry((tenant, process.reach.clone())).or_default();
        sum.put(process);
        self.changes += 1;
        sum.promising == 1 && process.committed > 0 && self.strict.contains(&tenant)
    }

    /// Takes one out; says whether it was the last such.
    fn take(&mut self, tenant: TenantId, process: &Process) -> bool {
        let key = (tenant, process.reach.clone());
        let sum = self.by.get_mut(&key).expect("what goes was there");
        sum.take(process);
        let is_last = sum.promising == 0;
        if sum.processes == 0 {
            self.by.remove(&key);
        }
        self.changes += 1;
        is_last && process.committed > 0 && self.strict.contains(&tenant)
    }

    fn make_family(&mut self) {
        let binds = |tenant: &TenantId| self.strict.contains(tenant);
        let promising = self.by.iter().filter(|((of, _), sum)| sum.promising > 0 && binds(of));
        let reaches: BTreeSet<&Parts> = promising.map(|((_, reach), _)| reach).collect();
        let mut sets: BTreeSet<_> =
            reaches.into_iter().flat_map(|reach| self.variants(reach)).collect();
        sets.extend(self.guaranteed.iter().cloned());
        self.family = closure(&sets).expect("a promise that makes it too large is not given");
    }
}

/// Whether all of these nodes are among those.
pub(crate) fn is_within(nodes: &[usize], among: &[usize]) -> bool {
    nodes.iter().all(|node| among.binary_search(node).is_ok())
}

/// The unions of any of these sets; none when there are too many.
fn closure(sets: &BTreeSet<Parts>) -> Option<BTreeSet<Parts>> {
    let mut all = BTreeSet::from([Parts::default()]);
    sets.iter().all(|set| add(&mut all, set)).then_some(all)
}

/// Adds a set, and its unions with those that are there, if there are not too many then.
fn add(all: &mut BTreeSet<Parts>, set: &Parts) -> bool {
    if all.contains(set) {
        return true;
    }
    let union = |other: &Parts| other.iter().chain(&**set).copied().collect::<BTreeSet<usize>>();
    let new: Vec<Parts> = all.iter().map(|other| union(other).into_iter().collect()).collect();
    all.extend(new);
    all.len() <= UNIONS_MAX
}

impl Engine {
    /// Changes what is promised to a process, what it has, or what it reaches.
    pub(crate) fn recount(&mut self, token: TokenId, change: impl FnOnce(&mut Process)) {
        let tenant = self.tenant_of(token);
        let process = self.processes.get_mut(&token).expect("tokens in the books have a process");
        let before = process.reach.clone();
        let was_last = self.sums.take(tenant, process);
        change(process);
        let is_first = self.sums.put(tenant, process);
        if was_last != is_first || was_last && before != process.reach {
            self.sums.make_family();
        }
    }

    /// A process is new, or goes.
    pub(crate) fn count_in(&mut self, token: TokenId) {
        let tenant = self.tenant_of(token);
        if self.sums.put(tenant, &self.processes[&token]) {
            self.sums.make_family();
        }
    }

    pub(crate) fn count_out(&mut self, token: TokenId) {
        let tenant = self.tenant_of(token);
        if self.sums.take(tenant, &self.processes[&token]) {
            self.sums.make_family();
        }
    }

    /// The sums as they should be.
    pub(crate) fn validate_sums(&self) {
        let mut sums = {
            let of = &self.sums;
            Sums::new(of.guaranteed.clone(), of.limited.clone(), of.strict.clone())
        };
        for (&token, process) in &self.processes {
            sums.put(self.tenant_of(token), process);
        }
        for (&pageblock, residue) in &self.zeroing {
            let tenant = self.images[&residue.image].tenant;
            sums.note_zeroing(tenant, self.part_of(pageblock), 1);
        }
        sums.make_family();
        sums.changes = self.sums.changes;
        assert_eq!(sums, self.sums, "the sums are not those of the processes");
    }
}
