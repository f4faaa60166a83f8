//! What a host had between two looks, and what it is said to have declined.

use alloc::{vec, vec::Vec};

use memtide_units::{DpaRange, Tag};

use super::{bench, gets, given_without_a_look, marks};
use crate::{
    command::{
        HostId, More,
        dynamic_capacity::{AddResponse, Release},
    },
    manager::{
        tests::{
            BLOCK, Bench, GIB,
            bench::{Answers, Fate},
        },
        *,
    },
};

/// A host accepts the first block of what it is offered, and gives it back at once.
fn has_for_a_moment(bench: &mut Bench, host: u16) {
    let range = DpaRange::new(0, BLOCK);
    let answer = AddResponse { more: More::Last, accepted: vec![range] };
    bench.device.add_response(HostId(host), &answer).expect("it is offered");
    gives_unasked(bench, host, range);
}

fn gives_unasked(bench: &mut Bench, host: u16, range: DpaRange) {
    let release = Release { more: More::Last, released: vec![range] };
    bench.device.release(HostId(host), &release).expect("it has that");
}

#[test]
fn what_a_host_had_for_a_moment_is_not_clean() {
    let mut bench = bench();
    bench.answers[0] = Answers::Never;
    let id = bench.ask(bench.add(0, BLOCK, Rest::Drop)).expect("there is room").id;
    has_for_a_moment(&mut bench, 0);
    bench.run();
    assert_eq!((bench.report(id).accepted, bench.report(id).pending), (0, 0));
    assert_eq!(gets(&mut bench, 1), 2 * GIB - BLOCK);
}

#[test]
fn what_another_gave_a_host_for_a_moment_is_not_clean() {
    for is_set_up in [true, false] {
        let mut bench = bench();
        if !is_set_up {
            bench.config.devices[0].hosts.remove(2);
            bench.restart();
        }
        given_without_a_look(&mut bench, 2);
        gives_unasked(&mut bench, 2, DpaRange::new(0, BLOCK));
        bench.run();
        assert_eq!(gets(&mut bench, 1), 2 * GIB - BLOCK);
    }
}

/// Of three offers of the same block two were withdrawn, and only the last of them is known when the
/// first is declined. Then the second is, which is taken for the third.
#[test]
fn what_was_taken_for_declined_and_is_had_for_a_moment_is_not_clean() {
    let first = || Request::Add {
        to: Place { host: "h0".parse().expect("a name"), device: None, region: None },
        size: 0,
        tag: Tag::NULL,
        policy: Policy::Prescriptive(vec![DpaRange::new(0, BLOCK)]),
        rest: Rest::Drop,
        deadline: None,
    };
    let declines = |bench: &mut Bench| {
        let answer = AddResponse { more: More::Last, accepted: Vec::new() };
        bench.device.add_response(HostId(0), &answer).expect("its oldest offer is dead");
        bench.run();
    };
    let mut bench = bench();
    bench.answers[0] = Answers::Never;
    bench.ask(first()).expect("it is free");
    bench.wait(12);
    bench.tell(Input::DeviceUp { device: bench.name() });
    bench.run();
    bench.ask(first()).expect("it is free");
    bench.wait(12);
    declines(&mut bench);
    let third = bench.ask(first()).expect("it is free").id;
    assert_eq!(bench.report(third).pending, BLOCK);
    declines(&mut bench);
    assert_eq!(bench.report(third).refused, BLOCK);
    assert_eq!(marks(&bench), Vec::<&Key>::new());
    has_for_a_moment(&mut bench, 0);
    bench.run();
    assert_eq!(marks(&bench).len(), 1);
    assert_eq!(gets(&mut bench, 1), 2 * GIB - BLOCK);
}

#[test]
fn what_is_declined_on_another_connection_is_not_clean() {
    let mut bench = bench();
    bench.answers[0] = Answers::Never;
    bench.ask(bench.add(0, BLOCK, Rest::Drop)).expect("there is room");
    bench.tell(Input::DeviceUp { device: bench.name() });
    bench.run();
    bench.answers[0] = Answers::Nothing;
    bench.run();
    assert_eq!(gets(&mut bench, 1), 2 * GIB - BLOCK);
}

/// What it declines is only the second making of the offer: of the first no record is left.
#[test]
fn what_is_declined_after_records_were_lost_is_not_clean() {
    let mut bench = bench();
    bench.answers[0] = Answers::Never;
    let id = memtide_units::RequestId(500);
    let request = bench.add(0, BLOCK, Rest::Drop);
    let out = bench.manager.request(bench.now, id, request).expect("there is room");
    bench.take_all(out);
    bench.step(Fate::ReplyLost);
    has_for_a_moment(&mut bench, 0);
    bench.forget_records();
    bench.run();
    assert_eq!(bench.report(id).pending, BLOCK);
    bench.answers[0] = Answers::Nothing;
    bench.run();
    assert_eq!((bench.report(id).refused, bench.report(id).pending), (BLOCK, 0));
    assert_eq!(gets(&mut bench, 1), 2 * GIB - BLOCK);
}
