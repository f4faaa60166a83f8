use core::time::Duration;

use memtide_units::{Instant, RequestId, Tag};

use super::{
    BLOCK, Bench, GIB,
    bench::{Answers, Fate},
};
use crate::manager::*;

fn tagged(bench: &Bench, size: u64) -> Request {
    let Request::Add { to, policy, rest, deadline, .. } = bench.add(1, size, Rest::Drop) else {
        panic!("an addition")
    };
    Request::Add { to, size, tag: Tag([7; 16]), policy, rest, deadline }
}

/// Asks without doing anything, then lets the offer's command have this fate.
fn offered(bench: &mut Bench, request: Request, fate: Fate) {
    let id = RequestId(500);
    bench.answers[1] = Answers::Never;
    let out = bench.manager.request(bench.now, id, request).expect("there is room");
    bench.take_all(out);
    let command = bench.step(fate);
    assert!(matches!(command, Some(Command::InitiateAdd(_))), "{command:?}");
}

#[test]
fn a_lost_offer_is_made_once_more() {
    for is_tagged in [true, false] {
        let mut bench = Bench::new();
        let request = if is_tagged { tagged(&bench, GIB) } else { bench.add(1, GIB, Rest::Drop) };
        offered(&mut bench, request, Fate::Lost);
        bench.answers[1] = Answers::All;
        bench.run();
        assert_eq!(bench.report(RequestId(500)).state, State::Ended(Ending::Done));
        assert_eq!(bench.held_bytes(1), GIB);
    }
}

#[test]
fn an_offer_whose_reply_is_lost_is_not_made_twice() {
    for is_tagged in [true, false] {
        let mut bench = Bench::new();
        let request = if is_tagged { tagged(&bench, GIB) } else { bench.add(1, GIB, Rest::Drop) };
        offered(&mut bench, request, Fate::ReplyLost);
        bench.run();
        assert_eq!(bench.report(RequestId(500)).pending, GIB);
        bench.answers[1] = Answers::All;
        bench.run();
        assert_eq!(bench.report(RequestId(500)).state, State::Ended(Ending::Done));
        assert_eq!(bench.held_bytes(1), GIB, "and not twice as much");
    }
}

#[test]
fn an_offer_outlives_its_manager() {
    for fate in [Fate::Done, Fate::Lost, Fate::ReplyLost] {
        let mut bench = Bench::new();
        let request = bench.add(1, GIB, Rest::Drop);
        offered(&mut bench, request, fate);
        bench.restart();
        assert_eq!(bench.report(RequestId(500)).pending, GIB, "{fate:?}");
        assert_eq!(bench.manager.devices()[0].free, GIB, "{fate:?}");
        bench.answers[1] = Answers::All;
        bench.run();
        assert_eq!(bench.report(RequestId(500)).accepted, GIB, "{fate:?}");
        assert_eq!(bench.held_bytes(1), GIB, "{fate:?}");
    }
}

#[test]
fn what_was_refused_while_nobody_looked_is_known() {
    let mut bench = Bench::new();
    let request = bench.add(1, GIB, Rest::Drop);
    offered(&mut bench, request, Fate::Done);
    bench.tell(Input::DeviceDown { device: bench.name() });
    bench.answers[1] = Answers::Nothing;
    bench.run();
    bench.restart();
    let report = bench.report(RequestId(500));
    assert_eq!((report.refused, report.state), (GIB, State::Ended(Ending::Partly)));
}

#[test]
fn a_release_goes_on_after_a_restart() {
    let mut bench = Bench::new();
    bench.ask(bench.add(1, GIB, Rest::Drop)).expect("there is room");
    let request = bench.release(1, 2 * BLOCK, Forcing::Never, Rest::Stand);
    let id = bench.ask(request).expect("it has it").id;
    bench.restart();
    let last = memtide_units::DpaRange::new(2 * BLOCK, 2 * BLOCK);
    bench.give(1, last);
    let report = bench.report(id);
    assert_eq!((report.returned, report.state), (2 * BLOCK, State::Ended(Ending::Done)));
    bench.restart();
    assert_eq!(bench.report(id), report, "what was answered stays answered");
}

#[test]
fn a_device_that_is_away_does_not_keep_answers_away() {
    let mut bench = Bench::new();
    bench.tell(Input::DeviceDown { device: bench.name() });
    let report = bench.ask(bench.add(1, GIB, Rest::Drop)).expect("it was there before");
    assert_eq!(report.state, State::Open);
    bench.wait(10);
    let report = bench.report(report.id);
    assert_eq!((report.state, report.missing), (State::Ended(Ending::Partly), GIB));
    assert_eq!(bench.answers_to(report.id).len(), 1);
}

#[test]
fn what_belongs_to_nobody_any_more_is_ended() {
    let mut bench = Bench::new();
    bench.ask(bench.add(0, 2 * GIB, Rest::Drop)).expect("there is room");
    let id = bench.ask(bench.add(1, GIB, Rest::Stand)).expect("it could be").id;
    bench.config.devices[0].hosts.remove(1);
    bench.restart();
    assert_eq!(bench.report(id).state, State::Ended(Ending::Partly));
    assert_eq!(
        bench.answers_to(id).last().map(|report| report.state),
        Some(State::Ended(Ending::Partly))
    );
}

#[test]
fn before_a_device_was_ever_seen_nothing_is_promised() {
    let mut bench = Bench::new();
    bench.manager = Manager::new(bench.config.clone()).expect("it makes sense");
    let device = bench.name();
    let refused = bench.ask(bench.add(1, GIB, Rest::Stand));
    assert_eq!(refused, Err(RequestError::NotConnected { device }));
}

#[test]
fn a_clock_that_is_set_back_does_not_hold_up_a_request() {
    let mut bench = Bench::new();
    bench.now = bench.now.after(Duration::from_secs(100_000));
    bench.answers[1] = Answers::Nothing;
    let request = bench.add(1, GIB, Rest::Stand);
    let id = bench.ask(request).unwrap().id;
    assert_eq!(bench.report(id).state, State::Open);
    bench.answers[1] = Answers::All;
    bench.now = Instant(Duration::from_secs(5));
    bench.restart();
    bench.wait(60);
    assert_eq!(bench.report(id).state, State::Ended(Ending::Done));
}
