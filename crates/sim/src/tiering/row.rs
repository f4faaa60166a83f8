//! What came out, as rows of whole numbers, and as a table.

use serde::Serialize;

/// What a contender made of a workload.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct TieringRow {
    /// The workload's name.
    pub workload: String,
    /// The name of the policy or bound.
    pub policy: String,
    /// Accesses of the program.
    pub accesses: u64,
    /// How long they took, in virtual nanoseconds.
    pub time_ns: u64,
    /// Accesses a virtual second.
    pub per_second: u64,
    /// The same over the last tenth of them: when a policy has learnt what there is to learn.
    pub settled_per_second: u64,
    /// Picoseconds of an access on average, loaded.
    pub latency_ps: u64,
    /// Of slices of time, 99 % had an average latency of no more picoseconds; with all that held
    /// the program up.
    pub slice_p99_ps: u64,
    /// Accesses to the fastest tier, of a million.
    pub near_ppm: u64,
    /// Pages that were moved.
    pub moved_pages: u64,
    /// Bytes moved for 1000 bytes more that were accessed in the fastest tier than had nothing
    /// been moved; none when there are no more.
    pub moved_per_1000_gained: Option<u64>,
    /// Of the moves, those that took a page back to where it came from less than a second before,
    /// of a million.
    pub ping_pong_ppm: u64,
    /// Moves that the policy wanted and that were not carried out.
    pub dropped_moves: u64,
    /// CPU time of the manager, of a million parts of the program's cores' time.
    pub manager_ppm: u64,
    /// What the policy keeps in mind about all pages, in bytes.
    pub metadata_bytes: u64,
    /// Pages of the program.
    pub pages: u64,
    /// Over time: the end of a part of the run in virtual microseconds, and accesses a virtual
    /// second in it.
    pub curve: Vec<[u64; 2]>,
}

/// Rows under a heading, as cells of text. Rates are compared with the static oracle's.
#[must_use]
pub fn table(rows: &[TieringRow]) -> Vec<Vec<String>> {
    let heading = [
        "WORKLOAD",
        "POLICY",
        "M ACCESSES/S",
        "OF ORACLE",
        "SETTLED OF IT",
        "LATENCY ns",
        "P99 ns",
        "NEAR %",
        "MOVED",
        "PER GAIN",
        "PING-PONG %",
        "CPU %",
        "BYTES/PAGE",
    ];
    let cells = rows.iter().map(|row| cells(row, rows));
    std::iter::once(heading.map(str::to_owned).to_vec()).chain(cells).collect()
}

fn cells(row: &TieringRow, rows: &[TieringRow]) -> Vec<String> {
    let is_oracle =
        |other: &&TieringRow| other.workload == row.workload && other.policy == "static-oracle";
    let oracle = rows.iter().find(is_oracle);
    let of_oracle = |rate: fn(&TieringRow) -> u64| {
        let ratio = |oracle| rate(row) as f64 / rate(oracle) as f64;
        oracle.map_or_else(|| "–".to_owned(), |oracle| format!("{:.3}", ratio(oracle)))
    };
    let none = || "–".to_owned();
    vec![
        row.workload.clone(),
        row.policy.clone(),
        format!("{:.1}", row.per_second as f64 / 1e6),
        of_oracle(|row| row.per_second),
        of_oracle(|row| row.settled_per_second),
        format!("{:.1}", row.latency_ps as f64 / 1e3),
        format!("{:.1}", row.slice_p99_ps as f64 / 1e3),
        format!("{:.1}", row.near_ppm as f64 / 1e4),
        row.moved_pages.to_string(),
        row.moved_per_1000_gained.map_or_else(none, |of| format!("{:.3}", of as f64 / 1e3)),
        format!("{:.1}", row.ping_pong_ppm as f64 / 1e4),
        format!("{:.2}", row.manager_ppm as f64 / 1e4),
        format!("{:.2}", row.metadata_bytes as f64 / row.pages as f64),
    ]
}
