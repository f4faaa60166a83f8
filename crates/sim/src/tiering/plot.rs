//! Throughput over time: a plot for each workload.

use super::TieringRow;
use crate::{
    SimError,
    plot::{Line, Plot, draw},
};

/// A plot for each workload, in their order.
pub fn plots(rows: &[TieringRow]) -> Result<Vec<Plot>, SimError> {
    rows.chunk_by(|a, b| a.workload == b.workload).map(plot).collect()
}

fn plot(rows: &[TieringRow]) -> Result<Plot, SimError> {
    let workload = &rows[0].workload;
    let lines: Vec<Line> = rows.iter().map(line).collect();
    let axes = ["time, ms", "million accesses a second"];
    let svg = draw(&format!("Throughput: {workload}"), axes, &lines)?;
    let letters = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
    let name: String = workload.chars().map(letters).collect();
    Ok(Plot { name: format!("tiering-{name}"), svg })
}

fn line(row: &TieringRow) -> Line {
    let points = row
        .curve
        .iter()
        .map(|&[until_us, per_second]| (until_us as f64 / 1e3, per_second as f64 / 1e6));
    (row.policy.clone(), points.collect())
}
