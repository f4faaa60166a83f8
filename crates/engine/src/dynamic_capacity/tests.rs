//! The rules of dynamic capacity, one by one.

use alloc::{vec, vec::Vec};
use core::time::Duration;

use memtide_units::Instant;

use super::{
    DcExtent, DeviceConfig, DeviceError, DeviceId, DpaRange, Effect, Errno, Host, Input,
    InputError, Limits, More, Notice, Outcome, Partition, Refused, Splitting, Tag,
};
use More::{Follows, Last};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const MEM: DeviceId = DeviceId(0);
const A: Tag = Tag([0xaa; 16]);
const B: Tag = Tag([0xbb; 16]);
/// Two partitions of 16 GiB from 0, each with a region over all of it, then nothing.
const PARTITION: u64 = 16 * GIB;

fn at(seconds: u64) -> Instant {
    Instant(Duration::from_secs(seconds))
}

fn range(start: u64, length: u64) -> DpaRange {
    DpaRange::new(start, length)
}

fn config(splitting: Splitting) -> DeviceConfig {
    let partition = |start| Partition {
        range: range(start, PARTITION),
        length: PARTITION,
        block_bytes: 2 * MIB,
    };
    let partitions = vec![partition(0), partition(PARTITION)];
    DeviceConfig { splitting, ..DeviceConfig::new(partitions) }
}

/// A host, and what it said last.
struct Test {
    host: Host,
    now: Instant,
}

impl Test {
    fn new(splitting: Splitting) -> Self {
        let mut host = Host::new(Limits::default());
        host.add_device(MEM, config(splitting)).unwrap();
        let mut test = Self { host, now: at(0) };
        for start in [0, PARTITION] {
            let decoder = range(start, PARTITION);
            test.say(Input::Probe { device: MEM, decoder, accepted: vec![] });
        }
        test
    }

    fn say(&mut self, input: Input) -> Vec<Effect> {
        let effects = self.host.handle(self.now, input).unwrap();
        self.host.validate();
        effects
    }

    fn add(&mut self, extent: DcExtent, more: More) -> Vec<Effect> {
        self.say(Input::Add { device: MEM, extent, more })
    }

    /// A chain of these extents, and what follows the last.
    fn chain(&mut self, extents: &[DcExtent]) -> Vec<Effect> {
        let (last, rest) = extents.split_last().unwrap();
        for &extent in rest {
            assert_eq!(self.add(extent, Follows), [], "nothing surfaces while more follows");
        }
        self.add(*last, Last)
    }

    /// The device takes all answers: what surfaces.
    fn taken(&mut self, effects: &[Effect]) -> Vec<Effect> {
        let mut all = Vec::new();
        for effect in effects {
            if let Effect::AddResponse { device, chain, .. } = *effect {
                let outcome = Outcome::Taken;
                all.extend(self.say(Input::Answered { device, chain, outcome }));
            }
        }
        all
    }

    /// A chain that the host accepts and the device takes.
    fn have(&mut self, extents: &[DcExtent]) {
        let effects = self.chain(extents);
        assert_eq!(accepted(&effects).len(), extents.len(), "{effects:?}");
        self.taken(&effects);
    }

    fn release(&mut self, range: DpaRange, tag: Tag) -> Vec<Effect> {
        self.say(Input::Release { device: MEM, range, tag, more: Last })
    }

    fn reclaimed(&mut self, free: &[DpaRange]) -> Vec<Effect> {
        self.say(Input::Reclaimed { device: MEM, free: free.to_vec() })
    }

    fn held(&self) -> u64 {
        self.host.groups().iter().map(|group| group.bytes).sum()
    }
}

fn extent(start: u64, length: u64, tag: Tag) -> DcExtent {
    DcExtent { range: range(start, length), tag, sequence: 0 }
}

fn numbered(start: u64, tag: Tag, sequence: u16) -> DcExtent {
    DcExtent { sequence, ..extent(start, GIB, tag) }
}

