//! The machine: tiers with a load-latency curve, and the throughput that comes of it.
//!
//! An access takes longer on a tier that is busy. The curve is that of a queue:
//!
//! > loaded = unloaded × (1 + load-factor × u ∕ (1 − u)),  u = traffic ∕ peak bandwidth
//!
//! With a load factor of 0.2 a tier is 1.2 times as slow at half its bandwidth, and 2.8 times at
//! nine tenths: about what measured curves of DRAM and CXL expanders look like.
//!
//! The program is a closed loop: it has so many accesses outstanding and no more. By Little's law
//! `throughput × average loaded latency = outstanding accesses`. The left side rises with the
//! throughput, so there is one solution, and bisection finds it ([`Machine::solve`]). What
//! migration copies is traffic as well.
//!
//! An access moves a line of 64 bytes, a write two of them: it is read first, and written back
//! some time.

use serde::Deserialize;

/// Tiers of a machine at most: two bits name one in a [`super::placement::Placement`].
pub const TIERS_MAX: usize = 4;
/// Bytes that an access moves.
pub const LINE_BYTES: f64 = 64.0;
/// Migration takes this share of a tier's bandwidth at most; the program gets the rest.
const BACKGROUND_MAX: f64 = 0.5;
/// Halvings of the interval in which the throughput lies: to better than one part in 2^40.
const HALVINGS: u32 = 40;

/// A machine of a scenario.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Machine {
    /// Threads of the program, and the cores that they have; the manager runs on the same.
    pub threads: u32,
    /// The tiers, the fastest first.
    pub tiers: Vec<TierModel>,
    /// How fast pages are moved at most, in GB/s.
    pub migration_gbps: f64,
    /// What the manager costs.
    pub costs: Costs,
    /// What changes while the program runs, in the order of time.
    #[serde(default)]
    pub changes: Vec<Change>,
}

/// A tier.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TierModel {
    /// Nanoseconds of an access when there is no other.
    pub latency_ns: f64,
    /// Peak bandwidth in GB/s: bytes a nanosecond.
    pub bandwidth_gbps: f64,
    /// How fast latency rises with load, see above.
    pub load_factor: f64,
    /// How many of the program's pages fit, in percent of them; what is left goes to the last.
    pub capacity_percent: u32,
}

/// What the manager costs. Its CPU time is taken from the program's cores.
#[derive(Clone, Copy, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Costs {
    /// CPU nanoseconds for each sample.
    pub sample_ns: f64,
    /// CPU nanoseconds for each tick.
    pub tick_ns: f64,
    /// CPU nanoseconds for each page that is moved, besides copying: unmap, flush, map.
    pub move_ns: f64,
    /// How fast a core copies, in GB/s.
    pub copy_gbps: f64,
    /// Nanoseconds of threads of the program that wait, all threads together, for each page that
    /// is moved.
    pub stall_ns: f64,
}

/// A tier changes: a link is renegotiated.
#[derive(Clone, Copy, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Change {
    /// When, in virtual milliseconds.
    pub at_ms: u32,
    /// Which tier.
    pub tier: usize,
    /// Its latency from now on.
    pub latency_ns: f64,
    /// Its bandwidth from now on.
    pub bandwidth_gbps: f64,
}

/// What the program asks of the tiers, and migration beside it.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Demand {
    /// Accesses that the program has outstanding at any time.
    pub outstanding: f64,
    /// Which part of the accesses goes to which tier; together 1.
    pub share: [f64; TIERS_MAX],
    /// Which part of a tier's accesses are writes.
    pub writes: [f64; TIERS_MAX],
    /// Bytes a nanosecond that migration moves in or out of a tier.
    pub background: [f64; TIERS_MAX],
}

/// What comes of a [`Demand`].
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Flow {
    /// Accesses a nanosecond.
    pub per_ns: f64,
    /// Nanoseconds of an access to each tier, loaded.
    pub latency_ns: [f64; TIERS_MAX],
}

impl Machine {
    /// The throughput at which as many accesses are outstanding as the program allows.
    #[must_use]
    pub fn solve(&self, demand: &Demand) -> Flow {
        let unloaded = self.average_latency(demand, 0.0);
        let mut high = demand.outstanding / unloaded;
        for (at, tier) in self.tiers.iter().enumerate() {
            let bytes = demand.bytes(at);
            if bytes > 0.0 {
                high = high.min((tier.bandwidth_gbps - tier.background(demand, at)) / bytes);
            }
        }
        let mut low = 0.0;
        for _ in 0..HALVINGS {
            let middle = (low + high) / 2.0;
            if middle * self.average_latency(demand, middle) > demand.outstanding {
                high = middle;
            } else {
                low = middle;
            }
        }
        let mut latency_ns = [0.0; TIERS_MAX];
        for (at, tier) in self.tiers.iter().enumerate() {
            latency_ns[at] = tier.loaded(demand, at, low);
        }
        Flow { per_ns: low, latency_ns }
    }

