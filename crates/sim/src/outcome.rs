//! What came out: the claim, and the measured answer as rows.

use memtide_units::ByteSize;
use serde::Serialize;

use crate::{comes_back::ComesBackRow, onlining::OnliningRow, scenario::Policy};

/// A scenario's outcome. Its JSON is this very structure; sizes are bytes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Outcome {
    /// The scenario's title.
    pub title: String,
    /// What somebody says the answer is.
    pub claim: String,
    /// The seed that it was run with.
    pub seed: u64,
    /// What was measured.
    pub results: Results,
}

/// Rows of a kind of scenario.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "kind", content = "rows", rename_all = "kebab-case")]
pub enum Results {
    /// Of `[onlining]`.
    Onlining(Vec<OnliningRow>),
    /// Of `[comes-back]`.
    ComesBack(Vec<ComesBackRow>),
}

impl Policy {
    /// Its name in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AllNormal => "all NORMAL",
            Self::AllMovable => "all MOVABLE",
            Self::OneToOne => "NORMAL:MOVABLE 1:1",
            Self::OneToTwo => "NORMAL:MOVABLE 1:2",
            Self::OneToThree => "NORMAL:MOVABLE 1:3",
            Self::OneToFour => "NORMAL:MOVABLE 1:4",
            Self::PreferMovable => "PREFER_MOVABLE",
            Self::Exmem => "EXMEM",
        }
    }
}

/// Bytes as GiB, exact to a MiB: `771.625`.
#[must_use]
pub fn gib(bytes: u64) -> String {
    let text = format!("{}.{:03}", bytes >> 30, ((bytes % (1 << 30)) * 1000) >> 30);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Thousandths as percent: `75.3`.
#[must_use]
pub fn percent(permille: u64) -> String {
    format!("{}.{}", permille / 10, permille % 10)
}

impl Outcome {
    /// The rows under a heading, as cells of text.
    #[must_use]
    pub fn table(&self) -> Vec<Vec<String>> {
        let heading = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        match &self.results {
            Results::Onlining(rows) => {
                let names =
                    ["UNIT", "BLOCK", "RATIO", "MOVABLE GiB", "KERNEL GiB", "UNITS IN ORDER"];
                let rows = rows.iter().map(|row| {
                    vec![
                        ByteSize(row.unit_bytes).to_string(),
                        ByteSize(row.block_bytes).to_string(),
                        row.ratio.to_string(),
                        gib(row.movable_bytes),
                        gib(row.kernel_bytes),
                        row.pattern.clone(),
                    ]
                });
                std::iter::once(heading(&names)).chain(rows).collect()
            }
            Results::ComesBack(rows) => {
                let names = [
                    "POLICY",
                    "UNMOVABLE %",
                    "UNIT",
                    "BACK %",
                    "BACK GiB",
                    "BLOCKED GiB",
                    "NO ROOM GiB",
                    "MOVED GiB",
                    "UNMOVABLE REFUSED %",
                ];
                let rows = rows.iter().map(|row| {
                    vec![
                        row.policy.name().to_owned(),
                        row.unmovable_percent.to_string(),
                        ByteSize(row.granularity_bytes).to_string(),
                        percent(row.returned_permille()),
                        gib(row.returned_bytes),
                        gib(row.blocked_bytes),
                        gib(row.no_room_bytes),
                        gib(row.moved_bytes),
                        percent(row.refused_permille()),
                    ]
                });
                std::iter::once(heading(&names)).chain(rows).collect()
            }
        }
    }
}
