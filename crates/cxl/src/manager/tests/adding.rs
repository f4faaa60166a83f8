use alloc::{vec, vec::Vec};
use core::time::Duration;

use memtide_units::{DpaRange, RequestId, Tag};

use super::{BLOCK, Bench, GIB, bench::Answers};
use crate::{command::Sanitize, device::Sharing, manager::*};

fn tag(last: u8) -> Tag {
    let mut tag = [0; 16];
    tag[15] = last;
    Tag(tag)
}

fn with(request: Request, policy_: Policy, tag_: Tag) -> Request {
    let Request::Add { to, size, rest, deadline, .. } = request else { panic!("an addition") };
    Request::Add { to, size, tag: tag_, policy: policy_, rest, deadline }
}

#[test]
fn a_host_that_accepts_has_all_and_the_answer_says_so() {
    let mut bench = Bench::new();
    let report = bench.ask(bench.add(1, GIB, Rest::Drop)).expect("there is room");
    assert_eq!(report.state, State::Ended(Ending::Done));
    assert_eq!((report.asked, report.accepted, report.refused), (GIB, GIB, 0));
    assert_eq!(bench.held_bytes(1), GIB);
    assert_eq!(bench.answers_to(report.id).len(), 1);
}

#[test]
fn what_a_host_refuses_is_refused_and_free_again() {
    let mut bench = Bench::new();
    bench.answers[1] = Answers::Nothing;
    let report = bench.ask(bench.add(1, GIB, Rest::Drop)).expect("there is room");
    assert_eq!(report.state, State::Ended(Ending::Partly));
    assert_eq!((report.accepted, report.refused, report.missing), (0, GIB, 0));
    assert_eq!(bench.manager.devices()[0].free, 2 * GIB);
}

#[test]
fn a_standing_request_offers_again_after_growing_pauses() {
    let mut bench = Bench::new();
    bench.answers[1] = Answers::Nothing;
    let report = bench.ask(bench.add(1, GIB, Rest::Stand)).expect("there is room");
    let offers = |bench: &Bench| {
        let is_offer = |output: &&Output| {
            matches!(output, Output::Command { command: Command::InitiateAdd(_), .. })
        };
        bench.out.iter().filter(is_offer).count()
    };
    assert_eq!(offers(&bench), 1);
    // 1, 2, 4 and 8 seconds later.
    bench.wait(16);
    assert_eq!(offers(&bench), 5);
    bench.answers[1] = Answers::All;
    bench.wait(20);
    assert_eq!(bench.report(report.id).state, State::Ended(Ending::Done));
    assert_eq!(bench.held_bytes(1), GIB);
}

#[test]
fn what_is_missing_is_said_and_stands_if_asked_for() {
    let mut bench = Bench::new();
    bench.ask(bench.add(0, GIB, Rest::Drop)).expect("there is room");
    let once = bench.ask(bench.add(1, 2 * GIB, Rest::Drop)).expect("it could be");
    assert_eq!((once.accepted, once.missing), (GIB, GIB));
    assert_eq!(once.state, State::Ended(Ending::Partly));
    let stands = bench.ask(bench.add(2, BLOCK, Rest::Stand)).expect("it could be");
    assert_eq!((stands.state, stands.missing), (State::Open, BLOCK));
    assert_eq!(bench.answers_to(stands.id).len(), 1, "what it is so far");
    let given = bench.held(0)[0];
    bench.give(0, DpaRange::new(given.start, BLOCK));
    assert_eq!(bench.report(stands.id).state, State::Ended(Ending::Done));
    assert_eq!(bench.answers_to(stands.id).len(), 2);
}

