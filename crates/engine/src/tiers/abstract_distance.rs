//! One number for how far memory is, from latency and bandwidth (mm/memory-tiers.c).
//!
//! The memory next to the processors is the measure: it is [`ADISTANCE_DRAM`] away. Memory of twice
//! the latency is twice as far, and so is memory of half the bandwidth. The machine's own nodes of
//! that sort must agree on what the measure is: if one differs from the first by more than a tenth,
//! nothing is worked out any more, for it would depend on which node came first.

use memtide_units::NodeId;

use crate::{config::Performance, mempolicy::Errno};

/// Bits of an abstract distance that do not matter for the tier (`MEMTIER_CHUNK_BITS`).
pub const CHUNK_BITS: u32 = 7;

/// Abstract distances of one tier.
pub const CHUNK_SIZE: u32 = 1 << CHUNK_BITS;

/// The abstract distance of the processors' own memory: the middle of tier 4, so that there is room
/// for faster memory, and a little difference does not matter (`MEMTIER_ADISTANCE_DRAM`).
pub const ADISTANCE_DRAM: u32 = 4 * CHUNK_SIZE + CHUNK_SIZE / 2;

/// The abstract distance of memory that came by dax and of which nothing else is known
/// (`MEMTIER_DEFAULT_LOWTIER_ADISTANCE` of drivers/dax/kmem.c).
pub const ADISTANCE_KMEM: u32 = 5 * ADISTANCE_DRAM;

/// The tier of an abstract distance: lower is better.
#[must_use]
pub const fn tier(adistance: u32) -> u32 {
    adistance >> CHUNK_BITS
}

/// Why there is no abstract distance.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdistanceError {
    /// No latency, or no bandwidth, is known.
    #[error(
        "latencies of {latency_ns} ns and bandwidths of {bandwidth_mib} MiB/s in sum; \
         expected more than 0 of both"
    )]
    Unknown {
        /// Read and write latency together.
        latency_ns: u64,
        /// Read and write bandwidth together.
        bandwidth_mib: u64,
    },
    /// There is no measure yet.
    #[error("no node of the processors' own memory has a known performance to compare with")]
    NoReference,
    /// The measure cannot be trusted any more.
    #[error("the performance of {node} and {other}, both the processors' own memory, differs")]
    BadReference {
        /// The first node of that sort.
        node: NodeId,
        /// One that differs by more than a tenth.
        other: NodeId,
    },
    /// The processors' own memory of this node differs from that of the first.
    #[error("the performance of {other} differs from that of {node} by more than a tenth")]
    Mismatch {
        /// The first node of that sort.
        node: NodeId,
        /// The one that differs.
        other: NodeId,
    },
}

impl AdistanceError {
    /// The kernel's number for it.
    #[must_use]
    pub const fn errno(&self) -> Errno {
        match self {
            Self::Unknown { .. } | Self::Mismatch { .. } => Errno::EINVAL,
            Self::NoReference => Errno::ENOENT,
            Self::BadReference { .. } => Errno::EIO,
        }
    }
}

/// What the processors' own memory is like: the measure of all other (`default_dram_perf`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DramReference(State);

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum State {
    #[default]
    None,
    Known(NodeId, Performance),
    Bad(NodeId, NodeId),
}

impl DramReference {
    /// The processors' own memory on a node is so fast (`mt_set_default_dram_perf`). The first such
    /// node is the measure; the others must agree with it.
    ///
    /// # Errors
    /// [`AdistanceError`]. After [`AdistanceError::Mismatch`] there is no measure any more, for
    /// good.
    pub fn set(&mut self, node: NodeId, performance: &Performance) -> Result<(), AdistanceError> {
        if let State::Bad(node, other) = self.0 {
            return Err(AdistanceError::BadReference { node, other });
        }
        sums(performance)?;
        match self.0 {
            State::Known(first, reference) if !agree(performance, &reference) => {
                self.0 = State::Bad(first, node);
                Err(AdistanceError::Mismatch { node: first, other: node })
            }
            State::Known(..) => Ok(()),
            _ => {
                self.0 = State::Known(node, *performance);
                Ok(())
            }
        }
    }

    /// The abstract distance of memory that is so fast (`mt_perf_to_adistance`), 2^31 − 1 at most.
    /// Divides in the order in which Linux does, so that the rounding is the same.
    ///
    /// # Errors
    /// [`AdistanceError`].
    pub fn adistance(&self, performance: &Performance) -> Result<u32, AdistanceError> {
        if let State::Bad(node, other) = self.0 {
            return Err(AdistanceError::BadReference { node, other });
        }
        let (latency, bandwidth) = sums(performance)?;
        let State::Known(_, reference) = &self.0 else {
            return Err(AdistanceError::NoReference);
        };
        let (reference_latency, reference_bandwidth) = sums(reference)?;
        let by_latency = u128::from(ADISTANCE_DRAM) * latency / reference_latency;
        let adistance = by_latency * reference_bandwidth / bandwidth;
        Ok(adistance.min(i32::MAX as u128) as u32)
    }
}

/// Latencies and bandwidths together; neither is zero.
fn sums(performance: &Performance) -> Result<(u128, u128), AdistanceError> {
    let both = |a: u32, b: u32| u64::from(a) + u64::from(b);
    let latency_ns = both(performance.read_latency_ns, performance.write_latency_ns);
    let bandwidth_mib = both(performance.read_bandwidth_mib, performance.write_bandwidth_mib);
    if latency_ns == 0 || bandwidth_mib == 0 {
        return Err(AdistanceError::Unknown { latency_ns, bandwidth_mib });
    }
    Ok((latency_ns.into(), bandwidth_mib.into()))
}

