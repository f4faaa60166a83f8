//! How fast programs go: bandwidth shared max-min fair, latency that grows with load.
//!
//! A program reads memory in the proportion in which it lies on nodes. Of each byte, a part crosses
//! each *resource*: the media of a node, a link. Rates grow together until a resource is full or a
//! program has what it wants; those then stay, and the others go on (max-min fairness by
//! progressive filling: Bertsekas and Gallager, "Data Networks", 6.5.2). Alone on its nodes, a
//! program that reads a share `s` from each node of bandwidth `B` so gets the least `B / s`: an
//! interleave is as fast as the node that is given too much.
//!
//! A program that keeps `k` cache lines in flight cannot read more than `k * 64 B / latency`
//! (Little's law). Latency is `L * (1 + u / 10 / (1 - u))` at a load of `u` of a resource: 1.1
//! times at half load, 1.9 times at 90 %, and not beyond 97 %. Load and latency depend on each
//! other; half-steps towards each other come to rest, and 32 are made.

/// Bytes in a cache line.
const LINE: f64 = 64.0;
/// Rounds of load and latency.
const ROUNDS: usize = 32;
/// Load beyond which latency does not grow.
const LOAD_MAX: f64 = 0.97;

/// What one program does.
#[derive(Clone, PartialEq, Debug)]
pub struct Demand {
    /// MiB a second that it wants.
    pub wants: f64,
    /// Cache lines in flight; as many as it takes when absent.
    pub lines: Option<u32>,
    /// Of each byte that it reads, how much comes from where.
    pub reads: Vec<Read>,
}

/// A part of what a program reads.
#[derive(Clone, PartialEq, Debug)]
pub struct Read {
    /// Of each byte, how much; all parts together are 1.
    pub share: f64,
    /// Nanoseconds without load.
    pub latency_ns: f64,
    /// What it crosses.
    pub resources: Vec<usize>,
}

/// How many times longer an access takes at a load.
fn slower(load: f64) -> f64 {
    let load = load.min(LOAD_MAX);
    1.0 + load / 10.0 / (1.0 - load)
}

/// MiB a second that each program gets from resources of these bandwidths.
#[must_use]
pub fn share(bandwidths: &[f64], demands: &[Demand]) -> Vec<f64> {
    let mut caps: Vec<f64> = demands.iter().map(|demand| demand.wants).collect();
    let uses: Vec<Vec<(usize, f64)>> = demands.iter().map(uses).collect();
    let mut rates = fill(bandwidths, &uses, &caps);
    if demands.iter().all(|demand| demand.lines.is_none()) {
        return rates;
    }
    for _ in 0..ROUNDS {
        let loads = loads(bandwidths, &uses, &rates);
        for (cap, demand) in caps.iter_mut().zip(demands) {
            let Some(lines) = demand.lines else { continue };
            let latency: f64 =
                demand.reads.iter().map(|read| read.share * read.latency(&loads)).sum();
            let most = f64::from(lines) * LINE / (latency * 1e-9) / f64::from(1 << 20);
            *cap = (*cap + most.min(demand.wants)) / 2.0;
        }
        rates = fill(bandwidths, &uses, &caps);
    }
    rates
}

impl Read {
    fn latency(&self, loads: &[f64]) -> f64 {
        let worst = self.resources.iter().map(|&resource| loads[resource]).fold(0.0, f64::max);
        self.latency_ns * slower(worst)
    }
}

/// Of each byte, how much crosses which resource.
fn uses(demand: &Demand) -> Vec<(usize, f64)> {
    let mut uses: Vec<(usize, f64)> = Vec::new();
    for read in demand.reads.iter().filter(|read| read.share > 0.0) {
        for &resource in &read.resources {
            match uses.iter_mut().find(|(known, _)| *known == resource) {
                Some((_, share)) => *share += read.share,
                None => uses.push((resource, read.share)),
            }
        }
    }
    uses
}

