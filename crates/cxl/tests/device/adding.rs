//! 5604h: what is offered, and what is not.

use memtide_cxl::{
    ReturnCode,
    command::{
        events::DynamicCapacityEventKind,
        fabric_manager::{InitiateAdd, Selection},
    },
    device::{CAPACITY_UNIT, Effect, Refusal},
};
use memtide_units::{DpaRange, Tag};

use crate::bed::*;

#[test]
fn contiguous_capacity_comes_in_one_extent_of_the_smallest_run_that_is_large_enough() {
    let mut bed = Bed::new();
    bed.give(H1, &plain(&[own(4, 1), own(8, 1)]));
    bed.add(&wish(H0, 0, 3 * BLOCK, A)).unwrap();
    let offered: Vec<_> = bed.device.offers(H0).map(<[_]>::to_vec).collect();
    assert_eq!(offered, [[extent(own(5, 3), A, 0)]]);
    assert_eq!(bed.tags(), [(A, 0, 1, false)]);
    assert_eq!(bed.held(H0), [], "an offer is not in the extent list");
}

#[test]
fn free_capacity_comes_in_as_few_extents_as_possible_in_the_order_of_addresses() {
    let mut bed = Bed::new();
    bed.give(H1, &plain(&[own(4, 1), own(8, 54)]));
    // Free: 0-3, 5-7, 62-63.
    let free = |blocks| anywhere(wish(H0, 0, blocks * BLOCK, Tag::NULL));
    bed.add(&free(6)).unwrap();
    let offered = |bed: &Bed| {
        bed.device.offers(H0).next().unwrap().iter().map(|e| e.range).collect::<Vec<_>>()
    };
    assert_eq!(offered(&bed), [own(0, 4), own(62, 2)]);
    bed.accept(H0, &[]).unwrap();
    bed.add(&free(9)).unwrap();
    assert_eq!(offered(&bed), [own(0, 4), own(5, 3), own(62, 2)]);
}

/// The same request, for extents that may lie anywhere.
fn anywhere(request: InitiateAdd) -> InitiateAdd {
    InitiateAdd { selection: Selection::Free, ..request }
}

#[test]
fn contiguous_capacity_that_is_only_there_in_pieces_is_resources_exhausted() {
    let mut bed = Bed::new();
    bed.give(H1, &plain(&[own(0, 1), own(32, 1)]));
    let why = refused(bed.add(&wish(H0, 0, 32 * BLOCK, A)));
    let free = 31 * BLOCK;
    let expected = Refusal::Capacity { length: 32 * BLOCK, free };
    assert_eq!(why, (expected, ReturnCode::RESOURCES_EXHAUSTED));
    bed.add(&anywhere(wish(H0, 0, 32 * BLOCK, A))).unwrap();
}

#[test]
fn more_than_the_region_has_is_resources_exhausted() {
    let mut bed = Bed::new();
    for selection in [Selection::Free, Selection::Contiguous] {
        let mut request = wish(H0, 0, 65 * BLOCK, A);
        request.selection = selection;
        assert_eq!(code(bed.add(&request)), ReturnCode::RESOURCES_EXHAUSTED);
        request.length = u64::MAX - u64::MAX % BLOCK;
        assert_eq!(code(bed.add(&request)), ReturnCode::RESOURCES_EXHAUSTED);
    }
}

#[test]
fn more_than_the_medium_has_is_resources_exhausted() {
    let mut config = config();
    config.regions[0].length = CAPACITY_UNIT;
    config.total_capacity = CAPACITY_UNIT;
    let mut bed = Bed::of(config);
    bed.give(H1, &[extent(shared(0, 64), A, 0)]);
    let why = refused(bed.add(&wish(H0, 0, 65 * BLOCK, B))).0;
    assert_eq!(why, Refusal::Capacity { length: 65 * BLOCK, free: 64 * BLOCK });
    assert_eq!(code(bed.add(&prescribed(H0, plain(&[own(0, 65)])))), ReturnCode(0x1d));
    bed.add(&prescribed(H0, plain(&[own(64, 64)]))).unwrap();
    // What leaves the sharable region is overwritten before anybody can have as much.
    bed.release(H1, &[shared(0, 64)]).unwrap();
    assert_eq!(code(bed.add(&wish(H2, 0, BLOCK, B))), ReturnCode::RETRY_REQUIRED);
    bed.device.sanitized(shared(0, 1)).unwrap();
    bed.add(&wish(H2, 0, BLOCK, B)).unwrap();
}

