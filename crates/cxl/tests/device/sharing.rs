//! Sharable capacity, references, tags, and the reset of a host.

use memtide_cxl::{
    ReturnCode,
    command::{
        More,
        dynamic_capacity::Release,
        events::DynamicCapacityEventKind,
        fabric_manager::{AddReference, ListTags, RemoveReference},
    },
    device::{Effect, Refusal},
};
use memtide_units::{DcExtent, Tag};

use crate::bed::*;

/// Two extents of tag A, at H0.
fn shared_at_h0() -> (Bed, Vec<DcExtent>) {
    let mut bed = Bed::new();
    let list = vec![extent(shared(0, 2), A, 1), extent(shared(8, 2), A, 0)];
    bed.give(H0, &list);
    (bed, list)
}

impl Bed {
    fn keep(&mut self, tag: Tag) -> Result<(), Refusal> {
        self.step(|device| device.add_reference(&AddReference(tag)))
    }

    fn let_go(&mut self, tag: Tag) -> Result<(), Refusal> {
        self.step(|device| device.remove_reference(&RemoveReference(tag)))
    }
}

#[test]
fn another_host_gets_the_same_capacity_under_the_same_numbers() {
    let (mut bed, list) = shared_at_h0();
    bed.add(&access(H1, 1, A)).unwrap();
    assert_eq!(bed.tags(), [(A, 1, 2, false)]);
    let offered = bed.device.offers(H1).next().unwrap().to_vec();
    assert_eq!(offered, [list[1], list[0]], "in the order of their numbers");
    bed.accept(H1, &[shared(8, 2), shared(0, 2)]).unwrap();
    assert_eq!(bed.held(H1), bed.held(H0));
    assert_eq!(bed.tags(), [(A, 3, 0, false)]);
}

#[test]
fn shared_access_in_an_exclusive_region_is_invalid_input() {
    let mut bed = Bed::new();
    bed.give(H0, &[extent(own(0, 1), A, 0)]);
    let why = refused(bed.add(&access(H1, 0, A)));
    assert_eq!(why, (Refusal::NotSharable { region: 0 }, ReturnCode::INVALID_INPUT));
    let why = refused(bed.add(&access(H1, 1, A)));
    assert_eq!(why, (Refusal::NoSharedTag { tag: A }, ReturnCode::INVALID_INPUT));
}

#[test]
fn shared_access_to_what_is_not_there_is_invalid_input() {
    let (mut bed, _) = shared_at_h0();
    for tag in [B, Tag::NULL] {
        let why = refused(bed.add(&access(H1, 1, tag)));
        assert_eq!(why, (Refusal::NoSharedTag { tag }, ReturnCode::INVALID_INPUT));
    }
}

#[test]
fn shared_access_for_who_has_it_or_is_offered_it_is_invalid_input() {
    let (mut bed, _) = shared_at_h0();
    bed.add(&access(H1, 1, A)).unwrap();
    for host in [H0, H1] {
        let why = refused(bed.add(&access(host, 1, A)));
        let expected = Refusal::SharedAlready { host, tag: A };
        assert_eq!(why, (expected, ReturnCode::INVALID_INPUT));
    }
}

#[test]
fn shared_access_through_another_region_is_invalid_input() {
    let mut config = config();
    let first = config.regions[1];
    let base = first.base + first.decode_length;
    config.regions.push(memtide_cxl::device::RegionConfig { base, ..first });
    let mut bed = Bed::of(config);
    bed.give(H0, &[extent(shared(0, 1), A, 0)]);
    let why = refused(bed.add(&access(H1, 2, A)));
    let expected = Refusal::OtherRegion { tag: A, lies: 1, region: 2 };
    assert_eq!(why, (expected, ReturnCode::INVALID_INPUT));
}

#[test]
fn shared_access_before_anybody_has_accepted_is_invalid_input() {
    let mut bed = Bed::new();
    bed.add(&wish(H0, 1, BLOCK, A)).unwrap();
    let why = refused(bed.add(&access(H1, 1, A)));
    assert_eq!(why, (Refusal::NotYetShared { tag: A }, ReturnCode::INVALID_INPUT));
    bed.keep(A).unwrap();
    bed.add(&access(H1, 1, A)).unwrap();
}

#[test]
fn a_part_of_a_sharable_tag_is_not_released() {
    let (mut bed, list) = shared_at_h0();
    for ranges in [vec![list[0].range], vec![list[1].range, shared(0, 1)]] {
        let why = refused(bed.release(H0, &ranges));
        assert_eq!(why, (Refusal::PartOfTag { tag: A }, ReturnCode::INVALID_EXTENT_LIST));
    }
    bed.device
        .release(H0, &Release { more: More::Follows, released: vec![list[0].range] })
        .unwrap();
    bed.release(H0, &[list[1].range]).unwrap();
    assert_eq!(bed.tags(), []);
}

