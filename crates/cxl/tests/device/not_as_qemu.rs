//! Where QEMU's device (10.0 and 10.2) does not do what the specification says, and ours does: a
//! test for each deviation that is known.

use memtide_cxl::{
    ReturnCode,
    command::{
        More, Sanitize,
        dynamic_capacity::{AddResponse, GetExtentList},
        events::DynamicCapacityEventKind,
        fabric_manager::{InitiateAdd, Selection, SetConfiguration},
    },
    device::Effect,
};
use memtide_units::Tag;

use crate::bed::*;

#[test]
fn an_answer_out_of_order_is_not_an_invalid_physical_address() {
    let mut bed = Bed::new();
    bed.add(&prescribed(H0, plain(&[own(0, 1)]))).unwrap();
    bed.add(&prescribed(H0, plain(&[own(4, 1)]))).unwrap();
    assert_eq!(code(bed.accept(H0, &[own(4, 1)])), ReturnCode::INVALID_INPUT);
}

#[test]
fn a_part_of_an_offered_extent_is_not_accepted_and_the_rest_not_dropped() {
    let mut bed = Bed::new();
    bed.add(&prescribed(H0, plain(&[own(0, 4), own(8, 1)]))).unwrap();
    assert_eq!(code(bed.accept(H0, &[own(1, 2)])), ReturnCode::INVALID_EXTENT_LIST);
    bed.accept(H0, &[own(0, 4), own(8, 1)]).unwrap();
}

#[test]
fn a_release_of_a_part_does_not_reorder_the_list() {
    let mut bed = Bed::new();
    bed.give(H0, &plain(&[own(0, 4), own(8, 4), own(16, 4)]));
    bed.release(H0, &[own(9, 1)]).unwrap();
    assert_eq!(bed.held_ranges(H0), [own(0, 4), own(8, 1), own(10, 2), own(16, 4)]);
}

#[test]
fn an_empty_answer_to_nothing_does_not_crash() {
    let mut bed = Bed::new();
    assert_eq!(code(bed.accept(H0, &[])), ReturnCode::INVALID_INPUT);
}

#[test]
fn the_flag_more_of_an_answer_is_read() {
    let mut bed = Bed::new();
    bed.add(&prescribed(H0, plain(&[own(0, 1), own(4, 1)]))).unwrap();
    let first = AddResponse { more: More::Follows, accepted: vec![own(0, 1)] };
    bed.device.add_response(H0, &first).unwrap();
    assert_eq!(bed.held(H0), []);
    bed.accept(H0, &[own(4, 1)]).unwrap();
    assert_eq!(bed.held(H0).len(), 2);
}

#[test]
fn tags_and_numbers_stay_when_an_offer_is_accepted() {
    let mut bed = Bed::new();
    let list = [extent(shared(0, 1), A, 1), extent(shared(4, 1), A, 0)];
    bed.give(H0, &list);
    assert_eq!(bed.held(H0), list);
}

#[test]
fn the_generation_is_not_always_0() {
    let mut bed = Bed::new();
    let mut seen = vec![bed.generation(H0)];
    for _ in 0..3 {
        bed.give(H0, &plain(&[own(0, 2)]));
        seen.push(bed.generation(H0));
        bed.release(H0, &[own(0, 1)]).unwrap();
        seen.push(bed.generation(H0));
        bed.ask(&forced(ask_for(H0, plain(&[own(1, 1)])))).unwrap();
        seen.push(bed.generation(H0));
        bed.forget();
    }
    let mut different = seen.clone();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), seen.len(), "{seen:?}");
    assert_eq!(bed.generation(H1), seen[0], "other hosts have lists of their own");
}

