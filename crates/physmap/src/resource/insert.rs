//! Putting a resource into the tree: on request, or by force of fact.
//!
//! Who *requests* a range wants it for himself: anything there already is a conflict
//! (`__request_resource`); a region is also put inside of what is merely described
//! (`__request_region`). Who *inserts* one states that it exists: it goes to where it fits, and
//! what lies in it becomes its children (`__insert_resource`). Only a partial overlap, half inside
//! and half outside, cannot be made true.

use alloc::{string::String, vec::Vec};

use memtide_units::PhysRange;

use super::{Claim, MAX_RESOURCES, NoSuchResource, Resource, ResourceId, Tree, tree::Node};

/// Why a resource does not go in.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InsertError {
    /// It would have to share addresses with one that it cannot be in, nor have in it.
    #[error("{range} conflicts with {with}")]
    Conflict {
        /// The range that was to go in.
        range: PhysRange,
        /// Who is in the way.
        id: ResourceId,
        /// The same, as it is.
        with: Resource,
    },
    /// It is not wholly inside of what it was to go in.
    #[error("{range} is not inside {name} {outer}")]
    Outside {
        /// The range that was to go in.
        range: PhysRange,
        /// The addresses that it was to go in.
        outer: PhysRange,
        /// Their name.
        name: String,
    },
    /// The tree is full.
    #[error("the tree has {max} resources already, as many as it takes")]
    Full {
        /// How many it takes.
        max: usize,
    },
    /// The parent is gone.
    #[error(transparent)]
    Gone(#[from] NoSuchResource),
}

/// Where a resource goes: to which place among whose children, and how many of these it takes in.
pub(super) struct Spot {
    parent: ResourceId,
    at: usize,
    adopts: usize,
}

impl Tree {
    /// Puts a resource directly into `parent`, if nothing else is there (`request_resource`).
    ///
    /// # Errors
    ///
    /// The lowest child of `parent` that overlaps, or one of the other [`InsertError`]s.
    pub fn request(
        &mut self,
        parent: ResourceId,
        resource: Resource,
    ) -> Result<ResourceId, InsertError> {
        let spot = self.request_spot(parent, resource.range)?;
        Ok(self.put_at(spot, resource))
    }

    /// Puts a resource in as deep as it has to be below `parent`; what is inside of it becomes its
    /// children (`insert_resource`). One with the very same range becomes a child, too.
    ///
    /// # Errors
    ///
    /// The lowest resource that it overlaps in part, or one of the other [`InsertError`]s.
    pub fn insert(
        &mut self,
        parent: ResourceId,
        resource: Resource,
    ) -> Result<ResourceId, InsertError> {
        let spot = self.insert_spot(parent, resource.range)?;
        Ok(self.put_at(spot, resource))
    }

