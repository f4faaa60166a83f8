//! The manager, through the mailbox of a switch: registers in a file, the model of a switch behind
//! them, and behind one of its ports a device with dynamic capacity and its hosts.

mod bed;
mod mailbox;
mod managed;
#[path = "../../../host/tests/switch/registers.rs"]
#[allow(dead_code, reason = "another test uses the rest")]
mod registers;
#[path = "../common/requests.rs"]
mod requests;
#[path = "../../../cxl/tests/switch/bed.rs"]
#[allow(dead_code, reason = "another test uses the rest")]
mod switch_bed;

use std::time::{Duration, Instant};

use memtide_cxl::{
    Opcode, Payload, ReturnCode,
    command::{HostId, More, dynamic_capacity::Release},
    manager::{DeviceState, Ending, Forcing, Request, Rest, State},
};

use self::{
    bed::{Bed, with_hosts},
    managed::Managed,
    switch_bed::{BLOCK, HEADS, SHARED},
};

const SOON: Duration = Duration::from_secs(60);

fn add(host: &str, size: u64) -> Request {
    requests::add(host, size, Rest::Stand, Some(Duration::from_secs(30)))
}

fn release(host: &str, size: u64) -> Request {
    requests::release(host, size, Forcing::Never, Rest::Stand, Duration::from_secs(30))
}

#[test]
fn capacity_is_added_and_comes_back_through_a_switch() {
    for (way, port, payload_log2) in [("port=3", SHARED, 11), ("port=200,pool", HEADS, 9)] {
        let bed = Bed::new(payload_log2);
        let backend = bed.connect(way);
        assert_eq!(backend.serial(), u64::from(port));
        let mut managed = Managed::start(backend);
        managed.until(|status| status.state == DeviceState::Ready);
        with_hosts(&bed, port, || {
            let report = managed.ask(add("h1", 40 * BLOCK));
            assert_eq!((report.state, report.accepted), (State::Ended(Ending::Done), 40 * BLOCK));
            let report = managed.ask(release("h1", 30 * BLOCK));
            assert_eq!((report.state, report.returned), (State::Ended(Ending::Done), 30 * BLOCK));
            let report = managed.ask(add("h2", 50 * BLOCK));
            assert_eq!((report.state, report.accepted), (State::Ended(Ending::Done), 50 * BLOCK));
        });
        let status = managed.until(|status| status.hosts[1].held == 50 * BLOCK);
        assert_eq!((status.hosts[0].held, status.free), (10 * BLOCK, 4 * BLOCK), "{way}");
    }
}

/// What a host does unasked is seen, without an interrupt: through a mailbox that has room for five
/// extents at a time, or one record.
#[test]
fn what_happens_unasked_is_seen() {
    let bed = Bed::new(8);
    let mut managed = Managed::start(bed.connect("port=3"));
    managed.until(|status| status.state == DeviceState::Ready);
    with_hosts(&bed, SHARED, || {
        // In single blocks: many extents.
        for block in 0..24 {
            let host = if block % 2 == 0 { "h1" } else { "h2" };
            let report = managed.ask(add(host, BLOCK));
            assert_eq!(report.accepted, BLOCK);
        }
    });
    managed.until(|status| status.hosts.iter().all(|host| host.held == 12 * BLOCK));
    let held = managed.status().hosts[0].extents.clone();
    let begin = Instant::now();
    {
        let mut switch = bed.switch.lock().unwrap();
        let device = switch.device_mut(SHARED).unwrap();
        for extent in &held {
            let release = Release { more: More::Last, released: vec![extent.range] };
            let reply = device.host(HostId(0), Opcode::RELEASE_DC, &release.to_bytes());
            assert_eq!(reply.code, ReturnCode::SUCCESS);
        }
    }
    managed.until(|status| status.hosts[0].held == 0);
    assert!(begin.elapsed() < Duration::from_secs(20));
}
