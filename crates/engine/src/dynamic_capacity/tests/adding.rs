//! What is accepted, and what is refused.

use super::*;

#[test]
fn nothing_surfaces_until_more_is_0() {
    let mut test = Test::new(Splitting::Group);
    assert_eq!(test.add(extent(0, GIB, A), Follows), []);
    assert_eq!(test.add(extent(4 * GIB, GIB, A), Follows), []);
    assert_eq!(test.host.groups(), []);
    let effects = test.add(extent(2 * GIB, GIB, A), Last);
    assert_eq!(accepted(&effects), [0, 4, 2].map(|start| range(start * GIB, GIB)));
}

#[test]
fn nothing_surfaces_until_the_device_takes_the_answer() {
    let mut test = Test::new(Splitting::Group);
    let effects = test.chain(&[extent(0, GIB, A)]);
    assert_eq!(surfaced(&effects), []);
    assert_eq!(surfaced(&test.taken(&effects)), [(A, vec![range(0, GIB)])]);
}

#[test]
fn an_answer_that_the_device_rejects_leaves_nothing() {
    let mut test = Test::new(Splitting::Group);
    let effects = test.chain(&[extent(0, GIB, A), extent(GIB, GIB, Tag::NULL)]);
    let Effect::AddResponse { chain, .. } = effects[0] else { panic!("{effects:?}") };
    let rejected = Input::Answered { device: MEM, chain, outcome: Outcome::Rejected };
    assert_eq!(surfaced(&test.say(rejected.clone())), []);
    assert_eq!(test.held(), 0);
    let twice = test.host.handle(test.now, rejected);
    assert_eq!(twice, Err(InputError::NoSuchChain { device: MEM, chain }));
    test.have(&[extent(0, GIB, A)]);
}

/// An allocation that is withdrawn, and offered again extent by extent.
#[test]
fn what_is_offered_again_in_pieces_waits_for_the_chain_that_names_it() {
    let all = [extent(0, GIB, A), extent(GIB, GIB, A), extent(2 * GIB, GIB, A)];
    let mut test = Test::new(Splitting::Group);
    let whole = test.chain(&all);
    let parts = [0, 1].map(|n| test.chain(&all[n..=n]));
    assert_eq!(surfaced(&test.answered(&whole, Outcome::Rejected)), []);
    assert_eq!(test.held(), 2 * GIB, "the third nobody has named again");
    for n in [0, 1] {
        let effects = test.taken(&parts[n]);
        assert_eq!(surfaced(&effects), [(A, vec![all[n].range])]);
    }
    // The tag is in use as long as one of them is.
    test.release(all[0].range, A);
    test.reclaimed(&[all[0].range]);
    let effects = test.chain(&all);
    assert_eq!(refused(&effects)[0].1, Refused::TagTaken { tag: A, by: MEM });
    test.release(all[1].range, A);
    test.reclaimed(&[all[1].range]);
    test.have(&all);
}

#[test]
fn what_comes_to_wait_for_the_same_word_is_one_allocation_again() {
    let all = [extent(0, GIB, A), extent(GIB, GIB, A)];
    let mut test = Test::new(Splitting::Group);
    let chains = [test.chain(&all), test.chain(&all[1..]), test.chain(&all)];
    test.answered(&chains[0], Outcome::Rejected);
    assert_eq!(test.host.groups().len(), 2);
    test.answered(&chains[1], Outcome::Rejected);
    let effects = test.taken(&chains[2]);
    assert_eq!(surfaced(&effects), [(A, all.map(|extent| extent.range).to_vec())]);
}

