//! What a socket may say, and what agents may.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
};

use memtide_cxl::{
    ReturnCode,
    command::{
        HostId, Sanitize,
        events::{EventBody, EventLog, GetEventRecords},
        fabric_manager::{
            Force, InitiateAdd, InitiateRelease, Removal, Selection, SetConfiguration,
        },
    },
    manager::{Command, Response},
};
use memtide_units::{DcExtent, DpaRange, Tag};
use serde_json::json;

use super::{
    description::Description,
    error::HearError,
    lines::{Answer, Lines},
    orders::What,
    session::Session,
    shadow::{Shadow, Trial},
    *,
};
use crate::{
    manager::backend::{Backend, HostSays},
    wire::MAX_TOLD_EXTENTS,
};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const HOST: HostId = HostId(0);

fn lines() -> (UnixStream, Lines) {
    let (qemu, ours) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    (qemu, Lines::new(ours.into()))
}

#[test]
fn answers_are_read_in_whatever_pieces_they_come() {
    let (mut qemu, mut lines) = lines();
    lines.begin("x", &json!({})).unwrap();
    let text = "{\"event\": \"STOP\"}\r\n{\"return\": {\"a\": 1}, \"id\": 1}\r\n";
    for (number, byte) in text.bytes().enumerate() {
        assert_eq!(lines.answer().unwrap(), None, "before byte {number}");
        qemu.write_all(&[byte]).unwrap();
    }
    assert_eq!(lines.answer().unwrap(), Some(Answer::Return(json!({ "a": 1 }))));
    assert_eq!(lines.answer().unwrap(), None);
    drop(qemu);
    assert!(matches!(lines.answer(), Err(QmpError::Closed)));
}

#[test]
fn what_is_no_answer_ends_the_connection() {
    for (said, what) in [
        ("[]", "an object"),
        ("7", "an object"),
        ("{\"return\": {}", "an object"),
        ("{}", "an answer"),
        ("{\"return\": {}, \"id\": 2}", "an answer"),
        ("{\"return\": {}, \"id\": \"1\"}", "an answer"),
        ("{\"id\": 1}", "an answer"),
        ("\u{1}\u{2}", "an object"),
    ] {
        let (mut qemu, mut lines) = lines();
        lines.begin("x", &json!({})).unwrap();
        writeln!(qemu, "{said}").unwrap();
        let error = lines.answer().unwrap_err().to_string();
        assert!(error.contains(&format!("expected {what}")), "{said}: {error}");
    }
    let (mut qemu, mut lines) = lines();
    lines.begin("x", &json!({})).unwrap();
    let deep = "[".repeat(1 << 16);
    writeln!(qemu, "{{\"return\": {deep}").unwrap();
    assert!(matches!(lines.answer(), Err(QmpError::Line { .. })));
}

#[test]
fn who_talks_without_end_keeps_nobody_from_a_turn() {
    let (mut qemu, mut lines) = lines();
    let talks = std::thread::spawn(move || {
        let events = "{\"event\": 1}\n".repeat(1 << 14);
        while qemu.write_all(events.as_bytes()).is_ok() {}
    });
    let (sender, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        lines.begin("x", &json!({})).unwrap();
        for _ in 0..8 {
            assert_eq!(lines.answer().unwrap(), None);
        }
        let soon = Instant::now() + Duration::from_millis(30);
        let never = lines.ask("x", &json!({}), soon).unwrap_err();
        sender.send(matches!(never, QmpError::Late { .. })).unwrap();
    });
    assert_eq!(ended.recv_timeout(Duration::from_secs(60)), Ok(true));
    talks.join().unwrap();
}

#[test]
fn who_does_not_greet_is_not_waited_for() {
    let (mut qemu, mut lines) = lines();
    let soon = Instant::now() + Duration::from_millis(30);
    assert!(matches!(lines.greet(soon), Err(QmpError::Late { .. })));
    writeln!(qemu, "{{\"hello\": 1}}").unwrap();
    let soon = Instant::now() + Duration::from_millis(300);
    let error = lines.greet(soon).unwrap_err().to_string();
    assert!(error.contains("expected QMP's greeting"), "{error}");
}