/// What the only answer accepts.
fn accepted(effects: &[Effect]) -> Vec<DpaRange> {
    let answers: Vec<&Vec<DpaRange>> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::AddResponse { accepted, .. } => Some(accepted),
            _ => None,
        })
        .collect();
    assert_eq!(answers.len(), 1, "one answer for each chain: {effects:?}");
    answers[0].clone()
}

/// What is refused, and why.
fn refused(effects: &[Effect]) -> Vec<(DpaRange, Refused)> {
    let refused = effects.iter().filter_map(|effect| match effect {
        Effect::Note { notice: Notice::Refused { extent, why }, .. } => Some((extent.range, *why)),
        _ => None,
    });
    refused.collect()
}

fn surfaced(effects: &[Effect]) -> Vec<(Tag, Vec<DpaRange>)> {
    let surfaced = effects.iter().filter_map(|effect| match effect {
        Effect::Surface { tag, extents, .. } => Some((*tag, extents.clone())),
        _ => None,
    });
    surfaced.collect()
}

fn released(effects: &[Effect]) -> Vec<DpaRange> {
    let released = effects.iter().filter_map(|effect| match effect {
        Effect::ReleaseDc { released, .. } => Some(released.clone()),
        _ => None,
    });
    released.flatten().collect()
}

/// What the user is asked for.
fn asked(effects: &[Effect]) -> Vec<DpaRange> {
    let asked = effects.iter().filter_map(|effect| match effect {
        Effect::Reclaim { ranges, .. } => Some(ranges.clone()),
        _ => None,
    });
    asked.flatten().collect()
}

/// What is said of a release that cannot be done.
fn not_released(effects: &[Effect]) -> Option<Refused> {
    effects.iter().find_map(|effect| match effect {
        Effect::Note { notice: Notice::NotReleased { why, .. }, .. } => Some(*why),
        _ => None,
    })
}

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

#[test]
fn a_release_takes_the_whole_tag_group() {
    let mut test = Test::new(Splitting::Group);
    test.have(&[extent(0, GIB, A), extent(4 * GIB, GIB, A)]);
    test.have(&[extent(2 * GIB, GIB, B)]);
    // Part of one of them is named.
    let effects = test.release(range(4 * GIB + 4096, 4096), A);
    let all = [range(0, GIB), range(4 * GIB, GIB)];
    assert_eq!(asked(&effects), all);
    assert_eq!(released(&effects), [], "not before its user lets go of it");
    assert_eq!(released(&test.reclaimed(&all)), all);
    assert_eq!(test.host.groups().len(), 1);
}

#[test]
fn a_release_of_no_region_is_acknowledged_and_enxio() {
    let mut test = Test::new(Splitting::Group);
    let nowhere = range(40 * GIB, GIB);
    let effects = test.release(nowhere, A);
    assert_eq!(released(&effects), [nowhere]);
    assert_eq!(not_released(&effects).unwrap().errno(), Errno::Enxio);
}

#[test]
fn a_release_that_matches_nothing_is_einval() {
    let mut test = Test::new(Splitting::Group);
    test.have(&[extent(0, GIB, A), extent(GIB, GIB, A)]);
    for (asked_for, tag) in [
        (range(0, GIB), B),            // Another tag.
        (range(0, GIB), Tag::NULL),    // None.
        (range(0, 2 * GIB), A),        // More than one extent.
        (range(GIB / 2, GIB), A),      // Across two.
        (range(2 * GIB, GIB), A),      // Nothing there.
        (range(0, 0), A),              // Nothing.
        (range(2 * MIB, u64::MAX), A), // Past the last address.
    ] {
        let effects = test.release(asked_for, tag);
        assert_eq!(not_released(&effects).unwrap().errno(), Errno::Einval, "{asked_for}");
        assert_eq!((released(&effects), asked(&effects)), (vec![], vec![]), "{asked_for}");
    }
    assert_eq!(test.held(), 2 * GIB);
}

