//! Inserting what cannot be refused: it grows until it covers whatever is in its way.
//!
//! Firmware may have handed over, as System RAM, a range that begins inside a CXL window and ends
//! beyond it. The window is a fact, and so is the RAM. Linux widens the window until the RAM fits
//! in (`insert_resource_expand_to_fit`), and so the tree stays a tree; that the window is then
//! larger than what its decoder decodes is the business of [`crate::windows`].

use alloc::vec::Vec;

use memtide_units::PhysRange;

use super::{InsertError, Resource, ResourceId, Tree};

/// A resource in the tree, and what made it grow.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Expanded {
    /// The resource.
    pub id: ResourceId,
    /// Its range in the end.
    pub range: PhysRange,
    /// Each step of its growth.
    pub steps: Vec<Expansion>,
}

/// One step: whom the resource grew to cover.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Expansion {
    /// The range before.
    pub from: PhysRange,
    /// Who was in the way.
    pub by: Resource,
}

impl Tree {
    /// Inserts a resource below the root, wider if it must be.
    ///
    /// # Errors
    ///
    /// [`InsertError::Outside`] and [`InsertError::Full`]; never a conflict. The kernel leaves
    /// silently in the first case, without having inserted anything.
    pub fn insert_expand_to_fit(
        &mut self,
        mut resource: Resource,
    ) -> Result<Expanded, InsertError> {
        let mut steps = Vec::new();
        // Each round covers one resource more that was half inside, so the rounds come to an end.
        let spot = loop {
            match self.insert_spot(self.root(), resource.range) {
                Ok(spot) => break spot,
                Err(InsertError::Conflict { with, .. }) => {
                    let from = resource.range;
                    resource.range = from.hull(with.range);
                    steps.push(Expansion { from, by: with });
                }
                Err(error) => return Err(error),
            }
        };
        let range = resource.range;
        Ok(Expanded { id: self.put_at(spot, resource), range, steps })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::samples::named as open;

    #[test]
    fn it_grows_on_both_sides_and_over_what_it_meets_then() {
        let mut tree = Tree::new(open(0, 999, "").range);
        let root = tree.root();
        for (start, last) in [(90, 109), (190, 219), (220, 230)] {
            tree.request(root, open(start, last, "ram")).unwrap();
        }
        let done = tree.insert_expand_to_fit(open(100, 199, "window")).unwrap();
        assert_eq!(done.range, open(90, 219, "").range);
        assert_eq!(done.steps.len(), 2);
        assert_eq!(tree.children(done.id).len(), 2);
        assert_eq!(tree.children(root).len(), 2);
        tree.validate();
    }

    #[test]
    fn it_grows_out_of_a_parent_that_it_only_half_fits() {
        let mut tree = Tree::new(open(0, 999, "").range);
        let root = tree.root();
        let bus = tree.request(root, open(100, 199, "bus")).unwrap();
        let inner = tree.insert(root, open(150, 160, "device")).unwrap();
        let done = tree.insert_expand_to_fit(open(155, 250, "window")).unwrap();
        assert_eq!(done.range, open(100, 250, "").range);
        assert_eq!((tree.parent(bus), tree.parent(inner)), (Some(done.id), Some(bus)));
        tree.validate();
    }

    #[test]
    fn beyond_the_root_nothing_happens_and_is_said() {
        let mut tree = Tree::new(open(0, 999, "").range);
        let error = tree.insert_expand_to_fit(open(900, 1000, "window")).unwrap_err();
        assert!(matches!(error, InsertError::Outside { .. }), "{error}");
        assert!(tree.is_empty());
    }
}
