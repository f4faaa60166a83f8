//! 0100h and 0101h: the event logs.

use memtide_cxl::{
    ReturnCode,
    command::{
        More,
        events::{Clear, ClearEventRecords, EventLog, GetEventRecords},
    },
    device::{Effect, Refusal},
};
use memtide_units::DpaRange;

use crate::bed::*;

fn odd(from: u64, count: u64) -> Vec<DpaRange> {
    (0..count).map(|n| own(from + 2 * n, 1)).collect()
}

/// Handles of the log of H0.
fn handles(bed: &Bed) -> Vec<u16> {
    bed.records(Some(H0)).records.iter().map(|record| record.handle).collect()
}

#[test]
fn a_host_is_interrupted_when_its_log_is_no_longer_empty() {
    let mut bed = Bed::new();
    bed.add(&prescribed(H0, plain(&[own(0, 1)]))).unwrap();
    assert_eq!(bed.device.take_effects(), [Effect::HostEvent(H0)]);
    bed.add(&prescribed(H0, plain(&odd(2, 2)))).unwrap();
    assert_eq!(bed.device.take_effects(), []);
    let first = handles(&bed)[0];
    bed.clear(Some(H0), Clear::Handles(vec![first])).unwrap();
    bed.add(&prescribed(H0, plain(&[own(20, 1)]))).unwrap();
    assert_eq!(bed.device.take_effects(), [], "it was never empty");
    let _ = bed.take_all(Some(H0));
    bed.add(&prescribed(H0, plain(&[own(22, 1)]))).unwrap();
    assert_eq!(bed.device.take_effects(), [Effect::HostEvent(H0)]);
    bed.accept(H0, &[]).unwrap();
    assert_eq!(bed.device.take_effects(), [Effect::ManagerEvent]);
}

#[test]
fn records_come_in_order_with_handles_of_their_own_and_the_time() {
    let mut bed = Bed::new();
    bed.device.set_time(5);
    bed.add(&prescribed(H0, plain(&odd(0, 2)))).unwrap();
    bed.device.set_time(6);
    bed.add(&prescribed(H0, plain(&odd(8, 1)))).unwrap();
    let read = bed.records(Some(H0));
    assert_eq!((read.more, read.overflow), (More::Last, None));
    let told: Vec<_> = read.records.iter().map(|r| (r.handle, r.timestamp)).collect();
    assert_eq!(told, [(1, 5), (2, 5), (3, 6)]);
    assert_eq!(bed.records(Some(H0)), read, "reading clears nothing");
}

#[test]
fn more_records_than_fit_into_a_payload_come_in_pages() {
    let mut bed = Bed::with(|limits| limits.payload_bytes = 512);
    bed.add(&prescribed(H0, plain(&odd(0, 4)))).unwrap();
    let first = bed.records(Some(H0));
    assert_eq!((first.records.len(), first.more), (3, More::Follows));
    bed.clear(Some(H0), Clear::Handles(vec![1, 2, 3])).unwrap();
    let second = bed.records(Some(H0));
    assert_eq!((second.records.len(), second.more), (1, More::Last));
}

#[test]
fn records_are_cleared_in_their_order() {
    let mut bed = Bed::new();
    bed.add(&prescribed(H0, plain(&odd(0, 3)))).unwrap();
    for wrong in [vec![2], vec![3, 2, 1], vec![1, 3], vec![1, 1], vec![0], vec![1, 0], vec![9]] {
        let why = refused(bed.clear(Some(H0), Clear::Handles(wrong.clone())));
        assert_eq!(why.1, ReturnCode::INVALID_HANDLE, "{wrong:?}");
        assert!(matches!(why.0, Refusal::Handle { .. }));
    }
    assert_eq!(handles(&bed), [1, 2, 3]);
    bed.clear(Some(H0), Clear::Handles(vec![1, 2])).unwrap();
    assert_eq!(code(bed.clear(Some(H0), Clear::Handles(vec![1]))), ReturnCode::INVALID_HANDLE);
    let too_many = Clear::Handles(vec![3, 4]);
    assert_eq!(code(bed.clear(Some(H0), too_many)), ReturnCode::INVALID_HANDLE);
    assert_eq!(code(bed.clear(Some(H0), Clear::Handles(vec![]))), ReturnCode::INVALID_INPUT);
    bed.clear(Some(H0), Clear::Handles(vec![3])).unwrap();
}

#[test]
fn all_records_are_cleared_at_once_only_after_an_overflow() {
    let mut bed = Bed::new();
    bed.give(H0, &plain(&[own(0, 16)]));
    bed.ask(&ask_for(H0, plain(&odd(0, 6)))).unwrap();
    let why = refused(bed.clear(Some(H0), Clear::All));
    assert_eq!(why, (Refusal::ClearAll, ReturnCode::INVALID_INPUT));
    bed.ask(&forced(ask_for(H0, plain(&[own(15, 1)])))).unwrap();
    assert_eq!(bed.records(Some(H0)).overflow.unwrap().count, 1);
    bed.clear(Some(H0), Clear::All).unwrap();
    assert_eq!((handles(&bed), bed.records(Some(H0)).overflow), (vec![], None));
}

#[test]
fn an_overflow_is_told_until_a_record_is_cleared() {
    let mut bed = Bed::new();
    bed.give(H0, &plain(&[own(0, 16)]));
    bed.ask(&ask_for(H0, plain(&odd(0, 6)))).unwrap();
    bed.ask(&forced(ask_for(H0, plain(&[own(15, 1)])))).unwrap();
    for _ in 0..2 {
        assert!(bed.records(Some(H0)).overflow.is_some());
    }
    let first = handles(&bed)[0];
    bed.clear(Some(H0), Clear::Handles(vec![first])).unwrap();
    assert_eq!(bed.records(Some(H0)).overflow, None);
}

