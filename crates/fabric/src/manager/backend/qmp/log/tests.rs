//! What waits, and for how long.

use memtide_cxl::command::{
    HostId, More,
    events::{DynamicCapacityEvent, DynamicCapacityEventKind as Kind},
};
use memtide_units::{DcExtent, Tag};

use super::*;

const MIB: u64 = 1 << 20;
const REGION: DpaRange = DpaRange::new(0, 1 << 30);

/// Ranges of 2 MiB that lie apart, from one on.
fn apart(first: u64, count: u64) -> Vec<DpaRange> {
    (first..first + count).map(|at| DpaRange::new(at * 4 * MIB, 2 * MIB)).collect()
}

fn order(kind: Kind, ranges: &[DpaRange]) -> Order {
    let event = |&range: &DpaRange| DynamicCapacityEvent {
        kind,
        host: HostId(0),
        region: 0,
        more: More::Last,
        extent: DcExtent { range, tag: Tag::NULL, sequence: 0 },
        extents_available: 0,
        tags_available: 0,
    };
    let events: Vec<DynamicCapacityEvent> = ranges.iter().map(event).collect();
    let [order] = Order::of(0, &events, &[REGION]).try_into().unwrap();
    order
}

/// A log with as many records as it holds, of offers.
fn full() -> Log {
    let mut log = Log::default();
    let offer = order(Kind::Add, &apart(0, 8));
    log.tell(&offer);
    log.is_told(&offer);
    assert_eq!(log.room(), 0);
    log
}

#[test]
fn what_nobody_asks_for_again_is_not_asked_back_once_there_is_room() {
    let held = apart(8, 16);
    let (first, second) = held.split_at(8);
    let start = Instant::now();
    let mut log = full();
    for ranges in [first, second] {
        log.ask(order(Kind::Release, ranges), start);
    }
    let later = start + ASK_LASTS / 2;
    assert_eq!(log.next_ask(later, || held.clone()), None);
    // Some of one is asked for again: that waits anew, and once.
    log.ask(order(Kind::Release, &second[..1]), later);
    // The agent was away, and looks at last.
    log.is_seen(8);
    let late = start + ASK_LASTS;
    let asked = log.next_ask(late, || held.clone());
    assert_eq!(asked, Some(order(Kind::Release, &second[..1])));
    assert_eq!(log.next_ask(late, || held.clone()), None);
}

#[test]
fn what_is_asked_for_all_the_time_waits_as_long_as_that() {
    let held = apart(8, 8);
    let start = Instant::now();
    let mut log = full();
    for minute in 0..60 {
        log.ask(order(Kind::Release, &held), start + Duration::from_secs(60 * minute));
    }
    log.is_seen(8);
    let asked = log.next_ask(start + Duration::from_secs(60 * 60), || held.clone());
    assert_eq!(asked, Some(order(Kind::Release, &held)));
}

#[test]
fn an_offer_without_room_is_told_of_until_there_is_some() {
    let mut log = full();
    assert!(!log.lacks_room());
    log.yield_room(Instant::now());
    assert!(log.lacks_room());
    log.is_seen(8);
    assert!(!log.lacks_room());
}