#[test]
fn a_part_of_a_sharable_tag_is_not_asked_for() {
    let (mut bed, list) = shared_at_h0();
    for force in [|request| request, forced] {
        let why = refused(bed.ask(&force(ask_for(H0, vec![list[0]]))));
        assert_eq!(why, (Refusal::PartIsAsked { tag: A }, ReturnCode::INVALID_INPUT));
        let why = refused(bed.ask(&force(ask_for_tag(H0, A, 2 * BLOCK))));
        assert_eq!(why, (Refusal::PartIsAsked { tag: A }, ReturnCode::INVALID_INPUT));
    }
    bed.ask(&ask_for_tag(H0, A, 4 * BLOCK)).unwrap();
    bed.ask(&ask_for(H0, list)).unwrap();
}

#[test]
fn sharable_capacity_is_overwritten_when_its_last_host_is_gone() {
    let (mut bed, list) = shared_at_h0();
    bed.share(H1, A);
    bed.release(H0, &[list[0].range, list[1].range]).unwrap();
    let ended = |host, at: usize| Effect::Ended { host, range: list[at].range };
    assert_eq!(bed.moves(), [ended(H0, 0), ended(H0, 1)]);
    assert_eq!(code(bed.add(&wish(H2, 1, 61 * BLOCK, B))), ReturnCode::RESOURCES_EXHAUSTED);
    bed.ask(&forced(ask_for_tag(H1, A, 4 * BLOCK))).unwrap();
    let overwrite = |at: usize| Effect::Sanitize { range: list[at].range };
    assert_eq!(bed.moves(), [ended(H1, 0), ended(H1, 1), overwrite(1), overwrite(0)]);
}

#[test]
fn a_wish_to_overwrite_sharable_capacity_is_kept_until_its_last_host_is_gone() {
    let mut config = config();
    config.regions[1].sanitize = memtide_cxl::command::Sanitize::Never;
    let mut bed = Bed::of(config);
    bed.give(H0, &[extent(shared(0, 1), A, 0)]);
    bed.share(H1, A);
    bed.ask(&sanitized(ask_for_tag(H0, A, BLOCK))).unwrap();
    bed.release(H0, &[shared(0, 1)]).unwrap();
    bed.forget();
    bed.release(H1, &[shared(0, 1)]).unwrap();
    assert_eq!(bed.moves().last(), Some(&Effect::Sanitize { range: shared(0, 1) }));
}

#[test]
fn a_reference_keeps_capacity_and_contents_when_its_last_host_is_gone() {
    let (mut bed, list) = shared_at_h0();
    bed.keep(A).unwrap();
    bed.keep(A).unwrap();
    bed.release(H0, &[list[0].range, list[1].range]).unwrap();
    assert_eq!(bed.moves().len(), 2, "it ends for the host, and nothing is overwritten");
    assert_eq!(bed.tags(), [(A, 0, 0, true)]);
    bed.add(&access(H1, 1, A)).unwrap();
    bed.accept(H1, &[list[0].range, list[1].range]).unwrap();
    bed.let_go(A).unwrap();
    assert_eq!(bed.tags(), [(A, 2, 0, false)]);
    bed.forget();
    bed.release(H1, &[list[0].range, list[1].range]).unwrap();
    assert_eq!(bed.moves().len(), 4);
}

#[test]
fn what_only_a_reference_kept_is_freed_with_it() {
    let (mut bed, list) = shared_at_h0();
    bed.keep(A).unwrap();
    bed.release(H0, &[list[0].range, list[1].range]).unwrap();
    bed.forget();
    bed.let_go(A).unwrap();
    assert_eq!(bed.moves().len(), 2);
    assert_eq!(code(bed.let_go(A)), ReturnCode::INVALID_INPUT);
}

#[test]
fn a_reference_to_what_is_not_sharable_is_invalid_input() {
    let mut bed = Bed::new();
    bed.give(H0, &[extent(own(0, 1), A, 0)]);
    for tag in [A, B, Tag::NULL] {
        let expected = (Refusal::NoSharedTag { tag }, ReturnCode::INVALID_INPUT);
        assert_eq!(refused(bed.keep(tag)), expected);
        assert_eq!(refused(bed.let_go(tag)), expected);
    }
}

#[test]
fn a_reference_that_was_not_made_can_be_removed() {
    let (mut bed, _) = shared_at_h0();
    bed.let_go(A).unwrap();
    assert_eq!(bed.tags(), [(A, 1, 0, false)]);
}

#[test]
fn what_only_a_reference_keeps_is_remembered_at_the_cost_of_all_hosts() {
    let (mut bed, list) = shared_at_h0();
    bed.keep(A).unwrap();
    let left = |bed: &Bed, host| {
        let request =
            memtide_cxl::command::dynamic_capacity::GetConfiguration { count: 0, start: 0 };
        let resources = bed.device.configuration(host, &request).unwrap().resources;
        (resources.extents_available, resources.tags_available)
    };
    assert_eq!(left(&bed, H0), (6, 3));
    bed.release(H0, &[list[0].range, list[1].range]).unwrap();
    assert_eq!(left(&bed, H2), (6, 3));
    bed.let_go(A).unwrap();
    assert_eq!(left(&bed, H2), (8, 4));
}