#[test]
fn one_piece_is_one_piece() {
    let mut bench = Bench::new();
    let here =
        Policy::Prescriptive(vec![DpaRange::new(BLOCK, BLOCK), DpaRange::new(3 * BLOCK, BLOCK)]);
    let request = with(bench.add(0, 0, Rest::Drop), here, Tag::NULL);
    let report = bench.ask(request).expect("it is free");
    assert_eq!(report.accepted, 2 * BLOCK);
    let request = |size| with(bench.add(1, size, Rest::Drop), Policy::Contiguous, Tag::NULL);
    let (small, large) = (request(BLOCK), request(3 * BLOCK));
    assert_eq!(bench.ask(small).expect("it could be").accepted, BLOCK);
    assert_eq!(bench.held(1), [DpaRange::new(0, BLOCK)], "the smallest gap that has it");
    assert_eq!(bench.ask(large).expect("it could be").accepted, 3 * BLOCK);
    assert_eq!(bench.held(1)[1], DpaRange::new(GIB, 3 * BLOCK));
    let again = with(bench.add(2, 2 * BLOCK, Rest::Drop), Policy::Contiguous, Tag::NULL);
    let report = bench.ask(again).expect("it could be");
    assert_eq!((report.accepted, report.missing), (0, 2 * BLOCK));
}

#[test]
fn what_has_a_tag_is_offered_whole_or_not_at_all() {
    let mut bench = Bench::new();
    let request = with(bench.add(0, 3 * BLOCK, Rest::Drop), Policy::Free, tag(1));
    assert_eq!(bench.ask(request.clone()).expect("there is room").accepted, 3 * BLOCK);
    assert_eq!(bench.ask(request), Err(RequestError::TagTaken { tag: tag(1) }));
    // 1 block and 4 are left, in two regions; a tag is of one.
    let request = with(bench.add(1, 5 * BLOCK, Rest::Drop), Policy::Free, tag(2));
    let report = bench.ask(request).expect("it could be");
    assert_eq!((report.accepted, report.missing), (0, 5 * BLOCK));
}

#[test]
fn hosts_share_what_is_under_a_tag() {
    let limits = [Limits::default(); 3];
    let mut bench = Bench::with(limits, Sharing::Sharable, Sanitize::OnRelease);
    let mut request = with(bench.add(0, 2 * BLOCK, Rest::Drop), Policy::Free, tag(1));
    let Request::Add { to, .. } = &mut request else { panic!("an addition") };
    to.region = Some(1);
    assert_eq!(bench.ask(request).expect("there is room").accepted, 2 * BLOCK);
    let shared = |bench: &Bench, host| with(bench.add(host, 0, Rest::Drop), Policy::Shared, tag(1));
    let report = bench.ask(shared(&bench, 1)).expect("it is there");
    assert_eq!((report.asked, report.accepted), (2 * BLOCK, 2 * BLOCK));
    assert_eq!(bench.held(0), bench.held(1));
    let host = bench.host(1);
    let refused = bench.ask(shared(&bench, 1));
    assert_eq!(refused, Err(RequestError::SharedAlready { tag: tag(1), host }));
    let untagged = with(bench.add(2, 6 * BLOCK, Rest::Drop), Policy::Free, Tag::NULL);
    let report = bench.ask(untagged).expect("it could be");
    assert_eq!(report.accepted, GIB, "nothing without a tag where hosts can share");
}

#[test]
fn a_reference_keeps_a_tag_without_hosts() {
    let limits = [Limits::default(); 3];
    let mut bench = Bench::with(limits, Sharing::Sharable, Sanitize::OnRelease);
    let mut request = with(bench.add(0, 2 * BLOCK, Rest::Drop), Policy::Free, tag(1));
    let Request::Add { to, .. } = &mut request else { panic!("an addition") };
    to.region = Some(1);
    bench.ask(request).expect("there is room");
    let device = bench.name();
    let keep = Request::AddReference { device: device.clone(), tag: tag(1) };
    assert_eq!(bench.ask(keep).expect("it is there").state, State::Ended(Ending::Done));
    let held = bench.held(0)[0];
    bench.give(0, held);
    bench.restart();
    assert_eq!(bench.manager.devices()[0].free, 2 * GIB - 2 * BLOCK, "it is kept");
    let shared = with(bench.add(1, 0, Rest::Drop), Policy::Shared, tag(1));
    assert_eq!(bench.ask(shared).expect("it is kept").accepted, 2 * BLOCK);
    bench.give(1, held);
    let drop_it = Request::RemoveReference { device: device.clone(), tag: tag(1) };
    assert_eq!(bench.ask(drop_it.clone()).expect("it is there").state, State::Ended(Ending::Done));
    assert_eq!(bench.manager.devices()[0].free, 2 * GIB);
    assert_eq!(bench.ask(drop_it), Err(RequestError::NoSuchTag { tag: tag(1) }));
}

