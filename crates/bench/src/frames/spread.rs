//! The least, the middle, and the most of some figures.

use std::fmt;

use serde::Serialize;

use crate::report::median;

/// How figures of several runs spread.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// The middle one.
    pub median: f64,
    /// The most.
    pub max: f64,
}

impl Spread {
    /// Of these figures; `None` when there are none.
    #[must_use]
    pub fn of(figures: &[f64]) -> Option<Self> {
        let min = figures.iter().copied().min_by(f64::total_cmp)?;
        let max = figures.iter().copied().max_by(f64::total_cmp)?;
        Some(Self { min, median: median(figures), max })
    }
}

impl fmt::Display for Spread {
    /// The middle one, and the others if there are others.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2}", self.median)?;
        if self.min < self.max { write!(f, " ({:.2}–{:.2})", self.min, self.max) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_spread_around_their_median() {
        let spread = Spread::of(&[3.0, 1.0, 2.5]).unwrap();
        assert_eq!(spread, Spread { min: 1.0, median: 2.5, max: 3.0 });
        assert_eq!(spread.to_string(), "2.50 (1.00–3.00)");
        assert_eq!(Spread::of(&[2.0]).unwrap().to_string(), "2.00");
        assert_eq!(Spread::of(&[]), None);
    }
}
