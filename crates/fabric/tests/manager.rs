//! The manager's service, a software fabric, and hosts with agents.

#[path = "common/agent.rs"]
mod agent;
mod common;
#[path = "common/managed.rs"]
mod managed;
#[path = "common/requests.rs"]
mod requests;

use std::{
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

use agent::Agent;
use common::{BLOCK, Served, is_ended, say};
use managed::{Managed, introduce};
use memtide_cxl::manager::{Ending, Forcing, Report, Request, Rest, State};
use memtide_fabric::{
    Address,
    control::{AgentView, DeviceStateView, DeviceView},
    manager::{Client, ClientError, Config, DeviceAddress, Service},
};
use memtide_units::Random;
use requests::place;

fn config(directory: &Path, device: &Address) -> Config {
    managed::config(directory, &format!("pool={device}"), &["h1=0", "h2=1"])
}

fn start(directory: &Path, device: &Address) -> Managed {
    Managed::run(directory, config(directory, device))
}

/// A client, once the device is in use.
fn ready(managed: &Managed) -> Client {
    let mut client = managed.client();
    managed.ready(&mut client);
    client
}

fn add(host: &str, size: u64) -> Request {
    requests::add(host, size, Rest::Drop, None)
}

fn release(host: &str, size: u64, rest: Rest) -> Request {
    requests::release(host, size, Forcing::Never, rest, Duration::from_millis(400))
}

fn done(client: &mut Client, request: Request) -> Report {
    let id = client.ask(request).unwrap();
    client.report(id).unwrap()
}

#[test]
fn capacity_is_added_released_and_moved() {
    let served = Served::start();
    let directory = tempfile::tempdir().unwrap();
    let managed = start(directory.path(), &served.addresses[0]);
    let one = Agent::start(&served, 0, "h1", managed.agents());
    let two = Agent::start(&served, 1, "h2", managed.agents());
    let mut client = ready(&managed);
    let report = done(&mut client, add("h1", 8 * BLOCK));
    assert_eq!((report.state, report.accepted), (State::Ended(Ending::Done), 8 * BLOCK));
    one.fill();
    one.use_bytes(0);
    let report = done(&mut client, release("h1", 2 * BLOCK, Rest::Drop));
    assert_eq!((report.state, report.returned), (State::Ended(Ending::Done), 2 * BLOCK));
    let request = Request::Move {
        from: place("h1"),
        to: "h2".parse().unwrap(),
        size: 3 * BLOCK,
        rest: Rest::Drop,
        deadline: Some(Duration::from_secs(5)),
    };
    let report = done(&mut client, request);
    assert_eq!((report.state, report.accepted), (State::Ended(Ending::Done), 3 * BLOCK));
    let view = managed.wait(&mut client, |view| view.hosts[1].held == 3 * BLOCK);
    assert_eq!(view.hosts[0].held, 3 * BLOCK);
    assert_eq!(view.free, (1 << 30) - 6 * BLOCK);
    assert!(view.hosts.iter().all(|host| host.agent == AgentView::Connected));
    // What it got, another had filled.
    assert!(two.reads_zeroes());
}

#[test]
fn a_partial_release_names_holders_and_goes_on_by_itself() {
    let served = Served::start();
    let directory = tempfile::tempdir().unwrap();
    let managed = start(directory.path(), &served.addresses[0]);
    let one = Agent::start(&served, 0, "h1", managed.agents());
    let mut client = ready(&managed);
    done(&mut client, add("h1", 10 * BLOCK));
    one.use_bytes(3 * BLOCK);
    let id = client.ask(release("h1", 10 * BLOCK, Rest::Stand)).unwrap();
    let report = client.report(id).unwrap();
    assert_eq!(report.state, State::Open);
    assert_eq!((report.asked, report.returned, report.held), (10 * BLOCK, 7 * BLOCK, 3 * BLOCK));
    assert_eq!(report.holders[0].program.as_deref(), Some("database"));
    assert_eq!(report.holders[0].bytes, 3 * BLOCK);
    let requests = client.requests().unwrap();
    assert!(requests.iter().any(|request| request.id == id), "{requests:?}");
    one.use_bytes(0);
    let report = client.report(id).unwrap();
    assert_eq!((report.state, report.returned), (State::Ended(Ending::Done), 10 * BLOCK));
    managed.wait(&mut client, |view| view.free == 1 << 30);
}

#[test]
fn a_request_that_makes_no_sense_changes_nothing() {
    let served = Served::start();
    let directory = tempfile::tempdir().unwrap();
    let managed = start(directory.path(), &served.addresses[0]);
    let mut client = ready(&managed);
    for (request, says) in [
        (add("h9", BLOCK), "host h9; expected one that is set up"),
        (add("h1", BLOCK + 1), "expected a multiple of"),
        (add("h1", 1 << 40), "expected at most"),
        (release("h1", BLOCK, Rest::Drop), "expected at most 0"),
    ] {
        let error = client.ask(request).unwrap_err();
        assert!(matches!(error, ClientError::Declined(_)), "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
    assert!(client.requests().unwrap().is_empty());
}

#[test]
fn a_service_that_starts_again_knows_what_was_asked() {
    let served = Served::start();
    let directory = tempfile::tempdir().unwrap();
    let mut managed = start(directory.path(), &served.addresses[0]);
    let one = Agent::start(&served, 0, "h1", managed.agents());
    let mut client = ready(&managed);
    done(&mut client, add("h1", 4 * BLOCK));
    one.use_bytes(4 * BLOCK);
    let id = client.ask(release("h1", 4 * BLOCK, Rest::Stand)).unwrap();
    assert_eq!(client.report(id).unwrap().held, 4 * BLOCK);
    managed.stop();
    assert!(matches!(client.devices(), Err(ClientError::Closed)));
    let managed = start(directory.path(), &served.addresses[0]);
    let mut client = ready(&managed);
    assert_eq!(client.devices().unwrap()[0].hosts[0].held, 4 * BLOCK);
    assert!(client.requests().unwrap().iter().any(|request| request.id == id));
    one.use_bytes(0);
    managed.wait(&mut client, |view| view.hosts[0].held == 0);
    let ended = client.requests().unwrap();
    let state = ended.iter().find(|request| request.id == id).map(|request| request.report.state);
    assert!(matches!(state, None | Some(State::Ended(Ending::Done))), "{state:?}");
    let later = client.ask(add("h1", BLOCK)).unwrap();
    assert!(later > id, "{later} after {id}");
}

#[test]
fn a_fabric_that_starts_again_has_nothing_and_is_used_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut served = Served::start();
    let managed = start(directory.path(), &served.addresses[0]);
    let one = Agent::start(&served, 0, "h1", managed.agents());
    let mut client = ready(&managed);
    done(&mut client, add("h1", 4 * BLOCK));
    drop(one);
    served.restart();
    managed
        .wait(&mut client, |view| view.state == DeviceStateView::Ready && view.hosts[0].held == 0);
    let _one = Agent::start(&served, 0, "h1", managed.agents());
    let report = done(&mut client, add("h1", 2 * BLOCK));
    assert_eq!(report.accepted, 2 * BLOCK);
}

#[test]
fn two_services_cannot_have_one_store_and_two_take_turns_with_one_device() {
    let served = Served::start();
    let directory = tempfile::tempdir().unwrap();
    let managed = start(directory.path(), &served.addresses[0]);
    ready(&managed);
    let other = tempfile::tempdir().unwrap();
    let mut same_store = config(other.path(), &served.addresses[0]);
    same_store.store = directory.path().join("store.redb");
    let error = Service::bind(same_store).unwrap_err().to_string();
    assert!(error.contains("in use by another manager"), "{error}");
    // A store of its own: the newer connection ends the older one, and both say so.
    let second = start(other.path(), &served.addresses[0]);
    ready(&second);
    let is_said =
        || managed.notices.lock().unwrap().iter().any(|text| text.contains("disconnected"));
    let until = Instant::now() + Duration::from_secs(5);
    while !is_said() {
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn garbage_and_deaf_clients_keep_nobody_waiting() {
    let served = Served::start();
    let directory = tempfile::tempdir().unwrap();
    let managed = start(directory.path(), &served.addresses[0]);
    let _one = Agent::start(&served, 0, "h1", managed.agents());
    let mut client = ready(&managed);
    let mut random = Random::new(8);
    let sockets = [managed.agents(), directory.path().join("control")];
    for round in 0..100 {
        let mut stream = UnixStream::connect(&sockets[round % 2]).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let bytes: Vec<u8> = (0..1 + random.below(60)).map(|_| random.below(256) as u8).collect();
        say(&mut stream, &[&[17][..], &bytes].concat());
        assert!(is_ended(&mut stream), "round {round}");
    }
    // Watches, and never reads.
    let mut deaf: Vec<_> = (0..20).map(|_| managed.client()).collect();
    for client in &mut deaf {
        client.watch().unwrap();
    }
    let started = Instant::now();
    for _ in 0..20 {
        assert_eq!(done(&mut client, add("h1", BLOCK)).accepted, BLOCK);
    }
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[test]
fn who_watches_hears_of_every_owner() {
    let served = Served::start();
    let directory = tempfile::tempdir().unwrap();
    let managed = start(directory.path(), &served.addresses[0]);
    let _one = Agent::start(&served, 0, "h1", managed.agents());
    let mut watcher = ready(&managed);
    assert_eq!(watcher.watch().unwrap()[0].free, 1 << 30);
    done(&mut managed.client(), add("h1", 5 * BLOCK));
    let until = Some(Instant::now() + Duration::from_secs(5));
    while watcher.next_change(until).unwrap().hosts[0].held != 5 * BLOCK {}
}

#[test]
fn an_agent_that_is_not_set_up_is_refused() {
    let served = Served::start();
    let directory = tempfile::tempdir().unwrap();
    let managed = start(directory.path(), &served.addresses[0]);
    ready(&managed);
    let error = introduce(&managed.agents(), "h7").unwrap_err();
    assert!(error.contains("h7"), "{error}");
    let _first = introduce(&managed.agents(), "h1").unwrap();
    let mut second = introduce(&managed.agents(), "h1").unwrap();
    let mut client = managed.client();
    managed.wait(&mut client, |view| view.hosts[0].agent == AgentView::Connected);
    agent::tell_wants(&mut second, BLOCK);
    managed.wait(&mut client, |view| view.hosts[0].wants == BLOCK);
    drop(second);
    managed.wait(&mut client, |view| view.hosts[0].agent == AgentView::Absent);
}

#[test]
fn of_two_devices_with_one_serial_number_one_is_used() {
    let directory = tempfile::tempdir().unwrap();
    // Their names are the same, and so are the numbers made of them.
    let (one, other) = (Served::start(), Served::start());
    let mut config = config(directory.path(), &one.addresses[0]);
    let mut again = config.manager.devices[0].clone();
    again.name = "again".parse().unwrap();
    let address = DeviceAddress::Fabric(other.addresses[0].clone());
    config.addresses.insert(again.name.clone(), address);
    config.manager.devices.push(again);
    let managed = Managed::run(directory.path(), config);
    let mut client = managed.client();
    let until = Instant::now() + Duration::from_secs(20);
    let refused = |view: &DeviceView| {
        let why = view.problem.as_deref().unwrap_or_default();
        why.contains("serial number") && view.state == DeviceStateView::Down
    };
    loop {
        let views = client.devices().unwrap();
        let ready = views.iter().filter(|view| view.state == DeviceStateView::Ready).count();
        assert!(ready <= 1, "{views:?}");
        if ready == 1 && views.iter().any(refused) {
            break;
        }
        assert!(Instant::now() < until, "{views:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