fn loads(bandwidths: &[f64], uses: &[Vec<(usize, f64)>], rates: &[f64]) -> Vec<f64> {
    let mut loads = vec![0.0; bandwidths.len()];
    for (uses, rate) in uses.iter().zip(rates) {
        for &(resource, share) in uses {
            loads[resource] += rate * share / bandwidths[resource].max(1e-9);
        }
    }
    loads
}

/// Progressive filling.
fn fill(bandwidths: &[f64], uses: &[Vec<(usize, f64)>], caps: &[f64]) -> Vec<f64> {
    let mut rates = vec![0.0; caps.len()];
    let mut left = bandwidths.to_vec();
    let mut going: Vec<usize> = (0..caps.len()).collect();
    while !going.is_empty() {
        let mut crossed = vec![0.0; left.len()];
        for &(resource, share) in going.iter().flat_map(|&program| &uses[program]) {
            crossed[resource] += share;
        }
        let full = left.iter().zip(&crossed).filter(|&(_, &crossed)| crossed > 0.0);
        let full = full.map(|(left, crossed)| left / crossed).fold(f64::INFINITY, f64::min);
        let met = going.iter().map(|&program| caps[program] - rates[program]);
        let step = met.fold(full, f64::min).max(0.0);
        for &program in &going {
            rates[program] += step;
        }
        for (left, crossed) in left.iter_mut().zip(&crossed) {
            *left -= step * crossed;
        }
        let full = |resource: usize| left[resource] <= bandwidths[resource] * 1e-9;
        going.retain(|&program| {
            let stuck = uses[program].iter().any(|&(resource, _)| full(resource));
            !stuck && caps[program] - rates[program] > caps[program] * 1e-9
        });
    }
    rates
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(wants: f64, lines: Option<u32>, reads: &[(f64, f64, &[usize])]) -> Demand {
        let read = |&(share, latency_ns, resources): &(f64, f64, &[usize])| Read {
            share,
            latency_ns,
            resources: resources.to_vec(),
        };
        Demand { wants, lines, reads: reads.iter().map(read).collect() }
    }

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() <= b * 1e-6
    }

    /// 298.8 GB/s near alone; 3:1 with 113 GB/s far adds most of it; 1:1 is held to twice the far.
    #[test]
    fn an_interleave_is_as_fast_as_the_node_that_is_given_too_much() {
        let of = |near: f64| {
            let reads: [(f64, f64, &[usize]); 2] = [(near, 100.0, &[0]), (1.0 - near, 200.0, &[1])];
            share(&[300.0, 100.0], &[demand(1e9, None, &reads)])[0]
        };
        assert!(near(of(1.0), 300.0) && near(of(0.75), 400.0) && near(of(0.5), 200.0));
    }

    #[test]
    fn bandwidth_is_shared_and_what_one_does_not_want_goes_to_others() {
        let on = |wants| demand(wants, None, &[(1.0, 100.0, &[0])]);
        let rates = share(&[90.0], &[on(10.0), on(1e9), on(1e9)]);
        assert!(near(rates[0], 10.0) && near(rates[1], 40.0) && near(rates[2], 40.0), "{rates:?}");
        let crossing = demand(1e9, None, &[(1.0, 100.0, &[0, 1])]);
        let rates = share(&[90.0, 30.0], &[crossing, on(1e9)]);
        assert!(near(rates[0], 30.0) && near(rates[1], 60.0), "a link is a bound too: {rates:?}");
    }

    #[test]
    fn lines_in_flight_bound_a_program_and_load_slows_it() {
        let on = |wants, lines| demand(wants, Some(lines), &[(1.0, 100.0, &[0])]);
        // 10 lines of 64 B every 100 ns are 6103.5 MiB/s; hardly any load.
        let alone = share(&[1e9], &[on(1e9, 10)])[0];
        assert!((6100.0..6104.0).contains(&alone), "{alone}");
        let busy = share(&[10_000.0], &[on(1e9, 10)])[0];
        assert!(busy < alone * 0.95, "{busy}");
    }
}
