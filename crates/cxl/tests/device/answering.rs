//! 4802h: one answer for each offer, in their order.

use memtide_cxl::{
    ReturnCode,
    command::{
        HostId, More,
        dynamic_capacity::{AddResponse, Release},
        events::DynamicCapacityEventKind,
    },
    device::{Effect, Refusal},
};
use memtide_units::{DpaRange, Tag};

use crate::bed::*;

fn part(bed: &mut Bed, host: HostId, more: More, ranges: &[DpaRange]) -> Result<(), Refusal> {
    let answer = AddResponse { more, accepted: ranges.to_vec() };
    let done = bed.device.add_response(host, &answer);
    bed.device.validate();
    done
}

#[test]
fn what_is_accepted_is_the_hosts_and_the_manager_learns_of_it() {
    let mut bed = Bed::new();
    let list = vec![extent(own(0, 2), A, 0), extent(own(8, 1), A, 0)];
    bed.add(&prescribed(H1, list.clone())).unwrap();
    let before = bed.generation(H1);
    bed.accept(H1, &[own(8, 1), own(0, 2)]).unwrap();
    assert_eq!(bed.held(H1), list);
    assert_ne!(bed.generation(H1), before);
    let gained = |range| Effect::Gained { host: H1, range };
    assert_eq!(bed.moves(), [gained(own(0, 2)), gained(own(8, 1))]);
    let events = bed.take_all(None);
    let told: Vec<_> = events.iter().map(|e| (e.kind, e.host, e.extent, e.more)).collect();
    let kind = DynamicCapacityEventKind::AddResponse;
    let expected = [(kind, H1, list[0], More::Follows), (kind, H1, list[1], More::Last)];
    assert_eq!(told, expected);
    assert_eq!(bed.tags(), [(A, 2, 0, false)]);
}

#[test]
fn what_is_left_out_is_refused_and_free_at_once() {
    let mut bed = Bed::new();
    bed.add(&prescribed(H0, plain(&[own(0, 2), own(4, 2)]))).unwrap();
    bed.accept(H0, &[own(4, 2)]).unwrap();
    assert_eq!(bed.held_ranges(H0), [own(4, 2)]);
    bed.add(&prescribed(H1, plain(&[own(0, 2)]))).unwrap();
    assert_eq!(code(bed.accept(H0, &[own(0, 2)])), ReturnCode::INVALID_INPUT);
}

#[test]
fn an_empty_answer_refuses_the_whole_group() {
    let mut bed = Bed::new();
    bed.add(&prescribed(H0, vec![extent(own(3, 1), B, 0), extent(own(0, 2), A, 0)])).unwrap();
    let before = bed.generation(H0);
    bed.accept(H0, &[]).unwrap();
    assert_eq!((bed.held(H0), bed.generation(H0)), (vec![], before));
    assert_eq!(bed.moves(), []);
    let events = bed.take_all(None);
    let [event] = &events[..] else { panic!("{events:?}") };
    assert_eq!(event.kind, DynamicCapacityEventKind::AddResponse);
    assert_eq!(event.extent, extent(DpaRange::new(own(3, 1).start, 0), B, 0));
    assert_eq!(bed.tags(), []);
}

#[test]
fn answers_come_in_the_order_of_the_offers() {
    let mut bed = Bed::new();
    for block in [0, 4, 8] {
        bed.add(&prescribed(H0, plain(&[own(block, 1)]))).unwrap();
    }
    for block in [4, 8] {
        let why = refused(bed.accept(H0, &[own(block, 1)]));
        let range = own(block, 1);
        assert_eq!(why, (Refusal::OutOfOrder { range }, ReturnCode::INVALID_INPUT));
    }
    for block in [0, 4, 8] {
        bed.accept(H0, &[own(block, 1)]).unwrap();
    }
}

#[test]
fn an_answer_to_nothing_is_invalid_input() {
    let mut bed = Bed::new();
    let why = refused(bed.accept(H0, &[own(0, 1)]));
    assert_eq!(why, (Refusal::NothingOffered, ReturnCode::INVALID_INPUT));
    bed.add(&prescribed(H1, plain(&[own(0, 1)]))).unwrap();
    assert_eq!(refused(bed.accept(H0, &[own(0, 1)])).0, Refusal::NothingOffered);
}

#[test]
fn an_answer_of_no_host_is_invalid_input() {
    let mut bed = Bed::new();
    assert_eq!(code(bed.accept(NOBODY, &[])), ReturnCode::INVALID_INPUT);
}