#[test]
fn a_length_of_nothing_or_of_parts_of_blocks_is_invalid_input() {
    let mut bed = Bed::new();
    for length in [0, 1, BLOCK - 1, BLOCK + 64, u64::MAX] {
        let why = refused(bed.add(&wish(H0, 0, length, A)));
        let expected = Refusal::Length { length, block_size: BLOCK };
        assert_eq!(why, (expected, ReturnCode::INVALID_INPUT));
    }
}

#[test]
fn an_unknown_host_or_region_is_invalid_input() {
    let mut bed = Bed::new();
    let why = refused(bed.add(&wish(NOBODY, 0, BLOCK, A)));
    assert_eq!(why, (Refusal::Host { host: NOBODY, hosts: 3 }, ReturnCode::INVALID_INPUT));
    for region in [2, 8, 255] {
        let why = refused(bed.add(&wish(H0, region, BLOCK, A)));
        assert_eq!(why, (Refusal::Region { region, regions: 2 }, ReturnCode::INVALID_INPUT));
        assert_eq!(code(bed.add(&access(H0, region, A))), ReturnCode::INVALID_INPUT);
    }
}

#[test]
fn a_tag_names_one_allocation() {
    let mut bed = Bed::new();
    bed.add(&wish(H1, 0, BLOCK, A)).unwrap();
    for host in [H0, H1] {
        let why = refused(bed.add(&wish(host, 0, BLOCK, A)));
        assert_eq!(why, (Refusal::TagInUse { tag: A }, ReturnCode::INVALID_INPUT));
        let list = vec![extent(own(5, 1), A, 0)];
        assert_eq!(code(bed.add(&prescribed(host, list))), ReturnCode::INVALID_EXTENT_LIST);
    }
    bed.accept(H1, &[]).unwrap();
    bed.add(&wish(H0, 0, BLOCK, A)).unwrap();
}

#[test]
fn untagged_offers_can_be_made_again_and_again() {
    let mut bed = Bed::new();
    bed.add(&wish(H0, 0, BLOCK, Tag::NULL)).unwrap();
    bed.add(&wish(H0, 0, BLOCK, Tag::NULL)).unwrap();
    assert_eq!(bed.tags(), []);
}

#[test]
fn sharable_capacity_without_a_tag_is_refused() {
    let mut bed = Bed::new();
    let why = refused(bed.add(&wish(H0, 1, BLOCK, Tag::NULL)));
    assert_eq!(why, (Refusal::NoTag { region: 1 }, ReturnCode::INVALID_INPUT));
    let why = code(bed.add(&prescribed(H0, plain(&[shared(0, 1)]))));
    assert_eq!(why, ReturnCode::INVALID_EXTENT_LIST);
}

#[test]
fn a_prescribed_list_is_offered_as_it_is_in_one_group() {
    let mut bed = Bed::new();
    let list = vec![
        extent(own(9, 2), A, 0),
        extent(shared(3, 1), B, 1),
        extent(own(1, 1), Tag::NULL, 0),
        extent(shared(1, 1), B, 0),
    ];
    bed.add(&prescribed(H0, list.clone())).unwrap();
    assert_eq!(bed.device.offers(H0).collect::<Vec<_>>(), [&list[..]]);
    assert_eq!(bed.device.take_effects(), [Effect::HostEvent(H0)]);
    let events = bed.take_all(Some(H0));
    assert!(events.iter().all(|event| event.kind == DynamicCapacityEventKind::Add));
    assert_eq!(events.iter().map(|event| event.extent).collect::<Vec<_>>(), list);
}

#[test]
fn a_prescribed_list_of_nothing_is_an_invalid_extent_list() {
    let mut bed = Bed::new();
    let why = refused(bed.add(&prescribed(H0, vec![])));
    assert_eq!(why, (Refusal::NoExtents, ReturnCode::INVALID_EXTENT_LIST));
}

