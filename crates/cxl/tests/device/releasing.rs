//! 4803h and 5605h: how capacity comes back.

use memtide_cxl::{
    ReturnCode,
    command::{
        More,
        dynamic_capacity::Release,
        events::{DynamicCapacityEventKind, EventBody},
    },
    device::{Effect, Refusal},
};
use memtide_units::{DpaRange, Tag};

use crate::bed::*;

#[test]
fn what_a_host_releases_is_free_at_once_and_the_manager_learns_of_it() {
    let mut bed = Bed::new();
    bed.give(H1, &[extent(own(0, 4), A, 0)]);
    let before = bed.generation(H1);
    bed.release(H1, &[own(0, 4)]).unwrap();
    assert_eq!(bed.moves(), [Effect::Ended { host: H1, range: own(0, 4) }]);
    assert_ne!(bed.generation(H1), before);
    let [event] = bed.take_all(None)[..] else { panic!("one event") };
    assert_eq!((event.kind, event.host), (DynamicCapacityEventKind::CapacityReleased, H1));
    assert_eq!(event.extent, extent(own(0, 4), A, 0));
    assert_eq!(bed.tags(), []);
    bed.add(&prescribed(H0, vec![extent(own(0, 4), A, 0)])).unwrap();
}

#[test]
fn parts_of_extents_are_taken_in_whole_blocks_and_the_rest_keeps_its_place() {
    let mut bed = Bed::new();
    bed.give(H0, &[extent(own(16, 2), B, 0), extent(own(0, 8), A, 0)]);
    bed.release(H0, &[own(6, 2), own(2, 1)]).unwrap();
    let left = [extent(own(0, 2), A, 0), extent(own(3, 3), A, 0), extent(own(16, 2), B, 0)];
    assert_eq!(bed.held(H0), left);
    let released: Vec<_> = bed.take_all(None).iter().map(|event| event.extent).collect();
    assert_eq!(released, [extent(own(6, 2), A, 0), extent(own(2, 1), A, 0)]);
}

#[test]
fn a_range_over_neighbouring_extents_is_taken_from_each() {
    let mut bed = Bed::new();
    bed.give(H0, &[extent(own(0, 2), A, 0), extent(own(2, 2), B, 0)]);
    bed.release(H0, &[own(1, 2)]).unwrap();
    assert_eq!(bed.held(H0), [extent(own(0, 1), A, 0), extent(own(3, 1), B, 0)]);
    let released: Vec<_> = bed.take_all(None).iter().map(|event| event.extent).collect();
    assert_eq!(released, [extent(own(1, 1), A, 0), extent(own(2, 1), B, 0)]);
}

#[test]
fn to_release_nothing_is_invalid_input() {
    let mut bed = Bed::new();
    let why = refused(bed.release(H0, &[]));
    assert_eq!(why, (Refusal::NothingReleased, ReturnCode::INVALID_INPUT));
    assert_eq!(code(bed.release(NOBODY, &[own(0, 1)])), ReturnCode::INVALID_INPUT);
}

#[test]
fn what_a_host_does_not_have_is_an_invalid_physical_address() {
    let mut bed = Bed::new();
    bed.give(H0, &plain(&[own(0, 2), own(4, 2)]));
    bed.give(H1, &plain(&[own(2, 2)]));
    bed.add(&prescribed(H0, plain(&[own(8, 2)]))).unwrap();
    for range in [own(2, 1), own(1, 2), own(0, 6), own(6, 1), own(8, 2), shared(0, 1)] {
        let why = refused(bed.release(H0, &[range]));
        assert_eq!(why, (Refusal::NotHeld { range }, ReturnCode::INVALID_PHYSICAL_ADDRESS));
    }
    bed.release(H0, &[own(0, 2)]).unwrap();
    assert_eq!(code(bed.release(H0, &[own(0, 2)])), ReturnCode::INVALID_PHYSICAL_ADDRESS);
}

#[test]
fn addresses_of_no_region_are_an_invalid_physical_address() {
    let mut bed = Bed::new();
    bed.give(H0, &plain(&[own(0, 64)]));
    for range in [own(63, 2), DpaRange::new(0, BLOCK), DpaRange::new(u64::MAX, u64::MAX)] {
        let why = refused(bed.release(H0, &[range]));
        assert_eq!(why, (Refusal::NoAddress { range }, ReturnCode::INVALID_PHYSICAL_ADDRESS));
    }
}

#[test]
fn a_malformed_release_is_an_invalid_extent_list() {
    let mut bed = Bed::new();
    bed.give(H0, &plain(&[own(0, 8)]));
    let cases = [
        vec![DpaRange::new(OWN, 0)],
        vec![DpaRange::new(OWN + 64, BLOCK)],
        vec![DpaRange::new(OWN, BLOCK + 64)],
        vec![own(0, 2), own(1, 2)],
        vec![own(3, 1), own(0, 1), own(3, 1)],
    ];
    for ranges in cases {
        let why = refused(bed.release(H0, &ranges));
        assert_eq!(why.1, ReturnCode::INVALID_EXTENT_LIST, "{ranges:?}: {}", why.0);
    }
}