#[test]
fn a_tag_list_tells_who_has_what_in_pages() {
    let (mut bed, _) = shared_at_h0();
    bed.add(&access(H2, 1, A)).unwrap();
    bed.keep(A).unwrap();
    bed.add(&wish(H1, 0, BLOCK, B)).unwrap();
    bed.give(H0, &plain(&[own(40, 1)]));
    assert_eq!(bed.tags(), [(A, 1, 4, true), (B, 0, 2, false)]);
    let page = |start, count| bed.device.list_tags(&ListTags { start, count });
    let second = page(1, 1).unwrap();
    assert_eq!((second.total, second.tags.len(), second.tags[0].tag), (2, 1, B));
    assert_eq!(page(0, 0).unwrap().tags, []);
    assert_eq!(page(2, 9).unwrap().tags, []);
    let expected = Refusal::Start { start: 3, total: 2 };
    assert_eq!(refused(page(3, 9)), (expected, ReturnCode::INVALID_INPUT));
}

#[test]
fn the_generation_of_the_tags_changes_with_them() {
    let (mut bed, list) = shared_at_h0();
    let generation =
        |bed: &Bed| bed.device.list_tags(&ListTags { start: 0, count: 0 }).unwrap().generation;
    let mut seen = vec![generation(&bed)];
    let mut note = |bed: &Bed| {
        assert!(!seen.contains(&generation(bed)), "{seen:?}");
        seen.push(generation(bed));
    };
    bed.add(&access(H1, 1, A)).unwrap();
    note(&bed);
    bed.accept(H1, &[list[0].range, list[1].range]).unwrap();
    note(&bed);
    bed.keep(A).unwrap();
    note(&bed);
    bed.release(H1, &[list[0].range, list[1].range]).unwrap();
    note(&bed);
    bed.let_go(A).unwrap();
    note(&bed);
    bed.add(&wish(H2, 0, BLOCK, B)).unwrap();
    note(&bed);
    bed.ask(&forced(ask_for_tag(H2, B, BLOCK))).unwrap();
    note(&bed);
    bed.step(|device| device.reset(H0)).unwrap();
    note(&bed);
}

#[test]
fn a_reset_ends_offers_and_shares_and_keeps_exclusive_capacity() {
    let (mut bed, list) = shared_at_h0();
    bed.share(H1, A);
    bed.give(H0, &[extent(own(0, 2), B, 0)]);
    bed.add(&prescribed(H0, plain(&[own(8, 2), own(12, 1)]))).unwrap();
    bed.device.take_effects();
    bed.step(|device| device.reset(H0)).unwrap();

    assert_eq!(bed.held(H0), [extent(own(0, 2), B, 0)]);
    assert_eq!(bed.held(H1).len(), 2, "another host's share is its own");
    assert_eq!(bed.records(Some(H0)).records, [], "and its log is empty");
    let ended = |at: usize| Effect::Ended { host: H0, range: list[at].range };
    assert_eq!(bed.moves(), [ended(0), ended(1)]);
    let told: Vec<_> = bed.take_all(None).iter().map(|e| (e.kind, e.extent.range)).collect();
    let expected = [
        (DynamicCapacityEventKind::AddResponse, memtide_units::DpaRange::new(own(8, 2).start, 0)),
        (DynamicCapacityEventKind::CapacityReleased, list[0].range),
        (DynamicCapacityEventKind::CapacityReleased, list[1].range),
    ];
    assert_eq!(told, expected);
    bed.add(&prescribed(H1, plain(&[own(8, 2), own(12, 1)]))).unwrap();
    assert_eq!(refused(bed.accept(H0, &[])).0, Refusal::NothingOffered);
    bed.step(|device| device.reset(NOBODY)).unwrap_err();
}

#[test]
fn a_reset_forgets_half_told_commands_and_lost_records() {
    let mut bed = Bed::new();
    bed.give(H0, &plain(&[own(0, 8)]));
    bed.device.release(H0, &Release { more: More::Follows, released: vec![own(0, 1)] }).unwrap();
    for block in 1..8 {
        bed.ask(&forced(ask_for(H0, plain(&[own(block, 1)])))).unwrap();
    }
    assert!(bed.records(Some(H0)).overflow.is_some());
    bed.step(|device| device.reset(H0)).unwrap();
    assert_eq!(bed.records(Some(H0)).overflow, None);
    bed.give(H0, &plain(&[own(1, 1)]));
    bed.release(H0, &[own(1, 1)]).unwrap();
    assert_eq!(bed.held_ranges(H0), [own(0, 1)], "and not what was told before the reset");
}
