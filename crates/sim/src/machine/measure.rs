//! What a run leaves behind: per tenant and window, and what came out of the engine how often.

use std::collections::BTreeMap;

use memtide_units::PAGEBLOCK_BYTES;
use serde::Serialize;

use super::{
    idle::IdleRow,
    plan::{MS, Nanos, Plan},
};

/// One case of a `[machine]`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct MachineRow {
    /// Its name.
    pub case: String,
    /// By window, then tenant, as they stand in the file.
    pub tenants: Vec<TenantRow>,
    /// Per tenant, one for each sample.
    pub curves: Vec<Curve>,
    /// What operators' requests came to.
    pub answers: Vec<AnswerRow>,
    /// Steps of the world.
    pub steps: u64,
    /// What went in and came out how often; refusals by their reason.
    pub seen: BTreeMap<String, u64>,
}

/// A tenant in a window.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Default)]
pub struct TenantRow {
    /// Which window.
    pub window: String,
    /// Which tenant.
    pub tenant: String,
    /// What its programs read, bytes a second, on average.
    pub bytes_per_second: u64,
    /// What it had at the end, by node.
    pub bytes: BTreeMap<String, u64>,
    /// Ordinary memory that its programs used instead, at the end.
    pub ordinary_bytes: u64,
    /// What its programs wanted and did not have, at the end.
    pub short_bytes: u64,
    /// Requests for memory.
    pub leases: u64,
    /// Those that brought less than was asked for.
    pub leases_short: u64,
    /// Those that were not answered at once.
    pub leases_waited: u64,
    /// The longest wait.
    pub wait_ms_max: u64,
    /// Promises that were refused.
    pub promises_refused: u64,
    /// What stood in the way of leases and promises that brought less than was asked for: which
    /// rule how often.
    pub rules: BTreeMap<String, u64>,
    /// What was moved, by the nodes it came from and went to.
    pub moved_bytes: BTreeMap<String, u64>,
    /// What was lost, to memory errors and with devices.
    pub lost_bytes: u64,
    /// What its programs held idle: the most of each kind, and when.
    pub idle: Vec<IdleRow>,
}

/// A tenant over time.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Curve {
    /// Which tenant.
    pub tenant: String,
    /// Milliseconds.
    pub at_ms: Vec<u64>,
    /// What its programs read, bytes a second.
    pub bytes_per_second: Vec<u64>,
    /// What it has, by node.
    pub bytes: BTreeMap<String, Vec<u64>>,
    /// Ordinary memory of its programs.
    pub ordinary_bytes: Vec<u64>,
}

/// What an operator's request came to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct AnswerRow {
    /// What it was.
    pub request: String,
    /// When it was made.
    pub at_ms: u64,
    /// How long it took.
    pub took_ms: u64,
    /// Asked for.
    pub requested_bytes: u64,
    /// Gone.
    pub returned_bytes: u64,
    /// Not gone.
    pub remaining_bytes: u64,
    /// Who holds the rest: program, reason, bytes.
    pub holders: Vec<(String, String, u64)>,
    /// Whether asking again may bring more.
    pub ask_again: bool,
}

/// What a tenant has at a moment.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Moment {
    /// MiB a second.
    pub rate_mib: f64,
    /// Pageblocks by node.
    pub used: Vec<u64>,
    /// Pages of ordinary memory.
    pub ordinary: u64,
    /// Pages that are missing.
    pub short: u64,
}

/// Measuring.
#[derive(Debug)]
pub struct Measure {
    rows: Vec<Vec<TenantRow>>,
    rates: Vec<Vec<(f64, u32)>>,
    /// Over time.
    pub curves: Vec<Curve>,
    /// What operators heard.
    pub answers: Vec<AnswerRow>,
    /// How often what.
    pub seen: BTreeMap<String, u64>,
    windows: Vec<(Nanos, Nanos)>,
    duration: Nanos,
    nodes: Vec<String>,
}