#[test]
fn a_chain_that_does_not_end_is_refused_after_20_s() {
    let mut test = Test::new(Splitting::Group);
    test.add(extent(0, GIB, A), Follows);
    test.now = at(5);
    test.add(extent(GIB, GIB, Tag::NULL), Follows);
    assert_eq!(test.host.next_deadline(), Some(at(25)), "from the last record");
    test.now = Instant(Duration::from_millis(24_999));
    assert_eq!(test.say(Input::Tick), []);
    test.now = at(25);
    let effects = test.say(Input::Tick);
    assert_eq!(accepted(&effects), [], "an answer, with nothing accepted");
    assert_eq!(refused(&effects).len(), 2);
    assert!(refused(&effects).iter().all(|(_, why)| why.errno() == Errno::Etime));
    assert_eq!(test.say(Input::Tick), [], "one answer");
    assert_eq!(test.host.next_deadline(), None);
}

#[test]
fn the_rest_of_a_chain_that_was_cut_off_does_not_look_like_all_of_it() {
    let mut test = Test::new(Splitting::Group);
    test.add(extent(0, GIB, A), Follows);
    test.now = at(20);
    // The record itself finds the time up: two answers, for what are two chains to this host.
    let effects = test.say(Input::Add { device: MEM, extent: extent(GIB, GIB, A), more: Follows });
    assert_eq!(accepted(&effects), []);
    let effects = test.add(extent(2 * GIB, GIB, B), Last);
    assert_eq!(refused(&effects), [(range(GIB, GIB), Refused::Torn { tag: A })]);
    assert_eq!(accepted(&effects), [range(2 * GIB, GIB)]);
    // Once: a manager that starts over is not refused for ever.
    test.have(&[extent(0, GIB, A), extent(GIB, GIB, A)]);
}

#[test]
fn a_chain_with_too_many_does_not_make_a_tag_whole_that_was_cut_off() {
    let mut test = Test::new(Splitting::Group);
    test.add(extent(0, GIB, A), Follows);
    test.now = at(20);
    test.say(Input::Tick);
    for n in 0..100 {
        test.add(extent(n * 2 * MIB, 2 * MIB, B), Follows);
    }
    assert_eq!(accepted(&test.add(extent(GIB, GIB, B), Last)), []);
    let effects = test.chain(&[extent(GIB, GIB, A)]);
    assert_eq!(refused(&effects), [(range(GIB, GIB), Refused::Torn { tag: A })]);
}

#[test]
fn more_than_100_pending_extents_are_refused() {
    let mut test = Test::new(Splitting::Group);
    let many = |count| -> Vec<DcExtent> {
        (0..count).map(|n| extent(n * 2 * MIB, 2 * MIB, Tag::NULL)).collect()
    };
    test.have(&many(100));
    let mut test = Test::new(Splitting::Group);
    for extent in many(100) {
        assert_eq!(test.add(extent, Follows), []);
    }
    let effects = test.add(extent(GIB, GIB, A), Follows);
    assert_eq!(refused(&effects).len(), 101);
    assert!(refused(&effects).iter().all(|(_, why)| why.errno() == Errno::Enospc));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::AddResponse { .. })));
    // What still comes of it is refused, too, and the end is answered: once, with nothing.
    assert_eq!(refused(&test.add(extent(2 * GIB, GIB, A), Follows)).len(), 1);
    let effects = test.add(extent(3 * GIB, GIB, A), Last);
    assert_eq!((accepted(&effects), refused(&effects).len()), (vec![], 1));
    test.have(&many(2));
}

#[test]
fn records_cannot_put_off_the_end_of_a_chain_that_has_too_many() {
    let mut test = Test::new(Splitting::Group);
    for n in 0..102 {
        test.add(extent(n * 2 * MIB, 2 * MIB, A), Follows);
    }
    for second in 1..20 {
        test.now = at(second);
        assert_eq!(refused(&test.add(extent(GIB, GIB, B), Follows)).len(), 1);
    }
    test.now = at(20);
    let effects = test.say(Input::Tick);
    assert_eq!(accepted(&effects), []);
}

