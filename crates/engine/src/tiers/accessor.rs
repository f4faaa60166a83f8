//! What a page costs on each node, by who accesses it.
//!
//! A node is near or far only for somebody. Processors and devices each have a latency and a
//! bandwidth to each node, and a page that all of them use belongs where the time that all of them
//! spend on it is the least: the sum over accessors of how often, times how long it takes from
//! there. That is how a buffer follows its use: from the node of the processor that fills it to the
//! memory of the device that works on it, without either asking; and how it is placed there from
//! the start if somebody says who will use it ([`crate::mempolicy::Mode::AccessedBy`]).
//!
//! What is not in the table cannot be reached: memory that one of its users cannot reach at all is
//! no place for a page, however fast it is for the others. Bandwidth decides between nodes of equal
//! cost, since a page alone does not saturate anything; then the number of the node, so that the
//! answer is the same every time.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use memtide_units::{AccessorId, NodeId};

use crate::config::Performance;

/// What one accessor has to one node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    /// Who.
    pub accessor: AccessorId,
    /// Which node.
    pub node: NodeId,
    /// How fast that is. Of a latency or bandwidth that is known for one direction only, the other
    /// is taken to be the same.
    pub performance: Performance,
}

/// Why there is no table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// Two entries for one pair.
    #[error("what {accessor} has to {node} is there twice")]
    Twice {
        /// Who.
        accessor: AccessorId,
        /// Which node.
        node: NodeId,
    },
    /// An entry that does not say how long an access takes.
    #[error("{accessor} to {node} has no latency; expected 1 ns or more to read or to write")]
    NoLatency {
        /// Who.
        accessor: AccessorId,
        /// Which node.
        node: NodeId,
    },
}

/// What all accessors have to all nodes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AccessTable {
    pairs: BTreeMap<(AccessorId, NodeId), Speed>,
    /// As told, not as scaled since.
    told: BTreeMap<(AccessorId, NodeId), Performance>,
    /// What the nodes were like then, of those that changed since.
    was: BTreeMap<NodeId, Performance>,
}

/// One access. Twice the latency, so that a mean of two is a whole number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Speed {
    twice_ns: u64,
    bandwidth_mib: u64,
}

/// What one access costs on a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cost {
    /// Nanoseconds, the mean over who accesses it how often, rounded up.
    pub latency_ns: u64,
    /// MiB a second and direction, the least that any of them has; 0: not known.
    pub bandwidth_mib: u64,
}

/// What a page costs on a node; less is better.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Rank {
    twice_ns: u128,
    /// The least that any of its accessors has; more is better.
    bandwidth_mib: core::cmp::Reverse<u64>,
    node: NodeId,
}

impl AccessTable {
    /// The table of these entries.
    ///
    /// # Errors
    /// [`AccessError`].
    pub fn new(entries: &[Access]) -> Result<Self, AccessError> {
        let mut table = Self::default();
        for &Access { accessor, node, performance } in entries {
            let speed = speed(&performance).ok_or(AccessError::NoLatency { accessor, node })?;
            table.told.insert((accessor, node), performance);
            if table.pairs.insert((accessor, node), speed).is_some() {
                return Err(AccessError::Twice { accessor, node });
            }
        }
        Ok(table)
    }

    /// A node became faster or slower for all its accessors, in the proportion of its own
    /// performance. What is not known of that before or after stays as it was told. Always counted
    /// from what was told first, so that a node that is again as it was is so for all.
    pub fn scale(&mut self, node: NodeId, before: &Performance, now: &Performance) {
        let before = *self.was.entry(node).or_insert(*before);
        for (&pair, told) in self.told.iter().filter(|(pair, _)| pair.1 == node) {
            let scaled = scaled(told, &before, now);
            let speed = speed(&scaled).expect("a latency that is not zero stays so");
            self.pairs.insert(pair, speed);
        }
    }