#[test]
fn a_release_of_what_is_in_use_is_deferred_and_asked_again() {
    let mut test = Test::new(Splitting::Group);
    let all = [range(0, GIB), range(GIB, GIB)];
    test.have(&[extent(0, GIB, A), extent(GIB, GIB, A)]);
    test.release(all[0], A);
    // Half of it could go: Linux never splits a group, so that half stays in use.
    let effects = test.reclaimed(&all[..1]);
    assert_eq!(released(&effects), []);
    assert!(effects.contains(&Effect::Keep { device: MEM, ranges: vec![all[0]] }));
    let deferred = Notice::Deferred { bytes: 2 * GIB, until: at(1) };
    assert!(effects.contains(&Effect::Note { at: at(0), device: MEM, notice: deferred }));
    assert_eq!(test.host.groups()[0].asked, 2 * GIB);
    // Again after a second, then two, four, …, a minute.
    for (seconds, pause) in [(1, 2), (3, 4), (7, 8), (15, 16), (31, 32), (63, 60), (123, 60)] {
        assert_eq!(test.host.next_deadline(), Some(at(seconds)));
        test.now = at(seconds);
        assert_eq!(asked(&test.say(Input::Tick)), all);
        test.reclaimed(&[]);
        assert_eq!(test.host.next_deadline(), Some(at(seconds + pause)));
    }
    // At once when something was freed, or the device asks again.
    assert_eq!(asked(&test.say(Input::Freed { device: MEM })), all);
    test.reclaimed(&[]);
    assert_eq!(asked(&test.release(all[1], A)), all);
    assert_eq!(released(&test.reclaimed(&all)), all);
    assert_eq!((test.host.groups(), test.host.next_deadline()), (vec![], None));
}

#[test]
fn a_chain_of_releases_is_one_question() {
    let mut test = Test::new(Splitting::Group);
    for n in 0..3 {
        test.have(&[extent(n * GIB, GIB, Tag::NULL)]);
    }
    let record =
        |n, more| Input::Release { device: MEM, range: range(n * GIB, GIB), tag: Tag::NULL, more };
    assert_eq!(test.say(record(0, Follows)), []);
    assert_eq!(asked(&test.say(record(2, Last))), [0, 2].map(|n| range(n * GIB, GIB)));
    // What comes meanwhile is part of the next one.
    assert_eq!(test.say(record(1, Last)), []);
    let effects = test.reclaimed(&[range(0, GIB)]);
    assert_eq!(released(&effects), [range(0, GIB)]);
    assert_eq!(asked(&effects), [1, 2].map(|n| range(n * GIB, GIB)));
    test.reclaimed(&[range(GIB, 2 * GIB)]);
    assert_eq!(test.held(), 0);
    // One that does not end is acted on all the same.
    test.have(&[extent(0, GIB, A)]);
    let record = Input::Release { device: MEM, range: range(0, GIB), tag: A, more: Follows };
    assert_eq!(test.say(record), []);
    test.now = at(20);
    assert_eq!(asked(&test.say(Input::Tick)), [range(0, GIB)]);
}

#[test]
fn a_release_that_comes_before_the_answer_is_taken_is_not_forgotten() {
    let mut test = Test::new(Splitting::Group);
    let effects = test.chain(&[extent(0, GIB, A)]);
    assert_eq!(asked(&test.release(range(0, GIB), A)), []);
    let effects = test.taken(&effects);
    assert_eq!(surfaced(&effects).len(), 1);
    assert_eq!(asked(&effects), [range(0, GIB)]);
}

#[test]
fn partial_release_gives_extents_where_the_device_takes_extents() {
    let mut test = Test::new(Splitting::Extent);
    let group: Vec<DcExtent> = (0..10).map(|n| extent(n * GIB, GIB, A)).collect();
    test.have(&group);
    for n in 0..10 {
        let more = if n == 9 { Last } else { Follows };
        let range = range(n * GIB, GIB);
        test.say(Input::Release { device: MEM, range, tag: A, more });
    }
    // Half of the fourth is not enough of it.
    let effects =
        test.reclaimed(&[range(0, 3 * GIB), range(3 * GIB, GIB / 2), range(5 * GIB, GIB)]);
    assert_eq!(released(&effects), [0, 1, 2, 5].map(|n| range(n * GIB, GIB)));
    assert!(effects.contains(&Effect::Keep { device: MEM, ranges: vec![range(3 * GIB, GIB / 2)] }));
    let left: Vec<DpaRange> = [3, 4, 6, 7, 8, 9].map(|n| range(n * GIB, GIB)).to_vec();
    let group = &test.host.groups()[0];
    assert_eq!((group.bytes, group.asked, &group.extents), (6 * GIB, 6 * GIB, &left));
    // The rest is what is asked for next.
    assert_eq!(asked(&test.say(Input::Freed { device: MEM })), left);
    let effects = test.reclaimed(&left);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Withdrawn { left: 0, .. })));
}