/// Whether no number differs from the reference by more than a tenth of it.
fn agree(performance: &Performance, reference: &Performance) -> bool {
    let near = |a: u32, reference: u32| u64::from(a.abs_diff(reference)) * 10 <= reference.into();
    near(performance.read_latency_ns, reference.read_latency_ns)
        && near(performance.write_latency_ns, reference.write_latency_ns)
        && near(performance.read_bandwidth_mib, reference.read_bandwidth_mib)
        && near(performance.write_bandwidth_mib, reference.write_bandwidth_mib)
}

#[cfg(test)]
mod tests {
    use memtide_units::Random;

    use super::*;

    const DRAM: Performance = performance([80, 80, 100_000, 100_000]);

    const fn performance(numbers: [u32; 4]) -> Performance {
        let [read_latency_ns, write_latency_ns, read_bandwidth_mib, write_bandwidth_mib] = numbers;
        Performance { read_latency_ns, write_latency_ns, read_bandwidth_mib, write_bandwidth_mib }
    }

    fn dram() -> DramReference {
        let mut reference = DramReference::default();
        reference.set(NodeId(0), &DRAM).unwrap();
        reference
    }

    #[test]
    fn dram_is_576_tier_4_and_kmem_2880_tier_22() {
        assert_eq!((ADISTANCE_DRAM, tier(ADISTANCE_DRAM)), (576, 4));
        assert_eq!((ADISTANCE_KMEM, tier(ADISTANCE_KMEM)), (2880, 22));
        assert_eq!(dram().adistance(&DRAM), Ok(576));
    }

    #[test]
    fn twice_the_latency_and_half_the_bandwidth_are_twice_as_far_each() {
        let far = |numbers| dram().adistance(&performance(numbers)).unwrap();
        assert_eq!(far([160, 160, 100_000, 100_000]), 1152);
        assert_eq!(far([80, 80, 50_000, 50_000]), 1152);
        assert_eq!(far([120, 200, 60_000, 40_000]), 2304);
        // A CXL expander: 250 ns and 24 GB/s. 576 × 500 / 160 = 1800; × 200000 / 45800 = 7860.
        assert_eq!(far([250, 250, 22_900, 22_900]), 7860);
        assert_eq!(far([u32::MAX, u32::MAX, 1, 0]), i32::MAX as u32);
    }

    /// The kernel divides by the latency before it multiplies with the bandwidth.
    #[test]
    fn rounding_is_the_kernels() {
        let mut reference = DramReference::default();
        reference.set(NodeId(0), &performance([7, 0, 1000, 0])).unwrap();
        // 576 × 10 / 7 = 822, and that times 1000; multiplied first, it would be 822,857.
        assert_eq!(reference.adistance(&performance([10, 0, 1000, 0])), Ok(822));
        assert_eq!(reference.adistance(&performance([10, 0, 1, 0])), Ok(822_000));
    }

    #[test]
    fn zero_sums_are_einval() {
        for numbers in [[0, 0, 1, 1], [1, 1, 0, 0], [0; 4]] {
            let error = dram().adistance(&performance(numbers)).unwrap_err();
            assert_eq!(error.errno(), Errno::EINVAL, "{error}");
            let error = DramReference::default().set(NodeId(1), &performance(numbers));
            assert_eq!(error.unwrap_err().errno(), Errno::EINVAL);
        }
        assert!(dram().adistance(&performance([1, 0, 0, 1])).is_ok());
    }

    #[test]
    fn no_reference_is_enoent() {
        let error = DramReference::default().adistance(&DRAM).unwrap_err();
        assert_eq!((error, error.errno()), (AdistanceError::NoReference, Errno::ENOENT));
    }

    #[test]
    fn a_bad_reference_is_eio() {
        let mut reference = dram();
        reference.set(NodeId(1), &performance([88, 72, 110_000, 90_000])).unwrap();
        let (node, other) = (NodeId(0), NodeId(2));
        let error = reference.set(other, &performance([89, 80, 100_000, 100_000])).unwrap_err();
        assert_eq!(error, AdistanceError::Mismatch { node, other });
        assert_eq!(error.errno(), Errno::EINVAL);
        let bad = AdistanceError::BadReference { node, other };
        assert_eq!((reference.adistance(&DRAM), bad.errno()), (Err(bad), Errno::EIO));
        assert_eq!(reference.set(NodeId(0), &DRAM), Err(bad));
    }

    #[test]
    fn the_formula_of_the_rules() {
        for seed in 0..2000 {
            let mut random = Random::new(seed);
            let mut any = || performance([0; 4].map(|_| 1 + random.below(1000) as u32));
            let (memory, measure) = (any(), any());
            let mut reference = DramReference::default();
            reference.set(NodeId(0), &measure).unwrap();
            let sum = |a: u32, b: u32| f64::from(a) + f64::from(b);
            let exact = 576.0 * sum(memory.read_latency_ns, memory.write_latency_ns)
                / sum(measure.read_latency_ns, measure.write_latency_ns)
                * sum(measure.read_bandwidth_mib, measure.write_bandwidth_mib)
                / sum(memory.read_bandwidth_mib, memory.write_bandwidth_mib);
            let bandwidths = sum(measure.read_bandwidth_mib, measure.write_bandwidth_mib)
                / sum(memory.read_bandwidth_mib, memory.write_bandwidth_mib);
            let found = f64::from(reference.adistance(&memory).unwrap());
            assert!(found <= exact + 1e-6 && found > exact - bandwidths - 1.0, "seed {seed}");
        }
    }
}
