//! What commands become, and what a guest may say that it has.

use memtide_cxl::{
    command::{Sanitize, fabric_manager::SetConfiguration},
    manager::Response,
};
use memtide_units::Tag;
use serde_json::json;

use super::*;
use crate::{
    manager::backend::qmp::tests::{
        GIB, HOST, MIB, add, apart, extent, hear, range, release, shadow,
    },
    wire::MAX_TOLD_EXTENTS,
};

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
