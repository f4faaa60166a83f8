use alloc::{vec, vec::Vec};

use memtide_units::{DpaRange, HoldReason, RequestId, Tag};

use super::{BLOCK, Bench, GIB};
use crate::{
    command::{Sanitize, fabric_manager::Force},
    device::Sharing,
    manager::*,
};

fn holder(bytes: u64) -> Holder {
    let (tenant, program) = (Some("t".into()), Some("p".into()));
    Holder { tenant, program, pid: Some(9), bytes, reason: HoldReason::Rdma }
}

fn asked(bench: &Bench) -> Vec<Force> {
    let force = |output: &Output| match output {
        Output::Command { command: Command::InitiateRelease(release), .. } => Some(release.force),
        _ => None,
    };
    bench.out.iter().filter_map(force).collect()
}

/// A host with all of a region, which is asked for three blocks of it.
fn three_asked(forcing: Forcing, rest: Rest) -> (Bench, RequestId) {
    let mut bench = Bench::new();
    bench.ask(bench.add(1, GIB, Rest::Drop)).expect("there is room");
    let report = bench.ask(bench.release(1, 3 * BLOCK, forcing, rest)).expect("it has it");
    (bench, report.id)
}

fn answer(bench: &mut Bench, released: u64, remaining: u64) {
    let holders = if remaining == 0 { Vec::new() } else { vec![holder(remaining)] };
    let answer = HostAnswer { asked: released + remaining, released, remaining, holders };
    let (host, device) = (bench.host(1), bench.name());
    bench.tell(Input::HostAnswer { host, device, answer });
    bench.run();
}

#[test]
fn the_answer_says_what_came_and_who_holds_the_rest() {
    let (mut bench, id) = three_asked(Forcing::Never, Rest::Drop);
    bench.give(1, DpaRange::new(BLOCK, 2 * BLOCK));
    assert_eq!(bench.report(id).state, State::Open);
    answer(&mut bench, 2 * BLOCK, BLOCK);
    let report = bench.report(id);
    assert_eq!(report.state, State::Ended(Ending::Partly));
    assert_eq!((report.asked, report.returned, report.held), (3 * BLOCK, 2 * BLOCK, BLOCK));
    assert_eq!(report.holders, [holder(BLOCK)]);
}

#[test]
fn an_answer_to_something_older_is_not_taken_for_this_one() {
    let (mut bench, id) = three_asked(Forcing::Never, Rest::Drop);
    answer(&mut bench, 2 * BLOCK, BLOCK);
    let report = bench.report(id);
    assert_eq!((report.state, report.held), (State::Open, 3 * BLOCK), "the device says 3 blocks");
    bench.wait(5);
    assert_eq!(bench.report(id).state, State::Ended(Ending::Partly));
}

#[test]
fn what_stands_is_asked_for_until_it_comes() {
    let (mut bench, id) = three_asked(Forcing::Never, Rest::Stand);
    answer(&mut bench, 0, 3 * BLOCK);
    assert_eq!(bench.report(id).state, State::Open);
    assert_eq!(bench.answers_to(id).len(), 1);
    bench.wait(16);
    assert_eq!(asked(&bench), [Force::Ask; 5], "at once, after 1, 2, 4 and 8 seconds");
    bench.give(1, DpaRange::new(BLOCK, 3 * BLOCK));
    assert_eq!(bench.report(id).state, State::Ended(Ending::Done));
    bench.wait(100);
    assert_eq!(asked(&bench).len(), 5, "and no longer");
}

#[test]
fn what_stands_can_be_cancelled() {
    let (mut bench, id) = three_asked(Forcing::Never, Rest::Stand);
    let cancel = Request::Cancel { request: id };
    assert_eq!(bench.ask(cancel.clone()).expect("it is open").state, State::Ended(Ending::Done));
    let report = bench.report(id);
    assert_eq!((report.state, report.held), (State::Ended(Ending::Cancelled), 3 * BLOCK));
    assert_eq!(bench.ask(cancel), Err(RequestError::NotOpen { id }));
    let before = asked(&bench).len();
    bench.wait(100);
    assert_eq!(asked(&bench).len(), before);
}

#[test]
fn force_comes_at_the_deadline_and_not_before() {
    let (mut bench, id) = three_asked(Forcing::AtDeadline, Rest::Drop);
    answer(&mut bench, 0, 3 * BLOCK);
    bench.wait(4);
    assert!(asked(&bench).iter().all(|&force| force == Force::Ask));
    assert_eq!(bench.report(id).state, State::Open);
    bench.wait(1);
    assert_eq!(asked(&bench).last(), Some(&Force::Take));
    assert_eq!(bench.report(id).state, State::Ended(Ending::Done), "{:?}", bench.report(id));
    assert_eq!(bench.held_bytes(1), BLOCK);
    assert!(bench.out.iter().any(|output| matches!(output, Output::Taken { .. })));
}

#[test]
fn force_at_once_asks_nobody() {
    let (bench, id) = three_asked(Forcing::AtOnce, Rest::Drop);
    assert_eq!(asked(&bench), [Force::Take]);
    assert_eq!(bench.report(id).state, State::Ended(Ending::Done));
}

