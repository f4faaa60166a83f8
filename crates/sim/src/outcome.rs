//! What came out: the claim, and the measured answer as rows.

use serde::Serialize;

pub use crate::kind::Results;

/// A scenario's outcome. Its JSON is this very structure; sizes are bytes.
#[derive(Clone, PartialEq, Debug, Serialize)]
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

/// The first row of a table.
pub(crate) fn heading(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

impl Outcome {
    /// The rows under a heading, as cells of text.
    #[must_use]
    pub fn table(&self) -> Vec<Vec<String>> {
        self.results.table()
    }
}
