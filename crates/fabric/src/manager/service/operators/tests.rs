//! What operators are told, page by page.

use std::{collections::BTreeSet, path::PathBuf, thread};

use memtide_cxl::manager::{
    Ending, Holder, Input, Limits, MAX_EXTENTS, Policy, Report, Request, State,
};
use memtide_units::{DpaRange, HoldReason, RequestId};

use super::*;
use crate::{
    Address,
    channel::{Channel, Incoming, QUEUE_MAX_BYTES},
    manager::{
        Client,
        config::{Config, Places},
        service::tests::{add, place},
    },
    wire,
};

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
    assert!(page < QUEUE_MAX_BYTES, "{page}");
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

fn name(number: usize) -> String {
    format!("d{number:02}")
}

/// A service of so many devices, which nobody serves, each of one host; and where its socket is.
fn of_devices(count: usize) -> (Service, PathBuf, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let places = Places { socket: directory.path().join("fm"), store: None };
    let device = |number: usize| {
        let path = directory.path().join(number.to_string());
        format!("{}=unix:{}", name(number), path.display()).parse().unwrap()
    };
    let devices: Vec<_> = (0..count).map(device).collect();
    let hosts = ["h1=0".parse().unwrap()];
    let config = Config::from_arguments(places, Vec::new(), &devices, &hosts).unwrap();
    let socket = config.socket.clone();
    (Service::bind(config).unwrap(), socket, directory)
}

#[test]
fn devices_come_in_pages_and_all_of_them_come() {
    for count in [1, DEVICES_PAGE, DEVICES_PAGE + 1, 3 * DEVICES_PAGE + 2] {
        let (mut service, socket, _directory) = of_devices(count);
        let stop = service.stop_handle();
        let service = thread::spawn(move || service.run());
        let mut client = Client::connect(&socket).unwrap();
        let names: Vec<String> = (0..count).map(name).collect();
        let told: Vec<_> = client.devices().unwrap().into_iter().map(|view| view.name).collect();
        assert_eq!(told, names);
        // Who watches is told of one again that has changed meanwhile.
        let told: BTreeSet<_> = client.watch().unwrap().into_iter().map(|view| view.name).collect();
        assert!(told.iter().eq(&names), "{told:?}");
        stop.stop();
        service.join().unwrap().unwrap();
    }
}

/// An operator, and a service that takes its turns by hand.
struct Turns {
    service: Service,
    operator: Channel,
    _directory: tempfile::TempDir,
}

impl Turns {
    fn of_devices(count: usize) -> Self {
        let (service, socket, _directory) = of_devices(count);
        let socket = Address::Unix(socket).connect(Duration::from_secs(60)).unwrap();
        let operator = Channel::new(socket, MAX_FRAME_BYTES);
        let mut turns = Self { service, operator, _directory };
        turns.say(&ToService::Hello { version: VERSION });
        // Who comes is heard in the turn after that.
        let heard = [turns.take(), turns.take()].concat();
        assert_eq!(heard, [FromService::Welcome { version: VERSION }]);
        turns
    }

    fn say(&mut self, message: &ToService) {
        self.operator.send(message, None).unwrap();
        self.operator.flush();
    }

    /// A turn of the service; what the operator hears in it.
    fn take(&mut self) -> Vec<FromService> {
        thread::sleep(WATCH_PAUSE);
        let ready = self.service.hub.wait(&[], Some(Instant::now())).unwrap();
        ready.guests.into_iter().for_each(|id| self.service.serve(id).unwrap());
        self.service.tell_watchers();
        let mut heard = Vec::new();
        loop {
            match self.operator.receive() {
                Incoming::Frame(body) => heard.push(frame::decode(&body).unwrap()),
                Incoming::Nothing => return heard,
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn a_page_behind_the_last_device_is_empty() {
    let mut turns = Turns::of_devices(1);
    for (from, devices) in [(0, 1), (1, 0), (u64::MAX, 0)] {
        turns.say(&ToService::Devices(from));
        let mut heard = turns.take();
        assert_eq!(heard.pop(), Some(FromService::End), "from {from}");
        assert_eq!(heard.len(), devices, "from {from}");
    }
}

/// As many as are told of at a time have something new each time.
#[test]
fn who_watches_hears_of_all_devices_while_some_change_all_the_time() {
    let count = DEVICES_PAGE + 2;
    let mut turns = Turns::of_devices(count);
    turns.say(&ToService::Watch);
    let mut told = BTreeSet::new();
    for turn in 0..2 {
        for device in (0..DEVICES_PAGE).map(name) {
            let (host, device) = ("h1".parse().unwrap(), device.parse().unwrap());
            turns.service.input(Input::HostUses { host, device, used: turn }).unwrap().unwrap();
        }
        let mut heard = turns.take();
        // All are known after the second time.
        assert_eq!(heard.pop_if(|last| *last == FromService::End).is_some(), turn == 1);
        assert!(heard.len() <= DEVICES_PAGE, "{heard:?}");
        for message in heard {
            let FromService::Device(view) = message else { panic!("{message:?}") };
            told.insert(view.name);
        }
    }
    assert!(told.into_iter().eq((0..count).map(name)));
}