#[test]
fn one_answer_for_each_chain() {
    let mut test = Test::new(Splitting::Group);
    // Some groups are good, some are not, and the records of all are mixed.
    let effects = test.chain(&[
        extent(0, GIB, A),
        extent(40 * GIB, GIB, B),
        extent(GIB, GIB, A),
        extent(2 * GIB, GIB, Tag::NULL),
        extent(3 * GIB, GIB, B),
        extent(4 * GIB, MIB, Tag::NULL),
    ]);
    assert_eq!(accepted(&effects), [0, 1, 2].map(|start| range(start * GIB, GIB)));
    let why = Refused::NoRegion { range: range(40 * GIB, GIB) };
    let with = Refused::WithGroup { tag: B, other: range(40 * GIB, GIB) };
    let unaligned = Refused::Unaligned { range: range(4 * GIB, MIB), align: 2 * MIB };
    let expected = [
        (range(40 * GIB, GIB), why),
        (range(3 * GIB, GIB), with),
        (range(4 * GIB, MIB), unaligned),
    ];
    assert_eq!(refused(&effects), expected, "what is left out is refused");
    // The null tag comes where it came, tagged groups where their first extent came.
    let effects = test.taken(&effects);
    let a = vec![range(0, GIB), range(GIB, GIB)];
    assert_eq!(surfaced(&effects), [(A, a), (Tag::NULL, vec![range(2 * GIB, GIB)])]);
}

#[test]
fn a_tag_group_is_all_or_nothing() {
    for bad in 0..3 {
        let mut test = Test::new(Splitting::Group);
        let mut group = [0, 1, 2].map(|n| extent(n * GIB, GIB, A));
        group[bad].range.length = 100 * GIB;
        let effects = test.chain(&group);
        assert_eq!(accepted(&effects), []);
        assert_eq!(refused(&effects).len(), 3);
        assert_eq!(test.held(), 0);
    }
}

#[test]
fn the_dpa_of_an_extent_lies_in_a_region() {
    let mut host = Host::new(Limits::default());
    host.add_device(MEM, config(Splitting::Group)).unwrap();
    let mut test = Test { host, now: at(0) };
    let effects = test.chain(&[extent(0, GIB, A)]);
    assert_eq!(refused(&effects)[0].1, Refused::NoRegion { range: range(0, GIB) });
    assert_eq!(refused(&effects)[0].1.errno(), Errno::Enxio);
    let decoder = range(0, GIB);
    test.say(Input::Probe { device: MEM, decoder, accepted: vec![] });
    test.have(&[extent(0, GIB, A)]);
}

#[test]
fn an_extent_is_fully_in_the_endpoint_decoder_and_never_clipped() {
    let mut test = Test::new(Splitting::Group);
    let effects = test.chain(&[extent(PARTITION - GIB, 2 * GIB, A)]);
    let decoder = range(0, PARTITION);
    let across = range(PARTITION - GIB, 2 * GIB);
    assert_eq!(refused(&effects), [(across, Refused::NotInDecoder { range: across, decoder })]);
    assert_eq!(test.held(), 0);
    test.have(&[extent(PARTITION - GIB, GIB, A)]);
}

#[test]
fn an_extent_that_does_not_exist_is_refused() {
    let mut test = Test::new(Splitting::Group);
    for (start, length) in [(0, 0), (u64::MAX, 2), (2 * MIB, u64::MAX)] {
        let effects = test.chain(&[extent(start, length, A)]);
        let why = Refused::NoSuchRange { range: range(start, length) };
        assert_eq!(refused(&effects), [(range(start, length), why)]);
        assert_eq!(accepted(&effects), []);
    }
}

#[test]
fn there_is_a_partition_behind_an_extent() {
    let mut host = Host::new(Limits::default());
    let mut config = config(Splitting::Group);
    config.partitions[0].length = GIB;
    host.add_device(MEM, config).unwrap();
    let mut test = Test { host, now: at(0) };
    let decoder = range(0, PARTITION);
    test.say(Input::Probe { device: MEM, decoder, accepted: vec![] });
    let effects = test.chain(&[extent(GIB - 2 * MIB, 4 * MIB, A)]);
    assert!(matches!(refused(&effects)[0].1, Refused::NotInPartition { .. }), "{effects:?}");
    test.have(&[extent(GIB - 2 * MIB, 2 * MIB, A)]);
}