#[test]
fn guarantees_of_others_and_ones_own_maximum_are_kept() {
    let mut limits = [Limits::default(); 3];
    limits[0].minimum = GIB;
    limits[2].maximum = 3 * BLOCK;
    let mut bench = Bench::with(limits, Sharing::Exclusive, Sanitize::OnRelease);
    let report = bench.ask(bench.add(1, 2 * GIB, Rest::Drop)).expect("it could be");
    assert_eq!((report.accepted, report.missing), (GIB, GIB), "a gibibyte is h0's");
    let refused = bench.ask(bench.add(2, GIB, Rest::Drop));
    let host = bench.host(2);
    let (most, maximum) = (3 * BLOCK, 3 * BLOCK);
    assert_eq!(refused, Err(RequestError::AboveMaximum { size: GIB, most, host, maximum }));
    assert_eq!(bench.ask(bench.add(0, GIB, Rest::Drop)).expect("it is sure").accepted, GIB);
    let refused = bench.ask(bench.release(0, BLOCK, Forcing::Never, Rest::Drop));
    let (host, minimum) = (bench.host(0), GIB);
    assert_eq!(refused, Err(RequestError::BelowMinimum { size: BLOCK, most: 0, host, minimum }));
}

#[test]
fn limits_change_and_last() {
    let mut bench = Bench::new();
    let limits = Limits { minimum: 0, maximum: BLOCK, weight: 2 };
    let set = |limits| Request::SetLimits { of: bench.place(1), limits };
    let (good, much, wrong) = (
        set(limits),
        set(Limits { minimum: 3 * GIB, ..Limits::default() }),
        set(Limits { weight: 0, ..limits }),
    );
    assert_eq!(bench.ask(good).expect("it makes sense").state, State::Ended(Ending::Done));
    bench.restart();
    assert_eq!(bench.manager.devices()[0].hosts[1].limits, limits);
    let error = RequestError::Guarantees { minimum: 3 * GIB, most: 2 * GIB };
    assert_eq!(bench.ask(much), Err(error));
    assert!(matches!(bench.ask(wrong), Err(RequestError::Limits(_))));
}

#[test]
fn one_id_is_one_request() {
    let mut bench = Bench::new();
    let (id, request) = (RequestId(77), bench.add(1, BLOCK, Rest::Drop));
    bench.ask_as(id, request.clone()).expect("there is room");
    bench.ask_as(id, request).expect("it is the same");
    assert_eq!(bench.held_bytes(1), BLOCK);
    assert_eq!(bench.answers_to(id).len(), 2, "answered again, done once");
    let other = bench.add(1, 2 * BLOCK, Rest::Drop);
    assert_eq!(bench.ask_as(id, other.clone()), Err(RequestError::IdTaken { id }));
    let own = RequestId(FIRST_OWN_ID);
    assert_eq!(bench.ask_as(own, other), Err(RequestError::IdTaken { id: own }));
}

#[test]
fn an_answer_comes_in_time_though_a_host_does_not() {
    let mut bench = Bench::new();
    bench.answers[1] = Answers::Never;
    let mut request = bench.add(1, BLOCK, Rest::Drop);
    let Request::Add { deadline, .. } = &mut request else { panic!("an addition") };
    *deadline = Some(Duration::from_secs(3));
    let report = bench.ask(request).expect("there is room");
    assert_eq!((report.state, report.pending), (State::Open, BLOCK));
    bench.wait(3);
    let report = bench.report(report.id);
    assert_eq!((report.state, report.pending), (State::Ended(Ending::Partly), 0));
    assert_eq!((report.accepted, report.missing), (0, BLOCK));
}