impl Measure {
    /// Nothing seen.
    pub fn new(plan: &Plan) -> Self {
        let row = |window: &str, tenant: &str| TenantRow {
            window: window.to_owned(),
            tenant: tenant.to_owned(),
            ..TenantRow::default()
        };
        let rows = plan.windows.iter().map(|window| {
            plan.tenants.iter().map(|tenant| row(&window.name, &tenant.name)).collect()
        });
        let nodes: Vec<String> = plan.nodes.iter().map(|node| node.name.clone()).collect();
        let curve = |name: &str| Curve {
            tenant: name.to_owned(),
            at_ms: Vec::new(),
            bytes_per_second: Vec::new(),
            bytes: nodes.iter().map(|node| (node.clone(), Vec::new())).collect(),
            ordinary_bytes: Vec::new(),
        };
        Self {
            rows: rows.collect(),
            rates: vec![vec![(0.0, 0); plan.tenants.len()]; plan.windows.len()],
            curves: plan.tenants.iter().map(|tenant| curve(&tenant.name)).collect(),
            answers: Vec::new(),
            seen: BTreeMap::new(),
            windows: plan.windows.iter().map(|window| (window.from, window.to)).collect(),
            duration: plan.duration,
            nodes,
        }
    }

    /// One more of something.
    pub fn saw(&mut self, what: &str) {
        match self.seen.get_mut(what) {
            Some(count) => *count += 1,
            None => drop(self.seen.insert(what.to_owned(), 1)),
        }
    }

    /// Notes something of a tenant in every window that is open.
    pub fn note(&mut self, now: Nanos, tenant: usize, note: impl Fn(&mut TenantRow)) {
        for (rows, &(from, to)) in self.rows.iter_mut().zip(&self.windows) {
            if from <= now && now < to {
                note(&mut rows[tenant]);
            }
        }
    }

    /// A page went from node to node.
    pub fn moved(&mut self, now: Nanos, tenant: usize, from: usize, to: usize) {
        let name = format!("{} to {}", self.nodes[from], self.nodes[to]);
        self.note(now, tenant, |row| {
            *row.moved_bytes.entry(name.clone()).or_default() += PAGEBLOCK_BYTES;
        });
    }

    /// What a tenant has, and how fast it is.
    pub fn sample(&mut self, now: Nanos, tenant: usize, moment: &Moment) {
        let bytes_per_second = (moment.rate_mib * f64::from(1 << 20)).round() as u64;
        for (number, &(from, to)) in self.windows.iter().enumerate() {
            let is_end = now == to && to == self.duration;
            if now < from || to <= now && !is_end {
                continue;
            }
            let (sum, count) = &mut self.rates[number][tenant];
            *sum += moment.rate_mib;
            *count += 1;
            let row = &mut self.rows[number][tenant];
            row.bytes = self
                .nodes
                .iter()
                .zip(&moment.used)
                .map(|(node, used)| (node.clone(), used * PAGEBLOCK_BYTES))
                .collect();
            row.ordinary_bytes = moment.ordinary * PAGEBLOCK_BYTES;
            row.short_bytes = moment.short * PAGEBLOCK_BYTES;
        }
        let curve = &mut self.curves[tenant];
        curve.at_ms.push(now / MS);
        curve.bytes_per_second.push(bytes_per_second);
        curve.ordinary_bytes.push(moment.ordinary * PAGEBLOCK_BYTES);
        for (node, used) in self.nodes.iter().zip(&moment.used) {
            let all = curve.bytes.get_mut(node).expect("there is one for every node");
            all.push(used * PAGEBLOCK_BYTES);
        }
    }

    /// The row of a case.
    pub fn row(self, case: &str, steps: u64) -> MachineRow {
        let rates = self.rates.into_iter().flatten();
        let tenants = self.rows.into_iter().flatten().zip(rates).map(|(row, (sum, count))| {
            let mean = if count == 0 { 0.0 } else { sum / f64::from(count) };
            TenantRow { bytes_per_second: (mean * f64::from(1 << 20)).round() as u64, ..row }
        });
        MachineRow {
            case: case.to_owned(),
            tenants: tenants.collect(),
            curves: self.curves,
            answers: self.answers,
            steps,
            seen: self.seen,
        }
    }
}
