//! What agents may say, and when QEMU is told.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
};

use memtide_cxl::{command::fabric_manager::Force, manager::Response};
use serde_json::json;

use super::*;
use crate::manager::backend::qmp::tests::{
    HOST, MIB, add, apart, extent, lines, range, release, shadow,
};

/// Of two guests, whose ends of the sockets are the caller's.
fn session() -> ([UnixStream; 2], Session) {
    let [(first, one), (second, other)] = [lines(), lines()];
    let guests = vec![(one, "/d".to_owned()), (other, "/d".to_owned())];
    ([first, second], Session::new(guests, shadow()).unwrap())
}

fn says(session: &mut Session, host: HostId, accepted: &[DpaRange], answered: &[DpaRange]) {
    says_after(session, host, accepted, answered, 0);
}

/// After a look that it was asked for.
fn says_after(
    session: &mut Session,
    host: HostId,
    accepted: &[DpaRange],
    answered: &[DpaRange],
    looked: u64,
) {
    let accepted = accepted.iter().copied().map(extent).collect();
    session.host_says(host, HostSays::Has { accepted, answered: answered.to_vec(), looked });
    assert_eq!(session.finish().unwrap(), None);
}

/// QEMU does its command of this number.
fn returns(qemu: &mut UnixStream, number: u64) {
    writeln!(qemu, "{{\"return\": {{}}, \"id\": {number}}}").unwrap();
}

/// The commands that it was given.
fn given(qemu: &mut UnixStream) -> Vec<serde_json::Value> {
    qemu.set_nonblocking(true).unwrap();
    let mut text = Vec::new();
    let error = qemu.read_to_end(&mut text).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    text.split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice::<serde_json::Value>(line).unwrap()["arguments"].take())
        .collect()
}

#[test]
fn what_an_agent_says_too_early_is_heard_again() {
    let (_qemus, mut session) = session();
    says(&mut session, HOST, &[range(0, 1)], &[]);
    // The first has released it, which its agent has not told.
    says(&mut session, HostId(1), &[range(0, 1)], &[]);
    let problem = session.problem().unwrap();
    assert!(problem.starts_with("the agent of"), "{problem}");
    assert_eq!(session.due(), None);
    says(&mut session, HOST, &[], &[]);
    assert_eq!(session.problem(), None);
    assert_eq!(session.shadow().held(HostId(1)), [range(0, 1)]);
}

/// Both agents are heard, so the manager can ask one of them for what both have.
#[test]
fn a_conflict_outlasts_an_offer_and_ends_with_a_release() {
    let (mut qemus, mut session) = session();
    says(&mut session, HOST, &[range(0, 1)], &[]);
    says(&mut session, HostId(1), &[range(0, 1)], &[]);
    let conflict = session.problem().unwrap();
    assert!(conflict.ends_with("expected nothing that host 0 has or is offered"), "{conflict}");
    session.begin(&add(HostId(1), &[range(4, 1)])).unwrap();
    returns(&mut qemus[1], 1);
    assert_eq!(session.finish().unwrap(), Some(Ok(Response::Done)));
    assert_eq!(session.finish().unwrap(), None);
    assert_eq!(session.problem(), Some(conflict));
    session.begin(&release(Force::Ask, &[range(0, 1)])).unwrap();
    assert_eq!(session.finish().unwrap(), Some(Ok(Response::Done)));
    returns(&mut qemus[0], 1);
    says(&mut session, HostId(1), &[range(0, 1), range(4, 1)], &[]);
    says(&mut session, HOST, &[], &[]);
    assert_eq!(session.shadow().held(HostId(1)), [range(0, 1), range(4, 1)]);
    assert_eq!(session.problem(), None);
}

#[test]
fn an_answer_from_before_a_conflict_is_none_to_a_later_offer() {
    let (mut qemus, mut session) = session();
    says(&mut session, HOST, &[range(0, 1)], &[]);
    says(&mut session, HostId(1), &[], &[]);
    says(&mut session, HostId(1), &[range(0, 1)], &[range(4, 1)]);
    session.begin(&add(HostId(1), &[range(4, 1)])).unwrap();
    writeln!(qemus[1], "{{\"return\": {{}}, \"id\": 1}}").unwrap();
    assert_eq!(session.finish().unwrap(), Some(Ok(Response::Done)));
    says(&mut session, HostId(1), &[], &[]);
    assert_eq!(session.shadow().offered(HostId(1)), [range(4, 1)]);
    says(&mut session, HostId(1), &[], &[range(4, 1)]);
    assert_eq!(session.shadow().offered(HostId(1)), []);
}

