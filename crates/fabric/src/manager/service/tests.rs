//! A service whose disk is full.

use std::{sync::Arc, thread, time::Duration};

use memtide_cxl::{
    ReturnCode,
    command::{
        More,
        dynamic_capacity::AddResponse,
        events::{Clear, ClearEventRecords, EventBody, EventLog, GetEventRecords},
    },
    manager::{Ending, Limits, Place, Policy, Request, Rest, State},
};
use memtide_units::{ByteSize, Tag};

use super::{durable::STORE_PAUSE, *};
use crate::{
    Link, LinkError,
    control::DeviceStateView,
    manager::{
        Client, ClientError,
        config::Places,
        store::tests::{Disk, PLENTY, on},
    },
    software::{self, Fabric},
    wire::Role,
};

const BLOCK: u64 = 2 << 20;

pub(super) fn place() -> Place {
    Place { host: "h1".parse().unwrap(), device: None, region: None }
}

pub(super) fn add() -> Request {
    Request::Add {
        to: place(),
        size: BLOCK,
        tag: Tag::NULL,
        policy: Policy::Free,
        rest: Rest::Drop,
        deadline: None,
    }
}

/// A service of one host and one device, which nobody serves; its disk, and where its socket is.
pub(super) fn alone() -> (Service, Arc<Disk>, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let places = Places { socket: directory.path().join("fm"), store: None };
    let device = format!("pool=unix:{}", directory.path().join("none").display());
    let (devices, hosts) = ([device.parse().unwrap()], ["h1=0".parse().unwrap()]);
    let config = Config::from_arguments(places, Vec::new(), &devices, &hosts).unwrap();
    let disk = Arc::new(Disk::default());
    disk.set_room(PLENTY);
    let service = Service::with_store(config, on(&disk).unwrap()).unwrap();
    (service, disk, directory)
}

/// A host that takes everything, until its fabric ends.
fn accept_all(mut link: Link) {
    let log = EventLog::DynamicCapacity;
    loop {
        let records = match link.command(&GetEventRecords { log }) {
            Ok(got) => got.records,
            Err(_) => return,
        };
        if records.is_empty() {
            thread::sleep(Duration::from_millis(2));
            continue;
        }
        let handles = records.iter().map(|record| record.handle).collect();
        let _ = link.command(&ClearEventRecords { log, what: Clear::Handles(handles) });
        for record in records {
            let EventBody::DynamicCapacity(event) = record.body else { continue };
            let accepted = vec![event.extent.range];
            match link.command(&AddResponse { more: More::Last, accepted }) {
                Ok(()) | Err(LinkError::Device { code: ReturnCode::INVALID_INPUT, .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// Waits until it is so.
#[track_caller]
fn until(client: &mut Client, is: impl Fn(&mut Client) -> bool) {
    let late = Instant::now() + Duration::from_secs(60);
    while !is(client) {
        assert!(Instant::now() < late, "{:#?}", client.devices().unwrap());
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn on_a_full_disk_a_request_is_refused_and_nothing_changes() {
    let directory = tempfile::tempdir().unwrap();
    let address = Address::Unix(directory.path().join("fabric"));
    let config = software::Config { capacity: ByteSize(256 << 20), ..Default::default() };
    let mut fabric = Fabric::bind(config, std::slice::from_ref(&address)).unwrap();
    let stop_fabric = fabric.stop_handle();
    let fabric = thread::spawn(move || fabric.run());
    let link = Link::connect(&address, Role::Host(0)).unwrap();
    let host = thread::spawn(move || accept_all(link));

    let places =
        Places { socket: directory.path().join("fm"), store: Some(directory.path().join("none")) };
    let device = format!("pool={address}").parse().unwrap();
    let config =
        Config::from_arguments(places, Vec::new(), &[device], &["h1=0".parse().unwrap()]).unwrap();
    let socket = config.socket.clone();
    let disk = Arc::new(Disk::default());
    disk.set_room(PLENTY);
    let mut service = Service::with_store(config, on(&disk).unwrap()).unwrap();
    let stop = service.stop_handle();
    let service = thread::spawn(move || service.run());

    let mut client = Client::connect(&socket).unwrap();
    let is_ready = |client: &mut Client| {
        let devices = client.devices().unwrap();
        devices[0].state == DeviceStateView::Ready
    };
    until(&mut client, is_ready);
    let (mut held, mut refused, mut unread) = (0, 0, 0);
    for round in 0..24 {
        let is_full = round % 3 != 2;
        disk.set_room(if is_full { round % 8 } else { PLENTY });
        let requests = client.requests().unwrap().len();
        // Limits are changed without any command, an offer with many.
        let request = match round % 2 {
            0 => add(),
            _ => Request::SetLimits {
                of: place(),
                limits: Limits { weight: round as u32 + 1, ..Limits::default() },
            },
        };
        let is_add = matches!(request, Request::Add { .. });
        match client.ask(request) {
            Err(ClientError::Failed(why)) => {
                assert!(is_full && why.contains("cannot write the store"), "{why}");
                disk.set_room(PLENTY);
                if why.contains("nothing was changed") {
                    refused += 1;
                    assert_eq!(client.requests().unwrap().len(), requests, "round {round}");
                } else {
                    unread += 1;
                    // Reading it takes a write, too, after a failure. It goes on by itself.
                    thread::sleep(STORE_PAUSE + Duration::from_millis(200));
                    assert!(client.requests().unwrap().len() <= requests + 1, "round {round}");
                }
            }
            Err(error) => panic!("round {round}: {error}"),
            Ok(id) => {
                // What was accepted is done once there is room, whatever failed meanwhile.
                thread::sleep(Duration::from_millis(20));
                disk.set_room(PLENTY);
                let report = client.report(id).unwrap();
                assert_eq!(report.state, State::Ended(Ending::Done), "round {round}");
                held += if is_add { BLOCK } else { 0 };
            }
        }
        disk.set_room(PLENTY);
        until(&mut client, is_ready);
        until(&mut client, |client| {
            let requests = client.requests().unwrap();
            requests.iter().all(|request| request.report.state != State::Open)
        });
        let now = client.devices().unwrap()[0].hosts[0].held;
        assert!(now == held || now == held + BLOCK && is_add, "round {round}: {now}, not {held}");
        held = now;
    }
    assert!(held > 0 && refused + unread > 0, "{held}, {refused}, {unread}");
    stop.stop();
    service.join().unwrap().unwrap();
    stop_fabric.stop();
    fabric.join().unwrap().unwrap();
    host.join().unwrap();
}

#[test]
fn while_the_store_cannot_be_read_the_manager_hears_nothing() {
    let (mut service, ..) = alone();
    let wants = Input::HostWants { host: "h1".parse().unwrap(), bytes: BLOCK };
    for (suspended, wanted) in [(Some(Instant::now()), 0), (None, BLOCK)] {
        service.suspended = suspended;
        service.input(wants.clone()).unwrap().unwrap();
        assert_eq!(service.manager.devices()[0].hosts[0].wants, wanted);
    }
}
