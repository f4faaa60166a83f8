//! What is kept of an earlier pool of other nodes, of which no program is left.
//!
//! Nodes lie one after the other, so that another size of one, or another order, changes the
//! numbers of what lies behind. What had left is there again, in the zone that is configured now;
//! but bad memory does not get better. A node is the one that had its name: what is bad of it is so
//! at the same offset. What is beyond the end of one that is smaller now, and what was of a node
//! that is not there any more, is forgotten, and that is worth an operator's attention.

use memtide_units::{ByteSize, Extent, Pageblock};

use super::NodeState;

/// Bad memory that a later pool knows nothing of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Forgotten {
    /// Of which node.
    pub node: String,
    /// How much.
    pub bytes: ByteSize,
    /// Why.
    pub why: Why,
}

/// Why bad memory is forgotten.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// There is no node of that name.
    Gone,
    /// The node ends before it.
    Smaller,
}

/// The nodes, each with where it begins.
fn placed(nodes: &[NodeState]) -> impl Iterator<Item = (u64, &NodeState)> {
    nodes.iter().scan(0_u64, |next, node| {
        let first = *next;
        *next = first.saturating_add(node.pageblocks);
        Some((first, node))
    })
}

/// Which of these has a name, and where it begins.
fn place_of(name: &str, nodes: &[NodeState]) -> Option<(usize, u64)> {
    let mut places = placed(nodes).enumerate();
    places.find(|(_, (_, node))| node.name == name).map(|(place, (first, _))| (place, first))
}

/// What is bad of a node that begins there: from which offset to which, in pageblocks.
fn bad_of(first: u64, node: &NodeState) -> Vec<(u64, u64)> {
    let end = first.saturating_add(node.pageblocks);
    let within = |extent: &Extent| {
        let from = extent.start.0.max(first);
        let to = extent.start.0.saturating_add(u64::from(extent.count)).min(end);
        (from < to).then(|| (from - first, to - first))
    };
    node.retired.iter().filter_map(within).collect()
}

fn sum(bad: &[(u64, u64)]) -> u64 {
    bad.iter().fold(0, |sum, (from, to)| sum.saturating_add(to - from))
}

/// Marks of the nodes that there are now what was bad of them; what is not known any more.
pub(super) fn carry_retired(then: &[NodeState], now: &mut [NodeState]) -> Vec<Forgotten> {
    let mut forgotten = Vec::new();
    let mut forget = |node: &NodeState, pageblocks, why| {
        if pageblocks > 0 {
            let bytes = ByteSize::from_pageblocks(pageblocks);
            forgotten.push(Forgotten { node: node.name.clone(), bytes, why });
        }
    };
    for (first, node) in placed(then) {
        let bad = bad_of(first, node);
        let Some((place, first)) = place_of(&node.name, now) else {
            forget(node, sum(&bad), Why::Gone);
            continue;
        };
        let end = now[place].pageblocks;
        let cut = bad.iter().map(|&(from, to)| (from, to.min(end)));
        let fits: Vec<_> = cut.filter(|(from, to)| from < to).collect();
        forget(node, sum(&bad) - sum(&fits), Why::Smaller);
        let extent = |&(from, to): &(u64, u64)| {
            let count = u32::try_from(to - from).expect("no more than an extent had");
            Extent::new(Pageblock(first + from), count)
        };
        now[place].retired = fits.iter().map(extent).collect();
    }
    forgotten
}

#[cfg(test)]
mod tests {
    use memtide_units::OnlineZone;

    use super::*;

    fn node(name: &str, pageblocks: u64, retired: &[(u64, u32)]) -> NodeState {
        let retired = retired.iter().map(|&(at, count)| Extent::new(Pageblock(at), count));
        NodeState {
            name: name.to_owned(),
            pageblocks,
            offline: Vec::new(),
            zone: OnlineZone::Kernel,
            zones: Vec::new(),
            retired: retired.collect(),
            numa: None,
            online: None,
        }
    }

    fn forgotten(node: &str, pageblocks: u64, why: Why) -> Forgotten {
        Forgotten { node: node.to_owned(), bytes: ByteSize::from_pageblocks(pageblocks), why }
    }

    #[test]
    fn what_is_bad_stays_so_at_the_same_offset_of_the_node_of_that_name() {
        let then = [node("near", 8, &[(1, 1), (6, 2)]), node("far", 8, &[(11, 1)])];
        let mut now = [node("far", 9, &[]), node("new", 3, &[]), node("near", 8, &[])];
        assert_eq!(carry_retired(&then, &mut now), []);
        let expected =
            [node("far", 9, &[(3, 1)]), node("new", 3, &[]), node("near", 8, &[(13, 1), (18, 2)])];
        assert_eq!(now, expected);
    }

    #[test]
    fn what_does_not_fit_or_has_no_node_is_forgotten_and_said() {
        let then = [node("gone", 8, &[(0, 3)]), node("far", 8, &[(10, 3), (15, 1)])];
        let mut now = [node("far", 4, &[])];
        let said = carry_retired(&then, &mut now);
        assert_eq!(said, [forgotten("gone", 3, Why::Gone), forgotten("far", 2, Why::Smaller)]);
        assert_eq!(now, [node("far", 4, &[(2, 2)])]);
    }

    #[test]
    fn a_damaged_file_harms_nobody() {
        let all = (0, u32::MAX);
        let then = [
            node("near", u64::MAX, &[all, (u64::MAX, 7)]),
            node("far", u64::MAX, &[(u64::MAX - 3, u32::MAX), all]),
        ];
        let mut now = [node("far", 4, &[]), node("near", 4, &[])];
        let said = carry_retired(&then, &mut now);
        assert_eq!(said, [forgotten("near", u64::from(u32::MAX) - 4, Why::Smaller)]);
        assert_eq!(now, [node("far", 4, &[]), node("near", 4, &[(4, 4)])]);
    }
}
