//! A pool, checked and resolved: what the world is made of.

use core::time::Duration;

use memtide_cxl::manager::{Limits, Timing};
use memtide_units::Random;

/// A device, its manager, and the hosts that share it.
#[derive(Clone, PartialEq, Debug)]
pub struct Plan {
    /// Bytes of the device.
    pub capacity: u64,
    /// What extents are multiples of.
    pub block: u64,
    /// How long it is looked at.
    pub duration: Duration,
    /// How often it is measured for the plot.
    pub sample_every: Duration,
    /// How often hosts say what they use and want, and logs are looked at without an interrupt.
    pub say_every: Duration,
    /// Bytes that a host empties, and the device overwrites, in a second.
    pub copied: u64,
    /// The manager's.
    pub timing: Timing,
    /// How often an operator asks for something by chance; never if absent.
    pub operator_every: Option<Duration>,
    /// What goes wrong.
    pub faults: Faults,
    /// The hosts, in the order of their numbers.
    pub hosts: Vec<HostPlan>,
    /// The names of groups of hosts.
    pub groups: Vec<String>,
}

/// A host.
#[derive(Clone, PartialEq, Debug)]
pub struct HostPlan {
    /// Which group it is counted in.
    pub group: usize,
    /// What it may have.
    pub limits: Limits,
    /// What it needs from when on, ascending; nothing before.
    pub needs: Vec<(Duration, u64)>,
}

/// What goes wrong, by chance.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Faults {
    /// Of a thousand messages, how many are lost.
    pub lost: u64,
    /// How many come twice.
    pub repeated: u64,
    /// How many come late, and by how much at most.
    pub late: u64,
    /// See `late`.
    pub late_by: Duration,
    /// How often some host's agent is killed, on average.
    pub agent_dies: Option<Duration>,
    /// How often the manager is.
    pub manager_dies: Option<Duration>,
    /// How long who was killed is away, at most.
    pub away: Duration,
}

/// A stretch of time with one need.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Phase {
    /// How long.
    pub lasts: Duration,
    /// How much.
    pub needs: u64,
}

/// What a host needs that goes through phases over and over, `ahead` of the first; each need is
/// some percent more or less.
pub fn needs(
    phases: &[Phase],
    ahead: Duration,
    vary_percent: u64,
    duration: Duration,
    random: &mut Random,
) -> Vec<(Duration, u64)> {
    let mut needs = Vec::new();
    // Where a phase begins, and `ahead` after time began.
    let mut at = Duration::ZERO;
    for phase in phases.iter().cycle() {
        let end = at + phase.lasts;
        let span = 2 * vary_percent + 1;
        let percent = 100 + random.below(span) - vary_percent;
        if end > ahead {
            let from = at.saturating_sub(ahead);
            if from >= duration {
                break;
            }
            needs.push((from, phase.needs / 100 * percent));
        }
        at = end;
    }
    needs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_follow_each_other_and_the_first_may_have_begun() {
        let second = Duration::from_secs;
        let phases =
            [Phase { lasts: second(4), needs: 100 }, Phase { lasts: second(2), needs: 300 }];
        let of = |ahead| needs(&phases, second(ahead), 0, second(9), &mut Random::new(1));
        assert_eq!(of(0), [(second(0), 100), (second(4), 300), (second(6), 100)]);
        assert_eq!(of(5), [(second(0), 300), (second(1), 100), (second(5), 300), (second(7), 100)]);
    }

    #[test]
    fn needs_vary_by_so_many_percent_and_no_more() {
        let phases = [Phase { lasts: Duration::from_secs(1), needs: 1000 }];
        let end = Duration::from_secs(1000);
        let needs = needs(&phases, Duration::ZERO, 20, end, &mut Random::new(2));
        let all: Vec<u64> = needs.iter().map(|&(_, need)| need).collect();
        assert_eq!((all.iter().min(), all.iter().max()), (Some(&800), Some(&1200)));
    }
}
