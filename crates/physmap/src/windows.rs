//! CXL windows in the tree: where each goes, and what each decoder may use.
//!
//! Linux learns of the windows late, when the drivers come up, and finds some of their addresses in
//! use: firmware handed them over as System RAM, in one piece with what lies beside. It goes about
//! it in four steps (`add_cxl_resources`, `pair_cxl_resource`):
//!
//! 1. All windows into a private tree, which sorts them. One that overlaps another in part is left
//!    out. One inside another becomes its child there, and is never seen in public.
//! 2. Each into the public tree, wider if it must be, so that what is in its way gets inside.
//! 3. A later private window that the wider one covers is deleted; one that it reaches into is
//!    trimmed, and begins behind it.
//! 4. A window's decoder gets the public resource of the private window that contains *all that the
//!    decoder decodes*.
//!
//! Three things go wrong. A trimmed window does not contain its decoder's addresses any more, nor
//! does anything else, so the decoder gets nothing, and all that is left of the window is lost: who
//! makes a region there crashes the kernel (6.12, a null pointer in `get_free_mem_region`). A
//! widened window is larger than what its decoder decodes, so that a region may be placed where no
//! access ever arrives. And step 2 widens only where the overlap is partial: a window that lies
//! wholly in a larger range of firmware's goes *into* that, has no children there, and looks free
//! to Linux from end to end (seen on 6.12). [`crate::allocate`] looks at what is around, too.
//!
//! So here a decoder has a *territory*: those parts of the addresses that it decodes, each with the
//! public resource that they lie in. For a trimmed window that is its tail in its own resource, and
//! its head in the wider neighbour's, where something lies now but need not for ever. A decoder
//! never gets an address that it does not decode, and always those that it does; what is free among
//! them the tree knows ([`Tree::find_free`]). What Linux would pair stays on record, for whoever
//! compares ([`PlacedWindow::kernel_resource`]).

use alloc::{collections::BTreeMap, format, string::String, vec, vec::Vec};
use core::cmp::Reverse;

use memtide_units::{PhysAddr, PhysRange};

use crate::{
    ranges,
    resource::{Expansion, InsertError, Kind, Resource, ResourceId, Tree},
    window::{Window, WindowError},
};

/// How many windows a machine may have here. The largest servers have some tens.
pub const MAX_WINDOWS: usize = 512;

/// A part of what a decoder decodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Territory {
    /// The public resource that it lies in, directly or not.
    pub resource: ResourceId,
    /// The addresses.
    pub range: PhysRange,
}

/// What became of a window.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Fate {
    /// It cannot be, and is left out.
    Refused(WindowError),
    /// It overlaps an earlier window in part, and is left out.
    Overlaps {
        /// The place of the other one in the list.
        other: usize,
    },
    /// It is inside of another window, and has no public resource of its own.
    Nested {
        /// The place of the outermost window that it is in.
        within: usize,
    },
    /// A window below grew over all of it; it has no public resource of its own.
    Deleted {
        /// The place of the one that grew.
        by: usize,
    },
    /// A running kernel has no resource of its name, for whichever of these reasons.
    Unseen,
    /// It does not go into the public tree at all.
    Rejected(InsertError),
    /// It has a public resource.
    Placed {
        /// The resource.
        resource: ResourceId,
        /// Its range, trimmed and widened.
        range: PhysRange,
        /// The place of the window below that grew into it and trimmed it.
        trimmed_by: Option<usize>,
        /// What it was widened for.
        widened: Vec<Expansion>,
    },
}

/// A window, and what it comes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlacedWindow {
    /// What firmware says.
    pub window: Window,
    /// The number in its name, `CXL Window N`; none if Linux did not count it.
    pub number: Option<u32>,
    /// What its decoder decodes; none if it cannot be.
    pub decoder: Option<PhysRange>,
    /// What became of it.
    pub fate: Fate,
    /// The public resource in which Linux would place the regions of its decoder.
    pub kernel_resource: Option<ResourceId>,
    /// Where regions of its decoder may be.
    pub territory: Vec<Territory>,
}

impl PlacedWindow {
    /// The name of its resource.
    #[must_use]
    pub fn name(&self) -> String {
        match self.number {
            Some(number) => window_name(number),
            None => String::from("CXL window (not counted)"),
        }
    }
}

fn window_name(number: u32) -> String {
    format!("CXL Window {number}")
}

/// A window in the private tree's list of outermost ones.
struct Private {
    at: usize,
    range: PhysRange,
    trimmed_by: Option<usize>,
    public: Option<ResourceId>,
}

/// Puts windows, in the order of the table, into a tree that has what firmware handed over. Every
/// window may matter to every other: the caller limits their number ([`MAX_WINDOWS`]).
pub fn place_windows(tree: &mut Tree, windows: &[Window]) -> Vec<PlacedWindow> {
    let mut placed = verify_all(windows);
    let mut private = sort_privately(&mut placed);
    publish(tree, &mut placed, &mut private);
    for window in &mut placed {
        let Some(decoder) = window.decoder else { continue };
        if !matches!(window.fate, Fate::Overlaps { .. } | Fate::Rejected(_)) {
            let pair = private.iter().find(|private| private.range.contains(decoder));
            window.kernel_resource = pair.and_then(|private| private.public);
        }
    }
    settle_territories(tree, &mut placed);
    placed
}

fn settle_territories(tree: &Tree, placed: &mut [PlacedWindow]) {
    let all: Vec<_> = (0..placed.len()).map(|at| territory(tree, placed, at)).collect();
    for (window, territory) in placed.iter_mut().zip(all) {
        window.territory = territory;
    }
}

