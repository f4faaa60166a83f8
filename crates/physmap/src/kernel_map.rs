//! Our map beside the kernel's: every difference, and the rule by which they differ.
//!
//! The map of [`crate::reconcile`] is what Linux should make of the same tables. Whether it does is
//! seen in `/proc/iomem`, which also has what Linux knows from elsewhere: buses and registers from
//! drivers, its own image, memory that was plugged in, what the command line said.
//! [`compare`] lists what is not the same on both sides and says of each why that is as it should
//! be, or that it does not know ([`Rule::Unexplained`]): then one of the two is wrong.
//!
//! [`AddressMap::of_kernel`] is the other way round: the map of a running machine, with the
//! windows' decoders and what they may use, for who wants to allocate there.
//!
//! Lines come in as (depth, range, name), in the order of the file. What is deeper than the kernel
//! indents (`MAX_IORES_LEVEL`) is at the depth of the line that it is inside of, and found there
//! all the same.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec::Vec,
};

use memtide_units::{PhysAddr, PhysRange};

use crate::{
    map::AddressMap,
    ranges,
    resource::{Claim, InsertError, Kind, MAX_RESOURCES, Resource, ResourceId, Tree},
    window::Window,
    windows::{MAX_WINDOWS, place_as_seen},
};

mod rule;
#[cfg(test)]
mod tests;

pub use rule::Rule;

/// How deep resources of a kernel lie in each other at most; six or seven are seen.
pub const MAX_DEPTH: usize = 64;

/// One line of `/proc/iomem`: depth, range, name.
pub type Line = (usize, PhysRange, String);

/// Why lines are no map.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LineError {
    /// More lines than a tree takes.
    #[error("{lines} lines; at most {MAX_RESOURCES} are taken")]
    TooManyLines {
        /// How many there are.
        lines: usize,
    },
    /// More windows than are taken.
    #[error("{windows} windows; at most {MAX_WINDOWS} are taken")]
    TooManyWindows {
        /// How many there are.
        windows: usize,
    },
    /// A line inside of too many others.
    #[error("line {line} is inside of more than {MAX_DEPTH} others")]
    TooDeep {
        /// Its number, from 1.
        line: usize,
    },
    /// A line that does not go where it stands.
    #[error("line {line} ({name}) does not go where it stands: {error}")]
    Place {
        /// Its number, from 1.
        line: usize,
        /// Its name.
        name: String,
        /// What is wrong.
        error: InsertError,
    },
}

/// Something that is not the same on both sides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// What our map has.
    pub ours: Option<Resource>,
    /// What the kernel's has.
    pub kernel: Option<Resource>,
    /// Why.
    pub rule: Rule,
}

impl core::fmt::Display for Difference {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match (&self.ours, &self.kernel) {
            (Some(ours), Some(kernel)) => write!(f, "{ours} is {kernel} in the kernel's map: ")?,
            (Some(ours), None) => write!(f, "{ours} is not in the kernel's map: ")?,
            (None, Some(kernel)) => write!(f, "{kernel} is only in the kernel's map: ")?,
            (None, None) => {}
        }
        write!(f, "{}", self.rule)
    }
}

/// The tree that lines describe.
///
/// # Errors
///
/// [`LineError`].
pub fn tree_of(lines: &[Line]) -> Result<Tree, LineError> {
    if lines.len() > MAX_RESOURCES {
        return Err(LineError::TooManyLines { lines: lines.len() });
    }
    let all = PhysRange::new(PhysAddr(0), PhysAddr(u64::MAX)).expect("the last is not below");
    let mut tree = Tree::new(all);
    // What a line may be inside of: the last one of each depth, which need not be its own.
    let mut open: Vec<(usize, ResourceId)> = Vec::new();
    for (at, (depth, range, name)) in lines.iter().enumerate() {
        open.truncate(*depth);
        let (mut level, mut parent) = open.last().copied().unwrap_or((0, tree.root()));
        let resource = Resource::open(*range, Kind::of_name(name), name.as_str());
        let claim = match resource.kind {
            Kind::SystemRam | Kind::Acpi => Claim::Busy,
            _ => Claim::Open,
        };
        let id = loop {
            level += 1;
            if level > MAX_DEPTH {
                return Err(LineError::TooDeep { line: at + 1 });
            }
            match tree.request(parent, Resource { claim, ..resource.clone() }) {
                Ok(id) => break id,
                Err(InsertError::Conflict { id, with, .. }) if with.range.contains(*range) => {
                    parent = id;
                }
                Err(error) => {
                    return Err(LineError::Place { line: at + 1, name: name.clone(), error });
                }
            }
        };
        open.push((level, id));
    }
    Ok(tree)
}