#[test]
fn what_was_not_offered_is_an_invalid_physical_address() {
    let mut bed = Bed::new();
    bed.add(&prescribed(H0, plain(&[own(0, 2)]))).unwrap();
    bed.add(&prescribed(H1, plain(&[own(8, 2)]))).unwrap();
    for range in [own(2, 1), own(8, 2), shared(0, 1)] {
        let why = refused(bed.accept(H0, &[range]));
        assert_eq!(why, (Refusal::NotOffered { range }, ReturnCode::INVALID_PHYSICAL_ADDRESS));
    }
}

#[test]
fn what_was_accepted_before_is_an_invalid_physical_address() {
    let mut bed = Bed::new();
    bed.give(H0, &plain(&[own(0, 2)]));
    let range = own(0, 2);
    let expected = (Refusal::AcceptedBefore { range }, ReturnCode::INVALID_PHYSICAL_ADDRESS);
    assert_eq!(refused(bed.accept(H0, &[range])), expected);
    bed.add(&prescribed(H0, plain(&[own(4, 1)]))).unwrap();
    assert_eq!(refused(bed.accept(H0, &[range])), expected);
    bed.accept(H0, &[own(4, 1)]).unwrap();
}

#[test]
fn a_malformed_answer_is_an_invalid_extent_list_and_leaves_the_offer() {
    let mut bed = Bed::new();
    bed.add(&prescribed(H0, plain(&[own(0, 2), own(4, 2)]))).unwrap();
    let cases = [
        vec![DpaRange::new(OWN, 0)],
        vec![DpaRange::new(OWN + 64, BLOCK)],
        vec![DpaRange::new(OWN, BLOCK / 2)],
        vec![own(0, 2), own(0, 2)],
        vec![own(0, 2), own(1, 1)],
        vec![own(4, 2), own(0, 2), own(4, 2)],
    ];
    for ranges in cases {
        let why = refused(bed.accept(H0, &ranges));
        assert_eq!(why.1, ReturnCode::INVALID_EXTENT_LIST, "{ranges:?}: {}", why.0);
    }
    bed.accept(H0, &[own(0, 2), own(4, 2)]).unwrap();
}

#[test]
fn addresses_of_no_region_or_of_two_are_an_invalid_physical_address() {
    let mut config = config();
    config.regions[0].length = memtide_cxl::device::CAPACITY_UNIT;
    config.regions[1].base = 2 * memtide_cxl::device::CAPACITY_UNIT;
    let mut bed = Bed::of(config);
    bed.add(&prescribed(H0, plain(&[own(126, 2)]))).unwrap();
    let cases = [
        own(127, 2),
        DpaRange::new(0, BLOCK),
        DpaRange::new(u64::MAX - BLOCK + 1, BLOCK),
        DpaRange::new(u64::MAX - 1, u64::MAX),
        DpaRange::new(0, u64::MAX),
    ];
    for range in cases {
        let why = refused(bed.accept(H0, &[range]));
        assert_eq!(why, (Refusal::NoAddress { range }, ReturnCode::INVALID_PHYSICAL_ADDRESS));
    }
}

#[test]
fn a_part_of_an_extent_or_two_as_one_are_an_invalid_extent_list() {
    let mut bed = Bed::new();
    bed.add(&prescribed(H0, plain(&[own(0, 2), own(2, 2)]))).unwrap();
    for range in [own(0, 1), own(1, 1), own(1, 2), own(0, 4), own(2, 3)] {
        let why = refused(bed.accept(H0, &[range]));
        assert_eq!(why, (Refusal::NotTheExtent { range }, ReturnCode::INVALID_EXTENT_LIST));
    }
}

#[test]
fn a_part_of_a_sharable_tag_is_an_invalid_extent_list() {
    let mut bed = Bed::new();
    let list = vec![extent(shared(0, 1), A, 0), extent(shared(4, 1), A, 1)];
    bed.add(&prescribed(H0, list.clone())).unwrap();
    for range in [shared(0, 1), shared(4, 1)] {
        let why = refused(bed.accept(H0, &[range]));
        assert_eq!(why, (Refusal::PartOfTag { tag: A }, ReturnCode::INVALID_EXTENT_LIST));
    }
    bed.accept(H0, &[shared(4, 1), shared(0, 1)]).unwrap();
    assert_eq!(bed.held(H0), list);
}

#[test]
fn a_group_of_two_tags_can_be_accepted_by_one() {
    let mut bed = Bed::new();
    let list =
        vec![extent(shared(0, 1), A, 0), extent(shared(2, 1), A, 1), extent(shared(4, 1), B, 0)];
    bed.add(&prescribed(H0, list)).unwrap();
    bed.accept(H0, &[shared(4, 1)]).unwrap();
    assert_eq!(bed.tags(), [(B, 1, 0, false)]);
}