#[test]
fn who_connects_while_it_is_offered_something_is_asked_to_look_again() {
    for accepted in [false, true] {
        let (mut qemus, mut session) = session();
        session.begin(&add(HOST, &[range(0, 1)])).unwrap();
        session.host_says(HOST, HostSays::Connected);
        // It has looked, and there was nothing yet.
        says(&mut session, HOST, &[], &[]);
        returns(&mut qemus[0], 1);
        assert_eq!(session.finish().unwrap(), Some(Ok(Response::Done)));
        assert_eq!(session.shadow().offered(HOST), [range(0, 1)]);
        assert_eq!(session.take_looks(), [(HOST, 1)]);
        assert_eq!(session.take_looks(), []);
        says(&mut session, HOST, &[], &[]);
        assert_eq!(session.shadow().offered(HOST), [range(0, 1)]);
        let has = if accepted { vec![range(0, 1)] } else { vec![] };
        says_after(&mut session, HOST, &has, &[], 1);
        assert_eq!((session.shadow().offered(HOST), session.shadow().held(HOST)), (vec![], has));
    }
}

#[test]
fn who_connects_has_answered_what_was_offered_before() {
    let (mut qemus, mut session) = session();
    session.begin(&add(HOST, &[range(0, 1)])).unwrap();
    returns(&mut qemus[0], 1);
    assert_eq!(session.finish().unwrap(), Some(Ok(Response::Done)));
    session.host_says(HOST, HostSays::Connected);
    says(&mut session, HOST, &[], &[]);
    assert_eq!(session.shadow().offered(HOST), []);
    assert_eq!(session.take_looks(), []);
    // What is offered then is another offer, also of the same range.
    session.begin(&add(HOST, &[range(0, 1)])).unwrap();
    returns(&mut qemus[0], 2);
    assert_eq!(session.finish().unwrap(), Some(Ok(Response::Done)));
    says_after(&mut session, HOST, &[], &[], 1);
    assert_eq!(session.shadow().offered(HOST), [range(0, 1)]);
    says_after(&mut session, HOST, &[], &[], 2);
    assert_eq!(session.shadow().offered(HOST), []);
}

#[test]
fn an_answer_to_one_offer_is_none_to_the_next_of_the_same_range() {
    let (mut qemus, mut session) = session();
    for number in 1..3 {
        session.begin(&add(HOST, &[range(0, 1)])).unwrap();
        returns(&mut qemus[0], number);
        assert_eq!(session.finish().unwrap(), Some(Ok(Response::Done)));
        // The first time it is answered before anybody asks for a look.
        says(&mut session, HOST, &[], &[range(0, 1)][..(number < 2) as usize]);
    }
    says_after(&mut session, HOST, &[], &[], 1);
    assert_eq!(session.shadow().offered(HOST), [range(0, 1)]);
}

#[test]
fn what_is_asked_back_waits_for_room_in_the_log() {
    let (mut qemus, mut session) = session();
    let all = apart(20);
    says(&mut session, HOST, &all, &[]);
    let offsets = |told: &serde_json::Value| -> Vec<u64> {
        let extents = told["extents"].as_array().unwrap().iter();
        extents.map(|extent| extent["offset"].as_u64().unwrap() / (4 * MIB)).collect()
    };
    session.begin(&release(Force::Ask, &all)).unwrap();
    assert_eq!(session.finish().unwrap(), Some(Ok(Response::Done)));
    assert_eq!(
        given(&mut qemus[0]).iter().map(offsets).collect::<Vec<_>>(),
        [[0, 1, 2, 3, 4, 5, 6, 7]]
    );
    // The same again is nothing more to ask for, and no command is given meanwhile.
    session.begin(&release(Force::Ask, &all[8..])).unwrap();
    assert_eq!(session.finish().unwrap(), None);
    returns(&mut qemus[0], 1);
    assert_eq!(session.finish().unwrap(), Some(Ok(Response::Done)));
    assert_eq!(given(&mut qemus[0]), Vec::<serde_json::Value>::new());
    // An offer has no room either, but has it next.
    session.begin(&add(HOST, &[range(6, 1)])).unwrap();
    assert_eq!(session.finish().unwrap(), Some(Err(ReturnCode::RETRY_REQUIRED)));
    assert_eq!(session.take_looks(), [(HOST, 8)]);
    // One of them is given back unasked meanwhile.
    let rest: Vec<DpaRange> = all.iter().copied().filter(|range| *range != all[9]).collect();
    says_after(&mut session, HOST, &rest, &[], 8);
    assert_eq!(given(&mut qemus[0]), Vec::<serde_json::Value>::new());
    assert!(session.due().is_some_and(|due| due > Instant::now()));
    session.begin(&add(HOST, &[range(6, 1)])).unwrap();
    assert_eq!(given(&mut qemus[0]).len(), 1);
    returns(&mut qemus[0], 2);
    assert_eq!(session.finish().unwrap(), Some(Ok(Response::Done)));
    // 7 of them, and the offer.
    assert_eq!(
        given(&mut qemus[0]).iter().map(offsets).collect::<Vec<_>>(),
        [[8, 10, 11, 12, 13, 14, 15]]
    );
    returns(&mut qemus[0], 3);
    assert_eq!(session.finish().unwrap(), None);
    assert_eq!((session.take_looks(), session.due()), (vec![(HOST, 16)], None));
    says_after(&mut session, HOST, &rest, &[], 16);
    assert_eq!(given(&mut qemus[0]).iter().map(offsets).collect::<Vec<_>>(), [[16, 17, 18, 19]]);
    // What QEMU refuses is said, and has not used the room.
    writeln!(
        qemus[0],
        "{}",
        json!({ "error": { "class": "GenericError", "desc": "no" }, "id": 4 })
    )
    .unwrap();
    assert_eq!(session.finish().unwrap(), None);
    assert_eq!(session.problem().unwrap(), "QEMU refused cxl-release-dynamic-capacity: no");
    assert_eq!(session.take_looks(), []);
    session.begin(&release(Force::Ask, &all[..8])).unwrap();
    assert_eq!(given(&mut qemus[0]).len(), 1);
    // A guest that there is not says nothing.
    session.host_says(HostId(2), HostSays::Connected);
}