impl AddressMap {
    /// The map of a running machine: the kernel's, with the windows of the CEDT found in it by
    /// name. Its root ends at `top`, the last address that the machine has.
    ///
    /// # Errors
    ///
    /// [`LineError`].
    pub fn of_kernel(lines: &[Line], windows: &[Window], top: PhysAddr) -> Result<Self, LineError> {
        if windows.len() > MAX_WINDOWS {
            return Err(LineError::TooManyWindows { windows: windows.len() });
        }
        let mut tree = tree_of(lines)?;
        let highest = tree.children(tree.root()).last().and_then(|&id| tree.get(id));
        let top = highest.map_or(top, |it| it.range.last().max(top));
        let all = PhysRange::new(PhysAddr(0), top).expect("no address is below 0");
        tree.adjust(tree.root(), all).expect("the root covers the highest resource");
        let windows = place_as_seen(&tree, windows);
        let set_aside = windows.iter().filter_map(crate::reconcile::left_out);
        Ok(Self { set_aside: ranges::union(set_aside), tree, windows })
    }
}

/// All differences between a map and the kernel's, by ascending addresses.
///
/// # Errors
///
/// [`LineError`] if the lines are no map.
pub fn compare(map: &AddressMap, lines: &[Line]) -> Result<Vec<Difference>, LineError> {
    let (ours, kernel) = (Side::new(&map.tree), tree_of(lines)?);
    let kernel = Side::new(&kernel);
    let mut found = Vec::new();
    let mut paired = BTreeSet::new();
    for &id in ours.order.iter().filter(|&&id| !kernel.keys.contains_key(&ours.key(id))) {
        let (rule, other) = rule::only_ours(&ours, id, &kernel);
        paired.extend(other);
        let other = other.map(|id| kernel.get(id).clone());
        found.push(Difference { ours: Some(ours.get(id).clone()), kernel: other, rule });
    }
    for &id in &kernel.order {
        match ours.keys.get(&kernel.key(id)) {
            Some(&same) => {
                // Where something of ours is, only what both sides have counts as around it.
                if ours.around(same, &kernel) != kernel.around(id, &ours) {
                    let both = (ours.get(same).clone(), kernel.get(id).clone());
                    let rule = Rule::Nesting;
                    found.push(Difference { ours: Some(both.0), kernel: Some(both.1), rule });
                }
            }
            None if paired.contains(&id) => {}
            None => {
                let rule = rule::only_kernels(&kernel, id, &ours);
                found.push(Difference { ours: None, kernel: Some(kernel.get(id).clone()), rule });
            }
        }
    }
    found.sort_by_key(|it| it.ours.as_ref().or(it.kernel.as_ref()).map(|it| it.range));
    Ok(found)
}

/// What tells two resources apart.
type Key = (PhysRange, String);

/// One side, indexed so that no question takes a walk over all of it.
struct Side<'a> {
    tree: &'a Tree,
    order: Vec<ResourceId>,
    keys: BTreeMap<Key, ResourceId>,
    /// By name, ascending.
    names: BTreeMap<&'a str, Vec<ResourceId>>,
    /// Where memory of any kind is, kept for whatever purpose.
    memory: Vec<PhysRange>,
}

impl<'a> Side<'a> {
    fn new(tree: &'a Tree) -> Self {
        let order: Vec<_> = tree.walk(tree.root()).map(|(_, id)| id).collect();
        let of = |id| tree.get(id).expect("what is walked over is in the tree");
        let mut names: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for &id in &order {
            names.entry(of(id).name.as_str()).or_default().push(id);
        }
        let memory = order.iter().map(|&id| of(id)).filter(|it| is_memory(it.kind));
        let memory = ranges::union(memory.map(|it| it.range));
        // Of two with the same key the outer one counts, which the walk has first.
        let keys =
            order.iter().rev().map(|&id| ((of(id).range, of(id).name.clone()), id)).collect();
        Self { tree, order, keys, names, memory }
    }

    fn get(&self, id: ResourceId) -> &'a Resource {
        self.tree.get(id).expect("ids of a side are of its tree")
    }

    fn key(&self, id: ResourceId) -> Key {
        let it = self.get(id);
        (it.range, it.name.clone())
    }

    /// All that a resource is in, from the inside out.
    fn outer(&self, id: ResourceId) -> impl Iterator<Item = ResourceId> {
        let up = |&id: &ResourceId| self.tree.parent(id);
        core::iter::successors(self.tree.parent(id), up).filter(|&id| id != self.tree.root())
    }

    /// The innermost resource around one that the other side has, too.
    fn around(&self, id: ResourceId, other: &Side<'_>) -> Option<Key> {
        self.outer(id).map(|id| self.key(id)).find(|key| other.keys.contains_key(key))
    }

    /// The first resource of a name that overlaps a range.
    fn named(&self, name: &str, range: PhysRange) -> Option<ResourceId> {
        let all = self.names.get(name)?;
        // Those of one name may be inside each other, so their ends need not ascend.
        all.iter().copied().find(|&id| self.get(id).range.overlaps(range))
    }
}

/// Whether a kind is memory, or addresses kept from being any.
const fn is_memory(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::SystemRam | Kind::SoftReserved | Kind::Persistent | Kind::Reserved | Kind::Acpi
    )
}