#[test]
fn a_release_is_taken_whole_or_not_at_all() {
    let mut bed = Bed::new();
    bed.give(H0, &plain(&[own(0, 2)]));
    assert_eq!(code(bed.release(H0, &[own(0, 2), own(8, 1)])), ReturnCode(0xf));
    assert_eq!(bed.held_ranges(H0), [own(0, 2)]);
}

#[test]
fn a_release_that_leaves_more_extents_than_can_be_remembered_is_resources_exhausted() {
    let mut bed = Bed::new();
    bed.give(H0, &plain(&[own(0, 20)]));
    let odd = |count| (0..count).map(|n| own(2 * n + 1, 1)).collect::<Vec<_>>();
    let why = refused(bed.release(H0, &odd(8)));
    let expected = Refusal::Extents { needed: 8, available: 7 };
    assert_eq!(why, (expected, ReturnCode::RESOURCES_EXHAUSTED));
    bed.release(H0, &odd(7)).unwrap();
    assert_eq!(bed.held(H0).len(), 8);
}

#[test]
fn a_release_may_come_in_several_commands() {
    let mut bed = Bed::new();
    bed.give(H0, &plain(&[own(0, 8)]));
    let first = Release { more: More::Follows, released: vec![own(1, 1)] };
    bed.device.release(H0, &first).unwrap();
    assert_eq!(bed.held_ranges(H0), [own(0, 8)]);
    bed.release(H0, &[own(5, 1)]).unwrap();
    assert_eq!(bed.held_ranges(H0), [own(0, 1), own(2, 3), own(6, 2)]);
    bed.device.release(H0, &Release { more: More::Follows, released: vec![own(0, 1)] }).unwrap();
    let empty = Release { more: More::Last, released: vec![] };
    assert_eq!(bed.device.release(H0, &empty), Err(Refusal::NothingReleased));
    assert_eq!(bed.held_ranges(H0), [own(0, 1), own(2, 3), own(6, 2)]);
}

#[test]
fn a_request_reaches_the_host_extent_by_extent_and_takes_nothing() {
    let mut bed = Bed::new();
    bed.give(H0, &[extent(own(0, 4), A, 0), extent(own(4, 4), B, 0)]);
    bed.ask(&ask_for(H0, plain(&[own(2, 4)]))).unwrap();
    assert_eq!(bed.device.take_effects(), [Effect::HostEvent(H0)]);
    let events = bed.take_all(Some(H0));
    let told: Vec<_> = events.iter().map(|e| (e.kind, e.extent, e.more)).collect();
    let kind = DynamicCapacityEventKind::Release;
    let first = (kind, extent(own(2, 2), A, 0), More::Follows);
    assert_eq!(told, [first, (kind, extent(own(4, 2), B, 0), More::Last)]);
    assert_eq!(bed.held_ranges(H0), [own(0, 4), own(4, 4)]);
}

#[test]
fn by_tag_the_highest_addresses_are_asked_for() {
    let mut bed = Bed::new();
    bed.give(H0, &[extent(own(0, 4), A, 0), extent(own(4, 4), B, 0), extent(own(8, 2), A, 0)]);
    bed.ask(&ask_for_tag(H0, A, 3 * BLOCK)).unwrap();
    let asked: Vec<_> = bed.take_all(Some(H0)).iter().map(|event| event.extent).collect();
    assert_eq!(asked, [extent(own(3, 1), A, 0), extent(own(8, 2), A, 0)]);
}

#[test]
fn the_null_tag_stands_for_what_has_none() {
    let mut bed = Bed::new();
    bed.give(H0, &[extent(own(0, 4), Tag::NULL, 0), extent(own(4, 4), B, 0)]);
    bed.ask(&ask_for_tag(H0, Tag::NULL, 2 * BLOCK)).unwrap();
    let asked: Vec<_> = bed.take_all(Some(H0)).iter().map(|event| event.extent.range).collect();
    assert_eq!(asked, [own(2, 2)]);
}

#[test]
fn a_tag_that_the_host_does_not_have_is_invalid_input() {
    let mut bed = Bed::new();
    bed.give(H1, &[extent(own(0, 4), A, 0)]);
    for force in [|request| request, forced] {
        let why = refused(bed.ask(&force(ask_for_tag(H0, A, BLOCK))));
        let expected = Refusal::NothingTagged { host: H0, tag: A };
        assert_eq!(why, (expected, ReturnCode::INVALID_INPUT));
    }
    assert_eq!(code(bed.ask(&ask_for_tag(NOBODY, A, BLOCK))), ReturnCode::INVALID_INPUT);
}

