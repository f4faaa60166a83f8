//! The mailbox of a switch, against registers that the model of a switch serves, and others that
//! nobody should serve.

#[path = "../../../cxl/tests/switch/bed.rs"]
#[allow(dead_code, reason = "another test uses the rest")]
mod bed;
mod registers;

use std::{
    fs,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use memtide_cxl::{
    Command, Opcode, Payload, ReturnCode,
    cci::{Background, Message},
    command::{
        HostId,
        background::BackgroundOperation,
        fabric_manager::{GetHostExtents, GetInfo},
        identify::Identify,
        switch::{ConnectedDevice, IdentifySwitch},
    },
    switch::Switch,
    tunnel::{Route, RouteError, Target, Tunnel, Tunneled},
};
use memtide_host::{
    mailbox::CommandError,
    switch::{Capacity, SwitchError, SwitchMailbox, scan},
};

use self::{
    bed::{HEADS, HOST, MEMORY, NO_PORT, NOTHING, SHARED, memory_identity},
    registers::{FUNCTION, Function, Said},
};

/// A function that this switch is behind.
fn served(switch: Switch) -> Function {
    let mut switch = switch;
    Function::new(switch.payload_bytes().ilog2() as u8, move |opcode, payload| {
        let reply = switch.execute(opcode, payload);
        Said::Reply(reply.code, reply.payload)
    })
}

fn open(function: &Function) -> SwitchMailbox {
    SwitchMailbox::open(function.root(), FUNCTION).unwrap()
}

/// What stands in a tunnel's payload.
fn inner(payload: &[u8]) -> Message {
    Tunnel::decode(payload).expect("a tunnel").message().clone()
}

/// A tunnel's answer, around this code and payload.
fn around(request: &[u8], code: ReturnCode, payload: Vec<u8>) -> Said {
    let answer = Message::response(&inner(request), code, payload);
    Said::Reply(ReturnCode::SUCCESS, Tunneled::new(answer).unwrap().to_bytes())
}

#[test]
fn a_switch_tells_what_it_is_and_carries_commands() {
    let function = served(bed::switch(11));
    let mut mailbox = open(&function);
    assert_eq!(mailbox.room(), 2048);
    assert_eq!(fs::read_to_string(function.folder().join("enable")).unwrap(), "1\n");
    assert_eq!(mailbox.ask(&IdentifySwitch).unwrap().ports, 5);
    assert_eq!(mailbox.ask_through(&Route::port(MEMORY), &Identify).unwrap(), memory_identity());
    let info = mailbox.ask_through(&Route::port(SHARED), &GetInfo).unwrap();
    assert_eq!((info.hosts, info.regions), (2, 1));
    let pool = Route::port(HEADS).then(Target::LdPool);
    assert_eq!(mailbox.ask_through(&pool, &Identify).unwrap().serial, 200);
}

#[test]
fn whose_refusal_it_is_is_said() {
    let function = served(bed::switch(11));
    let mut mailbox = open(&function);
    let error = mailbox.ask_through(&Route::port(MEMORY), &GetInfo).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the device behind port 2 answers unsupported (0x3) to Get DCD Info (5600h)"
    );
    for port in [HOST, NOTHING, NO_PORT] {
        let error = mailbox.ask_through(&Route::port(port), &Identify).unwrap_err();
        let code = ReturnCode::INVALID_INPUT;
        assert!(matches!(error, SwitchError::NotCarried { code: c, .. } if c == code), "{error}");
        assert!(error.to_string().contains("no such port, or no device"), "{error}");
    }
    let route = Route::port(SHARED).then(Target::PortOrLd(7));
    let error = mailbox.ask_through(&route, &Identify).unwrap_err();
    let SwitchError::Route { source: RouteError::Refused { to, code }, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!((*to, *code), (Target::PortOrLd(7), ReturnCode::INVALID_INPUT));
    assert!(error.to_string().contains("logical device 7 of the device behind port 3"), "{error}");
}

#[test]
fn what_does_not_fit_is_not_sent() {
    let function = served(bed::switch(8));
    function.play(|opcode, _| panic!("{opcode} was sent"));
    let mut mailbox = open(&function);
    let route = Route::port(SHARED);
    let error = mailbox.send(&route, Opcode::INITIATE_DC_ADD, vec![0; 241]).unwrap_err();
    let SwitchError::TooLong { bytes, room, .. } = error else { panic!("{error}") };
    assert_eq!((bytes, room), (241, 240));
}

#[test]
fn a_busy_switch_is_asked_again() {
    let function = served(bed::switch(11));
    let mut mailbox = open(&function);
    let (mut refusals, mut switch) = (5, bed::switch(11));
    function.play(move |opcode, payload| {
        if refusals > 0 {
            refusals -= 1;
            let code =
                if refusals % 2 == 0 { ReturnCode::BUSY } else { ReturnCode::RETRY_REQUIRED };
            return Said::Reply(code, vec![]);
        }
        let reply = switch.execute(opcode, payload);
        Said::Reply(reply.code, reply.payload)
    });
    assert!(mailbox.ask_through(&Route::port(SHARED), &GetInfo).is_ok());
    // But not for ever; and a device that is busy is told of at once.
    function.play(|_, _| Said::Reply(ReturnCode::BUSY, vec![]));
    let error = mailbox.ask_through(&Route::port(SHARED), &GetInfo).unwrap_err();
    let busy = ReturnCode::BUSY;
    assert!(matches!(error, SwitchError::NotCarried { code, .. } if code == busy), "{error}");
    function.play(move |_, payload| around(payload, busy, vec![]));
    let error = mailbox.ask_through(&Route::port(SHARED), &GetInfo).unwrap_err();
    assert!(matches!(error, SwitchError::Refused { code, .. } if code == busy), "{error}");
}

/// A device that goes on in the background says later how it went, and is believed only for what
/// was asked.
#[test]
fn what_goes_on_in_the_background_is_waited_for() {
    let function = served(bed::switch(11));
    let mut mailbox = open(&function);
    let route = Route::port(SHARED);
    let asked = Opcode::INITIATE_DC_RELEASE;
    let play = |of: Opcode, code: ReturnCode| {
        let mut looks = 0;
        move |_, payload: &[u8]| match inner(payload).opcode {
            Opcode::BACKGROUND_OPERATION_STATUS => {
                looks += 1;
                let over = looks > 3;
                let status = BackgroundOperation {
                    background: if over { Background::Over } else { Background::Running },
                    percent: if over { 100 } else { looks * 20 },
                    opcode: of,
                    code: if over { code } else { ReturnCode::SUCCESS },
                    vendor_status: 0,
                };
                around(payload, ReturnCode::SUCCESS, status.to_bytes())
            }
            _ => around(payload, ReturnCode::BACKGROUND_STARTED, vec![]),
        }
    };
    function.play(play(asked, ReturnCode::SUCCESS));
    assert_eq!(mailbox.send(&route, asked, vec![]).unwrap(), (ReturnCode::SUCCESS, vec![]));
    function.play(play(asked, ReturnCode::RESOURCES_EXHAUSTED));
    let code = mailbox.send(&route, asked, vec![]).unwrap().0;
    assert_eq!(code, ReturnCode::RESOURCES_EXHAUSTED);
    function.play(play(Opcode(0x4400), ReturnCode::SUCCESS));
    let error = mailbox.send(&route, asked, vec![]).unwrap_err();
    assert!(matches!(error, SwitchError::OtherInBackground { .. }), "{error}");
    // The switch's own code of the same number is none of the device's.
    function.play(|_, _| Said::Reply(ReturnCode::BACKGROUND_STARTED, vec![]));
    let error = mailbox.send(&route, asked, vec![]).unwrap_err();
    assert!(matches!(error, SwitchError::NotCarried { .. }), "{error}");
}

#[test]
fn answers_that_make_no_sense_are_refused() {
    let function = served(bed::switch(11));
    let mut mailbox = open(&function);
    let route = Route::port(SHARED);
    let answered = |payload: &[u8]| match around(payload, ReturnCode::SUCCESS, vec![0; 84]) {
        Said::Reply(_, bytes) => bytes,
        other => panic!("{other:?}"),
    };
    // Cut off, longer than said, longer than the mailbox, nothing at all.
    for length in [0, 3, 4, 15, 16, 99, 101, 2048, 2049, 0x1f_ffff] {
        function.play(move |_, payload| Said::Length(answered(payload), length));
        let error = mailbox.ask_through(&route, &GetInfo).unwrap_err();
        assert!(
            matches!(error, SwitchError::Route { source: RouteError::Decode(_), .. }),
            "{length}: {error}"
        );
    }
    // The payload of another command in a message that is right.
    function.play(|_, payload| around(payload, ReturnCode::SUCCESS, vec![0; 83]));
    let error = mailbox.ask_through(&route, &GetInfo).unwrap_err();
    assert!(matches!(error, SwitchError::Answer { .. }), "{error}");
    // An answer to what was asked before.
    let kept: Arc<Mutex<Option<Said>>> = Arc::default();
    function.play(move |_, payload| {
        let now = around(payload, ReturnCode::SUCCESS, vec![0; 84]);
        kept.lock().unwrap().replace(now.clone()).unwrap_or(now)
    });
    assert!(mailbox.ask_through(&route, &GetInfo).is_ok());
    let error = mailbox.ask_through(&route, &GetInfo).unwrap_err();
    assert!(
        matches!(error, SwitchError::Route { source: RouteError::OtherAnswer { .. }, .. }),
        "{error}"
    );
}

#[test]
fn a_switch_that_never_answers_and_one_that_is_unplugged() {
    let function = served(bed::switch(11));
    let mut mailbox = open(&function);
    function.play(|_, _| Said::Nothing);
    let begin = Instant::now();
    let error = mailbox.ask(&IdentifySwitch).unwrap_err();
    let late = |error: &SwitchError| {
        matches!(error, SwitchError::Mailbox { source: CommandError::NotInTime { .. }, .. })
    };
    assert!(late(&error), "{error}");
    assert!((2..8).contains(&begin.elapsed().as_secs()));

    let function = served(bed::switch(11));
    let mut mailbox = open(&function);
    function.play(|_, _| Said::Gone);
    for _ in 0..2 {
        let error = mailbox.ask_through(&Route::port(SHARED), &GetInfo).unwrap_err();
        let gone = CommandError::Gone;
        assert!(
            matches!(&error, SwitchError::Mailbox { source, .. } if *source == gone),
            "{error}"
        );
    }
    assert!(SwitchMailbox::open(function.root(), FUNCTION).is_err());
}

/// Who was killed with a command under way leaves its answer behind, and no lock.
#[test]
fn a_command_that_somebody_left_is_waited_for() {
    let function = served(bed::switch(11));
    let mut mailbox = open(&function);
    registers::ring_and_leave(function.folder(), Opcode::IDENTIFY_SWITCH);
    assert_eq!(mailbox.ask_through(&Route::port(SHARED), &Identify).unwrap().serial, 3);
}

/// Two devices behind one switch, two programs: nobody gets the other's answer.
#[test]
fn several_use_one_mailbox() {
    let function = served(bed::switch(11));
    thread::scope(|scope| {
        for (route, serial) in
            [(Route::port(SHARED), 3), (Route::port(HEADS), 200), (Route::port(MEMORY), 77)]
        {
            let mut mailbox = open(&function);
            scope.spawn(move || {
                for _ in 0..40 {
                    assert_eq!(mailbox.ask_through(&route, &Identify).unwrap().serial, serial);
                }
            });
        }
    });
}

#[test]
fn a_mailbox_that_somebody_keeps_is_not_waited_for_for_ever() {
    let function = served(bed::switch(11));
    let mut mailbox = open(&function);
    let file = fs::File::open(function.folder().join("resource0")).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let begin = Instant::now();
    let error = mailbox.ask(&IdentifySwitch).unwrap_err();
    assert!(matches!(error, SwitchError::InUse { .. }), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(10));
    drop(file);
    assert!(mailbox.ask(&IdentifySwitch).is_ok());
}

#[test]
fn what_cannot_be_opened_says_what_to_do() {
    let function = served(bed::switch(11));
    let error = SwitchMailbox::open(function.root(), "0000:0e:00.0").unwrap_err();
    let expected = "0000:0e:00.0 is no switch's function (class 0c0b); expected 0000:0d:00.1";
    assert_eq!(error.to_string(), expected);
    function.bind("cxl_switch");
    let error = SwitchMailbox::open(function.root(), FUNCTION).unwrap_err().to_string();
    assert!(
        error.contains("echo 0000:0d:00.1 > /sys/bus/pci/drivers/cxl_switch/unbind"),
        "{error}"
    );
    let scanned = scan(function.root()).unwrap();
    assert_eq!(scanned[0].driver.as_deref(), Some("cxl_switch"));
    assert!(matches!(scanned[0].told, Err(SwitchError::Driven { .. })));
    fs::remove_file(function.folder().join("driver")).unwrap();
    registers::hide_configuration(function.folder());
    let error = SwitchMailbox::open(function.root(), FUNCTION).unwrap_err();
    assert!(matches!(error, SwitchError::NotRoot { .. }), "{error}");
    assert!(error.to_string().ends_with("registers of 0000:0d:00.1 are root's: run as root"));
}

#[test]
fn a_scan_finds_who_can_be_managed_and_how() {
    let function = served(bed::switch(8));
    let scanned = scan(function.root()).unwrap();
    assert_eq!(scanned.len(), 1);
    let told = scanned[0].told.as_ref().unwrap();
    assert_eq!((told.serial, told.switch.ports), (Some(9), 5));
    let numbers: Vec<u8> = told.ports.iter().map(|port| port.port.number).collect();
    assert_eq!(numbers, [HOST, NOTHING, MEMORY, SHARED, HEADS]);
    let at = |port: u8| told.ports.iter().find(|at| at.port.number == port).unwrap();
    assert!(at(HOST).behind.is_none() && at(NOTHING).behind.is_none());
    assert_eq!(at(MEMORY).port.connected, ConnectedDevice::MEMORY);
    let behind = |port| at(port).behind.as_ref().unwrap().as_ref().unwrap();
    assert_eq!(behind(MEMORY).identity, memory_identity());
    let error = behind(MEMORY).capacity.as_ref().unwrap_err().to_string();
    assert_eq!(
        error,
        "the device behind port 2 has no dynamic capacity commands for a manager: it answers \
         unsupported (0x3) to Get DCD Info (5600h)"
    );
    for (port, text) in [(SHARED, "0000:0d:00.1,port=3"), (HEADS, "0000:0d:00.1,port=200,pool")] {
        let Capacity { address, info } = behind(port).capacity.as_ref().unwrap();
        assert_eq!((address.to_string().as_str(), info.hosts), (text, 2));
        // And there it is.
        let page = GetHostExtents { host: HostId(0), count: 1, start: 0 };
        assert_eq!(GetHostExtents::OPCODE, Opcode::GET_DC_REGION_EXTENT_LISTS);
        assert!(open(&function).ask_through(address.route(), &page).is_ok());
    }
}
