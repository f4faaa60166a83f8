//! Giving a resource another range where it is (`adjust_resource`).

use memtide_units::PhysRange;

use super::{NoSuchResource, Resource, ResourceId, Tree};

/// Why a resource keeps its range.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdjustError {
    /// It would reach out of its parent.
    #[error("{range} is not inside {parent}")]
    OutsideParent {
        /// The range that was asked for.
        range: PhysRange,
        /// The parent.
        parent: Resource,
    },
    /// It would reach into, or jump over, the resource beside it.
    #[error("{range} conflicts with its neighbour {neighbour}")]
    Neighbour {
        /// The range that was asked for.
        range: PhysRange,
        /// The resource beside it.
        neighbour: Resource,
    },
    /// It would not cover what is in it.
    #[error("{range} does not cover {child}, which is inside")]
    Child {
        /// The range that was asked for.
        range: PhysRange,
        /// The lowest child that would be out.
        child: Resource,
    },
    /// There is no such resource.
    #[error(transparent)]
    Gone(#[from] NoSuchResource),
}

impl Tree {
    /// Changes the range of a resource. It stays where it is in the tree: in its parent, between
    /// its neighbours, around its children. The root may change, too.
    ///
    /// # Errors
    ///
    /// Who is in the way.
    pub fn adjust(&mut self, id: ResourceId, range: PhysRange) -> Result<(), AdjustError> {
        let node = self.node(id).ok_or(NoSuchResource)?;
        if let Some(parent) = node.parent {
            self.adjust_beside(id, parent, range)?;
        }
        if let Some(&child) = node.children.iter().find(|&&at| !range.contains(self.range(at))) {
            return Err(AdjustError::Child { range, child: self.at(child).resource.clone() });
        }
        self.at_mut(id).resource.range = range;
        Ok(())
    }

    fn adjust_beside(
        &self,
        id: ResourceId,
        parent: ResourceId,
        range: PhysRange,
    ) -> Result<(), AdjustError> {
        if !self.range(parent).contains(range) {
            let parent = self.at(parent).resource.clone();
            return Err(AdjustError::OutsideParent { range, parent });
        }
        let (_, at) = self.place_of(id)?;
        let brothers = self.children(parent);
        let above = brothers.get(at + 1).filter(|&&id| self.range(id).start() <= range.last());
        let below = at.checked_sub(1).map(|at| &brothers[at]);
        let below = below.filter(|&&id| range.start() <= self.range(id).last());
        match above.or(below) {
            None => Ok(()),
            Some(&id) => {
                let neighbour = self.at(id).resource.clone();
                Err(AdjustError::Neighbour { range, neighbour })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::samples::some as open;

    #[test]
    fn it_stays_between_parent_neighbours_and_children() {
        let mut tree = Tree::new(open(0, 99).range);
        let root = tree.root();
        let below = tree.insert(root, open(10, 19)).unwrap();
        let it = tree.insert(root, open(30, 49)).unwrap();
        tree.insert(root, open(35, 40)).unwrap();
        let above = tree.insert(root, open(60, 69)).unwrap();
        let mut adjust = |start, last| tree.adjust(it, open(start, last).range);
        assert!(matches!(adjust(30, 60), Err(AdjustError::Neighbour { .. })));
        assert!(matches!(adjust(19, 49), Err(AdjustError::Neighbour { .. })));
        assert!(matches!(adjust(70, 80), Err(AdjustError::Neighbour { .. })), "no jumping over");
        assert!(matches!(adjust(36, 49), Err(AdjustError::Child { .. })));
        assert_eq!(adjust(20, 59), Ok(()));
        assert_eq!(adjust(35, 40), Ok(()));
        tree.validate();
        assert!(matches!(
            tree.adjust(above, open(60, 100).range),
            Err(AdjustError::OutsideParent { .. })
        ));
        assert_eq!(tree.adjust(root, open(10, 80).range), Ok(()));
        assert!(matches!(tree.adjust(root, open(11, 80).range), Err(AdjustError::Child { .. })));
        tree.remove(below).unwrap();
        assert_eq!(tree.adjust(below, open(0, 1).range), Err(AdjustError::Gone(NoSuchResource)));
        tree.validate();
    }
}
