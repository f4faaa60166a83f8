//! A whole machine under the rules: nodes, links, tenants, programs, and what happens to them.
//!
//! The rules are the engine's own. The world around it is modelled: processors that reach memory
//! over links, programs that grow, shrink, fork, die and copy what they are ordered to move, a
//! store that zeroes, drivers, operators; and everything that can go wrong. Time is virtual. What
//! must hold is checked after every step by books that know nothing of the engine's
//! (`machine::oracle`).
//!
//! * `text`: the keys of `[machine]`. `event_keys`: those that would do nothing. [`plan`]: the
//!   same, checked and resolved. `bounds`: how much may be asked for. `topology`: who reaches what
//!   over what.
//! * `world`: steps in the order of their time. `life`: what processes do. `process`: one of them.
//!   `operator`: what comes from outside. `queue`: what is to happen.
//! * `share`: how fast programs are. `speed`: what they read from where.
//! * `oracle`: what must hold. `trace`: what led to what does not. `measure`: what a run leaves
//!   behind. [`idle`]: who held memory and did not use it.
//! * `swarm`: random machines. [`fuzz`]: many of them.

mod bounds;
mod event_keys;
pub mod fuzz;
pub mod idle;
mod life;
pub mod measure;
mod operator;
mod oracle;
pub mod plan;
mod process;
pub(crate) mod queue;
mod share;
mod speed;
mod swarm;
pub(crate) mod text;
pub mod topology;
pub(crate) mod trace;
mod world;

use serde::Deserialize;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

pub use self::oracle::Violation;
use self::{measure::MachineRow, plan::Plan, text::Text, trace::Tracing, world::World};
use crate::{
    SimError, change,
    kind::{Job, Kind},
    outcome::{gib, heading},
    plot::{self, Line, Plot},
    scenario::{Wrong, length, typed},
};

/// What `[machine]` says: the same machine in one or more cases.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(try_from = "Text")]
pub struct Machine {
    cases: Vec<(String, Plan)>,
}

/// A table without cases.
impl TryFrom<Text> for Machine {
    type Error = String;

    fn try_from(text: Text) -> Result<Self, String> {
        let plan = text.plan().map_err(|wrong| wrong.problem)?;
        bounds::check(&plan)?;
        Ok(Self { cases: vec![(String::new(), plan)] })
    }
}

/// Runs a plan. What is violated is told with what led to it.
///
/// # Errors
/// [`Violation`]: a check failed, or the engine panicked.
pub(crate) fn run_plan(
    plan: &Plan,
    seed: u64,
    case: &str,
    told: &dyn Fn(u64),
) -> Result<MachineRow, Violation> {
    let run = |tracing, told: &dyn Fn(u64)| World::new(plan, seed, tracing)?.run(case, told);
    // The same again, this time written down.
    run(Tracing::Off, told).or_else(|_| run(Tracing::On, &|_| {}))
}

impl Kind for Machine {
    type Row = MachineRow;

    /// The table, and for each case the table with its values in it.
    fn read(table: Spanned<DeValue<'_>>) -> Result<Self, Wrong> {
        let span = table.span();
        let DeValue::Table(mut base) = table.into_inner() else {
            return Err("expected a table [machine]".to_owned().into());
        };
        let cases = match base.remove("case") {
            Some(cases) => read_cases(cases)?,
            None => vec![("".to_owned(), DeTable::new())],
        };
        length("case", cases.len())?;
        let plan = |(name, set): (String, DeTable<'_>)| {
            let mut table = base.clone();
            for (path, value) in set {
                let at = path.span().start;
                change::put(&mut table, path.get_ref(), value)
                    .map_err(|wrong| Wrong { at: wrong.at.or(Some(at)), ..wrong })?;
            }
            event_keys::check(&table)?;
            let text: Text = typed(Spanned::new(span.clone(), DeValue::Table(table)))?;
            let plan = text.plan()?;
            bounds::check(&plan)?;
            Ok((name, plan))
        };
        Ok(Self { cases: cases.into_iter().map(plan).collect::<Result<_, Wrong>>()? })
    }

    /// Plans are checked when they are made.
    fn check(&self) -> Result<(), Wrong> {
        Ok(())
    }

    fn jobs(&self) -> usize {
        self.cases.len()
    }

    fn run(&self, job: Job<'_>) -> Result<Vec<MachineRow>, SimError> {
        let (case, plan) = &self.cases[job.number];
        let row = run_plan(plan, job.seed, case, job.told);
        row.map(|row| vec![row]).map_err(|violation| SimError::Violated {
            case: case.clone(),
            violation: Box::new(violation),
        })
    }

