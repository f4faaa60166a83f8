//! How fast programs are with what they have, and what is hot.

use std::collections::BTreeMap;

use memtide_engine::Input;
use memtide_units::{AccessorId, Extent, Pageblock};

use super::{
    measure::Moment,
    oracle::Checked,
    plan::{Access, SECOND},
    process::{Page, Process},
    share::{Demand, Read, share},
    topology::Path,
    world::{Step, World},
};

/// Accesses of a pageblock that are told at most: all that is said is how much more than of others.
const COUNT_MAX: u64 = u32::MAX as u64;

impl World<'_> {
    /// Who reads how much from where at this moment, by process.
    fn demands(&self) -> Vec<(usize, Demand)> {
        let busy = |(number, process): (usize, &Process)| {
            let Access::Busy { wants_mib, lines, hot_permille, hot_share_permille } =
                process.access
            else {
                return None;
            };
            if !process.is_there() || process.pages.is_empty() {
                return None;
            }
            let hot = process.pages.len() as u64 * u64::from(hot_permille) / 1000;
            let shares = self.shares(process, hot as usize, f64::from(hot_share_permille) / 1000.0);
            let reads = shares.into_iter().flat_map(|(at, share)| self.reads(process, at, share));
            Some((number, Demand { wants: wants_mib as f64, lines, reads: reads.collect() }))
        };
        self.processes.iter().enumerate().filter_map(busy).collect()
    }

    /// Of what a process accesses, how much lies on which node; `None` is ordinary memory.
    fn shares(
        &self,
        process: &Process,
        hot: usize,
        hot_share: f64,
    ) -> BTreeMap<Option<usize>, f64> {
        let (first, rest) = process.pages.split_at(hot);
        let hot_share = match (first.is_empty(), rest.is_empty()) {
            (true, _) => 0.0,
            (_, true) => 1.0,
            _ => hot_share,
        };
        let mut shares = BTreeMap::new();
        for (pages, share) in [(first, hot_share), (rest, 1.0 - hot_share)] {
            for page in pages {
                let node = match page {
                    Page::Pool(pageblock) => Some(self.oracle.node_of(*pageblock)),
                    Page::Ordinary => None,
                };
                *shares.entry(node).or_insert(0.0) += share / pages.len() as f64;
            }
        }
        shares
    }

    /// What reading from there crosses, for each of those who do. What one of them does not reach the
    /// others read for him. Resources are the nodes, then the links, then ordinary memory, which is
    /// as near to one as to another.
    fn reads(&self, process: &Process, at: Option<usize>, share: f64) -> Vec<Read> {
        let nodes = self.plan.nodes.len();
        let Some(node) = at else {
            let resources = vec![nodes + self.topology.links.len()];
            let latency_ns = f64::from(self.plan.ordinary.read_latency_ns);
            return vec![Read { share, latency_ns, resources }];
        };
        let accesses = self.plan.programs[process.program].accesses();
        let path = |(processor, part)| Some((self.topology.path(processor, node)?, part));
        let paths: Vec<_> = accesses.filter_map(path).collect();
        let all: f64 = paths.iter().map(|(_, part)| part).sum();
        let read = |(path, part): (Path, f64)| {
            let latency = self.plan.nodes[node].media.read_latency_ns + path.latency_ns;
            let links = path.links.iter().map(|link| nodes + link);
            let resources = std::iter::once(node).chain(links).collect();
            Read { share: share * part / all, latency_ns: f64::from(latency), resources }
        };
        paths.into_iter().map(read).collect()
    }

    fn bandwidths(&self) -> Vec<f64> {
        let media = self.plan.nodes.iter().map(|node| node.media.read_bandwidth_mib);
        let links = (0..self.topology.links.len()).map(|link| self.topology.carries(link));
        let all = media.chain(links).chain([self.plan.ordinary.read_bandwidth_mib]);
        all.map(f64::from).collect()
    }

    /// MiB a second of every process.
    fn rates(&self) -> Vec<f64> {
        let (numbers, demands): (Vec<usize>, Vec<Demand>) = self.demands().into_iter().unzip();
        let mut rates = vec![0.0; self.processes.len()];
        for (number, rate) in numbers.into_iter().zip(share(&self.bandwidths(), &demands)) {
            rates[number] = rate;
        }
        rates
    }

    pub(super) fn sample(&mut self) {
        let rates = self.rates();
        let nodes = self.plan.nodes.len();
        for tenant in 0..self.plan.tenants.len() {
            let used = (0..nodes).map(|node| self.oracle.used(tenant, node)).collect();
            let mut moment = Moment { used, ..Moment::default() };
            for (process, rate) in self.processes.iter().zip(&rates) {
                if process.tenant != tenant || !process.is_there() {
                    continue;
                }
                moment.rate_mib += rate;
                moment.ordinary += process.ordinary();
                moment.short += process.wants.saturating_sub(process.pages.len() as u64);
            }
            self.measure.sample(self.now, tenant, &moment);
        }
        self.note_idle();
    }

    /// Tells the engine what was accessed since the last time, as a sampler would.
    pub(super) fn heat(&mut self) -> Checked<()> {
        let every = self.plan.heat_every.unwrap_or(SECOND);
        self.queue.push(self.now + every, Step::Heat);
        let rates = self.rates();
        for (number, rate) in rates.into_iter().enumerate() {
            if rate <= 0.0 {
                continue;
            }
            let plan = self.plan;
            for (processor, part) in plan.programs[self.processes[number].program].accesses() {
                let extents = self.accessed(&self.processes[number], rate * part, every);
                let accessor = AccessorId(processor as u16);
                if !extents.is_empty() {
                    self.must(Input::Accessed { accessor, extents })?;
                }
            }
        }
        Ok(())
    }

    /// How often each pageblock of a process was accessed at a rate, a cache line at a time.
    fn accessed(&self, process: &Process, rate_mib: f64, over: u64) -> Vec<(Extent, u32)> {
        let Access::Busy { hot_permille, hot_share_permille, .. } = process.access else {
            return Vec::new();
        };
        let lines = rate_mib * f64::from(1 << 20) / 64.0 * over as f64 / SECOND as f64;
        let hot = (process.pages.len() as u64 * u64::from(hot_permille) / 1000) as usize;
        let (first, rest) = process.pages.split_at(hot);
        let hot_share = f64::from(hot_share_permille) / 1000.0;
        let hot_share = if rest.is_empty() { 1.0 } else { hot_share };
        let mut all = Vec::new();
        for (pages, share) in [(first, hot_share), (rest, 1.0 - hot_share)] {
            let count = (lines * share / pages.len().max(1) as f64) as u64;
            if count == 0 {
                continue;
            }
            let pool = pages.iter().filter_map(|page| match page {
                Page::Pool(pageblock) => Some(*pageblock),
                Page::Ordinary => None,
            });
            let extents = Extent::from_blocks(pool.collect::<Vec<Pageblock>>());
            all.extend(extents.into_iter().map(|extent| (extent, count.min(COUNT_MAX) as u32)));
        }
        all
    }
}
