//! The manager, through the mailbox of a switch: registers in a file, the model of a switch behind
//! them, and behind one of its ports a device with dynamic capacity and its hosts.

#[path = "../../../cxl/tests/switch/bed.rs"]
#[allow(dead_code, reason = "another test uses the rest")]
mod bed;
#[path = "../../../host/tests/switch/registers.rs"]
#[allow(dead_code, reason = "another test uses the rest")]
mod registers;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use memtide_cxl::{
    Opcode, Payload, ReturnCode,
    cci::Message,
    command::{
        HostId, More,
        dynamic_capacity::{AddResponse, Release},
        events::{
            Clear, ClearEventRecords, DynamicCapacityEventKind as Kind, EventBody, EventLog,
            EventRecords, GetEventRecords,
        },
        fabric_manager::{GetInfo, InitiateAdd, Selection},
    },
    device::{Device, Effect},
    manager::{
        self, Chooser, Command, DeviceConfig, DeviceName, DeviceState, DeviceStatus, Ending,
        Forcing, HostConfig, Input, Limits, Manager, Output, Place, Policy, Report, Request,
        Response, Rest, State, What,
    },
    switch::Switch,
    tunnel::{Tunnel, Tunneled},
};
use memtide_fabric::manager::backend::{Backend, BackendError, Connector, cci::CciConnector};
use memtide_host::{
    mailbox::CommandError,
    switch::{PortAddress, SwitchError},
};
use memtide_units::{RequestId, Tag};
use rustix::event::{PollFd, Timespec};

use self::{
    bed::{BLOCK, HEADS, MEMORY, SHARED},
    registers::{FUNCTION, Function, Said},
};

const SOON: Duration = Duration::from_secs(60);

/// A function, and the switch behind it, to which hosts talk, too.
struct Bed {
    switch: Arc<Mutex<Switch>>,
    function: Function,
}

impl Bed {
    fn new(payload_log2: u8) -> Self {
        // What devices tell of themselves, and not what they are asked for in pages, has to fit.
        let switch = bed::switch_before(payload_log2, 256);
        let switch = Arc::new(Mutex::new(switch));
        let behind = Arc::clone(&switch);
        let function = Function::new(payload_log2, move |opcode, payload| {
            let reply = behind.lock().unwrap().execute(opcode, payload);
            Said::Reply(reply.code, reply.payload)
        });
        Self { switch, function }
    }

    fn connector(&self, way: &str) -> CciConnector {
        let address: PortAddress = format!("{FUNCTION},{way}").parse().unwrap();
        CciConnector::on(self.function.root().clone(), address)
    }

    fn connect(&self, way: &str) -> Box<dyn Backend> {
        self.connector(way).connect().unwrap()
    }

    /// Hosts accept what they are offered, and release what they are asked for.
    fn hosts_do_as_they_are_told(&self, port: u8) {
        let mut switch = self.switch.lock().unwrap();
        let device = switch.device_mut(port).unwrap();
        for host in [HostId(0), HostId(1)] {
            host_does_as_it_is_told(device, host);
        }
        for effect in device.take_effects() {
            if let Effect::Sanitize { range } = effect {
                device.sanitized(range).unwrap();
            }
        }
    }
}

fn host_does_as_it_is_told(device: &mut Device, host: HostId) {
    let log = EventLog::DynamicCapacity;
    let get = GetEventRecords { log };
    let got = device.host(host, Opcode::GET_EVENT_RECORDS, &get.to_bytes());
    let records = EventRecords::decode(&got.payload).unwrap().records;
    let mut accepted = Vec::new();
    for record in &records {
        let EventBody::DynamicCapacity(event) = record.body else { panic!("{record:?}") };
        let range = event.extent.range;
        match event.kind {
            Kind::Add => {
                accepted.push(range);
                if event.more == More::Last {
                    let accepted = std::mem::take(&mut accepted);
                    let answer = AddResponse { more: More::Last, accepted };
                    let reply = device.host(host, Opcode::ADD_DC_RESPONSE, &answer.to_bytes());
                    assert_eq!(reply.code, ReturnCode::SUCCESS, "{:?}", reply.refusal);
                }
            }
            Kind::Release => {
                let release = Release { more: More::Last, released: vec![range] };
                device.host(host, Opcode::RELEASE_DC, &release.to_bytes());
            }
            _ => {}
        }
    }
    if !records.is_empty() {
        let what = Clear::Handles(records.iter().map(|record| record.handle).collect());
        let clear = ClearEventRecords { log, what };
        let reply = device.host(host, Opcode::CLEAR_EVENT_RECORDS, &clear.to_bytes());
        assert_eq!(reply.code, ReturnCode::SUCCESS);
    }
}