    fn table(rows: &[MachineRow]) -> Vec<Vec<String>> {
        let mut nodes: Vec<String> = Vec::new();
        let tenants = || rows.iter().flat_map(|row| row.tenants.iter().map(move |one| (row, one)));
        for (_, tenant) in tenants() {
            nodes.extend(
                tenant
                    .bytes
                    .keys()
                    .filter(|node| !nodes.contains(node))
                    .cloned()
                    .collect::<Vec<_>>(),
            );
        }
        let mut names = vec!["CASE", "WINDOW", "TENANT", "MiB/s"];
        let of_nodes: Vec<String> = nodes.iter().map(|node| format!("{node} GiB")).collect();
        names.extend(of_nodes.iter().map(String::as_str));
        names.extend(["ORDINARY GiB", "SHORT GiB", "WAITED", "WAIT ms", "MOVED GiB", "HELD IDLE"]);
        let cells = |(row, one): (&MachineRow, &measure::TenantRow)| {
            let mut cells = vec![
                row.case.clone(),
                one.window.clone(),
                one.tenant.clone(),
                (one.bytes_per_second >> 20).to_string(),
            ];
            let bytes = |node| one.bytes.get(node).copied().unwrap_or(0);
            cells.extend(nodes.iter().map(|node| gib(bytes(node))));
            cells.extend([
                gib(one.ordinary_bytes),
                gib(one.short_bytes),
                one.leases_waited.to_string(),
                one.wait_ms_max.to_string(),
                gib(one.moved_bytes.values().sum()),
                one.idle.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
            ]);
            cells
        };
        std::iter::once(heading(&names)).chain(tenants().map(cells)).collect()
    }

    fn plots(rows: &[MachineRow]) -> Result<Vec<Plot>, SimError> {
        let mut plots = Vec::new();
        for row in rows {
            let case = if row.case.is_empty() { "machine" } else { &row.case };
            let speed = |curve: &measure::Curve| -> Line {
                (curve.tenant.clone(), points(curve, &curve.bytes_per_second))
            };
            let lines: Vec<Line> = row.curves.iter().map(speed).collect();
            let title = format!("{case}: how fast");
            let svg = plot::draw(&title, ["seconds", "read, GiB/s"], &lines)?;
            plots.push(Plot { name: file_name(case, "speed"), svg });
            let lines: Vec<Line> = row.curves.iter().flat_map(memory).collect();
            let title = format!("{case}: what lies where");
            let svg = plot::draw(&title, ["seconds", "GiB"], &lines)?;
            plots.push(Plot { name: file_name(case, "memory"), svg });
        }
        Ok(plots)
    }
}

/// `[[machine.case]]`: names, and other values by their path within `[machine]`.
fn read_cases<'i>(cases: Spanned<DeValue<'i>>) -> Result<Vec<(String, DeTable<'i>)>, Wrong> {
    let at = cases.span().start;
    let wrong = |at, problem: &str| Wrong { at: Some(at), problem: problem.to_owned() };
    let DeValue::Array(cases) = cases.into_inner() else {
        return Err(wrong(at, "expected [[machine.case]]"));
    };
    let mut all: Vec<(String, DeTable<'i>)> = Vec::new();
    for case in cases {
        let at = case.span().start;
        let DeValue::Table(mut case) = case.into_inner() else {
            return Err(wrong(at, "expected [[machine.case]]"));
        };
        let name = case.remove("name").and_then(|name| name.get_ref().as_str().map(str::to_owned));
        let name = name.filter(|name| all.iter().all(|(other, _)| other != name));
        let name = name.ok_or_else(|| wrong(at, "a case without a name of its own"))?;
        let set = match case.remove("set").map(Spanned::into_inner) {
            Some(DeValue::Table(set)) => set,
            None => DeTable::new(),
            Some(_) => return Err(wrong(at, "a case's set; expected { path = value, … }")),
        };
        if let Some((key, _)) = case.iter().next() {
            let problem = format!("unknown field `{}`, expected `name` or `set`", key.get_ref());
            return Err(wrong(key.span().start, &problem));
        }
        all.push((name, set));
    }
    Ok(all)
}

fn points(curve: &measure::Curve, values: &[u64]) -> Vec<(f64, f64)> {
    let at = curve.at_ms.iter().map(|&ms| ms as f64 / 1000.0);
    at.zip(values.iter().map(|&bytes| plot::gib(bytes))).collect()
}

/// What a tenant has on each node where it ever had something.
fn memory(curve: &measure::Curve) -> Vec<Line> {
    let of = |(node, values): (&String, &Vec<u64>)| {
        let any = values.iter().any(|&bytes| bytes > 0);
        any.then(|| (format!("{} on {node}", curve.tenant), points(curve, values)))
    };
    let mut lines: Vec<Line> = curve.bytes.iter().filter_map(of).collect();
    if curve.ordinary_bytes.iter().any(|&bytes| bytes > 0) {
        let name = format!("{}, ordinary", curve.tenant);
        lines.push((name, points(curve, &curve.ordinary_bytes)));
    }
    lines
}

/// A name for a file, of letters, digits and dashes.
fn file_name(case: &str, what: &str) -> String {
    let dashed = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    format!("{}-{what}", case.chars().map(dashed).collect::<String>())
}