#[test]
fn an_extent_overlaps_nothing() {
    let mut test = Test::new(Splitting::Group);
    test.have(&[extent(4 * GIB, GIB, A)]);
    for (start, length) in [(3, 2), (4, 2), (3, 4)] {
        let effects = test.chain(&[extent(start * GIB, length * GIB, Tag::NULL)]);
        let (range, with) = (range(start * GIB, length * GIB), range(4 * GIB, GIB));
        assert_eq!(refused(&effects), [(range, Refused::Overlaps { range, with })]);
    }
    // A part of what is there is not the same: Linux takes that for a duplicate.
    let effects = test.chain(&[extent(4 * GIB, GIB / 2, Tag::NULL)]);
    assert!(matches!(refused(&effects)[0].1, Refused::Overlaps { .. }), "{effects:?}");
    // Nor may extents of one group, or of one chain, overlap.
    let effects = test.chain(&[extent(0, 2 * GIB, B), extent(GIB, GIB, B)]);
    assert_eq!((accepted(&effects), refused(&effects).len()), (vec![], 2));
    let effects = test.chain(&[extent(0, 2 * GIB, B), extent(GIB, GIB, Tag::NULL)]);
    assert_eq!(accepted(&effects), [range(0, 2 * GIB)]);
}

#[test]
fn an_exact_duplicate_is_a_no_op() {
    let mut test = Test::new(Splitting::Group);
    test.have(&[extent(0, GIB, A), extent(GIB, GIB, A)]);
    test.have(&[extent(2 * GIB, GIB, Tag::NULL)]);
    let before = test.host.groups();
    let effects = test.chain(&[extent(GIB, GIB, A), extent(2 * GIB, GIB, Tag::NULL)]);
    assert_eq!(accepted(&effects), [range(GIB, GIB), range(2 * GIB, GIB)], "accepted again");
    assert_eq!(surfaced(&test.taken(&effects)), []);
    assert_eq!(test.host.groups(), before);
    // The same addresses under another tag are not the same extent.
    let effects = test.chain(&[extent(0, GIB, B)]);
    assert!(matches!(refused(&effects)[0].1, Refused::Overlaps { .. }), "{effects:?}");
    // Twice in one chain is once.
    let effects = test.chain(&[extent(4 * GIB, GIB, B), extent(4 * GIB, GIB, B)]);
    assert_eq!(accepted(&effects), [range(4 * GIB, GIB)]);
}

#[test]
fn a_tag_is_unique_on_the_host() {
    let mut test = Test::new(Splitting::Group);
    let other = DeviceId(1);
    test.host.add_device(other, config(Splitting::Group)).unwrap();
    let decoder = range(0, PARTITION);
    test.say(Input::Probe { device: other, decoder, accepted: vec![] });
    test.have(&[extent(0, GIB, A)]);
    let input = Input::Add { device: other, extent: extent(0, GIB, A), more: Last };
    let effects = test.say(input.clone());
    assert_eq!(refused(&effects), [(range(0, GIB), Refused::TagTaken { tag: A, by: MEM })]);
    // It is free again once the other is gone.
    test.release(range(0, GIB), A);
    test.reclaimed(&[range(0, GIB)]);
    assert_eq!(accepted(&test.say(input)), [range(0, GIB)]);
}

#[test]
fn a_second_group_under_a_committed_tag_is_refused() {
    let mut test = Test::new(Splitting::Group);
    test.have(&[extent(0, GIB, A)]);
    for group in [vec![extent(GIB, GIB, A)], vec![extent(0, GIB, A), extent(GIB, GIB, A)]] {
        let effects = test.chain(&group);
        assert_eq!(accepted(&effects), []);
        let taken = Refused::TagTaken { tag: A, by: MEM };
        assert!(refused(&effects).iter().all(|&(_, why)| why == taken), "{effects:?}");
    }
}

