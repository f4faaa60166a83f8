//! Offers that nobody answers, and offers that the device does not fit any more.

use alloc::{vec, vec::Vec};
use core::time::Duration;

use memtide_units::{DpaRange, RequestId, Tag};

use super::{
    BLOCK, Bench, GIB,
    bench::{Answers, Fate},
};
use crate::{
    ReturnCode,
    command::{
        HostId, More,
        dynamic_capacity::AddResponse,
        fabric_manager::{Force, InitiateAdd, InitiateRelease, Selection},
    },
    manager::*,
};

/// Commands of one kind that the manager gave.
fn taken(bench: &Bench) -> Vec<InitiateRelease> {
    let command = |output: &Output| match output {
        Output::Command { command: Command::InitiateRelease(command), .. } => Some(command.clone()),
        _ => None,
    };
    bench.out.iter().filter_map(command).filter(|command| command.force == Force::Take).collect()
}

fn tagged(bench: &Bench, host: u64, size: u64) -> Request {
    let Request::Add { to, policy, rest, deadline, .. } = bench.add(host, size, Rest::Drop) else {
        panic!("an addition")
    };
    Request::Add { to, size, tag: Tag([7; 16]), policy, rest, deadline }
}

/// Time is over for what host 1 was offered: all is done up to the command that withdraws it.
fn about_to_be_withdrawn(bench: &mut Bench) {
    bench.tell(Input::Tick);
    let (mut log, mut extents) = (0, 0);
    while !matches!(bench.next_command(), Some(Command::InitiateRelease(_))) {
        match bench.step(Fate::Done).expect("the offer is to be withdrawn") {
            Command::GetEventRecords(_) => log += 1,
            Command::GetHostExtents(what) if what.host == HostId(1) => extents += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((log, extents), (1, 1), "looked at, and then withdrawn");
}

/// The host answers its oldest offer after all: that it wants none of it.
fn answers_late(bench: &mut Bench, host: u16) {
    let answer = AddResponse { more: More::Last, accepted: Vec::new() };
    bench.device.add_response(HostId(host), &answer).expect("its oldest offer is dead");
    bench.run();
}

#[test]
fn an_offer_that_nobody_answers_ends_with_its_request() {
    let mut bench = Bench::new();
    bench.answers[1] = Answers::Never;
    let id = bench.ask(bench.add(1, GIB, Rest::Drop)).expect("there is room").id;
    bench.wait(9);
    assert_eq!(bench.report(id).pending, GIB);
    assert_eq!(taken(&bench), []);
    bench.wait(2);
    let report = bench.report(id);
    assert_eq!((report.state, report.pending), (State::Ended(Ending::Partly), 0));
    assert_eq!((report.missing, report.accepted), (GIB, 0));
    assert_eq!(bench.answers_to(id).len(), 1);
    assert_eq!(taken(&bench).len(), 1);
    // Others can have all of it.
    let report = bench.ask(bench.add(2, 2 * GIB, Rest::Drop)).expect("it is free");
    assert_eq!(report.accepted, 2 * GIB);
}

#[test]
fn a_host_is_offered_nothing_before_it_has_answered_what_was_withdrawn() {
    let mut bench = Bench::new();
    bench.answers[1] = Answers::Never;
    let id = bench.ask(bench.add(1, GIB, Rest::Stand)).expect("there is room").id;
    bench.wait(12);
    let report = bench.report(id);
    assert_eq!((report.state, report.pending, report.missing), (State::Open, 0, GIB));
    bench.answers[1] = Answers::All;
    bench.wait(200);
    assert_eq!(bench.held_bytes(1), 0, "it has not answered");
    answers_late(&mut bench, 1);
    bench.wait(60);
    assert_eq!(bench.report(id).state, State::Ended(Ending::Done));
    assert_eq!(bench.held_bytes(1), GIB);
}

#[test]
fn the_answer_to_a_dead_offer_is_not_taken_for_that_to_the_next_one() {
    for is_restarted in [false, true] {
        let mut bench = Bench::new();
        bench.answers[1] = Answers::Never;
        bench.ask(bench.add(1, GIB, Rest::Drop)).expect("there is room");
        bench.wait(12);
        // A new connection: it may be another device, so there is another offer.
        if is_restarted {
            bench.restart();
        } else {
            bench.tell(Input::DeviceUp { device: bench.name() });
            bench.run();
        }
        let id = bench.ask(bench.add(1, GIB, Rest::Drop)).expect("there is room").id;
        assert_eq!(bench.report(id).pending, GIB);
        answers_late(&mut bench, 1);
        assert_eq!(bench.report(id).pending, GIB, "that was about the first one");
        bench.answers[1] = Answers::All;
        bench.run();
        assert_eq!(bench.report(id).state, State::Ended(Ending::Done));
    }
}

#[test]
fn what_a_cancelled_request_offered_is_withdrawn() {
    let mut bench = Bench::new();
    bench.answers[1] = Answers::Never;
    let id = bench.ask(bench.add(1, GIB, Rest::Stand)).expect("there is room").id;
    bench.ask(Request::Cancel { request: id }).expect("it is open");
    let report = bench.report(id);
    assert_eq!((report.state, report.pending), (State::Ended(Ending::Cancelled), GIB));
    bench.wait(11);
    let report = bench.report(id);
    assert_eq!((report.pending, report.missing), (0, GIB));
    assert_eq!(bench.manager.devices()[0].free, 2 * GIB);
}

#[test]
fn what_the_device_chose_is_withdrawn_by_its_tag_and_holds_up_nobody() {
    let mut bench = Bench::new();
    bench.config.devices[0].chooser = Chooser::Device;
    bench.restart();
    bench.answers[1] = Answers::Never;
    bench.ask(tagged(&bench, 1, GIB)).expect("there is room");
    let id = bench.ask(bench.add(2, BLOCK, Rest::Stand)).expect("there is room").id;
    assert_eq!(bench.report(id).missing, BLOCK, "nobody knows which bytes are free");
    bench.wait(12);
    assert_eq!(bench.report(id).state, State::Ended(Ending::Done));
    assert_eq!(taken(&bench)[0].tag, Tag([7; 16]));
}

#[test]
fn a_withdrawal_whose_reply_is_lost_is_one() {
    for fate in [Fate::Lost, Fate::ReplyLost] {
        let mut bench = Bench::new();
        bench.answers[1] = Answers::Never;
        let id = bench.ask(bench.add(1, GIB, Rest::Drop)).expect("there is room").id;
        bench.now = bench.now.after(Duration::from_secs(10));
        about_to_be_withdrawn(&mut bench);
        let command = bench.step(fate);
        assert!(matches!(command, Some(Command::InitiateRelease(_))), "{command:?}");
        bench.run();
        let report = bench.report(id);
        assert_eq!((report.pending, report.missing), (0, GIB), "{fate:?}");
        assert_eq!(bench.manager.devices()[0].free, 2 * GIB);
    }
}

#[test]
fn who_accepts_in_time_keeps_it() {
    let mut bench = Bench::new();
    bench.answers[1] = Answers::Never;
    let id = bench.ask(bench.add(1, GIB, Rest::Drop)).expect("there is room").id;
    bench.wait(9);
    bench.answers[1] = Answers::All;
    bench.run();
    bench.wait(100);
    assert_eq!(bench.report(id).state, State::Ended(Ending::Done));
    assert_eq!((bench.held_bytes(1), taken(&bench).len()), (GIB, 0));
}

/// Nobody told the manager, with a log or without one: it looks before it takes anything.
#[test]
fn who_accepted_in_time_keeps_it_though_nobody_said_so() {
    let no_log = |command: &Command| {
        matches!(command, Command::GetEventRecords(_)).then_some(ReturnCode::UNSUPPORTED)
    };
    for refuses in [|_: &Command| None, no_log] {
        let mut bench = Bench::new();
        bench.refuses = refuses;
        bench.answers[1] = Answers::Never;
        let id = bench.ask(bench.add(1, GIB, Rest::Drop)).expect("there is room").id;
        bench.wait(8);
        bench.accepts_without_a_word(1);
        bench.wait(100);
        assert_eq!((bench.held_bytes(1), taken(&bench)), (GIB, Vec::new()));
        assert_eq!(bench.report(id).state, State::Ended(Ending::Done));
    }
}

#[test]
fn what_is_tried_again_to_withdraw_is_looked_at_again() {
    fn busy(command: &Command) -> Option<ReturnCode> {
        matches!(command, Command::InitiateRelease(_)).then_some(ReturnCode::BUSY)
    }
    fn does_not(command: &Command) -> Option<ReturnCode> {
        matches!(command, Command::InitiateRelease(_)).then_some(ReturnCode::UNSUPPORTED)
    }
    for refuses in [busy, does_not] {
        let mut bench = Bench::new();
        bench.answers[1] = Answers::Never;
        bench.refuses = refuses;
        let id = bench.ask(bench.add(1, GIB, Rest::Drop)).expect("there is room").id;
        bench.wait(10);
        assert_eq!(taken(&bench).len(), 1);
        bench.accepts_without_a_word(1);
        bench.refuses = |_| None;
        bench.wait(100);
        assert_eq!((bench.held_bytes(1), taken(&bench).len()), (GIB, 1));
        assert_eq!((bench.report(id).accepted, bench.report(id).pending), (GIB, 0));
    }
}

/// The device has no time for the first of two withdrawals: the other is looked at again, too.
#[test]
fn a_look_at_one_offer_does_not_outlast_the_pause_of_another() {
    for code in [ReturnCode::BUSY, ReturnCode::RETRY_REQUIRED] {
        let mut bench = Bench::new();
        bench.answers = [Answers::Never; 3];
        for host in [1, 2] {
            bench.ask(bench.add(host, BLOCK, Rest::Drop)).expect("there is room");
        }
        bench.now = bench.now.after(Duration::from_secs(10));
        bench.tell(Input::Tick);
        while !matches!(bench.next_command(), Some(Command::InitiateRelease(_))) {
            bench.step(Fate::Done).expect("the offers are to be withdrawn");
        }
        bench.take_command();
        bench.accepts_without_a_word(2);
        bench.tell(Input::Reply { device: bench.name(), reply: Err(code) });
        bench.run();
        bench.wait(20);
        let hosts: Vec<HostId> = taken(&bench).iter().map(|command| command.host).collect();
        assert_eq!(hosts, [HostId(1); 2], "{code:?}");
        assert_eq!((bench.held_bytes(1), bench.held_bytes(2)), (0, BLOCK), "{code:?}");
    }
}

/// Without a log no record tells of the answer to a dead offer: it is not waited for.
#[test]
fn a_host_is_offered_more_when_the_log_is_gone() {
    let no_log = |command: &Command| {
        matches!(command, Command::GetEventRecords(_)).then_some(ReturnCode::UNSUPPORTED)
    };
    let mut bench = Bench::new();
    bench.answers[1] = Answers::Never;
    let id = bench.ask(bench.add(1, GIB, Rest::Stand)).expect("there is room").id;
    bench.wait(20);
    assert_eq!((bench.report(id).pending, taken(&bench).len()), (0, 1), "it waits for the answer");
    bench.refuses = no_log;
    bench.tell(Input::EventsPending { device: bench.name() });
    bench.run();
    assert_eq!(bench.report(id).pending, GIB);
    // The same where there never was one.
    let mut bench = Bench::new();
    bench.refuses = no_log;
    bench.answers[1] = Answers::Never;
    let id = bench.ask(bench.add(1, GIB, Rest::Stand)).expect("there is room").id;
    bench.wait(10);
    assert_eq!((bench.report(id).pending, taken(&bench).len()), (0, 1));
    bench.wait(2);
    assert_eq!(bench.report(id).pending, GIB);
}

/// A device that does not do that keeps the offer. The answer does not wait for it for ever.
#[test]
fn what_the_device_does_not_withdraw_stays_and_the_answer_comes() {
    let mut bench = Bench::new();
    bench.answers[1] = Answers::Never;
    bench.refuses =
        |command| matches!(command, Command::InitiateRelease(_)).then_some(ReturnCode::UNSUPPORTED);
    let Request::Add { to, size, tag, policy, rest, .. } = bench.add(1, GIB, Rest::Drop) else {
        panic!("an addition")
    };
    let deadline = Some(Duration::from_secs(3));
    let id = bench.ask(Request::Add { to, size, tag, policy, rest, deadline }).expect("room").id;
    bench.wait(3);
    let not_withdrawn =
        Notice::NotWithdrawn { host: bench.host(1), bytes: GIB, code: ReturnCode::UNSUPPORTED };
    let told = |bench: &Bench| {
        let note = |output: &Output| match output {
            Output::Note { notice, .. } => Some(notice.clone()),
            _ => None,
        };
        let notes = bench.out.iter().filter_map(note);
        notes.filter(|notice| *notice == not_withdrawn).count()
    };
    assert_eq!((told(&bench), bench.report(id).state), (1, State::Open));
    // A patience later, and not before.
    bench.wait(9);
    assert_eq!((bench.report(id).state, bench.answers_to(id)), (State::Open, Vec::new()));
    bench.wait(1);
    let report = bench.report(id);
    assert_eq!((report.state, report.pending), (State::Ended(Ending::Partly), GIB));
    assert_eq!(bench.answers_to(id), [report]);
    bench.wait(200);
    assert!(told(&bench) > 2, "it is tried again");
    assert_eq!(bench.device.offers(HostId(1)).count(), 1);
    assert_eq!(bench.manager.devices()[0].free, GIB);
    bench.answers[1] = Answers::All;
    bench.run();
    let report = bench.report(id);
    assert_eq!((report.accepted, report.pending, bench.held_bytes(1)), (GIB, 0, GIB));
}

fn steps_to_extents_of(bench: &mut Bench, host: u16) {
    let is_it =
        |command: &Command| matches!(command, Command::GetHostExtents(it) if it.host.0 == host);
    while !is_it(bench.next_command().expect("they are to be read")) {
        bench.step(Fate::Done);
    }
}

/// The device has no time between the look and the withdrawal: then the look does not count.
#[test]
fn a_look_does_not_outlast_a_pause() {
    let mut bench = Bench::new();
    bench.answers[1] = Answers::Never;
    bench.ask(bench.add(1, GIB, Rest::Drop)).expect("there is room");
    bench.now = bench.now.after(Duration::from_secs(10));
    bench.tell(Input::Tick);
    steps_to_extents_of(&mut bench, 1);
    // Something else is to be read after this host's extents.
    bench.tell(Input::HostAnswer {
        host: bench.host(2),
        device: bench.name(),
        answer: HostAnswer { asked: 0, released: 0, remaining: 0, holders: Vec::new() },
    });
    steps_to_extents_of(&mut bench, 2);
    bench.refuses = |_| Some(ReturnCode::BUSY);
    bench.step(Fate::Done);
    bench.accepts_without_a_word(1);
    bench.refuses = |_| None;
    bench.wait(100);
    assert_eq!((bench.held_bytes(1), taken(&bench)), (GIB, Vec::new()));
}

/// An offer is in the journal, and nothing of it on the device, which is another by now.
fn offered_to_another_device(request: impl Fn(&Bench) -> Request) -> Bench {
    let mut bench = Bench::new();
    bench.answers[1] = Answers::Never;
    let id = RequestId(500);
    let out = bench.manager.request(bench.now, id, request(&bench)).expect("there is room");
    bench.take_all(out);
    let command = bench.step(Fate::Lost);
    assert!(matches!(command, Some(Command::InitiateAdd(_))), "{command:?}");
    let mut shrunk = crate::device::Config {
        serial: 7,
        hosts: 3,
        regions: Vec::new(),
        total_capacity: BLOCK,
        limits: crate::device::Limits::default(),
    };
    shrunk
        .regions
        .push(crate::device::RegionConfig { length: BLOCK, ..super::bench::first_region() });
    bench.device = crate::device::Device::new(shrunk).expect("it makes sense");
    bench.restart();
    bench
}

#[test]
fn an_offer_that_no_longer_fits_the_device_ends_and_says_so() {
    let here = |bench: &Bench| {
        let extents = vec![DpaRange::new(2 * BLOCK, BLOCK)];
        let (policy, rest) = (Policy::Prescriptive(extents), Rest::Stand);
        let to = bench.place(1);
        Request::Add { to, size: 0, tag: Tag::NULL, policy, rest, deadline: None }
    };
    let bench = offered_to_another_device(here);
    let report = bench.report(RequestId(500));
    assert_eq!((report.state, report.pending), (State::Ended(Ending::NoLongerFits), 0));
    assert_eq!(bench.answers_to(RequestId(500)).last(), Some(&report));
    // Where any bytes will do, others are offered.
    let mut bench = offered_to_another_device(|bench| bench.add(1, 2 * BLOCK, Rest::Drop));
    bench.answers[1] = Answers::All;
    bench.run();
    bench.wait(11);
    let report = bench.report(RequestId(500));
    assert_eq!((report.accepted, report.missing), (BLOCK, BLOCK));
    // And where nothing comes of it, that is why.
    let mut bench = offered_to_another_device(|bench| tagged(bench, 1, 2 * BLOCK));
    bench.wait(11);
    let report = bench.report(RequestId(500));
    assert_eq!((report.state, report.missing), (State::Ended(Ending::NoLongerFits), 2 * BLOCK));
}

#[test]
fn an_offer_that_another_host_has_by_now_ends_and_says_so() {
    let mut bench = Bench::new();
    bench.answers[1] = Answers::Never;
    let extents = vec![DpaRange::new(0, BLOCK)];
    let (policy, rest) = (Policy::Prescriptive(extents), Rest::Stand);
    let request =
        Request::Add { to: bench.place(1), size: 0, tag: Tag::NULL, policy, rest, deadline: None };
    let id = RequestId(500);
    let out = bench.manager.request(bench.now, id, request).expect("it is free");
    bench.take_all(out);
    let Some(Command::InitiateAdd(offer)) = bench.step(Fate::Lost) else { panic!("an offer") };
    // Somebody else gives it to another host meanwhile.
    let given = InitiateAdd { host: HostId(2), selection: Selection::Prescriptive, ..offer };
    bench.device.initiate_add(&given).expect("it is free");
    let answer = AddResponse { more: More::Last, accepted: vec![DpaRange::new(0, BLOCK)] };
    bench.device.add_response(HostId(2), &answer).expect("it is offered");
    bench.restart();
    assert_eq!(bench.report(id).state, State::Ended(Ending::NoLongerFits));
    assert_eq!(bench.held_bytes(1), 0);
}

#[test]
fn a_recalled_offer_has_the_time_of_its_request() {
    let mut bench = Bench::new();
    bench.answers[1] = Answers::Never;
    let Request::Add { to, size, tag, policy, rest, .. } = bench.add(1, GIB, Rest::Drop) else {
        panic!("an addition")
    };
    let deadline = Some(Duration::from_secs(100));
    let id = bench.ask(Request::Add { to, size, tag, policy, rest, deadline }).expect("room").id;
    bench.restart();
    bench.wait(90);
    assert_eq!((bench.report(id).pending, taken(&bench)), (GIB, Vec::new()));
    bench.wait(20);
    assert_eq!((bench.report(id).pending, taken(&bench).len()), (0, 1));
}

#[test]
fn who_answers_while_its_offer_is_withdrawn_is_offered_more() {
    let mut bench = Bench::new();
    bench.answers[1] = Answers::Never;
    let id = bench.ask(bench.add(1, GIB, Rest::Stand)).expect("there is room").id;
    bench.now = bench.now.after(Duration::from_secs(10));
    about_to_be_withdrawn(&mut bench);
    let Some(Command::InitiateRelease(command)) = bench.take_command() else {
        panic!("a withdrawal")
    };
    let command = Command::InitiateRelease(command);
    let reply = super::bench::execute(&mut bench.device, &command);
    let answer = AddResponse { more: More::Last, accepted: Vec::new() };
    bench.device.add_response(HostId(1), &answer).expect("its oldest offer is dead");
    // The device says that it has a record before it replies.
    bench.tell(Input::EventsPending { device: bench.name() });
    bench.tell(Input::Reply { device: bench.name(), reply });
    bench.device.take_effects();
    bench.answers[1] = Answers::All;
    bench.run();
    bench.wait(60);
    assert_eq!(bench.report(id).state, State::Ended(Ending::Done));
    assert_eq!(bench.held_bytes(1), GIB);
}

#[test]
fn a_refusal_that_may_be_of_either_offer_is_not_eaten() {
    let mut bench = Bench::new();
    bench.answers[1] = Answers::Never;
    bench.ask(bench.add(1, GIB, Rest::Drop)).expect("there is room");
    bench.wait(12);
    // The dead offer's answer is lost with its record.
    let mut fresh = crate::device::Config {
        serial: 7,
        hosts: 3,
        regions: Vec::new(),
        total_capacity: GIB,
        limits: crate::device::Limits::default(),
    };
    fresh.regions.push(super::bench::first_region());
    bench.device = crate::device::Device::new(fresh).expect("it makes sense");
    bench.restart();
    bench.answers[1] = Answers::Nothing;
    let id = bench.ask(bench.add(1, GIB, Rest::Drop)).expect("there is room").id;
    let report = bench.report(id);
    assert_eq!((report.pending, report.refused), (0, GIB));
    assert!(!matches!(report.state, State::Open));
}