/// Two regions of 512 MiB behind 1 GiB.
fn shadow() -> Shadow {
    let description = Description { serial: 7, base: GIB, size: GIB, regions: 2 };
    let mut shadow = Shadow::new(&description, 2).unwrap();
    assert_eq!(shadow.unknown(), Some(0));
    hear(&mut shadow, &[], &[]).unwrap();
    shadow.hear(HostId(1), &[], &[]).unwrap();
    assert_eq!(shadow.unknown(), None);
    shadow
}

fn range(at: u64, count: u64) -> DpaRange {
    DpaRange::new(GIB + at * 64 * MIB, count * 64 * MIB)
}

fn extent(range: DpaRange) -> DcExtent {
    DcExtent { range, tag: Tag::NULL, sequence: 0 }
}

fn hear(
    shadow: &mut Shadow,
    accepted: &[DpaRange],
    answered: &[DpaRange],
) -> Result<(), HearError> {
    let accepted: Vec<DcExtent> = accepted.iter().map(|&range| extent(range)).collect();
    shadow.hear(HOST, &accepted, answered)
}

fn add(host: HostId, ranges: &[DpaRange]) -> Command {
    Command::InitiateAdd(InitiateAdd {
        host,
        selection: Selection::Prescriptive,
        region: 0,
        length: 0,
        tag: Tag::NULL,
        extents: ranges.iter().map(|&range| extent(range)).collect(),
    })
}

/// Does it, with QEMU's consent.
#[track_caller]
fn done(shadow: &mut Shadow, command: &Command) -> Vec<serde_json::Value> {
    let Trial { shadow: next, reply, orders } = shadow.try_command(command).unwrap();
    assert_eq!(reply, Ok(Response::Done));
    *shadow = next;
    orders.iter().map(|order| order.arguments("/d")).collect()
}

fn refused(shadow: &Shadow, command: &Command) -> ReturnCode {
    let Trial { reply, orders, .. } = shadow.try_command(command).unwrap();
    assert_eq!(orders, []);
    reply.unwrap_err()
}

fn release(force: Force, extents: &[DpaRange]) -> Command {
    Command::InitiateRelease(InitiateRelease {
        host: HOST,
        removal: Removal::Prescriptive,
        force,
        sanitize: Sanitize::OnRelease,
        length: 0,
        tag: Tag::NULL,
        extents: extents.iter().copied().map(extent).collect(),
    })
}