    fn average_latency(&self, demand: &Demand, per_ns: f64) -> f64 {
        let tiers = self.tiers.iter().enumerate();
        tiers.fold(0.0, |sum, (at, tier)| {
            let share = demand.share[at];
            if share > 0.0 { sum + share * tier.loaded(demand, at, per_ns) } else { sum }
        })
    }
}

impl Demand {
    /// Bytes that an access of the program moves to or from a tier, on average over all accesses.
    fn bytes(&self, tier: usize) -> f64 {
        self.share[tier] * (1.0 + self.writes[tier]) * LINE_BYTES
    }
}

impl TierModel {
    fn background(&self, demand: &Demand, at: usize) -> f64 {
        demand.background[at].min(self.bandwidth_gbps * BACKGROUND_MAX)
    }

    /// Nanoseconds of an access when the program makes `per_ns` of them in all.
    fn loaded(&self, demand: &Demand, at: usize, per_ns: f64) -> f64 {
        let traffic = per_ns * demand.bytes(at) + self.background(demand, at);
        let free = 1.0 - traffic / self.bandwidth_gbps;
        if free <= 0.0 {
            return f64::INFINITY;
        }
        self.latency_ns * (1.0 + self.load_factor * (1.0 - free) / free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        let tier = |latency_ns, bandwidth_gbps| TierModel {
            latency_ns,
            bandwidth_gbps,
            load_factor: 0.2,
            capacity_percent: 100,
        };
        Machine {
            threads: 8,
            tiers: vec![tier(90.0, 60.0), tier(220.0, 24.0)],
            migration_gbps: 4.0,
            costs: Costs {
                sample_ns: 0.0,
                tick_ns: 0.0,
                move_ns: 0.0,
                copy_gbps: 8.0,
                stall_ns: 0.0,
            },
            changes: Vec::new(),
        }
    }

    fn demand(outstanding: f64, near: f64) -> Demand {
        Demand { outstanding, share: [near, 1.0 - near, 0.0, 0.0], ..Demand::default() }
    }

    /// One access at a time waits for nobody.
    #[test]
    fn without_load_latency_is_unloaded() {
        let flow = machine().solve(&demand(0.001, 0.5));
        assert!((flow.latency_ns[0] / 90.0 - 1.0).abs() < 1e-4, "{flow:?}");
        assert!((flow.latency_ns[1] / 220.0 - 1.0).abs() < 1e-4, "{flow:?}");
        assert!((flow.per_ns * 155.0 / 0.001 - 1.0).abs() < 1e-4, "{flow:?}");
    }

    /// Half of the peak: u ∕ (1 − u) is 1, so latency is 1.2 times that without load.
    #[test]
    fn the_curve_is_as_documented() {
        let per_ns = 60.0 / 64.0 / 2.0;
        let flow = machine().solve(&demand(per_ns * 90.0 * 1.2, 1.0));
        assert!((flow.latency_ns[0] - 108.0).abs() < 1e-6, "{flow:?}");
        assert!((flow.per_ns - per_ns).abs() < 1e-9);
        // Nine tenths: 1 + 0.2 × 9.
        let per_ns = 60.0 / 64.0 * 0.9;
        let flow = machine().solve(&demand(per_ns * 90.0 * 2.8, 1.0));
        assert!((flow.latency_ns[0] - 252.0).abs() < 1e-6, "{flow:?}");
    }

    /// Whatever is asked, as much is outstanding as is allowed, and no tier is over its peak.
    #[test]
    fn littles_law_holds() {
        let machine = machine();
        for outstanding in [1.0, 32.0, 500.0, 10_000.0] {
            for near in [0.0, 0.01, 0.3, 0.7, 0.99, 1.0] {
                for (write, background) in [(0.0, 0.0), (0.5, 3.0), (1.0, 100.0)] {
                    let mut demand = demand(outstanding, near);
                    demand.writes = [write; TIERS_MAX];
                    demand.background = [background; TIERS_MAX];
                    let Flow { per_ns, latency_ns } = machine.solve(&demand);
                    let average = near * latency_ns[0] + (1.0 - near) * latency_ns[1];
                    let law = per_ns * average / outstanding;
                    assert!((law - 1.0).abs() < 1e-3, "{demand:?}: {law}");
                    for (at, tier) in machine.tiers.iter().enumerate() {
                        let traffic = per_ns * demand.bytes(at);
                        assert!(traffic < tier.bandwidth_gbps, "{demand:?}: tier {at}");
                    }
                }
            }
        }
    }

    #[test]
    fn migration_slows_the_program() {
        let mut demand = demand(64.0, 0.8);
        let alone = machine().solve(&demand).per_ns;
        demand.background = [4.0, 4.0, 0.0, 0.0];
        let beside = machine().solve(&demand).per_ns;
        assert!(beside < alone * 0.999 && beside > alone * 0.5, "{alone} {beside}");
    }

    /// Colloid's point: near can be slower than far.
    #[test]
    fn a_saturated_near_tier_is_slower_than_far() {
        let flow = machine().solve(&demand(400.0, 0.99));
        assert!(flow.latency_ns[0] > flow.latency_ns[1], "{flow:?}");
    }
}
