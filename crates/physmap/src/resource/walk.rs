//! Every resource in the order of `/proc/iomem`, and the lowest one of a kind.

use alloc::{vec, vec::Vec};

use memtide_units::{PhysAddr, PhysRange};

use super::{Resource, ResourceId, Tree, What};

/// All that is below one resource: parents before children, by ascending addresses, each with its
/// depth (0 for the children of where the walk began). It keeps a stack of its own, as a tree that
/// somebody sent us may be deeper than ours.
#[derive(Clone, Debug)]
pub struct Walk<'a> {
    tree: &'a Tree,
    rest: Vec<core::slice::Iter<'a, ResourceId>>,
}

impl Iterator for Walk<'_> {
    type Item = (usize, ResourceId);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let depth = self.rest.len().checked_sub(1)?;
            match self.rest[depth].next() {
                None => {
                    self.rest.pop();
                }
                Some(&id) => {
                    self.rest.push(self.tree.children(id).iter());
                    return Some((depth, id));
                }
            }
        }
    }
}

impl Tree {
    /// All resources below `from`, which is not among them.
    #[must_use]
    pub fn walk(&self, from: ResourceId) -> Walk<'_> {
        Walk { tree: self, rest: vec![self.children(from).iter()] }
    }

    /// All resources below the root with their depths: the lines of `/proc/iomem`.
    pub fn resources(&self) -> impl Iterator<Item = (usize, &Resource)> {
        self.walk(self.root()).map(|(depth, id)| (depth, &self.at(id).resource))
    }

    /// The first resource of a kind, in the order of the tree, that has an address of `range`, and
    /// the part of it that is in `range` (`find_next_iomem_res`).
    #[must_use]
    pub fn find_next(&self, range: PhysRange, what: What) -> Option<(ResourceId, PhysRange)> {
        self.walk(self.root())
            .filter(|&(_, id)| what.matches(&self.at(id).resource))
            .find_map(|(_, id)| Some((id, self.range(id).intersection(range)?)))
    }

    /// The innermost resource that has an address; the root if no other has.
    #[must_use]
    pub fn innermost(&self, address: PhysAddr) -> ResourceId {
        let mut inner = self.root();
        loop {
            let children = self.children(inner);
            let at = children.partition_point(|&id| self.range(id).last() < address);
            match children.get(at).filter(|&&id| self.range(id).has(address)) {
                Some(&id) => inner = id,
                None => return inner,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::Kind;

    fn resource(start: u64, last: u64, kind: Kind) -> Resource {
        Resource::open(PhysRange::new(PhysAddr(start), PhysAddr(last)).unwrap(), kind, "some")
    }

    #[test]
    fn parents_come_before_children_and_low_before_high() {
        let mut tree = Tree::new(resource(0, 99, Kind::Device).range);
        let root = tree.root();
        for (start, last, kind) in [
            (60, 69, Kind::SystemRam),
            (10, 49, Kind::CxlWindow),
            (20, 39, Kind::CxlRegion),
            (20, 29, Kind::SystemRam),
        ] {
            tree.insert(root, resource(start, last, kind)).unwrap();
        }
        let order: Vec<_> =
            tree.resources().map(|(depth, it)| (depth, it.range.start().0, it.kind)).collect();
        let expected = [
            (0, 10, Kind::CxlWindow),
            (1, 20, Kind::CxlRegion),
            (2, 20, Kind::SystemRam),
            (0, 60, Kind::SystemRam),
        ];
        assert_eq!(order, expected);
        let ram = What::Kind(Kind::SystemRam);
        let whole = resource(25, 65, Kind::Device).range;
        let (id, part) = tree.find_next(whole, ram).unwrap();
        assert_eq!(part, resource(25, 29, Kind::Device).range);
        assert_eq!(tree.innermost(PhysAddr(25)), id);
        assert_eq!(tree.get(tree.innermost(PhysAddr(35))).unwrap().kind, Kind::CxlRegion);
        assert_eq!(tree.innermost(PhysAddr(55)), root);
        let above = resource(30, 59, Kind::Device).range;
        assert_eq!(tree.find_next(above, ram), None);
        assert_eq!(tree.find_next(above, What::Any).unwrap().1.start(), PhysAddr(30));
    }
}