    /// Requests a busy region: directly in `parent`, or in what is there and not busy
    /// (`__request_region`).
    ///
    /// # Errors
    ///
    /// The busy resource that overlaps, or one that overlaps in part; or one of the other
    /// [`InsertError`]s.
    pub fn request_region(
        &mut self,
        mut parent: ResourceId,
        mut resource: Resource,
    ) -> Result<ResourceId, InsertError> {
        resource.claim = Claim::Busy;
        loop {
            match self.request_spot(parent, resource.range) {
                Ok(spot) => return Ok(self.put_at(spot, resource)),
                Err(InsertError::Conflict { id, with, .. })
                    if with.claim == Claim::Open && with.range.contains(resource.range) =>
                {
                    parent = id;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Puts a resource in as deep as it can be below `parent`: inside of all that it fits into,
    /// also where the ranges are the same.
    ///
    /// # Errors
    ///
    /// The lowest resource that overlaps and that it does not fit into, or one of the other
    /// [`InsertError`]s.
    pub fn nest(
        &mut self,
        mut parent: ResourceId,
        resource: Resource,
    ) -> Result<ResourceId, InsertError> {
        loop {
            match self.request_spot(parent, resource.range) {
                Ok(spot) => return Ok(self.put_at(spot, resource)),
                Err(InsertError::Conflict { id, with, .. })
                    if with.range.contains(resource.range) =>
                {
                    parent = id;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn request_spot(&self, parent: ResourceId, range: PhysRange) -> Result<Spot, InsertError> {
        let (at, first) = self.first_at_or_above(parent, range)?;
        match first {
            Some(id) if self.range(id).overlaps(range) => Err(self.conflict(id, range)),
            _ => Ok(Spot { parent, at, adopts: 0 }),
        }
    }

    pub(super) fn insert_spot(
        &self,
        mut parent: ResourceId,
        range: PhysRange,
    ) -> Result<Spot, InsertError> {
        let (at, first) = loop {
            let (at, first) = self.first_at_or_above(parent, range)?;
            let Some(id) = first.filter(|&id| self.range(id).overlaps(range)) else {
                return Ok(Spot { parent, at, adopts: 0 });
            };
            if !self.range(id).contains(range) || self.range(id) == range {
                break (at, id);
            }
            parent = id;
        };
        let brothers = &self.children(parent)[at..];
        let adopts = brothers.partition_point(|&id| self.range(id).start() <= range.last());
        for id in [first, brothers[adopts - 1]] {
            if !range.contains(self.range(id)) {
                return Err(self.conflict(id, range));
            }
        }
        Ok(Spot { parent, at, adopts })
    }

    /// The first child that ends at or above the start of `range`, and its place.
    fn first_at_or_above(
        &self,
        parent: ResourceId,
        range: PhysRange,
    ) -> Result<(usize, Option<ResourceId>), InsertError> {
        let node = self.node(parent).ok_or(NoSuchResource)?;
        if self.is_full() {
            return Err(InsertError::Full { max: MAX_RESOURCES });
        }
        let Resource { range: outer, name, .. } = &node.resource;
        if !outer.contains(range) {
            return Err(InsertError::Outside { range, outer: *outer, name: name.clone() });
        }
        let at = node.children.partition_point(|&id| self.range(id).last() < range.start());
        Ok((at, node.children.get(at).copied()))
    }

    fn conflict(&self, id: ResourceId, range: PhysRange) -> InsertError {
        InsertError::Conflict { range, id, with: self.at(id).resource.clone() }
    }

    pub(super) fn put_at(&mut self, spot: Spot, resource: Resource) -> ResourceId {
        let Spot { parent, at, adopts } = spot;
        let children: Vec<_> = self.children(parent)[at..at + adopts].to_vec();
        let id = self.put(Node { resource, parent: Some(parent), children });
        for child in self.children(id).to_vec() {
            self.at_mut(child).parent = Some(id);
        }
        self.at_mut(parent).children.splice(at..at + adopts, [id]);
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::samples::{named as open, range};
    use alloc::string::ToString;

    #[test]
    fn a_request_conflicts_with_the_lowest_that_overlaps() {
        let mut tree = Tree::new(range(0, 99));
        let root = tree.root();
        let low = tree.request(root, open(10, 19, "low")).unwrap();
        tree.request(root, open(30, 39, "high")).unwrap();
        let error = tree.request(root, open(15, 35, "both")).unwrap_err();
        assert!(matches!(error, InsertError::Conflict { id, .. } if id == low), "{error}");
        assert!(matches!(
            tree.request(root, open(90, 100, "over")),
            Err(InsertError::Outside { .. })
        ));
        tree.request(root, open(20, 29, "between")).unwrap();
        tree.validate();
        assert_eq!(tree.len(), 3);
    }

    #[test]
    fn what_is_inserted_goes_down_and_takes_in() {
        let mut tree = Tree::new(range(0, 99));
        let root = tree.root();
        let outer = tree.insert(root, open(10, 79, "outer")).unwrap();
        let [a, b] = [20, 40].map(|at| tree.insert(root, open(at, at + 9, "leaf")).unwrap());
        assert_eq!(tree.children(outer), [a, b]);
        let same = tree.insert(root, open(10, 79, "same range")).unwrap();
        assert_eq!((tree.children(root), tree.children(same)), (&[same][..], &[outer][..]));
        let middle = tree.insert(root, open(15, 60, "middle")).unwrap();
        assert_eq!((tree.parent(middle), tree.children(middle)), (Some(outer), &[a, b][..]));
        let error = tree.insert(root, open(25, 45, "halves")).unwrap_err();
        assert!(matches!(error, InsertError::Conflict { id, .. } if id == a), "{error}");
        tree.validate();
    }

    #[test]
    fn a_region_goes_into_what_is_not_busy() {
        let mut tree = Tree::new(range(0, 99));
        let root = tree.root();
        let window = tree.insert(root, open(10, 79, "window")).unwrap();
        let region = tree.request_region(root, open(20, 29, "region")).unwrap();
        assert_eq!(tree.parent(region), Some(window));
        assert_eq!(tree.get(region).unwrap().claim, Claim::Busy);
        assert!(tree.request_region(root, open(22, 25, "inside")).is_err());
        assert!(tree.request_region(root, open(70, 85, "half out")).is_err());
        tree.validate();
    }

    #[test]
    fn what_is_nested_goes_inside_of_the_same_range() {
        let mut tree = Tree::new(range(0, 99));
        let root = tree.root();
        let names = ["region0", "dax0.0", "System RAM (kmem)"];
        let [region, dax, ram] = names.map(|name| tree.nest(root, open(10, 79, name)).unwrap());
        assert_eq!((tree.parent(ram), tree.parent(dax)), (Some(dax), Some(region)));
        assert!(tree.nest(root, open(10, 80, "wider")).is_err());
        assert_eq!(
            tree.nest(root, open(90, 100, "out")).unwrap_err().to_string(),
            "0x5a-0x64 is not inside PCI mem 0x0-0x63"
        );
        tree.validate();
    }

    #[test]
    fn a_full_tree_says_so() {
        let mut tree = Tree::new(range(0, u64::MAX));
        let root = tree.root();
        for at in 0..MAX_RESOURCES as u64 {
            tree.request(root, open(at, at, "one")).unwrap();
        }
        let error = tree.insert(root, open(1 << 40, 1 << 41, "more")).unwrap_err();
        assert_eq!(error, InsertError::Full { max: MAX_RESOURCES });
        tree.validate();
    }
}