/// Waits as the service does: for the descriptor, or until something is due.
fn wait(backend: &dyn Backend) {
    let (descriptor, flags) = backend.descriptor();
    let due = backend.due().map_or(Duration::from_millis(20), |due| {
        due.saturating_duration_since(Instant::now()).min(Duration::from_millis(20))
    });
    let until = Timespec { tv_sec: 0, tv_nsec: due.subsec_nanos().into() };
    let mut polled = [PollFd::from_borrowed_fd(descriptor, flags)];
    rustix::event::poll(&mut polled, Some(&until)).unwrap();
}

/// Gives one command and waits for what comes of it.
fn ask(backend: &mut dyn Backend, command: &Command) -> Result<manager::Reply, BackendError> {
    let begin = Instant::now();
    backend.begin(command)?;
    assert!(begin.elapsed() < Duration::from_secs(1), "begin waits");
    loop {
        if let Some(reply) = backend.finish()? {
            return Ok(reply);
        }
        assert!(begin.elapsed() < SOON, "nothing comes");
        wait(backend);
    }
}

/// A manager of one device, as its service drives it.
struct Managed {
    manager: Manager,
    backend: Box<dyn Backend>,
    start: Instant,
    reports: Vec<Report>,
}

fn pool() -> DeviceName {
    "pool".parse().unwrap()
}

impl Managed {
    fn start(backend: Box<dyn Backend>) -> Self {
        let host = |name: &str, number| HostConfig {
            name: name.parse().unwrap(),
            host: HostId(number),
            limits: Limits::default(),
        };
        let hosts = vec![host("h1", 0), host("h2", 1)];
        let devices = vec![DeviceConfig { name: pool(), chooser: Chooser::default(), hosts }];
        let config = manager::Config { devices, ..manager::Config::default() };
        let manager = Manager::new(config).unwrap();
        let (start, reports) = (Instant::now(), Vec::new());
        let mut managed = Self { manager, backend, start, reports };
        managed.tell(Input::DeviceUp { device: pool() });
        managed
    }

    fn now(&self) -> memtide_units::Instant {
        memtide_units::Instant(self.start.elapsed())
    }

    fn tell(&mut self, input: Input) {
        let outputs = self.manager.handle(self.now(), input).unwrap();
        self.carry_out(outputs);
    }

    fn ask(&mut self, request: Request) -> Report {
        let id = RequestId(self.reports.len() as u64 + 1);
        let outputs = self.manager.request(self.now(), id, request).unwrap();
        self.carry_out(outputs);
        let until = Instant::now() + SOON;
        loop {
            let answered = self.reports.iter().find(|report| report.id == id);
            if let Some(report) = answered {
                return report.clone();
            }
            assert!(Instant::now() < until, "{:#?}", self.status());
            self.turn();
        }
    }

    fn carry_out(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Command { command, .. } => self.backend.begin(&command).unwrap(),
                Output::Answer(report) => self.reports.push(report),
                Output::Note { .. } | Output::Journal(_) | Output::Taken { .. } => {}
            }
        }
    }

    /// One turn of the service's loop.
    fn turn(&mut self) {
        wait(&*self.backend);
        let reply = self.backend.finish().unwrap();
        if self.backend.take_events_pending() {
            self.tell(Input::EventsPending { device: pool() });
        }
        if let Some(reply) = reply {
            self.tell(Input::Reply { device: pool(), reply });
        }
        if self.manager.next_deadline().is_some_and(|at| at <= self.now()) {
            self.tell(Input::Tick);
        }
    }

    fn status(&self) -> DeviceStatus {
        self.manager.devices().remove(0)
    }

    fn until(&mut self, is: impl Fn(&DeviceStatus) -> bool) -> DeviceStatus {
        let until = Instant::now() + SOON;
        loop {
            let status = self.status();
            if is(&status) {
                return status;
            }
            assert!(Instant::now() < until, "{status:#?}");
            self.turn();
        }
    }
}

fn place(host: &str) -> Place {
    Place { host: host.parse().unwrap(), device: None, region: None }
}

fn add(host: &str, size: u64) -> Request {
    Request::Add {
        to: place(host),
        size,
        tag: Tag::NULL,
        policy: Policy::Free,
        rest: Rest::Stand,
        deadline: Some(Duration::from_secs(30)),
    }
}