/// Finds windows by name in the tree of a running kernel, which has placed them itself.
pub fn place_as_seen(tree: &Tree, windows: &[Window]) -> Vec<PlacedWindow> {
    let mut placed = verify_all(windows);
    sort_privately(&mut placed);
    let seen = tree.walk(tree.root()).filter_map(|(_, id)| Some((id, tree.get(id)?)));
    let seen = seen.filter(|(_, it)| it.kind == Kind::CxlWindow);
    let seen: BTreeMap<_, _> = seen.map(|(id, it)| (it.name.as_str(), (id, it.range))).collect();
    for window in &mut placed {
        let Some(decoder) = window.decoder else { continue };
        if matches!(window.fate, Fate::Overlaps { .. } | Fate::Nested { .. }) {
            continue;
        }
        window.fate = match seen.get(window.name().as_str()) {
            None => Fate::Unseen,
            Some(&(resource, range)) => {
                // Linux pairs it unless it was trimmed.
                window.kernel_resource = range.contains(decoder).then_some(resource);
                Fate::Placed { resource, range, trimmed_by: None, widened: vec![] }
            }
        };
    }
    settle_territories(tree, &mut placed);
    placed
}

/// Looks at each window alone, and numbers them.
fn verify_all(windows: &[Window]) -> Vec<PlacedWindow> {
    let mut next = 0;
    let verify = |window: &Window| {
        let decoder = window.verify();
        let counted = decoder.err().is_none_or(WindowError::is_counted);
        let number = counted.then_some(next);
        next += u32::from(counted);
        PlacedWindow {
            window: window.clone(),
            number,
            decoder: decoder.ok(),
            // Who is not refused here has another fate by the end.
            fate: Fate::Refused(decoder.err().unwrap_or(WindowError::Empty)),
            kernel_resource: None,
            territory: vec![],
        }
    };
    windows.iter().map(verify).collect()
}

/// The outermost windows of the private tree, sorted.
fn sort_privately(placed: &mut [PlacedWindow]) -> Vec<Private> {
    let all = PhysRange::new(PhysAddr(0), PhysAddr(u64::MAX)).expect("the last is not below");
    let mut tree = Tree::new(all);
    let mut of_id = BTreeMap::new();
    for (at, window) in placed.iter_mut().enumerate() {
        let Some(range) = window.decoder else { continue };
        match tree.insert(tree.root(), Resource::open(range, Kind::CxlWindow, "")) {
            Ok(id) => {
                of_id.insert(id, at);
            }
            Err(InsertError::Conflict { id, .. }) => {
                window.fate = Fate::Overlaps { other: of_id[&id] };
            }
            Err(error) => window.fate = Fate::Rejected(error),
        }
    }
    let outermost = tree.children(tree.root()).iter().map(|&id| {
        let within = of_id[&id];
        for (_, inner) in tree.walk(id) {
            placed[of_id[&inner]].fate = Fate::Nested { within };
        }
        let range = tree.get(id).expect("it is in the tree").range;
        Private { at: within, range, trimmed_by: None, public: None }
    });
    outermost.collect()
}

/// Steps 2 and 3. Takes what is deleted out of `private`.
fn publish(tree: &mut Tree, placed: &mut [PlacedWindow], private: &mut Vec<Private>) {
    let mut done = 0;
    while done < private.len() {
        let Private { at, range, trimmed_by, .. } = private[done];
        let resource = Resource::open(range, Kind::CxlWindow, placed[at].name());
        let expanded = match tree.insert_expand_to_fit(resource) {
            Ok(expanded) => expanded,
            Err(error) => {
                placed[at].fate = Fate::Rejected(error);
                private.remove(done);
                continue;
            }
        };
        private[done].public = Some(expanded.id);
        let covered = private[done + 1..]
            .iter()
            .take_while(|next| expanded.range.contains(next.range))
            .count();
        for next in private.drain(done + 1..done + 1 + covered) {
            placed[next.at].fate = Fate::Deleted { by: at };
        }
        if let Some(next) =
            private.get_mut(done + 1).filter(|next| next.range.overlaps(expanded.range))
        {
            let start = expanded.range.last().checked_add(1);
            let rest = start.and_then(|start| PhysRange::new(start, next.range.last()));
            next.range = rest.expect("what is not covered ends behind what covers a part of it");
            next.trimmed_by = Some(at);
        }
        placed[at].fate = Fate::Placed {
            resource: expanded.id,
            range: expanded.range,
            trimmed_by,
            widened: expanded.steps,
        };
        done += 1;
    }
}

/// The parts of what a decoder decodes, each with the innermost public window that it is in.
fn territory(tree: &Tree, placed: &[PlacedWindow], at: usize) -> Vec<Territory> {
    let window = &placed[at];
    let Some(decoder) = window.decoder else { return vec![] };
    if matches!(window.fate, Fate::Overlaps { .. } | Fate::Rejected(_)) {
        return vec![];
    }
    let depth = |mut id| {
        let mut depth = 0;
        while let Some(outer) = tree.parent(id) {
            (id, depth) = (outer, depth + 1);
        }
        depth
    };
    let mut publics: Vec<_> = placed
        .iter()
        .filter_map(|window| match window.fate {
            Fate::Placed { resource, range, .. } if range.overlaps(decoder) => {
                Some((Reverse(depth(resource)), range, resource))
            }
            _ => None,
        })
        .collect();
    publics.sort_unstable();
    let (mut left, mut parts) = (vec![decoder], Vec::new());
    for (_, public, resource) in publics {
        let shared = left.iter().filter_map(|range| range.intersection(public));
        parts.extend(shared.map(|range| Territory { resource, range }));
        left = left.iter().flat_map(|&range| ranges::without(range, &[public])).collect();
    }
    parts.sort_unstable_by_key(|part| part.range);
    parts
}

#[cfg(test)]
mod tests;
