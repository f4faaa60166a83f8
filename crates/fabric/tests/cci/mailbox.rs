//! The backend alone: what it says of a mailbox that is slow, wrong or gone.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use memtide_cxl::{
    Opcode, Payload, ReturnCode,
    cci::Message,
    command::{
        HostId,
        fabric_manager::{GetHostExtents, GetInfo, InitiateAdd, Selection},
    },
    manager::{self, Command, Response},
    tunnel::{Tunnel, Tunneled},
};
use memtide_fabric::manager::backend::{Backend, BackendError, Connector, cci::CciConnector};
use memtide_host::{
    mailbox::CommandError,
    switch::{PortAddress, SwitchError},
};
use memtide_units::Tag;
use rustix::event::{PollFd, Timespec};

use crate::{
    SOON,
    bed::Bed,
    registers::{FUNCTION, Function, Said},
    switch_bed::{self, BLOCK, MEMORY, SHARED},
};

/// Waits as the service does: for the descriptor, or until something is due.
pub fn wait(backend: &dyn Backend) {
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
    let get = GetHostExtents { host, count: 1, start: 0 };
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
        let mut switch = switch_bed::switch_before(mailbox_log2, device_bytes);
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