#[test]
fn a_malformed_prescribed_list_is_an_invalid_extent_list() {
    let mut bed = Bed::new();
    let whole = DpaRange::new(0, u64::MAX);
    let cases = [
        vec![DpaRange::new(OWN, 0)],
        vec![DpaRange::new(OWN + 64, BLOCK)],
        vec![DpaRange::new(OWN, BLOCK + 64)],
        vec![own(0, 2), own(1, 2)],
        vec![own(3, 1), own(3, 1)],
        vec![own(64, 1)],
        vec![own(63, 2)],
        vec![DpaRange::new(0, BLOCK)],
        vec![DpaRange::new(u64::MAX - BLOCK + 1, BLOCK)],
        vec![DpaRange::new(u64::MAX, u64::MAX)],
        vec![whole],
    ];
    for ranges in cases {
        let why = refused(bed.add(&prescribed(H0, plain(&ranges))));
        assert_eq!(why.1, ReturnCode::INVALID_EXTENT_LIST, "{ranges:?}: {}", why.0);
    }
}

#[test]
fn what_a_host_has_or_is_offered_is_not_offered_again() {
    let mut bed = Bed::new();
    bed.give(H0, &plain(&[own(0, 4)]));
    bed.add(&prescribed(H1, plain(&[own(4, 4)]))).unwrap();
    for host in [H0, H1, H2] {
        for range in [own(0, 1), own(3, 2), own(7, 2)] {
            let why = refused(bed.add(&prescribed(host, plain(&[range]))));
            assert_eq!(why, (Refusal::NotFree { range }, ReturnCode::INVALID_EXTENT_LIST));
        }
    }
}

#[test]
fn sequence_numbers_put_sharable_extents_in_order() {
    let list = |numbers: [u16; 3]| {
        let extents = numbers.iter().zip([5, 1, 9]);
        extents.map(|(&number, block)| extent(shared(block, 1), A, number)).collect::<Vec<_>>()
    };
    for numbers in [[0, 1, 2], [2, 0, 1], [1, 2, 3], [3, 1, 2]] {
        Bed::new().add(&prescribed(H0, list(numbers))).unwrap();
    }
    for numbers in [[0, 0, 0], [0, 1, 1], [0, 1, 3], [0, 2, 3], [1, 2, 4], [2, 3, 4], [1, 1, 2]] {
        let why = refused(Bed::new().add(&prescribed(H0, list(numbers))));
        assert!(matches!(why.0, Refusal::Sequence { .. }), "{numbers:?}");
        assert_eq!(why.1, ReturnCode::INVALID_EXTENT_LIST);
    }
    let own_numbered = vec![extent(own(0, 1), A, 1)];
    let why = refused(Bed::new().add(&prescribed(H0, own_numbered)));
    assert_eq!(why.0, Refusal::Sequence { range: own(0, 1), sequence: 1, expected: 0 });
}

#[test]
fn sharable_capacity_that_the_device_chooses_is_numbered_from_0() {
    let mut bed = Bed::new();
    bed.give(H1, &[extent(shared(2, 1), B, 0), extent(shared(6, 57), B, 1)]);
    bed.add(&anywhere(wish(H0, 1, 5 * BLOCK, A))).unwrap();
    let offered = bed.device.offers(H0).next().unwrap();
    assert_eq!(offered, [extent(shared(0, 2), A, 0), extent(shared(3, 3), A, 1)]);
}

#[test]
fn one_tag_lies_in_one_region() {
    let mut bed = Bed::new();
    let list = vec![extent(shared(0, 1), A, 0), extent(own(0, 1), A, 0)];
    let why = refused(bed.add(&prescribed(H0, list)));
    assert!(matches!(why.0, Refusal::ExtentTag { .. }), "{}", why.0);
    assert_eq!(why.1, ReturnCode::INVALID_EXTENT_LIST);
}

#[test]
fn more_extents_than_can_be_remembered_are_resources_exhausted() {
    let mut bed = Bed::with(|limits| limits.event_records = 20);
    let list = |from: u64, count| (0..count).map(|n| own(from + 2 * n, 1)).collect::<Vec<_>>();
    bed.add(&prescribed(H0, plain(&list(0, 5)))).unwrap();
    let why = refused(bed.add(&prescribed(H0, plain(&list(20, 4)))));
    let expected = Refusal::Extents { needed: 4, available: 3 };
    assert_eq!(why, (expected, ReturnCode::RESOURCES_EXHAUSTED));
    bed.add(&prescribed(H1, plain(&list(20, 4)))).unwrap();
    bed.add(&prescribed(H0, plain(&list(40, 3)))).unwrap();
}

