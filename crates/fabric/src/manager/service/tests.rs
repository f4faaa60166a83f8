//! A service whose disk is full.

use std::{collections::BTreeSet, sync::Arc, thread, time::Duration};

use memtide_cxl::{
    ReturnCode,
    command::{
        More,
        dynamic_capacity::AddResponse,
        events::{Clear, ClearEventRecords, EventBody, EventLog, GetEventRecords},
    },
    manager::{Ending, Holder, Limits, MAX_EXTENTS, Place, Policy, Report, Request, Rest, State},
};
use memtide_units::{ByteSize, DpaRange, HoldReason, RequestId, Tag};

use super::{durable::STORE_PAUSE, *};
use crate::{
    Link, LinkError,
    control::{DEVICES_PAGE, DeviceStateView, FromService, REQUESTS_PAGE, RequestView, ToService},
    frame,
    manager::{
        Client, ClientError,
        config::Places,
        store::tests::{Disk, PLENTY, on},
    },
    software::{self, Fabric},
    wire::{self, Role},
};

const BLOCK: u64 = 2 << 20;

fn place() -> Place {
    Place { host: "h1".parse().unwrap(), device: None, region: None }
}

fn add() -> Request {
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
    while client.devices().unwrap()[0].state != DeviceStateView::Ready {
        thread::sleep(Duration::from_millis(2));
    }
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
        while client.devices().unwrap()[0].state != DeviceStateView::Ready {
            thread::sleep(Duration::from_millis(2));
        }
        let is_open = |client: &mut Client| {
            let requests = client.requests().unwrap();
            requests.iter().any(|request| request.report.state == State::Open)
        };
        while is_open(&mut client) {
            thread::sleep(Duration::from_millis(2));
        }
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

/// A request with all that an answer may have.
fn largest_view() -> RequestView {
    let holder = Holder {
        tenant: Some("t".repeat(256)),
        program: Some("p".repeat(256)),
        pid: Some(u32::MAX),
        bytes: u64::MAX,
        reason: HoldReason::MemoryLock,
    };
    let extents = vec![DpaRange::new(u64::MAX - 1, 1); MAX_EXTENTS];
    let Request::Add { to, size, tag, rest, deadline, .. } = add() else { panic!("an addition") };
    let policy = Policy::Prescriptive(extents);
    RequestView {
        id: RequestId(u64::MAX),
        request: Request::Add { to, size, tag, policy, rest, deadline },
        report: Report {
            id: RequestId(u64::MAX),
            state: State::Ended(Ending::Refused(u16::MAX)),
            asked: u64::MAX,
            returned: u64::MAX,
            held: u64::MAX,
            holders: vec![holder; wire::MAX_HOLDERS],
            accepted: u64::MAX,
            refused: u64::MAX,
            pending: u64::MAX,
            missing: u64::MAX,
        },
    }
}

#[test]
fn a_page_of_requests_fits_whatever_is_in_them() {
    let view = frame::encode(&FromService::Request(largest_view())).unwrap();
    assert!(view.len() > wire::MAX_HOLDERS * 512, "{}", view.len());
    let page = REQUESTS_PAGE * view.len();
    assert!(page < crate::channel::QUEUE_MAX_BYTES, "{page}");
}

#[test]
fn requests_come_in_pages_and_all_of_them_come() {
    let directory = tempfile::tempdir().unwrap();
    let places =
        Places { socket: directory.path().join("fm"), store: Some(directory.path().join("store")) };
    let device = format!("pool=unix:{}", directory.path().join("none").display());
    let (devices, hosts) = ([device.parse().unwrap()], ["h1=0".parse().unwrap()]);
    let config = Config::from_arguments(places, Vec::new(), &devices, &hosts).unwrap();
    let socket = config.socket.clone();
    let mut service = Service::bind(config).unwrap();
    let stop = service.stop_handle();
    let service = thread::spawn(move || service.run());
    let mut client = Client::connect(&socket).unwrap();
    let page = REQUESTS_PAGE as u64;
    let mut asked = 0;
    for count in [0, 1, page, page + 1, 2 * page, 2 * page + 5] {
        while asked < count {
            asked += 1;
            let limits = Limits { weight: asked as u32, ..Limits::default() };
            client.ask(Request::SetLimits { of: place(), limits }).unwrap();
        }
        let ids = client.requests().unwrap().into_iter().map(|view| view.id.0);
        assert_eq!(ids.collect::<Vec<_>>(), (1..=count).collect::<Vec<_>>());
    }
    stop.stop();
    service.join().unwrap().unwrap();
}

#[test]
fn devices_come_in_pages_and_all_of_them_come() {
    for count in [1, DEVICES_PAGE, DEVICES_PAGE + 1, 3 * DEVICES_PAGE + 2] {
        let directory = tempfile::tempdir().unwrap();
        let places = Places { socket: directory.path().join("fm"), store: None };
        let device = |number: usize| {
            let path = directory.path().join(number.to_string());
            format!("d{number:02}=unix:{}", path.display()).parse().unwrap()
        };
        let devices: Vec<_> = (0..count).map(device).collect();
        let hosts = ["h1=0".parse().unwrap()];
        let config = Config::from_arguments(places, Vec::new(), &devices, &hosts).unwrap();
        let socket = config.socket.clone();
        let mut service = Service::bind(config).unwrap();
        let stop = service.stop_handle();
        let service = thread::spawn(move || service.run());
        let mut client = Client::connect(&socket).unwrap();
        let names: Vec<String> = (0..count).map(|number| format!("d{number:02}")).collect();
        let told: Vec<_> = client.devices().unwrap().into_iter().map(|view| view.name).collect();
        assert_eq!(told, names);
        // Who watches is told of one again that has changed meanwhile.
        let told: BTreeSet<_> = client.watch().unwrap().into_iter().map(|view| view.name).collect();
        assert!(told.iter().eq(&names), "{told:?}");
        stop.stop();
        service.join().unwrap().unwrap();
    }
}

#[test]
fn a_page_behind_the_last_device_is_empty() {
    let (mut service, ..) = alone();
    for from in [1, u64::MAX] {
        let body = frame::encode(&ToService::Devices(from)).unwrap().split_off(frame::HEADER_BYTES);
        service.operators.insert(1, Operator::default());
        service.operator_says(1, &body).unwrap();
        assert!(service.operators.contains_key(&1));
    }
}
