//! What is asked back, and what is taken.

use super::*;

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
fn what_is_left_of_an_extent_is_lost_with_it() {
    let mut test = Test::new(Splitting::Block);
    test.have(&[extent(0, GIB, A), extent(GIB, GIB, A)]);
    test.release(range(64 * MIB, 64 * MIB), A);
    assert_eq!(released(&test.reclaimed(&[range(64 * MIB, 32 * MIB)])).len(), 1);
    // The device has not heard of that yet.
    let all = Input::ForcedRelease { device: MEM, range: range(0, GIB), tag: A };
    let effects = test.say(all);
    let [Effect::Lost { extents, left, .. }] = &effects[..] else { panic!("{effects:?}") };
    let lost = [(0, 64 * MIB), (96 * MIB, 32 * MIB), (128 * MIB, GIB - 128 * MIB)];
    assert_eq!(*extents, lost.map(|(start, length)| range(start, length)));
    assert_eq!(*left, GIB);
    assert_eq!(test.host.groups()[0].extents, [range(GIB, GIB)]);
}

#[test]
fn a_record_of_force_that_is_read_again_takes_nothing_that_came_later() {
    let mut host = Host::new(Limits::default());
    host.add_device(MEM, config(Splitting::Block)).unwrap();
    let mut test = Test { host, now: at(0) };
    let accepted = vec![extent(64 * MIB, 64 * MIB, Tag::NULL)];
    test.say(Input::Probe { device: MEM, decoder: range(0, PARTITION), accepted });
    let before = test.host.groups();
    let all = Input::ForcedRelease { device: MEM, range: range(0, GIB), tag: Tag::NULL };
    assert_eq!(not_released(&test.say(all)).unwrap().errno(), Errno::Einval);
    assert_eq!(test.host.groups(), before);
    assert_eq!(before.len(), 1);
}