#[test]
fn more_tags_than_can_be_remembered_are_resources_exhausted() {
    let mut bed = Bed::with(|limits| limits.event_records = 20);
    for number in 0..4 {
        bed.add(&wish(H0, 0, BLOCK, Tag([number + 1; 16]))).unwrap();
    }
    let why = refused(bed.add(&wish(H0, 0, BLOCK, A)));
    let expected = Refusal::Tags { needed: 1, available: 0 };
    assert_eq!(why, (expected, ReturnCode::RESOURCES_EXHAUSTED));
    bed.add(&wish(H0, 0, BLOCK, Tag::NULL)).unwrap();
    bed.add(&wish(H1, 0, BLOCK, A)).unwrap();
}

#[test]
fn an_offer_that_would_overflow_the_log_is_to_be_tried_again() {
    let mut bed = Bed::new();
    let list =
        |from: u64, count| plain(&(0..count).map(|n| own(from + 2 * n, 1)).collect::<Vec<_>>());
    bed.add(&prescribed(H0, list(0, 4))).unwrap();
    let why = refused(bed.add(&prescribed(H0, list(10, 3))));
    let expected = Refusal::LogFull { host: H0, records: 3, room: 2 };
    assert_eq!(why, (expected, ReturnCode::RETRY_REQUIRED));
    let _ = bed.take_all(Some(H0));
    bed.add(&prescribed(H0, list(10, 3))).unwrap();
}

#[test]
fn an_offer_that_no_log_has_room_for_is_resources_exhausted() {
    let mut bed = Bed::new();
    let list: Vec<_> = (0..7).map(|n| own(2 * n, 1)).collect();
    let why = refused(bed.add(&prescribed(H0, plain(&list))));
    let expected = Refusal::LogTooSmall { records: 7, limit: 6 };
    assert_eq!(why, (expected, ReturnCode::RESOURCES_EXHAUSTED));
}

#[test]
fn what_is_being_overwritten_is_not_offered_yet() {
    let mut bed = Bed::new();
    bed.give(H0, &[extent(shared(0, 64), A, 0)]);
    bed.release(H0, &[shared(0, 64)]).unwrap();
    let moves = bed.moves();
    let range = shared(0, 64);
    assert_eq!(moves, [Effect::Ended { host: H0, range }, Effect::Sanitize { range }]);
    for selection in [Selection::Free, Selection::Contiguous] {
        let mut request = wish(H1, 1, 64 * BLOCK, A);
        request.selection = selection;
        let why = refused(bed.add(&request));
        let expected = Refusal::Sanitizing { length: 64 * BLOCK };
        assert_eq!(why, (expected, ReturnCode::RETRY_REQUIRED));
    }
    let list = vec![extent(shared(1, 1), A, 0)];
    assert_eq!(code(bed.add(&prescribed(H1, list.clone()))), ReturnCode::RETRY_REQUIRED);
    bed.device.sanitized(shared(0, 2)).unwrap();
    bed.device.validate();
    bed.add(&prescribed(H1, list)).unwrap();
    assert_eq!(bed.device.sanitizing().collect::<Vec<_>>(), [shared(2, 62)]);
}

#[test]
fn only_what_is_to_be_overwritten_can_have_been() {
    let mut bed = Bed::new();
    bed.give(H0, &[extent(shared(0, 4), A, 0)]);
    bed.release(H0, &[shared(0, 4)]).unwrap();
    let wrong = [
        shared(3, 2),
        shared(4, 1),
        own(0, 1),
        DpaRange::new(SHARED, 0),
        DpaRange::new(SHARED, 64),
        DpaRange::new(SHARED, u64::MAX),
    ];
    for range in wrong {
        assert_eq!(bed.device.sanitized(range).unwrap_err().range, range);
    }
    bed.device.sanitized(shared(1, 3)).unwrap();
    bed.device.sanitized(shared(1, 1)).unwrap_err();
    bed.device.sanitized(shared(0, 1)).unwrap();
    bed.device.validate();
}
