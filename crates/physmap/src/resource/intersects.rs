//! Whose a range is: nobody's, somebody's, or also somebody else's (`region_intersects`).
//!
//! The question is put about one kind, mostly System RAM. Who looks at the outermost resources only
//! takes memory that lies in a window, a region and a dax device for a window. So it descends: a
//! resource of another kind does not count where resources of the kind in question,
//! anywhere inside of it, cover all that it has of the range. Holes, which are nobody's, never
//! count.

use memtide_units::PhysRange;

use super::{NoSuchResource, ResourceId, Tree, What};

/// What a range has of the resources in question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Intersection {
    /// None of them (`REGION_DISJOINT`), whatever else may be there.
    Disjoint,
    /// Some, and besides at most holes (`REGION_INTERSECTS`).
    Intersects,
    /// Some, and something else as well (`REGION_MIXED`).
    Mixed,
}

impl Tree {
    /// What `range` has of the resources in question, anywhere in the tree.
    #[must_use]
    pub fn region_intersects(&self, range: PhysRange, what: What) -> Intersection {
        self.intersects_below(self.root(), range, what).expect("the root is always there")
    }

    /// The same, for what is below `parent`.
    ///
    /// # Errors
    ///
    /// [`NoSuchResource`].
    pub fn intersects_below(
        &self,
        parent: ResourceId,
        range: PhysRange,
        what: What,
    ) -> Result<Intersection, NoSuchResource> {
        let children = &self.node(parent).ok_or(NoSuchResource)?.children;
        let first = children.partition_point(|&id| self.range(id).last() < range.start());
        let (mut matching, mut other) = (false, false);
        for &id in &children[first..] {
            let Some(part) = self.range(id).intersection(range) else { break };
            let cover = self.cover(id, part, what);
            matching |= cover != Cover::None;
            other |= cover != Cover::Whole;
        }
        Ok(match (matching, other) {
            (false, _) => Intersection::Disjoint,
            (true, false) => Intersection::Intersects,
            (true, true) => Intersection::Mixed,
        })
    }

    /// How much of `part`, which is inside the resource `id`, matching resources cover.
    fn cover(&self, id: ResourceId, part: PhysRange, what: What) -> Cover {
        if what.matches(&self.at(id).resource) {
            return Cover::Whole;
        }
        let mut uncovered = part;
        let mut cover = Cover::None;
        for (_, inner) in self.walk(id).filter(|&(_, id)| what.matches(&self.at(id).resource)) {
            let inner = self.range(inner);
            if !inner.overlaps(part) {
                continue;
            }
            cover = Cover::Part;
            // The walk ascends: what begins above leaves a gap that nobody closes any more.
            if inner.start() > uncovered.start() {
                break;
            }
            let above = inner.last().checked_add(1);
            match above.and_then(|above| PhysRange::new(above.max(part.start()), part.last())) {
                None => return Cover::Whole,
                Some(left) if left.start() > uncovered.start() => uncovered = left,
                Some(_) => {}
            }
        }
        cover
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Cover {
    None,
    Part,
    Whole,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::{Kind, Resource};
    use memtide_units::PhysAddr;

    const MIB: u64 = 1 << 20;
    const PAGE: u64 = 4096;
    const BASE: u64 = 0x1_0000_0000;

    fn span(start: u64, bytes: u64) -> PhysRange {
        PhysRange::from_size(PhysAddr(BASE + start), bytes).unwrap()
    }

    /// RAM0 0–1, hole 1–2, WIN0 2–3, RAM1 3–4, WIN1 4–7 with RAM2 4–5 (code in it) and RAM3 5–6.
    fn tree() -> Tree {
        let mut tree = Tree::new(PhysRange::new(PhysAddr(0), PhysAddr(u64::MAX)).unwrap());
        for (at, mib, kind) in [
            (0, 1, Kind::SystemRam),
            (2, 1, Kind::CxlWindow),
            (3, 1, Kind::SystemRam),
            (4, 3, Kind::CxlWindow),
            (4, 1, Kind::SystemRam),
            (5, 1, Kind::SystemRam),
        ] {
            let resource = Resource::open(span(at * MIB, mib * MIB), kind, "some");
            tree.insert(tree.root(), resource).unwrap();
        }
        let code = span(4 * MIB + MIB / 8, MIB / 8);
        tree.insert(tree.root(), Resource::busy(code, Kind::SystemRam, "Kernel code")).unwrap();
        tree.validate();
        tree
    }

    fn ram(start: u64, bytes: u64) -> Intersection {
        tree().region_intersects(span(start, bytes), What::Kind(Kind::SystemRam))
    }

    #[test]
    fn ram0_first_page_and_last_page_with_the_next() {
        assert_eq!(ram(0, PAGE), Intersection::Intersects);
        assert_eq!(ram(MIB - PAGE, 2 * PAGE), Intersection::Intersects);
    }

    #[test]
    fn hole_page_and_last_hole_page_with_win0() {
        assert_eq!(ram(MIB, PAGE), Intersection::Disjoint);
        assert_eq!(ram(2 * MIB - PAGE, 2 * PAGE), Intersection::Disjoint);
    }

    #[test]
    fn win0_last_page_with_ram1() {
        assert_eq!(ram(3 * MIB - PAGE, 2 * PAGE), Intersection::Mixed);
    }

    #[test]
    fn ram1_last_page_with_ram2_and_ram2_last_page_with_ram3() {
        assert_eq!(ram(4 * MIB - PAGE, 2 * PAGE), Intersection::Intersects);
        assert_eq!(ram(5 * MIB - PAGE, 2 * PAGE), Intersection::Intersects);
    }

    #[test]
    fn code_and_ram2_with_one_page_more() {
        assert_eq!(ram(4 * MIB + MIB / 8, MIB / 8), Intersection::Intersects);
        assert_eq!(ram(4 * MIB, MIB + PAGE), Intersection::Intersects);
    }

    #[test]
    fn ram3_with_one_page_more() {
        assert_eq!(ram(5 * MIB, MIB + PAGE), Intersection::Mixed);
    }

    /// What confused the flat check: memory under a window, a region and a dax device.
    #[test]
    fn kmem_ram_below_window_region_and_dax_is_ram() {
        let mut tree = Tree::new(PhysRange::new(PhysAddr(0), PhysAddr(u64::MAX)).unwrap());
        for (start, mib, kind) in [
            (0, 8, Kind::CxlWindow),
            (0, 4, Kind::CxlRegion),
            (0, 4, Kind::Dax),
            (0, 4, Kind::SystemRam),
        ] {
            let resource = Resource::open(span(start, mib * MIB), kind, "some");
            let below = tree.walk(tree.root()).last().map_or(tree.root(), |(_, id)| id);
            tree.request(below, resource).unwrap();
        }
        let ask = |start, bytes, kind| tree.region_intersects(span(start, bytes), What::Kind(kind));
        assert_eq!(ask(0, 4 * MIB, Kind::SystemRam), Intersection::Intersects);
        assert_eq!(ask(MIB, 4 * MIB, Kind::SystemRam), Intersection::Mixed);
        assert_eq!(ask(4 * MIB, MIB, Kind::SystemRam), Intersection::Disjoint);
        assert_eq!(ask(0, 16 * MIB, Kind::CxlWindow), Intersection::Intersects);
        assert_eq!(tree.region_intersects(span(9 * MIB, 1), What::Any), Intersection::Disjoint);
    }
}