#[test]
fn an_answer_may_come_in_several_commands() {
    let mut bed = Bed::new();
    let ranges = [own(0, 1), own(2, 1), own(4, 1), own(6, 1)];
    bed.add(&prescribed(H0, plain(&ranges))).unwrap();
    part(&mut bed, H0, More::Follows, &ranges[..1]).unwrap();
    part(&mut bed, H0, More::Follows, &[]).unwrap();
    part(&mut bed, H0, More::Follows, &ranges[2..3]).unwrap();
    assert_eq!(bed.held(H0), [], "nothing is accepted before the last part");
    part(&mut bed, H0, More::Last, &ranges[3..]).unwrap();
    assert_eq!(bed.held_ranges(H0), [ranges[0], ranges[2], ranges[3]]);
}

#[test]
fn a_part_that_overlaps_an_earlier_one_refuses_the_whole_answer() {
    let mut bed = Bed::new();
    bed.add(&prescribed(H0, plain(&[own(0, 1), own(2, 1)]))).unwrap();
    part(&mut bed, H0, More::Follows, &[own(0, 1)]).unwrap();
    let why = refused(part(&mut bed, H0, More::Follows, &[own(0, 1)]));
    assert_eq!(why.1, ReturnCode::INVALID_EXTENT_LIST);
    for more in [More::Follows, More::Last] {
        let why = refused(part(&mut bed, H0, more, &[own(2, 1)]));
        assert!(matches!(why, (Refusal::BrokenChain { .. }, ReturnCode::INVALID_INPUT)));
    }
    assert_eq!(bed.held(H0), []);
    bed.accept(H0, &[own(2, 1)]).unwrap();
}

#[test]
fn another_command_between_the_parts_refuses_the_rest_of_the_answer() {
    let mut bed = Bed::new();
    bed.give(H0, &plain(&[own(32, 1)]));
    bed.add(&prescribed(H0, plain(&[own(0, 1), own(2, 1)]))).unwrap();
    part(&mut bed, H0, More::Follows, &[own(0, 1)]).unwrap();
    let release = Release { more: More::Last, released: vec![own(32, 1)] };
    bed.device.release(H0, &release).unwrap();
    assert_eq!(code(part(&mut bed, H0, More::Last, &[own(2, 1)])), ReturnCode::INVALID_INPUT);
    bed.accept(H0, &[own(0, 1), own(2, 1)]).unwrap();
}

#[test]
fn another_host_between_the_parts_changes_nothing() {
    let mut bed = Bed::new();
    bed.give(H1, &plain(&[own(32, 1)]));
    bed.add(&prescribed(H0, plain(&[own(0, 1), own(2, 1)]))).unwrap();
    part(&mut bed, H0, More::Follows, &[own(0, 1)]).unwrap();
    bed.release(H1, &[own(32, 1)]).unwrap();
    part(&mut bed, H0, More::Last, &[own(2, 1)]).unwrap();
    assert_eq!(bed.held_ranges(H0), [own(0, 1), own(2, 1)]);
}

#[test]
fn a_chain_without_end_is_cut_off() {
    let mut bed = Bed::new();
    bed.give(H0, &plain(&[own(0, 64)]));
    let mut told = 0;
    let why = loop {
        // 1024 bytes of payload have room for 42 ranges, and 8 extents can be remembered.
        let released = vec![own(told % 64, 1)];
        let done = bed.device.release(H0, &Release { more: More::Follows, released });
        match done {
            Ok(()) => told += 1,
            Err(why) => break why,
        }
    };
    assert_eq!((told, why), (50, Refusal::LongChain { extents: 51, limit: 50 }));
    assert_eq!(why.code(), ReturnCode::RESOURCES_EXHAUSTED);
    assert_eq!(bed.held_ranges(H0), [own(0, 64)]);
}

#[test]
fn an_offer_that_nobody_answers_stays() {
    let mut bed = Bed::new();
    bed.add(&prescribed(H2, vec![extent(own(0, 1), A, 0)])).unwrap();
    for hour in 0..100 {
        bed.device.set_time(hour * 3_600_000_000_000);
        bed.add(&prescribed(H0, plain(&[own(1, 1)]))).unwrap();
        bed.accept(H0, &[]).unwrap();
        bed.forget();
    }
    assert_eq!(bed.tags(), [(A, 0, 4, false)]);
    assert_eq!(code(bed.add(&prescribed(H0, plain(&[own(0, 1)])))), ReturnCode(0x1e));
    bed.accept(H2, &[own(0, 1)]).unwrap();
}

