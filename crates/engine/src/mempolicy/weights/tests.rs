//! The vectors of the rules, the kernel's code in the kernel's way, and a sweep of all ratios.

use alloc::vec;

use memtide_units::Random;

use super::*;

fn fast(read_bandwidth_mib: u32, write_bandwidth_mib: u32) -> Performance {
    Performance { read_bandwidth_mib, write_bandwidth_mib, ..Performance::default() }
}

fn nodes(bandwidths: &[u32]) -> Vec<(NodeId, u32)> {
    bandwidths.iter().zip(0..).map(|(&bandwidth, id)| (NodeId(id), bandwidth)).collect()
}

fn list(weights: &BTreeMap<NodeId, u8>) -> Vec<u8> {
    weights.values().copied().collect()
}

#[test]
fn weights_are_1_to_255_others_einval() {
    let mut weights = Weights::default();
    for weight in [0, 256, u32::MAX] {
        let error = weights.write(NodeId(1), weight).unwrap_err();
        assert_eq!(error, WeightError::Range { node: NodeId(1), weight });
        assert_eq!(error.errno(), Errno::EINVAL);
        assert_eq!(weights, Weights::default());
    }
    for weight in [1, 255] {
        weights.write(NodeId(1), weight).unwrap();
        assert_eq!(u32::from(weights.of(NodeId(1))), weight);
    }
    assert_eq!(weights.of(NodeId(7)), 1);
    let zero = Weights::new(Weighting::Manual, &[(NodeId(3), 0)], &[]);
    assert_eq!(zero, Err(WeightError::Range { node: NodeId(3), weight: 0 }));
}

#[test]
fn writing_a_weight_switches_to_manual() {
    let performance = [(NodeId(0), fast(300, 300)), (NodeId(1), fast(100, 100))];
    for weighting in [Weighting::Automatic, Weighting::AsLinux] {
        let mut weights = Weights::new(weighting, &[], &performance).unwrap();
        assert_eq!((weights.of(NodeId(0)), weights.of(NodeId(1))), (3, 1));
        weights.write(NodeId(1), 2).unwrap();
        assert_eq!(weights.weighting(), Weighting::Manual);
        weights.set_performance(NodeId(0), &fast(100, 100));
        assert_eq!((weights.of(NodeId(0)), weights.of(NodeId(1))), (3, 2));
    }
}

#[test]
fn a_renegotiated_link_re_weights_in_automatic_mode_only() {
    let performance = [(NodeId(0), fast(64, 64)), (NodeId(1), fast(32, 32))];
    let mut weights = Weights::new(Weighting::Automatic, &[], &performance).unwrap();
    assert_eq!((weights.of(NodeId(0)), weights.of(NodeId(1))), (2, 1));
    // The smaller of reading and writing counts.
    weights.set_performance(NodeId(1), &fast(32, 16));
    assert_eq!((weights.of(NodeId(0)), weights.of(NodeId(1))), (4, 1));
    let by_hand = [(NodeId(1), 7)];
    let mut weights = Weights::new(Weighting::Manual, &by_hand, &performance).unwrap();
    let before = (weights.of(NodeId(0)), weights.of(NodeId(1)));
    assert_eq!(before, (1, 7));
    weights.set_performance(NodeId(1), &fast(1, 1));
    assert_eq!((weights.of(NodeId(0)), weights.of(NodeId(1))), before);
}

#[test]
fn a_list_that_contradicts_itself_is_refused() {
    let hand = [(NodeId(1), 3)];
    for weighting in [Weighting::Automatic, Weighting::AsLinux] {
        let refused = Weights::new(weighting, &hand, &[]);
        assert_eq!(refused, Err(WeightError::Automatic { node: NodeId(1) }));
    }
    let twice = [(NodeId(1), 3), (NodeId(2), 1), (NodeId(1), 3)];
    let refused = Weights::new(Weighting::Manual, &twice, &[]);
    assert_eq!(refused, Err(WeightError::Twice { node: NodeId(1) }));
}

#[test]
fn reduce_interleave_weights_vectors() {
    let linux = |bandwidths: &[u32]| list(&reduce_interleave_weights(&nodes(bandwidths)));
    assert_eq!(linux(&[300, 100]), [3, 1]);
    assert_eq!(linux(&[100, 100, 100]), [1, 1, 1]);
    // 32 × 307 / 372 = 26, 32 × 65 / 372 = 5.
    assert_eq!(linux(&[307, 65]), [26, 5]);
    assert_eq!(linux(&[1000, 1]), [31, 1]);
    assert_eq!(linux(&[0, 50]), [1, 32]);
    assert_eq!(linux(&[0, 0]), [1, 1]);
    assert_eq!(linux(&[7]), [1]);
    assert_eq!(linux(&[u32::MAX, u32::MAX]), [1, 1]);
    assert_eq!(linux(&[]), []);
}