fn release(host: &str, size: u64) -> Request {
    Request::Release {
        from: place(host),
        what: What::Size(size),
        forcing: Forcing::Never,
        rest: Rest::Stand,
        deadline: Some(Duration::from_secs(30)),
    }
}

/// Hosts act in a thread of their own for as long as `during` takes.
fn with_hosts<R>(bed: &Bed, port: u8, during: impl FnOnce() -> R) -> R {
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                bed.hosts_do_as_they_are_told(port);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let done = during();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        done
    })
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

#[test]
fn two_devices_behind_one_switch_do_not_get_each_others_answers() {
    let bed = Bed::new(11);
    let mut backends = [("port=3", 3), ("port=200,pool", 200)].map(|(way, serial)| {
        let backend = bed.connect(way);
        assert_eq!(backend.serial(), serial);
        backend
    });
    for _ in 0..20 {
        for backend in &mut backends {
            backend.begin(&Command::GetInfo(GetInfo)).unwrap();
        }
        for backend in &mut backends {
            let until = Instant::now() + SOON;
            let reply = loop {
                if let Some(reply) = backend.finish().unwrap() {
                    break reply;
                }
                assert!(Instant::now() < until);
                wait(&**backend);
            };
            assert!(matches!(reply, Ok(Response::Info(_))), "{reply:?}");
        }
    }
}

#[test]
fn who_cannot_be_managed_is_said_when_connecting() {
    let bed = Bed::new(11);
    let error = |way: &str| match bed.connector(way).connect() {
        Err(error) => error.to_string(),
        Ok(_) => panic!("{way} is connected"),
    };
    let sentence = "the device behind port 2 has no dynamic capacity commands for a manager";
    assert!(error(&format!("port={MEMORY}")).contains(sentence));
    assert!(error("port=1").contains("carries no command to the device behind port 1"));
    assert!(error("port=3,pool").contains("the pool of the device behind port 3"));
    assert_eq!(bed.connector("port=3").address(), "cci:0000:0d:00.1,port=3");
    bed.function.bind("vfio-pci");
    assert!(error("port=3").contains("/sys/bus/pci/drivers/vfio-pci/unbind"));
}

#[test]
fn a_refusal_of_the_device_is_a_reply_and_one_of_the_switch_ends_the_connection() {
    let bed = Bed::new(11);
    let mut backend = bed.connect("port=3");
    let host = HostId(9);
    let get = memtide_cxl::command::fabric_manager::GetHostExtents { host, count: 1, start: 0 };
    let reply = ask(&mut *backend, &Command::GetHostExtents(get)).unwrap();
    assert_eq!(reply, Err(ReturnCode::INVALID_INPUT));
    bed.function.play(|_, _| Said::Reply(ReturnCode::INVALID_INPUT, vec![]));
    let error = ask(&mut *backend, &Command::GetInfo(GetInfo)).unwrap_err();
    assert!(matches!(error, BackendError::Switch(SwitchError::NotCarried { .. })), "{error}");
    assert!(ask(&mut *backend, &Command::GetInfo(GetInfo)).is_err());
}

/// Neither a mailbox that hangs nor a function that is gone holds up the loop.
#[test]
fn a_mailbox_that_never_answers_and_a_device_that_vanishes() {
    for (said, is) in [
        (Said::Nothing, (|e| matches!(e, CommandError::NotInTime { .. })) as fn(&_) -> bool),
        (Said::Gone, |e| matches!(e, CommandError::Gone)),
    ] {
        let bed = Bed::new(11);
        let mut backend = bed.connect("port=3");
        let what = said.clone();
        bed.function.play(move |_, _| what.clone());
        let begin = Instant::now();
        let error = ask(&mut *backend, &Command::GetInfo(GetInfo)).unwrap_err();
        let BackendError::Switch(SwitchError::Mailbox { source, .. }) = &error else {
            panic!("{error}")
        };
        assert!(is(source), "{said:?}: {error}");
        assert!(begin.elapsed() < Duration::from_secs(9), "{said:?}");
    }
}

