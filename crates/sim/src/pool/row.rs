//! What came out: for each case a row for each group of hosts, and one for all of them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    bounds,
    measure::{Sample, Share, Waits},
    plan::Plan,
    world::World,
};
use crate::{
    SimError,
    outcome::{gib, heading, percent},
    plot::{self, Line, Plot},
};

/// The row of all hosts.
const ALL: &str = "all";

/// How much of what was needed was had.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct ShareRow {
    /// Thousandths of the time with a need in which all of it was had.
    pub satisfied_permille: u64,
    /// Thousandths of what was needed, over time, that was had.
    pub had_permille: u64,
}

/// From a need that rose beyond what was there to when it was met.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct WaitRow {
    /// Needs that rose, and were there.
    pub at_once: u64,
    /// Needs that waited, and were met.
    pub met: u64,
    /// Half of these were met by then, in milliseconds.
    pub half_ms: u64,
    /// 95 of 100 were.
    pub most_ms: u64,
    /// All were.
    pub max_ms: u64,
    /// Needs that fell again before they were met.
    pub given_up: u64,
}

/// A group of hosts in one case, or all of them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PoolRow {
    /// Which case.
    pub case: String,
    /// Which group; `all` is all of them.
    pub hosts: String,
    /// How many they are.
    pub count: u64,
    /// What they had of what they needed.
    pub pool: ShareRow,
    /// What they would have had of fixed parts.
    pub fixed: ShareRow,
    /// What they would have had of one who knows all, with no limits and in no time.
    pub oracle: ShareRow,
    /// How long they waited.
    pub waits: WaitRow,
    /// Bytes that got another owner; of all hosts only.
    pub moved_bytes: u64,
    /// Messages of any kind; of all hosts only.
    pub messages: u64,
    /// What was sent and what happened, how often; of all hosts only.
    pub seen: BTreeMap<String, u64>,
    /// Steps of the world; of all hosts only.
    pub steps: u64,
    /// The groups, in the order of the curve; of all hosts only.
    pub groups: Vec<String>,
    /// Over time; of all hosts only.
    pub curve: Vec<Sample>,
}

/// What is sent by anybody to anybody.
const MESSAGES: [&str; 5] = ["manager commands", "host commands", "words", "interrupts", "records"];

impl From<Share> for ShareRow {
    fn from(share: Share) -> Self {
        Self { satisfied_permille: share.satisfied_permille(), had_permille: share.had_permille() }
    }
}

impl From<Waits> for WaitRow {
    fn from(waits: Waits) -> Self {
        let within =
            |permille| u64::try_from(waits.within(permille).as_millis()).unwrap_or(u64::MAX);
        Self {
            at_once: waits.at_once,
            met: waits.met.len() as u64,
            half_ms: within(500),
            most_ms: within(950),
            max_ms: within(1000),
            given_up: waits.given_up,
        }
    }
}

/// The rows of a run.
pub(super) fn rows(plan: &Plan, case: &str, world: &World<'_>) -> Vec<PoolRow> {
    let (fixed, oracle) = (bounds::fixed(plan), bounds::oracle(plan));
    let of = |hosts: &str, is_in: &dyn Fn(usize) -> bool| {
        let (mut shares, mut waits, mut count) = ([Share::default(); 3], Waits::default(), 0);
        let accounts = world.measure.accounts.iter().zip(&plan.hosts);
        for (at, (account, _)) in accounts.enumerate().filter(|(_, (_, h))| is_in(h.group)) {
            for (sum, share) in shares.iter_mut().zip([account.share, fixed[at], oracle[at]]) {
                sum.add(share);
            }
            waits.add(&account.waits);
            count += 1;
        }
        let [pool, fixed, oracle] = shares.map(ShareRow::from);
        PoolRow {
            case: case.to_owned(),
            hosts: hosts.to_owned(),
            count,
            pool,
            fixed,
            oracle,
            waits: waits.into(),
            moved_bytes: 0,
            messages: 0,
            seen: BTreeMap::new(),
            steps: 0,
            groups: Vec::new(),
            curve: Vec::new(),
        }
    };
    let groups = plan.groups.iter().enumerate();
    let mut rows: Vec<PoolRow> =
        groups.map(|(group, name)| of(name, &move |of| of == group)).collect();
    let seen = &world.measure.seen;
    rows.push(PoolRow {
        moved_bytes: world.moved(),
        messages: MESSAGES.iter().filter_map(|what| seen.get(what)).sum(),
        seen: seen.iter().map(|(&what, &count)| (what.to_owned(), count)).collect(),
        steps: world.steps,
        groups: plan.groups.clone(),
        curve: world.measure.curve.clone(),
        ..of(ALL, &|_| true)
    });
    rows
}

pub(super) fn table(rows: &[PoolRow]) -> Vec<Vec<String>> {
    let names = [
        "CASE",
        "HOSTS",
        "SATISFIED %",
        "FIXED",
        "ORACLE",
        "HAD %",
        "FIXED",
        "ORACLE",
        "AT ONCE",
        "WAITED",
        "HALF s",
        "95 % s",
        "GAVE UP",
        "MOVED GiB",
        "MESSAGES",
    ];
    let of_all = |row: &PoolRow, text: String| if row.hosts == ALL { text } else { String::new() };
    let rows = rows.iter().map(|row| {
        let PoolRow { pool, fixed, oracle, waits, .. } = row;
        let shares = [pool, fixed, oracle];
        let satisfied = shares.map(|share| percent(share.satisfied_permille));
        let had = shares.map(|share| percent(share.had_permille));
        let head = [row.case.clone(), format!("{} x {}", row.count, row.hosts)];
        let tail = [
            waits.at_once.to_string(),
            waits.met.to_string(),
            seconds(waits.half_ms),
            seconds(waits.most_ms),
            waits.given_up.to_string(),
            of_all(row, gib(row.moved_bytes)),
            of_all(row, row.messages.to_string()),
        ];
        head.into_iter().chain(satisfied).chain(had).chain(tail).collect()
    });
    std::iter::once(heading(&names)).chain(rows).collect()
}

fn seconds(ms: u64) -> String {
    format!("{}.{}", ms / 1000, ms % 1000 / 100)
}

/// Who has what over time: one plot for each case.
pub(super) fn plots(rows: &[PoolRow]) -> Result<Vec<Plot>, SimError> {
    let all = rows.iter().filter(|row| row.hosts == ALL);
    all.map(|row| {
        let points = |bytes: &dyn Fn(&Sample) -> u64| {
            let point = |sample: &Sample| (sample.at_ms as f64 / 60e3, plot::gib(bytes(sample)));
            row.curve.iter().map(point).collect()
        };
        let mut lines: Vec<Line> = vec![
            ("needed by all".to_owned(), points(&|sample| sample.needed_bytes)),
            ("held by all".to_owned(), points(&|sample| sample.held_bytes.iter().sum())),
        ];
        for (group, name) in row.groups.iter().enumerate() {
            lines.push((format!("held by {name}"), points(&move |s| s.held_bytes[group])));
        }
        let axes = ["minutes", "GiB"];
        let svg = plot::draw(&format!("Who has what: {}", row.case), axes, &lines)?;
        Ok(Plot { name: format!("pool-{}", row.case.replace(' ', "-")), svg })
    })
    .collect()
}