fn events(shadow: &Shadow) -> usize {
    let log = EventLog::DynamicCapacity;
    let command = Command::GetEventRecords(GetEventRecords { log });
    match shadow.try_command(&command).unwrap().reply {
        Ok(Response::EventRecords(read)) => {
            let is_dc = |body| matches!(body, EventBody::DynamicCapacity(_));
            read.records.iter().filter(|record| is_dc(record.body)).count()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_command_becomes_what_qmp_wants() {
    let mut shadow = shadow();
    let told = done(&mut shadow, &add(HOST, &[range(1, 2), range(4, 1)]));
    let expected = json!({
        "path": "/d", "host-id": 0, "region": 0, "selection-policy": "prescriptive",
        "extents": [
            { "offset": 64 * MIB, "len": 128 * MIB }, { "offset": 256 * MIB, "len": 64 * MIB },
        ],
    });
    assert_eq!(told, [expected]);
    // What is offered to one is not offered to another.
    let code = refused(&shadow, &add(HostId(1), &[range(2, 1)]));
    assert_eq!(code, ReturnCode::INVALID_EXTENT_LIST);
    hear(&mut shadow, &[range(1, 2), range(4, 1), range(8, 1)], &[]).unwrap();
    // Asked back in both regions: two commands.
    let release = |force| release(force, &[range(2, 1), range(8, 1)]);
    let told = done(&mut shadow, &release(Force::Ask));
    let regions: Vec<_> = told.iter().map(|told| told["region"].as_u64().unwrap()).collect();
    assert_eq!(regions, [0, 1]);
    assert_eq!(told[1]["extents"], json!([{ "offset": 0, "len": 64 * MIB }]));
    assert_eq!(told[1]["forced-removal"], false);
    let taken = shadow.try_command(&release(Force::Take)).unwrap();
    assert!(taken.orders.iter().all(|order| order.what == What::Take));
    // On a copy: the shadow knows nothing of it.
    assert_eq!(shadow.held(HOST), [range(1, 2), range(4, 1), range(8, 1)]);
}

/// A guest may accept what it was offered whatever the manager thinks of it.
#[test]
fn offers_are_not_withdrawn() {
    let mut shadow = shadow();
    hear(&mut shadow, &[range(0, 1)], &[]).unwrap();
    done(&mut shadow, &add(HOST, &[range(2, 1)]));
    for what in [&[range(2, 1)][..], &[range(0, 1), range(2, 1)]] {
        assert_eq!(refused(&shadow, &release(Force::Take, what)), ReturnCode::UNSUPPORTED);
    }
    assert_eq!(shadow.offered(HOST), [range(2, 1)]);
    // What is held is QEMU's to refuse, also while an offer waits, and what is neither is not there.
    let taken = shadow.try_command(&release(Force::Take, &[range(0, 1)])).unwrap();
    assert!(taken.orders.iter().all(|order| order.what == What::Take) && taken.reply.is_ok());
    let code = refused(&shadow, &release(Force::Take, &[range(5, 1)]));
    assert_eq!(code, ReturnCode::INVALID_EXTENT_LIST);
}

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

/// Ranges of 2 MiB that lie apart.
fn apart(count: u64) -> Vec<DpaRange> {
    (0..count).map(|at| DpaRange::new(GIB + at * 4 * MIB, 2 * MIB)).collect()
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
fn what_qemus_log_cannot_hold_is_not_offered() {
    let mut shadow = shadow();
    let apart: Vec<DpaRange> =
        (0..9).map(|at| DpaRange::new(GIB + at * 4 * MIB, 2 * MIB)).collect();
    let code = refused(&shadow, &add(HOST, &apart));
    assert_eq!(code, ReturnCode::RESOURCES_EXHAUSTED);
    done(&mut shadow, &add(HOST, &apart[..8]));
    assert_eq!(refused(&shadow, &add(HOST, &apart[8..])), ReturnCode::RETRY_REQUIRED);
    // The other guest's log is another.
    done(&mut shadow, &add(HostId(1), &apart[8..]));
    hear(&mut shadow, &[], &apart[..8]).unwrap();
    done(&mut shadow, &add(HOST, &apart[..1]));
    let set = SetConfiguration { region: 0, block_size: 2 * MIB, sanitize: Sanitize::Never };
    assert_eq!(refused(&shadow, &Command::SetConfiguration(set)), ReturnCode::UNSUPPORTED);
}

#[test]
fn an_answer_is_for_the_oldest_offers() {
    let mut shadow = shadow();
    for at in 0..3 {
        done(&mut shadow, &add(HOST, &[range(2 * at, 1), range(2 * at + 1, 1)]));
    }
    assert_eq!(shadow.offered(HOST).len(), 6);
    // Half of an offer that was answered says nothing of it.
    hear(&mut shadow, &[], &[range(0, 1)]).unwrap();
    assert_eq!((shadow.offered(HOST).len(), events(&shadow)), (6, 0));
    // The second is accepted in part: so the first was refused.
    hear(&mut shadow, &[range(3, 1)], &[]).unwrap();
    assert_eq!(shadow.held(HOST), [range(3, 1)]);
    assert_eq!(shadow.offered(HOST), [range(4, 1), range(5, 1)]);
    assert!(events(&shadow) > 0);
    assert!(shadow.take_events_pending() && !shadow.take_events_pending());
    // Accepted, and released in part before it was told.
    let half = DpaRange::new(range(4, 1).start, 32 * MIB);
    hear(&mut shadow, &[half], &[range(4, 2)]).unwrap();
    assert_eq!((shadow.held(HOST), shadow.offered(HOST)), (vec![half], vec![]));
    // And all of it.
    done(&mut shadow, &add(HOST, &[range(6, 1)]));
    hear(&mut shadow, &[], &[range(6, 1)]).unwrap();
    assert_eq!((shadow.held(HOST), shadow.offered(HOST)), (vec![], vec![]));
    // Nothing of it is lost for ever.
    done(&mut shadow, &add(HostId(1), &[range(0, 8)]));
}

#[test]
fn what_nobody_offered_is_taken_over_unless_offers_wait() {
    let mut shadow = shadow();
    let tag = Tag([5; 16]);
    let tagged = |range| DcExtent { range, tag, sequence: 3 };
    // The second part of the allocation lies in another region, of which a device knows nothing.
    let all = [tagged(range(0, 1)), tagged(range(2, 1)), tagged(range(8, 1)), extent(range(9, 1))];
    shadow.hear(HOST, &all, &[]).unwrap();
    assert_eq!(shadow.held(HOST), all.map(|extent| extent.range));
    shadow.hear(HOST, &all[..3], &[]).unwrap();
    // What another has, it cannot have.
    let error = shadow.hear(HostId(1), &[extent(range(0, 1))], &[]).unwrap_err();
    assert_eq!(error, HearError::Claimed { range: range(0, 1), other: 0 });
    done(&mut shadow, &add(HOST, &[range(4, 1)]));
    let before = shadow.clone();
    let held: Vec<DpaRange> = before.held(HOST);
    let error = hear(&mut shadow, &[&held[..], &[range(5, 1)]].concat(), &[]).unwrap_err();
    assert_eq!(error, HearError::Unasked { range: range(5, 1) });
    assert_eq!((shadow.held(HOST), shadow.offered(HOST)), (held, vec![range(4, 1)]));
}

/// Whatever an agent may say, a manager that starts again takes over.
#[test]
fn a_guest_may_have_as_many_extents_as_its_agent_may_tell_of() {
    let description = Description { serial: 7, base: GIB, size: 4 * GIB, regions: 2 };
    let mut shadow = Shadow::new(&description, 2).unwrap();
    let all = apart(MAX_TOLD_EXTENTS as u64 / 2);
    let far = all.iter().map(|range| DpaRange::new(range.start + 2 * GIB, range.length));
    let far: Vec<DpaRange> = far.collect();
    hear(&mut shadow, &[&all[..], &far].concat(), &[]).unwrap();
    assert_eq!(shadow.held(HOST).len(), MAX_TOLD_EXTENTS);
    assert_eq!(shadow.unknown(), Some(1));
    hear(&mut shadow, &far, &[]).unwrap();
    assert_eq!(shadow.held(HOST), far);
}

#[test]
fn nonsense_changes_nothing() {
    let mut shadow = shadow();
    hear(&mut shadow, &[range(0, 1)], &[]).unwrap();
    for wrong in [
        vec![DpaRange::new(GIB, MIB)],
        vec![DpaRange::new(GIB + MIB, 2 * MIB)],
        vec![DpaRange::new(0, 2 * MIB)],
        vec![range(15, 2)],
        vec![range(7, 2)],
        vec![range(1, 2), range(2, 2)],
        vec![DpaRange::new(u64::MAX, u64::MAX)],
        vec![DpaRange::new(GIB, 0)],
    ] {
        let error = hear(&mut shadow, &wrong, &wrong).unwrap_err();
        assert!(matches!(error, HearError::Extent { .. }), "{wrong:?}: {error}");
        assert_eq!(shadow.held(HOST), [range(0, 1)]);
    }
    // What is said of nobody's offers is nothing.
    let odd = [DpaRange::new(u64::MAX, u64::MAX), DpaRange::new(3, 0)];
    hear(&mut shadow, &[range(0, 1)], &odd).unwrap();
    assert_eq!(shadow.held(HOST), [range(0, 1)]);
}
