//! Taking a resource out: alone, or with all that is in it.
//!
//! `remove_resource` is the opposite of inserting: the children move up to where they were before.
//! `release_resource` is the opposite of requesting: what is inside goes, too.

use alloc::vec::Vec;

use super::{NoSuchResource, Resource, ResourceId, Tree};

impl Tree {
    /// Takes a resource out and leaves its children in its place (`remove_resource`).
    ///
    /// # Errors
    ///
    /// [`NoSuchResource`] for the root, too: it stays.
    pub fn remove(&mut self, id: ResourceId) -> Result<Resource, NoSuchResource> {
        let (parent, at) = self.place_of(id)?;
        let children = self.children(id).to_vec();
        for &child in &children {
            self.at_mut(child).parent = Some(parent);
        }
        self.at_mut(parent).children.splice(at..=at, children);
        Ok(self.take(id).resource)
    }

    /// Takes a resource out with all that is in it, and says what that was: the resource first,
    /// then the rest in the order of the tree (`release_resource`).
    ///
    /// # Errors
    ///
    /// [`NoSuchResource`] for the root, too: it stays.
    pub fn release(&mut self, id: ResourceId) -> Result<Vec<Resource>, NoSuchResource> {
        let (parent, at) = self.place_of(id)?;
        let inside: Vec<_> = self.walk(id).map(|(_, inner)| inner).collect();
        self.at_mut(parent).children.remove(at);
        Ok([id].into_iter().chain(inside).map(|id| self.take(id).resource).collect())
    }

    /// Whose child a resource is, and the how manieth.
    pub(super) fn place_of(&self, id: ResourceId) -> Result<(ResourceId, usize), NoSuchResource> {
        let parent = self.parent(id).ok_or(NoSuchResource)?;
        let start = self.range(id).start();
        let at = self.children(parent).partition_point(|&child| self.range(child).start() < start);
        Ok((parent, at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::samples::some as open;

    #[test]
    fn children_move_up_or_go_along() {
        let mut tree = Tree::new(open(0, 99).range);
        let root = tree.root();
        let before = tree.insert(root, open(0, 9)).unwrap();
        let outer = tree.insert(root, open(10, 49)).unwrap();
        let [a, b] = [10, 30].map(|at| tree.insert(root, open(at, at + 9)).unwrap());
        let after = tree.insert(root, open(60, 69)).unwrap();
        assert_eq!(tree.remove(outer), Ok(open(10, 49)));
        assert_eq!(tree.children(root), [before, a, b, after]);
        assert_eq!(tree.remove(outer), Err(NoSuchResource));
        let again = tree.insert(root, open(10, 49)).unwrap();
        assert_ne!(again, outer, "an old id never names something new");
        assert_eq!(tree.release(again).unwrap(), [open(10, 49), open(10, 19), open(30, 39)]);
        assert_eq!(tree.children(root), [before, after]);
        assert_eq!(tree.release(root), Err(NoSuchResource));
        assert_eq!(tree.get(a), None);
        tree.validate();
    }
}