#[test]
fn a_dead_offer_can_only_be_refused() {
    let mut bed = Bed::new();
    bed.add(&prescribed(H0, vec![extent(own(0, 2), A, 0), extent(own(4, 2), B, 0)])).unwrap();
    bed.add(&prescribed(H0, plain(&[own(8, 1)]))).unwrap();
    let records = bed.records(Some(H0));
    bed.ask(&forced(ask_for(H0, plain(&[own(1, 1)])))).unwrap();
    assert_eq!(bed.records(Some(H0)), records, "no record is added, none is changed");
    assert_eq!(bed.tags(), [], "nothing of it is the host's");
    bed.add(&prescribed(H1, plain(&[own(0, 6)]))).unwrap();

    let range = own(8, 1);
    let why = refused(bed.accept(H0, &[range]));
    assert_eq!(why, (Refusal::OutOfOrder { range }, ReturnCode::INVALID_INPUT));
    let why = refused(bed.accept(H0, &[own(0, 2), own(20, 1)]));
    assert_eq!(why.0, Refusal::NotOffered { range: own(20, 1) });
    bed.accept(H0, &[]).unwrap();
    bed.accept(H0, &[range]).unwrap();
}

#[test]
fn a_dead_offer_is_gone_once_its_host_was_told() {
    for accepted in [vec![own(0, 2)], vec![]] {
        let mut bed = Bed::new();
        bed.add(&prescribed(H0, plain(&[own(0, 2)]))).unwrap();
        bed.add(&prescribed(H0, plain(&[own(8, 1)]))).unwrap();
        bed.ask(&forced(ask_for(H0, plain(&[own(0, 2)])))).unwrap();
        bed.forget();
        let answer = AddResponse { more: More::Last, accepted: accepted.clone() };
        let done = bed.device.add_response(H0, &answer);
        bed.device.validate();
        if accepted.is_empty() {
            done.unwrap();
        } else {
            assert_eq!(refused(done), (Refusal::Dead, ReturnCode::INVALID_PHYSICAL_ADDRESS));
        }
        let told = bed.take_all(None);
        assert_eq!((told.len(), told[0].extent.range.length), (1, 0));
        bed.accept(H0, &[own(8, 1)]).unwrap();
        assert_eq!(bed.held_ranges(H0), [own(8, 1)]);
    }
}

#[test]
fn a_dead_offer_is_remembered_until_it_is_answered() {
    let mut bed = Bed::new();
    let ranges: Vec<_> = (0..6).map(|n| own(2 * n, 1)).collect();
    bed.add(&prescribed(H0, plain(&ranges))).unwrap();
    bed.ask(&forced(ask_for(H0, plain(&[own(0, 1)])))).unwrap();
    bed.forget();
    let why = refused(bed.add(&prescribed(H0, plain(&ranges))));
    assert_eq!(why.0, Refusal::Extents { needed: 6, available: 2 });
    bed.accept(H0, &[]).unwrap();
    bed.add(&prescribed(H0, plain(&ranges))).unwrap();
}

#[test]
fn what_was_taken_from_a_dead_offer_can_be_offered_to_the_same_host_again() {
    let mut bed = Bed::new();
    bed.add(&prescribed(H0, vec![extent(own(0, 2), A, 0)])).unwrap();
    bed.ask(&forced(ask_for_tag(H0, A, 2 * BLOCK))).unwrap();
    bed.add(&prescribed(H0, vec![extent(own(0, 2), A, 0)])).unwrap();
    let answer = AddResponse { more: More::Last, accepted: vec![own(0, 2)] };
    assert_eq!(bed.device.add_response(H0, &answer), Err(Refusal::Dead));
    bed.device.validate();
    bed.accept(H0, &[own(0, 2)]).unwrap();
    assert_eq!(bed.held(H0), [extent(own(0, 2), A, 0)]);
}

#[test]
fn the_null_tag_takes_up_no_tag() {
    let mut bed = Bed::new();
    bed.give(H0, &plain(&[own(0, 1)]));
    let request = memtide_cxl::command::dynamic_capacity::GetConfiguration { count: 0, start: 0 };
    let resources = bed.device.configuration(H0, &request).unwrap().resources;
    assert_eq!((resources.extents_available, resources.tags_available), (7, 4));
    bed.add(&wish(H0, 0, BLOCK, A)).unwrap();
    let event = bed.take_all(Some(H0))[0];
    assert_eq!((event.extents_available, event.tags_available), (6, 3));
    assert_eq!(event.extent.tag, A);
    assert_ne!(event.extent.tag, Tag::NULL);
}