/// Whoever has the mailbox, what a connection that is over had to say is not said after it.
#[test]
fn a_command_that_has_not_gone_out_does_not_outlive_its_connection() {
    let bed = Bed::new(11);
    let connector = bed.connector("port=3");
    let mut backend = connector.connect().unwrap();
    let mailbox = std::fs::File::open(bed.function.folder().join("resource0")).unwrap();
    mailbox.lock().unwrap();
    let add = InitiateAdd {
        host: HostId(0),
        selection: Selection::Free,
        region: 0,
        length: BLOCK,
        tag: Tag::NULL,
        extents: Vec::new(),
    };
    backend.begin(&Command::InitiateAdd(add)).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    drop(backend);
    // The thread of the first is gone before the second one looks for the device.
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let again = scope.spawn(|| connector.connect().map(|backend| backend.serial()));
        std::thread::sleep(Duration::from_millis(50));
        mailbox.unlock().unwrap();
        assert_eq!(again.join().unwrap().unwrap(), u64::from(SHARED));
    });
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    std::thread::sleep(Duration::from_millis(20));
    let mut switch = bed.switch.lock().unwrap();
    let device = switch.device_mut(SHARED).unwrap();
    assert_eq!(device.offers(HostId(0)).count(), 0);
}

/// Nobody asks anything, and the device is gone all the same: that is found out.
#[test]
fn a_device_that_vanishes_unasked_is_missed() {
    let bed = Bed::new(11);
    let mut backend = bed.connect("port=3");
    bed.function.play(|_, _| Said::Gone);
    let until = Instant::now() + SOON;
    let error = loop {
        match backend.finish() {
            Err(error) => break error,
            Ok(reply) => assert_eq!(reply, None),
        }
        assert!(Instant::now() < until);
        wait(&*backend);
    };
    let gone = CommandError::Gone;
    assert!(
        matches!(&error, BackendError::Switch(SwitchError::Mailbox { source, .. }) if *source == gone),
        "{error}"
    );
}

/// A device without an event log is read anew now and then.
#[test]
fn a_device_without_a_log_may_always_have_changed() {
    let bed = Bed::new(11);
    let mut backend = bed.connect("port=3");
    let mut asked = VecDeque::new();
    bed.function.play(move |_, payload| {
        let request = Tunnel::decode(payload).unwrap().message().clone();
        asked.push_back(request.opcode);
        let answer = Message::response(&request, ReturnCode::UNSUPPORTED, vec![]);
        Said::Reply(ReturnCode::SUCCESS, Tunneled::new(answer).unwrap().to_bytes())
    });
    let until = Instant::now() + SOON;
    while !backend.take_events_pending() {
        assert!(Instant::now() < until);
        assert_eq!(backend.finish().unwrap(), None);
        wait(&*backend);
    }
    assert!(!backend.take_events_pending());
}

/// A device whose messages are longer than what the mailbox carries is told so; one that knows no limit
/// is used all the same.
#[test]
fn a_device_is_told_how_long_its_answers_may_be() {
    for (mailbox_log2, device_bytes, told) in
        [(8, 256, None), (9, 256, None), (9, 512, Some(8)), (11, 1024, None), (11, 4096, Some(10))]
    {
        let mut switch = bed::switch_before(mailbox_log2, device_bytes);
        let limits: Arc<Mutex<Vec<u8>>> = Arc::default();
        let heard = Arc::clone(&limits);
        let function = Function::new(mailbox_log2, move |opcode, payload| {
            if let Ok(tunnel) = Tunnel::decode(payload)
                && tunnel.message().opcode == Opcode::SET_RESPONSE_MESSAGE_LIMIT
            {
                heard.lock().unwrap().extend(&tunnel.message().payload);
            }
            let reply = switch.execute(opcode, payload);
            Said::Reply(reply.code, reply.payload)
        });
        let address: PortAddress = format!("{FUNCTION},port=3").parse().unwrap();
        let backend = CciConnector::on(function.root().clone(), address).connect().unwrap();
        assert_eq!(backend.serial(), 3);
        let told: Vec<u8> = told.into_iter().collect();
        assert_eq!(*limits.lock().unwrap(), told, "{mailbox_log2} {device_bytes}");
    }
}

#[test]
fn answers_that_make_no_sense_end_the_connection() {
    for (length, bytes) in [(3, 3), (100, 99), (2048, 2048), (0x1f_ffff, 2048)] {
        let bed = Bed::new(11);
        let mut backend = bed.connect("port=3");
        bed.function.play(move |_, _| Said::Length(vec![0xa5; bytes], length));
        let error = ask(&mut *backend, &Command::GetInfo(GetInfo)).unwrap_err();
        assert!(matches!(error, BackendError::Switch(SwitchError::Route { .. })), "{error}");
    }
}