#[test]
fn what_is_taken_needs_room_in_the_log_as_well() {
    let (mut qemus, mut session) = session();
    let all = apart(9);
    says(&mut session, HOST, &all, &[]);
    session.begin(&release(Force::Ask, &all[..8])).unwrap();
    assert_eq!(session.finish().unwrap(), Some(Ok(Response::Done)));
    returns(&mut qemus[0], 1);
    assert_eq!(session.finish().unwrap(), None);
    session.begin(&release(Force::Take, &all[8..])).unwrap();
    assert_eq!(session.finish().unwrap(), Some(Err(ReturnCode::RETRY_REQUIRED)));
    assert_eq!(given(&mut qemus[0]).len(), 1);
    says_after(&mut session, HOST, &all, &[], 8);
    session.begin(&release(Force::Take, &all[8..])).unwrap();
    assert_eq!(given(&mut qemus[0])[0]["forced-removal"], true);
}

#[test]
fn an_offer_that_waits_for_an_agent_to_look_is_told_of() {
    let (mut qemus, mut session) = session();
    let all = apart(9);
    session.begin(&add(HostId(1), &all[..8])).unwrap();
    returns(&mut qemus[1], 1);
    assert_eq!(session.finish().unwrap(), Some(Ok(Response::Done)));
    assert_eq!(session.problem(), None);
    session.begin(&add(HostId(1), &all[8..])).unwrap();
    assert_eq!(session.finish().unwrap(), Some(Err(ReturnCode::RETRY_REQUIRED)));
    let problem = "no room in the event log of host 1; expected its agent to look at it";
    assert_eq!(session.problem().as_deref(), Some(problem));
    says_after(&mut session, HostId(1), &all[..8], &[], 8);
    assert_eq!(session.problem(), None);
    session.begin(&add(HostId(1), &all[8..])).unwrap();
    assert_eq!(given(&mut qemus[1]).len(), 2);
}

/// What one guest's QEMU refused is told of until something comes of that guest.
#[test]
fn what_one_qemu_refused_is_not_forgotten_for_another_guest() {
    let refused = "QEMU refused cxl-add-dynamic-capacity: no";
    let (mut qemus, mut session) = session();
    let refuses = |qemu: &mut UnixStream, number: u64| {
        let error = json!({ "class": "GenericError", "desc": "no" });
        writeln!(qemu, "{}", json!({ "error": error, "id": number })).unwrap();
    };
    session.begin(&add(HOST, &[range(0, 1)])).unwrap();
    refuses(&mut qemus[0], 1);
    assert_eq!(session.finish().unwrap(), Some(Err(ReturnCode::RETRY_REQUIRED)));
    // The other one's agent speaks, and its QEMU does what it is told.
    says(&mut session, HostId(1), &[], &[]);
    assert_eq!(session.problem().as_deref(), Some(refused));
    session.begin(&add(HostId(1), &[range(1, 1)])).unwrap();
    returns(&mut qemus[1], 1);
    assert_eq!(session.finish().unwrap(), Some(Ok(Response::Done)));
    assert_eq!(session.problem().as_deref(), Some(refused));
    says(&mut session, HOST, &[], &[]);
    assert_eq!(session.problem(), None);
    // So is what it does itself.
    session.begin(&add(HOST, &[range(2, 1)])).unwrap();
    refuses(&mut qemus[0], 2);
    assert_eq!(session.finish().unwrap(), Some(Err(ReturnCode::RETRY_REQUIRED)));
    assert_eq!(session.problem().as_deref(), Some(refused));
    session.begin(&add(HOST, &[range(2, 1)])).unwrap();
    returns(&mut qemus[0], 3);
    assert_eq!(session.finish().unwrap(), Some(Ok(Response::Done)));
    assert_eq!(session.problem(), None);
}