#[test]
fn the_null_tag_is_exempt_and_each_untagged_extent_is_its_own_device() {
    let mut test = Test::new(Splitting::Group);
    let effects = test.chain(&[extent(0, GIB, Tag::NULL), extent(GIB, GIB, Tag::NULL)]);
    let devices = surfaced(&test.taken(&effects));
    assert_eq!(devices, [0, 1].map(|n| (Tag::NULL, vec![range(n * GIB, GIB)])));
    // One that is bad does not take the others with it.
    let effects = test.chain(&[extent(2 * GIB, GIB, Tag::NULL), extent(GIB, 4 * GIB, Tag::NULL)]);
    assert_eq!(accepted(&effects), [range(2 * GIB, GIB)]);
}

#[test]
fn sequences_are_all_0_or_0_to_n_less_1_or_1_to_n() {
    let cases: [(&[u16], Option<[u64; 3]>); 10] = [
        (&[0, 0, 0], Some([0, 1, 2])), // Arrival order.
        (&[0, 1, 2], Some([0, 1, 2])),
        (&[2, 0, 1], Some([1, 2, 0])),
        (&[3, 2, 1], Some([2, 1, 0])), // The earlier revision.
        (&[0, 0, 1], None),            // Mixed.
        (&[0, 1, 3], None),            // A gap.
        (&[1, 2, 2], None),            // Twice.
        (&[2, 3, 4], None),            // Not from the start.
        (&[0, 2, 3], None),
        (&[0xffff, 0xfffe, 0xfffd], None),
    ];
    for (sequences, order) in cases {
        let mut test = Test::new(Splitting::Group);
        let group = |n: usize| numbered(n as u64 * GIB, A, sequences[n]);
        let effects = test.chain(&[group(0), group(1), group(2)]);
        match order {
            Some(order) => {
                let extents = order.map(|n| range(n * GIB, GIB)).to_vec();
                assert_eq!(surfaced(&test.taken(&effects)), [(A, extents)], "{sequences:?}");
            }
            None => {
                assert_eq!(accepted(&effects), [], "{sequences:?}");
                let why = refused(&effects)[0].1;
                assert!(matches!(why, Refused::Sequence { .. }), "{sequences:?}: {why}");
            }
        }
    }
}

#[test]
fn a_group_lies_in_one_partition() {
    let mut test = Test::new(Splitting::Group);
    let effects = test.chain(&[extent(0, GIB, A), extent(PARTITION, GIB, A)]);
    assert_eq!(accepted(&effects), []);
    let (first, range) = (range(0, GIB), range(PARTITION, GIB));
    assert_eq!(refused(&effects)[1].1, Refused::Partitions { tag: A, first, range });
    let effects = test.chain(&[extent(0, GIB, Tag::NULL), extent(PARTITION, GIB, Tag::NULL)]);
    assert_eq!(accepted(&effects).len(), 2, "what has no tag is no group");
}

#[test]
fn extents_are_aligned_to_2_mib() {
    let mut test = Test::new(Splitting::Group);
    for (start, length) in [(MIB, 2 * MIB), (0, 3 * MIB), (4096, 4096)] {
        let effects = test.chain(&[extent(start, length, A)]);
        let why = Refused::Unaligned { range: range(start, length), align: 2 * MIB };
        assert_eq!(refused(&effects), [(range(start, length), why)]);
    }
}

#[test]
fn one_tag_is_one_device_as_large_as_its_extents_in_sequence_order() {
    let mut test = Test::new(Splitting::Group);
    let extents = [numbered(9 * GIB, A, 1), numbered(0, A, 2), numbered(5 * GIB, A, 0)];
    let effects = test.chain(&extents);
    let order = [5, 9, 0].map(|start| range(start * GIB, GIB)).to_vec();
    assert_eq!(surfaced(&test.taken(&effects)), [(A, order)]);
    assert_eq!(test.host.groups()[0].bytes, 3 * GIB);
}