#[test]
fn partial_release_gives_blocks_where_the_device_takes_blocks() {
    let mut test = Test::new(Splitting::Block);
    test.have(&[extent(0, GIB, A)]);
    // What is named, in whole pages.
    let effects = test.release(range(64 * MIB + 4096, 64 * MIB), A);
    let named = range(64 * MIB, 66 * MIB);
    assert_eq!(asked(&effects), [named]);
    // What is free, in whole pages.
    let effects = test.reclaimed(&[range(65 * MIB, 4 * MIB)]);
    assert_eq!(released(&effects), [range(66 * MIB, 2 * MIB)]);
    let rest = [range(64 * MIB, 2 * MIB), range(68 * MIB, 62 * MIB)];
    assert_eq!(asked(&test.say(Input::Freed { device: MEM })), rest);
    assert_eq!(released(&test.reclaimed(&rest)), rest);
    let left = vec![range(0, 64 * MIB), range(130 * MIB, GIB - 130 * MIB)];
    assert_eq!(test.host.groups()[0].extents, left);
    // What has gone cannot be asked for, nor what has a hole.
    for gone in [range(64 * MIB, 2 * MIB), range(0, GIB)] {
        let why = not_released(&test.release(gone, A)).unwrap();
        assert_eq!(why.errno(), Errno::Einval);
    }
    // Pieces of one extent, one after the other, are one extent.
    test.release(range(0, 2 * MIB), A);
    test.reclaimed(&[]);
    assert_eq!(not_released(&test.release(range(0, 64 * MIB), A)), None);
    // And it may be offered again where it was.
    let effects = test.chain(&[extent(64 * MIB, 66 * MIB, B)]);
    assert_eq!(accepted(&effects), [range(64 * MIB, 66 * MIB)]);
}

#[test]
fn what_is_taken_by_force_is_lost() {
    for splitting in [Splitting::Group, Splitting::Extent, Splitting::Block] {
        let mut test = Test::new(splitting);
        test.have(&[extent(0, GIB, A), extent(GIB, GIB, A)]);
        let device = MEM;
        let force = |range, tag| Input::ForcedRelease { device, range, tag };
        assert_eq!(
            not_released(&test.say(force(range(0, GIB), B))).unwrap().errno(),
            Errno::Einval
        );
        // In the middle of a question about all of it.
        test.release(range(0, GIB), A);
        let effects = test.say(force(range(0, GIB), A));
        let [Effect::Lost { extents, left, .. }] = &effects[..] else { panic!("{effects:?}") };
        assert_eq!((&extents[..], *left), (&[range(0, GIB)][..], GIB));
        assert!(!released(&test.reclaimed(&[range(0, 2 * GIB)])).contains(&range(0, GIB)));
        assert_eq!(test.host.totals(MEM).unwrap().lost, u128::from(GIB));
    }
    // Before it surfaced nobody has it, and nobody loses it.
    let mut test = Test::new(Splitting::Group);
    let effects = test.chain(&[extent(0, GIB, A)]);
    let range = range(0, GIB);
    assert_eq!(test.say(Input::ForcedRelease { device: MEM, range, tag: A }), []);
    assert_eq!(surfaced(&test.taken(&effects)), []);
}

