//! Medians and tables.

use std::time::Duration;

use serde::Serialize;

/// The middle one of some figures.
#[must_use]
pub fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// What one round measured. Rates in bytes a second.
#[derive(Clone, Debug, Serialize)]
pub struct Round {
    /// A plain non-temporal copy.
    pub plain_copy: f64,
    /// Populate, copy, remap, with nobody writing.
    pub naive_move: f64,
    /// Live moves, by the time that the pager spent on them, destinations populated ahead.
    pub live_move: f64,
    /// The same, the time for populating included.
    pub live_populated: f64,
    /// Live moves, by the clock on the wall: orders, zeroing and release included.
    pub end_to_end: f64,
    /// Accesses a second with nothing moving.
    pub quiet_accesses: f64,
    /// Accesses a second while blocks moved.
    pub moving_accesses: f64,
    /// p99.999 of an access with nothing moving, in nanoseconds.
    pub quiet_p99999_ns: u64,
    /// The longest access with nothing moving: the machine's own noise.
    pub quiet_max_ns: u64,
    /// p99.999 of an access while blocks moved.
    pub moving_p99999_ns: u64,
    /// The longest access while blocks moved.
    pub moving_max_ns: u64,
}

/// What a benchmark of moves found.
#[derive(Clone, Debug, Serialize)]
pub struct MoveReport {
    /// What the memory was made of.
    pub store: String,
    /// Bytes of the program.
    pub bytes: u64,
    /// What the program did between two accesses, in nanoseconds.
    pub pause_ns: u64,
    /// The rounds.
    pub rounds: Vec<Round>,
}

impl MoveReport {
    fn median_of(&self, figure: impl Fn(&Round) -> f64) -> f64 {
        median(&self.rounds.iter().map(figure).collect::<Vec<_>>())
    }

    /// The table that people read.
    #[must_use]
    pub fn table(&self) -> String {
        let rate = |figure: fn(&Round) -> f64| self.median_of(figure) / 1e9;
        let share =
            |figure: fn(&Round) -> f64| self.median_of(|round| figure(round) / round.plain_copy);
        let time = |figure: fn(&Round) -> u64| {
            Duration::from_nanos(self.median_of(|round| figure(round) as f64) as u64)
        };
        let mut text = format!(
            "store {}, {} MiB, {} rounds, {} ns between accesses\n",
            self.store,
            self.bytes >> 20,
            self.rounds.len(),
            self.pause_ns,
        );
        for (name, figure) in [
            ("plain non-temporal copy", (|r: &Round| r.plain_copy) as fn(&Round) -> f64),
            ("naive move, nobody writing", |r| r.naive_move),
            ("live move, active writer", |r| r.live_move),
            ("  with populating", |r| r.live_populated),
            ("  end to end", |r| r.end_to_end),
        ] {
            text += &format!("{name:<28} {:>6.2} GB/s  {:>5.2}\n", rate(figure), share(figure));
        }
        let kept = self.median_of(|round| round.moving_accesses / round.quiet_accesses);
        text += &format!("throughput kept while moving  {kept:>5.2}\n");
        for (name, p99999, max) in [
            (
                "nothing moving",
                (|r: &Round| r.quiet_p99999_ns) as fn(&Round) -> u64,
                (|r: &Round| r.quiet_max_ns) as fn(&Round) -> u64,
            ),
            ("while moving", |r| r.moving_p99999_ns, |r| r.moving_max_ns),
        ] {
            let (p99999, max) = (time(p99999), time(max));
            text += &format!("access, {name:<15} p99.999 {p99999:.1?}, longest {max:.1?}\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::float_cmp, reason = "these are exact")]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
    }
}