#[test]
fn impossible_additions_are_refused_and_change_nothing() {
    let mut bench = Bench::new();
    let nobody: HostName = "nobody".parse().expect("a name");
    let add = |size, policy, tag_| with(bench.add(1, size, Rest::Drop), policy, tag_);
    let extents = |list: &[(u64, u64)]| -> Policy {
        let ranges: Vec<DpaRange> = list.iter().map(|&(s, l)| DpaRange::new(s, l)).collect();
        Policy::Prescriptive(ranges)
    };
    let elsewhere = |place: Place| {
        let request = add(BLOCK, Policy::Free, Tag::NULL);
        let Request::Add { size, tag, policy, rest, deadline, .. } = request else { panic!() };
        Request::Add { to: place, size, tag, policy, rest, deadline }
    };
    let place = bench.place(1);
    let extent =
        |start, length| RequestError::Extent { extent: DpaRange::new(start, length), block: BLOCK };
    let cases = [
        (add(0, Policy::Free, Tag::NULL), RequestError::Size { size: 0, block: BLOCK }),
        (
            add(BLOCK + 1, Policy::Free, Tag::NULL),
            RequestError::Size { size: BLOCK + 1, block: BLOCK },
        ),
        (
            add(3 * GIB, Policy::Free, Tag::NULL),
            RequestError::MoreThanThereIs { size: 3 * GIB, capacity: 2 * GIB },
        ),
        (add(BLOCK, extents(&[(0, BLOCK)]), Tag::NULL), RequestError::SizeGiven { size: BLOCK }),
        (add(0, extents(&[]), Tag::NULL), RequestError::Extents { count: 0, most: MAX_EXTENTS }),
        (add(0, extents(&[(0, 0)]), Tag::NULL), extent(0, 0)),
        (add(0, extents(&[(1, BLOCK)]), Tag::NULL), extent(1, BLOCK)),
        (add(0, extents(&[(9 * GIB, BLOCK)]), Tag::NULL), extent(9 * GIB, BLOCK)),
        (add(0, extents(&[(u64::MAX, u64::MAX)]), Tag::NULL), extent(u64::MAX, u64::MAX)),
        (add(0, extents(&[(0, BLOCK), (0, BLOCK)]), Tag::NULL), extent(0, BLOCK)),
        (add(0, extents(&[(0, BLOCK), (GIB, BLOCK)]), Tag::NULL), extent(GIB, BLOCK)),
        (add(0, Policy::Shared, Tag::NULL), RequestError::NoTag),
        (add(0, Policy::Shared, tag(9)), RequestError::NoSuchTag { tag: tag(9) }),
        (
            elsewhere(Place { region: Some(2), ..place.clone() }),
            RequestError::NoSuchRegion { region: 2, count: 2 },
        ),
        (
            elsewhere(Place { host: nobody.clone(), ..place.clone() }),
            RequestError::NoSuchHost { host: nobody },
        ),
        (
            elsewhere(Place { device: Some("e".parse().expect("a name")), ..place }),
            RequestError::NoSuchDevice { device: "e".parse().expect("a name") },
        ),
    ];
    let before = (bench.manager.devices(), bench.store.clone());
    for (request, error) in cases {
        assert_eq!(bench.ask(request.clone()), Err(error), "{request:?}");
        assert_eq!((bench.manager.devices(), bench.store.clone()), before, "{request:?}");
    }
    assert_eq!(bench.manager.requests().count(), 0);
}

#[test]
fn the_rest_of_named_extents_stands_until_it_is_had() {
    let mut bench = Bench::new();
    bench.answers[1] = Answers::FirstExtent;
    let request = bench.add(1, 0, Rest::Stand);
    let (first, second) = (DpaRange::new(0, BLOCK), DpaRange::new(2 * BLOCK, BLOCK));
    let request = with(request, Policy::Prescriptive(vec![first, second]), Tag::NULL);
    let report = bench.ask(request).unwrap();
    assert_eq!((report.state, report.accepted), (State::Open, BLOCK));
    assert_eq!(bench.held(1), [first]);
    bench.wait(60);
    assert_eq!(bench.held(1), [first, second]);
    assert_eq!(bench.report(report.id).state, State::Ended(Ending::Done));
}