#[test]
fn by_tag_a_length_of_nothing_or_of_parts_of_blocks_is_invalid_input() {
    let mut bed = Bed::new();
    bed.give(H0, &[extent(own(0, 4), A, 0)]);
    for length in [0, 1, BLOCK + 1] {
        assert_eq!(code(bed.ask(&ask_for_tag(H0, A, length))), ReturnCode::INVALID_INPUT);
    }
}

#[test]
fn by_tag_more_than_the_host_has_is_resources_exhausted() {
    let mut bed = Bed::new();
    bed.give(H0, &[extent(own(0, 4), A, 0)]);
    bed.add(&wish(H0, 0, BLOCK, B)).unwrap();
    for (tag, length, held) in [(A, 5 * BLOCK, 4 * BLOCK), (B, BLOCK, 0)] {
        let why = refused(bed.ask(&ask_for_tag(H0, tag, length)));
        let expected = Refusal::MoreThanHeld { length, held };
        assert_eq!(why, (expected, ReturnCode::RESOURCES_EXHAUSTED));
    }
}

#[test]
fn a_list_of_nothing_or_a_malformed_one_is_an_invalid_extent_list() {
    let mut bed = Bed::new();
    bed.give(H0, &plain(&[own(0, 8)]));
    let cases = [
        vec![],
        vec![DpaRange::new(OWN, 0)],
        vec![DpaRange::new(OWN + 64, BLOCK)],
        vec![own(0, 2), own(1, 2)],
    ];
    for ranges in cases {
        for force in [|request| request, forced] {
            let why = code(bed.ask(&force(ask_for(H0, plain(&ranges)))));
            assert_eq!(why, ReturnCode::INVALID_EXTENT_LIST, "{ranges:?}");
        }
    }
}

#[test]
fn blocks_that_are_not_the_hosts_are_an_invalid_extent_list() {
    let mut bed = Bed::new();
    bed.give(H0, &plain(&[own(0, 4)]));
    bed.give(H1, &plain(&[own(4, 4)]));
    for range in [own(4, 1), own(3, 2), own(20, 1)] {
        for force in [|request| request, forced] {
            let why = refused(bed.ask(&force(ask_for(H0, plain(&[range])))));
            let expected = Refusal::NotAssigned { range };
            assert_eq!(why, (expected, ReturnCode::INVALID_EXTENT_LIST));
        }
    }
    let wrong_tag = vec![extent(own(0, 1), B, 0)];
    assert_eq!(code(bed.ask(&ask_for(H0, wrong_tag))), ReturnCode::INVALID_EXTENT_LIST);
}

#[test]
fn asked_what_does_not_exist_or_is_pending_is_an_invalid_physical_address() {
    let mut bed = Bed::new();
    bed.give(H0, &plain(&[own(0, 4)]));
    bed.add(&prescribed(H0, plain(&[own(4, 4)]))).unwrap();
    for range in [own(64, 1), own(63, 2), own(4, 4), own(3, 2), own(5, 1)] {
        let why = code(bed.ask(&ask_for(H0, plain(&[range]))));
        assert_eq!(why, ReturnCode::INVALID_PHYSICAL_ADDRESS, "{range}");
    }
    let why = code(bed.ask(&forced(ask_for(H0, plain(&[own(64, 1)])))));
    assert_eq!(why, ReturnCode::INVALID_EXTENT_LIST);
}

#[test]
fn a_request_that_would_overflow_the_log_is_to_be_tried_again() {
    let mut bed = Bed::new();
    let list: Vec<_> = (0..4).map(|n| own(2 * n, 1)).collect();
    bed.give(H0, &plain(&list));
    bed.ask(&ask_for(H0, plain(&list))).unwrap();
    let why = refused(bed.ask(&ask_for(H0, plain(&list))));
    let expected = Refusal::LogFull { host: H0, records: 4, room: 2 };
    assert_eq!(why, (expected, ReturnCode::RETRY_REQUIRED));
}

#[test]
fn by_force_capacity_is_gone_at_once() {
    let mut bed = Bed::new();
    bed.give(H0, &[extent(own(0, 8), A, 0)]);
    let before = bed.generation(H0);
    bed.ask(&forced(ask_for(H0, plain(&[own(2, 2)])))).unwrap();
    let ended = Effect::Ended { host: H0, range: own(2, 2) };
    assert_eq!(bed.device.take_effects(), [ended, Effect::HostEvent(H0)]);
    assert_eq!(bed.held_ranges(H0), [own(0, 2), own(4, 4)]);
    assert_ne!(bed.generation(H0), before);
    let [event] = bed.take_all(Some(H0))[..] else { panic!("one event") };
    assert_eq!(event.kind, DynamicCapacityEventKind::ForcedRelease);
    assert_eq!(event.extent, extent(own(2, 2), A, 0));
    assert_eq!(bed.take_all(None), [], "the manager knows what it does");
    bed.add(&prescribed(H1, plain(&[own(2, 2)]))).unwrap();
    assert_eq!(code(bed.release(H0, &[own(2, 2)])), ReturnCode::INVALID_PHYSICAL_ADDRESS);
}