#[test]
fn events_name_their_host_and_region() {
    let mut bed = Bed::new();
    bed.add(&prescribed(H2, plain(&[own(0, 1)]))).unwrap();
    bed.accept(H2, &[own(0, 1)]).unwrap();
    bed.release(H2, &[own(0, 1)]).unwrap();
    let hosts: Vec<_> = bed.take_all(None).iter().map(|event| event.host).collect();
    assert_eq!(hosts, [H2, H2]);
    bed.forget();
    let sanitize = Sanitize::OnRelease;
    let request = SetConfiguration { region: 1, block_size: BLOCK, sanitize };
    bed.step(|device| device.set_configuration(&request)).unwrap();
    assert_eq!(bed.take_all(Some(H0))[0].region, 1);
}

#[test]
fn what_is_offered_is_not_in_the_extent_list() {
    let mut bed = Bed::new();
    bed.give(H0, &plain(&[own(0, 1)]));
    bed.add(&prescribed(H0, plain(&[own(4, 1), own(8, 1)]))).unwrap();
    let list = bed.device.extent_list(H0, &GetExtentList { start: 0, count: 9 }).unwrap();
    assert_eq!((list.total, list.extents), (1, plain(&[own(0, 1)])));
}

#[test]
fn a_full_log_loses_no_offer_and_no_request() {
    let mut bed = Bed::new();
    bed.give(H1, &plain(&[own(40, 1)]));
    for number in 0..6 {
        bed.add(&prescribed(H0, plain(&[own(4 * number, 1)]))).unwrap();
        bed.ask(&ask_for(H1, plain(&[own(40, 1)]))).unwrap();
    }
    let offer = prescribed(H0, plain(&[own(30, 1)]));
    assert_eq!(code(bed.add(&offer)), ReturnCode::RETRY_REQUIRED);
    let request = ask_for(H1, plain(&[own(40, 1)]));
    assert_eq!(code(bed.ask(&request)), ReturnCode::RETRY_REQUIRED);
    assert_eq!(bed.take_all(Some(H0)).len(), 6);
    bed.add(&offer).unwrap();
}

#[test]
fn the_host_and_the_region_of_5604h_are_looked_at() {
    let mut bed = Bed::new();
    assert_eq!(code(bed.add(&wish(NOBODY, 0, BLOCK, A))), ReturnCode::INVALID_INPUT);
    assert_eq!(code(bed.add(&wish(H0, 2, BLOCK, A))), ReturnCode::INVALID_INPUT);
    bed.add(&wish(H2, 1, BLOCK, A)).unwrap();
    assert_eq!(bed.device.offers(H2).next().unwrap()[0].range, shared(0, 1));
}

#[test]
fn all_selection_policies_work() {
    let mut bed = Bed::new();
    let free = InitiateAdd { selection: Selection::Free, ..wish(H0, 0, BLOCK, Tag::NULL) };
    bed.add(&free).unwrap();
    bed.add(&wish(H0, 0, BLOCK, Tag::NULL)).unwrap();
    bed.add(&prescribed(H0, plain(&[own(9, 1)]))).unwrap();
    bed.give(H1, &[extent(shared(0, 1), A, 0)]);
    bed.add(&access(H0, 1, A)).unwrap();
    assert_eq!(bed.device.offers(H0).count(), 4);
}

#[test]
fn forced_and_sanitized_is_both() {
    let mut bed = Bed::new();
    bed.give(H0, &plain(&[own(0, 2)]));
    bed.ask(&forced(sanitized(ask_for(H0, plain(&[own(0, 2)]))))).unwrap();
    let range = own(0, 2);
    assert_eq!(bed.moves(), [Effect::Ended { host: H0, range }, Effect::Sanitize { range }]);
    let kind = bed.take_all(Some(H0))[0].kind;
    assert_eq!(kind, DynamicCapacityEventKind::ForcedRelease);
    assert_eq!(bed.held(H0), []);
}

#[test]
fn more_records_are_told_of_only_if_there_are_more() {
    let mut bed = Bed::new();
    bed.add(&prescribed(H0, plain(&[own(0, 1)]))).unwrap();
    assert_eq!(bed.records(Some(H0)).more, More::Last);
}