/// The C code line for line, with a wider `scaling_factor`.
fn in_c(bw: &[u32]) -> Vec<u8> {
    let sum_bw: u64 = bw.iter().map(|&bw| u64::from(bw)).sum();
    let mut iw_gcd = 0_u64;
    let mut new_iw = vec![0_u64; bw.len()];
    for nid in 0..bw.len() {
        let scaling_factor = 32 * u64::from(bw[nid]);
        new_iw[nid] =
            if bw[nid] != 0 && sum_bw < scaling_factor { scaling_factor / sum_bw } else { 1 };
        if iw_gcd == 0 {
            iw_gcd = new_iw[nid];
        }
        iw_gcd = (1..=iw_gcd)
            .rev()
            .find(|d| iw_gcd.is_multiple_of(*d) && new_iw[nid].is_multiple_of(*d))
            .unwrap();
    }
    new_iw.iter().map(|weight| (weight / iw_gcd) as u8).collect()
}

fn any_bandwidths(random: &mut Random, most: u64) -> Vec<u32> {
    let mut bandwidth = |_| {
        let bits = 1 + random.below(16);
        random.below(1 << bits) as u32
    };
    let count = 1 + bandwidth(()) % most as u32;
    (0..count).map(|_| bandwidth(())).collect()
}

#[test]
fn reduce_interleave_weights_is_the_kernels() {
    for seed in 0..5000 {
        let bandwidths = any_bandwidths(&mut Random::new(seed), 40);
        let weights = list(&reduce_interleave_weights(&nodes(&bandwidths)));
        assert_eq!(weights, in_c(&bandwidths), "seed {seed}");
    }
}

/// What a scan over all nodes gets: all have to finish.
fn throughput(bandwidths: &[u32], weights: &[u8]) -> f64 {
    let round = |(&bandwidth, &weight): (&u32, &u8)| f64::from(weight) / f64::from(bandwidth);
    let slowest = bandwidths.iter().zip(weights).map(round).fold(0.0, f64::max);
    weights.iter().map(|&weight| f64::from(weight)).sum::<f64>() / slowest
}

#[test]
fn automatic_weights_reach_98_hundredths_of_the_best_swept_ratio() {
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let mut bandwidths = [1 + random.below(400) as u32, 1 + random.below(400) as u32];
        if seed % 4 == 0 {
            bandwidths[0] *= 100;
        }
        let sweep = (1..=255).flat_map(|a| (1..=255).map(move |b| [a, b]));
        let best = sweep.map(|weights| throughput(&bandwidths, &weights)).fold(0.0, f64::max);
        let ours = list(&proportional_weights(&nodes(&bandwidths)));
        let ours = throughput(&bandwidths, &ours);
        assert!(ours >= 0.989 * best, "seed {seed}: {bandwidths:?} {ours} of {best}");
    }
}

#[test]
fn many_nodes_reach_98_hundredths_of_all_bandwidth() {
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let bandwidths: Vec<u32> =
            (0..1 + random.below(12)).map(|_| 20 + random.below(600) as u32).collect();
        let sum: u32 = bandwidths.iter().sum();
        let ours = list(&proportional_weights(&nodes(&bandwidths)));
        let reached = throughput(&bandwidths, &ours) / f64::from(sum);
        assert!(reached >= 0.98, "seed {seed}: {bandwidths:?} {ours:?} {reached}");
    }
}

/// Where Linux's rounding costs too much, and where small weights are good enough.
#[test]
fn proportional_weights_vectors() {
    let ours = |bandwidths: &[u32]| list(&proportional_weights(&nodes(bandwidths)));
    assert_eq!(ours(&[300, 100]), [3, 1]);
    assert_eq!(ours(&[300, 101]), [3, 1]);
    assert_eq!(ours(&[60, 1]), [60, 1]);
    assert_eq!(ours(&[0, 0]), [1, 1]);
    assert_eq!(ours(&[0, 50]), [1, 1]);
    assert_eq!(ours(&[u32::MAX, u32::MAX / 2]), [2, 1]);
    let linux = list(&reduce_interleave_weights(&nodes(&[60, 1])));
    assert!(throughput(&[60, 1], &linux) < 0.6 * 61.0);
}
