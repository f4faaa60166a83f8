//! What the same needs would have got elsewhere: with the device cut into fixed parts, and from
//! somebody who knows every need at once, gives and takes in no time, and knows no limits.
//!
//! Both are by weight. The oracle gives each host what it needs; where that is more than there is,
//! max-min fair: nobody has more for its weight than one who lacks.

use core::time::Duration;
use std::collections::BTreeSet;

use super::{measure::Share, plan::Plan};

/// What each host would have had of a part of its own, in whole blocks.
pub(super) fn fixed(plan: &Plan) -> Vec<Share> {
    let weights: u64 = plan.hosts.iter().map(|host| u64::from(host.limits.weight)).sum();
    let part = |weight: u32| {
        let part = u128::from(plan.capacity) * u128::from(weight) / u128::from(weights.max(1));
        part as u64 / plan.block * plan.block
    };
    follow(plan, |_| plan.hosts.iter().map(|host| part(host.limits.weight)).collect())
}

/// What each would have had of one who knows all.
pub(super) fn oracle(plan: &Plan) -> Vec<Share> {
    let weights: Vec<u64> = plan.hosts.iter().map(|host| host.limits.weight.into()).collect();
    follow(plan, |needs| fill(plan.capacity, needs, &weights))
}

/// Adds up, from change to change, what hosts have of what they need.
fn follow(plan: &Plan, mut has: impl FnMut(&[u64]) -> Vec<u64>) -> Vec<Share> {
    let changes = plan.hosts.iter().flat_map(|host| host.needs.iter().map(|&(at, _)| at));
    let mut times: BTreeSet<Duration> = changes.collect();
    times.insert(plan.duration);
    let mut shares = vec![Share::default(); plan.hosts.len()];
    let mut needs = vec![0; plan.hosts.len()];
    let mut next = vec![0; plan.hosts.len()];
    let mut before = Duration::ZERO;
    for at in times {
        let had = has(&needs);
        for ((share, &need), had) in shares.iter_mut().zip(&needs).zip(had) {
            share.pass(at.min(plan.duration) - before, need, had);
        }
        before = at.min(plan.duration);
        for (number, host) in plan.hosts.iter().enumerate() {
            while let Some(&(_, need)) = host.needs.get(next[number]).filter(|step| step.0 <= at) {
                needs[number] = need;
                next[number] += 1;
            }
        }
    }
    shares
}

/// Max-min fair by weight: who needs least for its weight is served first, with what it needs or
/// with its part of what is left.
fn fill(capacity: u64, needs: &[u64], weights: &[u64]) -> Vec<u64> {
    let mut order: Vec<usize> = (0..needs.len()).collect();
    order.sort_by(|&one, &other| {
        let scaled = |a: usize, b: usize| u128::from(needs[a]) * u128::from(weights[b]);
        scaled(one, other).cmp(&scaled(other, one))
    });
    let mut left = capacity;
    let mut weight: u64 = weights.iter().sum();
    let mut has = vec![0; needs.len()];
    for host in order {
        let part = u128::from(left) * u128::from(weights[host]) / u128::from(weight.max(1));
        has[host] = needs[host].min(part as u64);
        left -= has[host];
        weight -= weights[host];
    }
    has
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oracle_gives_all_where_there_is_enough_and_is_fair_where_there_is_not() {
        assert_eq!(fill(100, &[60, 40], &[1, 1]), [60, 40]);
        assert_eq!(fill(100, &[90, 30], &[1, 1]), [70, 30]);
        assert_eq!(fill(100, &[90, 90], &[3, 1]), [75, 25]);
        assert_eq!(fill(100, &[90, 90, 10], &[1, 1, 1]), [45, 45, 10]);
        assert_eq!(fill(100, &[0, 0], &[1, 1]), [0, 0]);
    }
}