    /// The best of these nodes for a page that these accessors accessed so often, as many times to
    /// read as to write. None if no node is reached by all of them, or there was no access at all.
    /// An accessor may be there more than once; one that did not access it does not count.
    #[must_use]
    pub fn best(&self, counts: &[(AccessorId, u64)], nodes: &[NodeId]) -> Option<NodeId> {
        if counts.iter().all(|&(_, count)| count == 0) {
            return None;
        }
        Some(nodes.iter().filter_map(|&node| self.rank(counts, node)).min()?.node)
    }

    /// The nodes that all of these reach, the best first. None if nobody accesses anything.
    #[must_use]
    pub fn reached_by(&self, counts: &[(AccessorId, u64)]) -> Vec<NodeId> {
        if counts.iter().all(|&(_, count)| count == 0) {
            return Vec::new();
        }
        let nodes: BTreeSet<NodeId> = self.pairs.keys().map(|&(_, node)| node).collect();
        let mut ranks: Vec<_> =
            nodes.into_iter().filter_map(|node| self.rank(counts, node)).collect();
        ranks.sort_unstable();
        ranks.into_iter().map(|rank| rank.node).collect()
    }

    /// What an access costs there, on average over who accesses it how often. None if one of them
    /// cannot reach it, or nobody accesses it.
    #[must_use]
    pub fn cost(&self, counts: &[(AccessorId, u64)], node: NodeId) -> Option<Cost> {
        let rank = self.rank(counts, node)?;
        let accesses: u128 = counts.iter().map(|&(_, count)| u128::from(count)).sum();
        let latency_ns = rank.twice_ns.div_ceil((2 * accesses).max(1));
        let latency_ns = u64::try_from(latency_ns).expect("no mean is above all latencies");
        (accesses > 0).then_some(Cost { latency_ns, bandwidth_mib: rank.bandwidth_mib.0 / 2 })
    }

    /// What a page costs there; none if one of its accessors cannot reach it.
    pub(crate) fn rank(&self, counts: &[(AccessorId, u64)], node: NodeId) -> Option<Rank> {
        let mut rank = Rank { twice_ns: 0, bandwidth_mib: core::cmp::Reverse(u64::MAX), node };
        for &(accessor, count) in counts.iter().filter(|count| count.1 > 0) {
            let speed = self.pairs.get(&(accessor, node))?;
            rank.twice_ns += u128::from(count) * u128::from(speed.twice_ns);
            rank.bandwidth_mib.0 = rank.bandwidth_mib.0.min(speed.bandwidth_mib);
        }
        Some(rank)
    }
}

/// What was told of an accessor, with the node as it is now.
fn scaled(told: &Performance, before: &Performance, now: &Performance) -> Performance {
    let scale = |told: u32, before: u32, now: u32| match (told, before, now) {
        (0, _, _) | (_, 0, _) | (_, _, 0) => told,
        _ => {
            let scaled = u64::from(told) * u64::from(now) / u64::from(before);
            u32::try_from(scaled.max(1)).unwrap_or(u32::MAX)
        }
    };
    let of = |field: fn(&Performance) -> u32| scale(field(told), field(before), field(now));
    Performance {
        read_latency_ns: of(|performance| performance.read_latency_ns),
        write_latency_ns: of(|performance| performance.write_latency_ns),
        read_bandwidth_mib: of(|performance| performance.read_bandwidth_mib),
        write_bandwidth_mib: of(|performance| performance.write_bandwidth_mib),
    }
}

/// Both directions together; of what is known for one only, twice that.
fn speed(performance: &Performance) -> Option<Speed> {
    let both = |a: u32, b: u32| {
        let known = |own: u32, other: u32| u64::from(if own == 0 { other } else { own });
        known(a, b) + known(b, a)
    };
    let twice_ns = both(performance.read_latency_ns, performance.write_latency_ns);
    let bandwidth_mib = both(performance.read_bandwidth_mib, performance.write_bandwidth_mib);
    (twice_ns > 0).then_some(Speed { twice_ns, bandwidth_mib })
}

#[cfg(test)]
mod tests;