#[test]
fn what_was_accepted_is_replayed_at_probe_without_a_second_acknowledgement() {
    let mut host = Host::new(Limits::default());
    host.add_device(MEM, config(Splitting::Group)).unwrap();
    let mut test = Test { host, now: at(0) };
    let accepted = vec![
        numbered(4 * GIB, A, 1),
        extent(2 * GIB, GIB, Tag::NULL),
        numbered(0, A, 0),
        extent(PARTITION, GIB, B), // Of another region.
        extent(8 * GIB, MIB, B),   // Good for nothing.
    ];
    let probe = |start| Input::Probe {
        device: MEM,
        decoder: range(start, PARTITION),
        accepted: accepted.clone(),
    };
    let effects = test.say(probe(0));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::AddResponse { .. })));
    let expected =
        [(A, vec![range(0, GIB), range(4 * GIB, GIB)]), (Tag::NULL, vec![range(2 * GIB, GIB)])];
    assert_eq!(surfaced(&effects), expected);
    assert_eq!(refused(&effects).len(), 1);
    assert_eq!(surfaced(&test.say(probe(PARTITION))), [(B, vec![range(PARTITION, GIB)])]);
    let totals = test.host.totals(MEM).unwrap();
    assert_eq!((totals.recovered, totals.offered), (u128::from(4 * GIB), 0));
    // They are released as all others are.
    assert_eq!(asked(&test.release(range(0, GIB), A)).len(), 2);
}

#[test]
fn a_region_where_one_is_is_refused() {
    let mut test = Test::new(Splitting::Group);
    let before = test.host.clone();
    let (device, align) = (MEM, 2 * MIB);
    for decoder in [range(GIB, GIB), range(64 * GIB, MIB), range(64 * GIB, 0)] {
        let probe = Input::Probe { device, decoder, accepted: vec![] };
        let refused = test.host.handle(at(9), probe);
        assert_eq!(refused, Err(InputError::Decoder { device, decoder, align }));
        assert_eq!(test.host, before, "a refused input changed nothing");
    }
    let refused = test.host.handle(at(9), Input::Reclaimed { device, free: vec![] });
    assert_eq!(refused, Err(InputError::NotReclaiming { device }));
    let device = DeviceId(9);
    let refused = test.host.handle(at(9), Input::Freed { device });
    assert_eq!(refused, Err(InputError::NoSuchDevice { device }));
}

#[test]
fn extents_are_limited() {
    let limits = Limits { extents_max: 2, ..Limits::default() };
    let mut host = Host::new(limits);
    host.add_device(MEM, config(Splitting::Group)).unwrap();
    let mut test = Test { host, now: at(0) };
    let decoder = range(0, PARTITION);
    let three: Vec<DcExtent> = (0..3).map(|n| extent(n * GIB, GIB, Tag::NULL)).collect();
    let effects = test.say(Input::Probe { device: MEM, decoder, accepted: three });
    assert_eq!((surfaced(&effects).len(), refused(&effects).len()), (2, 1));
    let effects = test.chain(&[extent(4 * GIB, GIB, A)]);
    let why = Refused::TooManyExtents { extents: 3, extents_max: 2 };
    assert_eq!(refused(&effects), [(range(4 * GIB, GIB), why)]);
}

#[test]
fn a_device_that_makes_no_sense_is_refused() {
    let good = config(Splitting::Group);
    good.check().unwrap();
    let with = |change: fn(&mut DeviceConfig)| {
        let mut config = good.clone();
        change(&mut config);
        config.check().unwrap_err()
    };
    for (error, word) in [
        (with(|config| config.partitions.clear()), "1 to 8"),
        (with(|config| config.align = MIB), "align"),
        (with(|config| config.align = 3 * MIB), "align"),
        (with(|config| config.partitions[0].range.start = 128 * MIB), "0x10000000"),
        (with(|config| config.partitions[1].range.length = u64::MAX), "2^64"),
        (with(|config| config.partitions[0].length = 0), "blocks"),
        (with(|config| config.partitions[0].length = 17 * GIB), "blocks"),
        (with(|config| config.partitions[0].length = MIB), "blocks"),
        (with(|config| config.partitions[0].block_bytes = 3), "power of two"),
        (with(|config| config.partitions.swap(0, 1)), "or more"),
    ] {
        assert!(alloc::format!("{error}").contains(word), "{error}");
    }
    assert!(matches!(with(|c| c.partitions.swap(0, 1)), DeviceError::Order { number: 1, .. }));
}