#[test]
fn by_force_capacity_is_gone_also_when_the_log_is_full() {
    let mut bed = Bed::new();
    let list: Vec<_> = (0..5).map(|n| own(2 * n, 1)).collect();
    bed.give(H0, &plain(&list));
    bed.ask(&ask_for(H0, plain(&list))).unwrap();
    bed.device.set_time(77);
    bed.ask(&forced(ask_for(H0, plain(&list[..2])))).unwrap();
    bed.device.set_time(99);
    bed.ask(&forced(ask_for(H0, plain(&list[2..])))).unwrap();
    assert_eq!(bed.held(H0), []);
    let read = bed.records(Some(H0));
    let overflow = read.overflow.unwrap();
    assert_eq!((overflow.count, overflow.first, overflow.last), (5, 77, 99));
    let is_asked = |body| match body {
        EventBody::DynamicCapacity(event) => event.kind == DynamicCapacityEventKind::Release,
        EventBody::Other(_) => false,
    };
    assert!(read.records.iter().all(|record| is_asked(record.body)), "those before are kept");
}

#[test]
fn by_force_a_split_that_cannot_be_remembered_is_resources_exhausted() {
    let mut bed = Bed::new();
    bed.give(H0, &plain(&[own(0, 20)]));
    let odd: Vec<_> = (0..8).map(|n| own(2 * n + 1, 1)).collect();
    assert_eq!(code(bed.ask(&forced(ask_for(H0, plain(&odd))))), ReturnCode::RESOURCES_EXHAUSTED);
}

#[test]
fn by_force_and_tag_both_what_is_held_and_what_is_offered_go() {
    let mut bed = Bed::new();
    bed.give(H0, &plain(&[own(0, 2)]));
    bed.add(&prescribed(H0, plain(&[own(8, 2), own(12, 2)]))).unwrap();
    bed.ask(&forced(ask_for_tag(H0, Tag::NULL, 3 * BLOCK))).unwrap();
    assert_eq!(bed.held(H0), []);
    assert_eq!(bed.device.offers(H0).count(), 0);
    bed.add(&prescribed(H1, plain(&[own(0, 16)]))).unwrap();
}

#[test]
fn what_is_released_is_overwritten_where_its_region_or_the_request_says_so() {
    let mut bed = Bed::new();
    bed.give(H0, &[extent(own(0, 8), A, 0)]);
    bed.ask(&sanitized(ask_for(H0, plain(&[own(4, 2)])))).unwrap();
    bed.forget();
    bed.release(H0, &[own(0, 2)]).unwrap();
    assert_eq!(bed.moves(), [Effect::Ended { host: H0, range: own(0, 2) }]);
    bed.release(H0, &[own(4, 1)]).unwrap();
    let range = own(4, 1);
    assert_eq!(bed.moves(), [Effect::Ended { host: H0, range }, Effect::Sanitize { range }]);
    bed.ask(&forced(sanitized(ask_for(H0, plain(&[own(6, 2)]))))).unwrap();
    let range = own(6, 2);
    assert_eq!(bed.moves(), [Effect::Ended { host: H0, range }, Effect::Sanitize { range }]);
    bed.release(H0, &[own(5, 1)]).unwrap();
    assert_eq!(bed.moves().len(), 2, "the rest of what was asked for, too");
    assert_eq!(bed.device.sanitizing().collect::<Vec<_>>(), [own(4, 4)]);
}

#[test]
fn an_offer_is_overwritten_only_if_that_is_asked_for() {
    let mut bed = Bed::new();
    bed.add(&prescribed(H0, vec![extent(shared(0, 1), A, 0)])).unwrap();
    bed.accept(H0, &[]).unwrap();
    assert_eq!(bed.moves(), [], "nobody could touch it");
    bed.add(&prescribed(H0, vec![extent(shared(0, 1), A, 0)])).unwrap();
    bed.ask(&forced(sanitized(ask_for_tag(H0, A, BLOCK)))).unwrap();
    assert_eq!(bed.moves(), [Effect::Sanitize { range: shared(0, 1) }]);
    bed.add(&prescribed(H1, plain(&[own(0, 1)]))).unwrap();
    bed.ask(&forced(sanitized(ask_for(H1, plain(&[own(0, 1)]))))).unwrap();
    assert_eq!(bed.moves(), [Effect::Sanitize { range: own(0, 1) }]);
}