#[test]
fn tags_and_extents_are_asked_for_by_name() {
    let mut bench = Bench::new();
    let mut tag = [0; 16];
    tag[0] = 1;
    let tag = Tag(tag);
    let mut request = bench.add(1, 2 * BLOCK, Rest::Drop);
    let Request::Add { tag: named, .. } = &mut request else { panic!("an addition") };
    *named = tag;
    bench.ask(request).expect("there is room");
    bench.ask(bench.add(1, BLOCK, Rest::Drop)).expect("there is room");
    let release = |what| Request::Release {
        from: Place { host: "h1".parse().expect("a name"), device: None, region: None },
        what,
        forcing: Forcing::AtOnce,
        rest: Rest::Drop,
        deadline: None,
    };
    let report = bench.ask(release(What::Tag(tag))).expect("it is there");
    assert_eq!((report.asked, report.returned), (2 * BLOCK, 2 * BLOCK));
    assert_eq!(bench.ask(release(What::Tag(tag))), Err(RequestError::NoSuchTag { tag }));
    let held = bench.held(1)[0];
    let report = bench.ask(release(What::Extents(vec![held]))).expect("it is there");
    assert_eq!(report.returned, BLOCK);
    let host = bench.host(1);
    let error = RequestError::NotHeld { extent: held, host: host.clone() };
    assert_eq!(bench.ask(release(What::Extents(vec![held]))), Err(error));
    let error = RequestError::MoreThanHeld { size: BLOCK, held: 0, host };
    assert_eq!(bench.ask(release(What::Size(BLOCK))), Err(error));
    assert_eq!(bench.ask(release(What::Tag(Tag::NULL))), Err(RequestError::NoTag));
    let mut late = release(What::Size(BLOCK));
    let Request::Release { forcing, .. } = &mut late else { panic!("a release") };
    *forcing = Forcing::AtDeadline;
    assert_eq!(bench.ask(late), Err(RequestError::NoDeadline));
}

#[test]
fn the_same_bytes_are_not_asked_for_twice() {
    let (mut bench, _) = three_asked(Forcing::Never, Rest::Stand);
    let host = bench.host(1);
    let error = RequestError::MoreThanHeld { size: 2 * BLOCK, held: BLOCK, host };
    assert_eq!(bench.ask(bench.release(1, 2 * BLOCK, Forcing::Never, Rest::Drop)), Err(error));
}

#[test]
fn what_is_moved_goes_to_nobody_else() {
    let mut bench = Bench::new();
    bench.ask(bench.add(0, GIB, Rest::Drop)).expect("there is room");
    bench.ask(bench.add(1, GIB, Rest::Drop)).expect("there is room");
    let waits = bench.ask(bench.add(2, GIB, Rest::Stand)).expect("it could be");
    let deadline = None;
    let request = Request::Move {
        from: bench.place(0),
        to: bench.host(1),
        size: 2 * BLOCK,
        rest: Rest::Drop,
        deadline,
    };
    let id = bench.ask(request).expect("it has it").id;
    let range = DpaRange::new(2 * BLOCK, 2 * BLOCK);
    bench.give(0, range);
    let report = bench.report(id);
    assert_eq!(report.state, State::Ended(Ending::Done));
    assert_eq!((report.returned, report.accepted), (2 * BLOCK, 2 * BLOCK));
    assert!(bench.held(1).contains(&range), "these very bytes");
    assert_eq!(bench.report(waits.id).missing, GIB);
    let to_itself = Request::Move {
        from: bench.place(0),
        to: bench.host(0),
        size: BLOCK,
        rest: Rest::Drop,
        deadline,
    };
    let host = bench.host(0);
    assert_eq!(bench.ask(to_itself), Err(RequestError::SameHost { host }));
}

/// A region that does not overwrite what is released.
#[test]
fn what_was_not_overwritten_goes_back_to_its_host_only() {
    let limits = [Limits::default(); 3];
    let mut bench = Bench::with(limits, Sharing::Exclusive, Sanitize::Never);
    bench.ask(bench.add(0, GIB, Rest::Drop)).expect("there is room");
    bench.give(0, DpaRange::new(0, 2 * BLOCK));
    bench.restart();
    let report = bench.ask(bench.add(1, 2 * GIB, Rest::Drop)).expect("it could be");
    assert_eq!((report.accepted, report.missing), (GIB, GIB), "not what h0 wrote");
    let report = bench.ask(bench.add(0, BLOCK, Rest::Drop)).expect("it could be");
    assert_eq!(report.accepted, BLOCK, "its own");
    // Asked for, it is overwritten.
    let id = bench.ask(bench.release(0, BLOCK, Forcing::Never, Rest::Drop)).expect("it has it").id;
    let held = bench.held(0).last().copied().expect("it has something");
    let last = DpaRange::new(held.start + held.length - BLOCK, BLOCK);
    bench.give(0, last);
    assert_eq!(bench.report(id).state, State::Ended(Ending::Done));
    let report = bench.ask(bench.add(1, BLOCK, Rest::Drop)).expect("it could be");
    assert_eq!(report.accepted, BLOCK);
    assert!(bench.held(1).contains(&last));
}