#[test]
fn a_group_that_does_not_fit_is_lost_whole() {
    let mut bed = Bed::new();
    bed.give(H0, &plain(&odd(0, 4)));
    bed.ask(&ask_for(H0, plain(&odd(0, 4)))).unwrap();
    bed.ask(&forced(ask_for(H0, plain(&odd(0, 3))))).unwrap();
    assert_eq!(handles(&bed).len(), 4);
    assert_eq!(bed.records(Some(H0)).overflow.unwrap().count, 3);
}

#[test]
fn the_managers_log_overflows_too() {
    let mut bed = Bed::new();
    for _ in 0..8 {
        bed.add(&prescribed(H0, plain(&[own(0, 1)]))).unwrap();
        bed.accept(H0, &[]).unwrap();
        let _ = bed.take_all(Some(H0));
    }
    let read = bed.records(None);
    assert_eq!((read.records.len(), read.overflow.unwrap().count), (6, 2));
    bed.clear(None, Clear::All).unwrap();
    assert_eq!(bed.records(None).records, []);
}

#[test]
fn who_has_nothing_to_read_is_interrupted_for_what_is_lost() {
    let mut bed = Bed::with(|limits| limits.event_records = 1);
    bed.give(H0, &plain(&[own(0, 16)]));
    bed.device.take_effects();
    for (from, expected) in [(0, &[Effect::HostEvent(H0)][..]), (4, &[])] {
        bed.ask(&forced(ask_for(H0, plain(&odd(from, 2))))).unwrap();
        let mut effects = bed.device.take_effects();
        effects.retain(|effect| matches!(effect, Effect::HostEvent(_)));
        assert_eq!(effects, expected);
    }
    assert_eq!(bed.records(Some(H0)).overflow.unwrap().count, 4);
    assert_eq!(handles(&bed), []);
    bed.clear(Some(H0), Clear::All).unwrap();
    bed.ask(&forced(ask_for(H0, plain(&odd(8, 2))))).unwrap();
    assert!(bed.device.take_effects().contains(&Effect::HostEvent(H0)));
}

#[test]
fn lost_records_are_counted_up_to_65535() {
    let mut bed = Bed::with(|limits| limits.event_records = 1);
    for _ in 0..65_600 {
        bed.device.initiate_add(&prescribed(H0, plain(&[own(0, 1)]))).unwrap();
        let answer = memtide_cxl::command::dynamic_capacity::AddResponse {
            more: More::Last,
            accepted: vec![],
        };
        bed.device.add_response(H0, &answer).unwrap();
        bed.device.take_effects();
        let handle = bed.records(Some(H0)).records[0].handle;
        assert_ne!(handle, 0);
        let clear = Clear::Handles(vec![handle]);
        let log = EventLog::DynamicCapacity;
        bed.device.clear_host_events(H0, &ClearEventRecords { log, what: clear }).unwrap();
    }
    assert_eq!(bed.records(None).overflow.unwrap().count, u16::MAX);
    bed.device.validate();
}

#[test]
fn a_host_that_lost_its_records_still_owes_the_answer() {
    let mut bed = Bed::new();
    bed.give(H0, &plain(&[own(40, 1)]));
    bed.add(&prescribed(H0, plain(&odd(0, 6)))).unwrap();
    bed.ask(&forced(ask_for(H0, plain(&[own(40, 1)])))).unwrap();
    bed.clear(Some(H0), Clear::All).unwrap();
    assert_eq!(bed.device.offers(H0).count(), 1);
    assert_eq!(code(bed.add(&prescribed(H1, plain(&[own(0, 1)])))), ReturnCode(0x1e));
    bed.accept(H0, &[]).unwrap();
    bed.add(&prescribed(H1, plain(&[own(0, 1)]))).unwrap();
}

#[test]
fn the_other_logs_are_empty() {
    let mut bed = Bed::new();
    bed.add(&prescribed(H0, plain(&odd(0, 2)))).unwrap();
    use EventLog::{Failure, Fatal, Informational, Warning};
    for log in [Informational, Warning, Failure, Fatal] {
        let read = bed.device.host_events(H0, &GetEventRecords { log }).unwrap();
        assert_eq!((read.records, read.overflow, read.more), (vec![], None, More::Last));
        assert_eq!(bed.device.manager_events(&GetEventRecords { log }).records, []);
        for (what, expected) in
            [(Clear::All, ReturnCode(2)), (Clear::Handles(vec![1]), ReturnCode::INVALID_HANDLE)]
        {
            let request = ClearEventRecords { log, what };
            let done = bed.step(|device| device.clear_host_events(H0, &request));
            assert_eq!(code(done), expected);
            let done = bed.step(|device| device.clear_manager_events(&request));
            assert_eq!(code(done), expected);
        }
    }
}

#[test]
fn nobody_has_no_log() {
    let mut bed = Bed::new();
    let log = EventLog::DynamicCapacity;
    let read = bed.device.host_events(NOBODY, &GetEventRecords { log });
    assert_eq!(code(read), ReturnCode::INVALID_INPUT);
    let request = ClearEventRecords { log, what: Clear::All };
    let done = bed.step(|device| device.clear_host_events(NOBODY, &request));
    assert_eq!(code(done), ReturnCode::INVALID_INPUT);
}
